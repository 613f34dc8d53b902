"""From a data set to a recipe, with the reasons; and warnings where a recipe does not suit its data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from convnext.data.classification.config import AugmentConfig
from convnext.data.config import InputConfig, MixConfig
from convnext.models.config import ModelConfig
from convnext.models.figures import figures_of
from convnext.recipes.advice import Reason, length_warnings
from convnext.tasks.classification.recipe import ClassificationRecipe
from convnext.tasks.classification.small_recipes import cifar10
from convnext.training.config import EmaConfig, LoopConfig, OptimConfig, ScheduleConfig

SMALL_SIDE = 48  # pixels: below this, images are "small" and a stride of 32 would leave nothing of them
ENOUGH_SMALL, ENOUGH_LARGE = 100, 1000  # images a class that training from scratch takes, for small and other images
_LARGE = 40_000_000  # parameters: more than convnext_tiny has
UNBALANCED = 10  # times as many images of the most frequent class as of the rarest: worth a warning
NARROW_STD = 0.08  # of the initial weights of a narrow model: helps in a short run (docs/results/cifar10.md)


@dataclass(frozen=True)
class Facts:
    """What a choice depends on."""

    images: int
    classes: int
    side: int
    """Median shorter side of the images, in pixels."""
    accelerator: bool
    """Whether there is a GPU."""
    init: ModelConfig | None = None
    """The model of the weights to start from; None: from scratch."""


def choose(facts: Facts) -> tuple[ClassificationRecipe, list[Reason]]:
    """A recipe for fine-tuning (or, without weights, training) on such data, and sentences that say why.

    Batch, length, learning rate, warm-up and average all follow from the number of images, because constants made for a
    million images leave a model trained on a thousand near chance.
    """
    recipe, reasons = _small(facts) if facts.side <= SMALL_SIDE else _large(facts)
    batch = _batch(facts)
    epochs = _epochs(facts)
    steps = round(epochs * max(facts.images // batch, 1))
    # The average remembers a tenth of the run; the warm-up takes a twentieth.
    decay = min(max(1 - 10 / steps, 0.9), 0.9999)
    per_step = f"{facts.images} images, {facts.classes} classes: batches of {batch}, {epochs} epochs = {steps} steps"
    words = f"{per_step}; warm-up {0.05 * epochs:.2g} epochs; average over {1 / (1 - decay):.0f} steps"
    reasons.append(Reason(words, "schedule", "loop.global_batch", "ema"))
    lr = recipe.optim.lr * math.sqrt(batch / 256)
    recipe = replace(
        recipe,
        optim=replace(recipe.optim, lr=float(f"{lr:.2g}")),
        schedule=ScheduleConfig(epochs=float(epochs), warmup_epochs=round(0.05 * epochs, 2)),
        ema=EmaConfig(decay=round(decay, 5)),
        loop=LoopConfig(global_batch=batch, micro_batch=_at_a_time(facts, batch)),
    )
    words = f"learning rate {recipe.optim.lr:g} (for 256 images, scaled by the square root of the batch)"
    reasons.append(Reason(words, "optim", "loop.global_batch"))
    return recipe, reasons


def _batch(facts: Facts) -> int:
    """At least some 20 steps an epoch, within what the machine takes."""
    largest = 512 if facts.accelerator else 64
    return min(max(2 ** int(math.log2(max(facts.images / 20, 1))), 16), largest)


def _at_a_time(facts: Facts, batch: int) -> int:
    """Images that go through the model at once: 0, all of a batch; fewer of larger models, so that a GPU holds them."""
    large = facts.init and figures_of(facts.init.name).parameters > _LARGE
    return min(batch, 128) if large and facts.accelerator else 0


def _epochs(facts: Facts) -> int:
    """Enough passes to see a stated number of images, fewer on a CPU; never under 3."""
    seen = 600_000 if facts.accelerator or facts.side <= SMALL_SIDE else 15_000
    return min(max(round(seen / facts.images), 3), 100)


def _large(facts: Facts) -> tuple[ClassificationRecipe, list[Reason]]:
    """224-pixel images, or 128 on a CPU."""
    pixels = 224 if facts.accelerator else 128
    where = "a GPU" if facts.accelerator else "no GPU here, so small enough for a CPU"
    if facts.init:
        model = _tuned(facts.init)
        recipe = ClassificationRecipe(
            name="finetune",
            model=model,
            input=InputConfig(size=pixels),
            augment=AugmentConfig(scale=(0.35, 1.0)),
            mix=MixConfig(mixup=0.0, cutmix=0.0),
            optim=OptimConfig(lr=5e-4, layer_decay=0.8, clip_grad=1.0),
        )
        return recipe, [
            Reason(f"fine-tuning {facts.init.name}", "model", "init"),
            Reason(f"at {pixels} pixels ({where})", "input.size"),
            Reason(
                "later layers learn faster than early ones (layer decay 0.8), no mixing of images (paper Table 6)",
                "optim.layer_decay",
                "mix",
            ),
        ]
    name, std = ("convnext_tiny", 0.02) if facts.accelerator else ("convnext_atto", NARROW_STD)
    recipe = ClassificationRecipe(
        name="scratch",
        model=ModelConfig(name, drop_path_rate=0.1, layer_scale_init_value=0.0, init_std=std),
        input=InputConfig(size=pixels),
        augment=AugmentConfig(scale=(0.25, 1.0)),
        mix=MixConfig(mixup=0.2, cutmix=1.0, prob=0.5),
        optim=OptimConfig(lr=1e-3, clip_grad=1.0),
    )
    return recipe, [
        Reason(f"training {name} from scratch", "model", "init"),
        Reason(f"at {pixels} pixels ({where})", "input.size"),
        Reason("without weights to start from: with them (--init) fewer images reach far more", "init"),
    ]


def _small(facts: Facts) -> tuple[ClassificationRecipe, list[Reason]]:
    """Images of at most 48 pixels: a small stem stride and no strong colour or geometry changes."""
    pixels = 32 if facts.side <= 32 else SMALL_SIDE
    measured = cifar10()
    model, how = measured.model, "with the model of the recipe cifar10, from scratch"
    if facts.init:
        model, how = _tuned(facts.init), f"from the weights of a {facts.init.name}"
    elif facts.accelerator:
        model, how = (
            replace(measured.model, depths=None, dims=None),
            "with a convnext_atto of stem stride 2, from scratch",
        )
    recipe = replace(
        measured,
        name="finetune-small" if facts.init else "scratch-small",
        model=model,
        input=InputConfig(size=pixels, resize="warp"),
        optim=OptimConfig(lr=5e-4, clip_grad=1.0, layer_decay=0.8) if facts.init else OptimConfig(lr=3e-3),
    )
    words = f"the images are small ({facts.side} pixels): trained at {pixels} pixels, {how}"
    return recipe, [Reason(words, "model", "init", "input.size")]


def _tuned(init: ModelConfig) -> ModelConfig:
    """The model of the given weights with a small new classifier (paper Table 6) and some drop path."""
    return replace(init, num_classes=0, drop_path_rate=0.1, head_init_scale=0.001)


def warnings(
    recipe: ClassificationRecipe,
    *,
    images: int,
    classes: int,
    side: int,
    warmup_steps: int,
    total_steps: int,
    each: Sequence[int] = (),
) -> list[str]:
    """What will probably go wrong with this recipe on this data: each a sentence with the setting to change.

    each: images of each class, or label.
    """
    found = length_warnings(recipe, warmup_steps=warmup_steps, total_steps=total_steps)
    per_class, enough = images / max(classes, 1), ENOUGH_SMALL if side <= SMALL_SIDE else ENOUGH_LARGE
    if not recipe.init and per_class < enough:
        found.append(
            f"Training from scratch with {per_class:.0f} images a class is too few for good accuracy (about {enough} "
            "are needed). Start from pre-trained weights (--init with a file, or a name from `convnext weights list`), "
            "or collect more images."
        )
    least, most = min(each, default=1), max(each, default=1)
    if most >= UNBALANCED * max(least, 1) and not recipe.balance:
        found.append(
            f"The classes are unbalanced: the most frequent has {most:,} images, the rarest {least:,}. A model that "
            "ignores the rare ones can look good all the same: look at the figures of each class. --balance trains on "
            "each class equally often (not where an image can have several labels)."
        )
    return found
