"""Dataclasses to JSON values and back. Strict: an unknown key or a wrong type is an error, never a guess."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast

from convnext.core.errors import UserError, nearest

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Turns a dataclass instance into plain JSON values: tuples become lists, paths become strings."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in cast("list[Any]", value)]
    return str(value) if isinstance(value, Path) else value


def from_dict(cls: type[T], values: Any, where: str = "") -> T:
    """Builds the dataclass `cls` from JSON values. Fields that are left out keep their defaults.

    Raises UserError naming the field (as `optim.lr`) for an unknown key, a missing value or a wrong type.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where or cls.__name__}: expected an object of named values, got {values!r}.")
    given = cast("dict[str, Any]", values)
    fields = {field.name: field for field in dataclasses.fields(cast("Any", cls))}
    hints = typing.get_type_hints(cls)
    for key in given:
        if key not in fields:
            raise UserError(f"There is no setting '{_join(where, key)}'.{nearest(str(key), fields)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in given:
            raise UserError(f"The setting '{_join(where, name)}' is missing.")
    return cls(**{key: coerce(hints[key], value, _join(where, key)) for key, value in given.items()})


def coerce(hint: Any, value: Any, where: str) -> Any:
    """Converts `value` (from JSON) to the annotated type `hint`. Raises UserError, which names `where`.

    Accepts bool, int, float (an int too), str, Path, None, Literal, unions, tuples and dataclasses.
    """
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(cast("type[Any]", hint), value, where)
    if origin is Literal:
        if any(type(value) is type(option) and value == option for option in typing.get_args(hint)):  # True is not 1
            return value
        raise UserError(f"'{where}' takes one of {', '.join(map(repr, typing.get_args(hint)))}, not {value!r}.")
    if origin in (Union, types.UnionType):
        return _coerce_union(hint, value, where)
    if origin is tuple:
        return _coerce_tuple(hint, value, where)
    return _coerce_plain(hint, value, where)


def _coerce_plain(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is type(None) and value is None:
        return None
    if isinstance(hint, type) and isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise UserError(f"'{where}' takes {getattr(hint, '__name__', hint)}, not {value!r} ({type(value).__name__}).")


def _coerce_union(hint: Any, value: Any, where: str) -> Any:
    failures: list[str] = []
    for option in typing.get_args(hint):
        try:
            return coerce(option, value, where)
        except UserError as error:
            failures.append(str(error))
    raise UserError(failures[0])


def _coerce_tuple(hint: Any, value: Any, where: str) -> tuple[Any, ...]:
    items = typing.get_args(hint)
    if not isinstance(value, (list, tuple)):
        raise UserError(f"'{where}' takes a list, not {value!r}.")
    given = cast("list[Any]", value)
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(coerce(items[0], item, f"{where}[{i}]") for i, item in enumerate(given))
    if len(items) != len(given):
        raise UserError(f"'{where}' takes {len(items)} values, not {len(given)}.")
    return tuple(coerce(item, entry, f"{where}[{i}]") for i, (item, entry) in enumerate(zip(items, given, strict=True)))


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
