"""Files under other spellings of their names: slashes, percent codes, letter case, Unicode forms, folders in front."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

from convnext.data.classification.scan import images_below


class FileNames:
    """The images below a folder, by what other spellings of their names may mean."""

    def __init__(self, root: Path) -> None:
        self.paths = sorted(images_below(root, closed=[]))
        """Below the folder, with forward slashes."""
        self._by_key: list[dict[str, str]] = []
        for key in _KEYS:
            keys = [key(path) for path in self.paths]
            counts = Counter(keys)
            self._by_key.append({k: path for k, path in zip(keys, self.paths, strict=True) if counts[k] == 1})

    def meant(self, name: str) -> str:
        """The one file that a name means: by its path, then its last part, then both with percent codes read, then in
        any letter case. "" where it means none, or could mean several."""
        forms = [name, *_in_address(name)]
        for by_key, key in zip(self._by_key, _KEYS, strict=True):
            for form in forms:
                if found := by_key.get(key(form)):
                    return found
        return ""


def _in_address(name: str) -> list[str]:
    """The path that an address holds: before a query, or as its value ("/data/local-files/?d=images/a.jpg")."""
    before, _, query = name.partition("?")
    return [form for form in (before, *(pair.partition("=")[2] for pair in query.split("&"))) if form] if query else []


def _plain(path: str) -> str:
    return unicodedata.normalize("NFC", path.replace("\\", "/")).lstrip("/")


def _last(path: str) -> str:
    return _plain(path).rsplit("/", 1)[-1]


def _decoded(path: str) -> str:
    return _plain(unquote(path, errors="replace"))


def _decoded_last(path: str) -> str:
    return _last(unquote(path, errors="replace"))


def _folded(path: str) -> str:
    return _decoded(path).casefold()


def _folded_last(path: str) -> str:
    return _decoded_last(path).casefold()


_KEYS = (_plain, _last, _decoded, _decoded_last, _folded, _folded_last)
