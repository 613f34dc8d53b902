"""A recorded loss curve: the whole of training, from data to optimiser, still does what it did."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from convnext.core.logs import read_log
from convnext.run import train
from convnext.tasks.classification.recipe import ClassificationRecipe
from convnext.tasks.classification.small_recipes import demo
from convnext.training.config import LoopConfig, ScheduleConfig

pytestmark = pytest.mark.slow

CURVE = Path(__file__).with_name("curve.json")


def short_run() -> ClassificationRecipe:
    """A third of an epoch of the demo with everything on that changes images, targets or weights."""
    recipe = demo()
    return dataclasses.replace(
        recipe,
        augment=dataclasses.replace(recipe.augment, randaugment_ops=2, flip=0.5),
        mix=dataclasses.replace(recipe.mix, mixup=0.8, cutmix=1.0, erase=0.25, smoothing=0.1),
        optim=dataclasses.replace(recipe.optim, layer_decay=0.8, clip_grad=5.0),
        schedule=ScheduleConfig(epochs=2.0, warmup_epochs=0.4),
        loop=LoopConfig(global_batch=64, micro_batch=32, log_steps=1, device="cpu", precision="float32"),
    )


def test_the_curve_is_the_recorded_one(tmp_path: Path) -> None:
    """Recorded with: python tests/test_curve.py. Other processors round differently, hence the tolerance."""
    run = train(short_run(), tmp_path / "run")
    losses = [event["loss"] for event in read_log(run / "log.jsonl") if event["event"] == "step"]
    recorded = json.loads(CURVE.read_text())
    assert losses[:10] == pytest.approx(recorded[:10], rel=1e-3)
    assert losses == pytest.approx(recorded, rel=2e-2)


if __name__ == "__main__":
    import tempfile

    folder = train(short_run(), Path(tempfile.mkdtemp()) / "run")
    curve = [round(event["loss"], 6) for event in read_log(folder / "log.jsonl") if event["event"] == "step"]
    CURVE.write_text(json.dumps(curve) + "\n")
