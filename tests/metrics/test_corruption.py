"""mCE: by hand, of AlexNet itself, and published ones from published errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from convnext.metrics.corruption import (
    ALEXNET,
    ALEXNET_CLEAN,
    corruption_errors,
    mce,
    mean_error,
    mean_of,
    relative_mce,
)

FACTS = Path(__file__).parents[3] / "shared" / "facts" / "robustness.yaml"


@pytest.fixture(scope="module")
def facts():
    yaml = pytest.importorskip("yaml")
    if not FACTS.is_file():
        pytest.skip("the facts (../shared/facts) are not here")
    return yaml.safe_load(FACTS.read_text())


def test_by_hand():
    """Half of AlexNet's errors are an mCE of 0.5, however they are spread over severities."""
    errors = {
        kind: [0.25 * error, 0.75 * error, 0.5 * error, 0.5 * error, 0.5 * error] for kind, error in ALEXNET.items()
    }
    assert mce(errors) == pytest.approx(0.5)
    assert corruption_errors(errors)["fog"] == pytest.approx(0.5)
    assert mean_error(errors) == pytest.approx(0.5 * sum(ALEXNET.values()) / 15)
    assert mean_of([0.1, 0.2, 0.3, 0.4, 0.5]) == pytest.approx(0.3)


def test_alexnet_itself():
    errors = {kind: [error] * 5 for kind, error in ALEXNET.items()}
    assert mce(errors) == pytest.approx(1.0)
    assert relative_mce(errors, ALEXNET_CLEAN) == pytest.approx(1.0)


def test_relative_mce_by_hand():
    """A model that corruption adds nothing to has 0; one that it adds half as much to as to AlexNet, 0.5."""
    assert relative_mce({kind: [0.2] * 5 for kind in ALEXNET}, 0.2) == pytest.approx(0.0)
    half = {kind: [0.2 + 0.5 * (error - ALEXNET_CLEAN)] * 5 for kind, error in ALEXNET.items()}
    assert relative_mce(half, 0.2) == pytest.approx(0.5)


def test_what_is_missing_is_undefined():
    errors = {kind: [0.5] * 5 for kind in ALEXNET}
    less = {kind: row for kind, row in errors.items() if kind != "fog"}
    partly = {**errors, "fog": [0.5, None, 0.5, 0.5, 0.5]}
    for given in (less, partly, {}):
        assert mce(given) is None
        assert mean_error(given) is None
        assert relative_mce(given, 0.2) is None
    assert mce({**errors, "spatter": [0.9] * 5}) == mce(errors)  # the four others are in no mean
    assert mean_of([]) is None


def test_alexnets_errors_are_those_of_the_facts(facts):
    known = facts["alexnet_errors"]
    assert {kind: pytest.approx(100 * error) for kind, error in ALEXNET.items()} == known["main15"]
    assert known["clean_error"] == pytest.approx(100 * ALEXNET_CLEAN)
    for kind, row in known["per_severity_fraction"].items():
        assert sum(row) / 5 == pytest.approx(ALEXNET[kind], abs=6e-5)


def test_published_means_from_published_errors(facts):
    """Errors that published CEs imply give the published mean: ConvNeXt-L 46.75, after ImageNet-21K 41.1."""
    table = facts["published_mce"]["per_corruption_ce"]
    for name, published in (("ConvNeXt-L_in1k", 46.75), ("ConvNeXt-L_in21k", 41.1)):
        ce = dict(zip(table["order"], table["rows"][name], strict=True))
        errors = {kind: [ce[kind] / 100 * ALEXNET[kind]] * 5 for kind in ALEXNET}
        assert 100 * (mce(errors) or 0) == pytest.approx(published, abs=0.06)
        assert 100 * (mean_error(errors) or 0) < published  # what is not normalised is another figure
