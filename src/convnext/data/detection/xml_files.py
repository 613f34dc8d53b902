"""XML that annotation tools write, read safely.

Entities and document types are refused: no tool writes them, and they can make a small file huge.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from convnext.core.errors import UserError

_START = 4096  # bytes; a text in another encoding shows by then


def parsed(path: Path) -> ElementTree.Element:
    """The root element. Raises UserError for a file that is no XML, or declares entities or a document type."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data or b"\0" in data[:_START]:
        raise UserError(f"{path} declares a document type or entities, or is no UTF-8: that is not read.")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path} is not XML: {error}.") from None
