"""Text that is safe to print."""

from __future__ import annotations


def printable(text: str) -> str:
    """Replaces control and unprintable characters by "?": a file name could hold commands for the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
