"""5,000 damaged or hostile files: each is refused in words or read as it should be; nothing crashes, no code runs."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as save_safetensors

from convnext.core.errors import UserError
from convnext.data.config import InputConfig
from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.tasks.classification.export import save_as, state_in
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.tasks.classification.weights import load_model

pytestmark = pytest.mark.slow

CASES, PARTS = 5000, 10
SMALL = ModelConfig("convnext_tiny", num_classes=3, depths=(1, 1, 1, 1), dims=(4, 4, 4, 4))


class Evil:
    """Pickled, it is a call: what it would leave behind shows whether it was made."""

    def __init__(self, call: object, *arguments: object) -> None:
        self.parts = (call, arguments)

    def __reduce__(self) -> tuple:
        return self.parts


def pickled(content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def originals(folder: Path) -> list[tuple[str, bytes]]:
    """(suffix, content) of good files and of hostile ones, to be damaged further."""
    torch.manual_seed(0)
    state = from_config(SMALL).state_dict()
    save_as(folder / "ours.safetensors", state, ClassificationMetadata(SMALL, InputConfig()), layout="convnext")
    timm = {name: value.contiguous() for name, value in state_in("timm", state, SMALL).items()}
    mark = folder / "ran"
    evil = [Evil(os.system, f"touch {mark}"), Evil(Path.touch, mark), Evil(eval, f"open({str(mark)!r}, 'w')")]
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickle.dumps({"model": {}}, protocol=2))
        archive.writestr("x/data/0", bytes(1 << 24))
    pickles = [{"model": dict(state)}, dict(state), *({"model": dict(state), "args": call} for call in evil)]
    return [
        (".safetensors", (folder / "ours.safetensors").read_bytes()),
        (".safetensors", save_safetensors(timm, metadata={"format": "pt"})),
        *((".pth", pickled(content)) for content in pickles),
        *((".bin", pickled(content, _use_new_zipfile_serialization=False)) for content in pickles),
        (".pt", pickle.dumps(evil[0])),
        (".pth", bomb.getvalue()),
    ]


def damaged(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """One file of many: cut, flipped, overwritten, spliced with another, grown, or as it is."""
    kind, at = chance.randrange(7), chance.randrange(len(data))
    if kind == 0:
        return data[:at]
    if kind in (1, 2):  # in the whole file, or where headers and pickles begin
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 8))):
            changed[chance.randrange(len(data) if kind == 1 else min(300, len(data)))] ^= 1 << chance.randrange(8)
        return bytes(changed)
    if kind == 3:
        block = chance.randbytes(chance.choice((1, 4, 8, 64)))
        return data[:at] + block + data[at + len(block) :]
    if kind == 4:
        return data[:at] + other[chance.randrange(len(other)) :]
    if kind == 5:
        return data[:at] + chance.choice((b"\0" * 8, b"\xff" * 8, b"{", b"]", chance.randbytes(30))) + data[at:]
    return data


@pytest.mark.parametrize("part", range(PARTS))
def test_every_file_is_refused_or_right(part: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance, outcomes, files = random.Random(part), Counter(), originals(tmp_path)
    suffixes = sorted({suffix for suffix, _ in files})
    mark = tmp_path / "ran"
    for number in range(CASES // PARTS):
        suffix, data = chance.choice(files)
        if chance.random() < 0.1:
            suffix = chance.choice(suffixes)  # a file under another kind's name
        path = tmp_path / f"{number}{suffix}"  # never one twice: what was loaded is mapped
        path.write_bytes(damaged(data, chance.choice(files)[1], chance))
        message = ""
        try:
            model, _ = load_model(path)
        except UserError as error:
            message = str(error)
        assert message or sum(value.numel() for value in model.parameters()) < 10_000
        assert not message or (path.name in message and "\n" not in message), message
        outcomes["refused" if message else "read"] += 1
        assert not mark.exists(), (part, number)
        path.unlink()
    assert outcomes["refused"] > 0.8 * CASES / PARTS
    assert outcomes["read"] > 0  # ours, undamaged
    capsys.readouterr()
