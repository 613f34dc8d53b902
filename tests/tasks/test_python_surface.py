"""The Python surface: `convnext.load`, images in any form, typed results, preprocessing, data sets of one's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import convnext
from convnext.core.errors import UserError
from convnext.core.logs import read_log
from convnext.data.config import InputConfig
from convnext.data.inputs import read_image
from convnext.data.mix import prepare
from convnext.data.preprocess import eval_transform
from convnext.data.segmentation.config import SegmentationInputConfig
from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.models.detection.build import build_detector
from convnext.models.segmentation.build import build_segmenter
from convnext.models.segmentation.config import SegmenterConfig
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.tasks.detection.recipe import DetectionMetadata
from convnext.tasks.segmentation.recipe import SegmentationMetadata
from convnext.weights.files import read_state, save_model
from painted import INPUT, SMALL

CLASSES = ("box", "disc")
TINY = ModelConfig("convnext_atto", 2, depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), layer_scale_init_value=0.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of an untrained model of each task."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    segmenter = SegmenterConfig(TINY, 2, head="mlp", width=8, auxiliary_width=0)
    colours = ((200, 0, 0), (0, 0, 200))
    saved = {
        "classify": (from_config(TINY), ClassificationMetadata(TINY, InputConfig(size=32), CLASSES)),
        "detect": (build_detector(SMALL), DetectionMetadata(SMALL, INPUT, CLASSES, (3, 7))),
        "segment": (
            build_segmenter(segmenter),
            SegmentationMetadata(segmenter, SegmentationInputConfig(32, 64, 0), CLASSES, colours, (4, 9)),
        ),
    }
    for name, (model, metadata) in saved.items():
        save_model(folder / f"{name}.safetensors", model.state_dict(), metadata)
    return {name: folder / f"{name}.safetensors" for name in saved}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


KINDS = {"classify": convnext.Classifier, "detect": convnext.Detector, "segment": convnext.Segmenter}


@pytest.mark.parametrize("name", KINDS)
class TestEveryPredictor:
    """The contract of predictors, whatever the task."""

    def test_load_gives_the_right_one(self, name: str, models: dict[str, Path]) -> None:
        predictor = convnext.load(models[name], device="cpu")
        assert type(predictor) is KINDS[name]
        assert tuple(predictor.metadata.classes) == CLASSES  # type: ignore[attr-defined]

    def test_the_same_image_in_every_form(self, name: str, models: dict[str, Path], photo: Path) -> None:
        predictor: Any = convnext.load(models[name], device="cpu")
        array = np.asarray(Image.open(photo))
        tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)  # as a tensor, channels come first
        forms = [photo, str(photo), photo.read_bytes(), Image.open(photo), array, array / 255, tensor]
        found = [self.content(predictor(form)) for form in forms]
        assert all(entry == found[0] for entry in found)

    def test_many_images(self, name: str, models: dict[str, Path], photo: Path) -> None:
        predictor: Any = convnext.load(models[name], device="cpu")
        one = self.content(predictor(photo))
        several = predictor([photo, Image.open(photo)])
        assert isinstance(several, list)
        assert [self.content(result) for result in several] == [one, one]
        read = []

        def images() -> Iterator[Path]:
            for number in range(100):
                read.append(number)
                yield photo

        stream = predictor(images())
        assert self.content(next(stream)) == one
        assert len(read) <= 2 * predictor.batch_size  # they are read when their turn comes
        assert len(predictor(np.zeros((2, 8, 8, 3), dtype=np.uint8))) == 2

    def test_results_are_typed(self, name: str, models: dict[str, Path], photo: Path, tmp_path: Path) -> None:
        result: Any = convnext.load(models[name], device="cpu")(photo)
        assert result.name == str(photo)
        assert result.to_dict()["name"] == str(photo)
        assert isinstance(result.plot(), Image.Image)
        written = result.save(tmp_path / "out" / "drawn.png")
        for path in written.values():
            with Image.open(path) as drawn:
                assert drawn.size[0] > 0
        assert type(result).__name__ in repr(result)
        if importlib.util.find_spec("pandas"):
            assert len(result.to_pandas()) == len(result.rows())
        else:
            with pytest.raises(UserError, match="pip install pandas"):
                result.to_pandas()

    @pytest.mark.parametrize(
        ("wrong", "kind"),
        [
            ("absent.png", FileNotFoundError),
            (np.zeros((3, 4)), None),
            (np.full((4, 4, 3), 7.0), ValueError),
            (3, ValueError),
        ],
    )
    def test_wrong_images_get_a_sentence(
        self, name: str, models: dict[str, Path], wrong: Any, kind: type[Exception] | None
    ) -> None:
        predictor: Any = convnext.load(models[name], device="cpu")
        if kind is None:  # a grey image
            predictor(wrong)
            return
        with pytest.raises(UserError) as error:
            predictor(wrong)
        assert isinstance(error.value, kind)

    @staticmethod
    def content(result: Any) -> Any:
        return {key: value for key, value in result.to_dict().items() if key != "name"}


def test_options_of_a_task(models: dict[str, Path], photo: Path) -> None:
    assert len(convnext.load(models["classify"], device="cpu", top=1)(photo)) == 1
    assert len(convnext.Classifier(models["classify"], device="cpu")(photo, top=2)) == 2
    some = convnext.Detector(models["detect"], device="cpu")(photo, score=0.0)
    assert all(some[i].score >= some[i + 1].score for i in range(len(some) - 1))
    with pytest.raises(TypeError, match="score"):
        convnext.load(models["classify"], score=0.5)


def test_a_label_map_in_the_datas_convention(models: dict[str, Path], photo: Path, tmp_path: Path) -> None:
    result = convnext.Segmenter(models["segment"], device="cpu")(photo)
    with Image.open(result.save(tmp_path / "x.png")["labels"]) as label_map:
        written = np.asarray(label_map)
    assert set(np.unique(written)) <= {4, 9}
    assert ((written == 9) == (result.labels.numpy() == 1)).all()


def test_transform_for(models: dict[str, Path], photo: Path) -> None:
    expected = prepare(eval_transform(read_image(photo), InputConfig(size=32))[None], InputConfig(size=32))[0]
    loaded = convnext.load_model(models["classify"])
    for model in (models["classify"], loaded, loaded.metadata, convnext.load(models["classify"])):
        assert torch.equal(convnext.transform_for(model)(photo), expected)
    recipe = convnext.find_recipe("cifar10")
    augmented = convnext.transform_for(recipe, train=True)
    torch.manual_seed(0)
    one, two = augmented(photo), augmented(photo)
    torch.manual_seed(0)
    assert torch.equal(augmented(photo), one)
    assert one.shape == two.shape == (3, 32, 32)
    assert not torch.equal(one, two)
    assert convnext.transform_for(models["detect"])(photo).shape == (3, 64, 96)
    assert convnext.transform_for(models["segment"])(photo).shape == (3, 32, 48)
    with pytest.raises(UserError, match="give one, or a run's folder"):
        convnext.transform_for(models["classify"], train=True)
    with pytest.raises(UserError, match="does not say how its images are prepared"):
        convnext.transform_for(torch.nn.Linear(1, 1))


class Stripes:
    """A data set of one's own: nothing but what the protocol asks for."""

    classes = ("across", "down")

    def __init__(self, count: int) -> None:
        self.targets = torch.arange(count) % 2

    def __len__(self) -> int:
        return len(self.targets)

    def name(self, index: int) -> str:
        return f"stripes {index}"

    def read(self, index: int) -> Tensor:
        lines = (torch.arange(32) // 4 % 2 * 255).to(torch.uint8)
        image = lines.expand(32, 32) if self.targets[index] else lines[:, None].expand(32, 32)
        return image.expand(3, 32, 32).contiguous()


def test_data_of_ones_own(tmp_path: Path) -> None:
    plain: Any = convnext.find_recipe("cifar10")
    recipe = replace(
        plain,
        model=replace(plain.model, depths=(1, 1, 1, 1), dims=(8, 8, 8, 8)),
        schedule=replace(plain.schedule, epochs=3.0, warmup_epochs=0.0),
        loop=replace(plain.loop, global_batch=8, eval_epochs=0.0),
        loader=replace(plain.loader, workers=0),
        ema=replace(plain.ema, decay=0.0),
    )
    data = convnext.GivenData(Stripes(32), Stripes(8))
    run = convnext.train(recipe, tmp_path / "run", data=data)
    start = read_log(run / "log.jsonl")[0]
    assert (start["train_images"], start["val_images"], start["held_out"]) == (32, 8, True)
    assert convnext.evaluate(run, data=data)["n"] == 8
    convnext.resume(run, data=data)
    alone = convnext.train(recipe, tmp_path / "alone", data=convnext.GivenData(Stripes(16)))
    assert read_log(alone / "log.jsonl")[0]["held_out"] is False


class Stub(torch.nn.Module):
    """A module of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = torch.nn.Conv2d(3, 4, 8, stride=8), torch.nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).square().mean(dim=(2, 3)))


class Net(Stub):
    def block_list(self) -> list[torch.nn.Module]:
        return []

    def depth_ids(self, *, blocks_per_group: int = 3) -> dict[str, int]:
        return {name: 0 for name, _ in self.named_parameters()}


def test_a_module_of_ones_own(tmp_path: Path) -> None:
    plain: Any = convnext.find_recipe("cifar10")
    recipe = replace(
        plain,
        schedule=replace(plain.schedule, epochs=2.0, warmup_epochs=0.0),
        optim=replace(plain.optim, name="adamw"),
        loop=replace(plain.loop, global_batch=8, eval_epochs=0.0),
        loader=replace(plain.loader, workers=0),
    )
    data, net = convnext.GivenData(Stripes(16), Stripes(8)), Net()
    before = net.head.weight.clone()
    run = convnext.train(recipe, tmp_path / "run", data=data, model=net)
    assert not torch.equal(net.head.weight, before)
    assert set(read_state(run / "best.safetensors")) == set(net.state_dict())
    convnext.resume(run, data=data, model=Net())
    with pytest.raises(UserError, match="Stub has no block_list and no depth_ids"):
        convnext.train(recipe, tmp_path / "other", data=data, model=Stub())


def test_list_models() -> None:
    assert "convnextv2_tiny" in convnext.list_models("*v2*")
    assert all("v2" in name for name in convnext.list_models("*v2*"))
    assert set(convnext.list_models()) == set(convnext.MODEL_NAMES)
    assert "convnext_tiny.fb_in1k" in convnext.list_models("convnext_tiny*", pretrained=True)
