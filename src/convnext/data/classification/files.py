"""Images in files below one folder, whatever says their classes; and names of files as people write them, found.

An image is uint8 (C, H, W); N images.
"""

from __future__ import annotations

import os
import posixpath
import unicodedata
import urllib.parse
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from convnext.core.errors import nearest
from convnext.core.text import printable
from convnext.data.bands import decode_bands, suffixes
from convnext.data.classification.scan import Scan, images_below
from convnext.data.decode import BadImage
from convnext.data.parts import part_of
from convnext.data.strings import Strings


class ImageFiles:
    """N images below `root`. prefix goes before the names that people are shown; bands, white: see `decode_bands`."""

    def __init__(
        self, root: Path, paths: Sequence[str], *, max_pixels: int, prefix: str = "", bands: int = 3, white: float = 0.0
    ) -> None:
        self.root, self.paths, self.max_pixels, self.prefix = str(root), Strings(paths), max_pixels, prefix
        self.bands, self.white = bands, white

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The path below the dataset's folder, as "cat/another.png"."""
        return printable(self.prefix + self.paths[index])

    def content(self, index: int) -> bytes:
        """The bytes of the file; raises BadImage."""
        try:
            with open(os.path.join(self.root, self.paths[index]), "rb") as file:
                return file.read()
        except OSError as error:
            raise BadImage(self.name(index), f"the file cannot be read ({error.strerror})") from None

    def read(self, index: int) -> Tensor:
        """uint8 (bands, H, W); raises BadImage."""
        name, limit = self.name(index), self.max_pixels
        return decode_bands(self.content(index), name=name, max_pixels=limit, bands=self.bands, white=self.white)


class FileFinder:
    """The images below a folder, listed once, and which of them a name means, as tables write names.

    Where a name is not a path below the folder as it stands, these are tried, and count only where one file alone fits:
    another form of slashes, of Unicode or of percent codes; other letter case; folders in front (those of another
    machine, or those that are left out); no ending.
    """

    def __init__(self, root: Path, *, bands: int = 3) -> None:
        self.root, self.scan = root, Scan()
        self.closed: list[str] = []
        self.paths = list(images_below(root, closed=self.closed, scan=self.scan, suffixes=suffixes(bands)))
        self._exact = set(self.paths)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            name = _folded(posixpath.basename(path))
            self._by_name[name].append(path)
            self._by_stem[posixpath.splitext(name)[0]].append(path)

    def find(self, name: str, *, part: str = "") -> tuple[str, str]:
        """(path below the folder, how it was found: "" as it stands); ("", "") where no file, or more than one, fits.

        part: a folder that names it is preferred.
        """
        plain = name.removeprefix("./")
        if plain in self._exact:
            return plain, ""
        for text, how in self._forms(plain):
            if text in self._exact:
                return text, how
            if path := self._fitting(text, part):
                return path, _how(text, path) or how
        return "", ""

    def has(self, name: str) -> bool:
        """Whether a name means an image."""
        return bool(name) and bool(self.find(name)[0] or self.several(name))

    def several(self, name: str) -> list[str]:
        """The files that a name can mean, where they are more than one."""
        found = self._candidates(posixpath.normpath(name.replace("\\", "/")))
        return found if len(found) > 1 else []

    def hint(self, name: str) -> str:
        """ " Did you mean ...?", or what the name can mean."""
        several = self.several(name)
        if several:
            return f" It can mean {' or '.join(printable(path) for path in sorted(several)[:2])}."
        base = posixpath.basename(name.replace("\\", "/"))
        return nearest(base, [posixpath.basename(path) for path in self.paths[:2000]])

    @staticmethod
    def _forms(name: str) -> list[tuple[str, str]]:
        """Ways to read a name, and what each is called."""
        if not name.strip():
            return []
        slashed = name.replace("\\", "/")
        local = slashed.removeprefix("file://")
        forms = [(posixpath.normpath(local), "with other slashes" if slashed != name else "")]
        if "%" in name:
            forms.append((posixpath.normpath(urllib.parse.unquote(local)), "with percent codes"))
        return forms

    def _candidates(self, text: str) -> list[str]:
        """The files of a name's last part, those with the most of its folders in common."""
        base = _folded(posixpath.basename(text))
        found = self._by_name.get(base, []) or self._by_stem.get(base, [])
        if len(found) < 2:
            return found
        wanted = _folded(posixpath.dirname(text)).split("/")[::-1]
        scores = [_common(wanted, _folded(posixpath.dirname(path)).split("/")[::-1]) for path in found]
        best = [path for path, score in zip(found, scores, strict=True) if score == max(scores)]
        same = [path for path in best if posixpath.basename(path) == posixpath.basename(text)]
        return same or best

    def _fitting(self, text: str, part: str) -> str:
        found = self._candidates(text)
        if len(found) > 1 and part:
            found = [path for path in found if any(part_of(folder) == part for folder in path.split("/")[:-1])]
        return found[0] if len(found) == 1 else ""


def _how(text: str, path: str) -> str:
    base, real = posixpath.basename(text), posixpath.basename(path)
    if base == real:
        return "in another folder than they say" if posixpath.dirname(text) else ""
    return "in other letter case" if _folded(base) == _folded(real) else "by their name without its ending"


def found_how(counts: Counter[str]) -> str:
    """A sentence on the names that were found by other than what they say; "" for none."""
    kinds = [f"{count:,} {how}" for how, count in counts.most_common() if how]
    return f"Images found {', '.join(kinds)}." if kinds else ""


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b or not a:
            break
        count += 1
    return count
