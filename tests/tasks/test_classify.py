"""Classification: the task contract, and its own figures by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from task_contract import TaskContract
from torch import Tensor, nn

from convnext.core.errors import UserError
from convnext.data.classification.config import AugmentConfig
from convnext.data.config import InputConfig, LoaderConfig, MixConfig
from convnext.data.decode import BadImage
from convnext.data.loader import BadImages
from convnext.models.create import create_model
from convnext.ops.losses import soft_cross_entropy
from convnext.tasks.classification.evaluate import evaluate
from convnext.tasks.classification.task import ClassificationTask


class Shades:
    """24 grey images in three shades, one of them unreadable if asked."""

    def __init__(self, count: int = 24, broken: tuple[int, ...] = ()) -> None:
        self.classes = ("dark", "middle", "light")
        self.targets = torch.arange(count) % 3
        self.broken = broken

    def __len__(self) -> int:
        return len(self.targets)

    def read(self, index: int) -> Tensor:
        if index in self.broken:
            raise BadImage(self.name(index), "broken on purpose")
        return torch.full((3, 32, 32), 40 + 80 * int(self.targets[index]), dtype=torch.uint8)

    def name(self, index: int) -> str:
        return f"shade-{index}"


class Fixed(nn.Module):
    """Answers by brightness, with a certainty that can be chosen."""

    def __init__(self, *, sure: float = 5.0, shift: int = 0) -> None:
        super().__init__()
        self.sure, self.shift = sure, shift

    def forward(self, x: Tensor) -> Tensor:
        level = x.mean(dim=(1, 2, 3))
        shade = (level > 0.3).long() + (level > 0.6).long()
        return self.sure * nn.functional.one_hot((shade + self.shift) % 3, 3).float()


PLAIN = InputConfig(size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def make_task(source: Shades | None = None, seed: int = 0) -> ClassificationTask:
    source = source or Shades()
    return ClassificationTask(
        train=source,
        val=source,
        input=PLAIN,
        augment=AugmentConfig(crop="padded", randaugment_ops=0),
        mixing=MixConfig(),
        loader=LoaderConfig(workers=0),
        device=torch.device("cpu"),
        seed=seed,
        eval_batch=10,
        bad=BadImages(len(source), max_bad=0.1),
    )


class TestClassify(TaskContract):
    def task(self, seed: int = 0) -> ClassificationTask:
        return make_task(seed=seed)

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(4, 8, 8, 8), num_classes=3)

    def test_mixing_differs_between_steps_and_micro_batches(self) -> None:
        task, model = self.task(), self.model().eval()
        batch = self.take(task, 1)[0]
        places = ((3, 0), (3, 1), (4, 0))
        losses = {task.losses(model, batch, step=s, micro=m)["class"].item() for s, m in places}
        assert len(losses) == 3


def test_soft_cross_entropy_by_hand() -> None:
    logits, targets = torch.tensor([[0.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    expected = (0.6931471805599453 + 2.1269280110429727) / 2
    assert soft_cross_entropy(logits, targets).item() == pytest.approx(expected, rel=1e-6)


def test_soft_cross_entropy_of_half_logits_is_computed_in_float32() -> None:
    logits = torch.tensor([[10.0, 10.03]], dtype=torch.bfloat16)
    targets = torch.tensor([[0.95, 0.05]])
    loss = soft_cross_entropy(logits, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(soft_cross_entropy(logits.double(), targets).item(), rel=1e-6)


def run_evaluation(model: nn.Module, source: Shades, bad: BadImages | None = None, **settings: Any) -> Any:
    settings = {"batch_size": 7, **settings}
    return evaluate(
        model,
        source,
        input=PLAIN,
        loader=LoaderConfig(workers=0),
        device=torch.device("cpu"),
        bad=bad or BadImages(len(source), max_bad=0.1),
        **settings,
    )


def test_every_image_counts_once() -> None:
    result = run_evaluation(Fixed(), Shades()).result
    assert (result.n, result.top1) == (24, 1.0)
    assert result.confusion.tolist() == [[8, 0, 0], [0, 8, 0], [0, 0, 8]]


def test_the_surest_mistakes_come_first() -> None:
    evaluation = run_evaluation(Fixed(shift=1), Shades(), mistakes=5)
    assert evaluation.result.top1 == 0.0
    assert len(evaluation.mistakes) == 5
    for wrong in evaluation.mistakes:
        assert wrong.prediction == (wrong.index + 1) % 3
        assert wrong.confidence == pytest.approx(torch.tensor([5.0, 0.0, 0.0]).softmax(0)[0].item())


def test_unreadable_images_are_left_out_and_named() -> None:
    bad = BadImages(24, max_bad=0.1)
    result = run_evaluation(Fixed(), Shades(broken=(3, 20)), bad).result
    assert (result.n, result.top1) == (22, 1.0)
    assert set(bad.found) == {"shade-3", "shade-20"}


def test_too_many_unreadable_images_are_an_error() -> None:
    with pytest.raises(UserError, match=r"--loader\.max-bad"):
        run_evaluation(Fixed(), Shades(broken=tuple(range(0, 24, 3))))


def test_training_goes_on_around_an_unreadable_image() -> None:
    task = make_task(Shades(broken=(5,)))
    batches = task.batches(start_step=0, global_batch=8, micro_batch=8)
    for _ in range(3):
        batch = next(batches)
        assert len(batch.images) == 8
        assert 5 not in batch.indices
    assert set(task.bad.found) == {"shade-5"}
