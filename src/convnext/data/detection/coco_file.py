"""A file in COCO's form, read: its three lists. What stands in them is checked later (`annotations`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.data.detection.document import Document
from convnext.data.problems import short


def read(path: Path) -> Document:
    """The lists of a file. Raises UserError for one that is not in this form."""
    form = "An annotation file in COCO's form is needed: an object with 'images', 'annotations' and 'categories'."
    try:
        document: Any = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({str(error)[:200]}). {form}") from None
    if not isinstance(document, dict):
        raise UserError(f"{path} holds {short(document)}. {form}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            what = f"a '{key}' that is not a list" if key in document else f"no '{key}'"
            raise UserError(f"{path} has {what}. {form}")
    return Document(document["images"], document["annotations"], document["categories"])
