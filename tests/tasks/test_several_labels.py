"""Several labels an image: the task's contract, and from a table to a page, predictions and evaluations."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from task_contract import TaskContract
from torch import Tensor, nn

import convnext
from convnext.cli.main import main
from convnext.core.errors import UserError
from convnext.data.classification.config import AugmentConfig
from convnext.data.config import InputConfig, LoaderConfig, MixConfig
from convnext.data.loader import BadImages
from convnext.data.mix import smoothed_labels
from convnext.models.config import ModelConfig
from convnext.models.create import create_model, from_config
from convnext.tasks.classification.choose import UNBALANCED, warnings
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.tasks.classification.setup import start_at_frequencies
from convnext.tasks.classification.small_recipes import cifar10
from convnext.tasks.classification.task import ClassificationTask
from convnext.weights.files import read_state, save_model
from convnext.weights.locate import locate
from shapes import TINY


class Dots:
    """24 images with up to three bright channels, a label each."""

    classes = ("red", "green", "blue")

    def __init__(self) -> None:
        numbers = torch.arange(24)
        self.targets = torch.stack([numbers % 2, (numbers // 2) % 2, (numbers // 4) % 2], dim=1).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.targets)

    def read(self, index: int) -> Tensor:
        return (40 + 160 * self.targets[index])[:, None, None].expand(3, 32, 32).contiguous()

    def name(self, index: int) -> str:
        return f"dots-{index}"


class TestLabels(TaskContract):
    def task(self, seed: int = 0) -> ClassificationTask:
        return ClassificationTask(
            train=Dots(),
            val=Dots(),
            input=InputConfig(size=32),
            augment=AugmentConfig(crop="padded", randaugment_ops=0),
            mixing=MixConfig(),
            loader=LoaderConfig(workers=0),
            device=torch.device("cpu"),
            seed=seed,
            eval_batch=10,
            bad=BadImages(24, max_bad=0.1),
        )

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(4, 8, 8, 8), num_classes=3)

    def test_figures_are_those_of_several_labels(self) -> None:
        figures = self.task().evaluate(self.model().eval())
        assert self.task().goal == "mAP"
        assert {"loss", "mAP", "F1"} <= set(figures)
        assert not {"top1", "top5"} & set(figures)


def test_smoothing_keeps_the_mean_of_a_labels_targets() -> None:
    targets = torch.tensor([[1, 0], [0, 0], [1, 0], [0, 1]])
    often = targets.float().mean(0)
    soft = smoothed_labels(targets, often, 0.2)
    assert soft[0].tolist() == pytest.approx([0.9, 0.05])
    assert soft.mean(0).tolist() == pytest.approx(often.tolist())
    assert torch.equal(smoothed_labels(targets, often, 0.0), targets.float())


def test_a_new_classifier_begins_with_how_often_labels_occur() -> None:
    model, data = create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(4, 8, 8, 8), num_classes=3), Dots()
    data.targets[:, 2] = 0
    start_at_frequencies(model, data)
    assert isinstance(model.head, nn.Linear)
    assert model.head.bias.sigmoid().tolist() == pytest.approx([12.5 / 25, 12.5 / 25, 0.5 / 25])


@pytest.mark.parametrize(
    ("each", "warned"), [([200, 3], True), ([30, 3], True), ([29, 3], False), ([5, 0], False), ([10, 0], True)]
)
def test_unbalanced_classes_are_warned_of(each: list[int], warned: bool) -> None:
    recipe = replace(cifar10(), init="x")
    found = warnings(recipe, images=1000, classes=2, side=32, warmup_steps=1, total_steps=1000, each=each)
    text = f"the most frequent has {each[0]} images, the rarest {each[1]}"
    assert any(text in warning for warning in found) == warned
    assert UNBALANCED == 10


def drawn(folder: Path, *, sign: str = "|", count: int = 48) -> Path:
    """Images of up to three marks, and labels.csv."""
    marks = {"red": (4, 4), "green": (34, 4), "blue": (4, 34)}
    (folder / "images").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image_id", "labels"])
        for i in range(count):
            image = Image.new("RGB", (64, 64), (20, 20, i))
            here = [name for place, name in enumerate(marks) if (i >> place) & 1]
            for name in here:
                x, y = marks[name]
                ImageDraw.Draw(image).rectangle((x, y, x + 24, y + 24), fill=name)
            image.save(folder / "images" / f"{i:03}.png")
            table.writerow([f"{i:03}", sign.join(here)])
    return folder


SHORT = [*TINY, "--schedule.epochs", "2", "--init", "none"]


@pytest.mark.slow
def test_from_a_table_of_several_labels_to_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    drawn(tmp_path / "data")
    assert main(["train", "--data", "data", "--out", "run", *SHORT]) == 0
    said = capsys.readouterr()
    assert "an image can have several labels, or none" in said.err
    assert "48 images with labels out of 3" in said.err
    assert "mAP" in said.err
    assert "top-1" not in said.err
    page = (tmp_path / "run" / "report.html").read_text()
    assert "mean average precision" in page
    assert "chosen for the best F1 on these images" in page
    assert "Top-1" not in page
    values = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert [entry["name"] for entry in values["per_class"]] == ["blue", "green", "red"]
    kept = tuple(entry["threshold"] for entry in values["per_class"])
    saved = locate("run").values or {}
    assert (saved["multi_label"], tuple(saved["thresholds"])) == (True, kept)

    assert main(["evaluate", "run", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert [entry["threshold"] for entry in again["per_class"]] == pytest.approx(list(kept))
    assert again["mAP"] == pytest.approx(values["mAP"])
    assert main(["evaluate", "run", "--data", "data/labels.csv"]) == 0
    assert "mean average precision" in capsys.readouterr().out

    assert main(["predict", "data/images/000.png", "data/images/007.png", "--model", "run", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    for result in results:
        assert all(row["probability"] >= kept[row["index"]] - 1e-6 for row in result["labels"])
    assert main(["weights", "inspect", "run"]) == 0
    assert "an image can have several, or none; with thresholds" in capsys.readouterr().out

    for name, image in (("red", "001"), ("green", "002")):
        (tmp_path / "classes" / name).mkdir(parents=True)
        (tmp_path / "data" / "images" / f"{image}.png").rename(tmp_path / "classes" / name / "a.png")
    assert main(["evaluate", "run", "--data", "classes"]) == 1
    assert "The model gives several labels for an image, and classes has one class" in capsys.readouterr().err


class Cut(Exception):
    """The end of a run that is stopped."""


@pytest.mark.slow
def test_a_run_of_several_labels_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    drawn(tmp_path / "data")
    assert main(["train", "--data", "data", "--out", "whole", *SHORT]) == 0
    losses = ClassificationTask.losses

    def stopped(self: ClassificationTask, *args: Any, step: int, micro: int) -> Any:
        if step == 3:
            raise Cut
        return losses(self, *args, step=step, micro=micro)

    with monkeypatch.context() as patched:
        patched.setattr(ClassificationTask, "losses", stopped)
        with pytest.raises(Cut):
            main(["train", "--data", "data", "--out", "cut", *SHORT])
    assert not (tmp_path / "cut" / "report.html").exists()
    assert main(["train", "--resume", "cut"]) == 0
    whole, cut = (read_state(Path(name) / "best.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert locate("cut").values == locate("whole").values
    assert (locate("cut").values or {})["thresholds"]


@pytest.mark.slow
def test_columns_that_were_named_stand_in_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = drawn(tmp_path / "data", count=24)
    rows = [f"{i:03}.png,{'ab'[i % 2]},{'xy'[i // 2 % 2]}" for i in range(24)]
    (folder / "labels.csv").write_text("\n".join(["photo,sex,side", *rows]))
    (tmp_path / "sex").mkdir()  # a path of the same name changes nothing
    assert main(["train", "--data", "data", "--out", "run", *SHORT]) == 1
    assert "which of 'sex', 'side' holds the classes? --table.label" in capsys.readouterr().err
    assert main(["train", "--data", "data", "--out", "run", *SHORT, "--table.label", "sex"]) == 0
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["table"]["label"] == "sex"
    assert main(["evaluate", "run"]) == 0
    assert main(["evaluate", "run", "--data", "data", "--table.label", "sex"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "run", "--data", "data"]) == 1
    assert "--table.label" in capsys.readouterr().err


def test_a_model_that_gives_no_label_says_the_likeliest(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig("convnext_atto", num_classes=2, depths=(1, 1, 1, 1), dims=(4, 8, 8, 8))
    metadata = ClassificationMetadata(config, InputConfig(size=32), ("cat", "dog"), multi_label=True)
    state = dict(from_config(config).state_dict())
    image = torch.zeros((3, 40, 40), dtype=torch.uint8)
    found = []
    for name, thresholds in (("none", (1.0, 1.0)), ("all", (0.0, 0.0)), ("half", ())):
        file = tmp_path / f"{name}.safetensors"
        save_model(file, state, replace(metadata, thresholds=thresholds))
        found.append(convnext.Classifier(file)(image))
    none, every, half = found
    assert (len(none), none.to_dict()["labels"]) == (0, [])
    assert none.summary().startswith("no label (the likeliest: ")
    assert none.plot().size
    assert len(every) == 2
    assert [p.probability for p in every] == sorted((p.probability for p in every), reverse=True)
    assert all(p.probability >= 0.5 for p in half)
    assert every.probabilities.sum() != pytest.approx(1.0)


def test_other_values_of_per_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--table\.per-image is auto, one or several, not 'many'"):
        convnext.TASKS["classify"].open_data(str(tmp_path), {"table.per_image": "many"})


@pytest.mark.slow
def test_balanced_classes_and_what_they_are_not_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = drawn(tmp_path / "data", count=40)
    assert main(["train", "--data", "data", "--out", "run", *SHORT, "--balance"]) == 1
    assert "--balance goes with one class for each image" in capsys.readouterr().err
    rows = [f"{i:03}.png,{'rare' if i < 3 else 'often'}" for i in range(40)]
    (folder / "labels.csv").write_text("\n".join(["image,label", *rows]))
    assert main(["train", "--data", "data", "--out", "plain", *SHORT]) == 0
    said = capsys.readouterr().err
    assert "the most frequent class is 'often' with 37 images, the rarest 'rare' with 3" in said
    assert "The classes are unbalanced" in said
    assert "--balance" in said
    assert main(["train", "--data", "data", "--out", "run", *SHORT, "--balance"]) == 0
    assert "unbalanced" not in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["balance"] is True
