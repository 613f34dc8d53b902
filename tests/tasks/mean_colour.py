"""A fourth task in one file: an image -> its mean colour. Data: a folder of images with colours.csv (name, r, g, b)."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from convnext.core.atomic import write_text
from convnext.core.console import pairs
from convnext.data.batch import Loaded, Work
from convnext.data.config import LoaderConfig
from convnext.data.decode import decode
from convnext.data.recognise import Mine, NotMine, Verdict
from convnext.data.splits import Record, Splits, drawn_splits, the_part
from convnext.recipes.limits import Limits
from convnext.recipes.recipe import Recipe
from convnext.report.html import decimal, section, text
from convnext.report.page import TaskReport
from convnext.report.run_folder import RunFolder
from convnext.tasks.base_task import BaseTask
from convnext.tasks.evaluation import bad_images_of, part_to_evaluate, skipped, visit_all
from convnext.tasks.predictor import BasePredictor, BaseResult, NoCollector
from convnext.tasks.setup import Setup, bad_images, facts
from convnext.tasks.spec import EvaluateOptions, PredictOptions, TaskSpec, Texts
from convnext.training.config import EmaConfig, LoopConfig, OptimConfig, ScheduleConfig
from convnext.weights.files import load_strictly, metadata_from, save_model
from convnext.weights.locate import WeightFile, locate

NAME = "mean-colour"


# Data


class Colours:
    """Images and their mean colours."""

    classes = ("red", "green", "blue")

    def __init__(self, root: Path, rows: Sequence[tuple[str, Tensor]]) -> None:
        self.root, self.rows = root, list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        return self.rows[index][0]

    def read(self, index: int) -> Tensor:
        name = self.name(index)
        return decode((self.root / name).read_bytes(), name=name, max_pixels=10**6)

    def selected(self, indices: Tensor) -> Colours:
        return Colours(self.root, [self.rows[i] for i in indices.tolist()])


class ColourData:
    def __init__(self, data: str) -> None:
        self.data = data
        with (Path(data) / "colours.csv").open() as file:
            rows = [(row["name"], torch.tensor([float(row[c]) for c in "rgb"])) for row in csv.DictReader(file)]
        self.whole = Colours(Path(data), rows)

    def splits(self, loader: LoaderConfig, *, seed: int, saved: Record | None = None) -> Splits[Colours]:
        found = f"{len(self.whole)} images and their colours"
        return drawn_splits(self.whole, saved, self.data, found=found, seed=seed, fraction=loader.val_fraction)

    def for_evaluation(self, loader: LoaderConfig, split: str = "") -> Colours:
        return the_part(split, {"train": self.whole}, self.data) if split else self.whole


def recognise(data: str, options: Mapping[str, str]) -> Verdict:
    return Mine("it has a colours.csv") if (Path(data) / "colours.csv").is_file() else NotMine()


class Batch(NamedTuple):
    images: Tensor
    targets: Tensor


def load(work: Work, *, dataset: Colours) -> Loaded[Batch]:
    indices = work.indices.tolist()
    images = torch.stack([dataset.read(i).float().mean(dim=(1, 2)) / 255 for i in indices])
    return Loaded(Batch(images, torch.stack([dataset.rows[i][1] for i in indices])), len(indices), [])


# Recipe, model, training


@dataclass(frozen=True)
class Model:
    scale: float = 1.0


@dataclass(frozen=True)
class ColourRecipe(Recipe):
    task: ClassVar[str] = NAME
    model: Model = field(default_factory=Model)
    input: Model = field(default_factory=Model)


@dataclass(frozen=True)
class ColourMetadata:
    task: ClassVar[str] = NAME
    model: Model
    classes: tuple[str, ...] = Colours.classes
    note: str = ""


def small() -> ColourRecipe:
    """Learns the colours.

    convnext train small/mean_colour --data COLOURS

    Expect an error near 0.
    """
    return ColourRecipe(
        "small/mean_colour",
        loader=LoaderConfig(workers=0, val_fraction=0.25),
        optim=OptimConfig(lr=0.1),
        schedule=ScheduleConfig(epochs=60.0, warmup_epochs=0.0),
        ema=EmaConfig(decay=0.0),
        loop=LoopConfig(global_batch=4, log_steps=1, device="cpu", precision="float32", eval_epochs=5.0),
    )


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, means: Tensor) -> Tensor:
        return self.linear(means)

    def block_list(self) -> list[nn.Module]:
        return [self.linear]

    def depth_ids(self, *, blocks_per_group: int = 3) -> dict[str, int]:
        return dict.fromkeys(dict(self.named_parameters()), 0)


@dataclass(frozen=True, kw_only=True)
class ColourTask(BaseTask[Colours, Batch]):
    goal = "closeness"
    image_size = 8

    def load(self) -> Callable[[Work], Loaded[Batch]]:
        return partial(load, dataset=self.train)

    def losses(self, model: nn.Module, batch: Batch, *, step: int, micro: int) -> Mapping[str, Tensor]:
        return {"colour": (model(batch.images) - batch.targets).square().mean()}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        return {"closeness": 1 - error_of(model, self.val, self.loader)}


@torch.inference_mode()
def error_of(model: nn.Module, dataset: Colours, loader: LoaderConfig) -> float:
    """Mean absolute error of a channel."""
    errors: list[Tensor] = []

    def visit(batch: Batch) -> int:
        errors.append((model(batch.images) - batch.targets).abs().mean(dim=1))
        return len(batch.images)

    bad = bad_images_of(dataset)
    load_all = partial(load, dataset=dataset)
    visit_all(load_all, visit, num_images=len(dataset), batch_size=4, loader=loader, image_size=8, bad=bad)
    return float(torch.cat(errors).mean())


def setup(recipe: ColourRecipe, data: ColourData, device: torch.device, saved: Record | None) -> Setup:
    splits = data.splits(recipe.loader, seed=recipe.loop.seed, saved=saved)

    def task(plan: Any) -> ColourTask:
        return ColourTask(
            train=splits.train,
            val=splits.val,
            loader=recipe.loader,
            device=device,
            seed=recipe.loop.seed,
            bad=bad_images(splits, recipe),
        )

    return Setup(
        num_images=len(splits.train),
        split=splits.record,
        build=lambda init: (Net().to(device), []),
        task=task,
        metadata=ColourMetadata(recipe.model),
        name="a linear layer",
        facts=facts(splits, train=len(splits.train), classes=3),
        notes=(splits.note,),
        warnings=lambda plan: [],
    )


# Evaluation, prediction, report, weights


def load_net(source: str | Path | WeightFile) -> tuple[Net, ColourMetadata]:
    file, net = locate(source), Net()
    load_strictly(net, dict(file.state), file.source)
    return net.eval(), metadata_from(file.values or {}, ColourMetadata, file.file)


def evaluate_on(
    file: Any, options: Any, data: ColourData, recipe: Recipe | None, saved: Record | None
) -> dict[str, Any]:
    dataset, held_out = part_to_evaluate(data, LoaderConfig(), recipe, saved)
    error = error_of(load_net(file)[0], dataset, LoaderConfig(workers=0))
    entry = {"task": NAME, "model": "a linear layer", "data": str(data.data), "held_out": held_out}
    return {**entry, "n": len(dataset), "error": error, "skipped": skipped(bad_images_of(dataset))}


def evaluate_run(run: Path, data: ColourData, recipe: Recipe, saved: Record) -> dict[str, Any]:
    figures = evaluate_on(run, None, data, recipe, saved)
    write_text(run / "evaluation.json", json.dumps(figures))
    return figures


class ColourResult(BaseResult):
    def __init__(self, image: Tensor, name: str, colour: tuple[int, ...]) -> None:
        super().__init__(image, name)
        self.colour = colour

    def rows(self) -> list[dict[str, Any]]:
        return [{"channel": name, "value": value} for name, value in zip(Colours.classes, self.colour, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "colour": list(self.colour)}

    def summary(self) -> str:
        return "#{:02x}{:02x}{:02x}".format(*self.colour)

    def plot(self) -> Image.Image:
        return Image.new("RGB", (16, 16), self.colour)


class ColourPredictor(BasePredictor[ColourResult]):
    def __init__(self, model: Any, options: Any) -> None:
        self.model, self.metadata = load_net(model)

    def predict(self, images: Sequence[Tensor], names: Sequence[str] = ()) -> list[ColourResult]:
        means = torch.stack([image.float().mean(dim=(1, 2)) / 255 for image in images])
        found = (255 * self.model(means)).round().clamp(0, 255).int().tolist()
        return [ColourResult(image, names[i], tuple(found[i])) for i, image in enumerate(images)]

    def __call__(self, images: Any) -> Any:
        return self._call(images, self.predict)


def report(run: RunFolder) -> TaskReport:
    error = (run.evaluation or {}).get("error")
    headline = f"<p>Mean error {decimal(error)}</p>"
    return TaskReport("a linear layer", headline, (section("Colours", f"<p>{text('three channels')}</p>"),))


def save_as(out: Path, state: Mapping[str, Tensor], metadata: Any, layout: str) -> str:
    save_model(out, state, metadata)
    return f'convnext.load("{out}")'


MEAN_COLOUR = TaskSpec(
    name=NAME,
    texts=Texts(
        model="colourist",
        does="says the mean colour of an image",
        data="a folder of images with colours.csv (name, r, g, b)",
        examples=(("train --data colours", "a folder with colours.csv"),),
        goal="closeness",
    ),
    recipe_type=lambda: ColourRecipe,
    recipes=lambda: {"small/mean_colour": small},
    limits=lambda: Limits(numbers={"model.scale": "(0, inf)", "input.scale": "(0, inf)"}, positive=()),
    recognise=recognise,
    open_data=lambda data, options: ColourData(data),
    choose_recipe=lambda data, init, options: (replace(small(), data=str(data.data)), ("the only recipe",)),
    setup=setup,
    evaluate_options=lambda: EvaluateOptions,
    evaluate_on=evaluate_on,
    evaluate_run=evaluate_run,
    class_counts=lambda dataset: ("images", [len(dataset)] * 3),
    draw_samples=lambda dataset, indices: [Image.fromarray(dataset.read(i).permute(1, 2, 0).numpy()) for i in indices],
    draw_augmented=lambda recipe, dataset, indices: MEAN_COLOUR.draw_samples(dataset, indices),
    summary=lambda figures: {"error": figures["error"]},
    headline=lambda figures: f"mean error {figures['error']:.3f}",
    evaluation_text=lambda figures: "\n".join(pairs([("error", f"{figures['error']:.3f}")])),
    predict_options=lambda: PredictOptions,
    predictor=ColourPredictor,
    collector=lambda options: NoCollector(),
    report=report,
    metadata_type=lambda: ColourMetadata,
    owns=lambda values: values.get("task") == NAME,
    published=dict,
    published_text=lambda rows: "none",
    inspect=lambda file: ({"task": NAME}, "a colourist"),
    load=load_net,
    save_as=save_as,
    transform_for=lambda metadata, recipe: lambda image: image,
    marks=("linear.weight",),
    draws=True,
)
