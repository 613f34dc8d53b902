"""The roadmap's recipes: one recipe for every step of a regime, so that nothing but the architecture changes."""

from __future__ import annotations

from dataclasses import replace

from convnext.data.classification.config import AugmentConfig
from convnext.data.config import InputConfig, MixConfig
from convnext.models.config import ModelConfig
from convnext.models.roadmap import name_of
from convnext.tasks.classification.recipe import ClassificationRecipe
from convnext.training.config import EmaConfig, LoopConfig, OptimConfig, ScheduleConfig

_DROP_PATH = {"resnet50": 0.1, "resnet200": 0.5}  # Table 5 has these of the last step; of the others nothing is told


def roadmap_step(regime: str, step: str) -> ClassificationRecipe:
    """A step of the roadmap (Figure 2): Table 5's recipe without EMA, or for the regime small one for small images.

    convnext train roadmap/resnet50/k7 --data IMAGENET, or `convnext roadmap run` for all steps

    Expect on ImageNet-1K the accuracies of `convnext roadmap show`. "Using EMA severely hurts models with BatchNorm
    layers" (paper, section A.1), so no step has it.
    """
    name, title = name_of(regime, step), f"roadmap/{regime}/{step}"
    if regime != "small":
        return ClassificationRecipe(name=title, model=ModelConfig(name, drop_path_rate=_DROP_PATH[regime]))
    return replace(
        ClassificationRecipe(name=title, model=ModelConfig(name, stem_stride=2, init_std=0.08)),
        input=InputConfig(size=32),
        augment=AugmentConfig(crop="padded", randaugment_ops=0),
        mix=MixConfig(mixup=0.0, cutmix=0.0, erase=0.0),
        optim=OptimConfig(lr=2e-3, weight_decay=0.05),
        schedule=ScheduleConfig(epochs=10.0, warmup_epochs=1.0),
        ema=EmaConfig(decay=0.0),
        loop=LoopConfig(global_batch=128, eval_epochs=0.0, log_steps=50),
    )
