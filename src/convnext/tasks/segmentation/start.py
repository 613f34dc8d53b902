"""What training a segmenter starts from where nobody names weights: a published segmenter, by device and data."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from convnext.core.device import pick_device
from convnext.data.config import LoaderConfig
from convnext.data.decode import IMAGE_SUFFIXES
from convnext.data.headers import header_size
from convnext.data.segmentation.open import SegmentationData
from convnext.data.segmentation.outlines import OutlineData
from convnext.tasks.segmentation.published import published
from convnext.tasks.segmentation.setup import FEW
from convnext.tasks.start import SMALL_SIDE, Start, Wish, from_photos, from_scratch, misfit, too_small
from convnext.weights.catalog import LICENCES

_OF_HEADS = {"head", "width", "auxiliary_width"}
"""Settings with which the heads of published segmenters do not fit."""
_SMALL, _LARGE = "convnext_tiny", "convnext_small"
_MANY = 5_000  # images, from which a GPU takes the large one
_LIGHT = {"model.head": "mlp"}  # what a CPU can train
_LOOKED = 200  # image files, of which every tenth is measured


def start(data: SegmentationData | OutlineData, options: Mapping[str, str], wish: Wish) -> Start:
    """What training on this data best starts from."""
    side = _side(Path(data.data))
    if side <= SMALL_SIDE:
        return too_small(side)
    if problem := misfit(wish, prefix="backbone."):
        return from_scratch(problem)
    images, gpu = data.num_train_images(LoaderConfig().val_fraction), pick_device().type != "cpu"
    needs, enough = f"about {FEW} images or more (here: {images})", images >= FEW
    model = wish.model or (_LARGE if gpu and images >= _MANY else _SMALL)
    why = f"{images:,} images on a GPU" if gpu else "no GPU here, so the smallest"
    why = "the backbone that was named" if wish.model else why
    alike = [row for row in published().values() if row.config.backbone.name == model]
    rows = [row for row in alike if LICENCES[row.licence] or not wish.commercial]
    if rows and not _OF_HEADS.intersection(wish.changed):
        what = f"trained on ADE20K's 150 classes of pixels; {why}"
        if gpu:
            return Start(rows[0], what, needs, enough)
        return Start(rows[0], f"{what}, under an all-MLP head, for UPerNet's takes hours", needs, enough, _LIGHT)
    return from_photos(model, wish, f"for the backbone; {why}", needs=needs, enough=enough)


def _side(folder: Path) -> int:
    """The median shorter side, in pixels, of some image files; label maps have the sizes of theirs."""
    files = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    sizes = [size for path in list(islice(files, _LOOKED))[::10] if (size := header_size(path))]
    return int(statistics.median(min(size) for size in sizes)) if sizes else SMALL_SIDE + 1
