"""A folder with one folder for each class: the layout that needs no explanation.

An image is uint8 (3, H, W); N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from convnext.core.errors import UserError, nearest
from convnext.core.text import printable
from convnext.data.bands import suffixes
from convnext.data.classification.files import ImageFiles
from convnext.data.classification.names import names_of_folders
from convnext.data.classification.scan import scan
from convnext.data.headers import survey


class FolderDataset(ImageFiles):
    """Images in class folders, at any depth below them; the class is the folder directly below `root`.

    `class_dirs` fixes the order of the classes and which there are (as in the training part); without it: every class
    folder found, sorted by name. `prefix` goes before the names that people are shown, as "val/". inner: a
    folder in each class's folder; its images alone. bands, white: as `decode_bands` takes them.

    `notes` says what was passed over.

    Raises UserError where the folder does not have this layout, or holds a class that `class_dirs` does not have.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_pixels: int,
        class_dirs: Sequence[str] | None = None,
        prefix: str = "",
        inner: str = "",
        bands: int = 3,
        white: float = 0.0,
    ) -> None:
        scanned = scan(root, missing_allowed=class_dirs is not None, suffixes=suffixes(bands))
        found = {name: _inside(images, inner) for name, images in scanned.images.items()} if inner else scanned.images
        self.class_dirs = tuple(found) if class_dirs is None else tuple(class_dirs)
        for folder in found:
            if folder not in self.class_dirs:
                raise UserError(
                    f"{root} has a class '{printable(folder)}' that the training images do not have."
                    f"{nearest(folder, self.class_dirs)} Rename or remove that folder."
                )
        paths = [path for folder in self.class_dirs for path in found.get(folder, ())]
        super().__init__(root, paths, max_pixels=max_pixels, prefix=prefix, bands=bands, white=white)
        unseen = survey([root / path for path in self._spread()]) if bands == 3 else ""
        self.notes = (*scanned.notes(root), *([unseen] if unseen else []))
        counts = torch.tensor([len(found.get(folder, ())) for folder in self.class_dirs])
        self.targets = torch.repeat_interleave(torch.arange(len(counts)), counts)
        self.classes = names_of_folders(self.class_dirs, root)

    def _spread(self, most: int = 100) -> list[str]:
        """Some of the images, spread over all."""
        return [self.paths[i] for i in range(0, len(self.paths), max(len(self.paths) // most, 1))][:most]


def _inside(paths: Sequence[str], inner: str) -> list[str]:
    """Those of some paths, class/.../image, that lie in class/inner."""
    return [path for path in paths if path.split("/")[1] == inner]
