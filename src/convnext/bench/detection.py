"""Our Mask R-CNN beside torchvision's: the same weights, images and work, for inference and for a training step.

The contestants are ours, torchvision's around our backbone (so that only the heads differ), and torchvision's around
its own ConvNeXt. B images, H W space.
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

from convnext.bench import detectors
from convnext.bench.engine.dense import DenseJob, measure_all
from convnext.bench.engine.dense_results import OURS, Contestant, DensePlan, DenseResult, Regions
from convnext.bench.engine.machine import INSTALL, installed_version
from convnext.bench.engine.parity import TOLERANCE, random_images
from convnext.bench.engine.trial import set_up_process
from convnext.bench.engine.worker import preload
from convnext.core.errors import UserError
from convnext.core.logs import Progress
from convnext.models.detection.build import build_detector
from convnext.models.detection.config import DetectorConfig
from convnext.models.detection.rcnn import RCNN
from convnext.models.fuse import fuse

CONTESTANTS: tuple[Contestant, ...] = ("convnext", "torchvision heads", "torchvision")
TITLE = "Mask R-CNN beside torchvision's"
METHOD = """\
**torchvision heads** is torchvision's `MaskRCNN` around our backbone, folded for inference as ours is: only pyramid,
proposals and heads differ. **torchvision** has its own ConvNeXt too. Before anything is timed, the float32 results of
every part on the same input are compared with ours (at most 1e-4 relative), and in inference the numbers of regions.

