"""Our Mask R-CNN beside torchvision's: the same weights, images and work, for inference and for a training step.

Contestants are ours, torchvision's around our backbone (so that heads alone differ), and torchvision's around its own
ConvNeXt. B images, H W space.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convnext.bench import detectors, peers
from convnext.bench.contestants import PARITY
from convnext.bench.dense import DenseJob, take_turns
from convnext.bench.dense_results import OURS, Asked, Contestant, DenseResult, Regions
from convnext.bench.trial import set_up
from convnext.bench.worker import load_once
from convnext.core.errors import UserError
from convnext.core.logs import Progress
from convnext.models.detection.build import build_detector
from convnext.models.detection.config import DetectorConfig
from convnext.models.detection.rcnn import RCNN
from convnext.models.fuse import fuse

CONTESTANTS: tuple[Contestant, ...] = ("convnext", "torchvision heads", "torchvision")
TITLE = "Mask R-CNN beside torchvision's"
METHOD = """\
**torchvision heads** is torchvision's `MaskRCNN` around our backbone, folded for inference as ours is: pyramid,
proposals and heads alone differ. **torchvision** has its own ConvNeXt too. Before anything is timed, every part's
float32 figures on the same input are compared with ours (at most 1e-4 relative), and in inference the numbers of
regions.

