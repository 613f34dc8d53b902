"""Detection: batches and losses as the loop relies on them, and figures that are those of COCO's tools."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from task_contract import TaskContract
from torch import Tensor

from convnext.core.errors import UserError
from convnext.data.config import LoaderConfig
from convnext.data.detection.coco import CocoDataset
from convnext.data.detection.config import DetectionAugmentConfig
from convnext.data.detection.open import DetectionData
from convnext.data.detection.transforms import DetectionBatch, image_batch
from convnext.data.loader import BadImages
from convnext.metrics.coco_ap import Kind, coco_figures, results_of
from convnext.models.detection.build import build_detector
from convnext.models.detection.rcnn import RCNN
from convnext.models.tta import NO_TTA, TTA
from convnext.ops.instances import Detections
from convnext.tasks.detection.evaluate import Evaluation, detect, evaluate, log_figures
from convnext.tasks.detection.task import DetectionTask
from painted import INPUT, LIMIT, NAMES, SMALL, Knowing, paint, painted, validation

CPU = torch.device("cpu")
AUGMENT = DetectionAugmentConfig(
    shorts=(48, 64), long=96, crop_shorts=(48, 64), crop_sides=(32, 64), drop_empty=False, min_side=1
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted(tmp_path_factory.mktemp("painted"))


@pytest.fixture(scope="module")
def source(data: Path) -> CocoDataset:
    return validation(data)


@pytest.fixture(scope="module")
def model() -> RCNN:
    return detector().eval()


def detector(*, masks: bool = True) -> RCNN:
    """Fresh, but with outputs large enough that regions move and scores differ."""
    torch.manual_seed(0)
    found = build_detector(replace(SMALL, masks=masks))
    with torch.no_grad():
        for head in found.roi_head.box_stages:
            head.fc_cls.weight.normal_(std=0.3)
            head.fc_reg.weight.normal_(std=0.3)
    return found


def make_task(data: Path, *, seed: int = 0) -> DetectionTask:
    opened = DetectionData(data).splits(LoaderConfig(max_pixels=LIMIT), seed=0)
    return DetectionTask(
        train=opened.train,
        val=opened.val,
        input=INPUT,
        augment=AUGMENT,
        loader=LoaderConfig(workers=0),
        device=CPU,
        seed=seed,
        eval_batch=2,
        bad=BadImages(12, max_bad=0.1),
    )


def take(task: DetectionTask, count: int, *, start: int = 0) -> list[DetectionBatch]:
    batches = task.batches(start_step=start, global_batch=4, micro_batch=2)
    return [next(batches) for _ in range(count)]


def same(one: DetectionBatch, two: DetectionBatch) -> bool:
    objects = zip(one.instances, two.instances, strict=True)
    return (
        one.images.shape == two.images.shape
        and all(torch.equal(a, b) for a, b in zip(one[:3], two[:3], strict=True))
        and torch.equal(one.indices, two.indices)
        and all(
            (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))
            for x, y in objects
            for a, b in zip(x, y, strict=True)
        )
    )


def run_evaluation(model: Any, source: CocoDataset, bad: BadImages | None = None, **settings: Any) -> Evaluation:
    settings = {"batch_size": 2, **settings}
    return evaluate(
        model,
        source,
        input=INPUT,
        loader=LoaderConfig(workers=0),
        device=CPU,
        bad=bad or BadImages(len(source), max_bad=0.1),
        **settings,
    )


def look(model: RCNN, pictures: list[Tensor], views: TTA = NO_TTA) -> list[Detections]:
    with torch.inference_mode():
        batch = image_batch(pictures, INPUT if views.single else None)
        return detect(model, batch, input=INPUT, device=CPU, tta=views)


def assert_alike(one: Detections, two: Detections, *, masks: float = 0.995) -> None:
    """The same objects in the same order; masks agree in that share of pixels (a threshold is between)."""
    assert torch.equal(one.labels, two.labels)
    torch.testing.assert_close(one.scores, two.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.boxes, two.boxes, rtol=1e-4, atol=1e-3)
    assert (one.masks == two.masks).float().mean() >= masks


class TestDetectionTask(TaskContract):
    @pytest.fixture(autouse=True)
    def where(self, data: Path) -> None:
        self.data = data

    def task(self, seed: int = 0) -> DetectionTask:
        return make_task(self.data, seed=seed)

    def model(self) -> RCNN:
        return detector()


# Training


def test_batches_are_a_pure_function_of_the_step(data: Path) -> None:
    whole, tail = take(make_task(data), 12), take(make_task(data), 6, start=3)
    assert all(same(one, two) for one, two in zip(whole[6:], tail, strict=True))
    assert not same(whole[0], whole[4])  # the next epoch is another
    assert not same(whole[0], take(make_task(data, seed=1), 1)[0])


def test_the_losses_are_finite_numbers_with_gradients_in_float32_and_bfloat16(data: Path) -> None:
    task, model = make_task(data), detector()
    for dtype in (torch.float32, torch.bfloat16):
        model.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            losses = task.losses(model, take(task, 1)[0], step=0, micro=0)
        assert set(losses) == {"rpn_class", "rpn_box", "class", "box", "mask"}
        assert all(loss.shape == () and loss.dtype == torch.float32 for loss in losses.values())
        torch.stack(list(losses.values())).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_losses_follow_from_the_global_generator_alone(data: Path) -> None:
    """It is in every checkpoint: a resumed run draws the regions that it would have drawn."""
    task, model = make_task(data), detector()
    batch = take(task, 1)[0]
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        values.append({name: loss.item() for name, loss in task.losses(model, batch, step=0, micro=0).items()})
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_pictures_without_objects_teach_what_is_background(tmp_path: Path) -> None:
    paint(tmp_path, "train", range(4), empty=(0, 1, 2))
    task = make_task(tmp_path)
    assert len(task.train) + len(task.val) == 4
    model = detector()
    for batch in take(task, 6):
        losses = task.losses(model, batch, step=0, micro=0)
        assert all(loss.isfinite() for loss in losses.values())
        if not any(len(instances.boxes) for instances in batch.instances):
            assert (losses["box"], losses["mask"], losses["rpn_box"]) == (0, 0, 0)
            assert losses["class"] > 0
            torch.stack(list(losses.values())).sum().backward()
            assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
            return
    pytest.fail("no batch was without objects")


def test_training_goes_on_around_an_unreadable_picture(tmp_path: Path) -> None:
    data = painted(tmp_path)
    (data / "images" / "train" / "03.png").write_bytes(b"no picture")
    task = make_task(data)
    for batch in take(task, 12):
        assert len(batch.images) == len(batch.instances) == 2
        assert 3 not in batch.indices
    assert set(task.bad.found) == {"03.png"}


def test_a_task_evaluates_by_its_goal_and_touches_nothing(data: Path) -> None:
    task, model = make_task(data), detector().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    figures = task.evaluate(model)
    assert set(figures) == {f"{kind}_{name}" for kind in ("box", "mask") for name in ("AP", "AP50", "AP75")}
    assert task.goal in figures
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# Evaluation


def test_figures_are_those_of_cocos_own_code(source: CocoDataset) -> None:
    knowing = Knowing(source, wrong=(9,))
    found = run_evaluation(knowing, source)
    by_hand = [
        entry for n in range(4) for entry in results_of(source.image_id(n), knowing.seen(8 + n), source.category_ids)
    ]
    assert found.results == by_hand
    truth = source.truth()
    box, mask = (coco_figures(truth, by_hand, kind=kind, evaluator="pycocotools") for kind in get_args(Kind))
    assert (found.box, found.mask) == (box, mask)
    for figures in (box, mask):
        assert [entry.name for entry in figures.per_class] == list(NAMES)
    assert 0 < found.box.AP < 1  # type: ignore[operator]
    assert found.mask.AP != found.box.AP  # type: ignore[union-attr]
    assert log_figures(found)["box_AP75"] == found.box.AP75
    perfect = run_evaluation(Knowing(source), source)
    assert perfect.mask is not None
    assert perfect.mask.AP == 1.0
    assert perfect.images_per_second > 0


def test_without_masks_there_are_boxes_figures_alone(source: CocoDataset, tmp_path: Path) -> None:
    found = run_evaluation(Knowing(source, masks=False), source)
    assert found.mask is None
    assert set(log_figures(found)) == {"box_AP", "box_AP50", "box_AP75"}
    assert not any("segmentation" in entry for entry in found.results)
    paint(tmp_path, "val", range(8, 12), masks=False)
    of_data = run_evaluation(Knowing(source, masks=True), validation(tmp_path))
    assert of_data.mask is None
    assert of_data.box == found.box


def test_unreadable_pictures_are_left_out_named_and_their_objects_missed(tmp_path: Path) -> None:
    source = validation(painted(tmp_path))
    knowing = Knowing(source)
    (tmp_path / "images" / "val" / "09.png").write_bytes(b"\x89PNG cut")
    bad = BadImages(4, max_bad=0.1)
    found = run_evaluation(knowing, source, bad)
    assert set(bad.found) == {"09.png"}
    assert {entry["image_id"] for entry in found.results} == {18, 20, 21}
    assert found.mask is not None
    assert found.mask.AR100 is not None
    assert found.mask.AR100 < 1
    for name in ("08", "10", "11"):
        (tmp_path / "images" / "val" / f"{name}.png").unlink()
    with pytest.raises(UserError, match=r"--loader\.max-bad"):
        run_evaluation(knowing, source)


def test_how_pictures_are_batched_does_not_matter(model: RCNN, source: CocoDataset) -> None:
    pictures = [source.read(i) for i in range(4)]
    one_by_one = [look(model, [picture])[0] for picture in pictures]
    assert len({tuple(found.scores.tolist()) for found in one_by_one}) == 4
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        for place, found in zip(order, look(model, [pictures[i] for i in order]), strict=True):
            assert_alike(found, one_by_one[place])


def test_bfloat16_finds_about_the_same(model: RCNN, source: CocoDataset) -> None:
    exact, rough = (run_evaluation(model, source, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    for entry in rough.results:
        assert 0 <= entry["score"] <= 1
        x, y, width, height = entry["bbox"]
        assert 0 <= x <= x + width <= 96.001
        assert 0 <= y <= y + height <= 64.001
    best = [max(entry["score"] for entry in found.results) for found in (exact, rough)]
    assert best[0] == pytest.approx(best[1], abs=0.05)
    assert best[0] != best[1]
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = look(model, [source.read(0)])
    assert (found.boxes.dtype, found.scores.dtype) == (torch.float32, torch.float32)  # pixels need more digits


# Several views


@pytest.mark.parametrize("masks", [True, False])
def test_a_single_view_judged_as_one_of_several_is_the_plain_answer(source: CocoDataset, masks: bool) -> None:
    model, picture = detector(masks=masks).eval(), source.read(1)
    plain, viewed = look(model, [picture])[0], look(model, [picture], TTA((1.0, 1.0)))[0]
    assert len(plain.boxes) > 10
    if masks:
        assert_alike(viewed, plain)
    else:
        assert plain.masks is viewed.masks is None
        torch.testing.assert_close(viewed.boxes, plain.boxes, rtol=0, atol=1e-4)


def test_a_mirrored_picture_gives_mirrored_objects(model: RCNN, source: CocoDataset) -> None:
    picture, views = source.read(3), TTA((1.0, 0.5), flip=True)
    plain, mirrored = look(model, [picture], views)[0], look(model, [picture.flip(2)], views)[0]
    assert plain.masks is not None
    x0, y0, x1, y1 = plain.boxes.unbind(1)
    expected = plain._replace(boxes=torch.stack([96 - x1, y0, 96 - x0, y1], 1), masks=plain.masks.flip(2))
    assert_alike(mirrored, expected, masks=0.99)
    once = look(model, [picture.flip(2)])[0]
    assert not torch.equal(once.labels[:20], look(model, [picture])[0].labels[:20])  # alone, it is no mirror


def test_several_views_in_an_evaluation(source: CocoDataset, model: RCNN) -> None:
    once, often = run_evaluation(model, source), run_evaluation(model, source, tta=TTA((0.5, 1.0), flip=True))
    assert {entry["image_id"] for entry in often.results} == {18, 19, 20, 21}
    assert [e["score"] for e in often.results] != [e["score"] for e in once.results]
    assert often.mask is not None
