"""ClassificationCounts: hand-computed cases, scikit-learn as oracle, cuts into batches and ranks, logits gone wrong."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convnext.core.errors import UserError
from convnext.metrics.accuracy import CONFUSION_LIMIT, ClassificationCounts, wilson_interval

NAN, INF = math.nan, math.inf


def counts_of(logits, targets, num_classes):
    counts = ClassificationCounts(num_classes)
    counts.update(torch.as_tensor(logits), torch.as_tensor(targets))
    return counts


def random_batch(n, k, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(k, (n,), generator=generator)
    logits = torch.randn(n, k, generator=generator) + 2 * torch.nn.functional.one_hot(targets, k)
    return logits.to(dtype), targets


def test_by_hand():
    log = math.log
    logits = [[log(0.7), log(0.2), log(0.1)], [log(0.5), log(0.4), log(0.1)], [log(0.25), log(0.25), log(0.5)]]
    result = counts_of(logits, [0, 1, 2], 3).result()
    assert (result.n, result.invalid, result.top5_k) == (3, 0, 3)
    assert result.top1 == pytest.approx(2 / 3)
    assert result.top5 == 1.0
    assert result.loss == pytest.approx(-(log(0.7) + log(0.4) + log(0.5)) / 3)
    assert result.per_class == [1.0, 0.0, 1.0]
    assert result.per_class_n == [1, 1, 1]
    assert result.mean_per_class == pytest.approx(2 / 3)
    assert result.confusion is not None
    assert result.confusion.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 1]]  # rows are targets
    # 0.7 right: gap 0.3; 0.5 twice, once right: gap 0
    assert result.ece == pytest.approx(0.3 / 3, abs=1e-6)


@pytest.mark.parametrize("k", [2, 7, 30])
def test_agrees_with_scikit_learn(k):
    metrics = pytest.importorskip("sklearn.metrics")
    logits, targets = random_batch(400, k, seed=k)
    result = counts_of(logits, targets, k).result()
    probabilities = logits.double().softmax(1).numpy()
    labels, true = list(range(k)), targets.numpy()
    assert result.top1 == pytest.approx(metrics.accuracy_score(true, probabilities.argmax(1)))
    assert result.loss == pytest.approx(metrics.log_loss(true, probabilities, labels=labels))
    if k > 5:  # at k = 5 or below scikit-learn warns that the answer is always 1
        assert result.top5 == pytest.approx(metrics.top_k_accuracy_score(true, probabilities, k=5, labels=labels))
    else:
        assert result.top5 == 1.0
    assert result.confusion is not None
    assert (result.confusion.numpy() == metrics.confusion_matrix(true, probabilities.argmax(1), labels=labels)).all()
    assert result.mean_per_class == pytest.approx(metrics.balanced_accuracy_score(true, probabilities.argmax(1)))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=4), st.integers(0, 99))
def test_any_cut_gives_the_same_sums(cuts, seed):
    logits, targets = random_batch(60, 8, seed)
    logits[7] = NAN
    whole = counts_of(logits, targets, 8)
    ranks = [ClassificationCounts(8), ClassificationCounts(8)]
    edges = [0, *sorted(cuts), 60]
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        ranks[number % 2].update(logits[low:high], targets[low:high])  # empty batches are among them
    for mine, other in zip(ranks[0].tensors(), ranks[1].tensors(), strict=True):
        mine += other  # what an all-reduce does: the sums are changed in place
    for cut, once in zip(ranks[0].tensors(), whole.tensors(), strict=True):
        if cut.dtype == torch.int64:
            assert torch.equal(cut, once)
        else:
            assert torch.allclose(cut, once, rtol=1e-12, atol=1e-12)
    assert ranks[0].result().top1 == whole.result().top1
    assert ranks[0].result().loss == pytest.approx(whole.result().loss, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_type(dtype):
    logits, targets = random_batch(50, 6, dtype=dtype)
    once = counts_of(logits, targets, 6).result()
    assert once.loss == pytest.approx(torch.nn.functional.cross_entropy(logits.double(), targets).item())


def test_loss_is_summed_in_float64():
    counts = ClassificationCounts(2)
    counts.loss += 2.0**30  # where float32 has steps of 128
    counts.update(torch.zeros(1, 2), torch.tensor([0]))
    assert counts.loss.item() - 2.0**30 == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize(
    "row", [[NAN, 0.0, 0.0], [0.0, NAN, 0.0], [NAN, NAN, NAN], [INF, 0.0, 0.0], [-INF, -INF, -INF]], ids=str
)
def test_logits_without_a_softmax_are_wrong_and_poison_nothing(row):
    clean = counts_of([[2.0, 0.0, 0.0]], [0], 3).result()
    result = counts_of([[2.0, 0.0, 0.0], row], [0, 0], 3).result()
    assert (result.n, result.invalid) == (2, 1)
    assert result.top1 == 0.5
    assert result.top5 == 0.5
    assert result.per_class == [0.5, None, None]
    assert result.loss == clean.loss
    assert result.ece == clean.ece
    assert result.confusion is not None
    assert result.confusion.sum() == 1


def test_nothing_but_nan():
    result = counts_of(torch.full((4, 3), NAN), [0, 1, 2, 0], 3).result()
    assert (result.invalid, result.top1, result.top5, result.mean_per_class) == (4, 0.0, 0.0, 0.0)
    assert (result.loss, result.ece) == (None, None)


def test_a_class_ruled_out_by_minus_infinity_is_no_error():
    result = counts_of([[0.0, 0.0, -INF]], [0], 3).result()
    assert (result.invalid, result.top1) == (0, 1.0)
    assert result.loss == pytest.approx(math.log(2))


def test_equal_logits_rank_by_index():
    result = counts_of(torch.zeros(8, 8), list(range(8)), 8).result()
    assert (result.top1, result.top5) == (1 / 8, 5 / 8)  # a constant model is no better than chance
    assert result.confusion is not None
    assert result.confusion[:, 0].tolist() == [1] * 8


def test_classes_without_images_do_not_enter_the_mean():
    result = counts_of([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [0, 2], 3).result()
    assert result.per_class == [1.0, None, 0.0]
    assert result.mean_per_class == 0.5


def test_no_confusion_above_the_limit():
    k = CONFUSION_LIMIT + 1
    counts = counts_of(torch.eye(k)[:3] * 9, [0, 1, 5], k)
    result = counts.result()
    assert result.confusion is None
    assert result.per_class[:3] == [1.0, 1.0, None]
    assert result.per_class[5] == 0.0
    assert max(tensor.numel() for tensor in counts.tensors()) == k


def test_one_class():
    result = counts_of(torch.zeros(3, 1), [0, 0, 0], 1).result()
    assert (result.top1, result.top5, result.top5_k, result.loss) == (1.0, 1.0, 1, 0.0)


def test_no_image_is_an_error_that_repairs():
    counts = ClassificationCounts(3)
    counts.update(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))
    with pytest.raises(UserError, match="no image to evaluate"):
        counts.result()


@pytest.mark.parametrize(("shape", "targets"), [((2, 4), [0, 1]), ((2, 3), [0]), ((3,), [0]), ((2, 3), [0, 3])])
def test_wrong_shapes_and_targets_are_refused(shape, targets):
    counts = ClassificationCounts(3)
    with pytest.raises(ValueError, match=r"Expected logits|Targets are in 0\.\.2"):
        counts.update(torch.zeros(shape), torch.tensor(targets))
    assert counts.n == 0
    with pytest.raises(ValueError, match=r"got -1\.\.0"):
        counts.update(torch.zeros(2, 3), torch.tensor([-1, 0]))


def test_wilson_interval_by_hand():
    low, high = wilson_interval(8, 10)
    assert (low, high) == pytest.approx((0.490162, 0.943318), abs=1e-6)  # R: prop.test(8, 10, correct = FALSE)
    assert wilson_interval(0, 10) == (0.0, pytest.approx(0.277533, abs=1e-6))
    assert wilson_interval(10, 10) == (pytest.approx(0.722467, abs=1e-6), 1.0)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="11 of 10"):
        wilson_interval(11, 10)


@given(st.integers(1, 10**7), st.data())
def test_wilson_interval_holds_the_share(total, data):
    correct = data.draw(st.integers(0, total))
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1
