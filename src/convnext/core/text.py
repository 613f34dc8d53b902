"""What a data set is: something that names, labels and reads its images one by one.

Shapes: C channels (3: red, green, blue), H W space, N images, K classes.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` without what a terminal would act on or cannot print: file names are not always written by friends."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
