"""Every recipe of a classifier by name: a plain dict of functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from convnext.models.roadmap import REGIMES, STEPS
from convnext.tasks.classification import imagenet_recipes as imagenet
from convnext.tasks.classification import small_recipes as small
from convnext.tasks.classification.recipe import ClassificationRecipe
from convnext.tasks.classification.roadmap_recipes import roadmap_step

_V2_SMALL, _V2_LARGE = ("atto", "femto", "pico", "nano"), ("tiny", "base", "large", "huge")
_IN22K = ("tiny", "small", "base", "large", "xlarge")

RECIPES: dict[str, Callable[[], ClassificationRecipe]] = {
    "demo": small.demo,
    "cifar10": small.cifar10,
    "cifar10_v2": small.cifar10_v2,
    "imagenet/convnext_tiny": imagenet.convnext_tiny,
    "imagenet/convnext_small": imagenet.convnext_small,
    "imagenet/convnext_base": imagenet.convnext_base,
    "imagenet/convnext_large": imagenet.convnext_large,
    "imagenet/convnext_isotropic_small": imagenet.convnext_isotropic_small,
    "imagenet/convnext_isotropic_base": imagenet.convnext_isotropic_base,
    "imagenet/convnext_isotropic_large": imagenet.convnext_isotropic_large,
    **{f"imagenet/convnextv2_{size}": partial(imagenet.v2_small, size) for size in _V2_SMALL},
    **{f"imagenet/convnextv2_{size}": partial(imagenet.v2_large, size) for size in _V2_LARGE},
    **{f"imagenet384/convnext_{size}": partial(imagenet.finetune_384, size) for size in ("base", "large")},
    **{f"imagenet22k/convnext_{size}": partial(imagenet.in22k, size) for size in _IN22K},
    **{
        f"imagenet22k-1k/convnext_{size}_{pixels}": partial(imagenet.finetune_22k, size, pixels)
        for size in _IN22K
        for pixels in (224, 384)
    },
    **{f"roadmap/{r}/{step.name}": partial(roadmap_step, r, step.name) for r in REGIMES for step in STEPS},
}
