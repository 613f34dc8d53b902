"""ConvNeXt: the whole model family, training that resumes exactly, and a command line.

The public names, each imported when it is first used, so that `import convnext` takes no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convnext.core.errors import UserError
    from convnext.models.convnext import CONFIGS, Block, ConvNeXt, ConvNeXtConfig
    from convnext.models.create import MODEL_NAMES, Model, count_macs, count_parameters, create_model
    from convnext.models.features import FeatureMaps
    from convnext.models.fuse import fuse
    from convnext.models.isotropic import IsotropicConvNeXt
    from convnext.recipes.recipe import ClassificationRecipe, DetectionRecipe, SegmentationRecipe
    from convnext.recipes.table import find_recipe
    from convnext.run import resume, train
    from convnext.tasks.classification.export import save_as
    from convnext.tasks.classification.predict import Predictor
    from convnext.tasks.classification.weights import load_model
    from convnext.tasks.detection.predict import Detector
    from convnext.tasks.detection.weights import load_detector
    from convnext.tasks.segmentation.predict import Segmenter
    from convnext.tasks.segmentation.weights import load_segmenter

__version__ = "0.1.0"

_HOME = {
    "UserError": "core.errors",
    "DetectionRecipe": "recipes.recipe",
    "Detector": "detector",
    "SegmentationRecipe": "recipes.recipe",
    "Segmenter": "segmenter",
    "load_segmenter": "weights.load_segmenter",
    "load_detector": "weights.load_detector",
    "CONFIGS": "models.convnext",
    "Block": "models.convnext",
    "ConvNeXt": "models.convnext",
    "ConvNeXtConfig": "models.convnext",
    "MODEL_NAMES": "models.create",
    "Model": "models.create",
    "count_macs": "models.create",
    "count_parameters": "models.create",
    "create_model": "models.create",
    "FeatureMaps": "models.features",
    "fuse": "models.fuse",
    "IsotropicConvNeXt": "models.isotropic",
    "Predictor": "predictor",
    "ClassificationRecipe": "recipes.recipe",
    "find_recipe": "recipes.table",
    "resume": "run",
    "train": "run",
    "load_model": "weights.load",
    "save_as": "weights.export",
}

__all__ = [
    "CONFIGS",
    "MODEL_NAMES",
    "Block",
    "ClassificationRecipe",
    "ConvNeXt",
    "ConvNeXtConfig",
    "DetectionRecipe",
    "Detector",
    "FeatureMaps",
    "IsotropicConvNeXt",
    "Model",
    "Predictor",
    "SegmentationRecipe",
    "Segmenter",
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
    return list(import_module("convnext.models.create").MODEL_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'convnext' has no attribute '{name}'")
    return getattr(import_module(f"convnext.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
