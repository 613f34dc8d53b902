"""Checkpoints as trainings leave them: averages, wrappers, shards, what is beside the weights, what is no weights."""

from __future__ import annotations

import io
import json
import pathlib
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from convnext.core.errors import UserError
from convnext.weights.containers import contents, without_prefixes
from convnext.weights.files import read_contents
from convnext.weights.locate import locate

FIRST = "downsample_layers.0.0.weight"
STATE = {FIRST: torch.ones(4, 3, 4, 4), "stages.0.0.gamma": torch.ones(4), "norm.weight": torch.ones(4)}


def named(prefix: str, state=None) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in (state or STATE).items()}


@pytest.mark.parametrize(
    "prefix",
    [
        "model.",
        "net.backbone.",
        "module.",
        "_orig_mod.",
        "model._orig_mod.",
        "module._orig_mod.model.",
        "a.b.c.d.",
        "0.",
    ],
)
def test_any_one_prefix_is_taken_off(prefix):
    for loaded in (named(prefix), {"state_dict": named(prefix), "epoch": 3}):
        assert list(contents(loaded, "f").state) == list(STATE)


def test_wrappers_inside_of_names():
    inner = {"stages.0._orig_mod.0.gamma": torch.ones(4), "stages._fsdp_wrapped_module.0.module.1.gamma": torch.ones(4)}
    state = {FIRST: STATE[FIRST], **inner}
    assert list(contents(state, "f").state) == [FIRST, "stages.0.0.gamma", "stages.0.1.gamma"]


def test_prefixes_that_say_what_a_file_is_stay():
    detector = {**named("backbone."), "rpn_head.rpn_conv.weight": torch.ones(2)}
    assert list(without_prefixes(detector)[0]) == list(detector)
    assert list(without_prefixes(named("model.", detector))[0]) == list(detector)
    assert without_prefixes(named("encoder."))[1] == ""


def test_parts_of_a_training_are_left_with_the_first_layers_prefix():
    state, prefix = without_prefixes({**named("model."), "criterion.weight": torch.ones(2)})
    assert (list(state), prefix) == (list(STATE), "model.")
    both = {**named("student.net."), **named("other.net.")}
    assert without_prefixes(both) == (both, "")  # which of the two is meant, nothing says


def test_the_average_is_taken_and_said_and_another_can_be_chosen():
    average = {name: value + 1 for name, value in STATE.items()}
    for key in ("model_ema", "state_dict_ema", "ema"):
        loaded = {"state_dict": STATE, key: average, "optimizer": {"state": {}, "param_groups": []}, "epoch": 2}
        found = contents(loaded, "f")
        assert torch.equal(found.state[FIRST], average[FIRST])
        assert f"of 2 states in the file, '{key}' (the average of the weights) is taken; 'state_dict'" in found.notes[0]
        assert torch.equal(contents(loaded, "f", which="state_dict").state[FIRST], STATE[FIRST])
        with pytest.raises(UserError, match=r"no model weights called 'state_dic'.*Did you mean 'state_dict'"):
            contents(loaded, "f", which="state_dic")


def test_averaged_model_of_torch(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3))
    averaged = torch.optim.swa_utils.AveragedModel(model)
    torch.save(averaged.state_dict(), tmp_path / "swa.pth")
    found = read_contents(tmp_path / "swa.pth")
    assert sorted(found.state) == ["0.bias", "0.weight"]
    assert "1 entries that are no weights are left out, as n_averaged" in found.notes[0]


def test_one_file_with_several_states_by_name(tmp_path, capsys):
    path = tmp_path / "c.pth"
    torch.save({"model": STATE, "model_ema": {name: value * 2 for name, value in STATE.items()}}, path)
    assert locate(path).state[FIRST].max() == 2
    assert "'model_ema' (the average of the weights) is taken" in capsys.readouterr().err
    assert locate(f"{path}#model").state[FIRST].max() == 1


def test_what_is_kept_beside_weights(tmp_path):
    beside = {"best": np.float64(0.5), "n": np.int64(3), "path": pathlib.Path("a/b"), "history": np.arange(3.0)}
    torch.save({"state_dict": STATE, **beside}, tmp_path / "c.pth")
    assert list(read_contents(tmp_path / "c.pth").state) == list(STATE)
    torch.save({name: value.numpy() for name, value in STATE.items()}, tmp_path / "n.pth")
    assert torch.equal(read_contents(tmp_path / "n.pth").state[FIRST], STATE[FIRST])


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


@pytest.mark.parametrize("name", ["../out", "/etc/x", "a/b"])
def test_shards_stay_in_their_folder(tmp_path, name):
    folder = shards(tmp_path / "s", names=("model-00001-of-00002", name))
    with pytest.raises(UserError, match="which is no file beside it"):
        _ = locate(folder).state


def test_weights_that_are_not_finite(tmp_path):
    broken = {**STATE, "head.weight": torch.tensor([[1.0, float("nan")], [float("inf"), 0.0]])}
    torch.save(broken, tmp_path / "c.pth")
    save_file(broken, tmp_path / "c.safetensors")
    for name in ("c.pth", "c.safetensors"):
        with pytest.raises(UserError, match=r"not finite: 2 of 4 in head\.weight"):
            read_contents(tmp_path / name)


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        (
            "a.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n",
            "a pointer of Git LFS",
        ),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        ("a.bin", b"\n <!DOCTYPE html><html>", "a web page"),
        ("a.pth", b"", "empty"),
        ("a.h5.bin", b"\x89HDF\r\n\x1a\n" + bytes(20), "an HDF5 file"),
        ("a.onnx", b"\x08\x07\x12\x07pytorch" + bytes(20), "an ONNX model"),
        ("a.pth", zipped(weights__x=b"1"), r"a zip archive \(weights/x\)"),
        ("a.pth", zipped(m__data_pkl=b"1", m__code__x_py=b"1"), "a TorchScript program"),
        ("a.npz.bin", zipped(**{"w.npy": b"1"}), "an archive of NumPy arrays"),
        ("a.pth", b"\x1f\x8b\x08" + bytes(20), "compressed with gzip"),
        ("a.pth", b'{"weights": 1}', r"a text file \(JSON\)"),
        ("a.pth", bytes(257) + b"ustar\x0000" + bytes(300), "a tar archive"),
        ("a.pth", zipped(m__data=b"x" * 500)[:300], "cut off"),
    ],
)
def test_what_is_no_weights_is_named(tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{name} is {says}"):
        read_contents(tmp_path / name)


def test_safetensors_are_known_by_their_content_and_cut_ones_are_said(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors")
    whole = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "b.bin").write_bytes(whole)
    assert sorted(read_contents(tmp_path / "b.bin").state) == sorted(STATE)
    (tmp_path / "a.safetensors").write_bytes(whole[:-10])
    with pytest.raises(UserError, match=rf"is cut off: {len(whole) - 10:,} of {len(whole):,} bytes"):
        read_contents(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes(whole[:20])
    with pytest.raises(UserError, match="is cut off: 20 bytes of at least"):
        read_contents(tmp_path / "a.safetensors")
