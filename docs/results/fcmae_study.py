"""What masked pre-training is worth on small images: the runs behind fcmae.md.

python docs/results/fcmae_study.py CIFAR10 OUT [--jobs 2]

Pre-trains an encoder for each of three seeds, then fine-tunes from it, and trains from scratch, with the same recipe,
split and seed: on all labels, and on a tenth of them. Goes on where it was stopped; writes OUT/fcmae.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path

from scipy import stats

from convnext.core.logs import say
from convnext.recipes.recipe import Recipe
from convnext.sweep.engine import train_all
from convnext.sweep.runs import Run, ended
from convnext.tasks.recipes import find_recipe

SEEDS = range(3)
PRETRAINING = 8.0  # epochs
FINE_TUNING = {"all": (1.0, 4.0), "tenth": (0.1, 20.0)}  # share of the labels, epochs


def with_length(recipe: Recipe, *, data: str, seed: int, epochs: float, share: float = 1.0) -> Recipe:
    """A recipe of this many epochs, a tenth of them warm-up, on a share of the training images."""
    return replace(
        recipe,
        data=data,
        loader=replace(recipe.loader, train_fraction=share),
        schedule=replace(recipe.schedule, epochs=epochs, warmup_epochs=epochs / 10),
        loop=replace(recipe.loop, seed=seed, eval_epochs=0.0),
    )


def pretraining(data: str) -> list[Run]:
    """The encoders."""
    recipe = find_recipe("pretrain/small")
    return [Run(f"pretrain/seed{s}", with_length(recipe, data=data, seed=s, epochs=PRETRAINING)) for s in SEEDS]


def fine_tuning(data: str, out: Path) -> list[Run]:
    """From each encoder and from scratch, with the same seed and therefore the same images."""
    runs = []
    for labels, (share, epochs) in FINE_TUNING.items():
        for seed in SEEDS:
            recipe = with_length(find_recipe("cifar10_v2"), data=data, seed=seed, epochs=epochs, share=share)
            encoder = str(out / "pretrain" / f"seed{seed}")
            runs.append(Run(f"{labels}-scratch/seed{seed}", recipe))
            runs.append(Run(f"{labels}-pretrained/seed{seed}", replace(recipe, init=encoder)))
    return runs


def gains(out: Path) -> dict[str, object]:
    """Top-1 (%) of every run, and the gain of pre-training with its 95 % interval (t, paired by seed)."""
    found: dict[str, object] = {}
    for labels in FINE_TUNING:
        each = {}
        for arm in ("scratch", "pretrained"):
            ends = [ended(out / f"{labels}-{arm}" / f"seed{seed}") for seed in SEEDS]
            each[arm] = [round(100 * end.figures["top1"], 2) for end in ends if end]
        differences = [after - before for before, after in zip(each["scratch"], each["pretrained"], strict=True)]
        mean, deviation = statistics.fmean(differences), statistics.stdev(differences)
        reach = float(stats.t(len(differences) - 1).ppf(0.975)) * deviation / len(differences) ** 0.5
        found[labels] = {**each, "gain": round(mean, 2), "interval": [round(mean - reach, 2), round(mean + reach, 2)]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    data, out = str(Path(args.data).resolve()), args.out.resolve()
    for runs in (pretraining(data), fine_tuning(data, out)):
        train_all(runs, out, title="fcmae", jobs=args.jobs, heard=lambda run: f"{run.name} has ended")
    (out / "fcmae.json").write_text(json.dumps(gains(out), indent=2) + "\n")
    say((out / "fcmae.json").read_text())


if __name__ == "__main__":
    main()
