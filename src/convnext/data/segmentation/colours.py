"""A mapping file ready to edit, made of what stands in label maps: each colour or value with a name to replace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convnext.core.atomic import write_text
from convnext.core.errors import UserError
from convnext.core.places import check_file
from convnext.data.problems import Problems
from convnext.data.segmentation.census import Look, code_word, looked_through, shares, smeared
from convnext.data.segmentation.layout import find_layout
from convnext.data.segmentation.mapping import MAPPING
from convnext.data.segmentation.pairing import matched
from convnext.ops.losses import MAX_CLASSES

_MAX_PIXELS = 100_000_000


def colour_mapping(path: str | Path) -> tuple[dict[str, Any], str]:
    """What a mapping file says of the label maps below a folder, and in words what was found: their colours where they
    are colour masks or each file has a palette of its own, else their values; the most frequent first.

    Where they look like a lossy copy of a few, those few, and "others": "nearest". Raises UserError where there are no
    label maps, or too many colours.
    """
    root = Path(path)
    layout = find_layout(root) if root.is_dir() else None
    if layout is None:
        raise UserError(f"{root} holds no images with label maps.")
    both = [(part, matched(part, Problems(root))) for part in layout.parts]
    seen = looked_through(both, None, max_pixels=_MAX_PIXELS)
    good = [look for part in seen for look in part if not look.wrong]
    differ = _differ(good)
    by_colour = differ or any(look.by_colour for look in good)
    codes: dict[int, int] = {}
    for look in good:
        for code, count in zip(_codes(look, by_colour), look.counts.tolist(), strict=True):
            codes[code] = codes.get(code, 0) + count
    few = [] if differ else smeared(both, seen)
    kept = few or sorted(codes, key=lambda code: -codes[code])
    if not 2 <= len(kept) <= MAX_CLASSES or any(look.distinct > MAX_CLASSES + 1 for look in good if not few):
        what = "colours" if by_colour else "values"
        raise UserError(
            f"The label maps in {root} have {len(codes)} or more {what}: {shares(codes, by_colour=by_colour)}. A "
            f"mapping file names 2 to {MAX_CLASSES}: are they label maps?"
        )
    way = "colour" if by_colour else "value"
    order = kept if by_colour else sorted(kept)
    classes = [
        {"name": f"{way} {code_word(code, by_colour)}", way: code_word(code, by_colour) if by_colour else code}
        for code in order
    ]
    content: dict[str, Any] = {"classes": classes, "ignored": []}
    words = f"{len(kept)} {way}s: {shares({code: codes[code] for code in kept}, by_colour=by_colour, most=20)}"
    if few:
        content["others"] = "nearest"
        words += f"; {len(codes) - len(few)} others, each taken for the nearest of these"
    return content, words


def _codes(look: Look, by_colour: bool) -> list[int]:
    """What stands in a label map: as it is, or the colours of its values."""
    if not by_colour or look.by_colour:
        return look.codes.tolist()
    return (look.codes * 0x010101 if look.table is None else look.table).tolist()


def _differ(looks: list[Look]) -> bool:
    """Whether one index has several colours in the palettes of different files."""
    seen: dict[int, int] = {}
    for look in looks:
        if look.table is None:
            continue
        for index, colour in zip(look.codes.tolist(), look.table.tolist(), strict=True):
            if seen.setdefault(index, colour) != colour:
                return True
    return False


def write_mapping(path: str | Path, out: str | Path | None = None, *, force: bool = False) -> tuple[Path, str]:
    """Writes `colour_mapping` into labels.json in the folder (or to `out`): the file, and what was found, in words.

    Raises UserError where the file is there already, unless `force`, and where it cannot be written.
    """
    file = Path(path) / MAPPING if out is None else Path(out)
    if file.exists() and not force:
        raise UserError(f"{file} is there already. Give another --out, or --force to write over it.")
    check_file(file, "--out")
    content, words = colour_mapping(path)
    lines = ",\n    ".join(json.dumps(entry, ensure_ascii=False) for entry in content["classes"])
    rest = "".join(f',\n  "{name}": {json.dumps(value)}' for name, value in content.items() if name != "classes")
    write_text(file, f'{{\n  "classes": [\n    {lines}\n  ]{rest}\n}}\n')
    return file, words
