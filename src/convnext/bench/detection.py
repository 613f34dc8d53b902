"""Our Mask R-CNN beside torchvision's: the same weights, images and work, for inference and for a training step.

Contestants are ours, torchvision's around our backbone (so that heads alone differ), and torchvision's around its own
ConvNeXt. B images, H W space.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from convnext.bench import detectors, peers
from convnext.bench.alternate import Turns, alternate
from convnext.bench.cells import Settings
from convnext.bench.contestants import PARITY
from convnext.bench.detection_results import (
    CONTESTANTS,
    OURS,
    Asked,
    Contestant,
    DetectionResult,
    Entry,
    Regions,
    Work,
)
from convnext.bench.results import Tried
from convnext.bench.run import this_machine
from convnext.bench.trial import Call, Choice, Slices, build_measured, choose, set_up
from convnext.bench.worker import Job, load_once
from convnext.core.errors import UserError
from convnext.core.logs import Progress
from convnext.heads.rcnn import RCNN
from convnext.models.fuse import fuse
from convnext.networks.detector import build_detector

_LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
_FILE = "reference.pt"


@dataclass
class DetectionJob:
    """One contestant at one kind of work (see `worker.Job`). `scratch`: the folder with the common weights."""

    asked: Asked
    contestant: Contestant
    work: Work
    scratch: Path
    _slices: Slices | None = field(default=None, init=False)

    @property
    def settings(self) -> Settings:
        asked = self.asked
        return Settings(
            size=min(asked.size),
            seconds=asked.seconds,
            threads=asked.threads,
            device=asked.device,
            seed=asked.seed,
        )

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

    def choose(self) -> Choice:
        set_up(self.settings, training=self.work == "train")
        return choose({layout: partial(self._built, layout) for layout in _LAYOUTS}, self.settings)

    def prepare(self, choice: Choice) -> int | None:
        set_up(self.settings, training=self.work == "train")
        import_module("torchvision.models.detection")  # no part of a model's memory, and ours needs its operations
        build = partial(self._built, choice.best)
        call, most = build_measured(build, device=torch.device(self.asked.device))
        self._slices = Slices(call, self.settings, seconds=choice.tried[choice.best])
        return most

    def slice(self) -> float:
        assert self._slices is not None
        return self._slices()

    def _module(self, ours: RCNN) -> Any:
        """The contestant with the weights of `ours`, whose backbone it may share."""
        if self.contestant == OURS:
            return ours
        own = self.contestant == "torchvision"
        return detectors.torchvision_detector(ours, self.asked.config, self.asked.size, own_backbone=own)

    def _built(self, layout: str) -> Call:
        """What is timed, run once. Our blocks are folded for inference, whoever's heads stand on them."""
        asked, device = self.asked, torch.device(self.asked.device)
        ours, boxes = load_common(asked, self.scratch)
        module = self._module(fuse(ours) if self.work == "inference" else ours)
        module = module.to(device).to(memory_format=_LAYOUTS[layout])
        x = detectors.images(asked.size, asked.batch, seed=asked.seed).to(device, memory_format=_LAYOUTS[layout])
        call = self._call(module, x, boxes)
        call()
        return call

    def _call(self, module: nn.Module, x: Tensor, boxes: list[Tensor]) -> Call:
        """Detections, or a step of training. bfloat16 is by autocast over float32 weights."""
        dtype = getattr(torch, self.asked.dtype)
        cast_to = partial(torch.autocast, x.device.type, dtype, enabled=dtype != torch.float32)
        forward = self._forward(module, x, boxes)
        if self.work == "inference":
            module.eval()

            @torch.inference_mode()
            def found() -> Any:
                with cast_to():
                    return forward()

            return found
        parameters = list(module.train().requires_grad_(True).parameters())
        # At a rate of 0 the optimiser has all its work, and the weights stay: so does the work of every other step.
        optimizer = torch.optim.AdamW(parameters, lr=0.0, fused=True)

        def step() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            with cast_to():
                loss = cast(Tensor, sum(forward().values()))
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    def _forward(self, module: nn.Module, x: Tensor, boxes: list[Tensor]) -> Callable[[], Any]:
        """The contestant's own forward pass, in the form in which it wants images and objects."""
        objects = None
        if self.work == "train":
            objects = [
                target.to(x.device)
                for target in detectors.targets(boxes, self.asked.size, self.asked.config.num_classes)
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
        self._call(module, x, boxes)()
        for hook in hooks:
            hook.remove()
        return Regions(*counts)


def save_common(asked: Asked, scratch: Path) -> None:
    """Writes the weights and the objects that all contestants share."""
    model, boxes = detectors.arrange(asked.config, asked.size, asked.batch, seed=asked.seed)
    torch.save({"weights": model.state_dict(), "boxes": boxes}, scratch / _FILE)


def load_common(asked: Asked, scratch: Path) -> tuple[RCNN, list[Tensor]]:
    """Our detector with the shared weights, in evaluation mode, and the boxes (N, 4) of each image's objects."""
    kept = torch.load(scratch / _FILE, weights_only=True)
    with torch.device("meta"):  # no time spent on weights that are replaced at once
        model = build_detector(asked.config)
    model.load_state_dict(kept["weights"], assign=True)
    return model.eval(), kept["boxes"]


def measure(asked: Asked) -> DetectionResult:
    """All contestants at every work that was asked for.

    Raises:
        UserError: for a detector that torchvision does not have, an unknown backbone, or a contestant that computes
            something else than ours.
    """
    if not detectors.offers(asked.config, own_backbone=False):
        raise UserError("torchvision has Mask R-CNN alone: take a model whose name begins with mask_rcnn_.")
    if peers.version("torchvision") is None:
        raise UserError(f"There is nothing to compare with: torchvision is absent. {peers.INSTALL['torchvision']}")
    load_once(["convnext.bench.detection", "torchvision.models.detection"])
    whole = detectors.offers(asked.config, own_backbone=True)
    names = CONTESTANTS if whole else CONTESTANTS[:-1]
    total = len(asked.works) * len(names) * (1 + asked.rounds)
    entries: list[Entry] = []
    with tempfile.TemporaryDirectory(prefix="convnext-bench-") as folder, Progress("bench", total) as progress:
        progress.update(0, "arranging equal work")
        save_common(asked, Path(folder))
        for number, work in enumerate(asked.works):
            begun = number * len(names) * (1 + asked.rounds)
            jobs: dict[str, Job] = {name: DetectionJob(asked, name, work, Path(folder)) for name in names}
            turns = alternate(
                jobs,
                rounds=asked.rounds,
                seed=asked.seed,
                heard=lambda done, text, begun=begun, work=work: progress.update(begun + done, f"{work}: {text}"),
            )
            entries += [_entry(name, work, turns[name]) for name in names]
            if not whole:
                entries.append(Entry("torchvision", work, note=f"torchvision has no {asked.config.backbone.name}"))
        progress.update(total)
    date = datetime.now().astimezone().isoformat(timespec="seconds")
    return DetectionResult(asked, this_machine(asked.device), date, tuple(entries))


def _entry(name: Contestant, work: Work, turns: Turns) -> Entry:
    choice = turns.choice
    tried = () if choice is None else tuple(Tried(layout, seconds) for layout, seconds in choice.tried.items())
    if choice is not None:
        tried += tuple(Tried(layout, failed=why) for layout, why in choice.failed.items())
    return Entry(
        *(name, work),
        note=turns.failed,
        choice="" if choice is None else choice.best,
        tried=tried,
        regions=turns.checked,
        seconds=turns.seconds,
        memory=turns.memory,
    )
