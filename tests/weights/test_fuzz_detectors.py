"""Damaged and hostile files of detectors: each is refused in words or read as it should be, and no code runs."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from convnext.core.errors import UserError
from convnext.models.config import ModelConfig
from convnext.models.detection.build import build_detector
from convnext.models.detection.config import DetectorConfig, RoIConfig
from convnext.tasks.choose import find_weights
from convnext.tasks.detection.recipe import DetectionMetadata
from convnext.tasks.detection.weights import load_detector
from convnext.weights.files import save_model
from painted import INPUT, SMALL

pytestmark = pytest.mark.slow

CASES = 100  # of each kind
OFFICIAL = DetectorConfig(ModelConfig("convnext_atto"), num_classes=5, width=16, roi=RoIConfig(width=16, mask_convs=1))


class Evil:
    """Pickled, it is a call: what it would leave behind shows whether it was made."""

    def __init__(self, call: object, *arguments: object) -> None:
        self.parts = (call, arguments)

    def __reduce__(self) -> tuple:
        return self.parts


def hollow() -> dict[str, torch.Tensor]:
    """Weights in the official layout whose file has all names and shapes and hardly a number: one, many times."""
    with torch.device("meta"):
        shapes = build_detector(OFFICIAL).state_dict()
    return {name: torch.zeros(()).expand(value.shape) for name, value in shapes.items()}


@pytest.mark.parametrize("place", ["meta", "optimizer", "state_dict", "inside"])
def test_a_pickle_with_code_is_refused_and_nothing_runs(place: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "mask_rcnn.pth"
    evil = Evil(os.system, f"touch {mark}")
    content = {"state_dict": hollow(), "meta": {}, "optimizer": {}}
    if place == "inside":
        content["state_dict"]["neck.evil"] = evil  # type: ignore[assignment]
    else:
        content[place] = evil  # type: ignore[assignment]
    torch.save(content, path)
    for read in (load_detector, find_weights):
        with pytest.raises(UserError, match=r"mask_rcnn\.pth was refused.*Nothing in it was run"):
            read(path)
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_every_damaged_file_is_refused_or_right(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": hollow(), "meta": {"epoch": 36}}, whole)
    else:
        torch.manual_seed(0)
        save_model(whole, build_detector(SMALL).state_dict(), DetectionMetadata(SMALL, INPUT, ("box", "disc"), (3, 7)))
    expected = load_detector(whole).model.state_dict()
    data, chance, outcomes = whole.read_bytes(), random.Random(0), Counter()
    for number in range(CASES):
        changed = bytearray(data)
        if number % 2:
            del changed[chance.randrange(len(data)) :]
        else:  # in the whole file, or where headers and names are
            for _ in range(chance.choice((1, 2, 8))):
                changed[chance.randrange(chance.choice((len(data), 4000)))] ^= 1 << chance.randrange(8)
        path = tmp_path / f"{number}{suffix}"  # never one twice: what was loaded is mapped
        path.write_bytes(changed)
        message = ""
        try:
            found = load_detector(path).model.state_dict()
        except UserError as error:
            message = str(error)
        else:  # what was hit is no part of the weights
            assert all(torch.equal(found[name], value) for name, value in expected.items())
        assert not message or (path.name in message and "\n" not in message), message
        outcomes["refused" if message else "read"] += 1
        path.unlink()
    assert outcomes["refused"] > 0.9 * CASES, outcomes
    capsys.readouterr()
