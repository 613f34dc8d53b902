"""Weights in several files with an index beside them, as transformers and accelerate save large models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.core.text import printable

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.safetensors|\.bin)")
_MOST_BYTES = 64 << 20


def index_of(path: Path) -> Path | None:
    """The index that a path means: itself, or the one beside a shard; None for a file of another kind.

    Raises UserError for a shard without an index: a part of the weights is no model.
    """
    if path.name.endswith(".index.json"):
        return path
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return None
    index = path.with_name(f"{match[1]}{match[3]}.index.json")
    if not index.is_file():
        raise UserError(
            f"{path} is one of {int(match[2])} files that hold a model together, and there is no {index.name} beside "
            "it. Get all of them, and give their folder."
        )
    return index


def shards_of(index: Path) -> list[Path]:
    """The files that an index names, in order. Raises UserError for one that is damaged, leads out of its folder or
    names a file that is not there."""
    try:
        if index.stat().st_size > _MOST_BYTES:
            raise UserError(f"{index} has more than {_MOST_BYTES:,} bytes: it is no index of weights.")
        content: Any = json.loads(index.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{index} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{index} is not JSON: {str(error)[:200]}.") from None
    where = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(where, dict) or not where:
        raise UserError(f"{index} has no 'weight_map': it is no index of weights.")
    names = list(dict.fromkeys(where.values()))
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
            raise UserError(f"{index} names {printable(str(name))[:80]}, which is no file beside it.")
    files = [index.with_name(name) for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(files)} files of {index} are not there, as {missing[0]}. Get them too."
        )
    return files
