"""Other people's checkpoints: read as plain data, never run; damaged or foreign files named and refused."""

from __future__ import annotations

import argparse
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from convnext.core.errors import UserError
from convnext.core.pickles import read_pickle
from convnext.weights.files import read_state

OLD = {"_use_new_zipfile_serialization": False}  # torch's format before 1.6
FORMATS = pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "old"])


def weights():
    generator = torch.Generator().manual_seed(0)
    return {f"stages.0.{i}.gamma": torch.randn(20, generator=generator) for i in range(4)}


def same(state):
    return list(state) == list(weights()) and all(torch.equal(value, weights()[name]) for name, value in state.items())


class Command:
    """Pickles as a call of os.system."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


# ----- read


@FORMATS
@pytest.mark.parametrize("suffix", ["pth", "pt", "bin"])
def test_state_dict(tmp_path, options, suffix):
    path = tmp_path / f"file.{suffix}"
    torch.save(OrderedDict(weights()), path, **options)
    assert same(read_state(path))


@FORMATS
def test_official_training_checkpoint(tmp_path, options):
    """Meta's `main.py` stores its arguments beside the weights, as an argparse.Namespace."""
    path = tmp_path / "checkpoint.pth"
    arguments = argparse.Namespace(lr=4e-3, model="convnext_tiny", resume="", mixup=0.8, crop_pct=None, opt_betas=[0.9])
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], lr=1e-3).state_dict()
    content = {"model": weights(), "optimizer": optimizer, "epoch": 299, "scaler": {}, "args": arguments}
    torch.save({**content, "model_ema": weights()}, path, **options)
    assert same(read_state(path))
    assert read_pickle(path)["args"] == arguments
    assert argparse.Namespace not in torch.serialization.get_safe_globals()  # allowed here alone


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(tmp_path, protocol):
    """Read without a warning, or refused."""
    path = tmp_path / "file.pth"
    torch.save(weights(), path, pickle_protocol=protocol)
    if protocol > 3:  # torch's safe reader does not know frames
        with pytest.raises(UserError, match=r"file\.pth"):
            read_state(path)
    else:
        assert same(read_state(path))


# ----- code


@FORMATS
@pytest.mark.parametrize("where", ["beside", "inside", "arguments", "whole", "key"])
def test_code_is_refused_and_never_run(tmp_path, options, where):
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    command = Command(marker)
    content = {
        "beside": {"model": weights(), "extra": command},
        "inside": {"model": {**weights(), "norm.weight": command}},
        "arguments": {"model": weights(), "args": argparse.Namespace(lr=command)},
        "whole": command,
        "key": {"model": weights(), (command,): 1},
    }[where]
    torch.save(content, path, **options)
    with pytest.raises(UserError) as caught:
        read_state(path)
    assert not marker.exists()
    message = str(caught.value)
    assert message.startswith(f"{path} was refused")
    assert "posix.system, which could run code. Nothing in it was run" in message
    assert "weights_only" not in message  # torch's own advice is to run it
    torch.load(path, weights_only=False)
    assert marker.exists()  # it would have run


@pytest.mark.parametrize("protocol", range(6))
def test_bare_pickle_with_code(tmp_path, protocol):
    marker, path = tmp_path / "marker", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Command(marker), protocol=protocol))
    with pytest.raises(UserError, match=r"evil\.pt"):
        read_state(path)
    assert not marker.exists()


def test_code_in_a_build_state(tmp_path):
    """The one class let through takes attributes, not code: a state that is a call is refused too."""
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    namespace = argparse.Namespace()
    namespace.__dict__["nested"] = {"deep": [Command(marker)]}
    torch.save({"model": weights(), "args": namespace}, path)
    with pytest.raises(UserError, match="was refused"):
        read_state(path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["builtins.eval", "builtins.getattr", "subprocess.Popen", "torch.load", "os.remove"])
def test_calls_by_name(tmp_path, name):
    module, _, function = name.rpartition(".")
    path = tmp_path / "evil.pth"
    path.write_bytes(b"\x80\x02c" + f"{module}\n{function}\n".encode() + b"X\x01\x00\x00\x00a\x85R.")
    with pytest.raises(
        UserError, match=r"evil\.pth was refused: beside weights it holds " + name.removeprefix("builtins.")
    ):
        read_state(path)


# ----- damage


@pytest.mark.parametrize("reader", [read_state, read_pickle])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        b"<!DOCTYPE html><html><body>404: Not Found</body></html>\n" * 20,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 114374272\n",
        bytes(1000),
        b"\x80\x02}q\x00.",  # a pickle, but not torch's
    ],
)
def test_not_a_checkpoint(tmp_path, reader, data):
    path = tmp_path / "wrong.pth"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"wrong\.pth is (damaged or|empty|cut off|a web page|a pointer|filled)"):
        reader(path)


def test_missing_and_folder(tmp_path):
    with pytest.raises(UserError, match=r"There is no file .*none\.pth"):
        read_state(tmp_path / "none.pth")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(UserError, match=r"There is no file .*folder\.pth"):
        read_state(tmp_path / "folder.pth")


@FORMATS
def test_cut_short(tmp_path, options):
    path = tmp_path / "file.pth"
    torch.save({"model": weights()}, path, **options)
    data = path.read_bytes()
    for length in (1, 10, 100, len(data) // 2, len(data) - 30, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"file\.pth is (damaged|cut off)"):
            read_state(path)


@FORMATS
def test_bit_flips(tmp_path, options):
    """A bit turned anywhere: refused in words, or (a zip file has checksums) what was saved; no other error."""
    path, chance, refused = tmp_path / "file.pth", random.Random(0), 0
    torch.save({"model": weights(), "args": argparse.Namespace(lr=1.0)}, path, **options)
    data = path.read_bytes()
    for _ in range(200):
        bit = chance.randrange(8 * len(data))
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            state, refusal = read_state(path), ""
        except UserError as error:
            state, refusal = None, str(error)
        if state is None:
            assert str(path) in refusal
            refused += 1
        else:
            assert same(state) or options, bit  # the old format has no checksum
    assert refused >= 80


def test_bomb(tmp_path):
    """A file of kilobytes that would unpack to 64 megabytes is refused before it does."""
    plain, path = tmp_path / "plain.pth", tmp_path / "bomb.pth"
    torch.save({"model": {"norm.weight": torch.zeros(1 << 24)}}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert path.stat().st_size < 100_000
    assert read_state(plain)["norm.weight"].numel() == 1 << 24
    with pytest.raises(UserError, match=r"bomb\.pth is damaged or not a torch checkpoint"):
        read_state(path)


def test_large_claims(tmp_path):
    """Numbers that only claim to be large take no memory: the reader fails at once."""
    path = tmp_path / "claim.pth"
    path.write_bytes(b"\x80\x02c__builtin__\nbytearray\n\x8a\x07" + (1 << 50).to_bytes(7, "little") + b"\x85R.")
    with pytest.raises(UserError, match=r"claim\.pth"):
        read_state(path)
