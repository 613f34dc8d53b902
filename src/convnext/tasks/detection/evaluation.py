"""Object detection: losses from a detector, evaluation in COCO's figures.

B batch, H W space, K classes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from convnext.core import distributed
from convnext.core.logs import Progress
from convnext.data.config import LoaderConfig
from convnext.data.detection.coco import CocoDataset
from convnext.data.detection.config import DetectionInputConfig
from convnext.data.detection.transforms import DetectionBatch, image_batch, load_eval_batch
from convnext.data.loader import BadImages, eval_batches, resolved_workers
from convnext.data.mix import prepare_padded
from convnext.metrics.coco_ap import CocoFigures, coco_figures, results_of
from convnext.models.detection.rcnn import RCNN
from convnext.models.detection.tta import View, detect_tta
from convnext.models.tta import NO_TTA, TTA
from convnext.ops.instances import Detections

Size = tuple[int, int]


@dataclass(frozen=True)
class Evaluation:
    """The figures of a detector on pictures, what it found in them, and the speed it came at."""

    box: CocoFigures
    mask: CocoFigures | None
    """None where the detector or the data has no polygons."""
    results: list[dict[str, Any]]
    """Every detection, in COCO's form."""
    images_per_second: float


def flat(evaluation: Evaluation) -> dict[str, float]:
    """The figures that a log holds: box_AP, box_AP50, box_AP75 and the same of masks; 0 where undefined."""
    kinds = {"box": evaluation.box, "mask": evaluation.mask}
    return {
        f"{kind}_{name}": getattr(figures, name) or 0.0
        for kind, figures in kinds.items()
        if figures is not None
        for name in ("AP", "AP50", "AP75")
    }


@torch.inference_mode()
def evaluate(
    model: RCNN,
    source: CocoDataset,
    *,
    input: DetectionInputConfig,
    loader: LoaderConfig,
    batch_size: int,
    device: torch.device,
    bad: BadImages,
    dtype: torch.dtype = torch.float32,
    views: TTA = NO_TTA,
) -> Evaluation:
    """Every picture of `source` once, over all ranks. Rates count pictures a second, reading included.

    With more than one view, pictures are taken one at a time.
    """
    world = distributed.world_size()
    load = partial(load_eval_batch, source=source, config=input)
    if not views.single:
        load, batch_size = partial(load_eval_batch, source=source, config=None), 1
    batches = eval_batches(
        load,
        num_images=len(source),
        batch_size=batch_size,
        bad=bad,
        workers=_workers(loader, input),
        ranks=(distributed.rank(), world),
    )
    results: list[dict[str, Any]] = []
    begun, seen = time.monotonic(), 0
    with Progress("evaluating", len(source), unit="image") as progress:
        for batch in batches:
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                found = detect(model, batch, input=input, device=device, views=views)
            for index, detections in zip(batch.indices.tolist(), found, strict=True):
                results += results_of(source.image_id(index), detections, source.category_ids)
            seen += len(found)
            progress.update(min(seen * world, len(source)))
    rate = seen * world / max(time.monotonic() - begun, 1e-9)
    results = [result for of_rank in distributed.gather_objects(results) for result in of_rank]
    truth, masks = source.truth(), source.has_masks and bool(model.roi_head.mask_stages)
    return Evaluation(
        box=coco_figures(truth, results, kind="bbox"),
        mask=coco_figures(truth, results, kind="segm") if masks else None,
        results=results,
        images_per_second=rate,
    )


def detect(
    model: RCNN, batch: DetectionBatch, *, input: DetectionInputConfig, device: torch.device, views: TTA = NO_TTA
) -> list[Detections]:
    """What the detector finds in the pictures of a batch, in pixels of the pictures as they were read.

    With more than one view, the batch holds pictures as they are, one of them.
    """
    originals = pairs(batch.originals)
    if views.single:
        images = _prepared(batch, input, device)
        return model(images, pairs(batch.sizes), originals=originals)
    (height, width), found = originals[0], []
    picture = batch.images[0, :, :height, :width]
    for scale in views.scales:
        scaled = replace(input, short=round(scale * input.short), long=round(scale * input.long))
        for mirrored in (False, True) if views.flip else (False,):
            seen = image_batch([picture.flip(2) if mirrored else picture], scaled)
            image = _prepared(seen, input, device)
            found.append(View(image, pairs(seen.sizes)[0], mirrored))
    return [detect_tta(model, found, originals[0])]


def _prepared(batch: DetectionBatch, input: DetectionInputConfig, device: torch.device) -> Tensor:
    images = batch.images.to(device, non_blocking=True)
    return prepare_padded(images, batch.sizes, mean=input.mean, std=input.std)


def pairs(sizes: Tensor) -> list[Size]:
    """int64 (B, 2) as plain numbers."""
    return [(height, width) for height, width in sizes.tolist()]


def _workers(loader: LoaderConfig, input: DetectionInputConfig) -> int:
    return resolved_workers(loader, size=input.short, world_size=distributed.world_size())
