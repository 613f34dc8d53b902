"""Robustness suites and corrupted images: whose classes count, what is in folders, what is said where they are odd."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from convnext.core.errors import UserError
from convnext.data.classification.open import ClassificationData
from convnext.data.config import InputConfig, LoaderConfig
from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.tasks.classification import robustness, suites
from convnext.tasks.classification.compare import comparison_text, paired
from convnext.tasks.classification.console import evaluation_text
from convnext.tasks.classification.evaluate import evaluate_on
from convnext.tasks.classification.options import ClassificationEvaluateOptions
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.tasks.classification.robustness import Judged, judge, keep, real_labels, right_among, suite_figures
from convnext.tasks.classification.robustness_text import robustness_section, robustness_text
from convnext.tasks.classification.suites import SUITES, check_classes, classes_of, find_suite
from convnext.weights.files import save_model
from convnext.weights.imagenet import imagenet_classes
from convnext.weights.locate import locate
from shapes import draw

FACTS = Path(__file__).parents[3] / "shared" / "facts" / "subsets"
IMAGENET = imagenet_classes()


class Knowing(nn.Module):
    """Reads the class off the image: the red of its first pixel, and the green as hundreds of classes."""

    def __init__(self, shift: int = 0) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))
        self.shift = shift

    def forward(self, images: Tensor) -> Tensor:
        pixels = (images[:, :2, 0, 0] * 255).round().long()
        index = (pixels[:, 0] + 250 * pixels[:, 1] + self.shift) % 1000
        return nn.functional.one_hot(index, 1000).float() * self.one


def knowing(shift: int = 0) -> Any:
    input = InputConfig(size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    metadata = ClassificationMetadata(ModelConfig("convnext_atto"), input, IMAGENET.names, class_dirs=IMAGENET.ids)
    return SimpleNamespace(model=Knowing(shift), metadata=metadata)


def image_of(index: int, path: Path, border: int = 0) -> None:
    """An image whose class `Knowing` reads, within a border of another colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    inner = Image.new("RGB", (32, 32), (index % 250, index // 250, 9))
    framed = Image.new("RGB", (32 + 2 * border, 32 + 2 * border), (255, 0, 0))
    framed.paste(inner, (border, border))
    framed.save(path)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `suite_figures` loads knows the answers."""
    loaded = knowing()
    monkeypatch.setattr(robustness, "load_model", lambda *_args, **_options: loaded)
    return loaded


FILE: Any = SimpleNamespace(source="model")


def asked(*names: str) -> ClassificationEvaluateOptions:
    return ClassificationEvaluateOptions(suite=names, workers=0)  # type: ignore[arg-type]


# Classes


def test_the_classes_are_those_of_the_facts():
    if not FACTS.is_dir():
        pytest.skip("the facts (../shared/facts) are not here")
    for suite, file in (("imagenet-a", "imagenet_a.tsv"), ("imagenet-r", "imagenet_r.tsv")):
        rows = [line.split()[:2] for line in (FACTS / file).read_text().splitlines() if not line.startswith("#")]
        assert classes_of(suite) == {wnid: (int(index),) for index, wnid in rows}
        assert all(IMAGENET.ids[int(index)] == wnid for index, wnid in rows)
    objects = [line.split() for line in (FACTS / "objectnet.tsv").read_text().splitlines() if not line.startswith("#")]
    ours = classes_of("objectnet")
    assert sorted(index for of_class in ours.values() for index in of_class) == sorted(int(row[0]) for row in objects)
    meaning = {int(row[0]): row[2] for row in objects}
    assert all(len({meaning[index] for index in of_class}) == 1 for of_class in ours.values())
    folders = (FACTS / "objectnet_folders.tsv").read_text().splitlines()[1:]
    assert set(ours) == {line.split("\t")[0] for line in folders}


def test_how_many_classes():
    counts = {"imagenet-a": 200, "imagenet-r": 200, "sketch": 1000, "v2": 1000, "objectnet": 113, "c": 1000}
    assert {name: len(classes_of(name)) for name in counts} == counts
    assert classes_of("v2")["10"] == (10,)  # numbers, which sorting as text would mix up
    assert len(set(classes_of("imagenet-a")) & set(classes_of("imagenet-r"))) == 86


def test_logits_of_other_classes_are_left_out():
    """Classes 1 and 5 of six: class 3 may be likelier than both."""
    right = right_among([(1,), (5,)], torch.tensor([0, 1, 0]))
    logits = torch.tensor([[0, 2, 0, 9, 0, 1], [0, 2, 0, 9, 0, 1], [0, 1, 0, 9, 0, 2.0]])
    assert right(logits, torch.tensor([0, 1, 2])).tolist() == [True, False, False]


def test_several_outputs_can_mean_one_class():
    """The likeliest of all mapped outputs says the class (ObjectNet): not the sum of them."""
    right = right_among([(1, 2), (5,)], torch.tensor([0, 1]))
    logits = torch.tensor([[0, 2.0, 2.5, 0, 0, 3], [0, 2.0, 2.5, 0, 0, 3]])
    assert right(logits, torch.tensor([0, 1])).tolist() == [False, True]


# Folders


def test_a_suite_from_its_folders(tmp_path, model):
    """Two images of each class of ImageNet-A, one of which is another class's: half are right, by name or by root."""
    for wnid, (index,) in classes_of("imagenet-a").items():
        image_of(index, tmp_path / "imagenet-a" / wnid / "0.png")
        image_of((index + 1) % 1000, tmp_path / "imagenet-a" / wnid / "1.png")
    figures = suite_figures(FILE, asked("imagenet-a"), str(tmp_path))
    found = figures["suites"]["imagenet-a"]
    assert (found["n"], found["classes"]) == (400, 200)
    # a neighbour that is no class of the suite has no logit: any class may then be guessed, the first of equals
    assert 0.5 <= found["top1"] <= 0.51
    assert suite_figures(FILE, asked("imagenet-a"), str(tmp_path / "imagenet-a"))["suites"] == figures["suites"]
    assert "ImageNet-A" in robustness_text(figures)


def test_objectnets_border_is_cut_off(tmp_path, model):
    for folder, places in classes_of("objectnet").items():
        image_of(places[-1], tmp_path / "objectnet-1.0" / "images" / folder / "0.png", border=2)
    (tmp_path / "objectnet-1.0" / "images" / "a_class_of_its_own").mkdir()
    found = suite_figures(FILE, asked("objectnet"), str(tmp_path))["suites"]["objectnet"]
    assert (found["n"], found["top1"]) == (113, 1.0)


def test_v2_is_numbered(tmp_path, model):
    for index in range(1000):
        image_of(index, tmp_path / "imagenetv2-matched-frequency-format-val" / str(index) / "0.png")
    assert suite_figures(FILE, asked("v2"), str(tmp_path))["suites"]["v2"]["top1"] == 1.0


def test_real_takes_any_of_the_labels(tmp_path, model):
    for number, index in enumerate((3, 4, 5, 6), start=1):
        image_of(index, tmp_path / "val" / "exact.png")
        (tmp_path / "val" / "exact.png").rename(tmp_path / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")
    (tmp_path / "real.json").write_text(json.dumps([[3], [9, 4], [], [7]]))
    found = suite_figures(FILE, asked("real"), str(tmp_path))["suites"]["real"]
    assert (found["n"], found["top1"], found["without_label"]) == (3, pytest.approx(2 / 3), 1)
    assert "1 images without a label left out" in robustness_text({"model": "m", "suites": {"real": found}})


def test_imagenet_c_from_its_folders(tmp_path, model, monkeypatch):
    """Errors by kind and severity, the archive's groups as folders, and mCE; without one of the kinds, no mean."""
    few = {wnid: (index,) for index, wnid in enumerate(IMAGENET.ids[:2])}
    monkeypatch.setattr(suites, "classes_of", lambda suite: few)
    for kind in suites.CORRUPTIONS["c"]:
        for severity in range(1, 6):
            for index, wnid in enumerate(few):
                wrong = 5 if severity == 5 and index else index
                image_of(wrong, tmp_path / "imagenet-c" / "group" / kind / str(severity) / wnid / "0.png")
    found = suite_figures(FILE, asked("c"), str(tmp_path))["suites"]["c"]
    assert found["errors"]["fog"] == [0, 0, 0, 0, 0.5]
    assert (found["mean_error"], found["generated"]) == (pytest.approx(0.1), False)
    assert found["mce"] == pytest.approx(sum(0.1 / error for error in robustness_alexnet()) / 15)
    text = robustness_text({"model": "m", "suites": {"c": found}})
    assert "mCE" in text
    assert "approximate" not in text  # these are the published files
    import shutil

    shutil.rmtree(tmp_path / "imagenet-c" / "group" / "fog")
    found = suite_figures(FILE, asked("c"), str(tmp_path))["suites"]["c"]
    assert found["mce"] is found["mean_error"] is None
    (tmp_path / "imagenet-c" / "group" / "snow" / "3").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="has no folder 3"):
        suite_figures(FILE, asked("c"), str(tmp_path))


def robustness_alexnet() -> list[float]:
    from convnext.metrics.corruption import ALEXNET

    return list(ALEXNET.values())


def test_what_is_wrong_with_folders_is_told(tmp_path, model):
    with pytest.raises(UserError, match="Where is ImageNet-A"):
        find_suite("imagenet-a", "")
    with pytest.raises(UserError, match="no folder imagenet-a: folders of its classes are looked for, as n01498041"):
        suite_figures(FILE, asked("imagenet-a"), str(tmp_path))
    with pytest.raises(UserError, match="folders as gaussian_noise/1/n01440764"):
        find_suite("c", str(tmp_path))
    names = list(classes_of("imagenet-a"))
    for wnid in names[:-2]:
        (tmp_path / "imagenet-a" / wnid).mkdir(parents=True)
    with pytest.raises(UserError, match="lacks 2 of the 200 classes of ImageNet-A"):
        check_classes("imagenet-a", tmp_path / "imagenet-a")
    for wnid in (*names, "dog\x1b[31m"):
        (tmp_path / "imagenet-a" / wnid).mkdir(exist_ok=True)
    with pytest.raises(UserError, match="1 folders that are no class") as told:
        check_classes("imagenet-a", tmp_path / "imagenet-a")
    assert "\x1b" not in str(told.value)
    (tmp_path / "imagenet-a" / "dog\x1b[31m").rmdir()
    with pytest.raises(UserError, match="holds no images"):
        suite_figures(FILE, asked("imagenet-a"), str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", "[[1000]]", "[[true]]", '{"a": 1}', "[1, 2]"])
def test_labels_that_are_none(tmp_path, content):
    (tmp_path / "real.json").write_text(content)
    with pytest.raises(UserError, match=r"real\.json"):
        real_labels(tmp_path)


def test_no_real_labels(tmp_path):
    with pytest.raises(UserError, match="There is no"):
        real_labels(tmp_path / "val")


def test_a_model_of_other_classes(tmp_path, monkeypatch):
    for wnid in classes_of("imagenet-r"):
        (tmp_path / "imagenet-r" / wnid).mkdir(parents=True)
    loaded = knowing()
    loaded.metadata = ClassificationMetadata(ModelConfig("convnext_atto"), InputConfig(size=32), ("a", "b"))
    monkeypatch.setattr(robustness, "load_model", lambda *_args, **_options: loaded)
    with pytest.raises(UserError, match="--corruptions evaluates on corrupted images of any data"):
        suite_figures(FILE, asked("imagenet-r"), str(tmp_path))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"suite": ("c",), "corruptions": ("fog",)}, "not both"),
        ({"corruptions": ("foggy",)}, "no corruption 'foggy'"),
        ({"severities": (0,)}, "--severities are 1 to 5, not 0"),
        ({"severities": ()}, "--severities are 1 to 5, not none"),
        ({"limit": -1}, "--limit is 0 or more"),
        ({"limit": 5}, "go with --corruptions"),
        ({"suite": ("c",), "severities": (1,)}, "go with --corruptions"),
        ({"frost": "somewhere"}, "go with --corruptions"),
        ({"suite": ("c",), "split": "val"}, "--split goes with"),
    ],
)
def test_options_that_cannot_be(options, words):
    assert words in ClassificationEvaluateOptions(**options).problem()


