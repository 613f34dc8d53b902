"""Our own files: what goes in comes out, and a damaged one is refused."""

from __future__ import annotations

import json
import random
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from convnext.core.errors import UserError
from convnext.core.typed import to_dict
from convnext.data.config import InputConfig
from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.tasks.choose import read_metadata
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.tasks.classification.weights import load_initial, load_model
from convnext.weights.files import KEY, read_state, save_model


def same(state, other):
    return list(state) == list(other) and all(
        torch.equal(value, other[name]) and value.dtype == other[name].dtype for name, value in state.items()
    )


def by_name(state):
    return dict(sorted(state.items()))


def test_card_round_trip(saved, metadata):
    assert read_metadata(saved) == metadata


def test_state_round_trip(saved, state):
    assert same(by_name(read_state(saved)), by_name(state))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_types_and_layouts(tmp_path, state, metadata, dtype):
    """Weights may be half precision, channels_last, views: values and types come back as they were."""
    given = {name: value.to(dtype) for name, value in state.items()}
    conv = "downsample_layers.0.0.weight"
    given[conv] = given[conv].contiguous(memory_format=torch.channels_last)
    given["stages.0.0.dwconv.bias"] = torch.arange(8, dtype=dtype)[::2]
    given["scalar"] = torch.tensor(1.5, dtype=dtype)
    given["none"] = torch.zeros(0, 3, dtype=dtype)
    given["trained"] = torch.nn.Parameter(torch.ones(2, dtype=dtype))
    save_model(tmp_path / "file.safetensors", given, metadata)
    assert same(by_name(read_state(tmp_path / "file.safetensors")), by_name(given))


def test_same_contents_same_bytes(tmp_path, saved, state, metadata):
    """A resumed run's model can be compared with another's byte by byte."""
    for _ in range(20):
        save_model(tmp_path / "again.safetensors", state, metadata)
        assert (tmp_path / "again.safetensors").read_bytes() == saved.read_bytes()


def test_a_plain_safetensors_file(saved, state):
    """Other programs read it too."""
    assert same(by_name(load_file(saved)), by_name(state))
    with safe_open(saved, framework="pt") as file:
        assert json.loads(file.metadata()[KEY])["classes"] == ["cat", "Größe", "犬"]


@torch.no_grad()
def test_load_model(saved, model, metadata):
    loaded = load_model(saved)
    x = torch.randn(2, 3, 32, 32)
    assert loaded.metadata == metadata
    assert not loaded.model.training
    assert torch.equal(loaded.model(x), model(x))
    assert {value.device.type for value in loaded.model.parameters()} == {"cpu"}
    half = load_model(str(saved), dtype="bfloat16").model
    assert {value.dtype for value in half.parameters()} == {torch.bfloat16}


def test_load_model_of_a_run(tmp_path, saved, metadata):
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(UserError, match=r"run holds no best.safetensors"):
        load_model(folder)
    saved.rename(folder / "best.safetensors")
    assert load_model(folder).metadata == metadata
    with pytest.raises(UserError, match=r"no model at .*nowhere"):
        load_model(tmp_path / "nowhere")


def test_saving_replaces_whole_files_only(saved, state, metadata, monkeypatch):
    before = saved.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left"):
        save_model(saved, {name: value + 1 for name, value in state.items()}, metadata)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize("reader", [read_metadata, read_state, load_model])
