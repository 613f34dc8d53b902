"""Text that is safe to print."""

from __future__ import annotations

import re

# C0 but for line break and tab, DEL, C1, line and paragraph separators, and the controls of writing direction
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Replaces control and unprintable characters by "?": a file name could hold commands for the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def one_line(text: str) -> str:
    """A text with a name in it as one line that is safe to print: line breaks count as control characters."""
    return safe(text).replace("\n", "?").replace("\t", " ")


def safe(text: str) -> str:
    """Text for a terminal: control characters, and those that turn the direction of writing, become "?".

    Line breaks and tabs stay, and so does all that is only unusual in a name (as spaces of other scripts).
    """
    return _UNSAFE.sub("?", text)


def escaped(json_text: str) -> str:
    """JSON text with the same characters as JSON's escapes: nothing is lost, and nothing reaches the terminal."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", json_text)