# Corrupted images of any data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a run's, with a small untrained classifier of two classes; and its data beside it."""
    place = tmp_path_factory.mktemp("place")
    for shape in ("circle", "square"):
        (place / "data" / shape).mkdir(parents=True)
        for number in range(6):
            draw(place / "data" / shape / f"{number}.png", shape, number)
    config = ModelConfig("convnext_atto", num_classes=2, depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), stem_stride=2)
    torch.manual_seed(0)
    model, input = from_config(config), InputConfig(size=32)
    (place / "run").mkdir()
    (place / "run" / "recipe.json").write_text("{}")
    metadata = ClassificationMetadata(config, input, ("circle", "square"))
    save_model(place / "run" / "best.safetensors", model.state_dict(), metadata)
    return place / "run"


def test_corrupted_figures(run):
    data = ClassificationData(run.parent / "data")
    options = ClassificationEvaluateOptions(corruptions=("main",), workers=0, severities=(1, 2, 3, 4, 5))
    figures = evaluate_on(locate(run), options, data)
    assert set(figures["errors"]) == set(suites.MAIN)
    assert all(len(row) == 5 and all(0 <= error <= 1 for error in row) for row in figures["errors"].values())
    assert figures["mce"] is figures["ce"] is None  # AlexNet's errors are of ImageNet
    assert figures["mean_error"] is not None
    assert (figures["generated"], figures["frost"], figures["clean"]["n"]) == (True, "drawn", 12)
    assert evaluate_on(locate(run), options, data) == figures  # seeded by image
    text = evaluation_text(figures)
    for words in ("severity 5", "mean error", "none: AlexNet's errors are of ImageNet-1K", "drawn, in place of"):
        assert words in text
    written = keep(figures, str(run))
    assert written == run / "robustness.json"
    page = robustness_section(SimpleNamespace(path=run))  # type: ignore[arg-type]
    assert "On images that training did not show" in page
    assert page.count("<figure") == 1
    assert "gaussian noise" in page
    again = keep({"suites": {"v2": Judged(1, 2).values()}, "model": "m"}, str(run))
    assert again is not None
    both = json.loads(again.read_text())
    assert {"errors", "suites"} <= set(both)  # one does not throw the other away


