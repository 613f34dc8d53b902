"""Errors that the user can fix. The message says what was given, what is accepted and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can fix. The command line prints its message alone, without a traceback."""


class NotFinite(UserError):
    """A model gave outputs that are not numbers (NaN, infinity): nothing can be said of the image."""


def nearest(given: str, accepted: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the closest accepted name, or all names if none is close and they are few.

    The result starts with a space (or is empty), so that it can be appended to a sentence.
    """
    names = sorted(accepted)
    close = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    if close:
        return f" Did you mean {' or '.join(repr(name) for name in close)}?"
    return f" Accepted: {', '.join(names)}." if 0 < len(names) <= 20 else ""
