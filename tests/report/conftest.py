"""A run's folder made up for the report's tests: every file there is, in the formats of a real run."""

import json
import math
import random

import pytest
import torch
from PIL import Image

from convnext.metrics.accuracy import ClassificationCounts
from convnext.tasks.classification.figures import Mistake, Skipped, evaluation_dict


def write_log(folder, *, steps=300, ema=True):
    """A log of `steps` steps in 20 epochs; NaN-free, noisy, converging."""
    chance = random.Random(0)
    epoch = steps / 20
    start = {"model": "convnext_atto", "parameters": 3708400, "train_images": 1437, "val_images": 360, "classes": 10}
    start |= {"device": "cpu", "dtype": "float32", "torch": "2.15.0", "total_steps": steps, "steps_per_epoch": epoch}
    events = [{"event": "start", "step": 0, **start}]
    events.append({"event": "note", "step": 0, "text": "Picked convnext_atto: the data set is small."})
    for step in range(1, steps + 1):
        loss = 0.3 + 2 * math.exp(-5 * step / steps) + 0.25 * chance.random()
        lr = 4e-3 * min(step / (0.1 * steps), 0.5 + 0.5 * math.cos(math.pi * step / steps))
        figures = {"loss": loss, "lr": lr, "grad_norm": 1 + chance.expovariate(1), "images_per_second": 900.0}
        events.append({"event": "step", "step": step, "epoch": step / epoch, **figures})
        if step % epoch == 0:
            top1 = 0.95 - 0.85 * math.exp(-6 * step / steps) + 0.01 * chance.random()
            value = {"step": step, "epoch": step / epoch, "loss": 2.4 * (1 - top1) + 0.15, "top1": top1, "top5": 0.999}
            events.append({"event": "eval", **value, "ema": False})
            if ema:
                better = {"top1": min(1.0, 1.01 * top1), "loss": value["loss"] * 0.9, "ema": True}
                events.append({"event": "eval", **value, **better})
        if step == steps // 2:
            events.append({"event": "resume", "step": step})
    events.append({"event": "end", "step": steps, "seconds": 754.2, "best": 0.962})
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def write_evaluation(folder, *, names, images=360, mistakes=8, held_out=True):
    """An evaluation of a model that is right about nine times in ten and a little too sure."""
    k = len(names)
    generator = torch.Generator().manual_seed(1)
    targets = torch.arange(images) % (k - 1 if k > 30 else k)  # the last of many classes has no image
    logits = torch.randn(images, k, generator=generator)
    logits[torch.arange(images), targets] += 3.5
    logits[torch.arange(images), (targets * 3 + 1) % k] += 1.5
    counts = ClassificationCounts(k)
    counts.update(1.5 * logits, targets)
    (folder / "mistakes").mkdir(exist_ok=True)
    found = []
    for i in range(mistakes):
        file = f"mistakes/{i:03d}.png"
        pixels = torch.randint(256, (8, 8, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).resize((96, 96), Image.Resampling.NEAREST).save(folder / file)
        found.append(Mistake(f"val/{i:04d}.jpg", names[i % k], names[(i + 1) % k], 0.99 - 0.03 * i, file))
    values = evaluation_dict(
        counts.result(),
        classes=names,
        model="convnext_atto",
        data="digits",
        held_out=held_out,
        images_per_second=2310.4,
        skipped=[Skipped("train/broken.jpg", "the file is cut short")],
        mistakes=found,
    )
    (folder / "evaluation.json").write_text(json.dumps(values))


def write_run(folder, *, names=tuple("0123456789"), **given):
    """A whole run's folder; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps({"model": {"name": "convnext_atto"}, "optim": {"lr": 4e-3}}))
    write_log(folder)
    write_evaluation(folder, names=names, **given)
    return folder


@pytest.fixture
def make_run(tmp_path):
    """Makes a run's folder: make_run(names=..., held_out=...) -> its path."""
    return lambda **given: write_run(tmp_path / "run", **given)


FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
LOSSES = ("rpn_class", "rpn_box", "class", "box", "mask")


def write_detection_log(folder, *, steps=240, masks=True, losses=LOSSES):
    """A log of a detector's run of `steps` steps in 12 epochs, with an EMA, converging."""
    chance = random.Random(0)
    start = {"model": "Mask R-CNN on convnext_tiny", "parameters": 48095921, "train_images": 460, "val_images": 40}
    start |= {"held_out": True, "classes": 5, "device": "cpu", "dtype": "float32", "torch": "2.15.0"}
    events = [
        {"event": "start", "step": 0, "epoch": 0.0, **start, "total_steps": steps, "steps_per_epoch": steps // 12}
    ]
    for step in range(1, steps + 1):
        at = {"step": step, "epoch": 12 * step / steps}
        parts = {
            name: 0.1 + math.exp(-4 * step / steps) / (i + 1) + 0.05 * chance.random() for i, name in enumerate(losses)
        }
        lr = 1e-4 * min(step / 20, 0.5 + 0.5 * math.cos(math.pi * step / steps))
        figures = {"loss": sum(parts.values()), "losses": parts, "lr": lr, "grad_norm": 3 + chance.random()}
        events.append({"event": "step", **at, **figures, "images_per_second": 11.5})
        if step % (steps // 12) == 0:
            for ema in (False, True):
                ap = (0.45 if ema else 0.42) * (1 - math.exp(-4 * step / steps))
                kinds = {"box": ap, "mask": 0.9 * ap} if masks else {"box": ap}
                shares = {"AP": 1.0, "AP50": 1.5, "AP75": 1.1}
                found = {f"{kind}_{name}": value * x for kind, value in kinds.items() for name, x in shares.items()}
                events.append({"event": "eval", **at, "ema": ema, **found})
    events.append({"event": "end", "step": steps, "epoch": 12.0, "seconds": 3601.0, "best": 0.44})
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def coco_figures_of(names, scale, *, undefined=()):
    """Twelve figures and those of the classes, all of them different; None for `undefined`."""
    figures = {name: scale * (0.9 - 0.05 * i) for i, name in enumerate(FIGURES)}
    figures |= dict.fromkeys(undefined)
    per_class = [
        {"name": name, "n": 3 * i, "AP": scale * 0.9 / i if i else None, "AP50": scale / i if i else None}
        for i, name in enumerate(names)
    ]
    return figures | {"per_class": per_class}


def write_detection_run(folder, *, names=("cat", "dog", "bird", "fish", "bee"), masks=True, undefined=(), pictures=3):
    """A whole folder of a detector's run; the first class has no objects. Returns it."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(
        json.dumps({"task": "detect", "model": {"backbone": {"name": "convnext_tiny"}}})
    )
    write_detection_log(folder, masks=masks)
    shown = []
    for i in range(pictures):
        Image.new("RGB", (96, 48), (200, 60 * i, 90)).save(folder / f"pictures/{i:03d}.png")
        shown.append({"name": f"val/{i:04d}.jpg", "picture": f"pictures/{i:03d}.png"})
    values = {"task": "detect", "model": "convnext_tiny", "data": "pets", "held_out": True, "n": 40, "objects": 171}
    values |= {"box": coco_figures_of(names, 1.0, undefined=undefined), "images_per_second": 7.25, "pictures": shown}
    values["mask"] = coco_figures_of(names, 0.8, undefined=undefined) if masks else None
    values["skipped"] = [{"name": "val/broken.jpg", "reason": "the file is cut short"}]
    (folder / "evaluation.json").write_text(json.dumps(values))
    return folder


@pytest.fixture
def make_detection_run(tmp_path):
    """Makes the folder of a detector's run: make_detection_run(masks=..., undefined=...) -> its path."""
    return lambda **given: write_detection_run(tmp_path / "run", **given)
