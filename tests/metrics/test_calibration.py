"""Reliability bins and expected calibration error, by hand."""

import pytest
import torch

from convnext.metrics.calibration import BINS, CalibrationSums


def sums_of(confidence, correct):
    sums = CalibrationSums()
    sums.update(torch.tensor(confidence, dtype=torch.float64), torch.tensor(correct))
    return sums


def test_error_by_hand():
    # bin (0.8, 0.8667]: 0.82 right, 0.84 wrong, gap |1.66 - 1| / 2 = 0.33; bin (0.4, 0.4667]: 0.45 right, gap 0.55
    sums = sums_of([0.82, 0.84, 0.45], [True, False, True])
    assert sums.expected_calibration_error() == pytest.approx(2 / 3 * 0.33 + 1 / 3 * 0.55)
    full = [entry for entry in sums.bins() if entry.count]
    assert [(entry.count, entry.accuracy) for entry in full] == [(1, 1.0), (2, 0.5)]
    assert [entry.confidence for entry in full] == pytest.approx([0.45, 0.83])


def test_bins_are_closed_above():
    edges = [i / BINS for i in range(BINS + 1)]
    sums = sums_of(edges, [True] * (BINS + 1))
    assert sums.count.tolist() == [2] + [1] * (BINS - 1)  # 0 joins the first bin, 1 ends the last one


def test_a_perfectly_calibrated_model_has_no_error():
    assert sums_of([0.75] * 4, [True, True, True, False]).expected_calibration_error() == 0.0


def test_signs_cancel_within_a_bin_but_not_between_bins():
    # 0.7 always right is 0.3 too shy, 0.3 always wrong is 0.3 too sure: no cancelling
    assert sums_of([0.7, 0.3], [True, False]).expected_calibration_error() == pytest.approx(0.3)


def test_empty():
    sums = CalibrationSums()
    assert sums.expected_calibration_error() is None
    assert all(entry.accuracy is None and entry.confidence is None for entry in sums.bins())
    assert (sums.bins()[0].low, sums.bins()[-1].high) == (0.0, 1.0)


def test_low_precision_confidences_are_summed_in_float64():
    sums = CalibrationSums()
    sums.confidence[10] += 2.0**20
    sums.update(torch.tensor([0.7], dtype=torch.bfloat16), torch.tensor([True]))
    assert sums.confidence[10].item() - 2.0**20 == torch.tensor(0.7, dtype=torch.bfloat16).item()