def test_some_severities_and_some_images(run):
    options = ClassificationEvaluateOptions(corruptions=("fog",), workers=0, severities=(2,), limit=4)
    figures = evaluate_on(locate(run), options, ClassificationData(run.parent / "data"))
    assert figures["n"] == 4
    assert [error is None for error in figures["errors"]["fog"]] == [True, False, True, True, True]
    assert figures["mean_error"] is None
    assert "none: it takes all main" in evaluation_text(figures)


def test_what_is_no_run_is_not_written_to(tmp_path):
    assert keep({"suites": {}}, str(tmp_path)) is None
    assert keep({"top1": 1}, str(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []
    assert robustness_section(SimpleNamespace(path=tmp_path)) == ""  # type: ignore[arg-type]


def test_damaged_figures_do_not_break_the_page(tmp_path):
    for content in (
        "{",
        "[]",
        '{"errors": {}, "mce": "x", "clean": 3, "n": {}}',
        "{}",
        '{"errors": {"fog": [NaN, "x", null]}}',
        '{"suites": {"v2": 3, "evil": {}}}',
    ):
        (tmp_path / "robustness.json").write_text(content)
        robustness_section(SimpleNamespace(path=tmp_path))  # type: ignore[arg-type]


def test_images_that_are_changed_are_those_of_the_model(run):
    """What corrupts an image gets it as the model takes it: cropped to its size."""
    sizes = []

    def change(image: Tensor, index: int) -> Tensor:
        sizes.append((tuple(image.shape), index))
        return image

    dataset = ClassificationData(run.parent / "data").for_evaluation(LoaderConfig())
    options = ClassificationEvaluateOptions(workers=0)
    loaded = robustness.load_model(run)
    right = robustness.by_targets(dataset)
    input = loaded.metadata.input
    clean = judge(loaded, dataset, right, input=input, options=options)
    assert judge(loaded, dataset, right, input=input, options=options, change=change) == clean
    assert sizes == [((3, 32, 32), index) for index in range(12)]


def test_outputs_that_are_no_numbers_count_as_wrong_and_are_told(run, capsys):
    dataset = ClassificationData(run.parent / "data").for_evaluation(LoaderConfig())
    loaded = robustness.load_model(run)

    class Broken(nn.Module):
        """Gives no numbers for the first image of a batch."""

        def __init__(self, all_of_them: bool) -> None:
            super().__init__()
            self.one, self.all = nn.Parameter(torch.ones(1)), all_of_them

        def forward(self, images: Tensor) -> Tensor:
            logits = torch.tensor([[1.0, 0.0]]).repeat(len(images), 1) * self.one
            logits[: None if self.all else 1] = float("nan")
            return logits

    options, input = ClassificationEvaluateOptions(workers=0, batch=4), loaded.metadata.input
    broken: Any = SimpleNamespace(model=Broken(False), metadata=loaded.metadata)
    found = judge(
        broken, dataset, lambda logits, indices: torch.ones(len(logits), dtype=torch.bool), input=input, options=options
    )
    assert (found.right, found.n) == (9, 12)
    assert "3 images gave no numbers; they count as wrong" in capsys.readouterr().err
    broken.model = Broken(True)
    with pytest.raises(UserError, match="not numbers"):
        judge(broken, dataset, robustness.by_targets(dataset), input=input, options=options)


def test_which_models_are_of_imagenet():
    """By the ids of folders, or by classes that are these ids or their names: as published, and as trained here."""
    config, input = ModelConfig("convnext_atto"), InputConfig()
    for classes, dirs in ((IMAGENET.names, IMAGENET.ids), (IMAGENET.ids, ()), (IMAGENET.names, ())):
        assert robustness._is_imagenet(
            SimpleNamespace(metadata=ClassificationMetadata(config, input, classes, class_dirs=dirs))
        )  # type: ignore[arg-type]
    other = (*IMAGENET.ids[1:], IMAGENET.ids[0])
    assert not robustness._is_imagenet(SimpleNamespace(metadata=ClassificationMetadata(config, input, other)))  # type: ignore[arg-type]


def test_suites_have_titles_and_folders():
    for name, suite in SUITES.items():
        assert suite.title
        assert suite.folders
        assert suite.kind in ("classes", "real", "corrupted"), name


# Two models on the same images


def test_paired_by_hand():
    """Ten images: both right about four, the first alone about three, the second alone about one."""
    a = torch.tensor([1, 1, 1, 1, 1, 1, 1, 0, 0, 0], dtype=torch.bool)
    b = torch.tensor([1, 1, 1, 1, 0, 0, 0, 1, 0, 0], dtype=torch.bool)
    found = paired(a, b)
    assert (found["n"], found["only_first"], found["only_second"]) == (10, 3, 1)
    assert found["top1"] == [0.7, 0.5]
    assert found["difference"] == pytest.approx(0.2)
    assert found["p"] == pytest.approx(10 / 16)  # 3 or more of 4, or as few: 2 * 5 / 16
    assert found["interval"][0] < 0.2 < found["interval"][1]
    assert paired(a, a)["p"] == 1.0
    assert paired(a, a)["interval"] == [0.0, 0.0]
    with pytest.raises(UserError, match="no image"):
        paired(a[:0], b[:0])


def test_the_interval_covers_and_pairs_are_worth_more_than_two_intervals():
    chance = torch.Generator().manual_seed(0)
    hard = torch.rand(4000, generator=chance)
    a, b = hard < 0.80, hard < 0.79  # the same images are hard for both
    found = paired(a, b)
    assert found["p"] < 1e-6
    assert found["interval"][0] > 0
    (low, _), (_, high) = found["top1_intervals"]
    assert low < high  # two intervals side by side could not tell
    assert found["interval"][1] - found["interval"][0] == pytest.approx(
        2 * 1.96 * (0.01 * 0.99 / 4000) ** 0.5, rel=0.15
    )


def test_comparison_in_words():
    a = torch.ones(100, dtype=torch.bool)
    b = a.clone()
    b[:30] = False
    figures = {"models": ["one", "two"], "data": "d", "held_out": False, "skipped": 2, **paired(a, b)}
    text = comparison_text(figures)
    assert "the first is better, beyond chance" in text
    assert "+30.00 points" in text
    assert "WAS TRAINED on these images" in text
    assert "2 unreadable" in text
    assert "cannot be told apart" in comparison_text({**figures, **paired(a, a)})
