"""Confidence intervals of shares."""

from __future__ import annotations

import math


def wilson_interval(correct: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval (low, high) in 0..1 of the share correct/total: by default, 95 % confidence.

    Unlike share +- z * deviation it stays within 0..1 and has a width at 0 and at 1 too (E. B. Wilson 1927, "Probable
    inference, the law of succession, and statistical inference"). Where total is 0 it is (0, 1). Raises ValueError
    unless 0 <= correct <= total.
    """
    if not 0 <= correct <= total:
        raise ValueError(f"correct must be in 0..total, got {correct} of {total}.")
    if total == 0:
        return 0.0, 1.0
    share = correct / total
    scale = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # at the ends the bound is exactly 0 or 1, which rounding would miss
    return (0.0 if correct == 0 else centre - half), (1.0 if correct == total else centre + half)
