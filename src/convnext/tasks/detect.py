"""Object detection: losses from a detector, evaluation in COCO's figures.

B batch, H W space, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from convnext.core import distributed
from convnext.core.logs import Progress
from convnext.data.coco import CocoSource
from convnext.data.config import LoaderConfig, SceneAugmentConfig, SceneConfig
from convnext.data.dense import (
    SceneBatch,
    load_eval_scenes,
    load_train_scenes,
    scene_batch,
)
from convnext.data.loader import BadImages, eval_batches, resolved_workers, train_batches
from convnext.data.mix import prepare_padded
from convnext.heads.config import ONCE, Views
from convnext.heads.rcnn import RCNN
from convnext.heads.views import View, detect_views
from convnext.metrics.coco_ap import CocoFigures, coco_figures, results_of
from convnext.ops.instances import Detections

Size = tuple[int, int]


@dataclass(frozen=True)
class Detect:
    """The detection task of a training run (see `train.task.Task`)."""

    train: CocoSource
    val: CocoSource
    input: SceneConfig
    augment: SceneAugmentConfig
    loader: LoaderConfig
    device: torch.device
    seed: int
    eval_batch: int
    bad: BadImages
    goal: str = field(default="box_AP", init=False)

    @property
    def num_images(self) -> int:
        return len(self.train)

    def batches(self, *, start_step: int, global_batch: int, micro_batch: int) -> Iterator[SceneBatch]:
        load = partial(load_train_scenes, source=self.train, augment=self.augment, config=self.input, seed=self.seed)
        return train_batches(
            load,
            num_images=len(self.train),
            global_batch=global_batch,
            micro_batch=micro_batch,
            seed=self.seed,
            start_step=start_step,
            bad=self.bad,
            workers=_workers(self.loader, self.input),
            ranks=(distributed.rank(), distributed.world_size()),
            aspects=self.train.sizes[:, 1] / self.train.sizes[:, 0],
        )

    def losses(self, model: nn.Module, batch: SceneBatch, *, step: int, micro: int) -> Mapping[str, Tensor]:
        """The detector's losses. Which regions they are taken over is drawn from torch's global generator, which a
        checkpoint holds."""
        images = _prepared(batch, self.input, self.device)
        targets = [instances.to(self.device) for instances in batch.instances]
        return model(images, pairs(batch.sizes), targets=targets)

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, RCNN)
        found = evaluate(
            model,
            self.val,
            input=self.input,
            loader=self.loader,
            batch_size=self.eval_batch,
            device=self.device,
            bad=self.bad,
        )
        return flat(found)


@dataclass(frozen=True)
class Evaluation:
    """The figures of a detector on pictures, what it found in them, and the speed it came at."""

    box: CocoFigures
    mask: CocoFigures | None
    """None where the detector or the data has no outlines."""
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
    source: CocoSource,
    *,
    input: SceneConfig,
    loader: LoaderConfig,
    batch_size: int,
    device: torch.device,
    bad: BadImages,
    dtype: torch.dtype = torch.float32,
    views: Views = ONCE,
) -> Evaluation:
    """Every picture of `source` once, over all ranks. Rates count pictures a second, reading included.

    With more than one view, pictures are taken one at a time.
    """
    world = distributed.world_size()
    load = partial(load_eval_scenes, source=source, config=input)
    if not views.single:
        load, batch_size = partial(load_eval_scenes, source=source, config=None), 1
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
    model: RCNN, batch: SceneBatch, *, input: SceneConfig, device: torch.device, views: Views = ONCE
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
            seen = scene_batch([picture.flip(2) if mirrored else picture], scaled)
            image = _prepared(seen, input, device)
            found.append(View(image, pairs(seen.sizes)[0], mirrored))
    return [detect_views(model, found, originals[0])]


def _prepared(batch: SceneBatch, input: SceneConfig, device: torch.device) -> Tensor:
    images = batch.images.to(device, non_blocking=True)
    return prepare_padded(images, batch.sizes, mean=input.mean, std=input.std)


def pairs(sizes: Tensor) -> list[Size]:
    """int64 (B, 2) as plain numbers."""
    return [(height, width) for height, width in sizes.tolist()]


def _workers(loader: LoaderConfig, input: SceneConfig) -> int:
    return resolved_workers(loader, size=input.short, world_size=distributed.world_size())