All have the same images, weights and settings: anchors, proposals, samples, thresholds, RoIAlign with as many samples
as a region has pixels (torchvision's default is 2 x 2, which is less work). The weights are random, but arranged so
that there is as much to do as with trained ones: in every image the most detections that are allowed, of boxes of
many sizes, each with a mask as large as the picture (ours are true or false, torchvision's are probabilities); ten
objects to learn from, where most proposals are. **regions** and **masks** are how many go through box head and mask
head in a call. torchvision takes images of the size at which it runs, without normalising; its own pass over them,
which changes nothing, is part of its time, as it is for whoever uses it.

Every contestant runs in the memory layout that is faster for it (NCHW or NHWC, tried first). One process is alive at
a time; every round starts all of them afresh, in an order drawn anew, warms them up and times one slice. **ours is**
compares round by round: the median of their time over ours (above 1: ours is faster), with its 95 % interval
(bootstrap over rounds). **images/s** is from the median over rounds, **noise** how far rounds lie apart (their
quartiles), **memory** what the contestant adds to its process at most while it runs. Training is forward, backward
and a fused AdamW step, at a rate of 0, so that the work stays the same; on a processor, every process keeps the
memory that training frees, as that of `convnext train` does. bfloat16 is by autocast over float32 weights."""

_FILE = "reference.pt"


@dataclass
class DetectionJob(DenseJob):
    """One contestant at one kind of work."""

    def check(self) -> Any:
        """How many `Regions` go through its heads in a call; in float32, on the processor.

        Raises UserError where they, or any part's figures, are not those of ours.
        """
        set_up(self.settings)
        ours, boxes = load_common(self.asked, self.scratch)
        x = detectors.images(self.asked.size, self.asked.batch, seed=self.asked.seed)
        module = self._module(ours)
        if self.contestant != OURS:
            off = detectors.difference(ours, module, x[:1])
            if not off <= PARITY:
                raise UserError(
                    f"{self.contestant} with our weights differs from ours by {off:.1e} relative in float32, more than "
                    f"{PARITY:.0e}: not the same computation, so times would not compare. Please report it with the "
                    "versions."
                )
        found = self._regions(module, x, boxes)
        if self.work == "inference" and self.contestant != OURS:
            expected = DetectionJob(self.asked, OURS, self.work, self.scratch)._regions(ours, x, boxes)
            if found != expected:
                raise UserError(f"{self.contestant} has other work than ours: {found}, not {expected} regions.")
        return found

    def imports(self) -> Sequence[str]:
        """Ours needs its operations."""
        return ("torchvision.models.detection",)

    @property
    def config(self) -> DetectorConfig:
        """Of the detector."""
        return config_of(self.asked)

    def _module(self, ours: RCNN) -> Any:
        """The contestant with the weights of `ours`, whose backbone it may share."""
        if self.contestant == OURS:
            return ours
        own = self.contestant == "torchvision"
        return detectors.torchvision_detector(ours, self.config, self.asked.size, own_backbone=own)

    def built(self) -> tuple[nn.Module, Tensor, Callable[[nn.Module, Tensor], Callable[[], Any]]]:
        """Our blocks are folded for inference, whoever's heads stand on them."""
        asked = self.asked
        ours, boxes = load_common(asked, self.scratch)
        module = self._module(fuse(ours) if self.work == "inference" else ours)
        x = detectors.images(asked.size, asked.batch, seed=asked.seed)
        return module, x, lambda module, x: self._forward(module, x, boxes)

    def _forward(self, module: nn.Module, x: Tensor, boxes: list[Tensor]) -> Callable[[], Any]:
        """The contestant's own forward pass, in the form in which it wants images and objects."""
        objects = None
        if self.work == "train":
            objects = [
                target.to(x.device) for target in detectors.targets(boxes, self.asked.size, self.config.num_classes)
            ]
        if self.contestant == OURS:
            return partial(module, x, [self.asked.size] * len(x), targets=objects)
        if objects is None:
            return partial(module, list(x))
        theirs = [{"boxes": one.boxes, "labels": one.labels + 1, "masks": one.masks} for one in objects]
        return partial(module, list(x), theirs)

    def _regions(self, module: Any, x: Tensor, boxes: list[Tensor]) -> Regions:
        """How many regions go through the box head and the mask head in one call."""
        counts: list[int] = []
        heads = module.roi_head if self.contestant == OURS else module.roi_heads
        found = (heads.bbox_head, heads.mask_head) if self.contestant == OURS else (heads.box_head, heads.mask_head)
        hooks = [head.register_forward_pre_hook(lambda _head, given: counts.append(len(given[0]))) for head in found]
        self.call(module, self._forward(module, x, boxes), x.device)()
        for hook in hooks:
            hook.remove()
        return Regions(*counts)


def config_of(asked: Asked) -> DetectorConfig:
    """The detector that is measured."""
    assert isinstance(asked.config, DetectorConfig)
    return asked.config


def save_common(asked: Asked, scratch: Path) -> None:
    """Writes the weights and the objects that all contestants share."""
    model, boxes = detectors.arrange(config_of(asked), asked.size, asked.batch, seed=asked.seed)
    torch.save({"weights": model.state_dict(), "boxes": boxes}, scratch / _FILE)


def load_common(asked: Asked, scratch: Path) -> tuple[RCNN, list[Tensor]]:
    """Our detector with the shared weights, in evaluation mode, and the boxes (N, 4) of each image's objects."""
    kept = torch.load(scratch / _FILE, weights_only=True)
    with torch.device("meta"):  # no time spent on weights that are replaced at once
        model = build_detector(config_of(asked))
    model.load_state_dict(kept["weights"], assign=True)
    return model.eval(), kept["boxes"]


def measure(asked: Asked) -> DenseResult:
    """All contestants at every work that was asked for.

    Raises:
        UserError: for a detector that torchvision does not have, an unknown backbone, or a contestant that computes
            something else than ours.
    """
    config = config_of(asked)
    if not detectors.offers(config, own_backbone=False):
        raise UserError("torchvision has Mask R-CNN alone: take a model whose name begins with mask_rcnn_.")
    if peers.version("torchvision") is None:
        raise UserError(f"There is nothing to compare with: torchvision is absent. {peers.INSTALL['torchvision']}")
    load_once(["convnext.bench.detection", "torchvision.models.detection"])
    whole = detectors.offers(config, own_backbone=True)
    names = CONTESTANTS if whole else CONTESTANTS[:-1]
    absent: dict[Contestant, str] = {} if whole else {"torchvision": f"torchvision has no {config.backbone.name}"}
    total = len(asked.works) * len(names) * (1 + asked.rounds)
    with tempfile.TemporaryDirectory(prefix="convnext-bench-") as folder, Progress("bench", total) as progress:
        progress.update(0, "arranging equal work")
        save_common(asked, Path(folder))
        result = take_turns(
            asked,
            names,
            lambda name, work: DetectionJob(asked, name, work, Path(folder)),
            absent=absent,
            progress=progress,
        )
        progress.update(total)
    return result
