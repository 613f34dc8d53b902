"""The nearest accepted name."""

from __future__ import annotations

import pytest

from convnext.core.errors import nearest
from convnext.models.create import MODEL_NAMES


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("convnext_tinny", "convnext_tiny"),
        ("convnext-tiny", "convnext_tiny"),
        ("ConvNeXt_Tiny", "convnext_tiny"),
        ("convnextv2_hug", "convnextv2_huge"),
        ("isotropic_small", "convnext_isotropic_small"),
    ],
)
def test_close_names_are_offered_nearest_first(given, meant):
    assert nearest(given, MODEL_NAMES).startswith(f" Did you mean '{meant}'")


def test_at_most_three():
    assert nearest("aab", ["aaa", "aac", "aad", "aae"]).count("'") == 6


def test_all_names_where_none_is_close():
    assert nearest("zebra", ["b", "a"]) == " Accepted: a, b."


def test_nothing_where_none_is_close_and_they_are_many():
    assert nearest("zebra", [f"{i:03d}" for i in range(21)]) == ""
    assert nearest("zebra", [f"{i:03d}" for i in range(20)]).startswith(" Accepted: 000, 001")
    assert nearest("zebra", []) == ""
