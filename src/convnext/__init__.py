"""ConvNeXt: the whole model family for classification, detection and segmentation, and training that resumes exactly.

The public names, each imported when it is first used, so that `import convnext` takes no torch.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from convnext.core.errors import UserError
    from convnext.data.dataset import Dataset, GivenData
    from convnext.models.convnext import CONFIGS, Block, ConvNeXt, ConvNeXtConfig
    from convnext.models.create import MODEL_NAMES, Model, count_macs, count_parameters, create_model
    from convnext.models.detection.build import create_detector
    from convnext.models.features import FeatureMaps
    from convnext.models.fuse import fuse
    from convnext.models.isotropic import IsotropicConvNeXt
    from convnext.models.segmentation.build import create_segmenter
    from convnext.models.tta import TTA
    from convnext.run import evaluate, resume, train, write_report
    from convnext.tasks.classification.export import save_as
    from convnext.tasks.classification.predict import Classifier
    from convnext.tasks.classification.recipe import ClassificationRecipe
    from convnext.tasks.classification.weights import load_model
    from convnext.tasks.detection.predict import Detector
    from convnext.tasks.detection.recipe import DetectionRecipe
    from convnext.tasks.detection.weights import load_detector
    from convnext.tasks.predictor import BasePredictor
    from convnext.tasks.recipes import find_recipe, read_recipe
    from convnext.tasks.segmentation.predict import Segmenter
    from convnext.tasks.segmentation.recipe import SegmentationRecipe
    from convnext.tasks.segmentation.weights import load_segmenter
    from convnext.tasks.spec import TaskSpec
    from convnext.tasks.table import TASKS

__version__ = "0.1.0"

_HOME = {
    "BasePredictor": "tasks.predictor",
    "Block": "models.convnext",
    "CONFIGS": "models.convnext",
    "ClassificationRecipe": "tasks.classification.recipe",
    "Classifier": "tasks.classification.predict",
    "ConvNeXt": "models.convnext",
    "ConvNeXtConfig": "models.convnext",
    "Dataset": "data.dataset",
    "DetectionRecipe": "tasks.detection.recipe",
    "Detector": "tasks.detection.predict",
    "FeatureMaps": "models.features",
    "GivenData": "data.dataset",
    "IsotropicConvNeXt": "models.isotropic",
    "MODEL_NAMES": "models.create",
    "Model": "models.create",
    "SegmentationRecipe": "tasks.segmentation.recipe",
    "Segmenter": "tasks.segmentation.predict",
    "TASKS": "tasks.table",
    "TTA": "models.tta",
    "TaskSpec": "tasks.spec",
    "UserError": "core.errors",
    "count_macs": "models.create",
    "count_parameters": "models.create",
    "create_detector": "models.detection.build",
    "create_model": "models.create",
    "create_segmenter": "models.segmentation.build",
    "evaluate": "run",
    "find_recipe": "tasks.recipes",
    "fuse": "models.fuse",
    "load_detector": "tasks.detection.weights",
    "load_model": "tasks.classification.weights",
    "load_segmenter": "tasks.segmentation.weights",
    "read_recipe": "tasks.recipes",
    "resume": "run",
    "save_as": "tasks.classification.export",
    "train": "run",
    "write_report": "run",
}

__all__ = [
    "CONFIGS",
    "MODEL_NAMES",
    "TASKS",
    "TTA",
    "BasePredictor",
    "Block",
    "ClassificationRecipe",
    "Classifier",
    "ConvNeXt",
    "ConvNeXtConfig",
    "Dataset",
    "DetectionRecipe",
    "Detector",
    "FeatureMaps",
    "GivenData",
    "IsotropicConvNeXt",
    "Model",
    "SegmentationRecipe",
    "Segmenter",
    "TaskSpec",
    "UserError",
    "__version__",
    "count_macs",
    "count_parameters",
    "create_detector",
    "create_model",
    "create_segmenter",
    "evaluate",
    "find_recipe",
    "fuse",
    "list_models",
    "load",
    "load_detector",
    "load_model",
    "load_segmenter",
    "read_recipe",
    "resume",
    "save_as",
    "train",
    "transform_for",
    "write_report",
]


def load(source: str | Path, *, device: str = "auto", **options: Any) -> BasePredictor[Any]:
    """The predictor for a model of any task: a `Classifier`, a `Detector` or a `Segmenter`.

    Args:
        source: a run's folder, a file of weights (whoever saved it), a name of published weights, hf-hub:owner/name, an
            https address.
        device: auto, cpu, cuda, mps.
        options: what the command line takes for the task's predictions (`tasks/*/options`), as top=3, score=0.7.

    Raises UserError where there is no such model, and TypeError for options that the task does not have.
    """
    spec, file = import_module("convnext.tasks.choose").find_weights(source)
    return spec.predictor(file, spec.predict_options()(device=device, **options))


def list_models(
    pattern: str | list[str] = "*", *, pretrained: bool = False, commercial: bool | None = None
) -> list[str]:
    """The names that `create_model` knows and that match a pattern such as "*v2*".

    With `pretrained`, or where `commercial` is given: those of the published weights that `load_model` knows: all, or
    those that may (True) or may not (False) be used commercially.
    """
    create = import_module("convnext.models.create")
    if pretrained or commercial is not None:
        rows = import_module("convnext.weights.catalog").list_weights(commercial=commercial)
        return create.match_names(pattern, [row.name for row in rows])
    return create.match_names(pattern, create.MODEL_NAMES)


def transform_for(model: Any, *, train: bool = False) -> Callable[[Any], Tensor]:
    """A model's preprocessing as a function: an image (a path, a PIL image, an array, ...) to the tensor that the model
    takes, float32 (3, H, W), normalised.

    Args:
        model: a predictor, what `load_model` returns, its metadata, or a recipe; or a run's folder or another name of a
            model.
        train: as in training: augmented, at random. That takes a recipe, or a run's folder.

    Raises UserError where the augmentation is asked for and not known.
    """
    return import_module("convnext.tasks.transform").transform_for(model, train=train)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'convnext' has no attribute '{name}'")
    return getattr(import_module(f"convnext.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
