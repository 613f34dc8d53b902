"""Figures of several labels an image: by hand, against scikit-learn, over ranks, undefined ones, thresholds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convnext.core.errors import UserError
from convnext.metrics.multilabel import MultiLabelScores, average_precision, best_threshold

TARGETS = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
PROBABILITIES = torch.tensor([[0.9, 0.2, 0.1], [0.4, 0.8, 0.1], [0.6, 0.6, 0.1], [0.1, 0.7, 0.1]])


def scores(probabilities: Tensor = PROBABILITIES, targets: Tensor = TARGETS) -> MultiLabelScores:
    found = MultiLabelScores(*targets.shape)
    found.update(torch.logit(probabilities.double()).float(), targets, torch.arange(len(targets)))
    return found


def test_figures_by_hand() -> None:
    result = scores().result()
    first, second, third = result.per_label
    assert (first.n, second.n, third.n) == (2, 2, 0)
    assert first.ap == pytest.approx((1 + 2 / 3) / 2)  # the second with it comes third
    assert second.ap == pytest.approx((1 + 2 / 3) / 2)
    assert (first.precision, first.recall, first.f1) == (0.5, 0.5, 0.5)
    assert second.precision == pytest.approx(2 / 3)
    assert (second.recall, second.f1) == (1.0, pytest.approx(0.8))
    assert result.mean_ap == pytest.approx(5 / 6)
    assert (result.precision, result.recall) == (3 / 5, 3 / 4)
    assert result.f1 == pytest.approx(2 / 3)
    assert result.macro_f1 == pytest.approx(0.65)
    wanted = torch.nn.functional.binary_cross_entropy(PROBABILITIES.double(), TARGETS.double())
    assert result.loss == pytest.approx(wanted.item(), rel=1e-5)


def test_what_is_undefined_is_none() -> None:
    nothing = scores(torch.full((2, 2), 0.1), torch.zeros(2, 2, dtype=torch.int64)).result()
    assert (nothing.mean_ap, nothing.precision, nothing.recall, nothing.f1, nothing.macro_f1) == (None,) * 5
    label = scores().result().per_label[2]
    assert (label.ap, label.precision, label.recall, label.f1) == (None,) * 4
    with pytest.raises(UserError, match="no image to evaluate on"):
        MultiLabelScores(3, 2).result()


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_as_in_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(seed)
    given = torch.randint(0, 6, (40,), generator=generator).double() / 6  # many equal ones
    targets = torch.rand(40, generator=generator) < 0.3
    assert average_precision(given, targets) == pytest.approx(metrics.average_precision_score(targets, given))


def test_the_threshold_of_the_best_f1() -> None:
    given, targets = torch.tensor([0.9, 0.6, 0.4, 0.2]).double(), torch.tensor([True, False, True, False])
    assert best_threshold(given, targets) == pytest.approx(0.3)
    assert best_threshold(given, torch.tensor([True, False, False, False])) == pytest.approx(0.75)
    assert best_threshold(given, torch.zeros(4, dtype=torch.bool)) == 0.5
    assert best_threshold(given, torch.ones(4, dtype=torch.bool)) == 0.5


def test_chosen_thresholds_give_the_labels_that_they_separate() -> None:
    found = scores()
    thresholds = found.thresholds()
    assert thresholds[2] == 0.5
    result = found.result(thresholds)
    assert result.per_label[0].f1 == pytest.approx(0.8)
    assert result.f1 is not None
    assert result.f1 > 2 / 3


def test_ranks_add_up_to_the_whole() -> None:
    whole, parts = scores(), [MultiLabelScores(*TARGETS.shape) for _ in range(2)]
    for rank, part in enumerate(parts):
        mine = torch.arange(rank, 4, 2)
        part.update(torch.logit(PROBABILITIES.double()).float()[mine], TARGETS[mine], mine)
    for one, other in zip(parts[0].tensors(), parts[1].tensors(), strict=True):
        one += other
    assert parts[0].result() == whole.result()


def test_images_that_cannot_be_read_are_left_out() -> None:
    found = MultiLabelScores(9, 3)
    found.update(torch.logit(PROBABILITIES.double()).float(), TARGETS, torch.tensor([0, 2, 4, 8]))
    assert found.result() == scores().result()


def test_outputs_that_are_not_finite_count_as_no_label() -> None:
    found = MultiLabelScores(2, 2)
    logits = torch.tensor([[float("nan"), 5.0], [5.0, -5.0]])
    found.update(logits, torch.tensor([[1, 1], [1, 0]]), torch.arange(2))
    result = found.result()
    assert (result.invalid, result.recall) == (1, 1 / 3)
    assert result.loss == pytest.approx(0.006715, rel=1e-3)


def test_the_labels_furthest_off() -> None:
    wrong = scores().wrong((), 10)
    assert wrong[0][:2] == (3, 1)
    assert {(image, label) for image, label, _ in wrong[1:]} == {(1, 0), (2, 0)}
    assert wrong[0][2] == pytest.approx(0.7, rel=1e-5)
    assert len(scores().wrong((), 1)) == 1


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="Expected logits and targets"):
        MultiLabelScores(2, 3).update(torch.zeros(2, 2), torch.zeros(2, 2), torch.arange(2))
