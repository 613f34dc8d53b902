"""Files under other spellings of their names: slashes, percent codes, letter case, Unicode forms, folders in front."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

from convnext.data.decode import IMAGE_SUFFIXES

_MOST = 1_000_000  # files that are looked at


class FileNames:
    """The images below a folder, by what other spellings of their names may mean."""

    def __init__(self, root: Path) -> None:
        self.paths: list[str] = []
        """Below the folder, with forward slashes."""
        for where, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            below = os.path.relpath(where, root).replace(os.sep, "/")
            for name in names:
                if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".") and len(self.paths) < _MOST:
                    self.paths.append(name if below == "." else f"{below}/{name}")
        self._by_key: list[dict[str, str]] = []
        for key in _KEYS:
            keys = [key(path) for path in self.paths]
            counts = Counter(keys)
            self._by_key.append({k: path for k, path in zip(keys, self.paths, strict=True) if counts[k] == 1})

    def meant(self, name: str) -> str:
        """The one file that a name means: by its path, then its last part, then both in any letter case; as it is
        written, and with its percent codes read. "" where it means none, or could mean several."""
        forms = [name.replace("\\", "/")]
        if "%" in name:
            forms.append(unquote(forms[0], errors="replace"))
        for by_key, key in zip(self._by_key, _KEYS, strict=True):
            for form in forms:
                if found := by_key.get(key(form.lstrip("/"))):
                    return found
        return ""


def _plain(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _folded(path: str) -> str:
    return _plain(path).casefold()


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _plain_last(path: str) -> str:
    return _plain(_last(path))


def _folded_last(path: str) -> str:
    return _folded(_last(path))


_KEYS = (_plain, _plain_last, _folded, _folded_last)
