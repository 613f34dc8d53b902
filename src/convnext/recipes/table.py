"""Every recipe by name: a plain dict of functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from convnext.core.errors import UserError, nearest
from convnext.models.roadmap import REGIMES, STEPS
from convnext.recipes.recipe import AnyRecipe
from convnext.tasks.classification import imagenet_recipes as imagenet
from convnext.tasks.classification import small_recipes as small
from convnext.tasks.classification.roadmap_recipes import roadmap_step
from convnext.tasks.detection import recipes as coco
from convnext.tasks.segmentation import recipes as ade20k

RECIPES: dict[str, Callable[[], AnyRecipe]] = {
    "demo": small.demo,
    "cifar10": small.cifar10,
    "imagenet/convnext_tiny": imagenet.convnext_tiny,
    "imagenet/convnext_small": imagenet.convnext_small,
    "imagenet/convnext_base": imagenet.convnext_base,
    "imagenet/convnext_large": imagenet.convnext_large,
    "imagenet/convnext_isotropic_small": imagenet.convnext_isotropic_small,
    "imagenet/convnext_isotropic_base": imagenet.convnext_isotropic_base,
    "imagenet/convnext_isotropic_large": imagenet.convnext_isotropic_large,
    **{f"imagenet/convnextv2_{s}": partial(imagenet.v2_small, s) for s in ("atto", "femto", "pico", "nano")},
    **{f"imagenet/convnextv2_{s}": partial(imagenet.v2_large, s) for s in ("tiny", "base", "large", "huge")},
    **{f"imagenet384/convnext_{s}": partial(imagenet.finetune_384, s) for s in ("base", "large")},
    **{f"imagenet22k/convnext_{s}": partial(imagenet.in22k, s) for s in ("tiny", "small", "base", "large", "xlarge")},
    **{
        f"imagenet22k-1k/convnext_{s}_{pixels}": partial(imagenet.finetune_22k, s, pixels)
        for s in ("tiny", "small", "base", "large", "xlarge")
        for pixels in (224, 384)
    },
    **{name: partial(coco.published, name) for name in coco.PUBLISHED},
    "small/mask_rcnn": coco.small_mask_rcnn,
    **{name: partial(ade20k.published, name) for name in ade20k.PUBLISHED},
    "ade20k/light_convnext_tiny": ade20k.light_convnext_tiny,
    "ade20k/linear_convnext_tiny": ade20k.linear_convnext_tiny,
    "small/segmenter": ade20k.small_segmenter,
    **{f"roadmap/{r}/{step.name}": partial(roadmap_step, r, step.name) for r in REGIMES for step in STEPS},
}


def find_recipe(name: str) -> AnyRecipe:
    """The recipe of that name. Raises UserError with the nearest names where there is none."""
    if name not in RECIPES:
        raise UserError(f"There is no recipe '{name}'.{nearest(name, RECIPES)} `convnext recipes` lists them all.")
    return RECIPES[name]()


def describe(name: str) -> str:
    """The docstring of a recipe's function: what it trains, its command, what to expect."""
    function = RECIPES[name]
    text = (function.func if isinstance(function, partial) else function).__doc__ or ""
    return "\n".join(line.strip() for line in text.strip().splitlines())