All have the same images, weights and settings: anchors, proposals, samples, thresholds, RoIAlign with as many samples
as a region has pixels (torchvision's default is 2 x 2, which is less work). The weights are random, but arranged so
that there is as much to do as with trained ones: in every image as many detections as are allowed, of boxes of many
sizes, each with a mask as large as the image (ours are true or false, torchvision's are probabilities); ten objects to
learn from, where most proposals are. **regions** and **masks** are how many go through box head and mask head in a
call. torchvision takes images of the size at which it runs, without normalising them; its own pass over them, which
changes nothing, is part of its time, as it is for its users.

Every contestant runs in the memory layout that is faster for it (NCHW or NHWC, tried first). One process is alive at
a time; every round starts all of them again, in a new random order, warms them up and times one slice. **ours is**
compares round by round: the median of their time divided by ours (above 1: ours is faster), with its 95 % interval
(bootstrap over rounds). **images/s** is from the median over rounds, **noise** how far rounds lie apart (their
quartiles), **memory** what the contestant adds to its process at most while it runs. Training is forward, backward
and a fused AdamW step, at a rate of 0, so that the work stays the same; on a processor, every process keeps the
memory that training frees, as `convnext train` does. bfloat16 is by autocast over float32 weights."""

_FILE = "reference.pt"


@dataclass
class DetectionJob(DenseJob):
    """One contestant at one kind of work."""

    def check(self) -> Any:
        """Counts the `Regions` that go through its heads in a call; in float32, on the processor.

        Raises UserError if they, or the results of any part, differ from ours.
        """
        set_up_process(self.settings)
        ours, boxes = load_shared(self.plan, self.scratch)
        x = random_images(self.plan.size, self.plan.batch, seed=self.plan.seed)
        module = self._build_contestant(ours)
        if self.contestant != OURS:
            off = detectors.largest_difference(ours, module, x[:1])
            if not off <= TOLERANCE:
                raise UserError(
                    f"{self.contestant} with our weights differs from ours by {off:.1e} relative in float32, more than "
                    f"{TOLERANCE:.0e}: not the same computation, so times would not compare. Please report it with the "
                    "versions."
                )
        found = self._count_regions(module, x, boxes)
        if self.work == "inference" and self.contestant != OURS:
            expected = DetectionJob(self.plan, OURS, self.work, self.scratch)._count_regions(ours, x, boxes)
            if found != expected:
                raise UserError(f"{self.contestant} has other work than ours: {found}, not {expected} regions.")
        return found

    def imports(self) -> Sequence[str]:
        """Our detector needs torchvision's operations too."""
        return ("torchvision.models.detection",)

    @property
    def config(self) -> DetectorConfig:
        """The configuration of the detector."""
        return config_of(self.plan)

    def _build_contestant(self, ours: RCNN) -> Any:
        """The contestant with the weights of `ours`. It may share the backbone of `ours`."""
        if self.contestant == OURS:
            return ours
        own = self.contestant == "torchvision"
        return detectors.torchvision_detector(ours, self.config, self.plan.size, own_backbone=own)

    def build_network(self) -> tuple[nn.Module, Tensor, Callable[[nn.Module, Tensor], Callable[[], Any]]]:
        """See `DenseJob`. Our backbone is folded for inference under torchvision's heads too."""
        plan = self.plan
        ours, boxes = load_shared(plan, self.scratch)
        module = self._build_contestant(fuse(ours) if self.work == "inference" else ours)
        x = random_images(plan.size, plan.batch, seed=plan.seed)
        return module, x, lambda module, x: self._forward(module, x, boxes)

    def _forward(self, module: nn.Module, x: Tensor, boxes: list[Tensor]) -> Callable[[], Any]:
        """The contestant's forward pass, with images and objects in the form that it takes."""
        objects = None
        if self.work == "train":
            objects = [
                target.to(x.device) for target in detectors.targets(boxes, self.plan.size, self.config.num_classes)
            ]
        if self.contestant == OURS:
            return partial(module, x, [self.plan.size] * len(x), targets=objects)
        if objects is None:
            return partial(module, list(x))
        theirs = [{"boxes": one.boxes, "labels": one.labels + 1, "masks": one.masks} for one in objects]
        return partial(module, list(x), theirs)

    def _count_regions(self, module: Any, x: Tensor, boxes: list[Tensor]) -> Regions:
        """How many regions go through the box head and the mask head in one call."""
        counts: list[int] = []
        heads = module.roi_head if self.contestant == OURS else module.roi_heads
        found = (heads.bbox_head, heads.mask_head) if self.contestant == OURS else (heads.box_head, heads.mask_head)
        hooks = [head.register_forward_pre_hook(lambda _head, given: counts.append(len(given[0]))) for head in found]
        self.timed_call(module, self._forward(module, x, boxes), x.device)()
        for hook in hooks:
            hook.remove()
        return Regions(*counts)


def config_of(plan: DensePlan) -> DetectorConfig:
    """The configuration of the detector that is measured."""
    assert isinstance(plan.config, DetectorConfig)
    return plan.config


def save_shared(plan: DensePlan, scratch: Path) -> None:
    """Writes the weights and the objects that all contestants share into the folder `scratch`."""
    model, boxes = detectors.arrange_equal_work(config_of(plan), plan.size, plan.batch, seed=plan.seed)
    torch.save({"weights": model.state_dict(), "boxes": boxes}, scratch / _FILE)


def load_shared(plan: DensePlan, scratch: Path) -> tuple[RCNN, list[Tensor]]:
    """Our detector with the shared weights, in evaluation mode, and the boxes (N, 4) of each image's objects."""
    kept = torch.load(scratch / _FILE, weights_only=True)
    with torch.device("meta"):  # these weights are replaced at once
        model = build_detector(config_of(plan))
    model.load_state_dict(kept["weights"], assign=True)
    return model.eval(), kept["boxes"]


def measure(plan: DensePlan) -> DenseResult:
    """Measures all contestants at every work of the plan.

    Raises:
        UserError: for a detector that torchvision does not have, an unknown backbone, or if a contestant computes
            something else than ours.
    """
    config = config_of(plan)
    if not detectors.offers(config, own_backbone=False):
        raise UserError(
            "This compares Mask R-CNN alone with torchvision's: take a model whose name begins with mask_rcnn_."
        )
    if installed_version("torchvision") is None:
        raise UserError(f"There is nothing to compare with: torchvision is absent. {INSTALL['torchvision']}")
    preload(["convnext.bench.detection", "torchvision.models.detection"])
    whole = detectors.offers(config, own_backbone=True)
    names = CONTESTANTS if whole else CONTESTANTS[:-1]
    absent: dict[Contestant, str] = {} if whole else {"torchvision": f"torchvision has no {config.backbone.name}"}
    total = len(plan.works) * len(names) * (1 + plan.rounds)
    with tempfile.TemporaryDirectory(prefix="convnext-bench-") as folder, Progress("bench", total) as progress:
        progress.update(0, "arranging equal work")
        save_shared(plan, Path(folder))
        result = measure_all(
            plan,
            names,
            lambda name, work: DetectionJob(plan, name, work, Path(folder)),
            absent=absent,
            progress=progress,
        )
        progress.update(total)
    return result
