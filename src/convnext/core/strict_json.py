"""JSON as its standard has it: no NaN, no infinities; what is not a number is null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast


def to_json(value: Any, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """`value` as JSON; floats that are not finite are null, wherever they stand."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)
    except ValueError:  # only then is it worth a copy: results have millions of numbers
        return json.dumps(finite_only(value), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def finite_only(value: Any) -> Any:
    """A copy of JSON values with None for every float that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite_only(entry) for key, entry in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [finite_only(entry) for entry in cast("Sequence[Any]", value)]
    return value