class TestRefused:
    """Every reader says which file it is and what is wrong."""

    def test_missing(self, tmp_path, reader):
        with pytest.raises(UserError, match=r"none\.safetensors"):
            reader(tmp_path / "none.safetensors")

    def test_folder(self, tmp_path, reader):
        (tmp_path / "folder.safetensors").mkdir()
        with pytest.raises(UserError, match=r"folder\.safetensors"):
            reader(tmp_path / "folder.safetensors")

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x08",
            b"<!DOCTYPE html><html><body>404: Not Found</body></html>\n" * 20,
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 114374272\n",
            struct.pack("<Q", 1 << 60) + b"{}",  # a header larger than the file
            struct.pack("<Q", 2) + b"[]",
            struct.pack("<Q", 20) + b'{"a": {"dtype": "F32',
            struct.pack("<Q", 62) + b'{"a":{"dtype":"F32","shape":[1000000],"data_offsets":[0,400]}}' + bytes(4),
            bytes(1000),
        ],
    )
    def test_not_safetensors(self, tmp_path, reader, data):
        path = tmp_path / "wrong.safetensors"
        path.write_bytes(data)
        with pytest.raises(
            UserError,
            match=r"wrong\.safetensors (cannot be read as|is (empty|a web page|a pointer|cut off|filled))",
        ):
            reader(path)

    def test_cut_short(self, saved, reader):
        data = saved.read_bytes()
        for length in (1, 7, 8, 100, len(data) // 2, len(data) - 1):
            saved.write_bytes(data[:length])
            with pytest.raises(UserError, match=r"model\.safetensors"):
                reader(saved)


def test_bit_flips(saved, state, metadata):
    """A bit turned anywhere in the file: refused, or what is read is what was saved (a bit that means nothing)."""
    data, chance, refused = saved.read_bytes(), random.Random(0), 0
    header = 8 + struct.unpack("<Q", data[:8])[0]
    for number in range(200):
        bit = chance.randrange(8 * (header if number % 2 else len(data)))  # every other one in the header
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        saved.write_bytes(flipped)
        try:
            given, refusal = (read_metadata(saved), by_name(read_state(saved))), ""
        except UserError as error:
            given, refusal = None, str(error)
        if given is None:
            assert str(saved) in refusal
            refused += 1
        else:
            assert given[0] == metadata, bit
            assert same(given[1], by_name(state)), bit
    assert refused >= 190


def test_swapped_tensors_are_noticed(saved, state, metadata):
    """Whatever a program does to the file without knowing the digest, not damage alone."""
    other = dict(state)
    other["norm.weight"], other["norm.bias"] = state["norm.bias"], state["norm.weight"]
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
    save_file(other, saved, metadata=metadata)
    with pytest.raises(UserError, match="damaged"):
        read_state(saved)


def test_file_without_digest(tmp_path, state, metadata):
    """Other people's safetensors have none, nor has an early file of ours: read as they are."""
    path = tmp_path / "other.safetensors"
    save_file(state, path, metadata={KEY: json.dumps(to_dict(metadata))})
    assert same(by_name(read_state(path)), by_name(state))
    assert read_metadata(path) == metadata


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (None, "does not say which model it holds; `convnext train` writes files that do"),
        ({"format": "pt"}, "does not say which model it holds"),
        ({KEY: "{"}, "does not say which model it holds"),
        ({KEY: "[]"}, "does not say which model it holds"),
        ({KEY: '{"model": {}, "input": {}, "extra": 1}'}, "known here: There is no setting 'extra'"),
        ({KEY: '{"model": {"depths": [1, "x"]}, "input": {}}'}, r"known here: 'model.depths\[1\]' takes int"),
    ],
)
def test_no_card(tmp_path, state, stored, message):
    path = tmp_path / "other.safetensors"
    save_file(state, path, metadata=stored)
    with pytest.raises(UserError, match=rf"other\.safetensors .*{message}"):
        read_metadata(path)
    with pytest.raises(UserError, match=r"other\.safetensors"):
        load_model(path)


def test_card_and_weights_do_not_fit(tmp_path, state, metadata):
    path = tmp_path / "odd.safetensors"
    save_model(path, {**state, "head.weight": torch.zeros(5, 8)}, metadata)
    with pytest.raises(UserError, match=r"odd\.safetensors .*head\.weight has shape \(5, 8\), not \(3, 8\)"):
        load_model(path)
    save_model(path, state, ClassificationMetadata(type(metadata.model)(name="convnext_tinny"), metadata.input))
    with pytest.raises(UserError, match="Did you mean 'convnext_tiny'"):
        load_model(path)


SMALL = {
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)},
    "convnextv2_atto": {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)},
    "convnext_isotropic_small": {"depths": (2,), "dims": (16,)},
    "resnet50": {"depths": (1, 1, 1, 1), "dims": (16, 32, 64, 128)},
    "roadmap_small_k7": {},
    "roadmap_small_sep_ds": {},
    "swin_tiny": {"depths": (1, 1, 1, 1), "dims": (16, 32, 64, 128)},
    "vit_small": {"depths": (2,), "dims": (32,)},
}
"""A model of every family, small."""


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL)
def test_every_family_comes_back(tmp_path, name):
    """Whatever can be trained can be loaded, evaluated and started from: names that a library's layout has too (Swin's
    are torchvision's) are no other library's file."""
    config = ModelConfig(name, num_classes=3, **SMALL[name])
    torch.manual_seed(0)
    model = from_config(config).eval()
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.normal_(std=0.1).abs_()  # running variances too
    file = tmp_path / "best.safetensors"
    save_model(file, model.state_dict(), ClassificationMetadata(config, InputConfig(size=64), ("a", "b", "c")))
    assert same(by_name(read_state(file)), by_name(model.state_dict()))
    loaded, metadata = load_model(file)
    assert metadata.model == config
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded(image), model(image))
    other = from_config(config)
    assert load_initial(other, file, classes=("a", "b", "c")) == []
    assert torch.equal(other.eval()(image), model(image))
