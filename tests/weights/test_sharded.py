"""Weights in several files, and the folders that trainings on many devices leave."""

from __future__ import annotations

import json
import pathlib

import pytest
import torch
from safetensors.torch import save_file

from convnext.core.errors import UserError
from convnext.weights.locate import locate

FIRST = "downsample_layers.0.0.weight"
STATE = {FIRST: torch.ones(4, 3, 4, 4), "stages.0.0.gamma": torch.ones(4), "norm.weight": torch.ones(4)}


def named(prefix: str, state=None) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in (state or STATE).items()}


def shards(
    folder: pathlib.Path, *, names: tuple[str, str] = ("model-00001-of-00002", "model-00002-of-00002")
) -> pathlib.Path:
    folder.mkdir(exist_ok=True)
    where = {}
    for number, name in enumerate(names):
        keys = list(STATE)[number::2]
        save_file({key: STATE[key] for key in keys}, folder / f"{pathlib.Path(name).name}.safetensors")
        where |= dict.fromkeys(keys, f"{name}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def test_shards(tmp_path):
    folder = shards(tmp_path / "s")
    for source in (folder, folder / "model.safetensors.index.json", folder / "model-00002-of-00002.safetensors"):
        assert sorted(locate(source).state) == sorted(STATE)
    (folder / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"1 of 2 files of .* are not there, as model-00001-of-00002.safetensors"):
        _ = locate(folder).state
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(UserError, match="one of 2 files that hold a model together"):
        locate(folder / "model-00002-of-00002.safetensors")


def test_shards_of_pickles_and_what_stands_beside_them(tmp_path):
    where = {}
    for number in range(2):
        name = f"pytorch_model-0000{number + 1}-of-00002.bin"
        torch.save({key: STATE[key] for key in list(STATE)[number::2]}, tmp_path / name)
        where |= dict.fromkeys(list(STATE)[number::2], name)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    (tmp_path / "config.json").write_text('{"architecture": "x"}')
    for source in (tmp_path, tmp_path / "pytorch_model.bin.index.json", tmp_path / "pytorch_model-00002-of-00002.bin"):
        file = locate(source)
        assert sorted(file.state) == sorted(STATE)
        assert file.config == {"architecture": "x"}


@pytest.mark.parametrize("layout", ["tag", "pytorch_model", "checkpoint", "itself"])
def test_deepspeeds_folders(tmp_path, layout):
    place = tmp_path if layout == "itself" else tmp_path / (layout if layout != "tag" else "global_step5")
    place.mkdir(exist_ok=True)
    (tmp_path / "latest").write_text("global_step5\n")
    torch.save({"module": named("model."), "ds_config": {}}, place / "mp_rank_00_model_states.pt")
    torch.save({}, place / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    assert list(locate(tmp_path).state) == list(STATE)
    assert list(locate(place / "mp_rank_00_model_states.pt").state) == list(STATE)
    with pytest.raises(UserError, match="a part of a training's state, and no model"):
        locate(place / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    torch.save({"module": named("model.")}, place / "mp_rank_01_model_states.pt")
    with pytest.raises(UserError, match="a model in 2 parts"):
        locate(tmp_path)
    torch.save({}, place / "zero_pp_rank_0_mp_rank_00_model_states.pt")
    (tmp_path / "zero_to_fp32.py").touch()
    for source in (tmp_path, place / "zero_pp_rank_0_mp_rank_00_model_states.pt"):
        with pytest.raises(UserError, match=rf"ZeRO-3.*python {tmp_path}/zero_to_fp32\.py {tmp_path} OUT"):
            locate(source)


def test_folders_of_others_are_named(tmp_path):
    (tmp_path / "latest").write_text("../..")  # leads nowhere
    for name, says in (
        ("__0_0.distcp", None),
        (".metadata", "a distributed checkpoint of PyTorch.*dcp_to_torch"),
    ):
        (tmp_path / name).write_bytes(b"x")
        if says:
            for source in (tmp_path, tmp_path / "__0_0.distcp"):
                with pytest.raises(UserError, match=says):
                    locate(source)
            (tmp_path / name).unlink()
    (tmp_path / "__0_0.distcp").unlink()
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(UserError, match="a model of TensorFlow"):
        locate(tmp_path)
    (tmp_path / "saved_model.pb").unlink()
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(UserError, match=r"It has last\.ckpt: give the one that is meant"):
        locate(tmp_path)
    (tmp_path / "last.ckpt").rename(tmp_path / "model-00001-of-00003.safetensors")
    with pytest.raises(UserError, match="one of 3 files that hold a model together"):
        locate(tmp_path)


@pytest.mark.parametrize("name", ["../out", "/etc/x", "a/b", "..\\x"])
def test_shards_stay_in_their_folder(tmp_path, name):
    folder = shards(tmp_path / "s", names=("model-00001-of-00002", name))
    with pytest.raises(UserError, match="which is no file beside it"):
        _ = locate(folder).state
