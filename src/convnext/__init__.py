"""ConvNeXt: the whole model family, training that resumes exactly, and a command line.

The public names, each imported when it is first used, so that `import convnext` takes no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convnext.core.errors import UserError
    from convnext.detector import Detector
    from convnext.models.convnext import SIZES, Block, ConvNeXt, Size
    from convnext.models.create import NAMES, Model, count_macs, count_parameters, create_model
    from convnext.models.features import FeatureMaps
    from convnext.models.fuse import fuse
    from convnext.models.isotropic import IsotropicConvNeXt
    from convnext.predictor import Predictor
    from convnext.recipes.recipe import DetectionRecipe, Recipe, SegmentationRecipe
    from convnext.recipes.table import find_recipe
    from convnext.run import resume, train
    from convnext.segmenter import Segmenter
    from convnext.weights.export import save_as
    from convnext.weights.load import load_model
    from convnext.weights.load_detector import load_detector
    from convnext.weights.load_segmenter import load_segmenter

__version__ = "0.1.0"

_HOME = {
    "UserError": "core.errors",
    "DetectionRecipe": "recipes.recipe",
    "Detector": "detector",
    "SegmentationRecipe": "recipes.recipe",
    "Segmenter": "segmenter",
    "load_segmenter": "weights.load_segmenter",
    "load_detector": "weights.load_detector",
    "SIZES": "models.convnext",
    "Block": "models.convnext",
    "ConvNeXt": "models.convnext",
    "Size": "models.convnext",
    "NAMES": "models.create",
    "Model": "models.create",
    "count_macs": "models.create",
    "count_parameters": "models.create",
    "create_model": "models.create",
    "FeatureMaps": "models.features",
    "fuse": "models.fuse",
    "IsotropicConvNeXt": "models.isotropic",
    "Predictor": "predictor",
    "Recipe": "recipes.recipe",
    "find_recipe": "recipes.table",
    "resume": "run",
    "train": "run",
    "load_model": "weights.load",
    "save_as": "weights.export",
}

__all__ = [
    "NAMES",
    "SIZES",
    "Block",
    "ConvNeXt",
    "DetectionRecipe",
    "Detector",
    "FeatureMaps",
    "IsotropicConvNeXt",
    "Model",
    "Predictor",
    "Recipe",
    "SegmentationRecipe",
    "Segmenter",
    "Size",
    "UserError",
    "__version__",
    "count_macs",
    "count_parameters",
    "create_model",
    "find_recipe",
    "fuse",
    "list_models",
    "load_detector",
    "load_model",
    "load_segmenter",
    "resume",
    "save_as",
    "train",
]


def list_models(*, pretrained: bool = False, commercial: bool | None = None) -> list[str]:
    """The names that `create_model` knows; with `pretrained`, or where `commercial` is given, those of the published
    weights that `load_model` knows: all, or those that may (True) or may not (False) be used commercially."""
    if pretrained or commercial is not None:
        rows = import_module("convnext.weights.catalog").list_weights(commercial=commercial)
        return [row.name for row in rows]
    return list(import_module("convnext.models.create").NAMES)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'convnext' has no attribute '{name}'")
    return getattr(import_module(f"convnext.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
