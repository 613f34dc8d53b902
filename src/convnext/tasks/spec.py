"""TaskSpec: whatever the rest of the program may ask of a task, in one record.

A task is one package beside this file, with the same file names in each. Its `spec.py` fills the record in without
importing anything heavy, so that help and completion answer at once. To add a task: write such a package, and one line
in `table.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from convnext.data.recognise import Verdict
from convnext.recipes.recipe import Recipe
from convnext.tasks.start import Start, Wish, from_scratch

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor, nn

    from convnext.data.dataset import DataModule
    from convnext.data.splits import Record
    from convnext.recipes.limits import Limits
    from convnext.report.page import TaskReport
    from convnext.report.run_folder import RunFolder
    from convnext.tasks.setup import Setup
    from convnext.weights.files import Metadata
    from convnext.weights.locate import Published, WeightFile

Options = Mapping[str, str]
Figures = dict[str, Any]
"""Figures of an evaluation as evaluation.json holds them: plain JSON values, None where one is undefined."""


class Prediction(Protocol):
    """What a model sees in one image."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        ...

    def summary(self) -> str:
        """In a line, for people."""
        ...

    def plot(self) -> Image:
        """The image with what was found drawn on it."""
        ...

    def save(self, path: str | Path) -> dict[str, Path]:
        """Writes the drawing to `path`, and what else belongs to it beside that; what each file is -> its path."""
        ...


class Predictor(Protocol):
    """A loaded model that predicts images."""

    def predict(self, images: Sequence[Tensor], names: Sequence[str] = ()) -> Sequence[Prediction]:
        """The predictions of some images, uint8 (3, H, W) in RGB each, of any sizes."""
        ...

    def stream(self, images: Any) -> Iterator[Prediction]:
        """The predictions of many images (paths, arrays, ...), one after the other."""
        ...


@dataclass(frozen=True)
class EvaluateOptions:
    """What every task's evaluation takes."""

    split: Literal["auto", "train", "val", "test"] = "auto"
    """The part of the data to evaluate on. auto: what the run held out; of --data the validation part, else all."""
    workers: int = -1
    """Processes that read images; -1: as many as this machine can use."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the device is fast at it."""

    @property
    def opens_data(self) -> bool:
        """Whether the data is opened as that of training is; else the task's `evaluate_suites` finds it."""
        return True

    def problem(self) -> str:
        """What cannot work, as a sentence; empty if nothing."""
        return ""


@dataclass(frozen=True)
class PredictOptions:
    """What every task's prediction takes."""

    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the device is fast at it."""

    def problem(self) -> str:
        """What cannot work, as a sentence; empty if nothing."""
        return ""


@dataclass(frozen=True)
class Texts:
    """A task in words."""

    model: str
    """What a model of the task is called, as "detector"; its plural adds an s."""
    does: str
    """What such a model does, as "finds objects in images: boxes and masks"."""
    data: str
    """What data looks like: a few lines for the help and for messages."""
    examples: tuple[tuple[str, str], ...]
    """Commands that train one, and what they do."""
    goal: str
    """The figure that the best model has the most of, as it stands in the log ("top1")."""
    scratch: str = ""
    """What training from scratch takes, as "about 200 images or more"."""
    papers: str = ""
    """The paper's recipes as a name to try."""


class Collector(Protocol):
    """Takes the predictions of many images, for what is written of all of them together."""

    def add(self, number: int, prediction: Any) -> None:
        """Takes the prediction of image `number`, counted from 0."""
        ...

    def close(self) -> None:
        """All are there: writes what was asked for."""
        ...


