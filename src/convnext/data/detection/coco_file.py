"""A file in COCO's form, read: its three lists. What stands in them is checked later (`annotations`)."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.detection.document import Document
from convnext.data.problems import short

_MOST = 1 << 22  # bytes of a list of categories


def read(path: Path) -> Document:
    """The lists of a file. Raises UserError for one that is not in this form."""
    form = "An annotation file in COCO's form is needed: an object with 'images', 'annotations' and 'categories'."
    collects = gc.isenabled()
    gc.disable()  # it would look through millions of new objects again and again
    try:
        document: Any = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({str(error)[:200]}). {form}") from None
    finally:
        if collects:
            gc.enable()
    if not isinstance(document, dict):
        raise UserError(f"{path} holds {short(document)}. {form}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            what = f"a '{key}' that is not a list" if key in document else f"no '{key}'"
            raise UserError(f"{path} has {what}. {form}")
    return Document(document["images"], document["annotations"], document["categories"])


def same_categories(path: Path, ids: Sequence[int], names: Sequence[str]) -> bool:
    """Whether a file in COCO's form has exactly these categories, as far as a look at that list shows; False where it
    does not. Quick: the other lists, which are long, are not read."""
    start = re.compile(rb'"categories"\s*:\s*(?=\[)')
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError:
        return False
    found = list(start.finditer(data))
    if len(found) != 1:
        return False
    text = data[found[0].end() :]
    try:
        entries: Any = json.JSONDecoder().raw_decode(text[:_MOST].decode("utf-8", "replace"))[0]
        return sorted((entry["id"], printable(entry["name"])) for entry in entries) == list(
            zip(ids, names, strict=True)
        )
    except (ValueError, RecursionError, TypeError, KeyError):
        return False
