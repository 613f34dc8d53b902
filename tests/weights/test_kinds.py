"""Files that are no weights are named as what they are, and what to do about them is said."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from convnext.core.errors import UserError
from convnext.weights.files import read_contents

FIRST = "downsample_layers.0.0.weight"
STATE = {FIRST: torch.ones(4, 3, 4, 4), "stages.0.0.gamma": torch.ones(4), "norm.weight": torch.ones(4)}


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
        ("a.pth", bytes(1000), "filled with zeros"),
        ("a.bin", b"Entry not found", "a text file, not the weights: it begins 'Entry not found'"),
        ("a.bin", b'<?xml version="1.0"?><Error>', r"a text file \(XML\)"),
        ("a.bin", b"\x08\x07\x12\x07pytorch" + bytes(20), "an ONNX model"),
        ("a.bin", bytes(4) + b"TFL3" + bytes(20), "a TensorFlow Lite model"),
        ("frozen.pb", b"\n\x0f\x12" + bytes(20), "a TensorFlow graph"),
        ("flax_model.msgpack", b"\x85\xa6" + bytes(20), "a checkpoint of Flax"),
        ("a.keras", zipped(**{"config.json": b"{}", "model.weights.h5": b""}), "a model of Keras"),
        ("a.pt2", zipped(**{"serialized_exported_program.json": b"{}"}), r"a program of torch\.export"),
        ("a.pth", b"\x89PNG\r\n\x1a\n" + bytes(20), "a picture"),
        ("a.safetensors", b"\x89PNG\r\n\x1a\n" + bytes(20), "a picture"),
    ],
)
def test_what_is_no_weights_is_named(tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{name} is {says}"):
        read_contents(tmp_path / name)


def test_whole_models_and_bare_pickles_say_what_to_save(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pth")
    with pytest.raises(
        UserError, match=r"torch\.nn\.modules\.linear\.Linear.*torch\.save\(model\.state_dict\(\), FILE\)"
    ):
        read_contents(tmp_path / "m.pth")
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"model": {"a": np.zeros(3)}}))
    with pytest.raises(UserError, match=r"a pickle that torch\.save did not write"):
        read_contents(tmp_path / "b.pkl")


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