@dataclass(frozen=True)
class TaskSpec:
    """A task. A "file" is a `WeightFile`, a "run" the folder that training leaves."""

    name: str
    """As in `--task`, recipe.json, evaluation.json and files of weights: "detect"."""
    texts: Texts

    # Training
    recipe_type: Callable[[], type[Recipe]]
    recipes: Callable[[], Mapping[str, Callable[[], Recipe]]]
    """Its recipes by name; each function's docstring states command, cost, expected result and source."""
    limits: Callable[[], Limits]
    """What the numbers of its recipes may be."""
    recognise: Callable[[str, Options], Verdict]
    """What it makes of a path (and of the `data_options` that were given): mine, nearly, or not mine."""
    open_data: Callable[[str, Options], DataModule[Any]]
    """The data at a path, opened once: its parts are read when they are first asked for."""
    choose_recipe: Callable[[DataModule[Any], WeightFile | None, Options], tuple[Recipe, tuple[str, ...]]]
    """A recipe for data, weights to start from and the `data_options` that were given; and the reasons for it."""
    setup: Callable[[Any, DataModule[Any], torch.device, Record | None], Setup]
    """What a run of a recipe is made of; with a saved split, the images split as they were."""

    # Evaluation and prediction
    evaluate_options: Callable[[], type[EvaluateOptions]]
    evaluate_on: Callable[[WeightFile, Any, DataModule[Any], Recipe | None, Record | None], Figures]
    """The figures of a model on data; with the recipe and split of its run, on what that held out."""
    evaluate_run: Callable[[Path, DataModule[Any], Recipe, Record], Figures]
    """The figures of a run's best model on what it held out; evaluation.json and images are written into its folder."""
    class_counts: Callable[[Any], tuple[str, list[int]]]
    """What is counted ("images", "objects", ...), and how many there are of each class in a data set."""
    draw_samples: Callable[[Any, Sequence[int]], list[Image]]
    """Some images of a data set with their labels drawn on them. Raises BadImage."""
    draw_augmented: Callable[[Any, Any, Sequence[int]], list[Image]]
    """The same as a recipe's training sees them in its first epoch."""
    summary: Callable[[Figures], dict[str, float | None]]
    """The figures that are printed as JSON when a run has ended, by name."""
    headline: Callable[[Figures], str]
    """The same in words."""
    evaluation_text: Callable[[Figures], str]
    """An evaluation's figures for a terminal."""
    predict_options: Callable[[], type[PredictOptions]]
    predictor: Callable[[str | Path | WeightFile, Any], Predictor]
    collector: Callable[[Any], Collector]
    """What its options ask to be written of all predictions together."""
    report: Callable[[RunFolder], TaskReport]
    """Its part of a run's page."""

    # Weights
    metadata_type: Callable[[], type[Metadata]]
    owns: Callable[[Mapping[str, Any]], bool]
    """Whether a file's metadata is of this task; files of before name no task."""
    published: Callable[[], Mapping[str, Published]]
    """Published weights by name."""
    published_text: Callable[[Sequence[Any]], str]
    """A list of published weights for a terminal."""
    inspect: Callable[[WeightFile], tuple[Figures, str]]
    """What a file holds: as JSON values, and for a terminal."""
    load: Callable[[WeightFile], tuple[nn.Module, Metadata]]
    """A model in evaluation mode, on the CPU, and its metadata."""
    save_as: Callable[[Path, Mapping[str, Tensor], Any, str], str]
    """Writes weights in a layout; returns how they are loaded there."""
    transform_for: Callable[[Any, Recipe | None], Callable[[Any], Tensor]]
    """The preprocessing of metadata as a function of one image; with a recipe, that of its training."""

    measure: Callable[[Any, DataModule[Any]], tuple[Recipe, tuple[str, ...]]] = lambda recipe, data: (recipe, ())
    """A recipe with what is measured from the data before training, and in words what that was."""
    start: Callable[[DataModule[Any], Options, Wish], Start] = lambda data, options, wish: from_scratch("")
    """What training on data best starts from, for the `data_options` that were given and what is asked of weights."""
    evaluate_suites: Callable[[WeightFile, Any, str], Figures] | None = None
    """The figures of a model on sets that are laid out in their own ways, below a path; None: it has none."""
    keep: Callable[[Figures, str], Path | None] | None = None
    """Writes figures that a run's page shows besides its evaluation into the run's folder (the source of its file), and
    says where; None where they are none, or the source is no run."""
    compare: Callable[[WeightFile, WeightFile, Any, DataModule[Any], Recipe | None, Record | None], Figures] | None = (
        None
    )
    """Two models on the same images, image by image; None: that is not told of this task."""
    comparison_text: Callable[[Figures], str] | None = None
    """The same for a terminal."""
    marks: tuple[str, ...] = ()
    """Tensors of which every file of the task, whoever saved it, holds one; none: files that no other task claims."""
    data_options: tuple[str, ...] = ()
    """Settings of its recipes that a data set must be opened by, as "labels" or "loader.bands"."""
    draws: bool = False
    """Whether predictions are drawn unless somebody says otherwise."""
    asked: bool = False
    """Whether it takes data only where somebody asks for the task: it would know any images."""
    name_pattern: str = ""
    """A regular expression of names of its published weights, for names that are mistyped."""

    def claims(self, run: RunFolder) -> bool:
        """Whether a run is of this task, by the figures in its log; for runs without recipe and evaluation."""
        return any(self.texts.goal in event for event in run.of("eval"))


FUNCTIONS = {
    "recognise": "setup",
    "open_data": "setup",
    "choose_recipe": "setup",
    "setup": "setup",
    "start": "start",
    "evaluate_on": "evaluate",
    "evaluate_run": "evaluate",
    "class_counts": "samples",
    "draw_samples": "samples",
    "draw_augmented": "samples",
    "summary": "console",
    "headline": "console",
    "evaluation_text": "console",
    "published_text": "console",
    "inspect": "console",
    "predictor": "predict",
    "collector": "predict",
    "report": "report",
    "owns": "recipe",
    "published": "published",
    "load": "weights",
    "save_as": "export",
    "transform_for": "transform",
}
"""A field of TaskSpec -> the module of a task's package that has a function of that name."""
VALUES = {
    "recipe_type": ("recipe", "RECIPE_TYPE"),
    "metadata_type": ("recipe", "METADATA_TYPE"),
    "limits": ("recipe", "LIMITS"),
    "recipes": ("recipes", "RECIPES"),
    "evaluate_options": ("options", "EVALUATE_OPTIONS"),
    "predict_options": ("options", "PREDICT_OPTIONS"),
}
"""A field of TaskSpec -> the module and the name of a value that the field's function gives."""


def task_of_package(package: str, name: str, texts: Texts, **more: Any) -> TaskSpec:
    """A task whose answers stand in a package's modules, as `FUNCTIONS` and `VALUES` say; they are imported when they
    are first asked for. more: the plain fields of TaskSpec (`marks`, `draws`, ...)."""
    functions = {field: function_of(f"{package}.{module}", field) for field, module in FUNCTIONS.items()}
    values = {field: _value(f"{package}.{module}", given) for field, (module, given) in VALUES.items()}
    return TaskSpec(name=name, texts=texts, **functions, **values, **more)


def function_of(module: str, name: str) -> Callable[..., Any]:
    """A function of a module that is imported when it is first called."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(module), name)(*arguments)

    return call


def _value(module: str, name: str) -> Callable[[], Any]:
    return lambda: getattr(import_module(module), name)
