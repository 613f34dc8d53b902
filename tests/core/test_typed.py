"""Dataclasses to JSON and back, strictly."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convnext.core.errors import UserError
from convnext.core.typed import from_dict, to_dict
from convnext.data.config import InputConfig
from convnext.models.config import ModelConfig
from convnext.tasks.classification.recipe import ClassificationRecipe


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    mode: Literal["fast", "exact"] = "fast"
    pair: tuple[int, str] = (1, "a")


@dataclass(frozen=True)
class Outer:
    name: str
    count: int = 1
    flag: bool = False
    scale: float | None = None
    sizes: tuple[int, ...] = ()
    folder: Path = Path()
    inner: Inner = field(default_factory=Inner)
    many: tuple[Inner, ...] = ()
    either: int | str = 0
    maybe: tuple[float, float] | None = None
    level: Literal[0, 1, None] = 0


text = st.text(max_size=8)
finite = st.floats(allow_nan=False, allow_infinity=False)
inners = st.builds(Inner, rate=finite, mode=st.sampled_from(["fast", "exact"]), pair=st.tuples(st.integers(), text))
outers = st.builds(
    Outer,
    name=text,
    count=st.integers(),
    flag=st.booleans(),
    scale=st.none() | finite,
    sizes=st.lists(st.integers(), max_size=4).map(tuple),
    folder=st.text("abc/.", max_size=8).map(Path),
    inner=inners,
    many=st.lists(inners, max_size=3).map(tuple),
    either=st.integers() | text,
    maybe=st.none() | st.tuples(finite, finite),
    level=st.sampled_from([0, 1, None]),
)


@given(outers)
@settings(max_examples=150, deadline=None)
def test_round_trip(value):
    through_json = json.loads(json.dumps(to_dict(value)))
    again = from_dict(Outer, through_json)
    assert again == value
    assert repr(again) == repr(value)  # == takes 1 for 1.0 and for True


@pytest.mark.parametrize("config", [ModelConfig(), InputConfig(), ModelConfig(depths=(1, 2, 3, 4))])
def test_real_configurations(config):
    assert from_dict(type(config), json.loads(json.dumps(to_dict(config)))) == config


def test_whole_recipe():
    from convnext.tasks.recipes import find_recipe

    recipe = find_recipe("demo")
    assert isinstance(recipe, ClassificationRecipe)
    assert from_dict(ClassificationRecipe, json.loads(json.dumps(to_dict(recipe)))) == recipe


def test_fields_left_out_keep_their_defaults():
    assert from_dict(Outer, {"name": "x"}) == Outer("x")
    assert from_dict(Outer, {"name": "x", "inner": {"rate": 2}}) == Outer("x", inner=Inner(rate=2.0))


def test_whole_numbers_become_floats_where_a_float_is_due():
    value = from_dict(Inner, {"rate": 2}).rate
    assert (value, type(value)) == (2.0, float)
    either = from_dict(Outer, {"name": "x", "either": "7"}).either
    assert either == "7"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x", "cuont": 2}, r"no setting 'cuont'. Did you mean 'count'\?"),
        ({"name": "x", "inner": {"raet": 2}}, r"no setting 'inner.raet'. Did you mean 'rate'\?"),
        ({"name": "x", "inner": {"zzz": 2}}, "no setting 'inner.zzz'. Accepted: mode, pair, rate."),
        ({}, "The setting 'name' is missing."),
        ({"name": 3}, r"'name' takes str, not 3 \(int\)"),
        ({"name": None}, r"'name' takes str, not None"),
        ({"name": "x", "count": 1.0}, r"'count' takes int, not 1.0 \(float\)"),
        ({"name": "x", "count": True}, r"'count' takes int, not True \(bool\)"),
        ({"name": "x", "count": "1"}, "'count' takes int, not '1'"),
        ({"name": "x", "flag": 1}, "'flag' takes bool, not 1"),
        ({"name": "x", "flag": "true"}, "'flag' takes bool, not 'true'"),
        ({"name": "x", "scale": "1"}, "'scale' takes float, not '1'"),
        ({"name": "x", "scale": True}, "'scale' takes float, not True"),
        ({"name": "x", "sizes": 3}, "'sizes' takes a list, not 3"),
        ({"name": "x", "sizes": "123"}, "'sizes' takes a list, not '123'"),
        ({"name": "x", "sizes": [1, "2"]}, r"'sizes\[1\]' takes int, not '2'"),
        ({"name": "x", "folder": 3}, "'folder' takes Path, not 3"),
        ({"name": "x", "inner": 3}, "inner: expected an object of named values, got 3"),
        ({"name": "x", "inner": None}, "inner: expected an object"),
        ({"name": "x", "inner": {"mode": "slow"}}, "'inner.mode' takes one of 'fast', 'exact', not 'slow'"),
        ({"name": "x", "inner": {"mode": ["fast"]}}, "'inner.mode' takes one of"),
        ({"name": "x", "inner": {"pair": [1]}}, "'inner.pair' takes 2 values, not 1"),
        ({"name": "x", "inner": {"pair": ["a", 1]}}, r"'inner.pair\[0\]' takes int, not 'a'"),
        ({"name": "x", "many": [{}, {"rate": "x"}]}, r"'many\[1\].rate' takes float, not 'x'"),
        ({"name": "x", "either": 1.5}, "'either' takes int, not 1.5"),
        ({"name": "x", "maybe": [1.0]}, "'maybe' takes 2 values, not 1"),
        ({"name": "x", "level": True}, "'level' takes one of 0, 1, None, not True"),
        ([], "Outer: expected an object"),
    ],
)
def test_errors_name_the_field(values, message):
    with pytest.raises(UserError, match=message):
        from_dict(Outer, values)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([f.name for f in dataclasses.fields(Outer)]), json_values)
@settings(max_examples=200, deadline=None)
def test_anything_is_taken_or_refused(name, value):
    """No other exception, and what is taken goes to JSON and back as it was."""
    try:
        config, refusal = from_dict(Outer, {"name": "x", name: value}), ""
    except UserError as error:
        config, refusal = None, str(error)
    if config is None:
        assert name in refusal
    else:
        assert from_dict(Outer, to_dict(config)) == config
