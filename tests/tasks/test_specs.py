"""The contract of a task: what every TaskSpec has to answer, and how data finds its task."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import convnext
from convnext.cli.completion import words
from convnext.cli.main import help_text
from convnext.cli.train import Train
from convnext.core.errors import UserError
from convnext.data.config import LoaderConfig
from convnext.data.recognise import Mine, Nearly, NotMine
from convnext.recipes.recipe import Recipe
from convnext.tasks.choose import check_data, recognise
from convnext.tasks.recipes import find_recipe
from convnext.tasks.spec import FUNCTIONS, VALUES, EvaluateOptions, PredictOptions, TaskSpec
from convnext.tasks.table import TASKS
from labelmaps import labelled
from painted import painted
from shapes import draw


@pytest.mark.parametrize("spec", TASKS.values(), ids=TASKS)
class TestEverySpec:
    """What the rest of the program relies on."""

    def test_every_answer_is_there(self, spec: TaskSpec) -> None:
        package = type(spec.recipe_type()(name="x")).__module__.rpartition(".")[0]
        for name, module in FUNCTIONS.items():
            assert callable(getattr(import_module(f"{package}.{module}"), name)), name
        for module, name in VALUES.values():
            assert getattr(import_module(f"{package}.{module}"), name) is not None

    def test_names_agree(self, spec: TaskSpec) -> None:
        assert TASKS[spec.name] is spec
        assert spec.recipe_type().task == spec.name
        assert spec.metadata_type().task == spec.name
        assert issubclass(spec.recipe_type(), Recipe)
        assert issubclass(spec.evaluate_options(), EvaluateOptions)
        assert issubclass(spec.predict_options(), PredictOptions)
        assert all(recipe().task == spec.name for recipe in spec.recipes().values())
        assert {field.name for field in dataclasses.fields(spec.recipe_type())} >= {
            name.split(".")[0] for name in spec.data_options
        }

    def test_it_stands_in_help_and_completion(self, spec: TaskSpec) -> None:
        assert f"{spec.texts.model:<11} {spec.texts.does}" in help_text()
        assert f"Data for a {spec.texts.model}: {spec.texts.data}" in (Train.__doc__ or "")
        assert f"--{spec.texts.model}s" in words(["weights", "list"])
        assert set(spec.recipes()) <= set(words(["train"]))
        assert set(spec.published()) <= set(words(["weights", "inspect"]))

    def test_files_are_told_apart(self, spec: TaskSpec) -> None:
        assert spec.owns({"task": spec.name})
        assert not any(other.owns({"task": spec.name}) for other in TASKS.values() if other is not spec)
        assert len([other for other in TASKS.values() if not other.marks]) == 1

    def test_nothing_is_no_data(self, spec: TaskSpec, tmp_path: Path) -> None:
        assert not isinstance(spec.recognise(str(tmp_path), {}), Mine)
        assert isinstance(spec.recognise(str(tmp_path / "absent"), {}), NotMine)
        with pytest.raises(UserError, match="absent"):
            spec.open_data(str(tmp_path / "absent"), {})


def photos(root: Path) -> Path:
    for shape in ("circle", "square"):
        (root / shape).mkdir(parents=True)
        for number in range(3):
            draw(root / shape / f"{number}.png", shape, number)
    return root


def data_of(name: str, root: Path) -> Path:
    if name == "detect":
        root.mkdir()
        return painted(root)
    return labelled(root) if name == "segment" else photos(root)


@pytest.mark.parametrize("name", ["classify", "detect", "segment"])
def test_data_finds_its_task_and_no_other(name: str, tmp_path: Path) -> None:
    data = str(data_of(name, tmp_path / "data"))
    assert recognise(data, {})[0].name == name
    unasked = [spec for spec in TASKS.values() if not spec.asked]
    assert [spec.name for spec in unasked if isinstance(spec.recognise(data, {}), Mine)] == [name]
    for other in unasked:
        if other.name != name:
            with pytest.raises(UserError, match=f"looks like data for a {TASKS[name].texts.model}"):
                check_data(other, data, {})
            with pytest.raises(UserError, match=f"--task {other.name} trains a {other.texts.model}"):
                recognise(data, {}, task=other.name)


@pytest.mark.parametrize(
    ("folders", "missing"),
    [
        (("images", "masken"), "--folders classes"),
        (("cat",), "a single class, 'cat'"),
        (("Training", "Testing"), None),
        (("train2017", "val2017"), None),
    ],
)
def test_what_is_nearly_data_never_falls_through_to_class_folders(
    folders: tuple[str, ...], missing: str | None, tmp_path: Path
) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir()
        for number in range(3):
            draw(tmp_path / folder / f"{number}.jpg", "circle", number)
    with pytest.raises(UserError, match=missing or "no data set that is known here: it holds") as refused:
        recognise(str(tmp_path), {})
    for spec in TASKS.values():
        assert f"for a {spec.texts.model}: {spec.texts.data}" in str(refused.value)


@pytest.mark.parametrize("folders", [("image", "mask"), ("images", "labels"), ("Images", "Annotations")])
def test_photos_in_a_folder_of_label_maps_are_refused_as_such(folders: tuple[str, ...], tmp_path: Path) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir()
        for number in range(3):
            draw(tmp_path / folder / f"{number}.jpg", "circle", number)
    spec, _ = recognise(str(tmp_path), {})
    assert spec.name == "segment"
    with pytest.raises(UserError, match="JPEG, which changes values"):
        _ = spec.open_data(str(tmp_path), {}).splits(LoaderConfig(), seed=0).train


def test_data_of_two_tasks_is_asked_for(tmp_path: Path) -> None:
    data = photos(tmp_path / "both")
    (tmp_path / "coco").mkdir()
    file = next((painted(tmp_path / "coco") / "annotations").glob("*train.json"))
    (data / "objects.json").write_text(file.read_text())
    with pytest.raises(UserError, match=r"several tasks .*Say which: --task classify or --task detect"):
        recognise(str(data), {})
    assert recognise(str(data), {}, task="classify")[0].name == "classify"
    with pytest.raises(UserError, match=r"no task 'clasify'\. Did you mean 'classify'"):
        recognise(str(data), {}, task="clasify")


def test_several_annotation_files_are_nearly_data(tmp_path: Path) -> None:
    painted(tmp_path)
    for name in ("first", "second"):  # train.json and val.json would be the parts
        (tmp_path / f"{name}.json").write_text((tmp_path / "annotations/instances_train.json").read_text())
    (tmp_path / "annotations").rename(tmp_path / "elsewhere")
    verdict = TASKS["detect"].recognise(str(tmp_path), {})
    assert isinstance(verdict, Nearly)
    assert "name one of them" in verdict.missing


def test_the_table_is_light() -> None:
    code = (
        "import sys, convnext.tasks.table, convnext.cli.main; convnext.cli.main.help_text(); "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_public_name_is_a_subpackage() -> None:
    package = Path(convnext.__file__).parent
    modules = {path.stem for path in package.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert not set(convnext.__all__) & modules
    assert all(getattr(convnext, name) is not None for name in convnext.__all__)
    import_module("convnext.training.loop")
    assert callable(convnext.train)


def test_a_recipe_under_its_old_name() -> None:
    assert find_recipe("ade20k/light_convnext_tiny") == find_recipe("ade20k/mlp_convnext_tiny")
