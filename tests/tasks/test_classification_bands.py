"""Classifiers of other than three bands: what is measured, and the whole way from training to prediction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import convnext
from convnext.cli.main import main
from convnext.core.errors import UserError
from convnext.data.classification.open import ClassificationData
from convnext.data.config import LoaderConfig
from convnext.tasks.classification.bands import measure
from convnext.tasks.classification.recipe import ClassificationRecipe

BANDS = 5


def field(kind: int, number: int) -> np.ndarray:
    """(H, W, 5) of 12 bits; the fourth band tells the kinds apart."""
    values = np.random.default_rng([kind, number]).integers(100, 1000, (16, 20, BANDS)).astype(np.uint16)
    values[..., 3] += 3000 * kind
    return values


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    for kind, name in enumerate(("maize", "wheat")):
        (tmp_path / "fields" / name).mkdir(parents=True)
        for i in range(8):
            path = tmp_path / "fields" / name / f"{i}"
            if i % 2:
                np.save(path.with_suffix(".npy"), field(kind, i))
            else:
                tifffile.imwrite(
                    path.with_suffix(".tif"), field(kind, i), photometric="minisblack", planarconfig="contig"
                )
    return tmp_path / "fields"


def test_what_is_measured(fields: Path) -> None:
    recipe = ClassificationRecipe("r", loader=LoaderConfig(bands=BANDS, val_fraction=0.0))
    measured, notes = measure(recipe, ClassificationData(fields))
    every = np.stack([field(kind, i) for kind in (0, 1) for i in range(8)])
    white = max(np.percentile(field(kind, i), 99.9) for kind in (0, 1) for i in range(8))
    assert measured.loader.white == measured.input.white == pytest.approx(white)
    scaled = np.rint(np.clip(every / white, 0, 1) * 255) / 255
    np.testing.assert_allclose(measured.input.mean, scaled.mean(axis=(0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(measured.input.std, scaled.std(axis=(0, 1, 2)), atol=1e-5)
    assert (measured.model.in_chans, measured.augment.randaugment_ops) == (BANDS, 0)
    assert [note.split(" ")[0] for note in notes] == ["the", "5", "RandAugment"]


def test_three_bands_are_left_alone() -> None:
    recipe = ClassificationRecipe("r")
    assert measure(recipe, None) == (recipe, ())


def test_what_is_refused(fields: Path) -> None:
    with pytest.raises(UserError, match="None of the images that were tried has 4 bands"):
        measure(ClassificationRecipe("r", loader=LoaderConfig(bands=4)), ClassificationData(fields))
    plain = ClassificationRecipe("r", loader=LoaderConfig(bands=BANDS))
    with pytest.raises(UserError, match=r"--model.in-chans 4 and --loader.bands 5 differ"):
        measure(replace(plain, model=replace(plain.model, in_chans=4)), ClassificationData(fields))


@pytest.mark.slow
@pytest.mark.parametrize("bands", [1, 4, BANDS])
def test_the_whole_way(fields: Path, tmp_path: Path, bands: int, capsys: pytest.CaptureFixture[str]) -> None:
    data = fields
    if bands != BANDS:
        data = tmp_path / "images"
        for kind, name in enumerate(("dark", "light")):
            (data / name).mkdir(parents=True)
            for i in range(8):
                rgba = np.random.default_rng(i).integers(0, 60, (16, 20, 4), dtype=np.uint8) + np.uint8(150 * kind)
                Image.fromarray(rgba, "RGBA" if bands == 4 else None).save(data / name / f"{i}.png")
    run = tmp_path / "run"
    words = ["--schedule.epochs", "12", "--loop.global-batch", "8", "--loader.workers", "0", "--input.size", "16"]
    words += ["--model.stem-stride", "2", "--schedule.warmup-epochs", "0"]
    assert main(["train", "--data", str(data), "--loader.bands", str(bands), "--out", str(run), *words]) == 0
    said = capsys.readouterr().err
    assert f"{bands} bands: mean and standard deviation, measured on" in said
    assert (run / "report.html").is_file()
    assert (run / "first_batch.png").is_file()
    files = sorted(path for path in data.rglob("*.*"))
    assert main(["predict", str(files[0]), "--model", str(run), "--json", "--pictures", str(tmp_path / "out")]) == 0
    assert main(["evaluate", str(run), "--data", str(data)]) == 0
    model = convnext.load(str(run))
    assert model.model.in_chans == bands
    result = model(files[0])
    again = model(model.read(files[0]).numpy().transpose(1, 2, 0) if bands == 4 else files[0])
    assert torch.equal(result.probabilities, again.probabilities)
    with pytest.raises(ValueError, match="bands"):
        model(np.zeros((8, 8, bands + 1), np.uint8))
