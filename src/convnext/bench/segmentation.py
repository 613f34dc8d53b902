"""Our UPerNet beside transformers': the same weights, images and work, for inference and for a training step.

B images, H W space, K classes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convnext.bench.engine.dense import DenseJob, measure_all
from convnext.bench.engine.dense_results import OURS, Contestant, DensePlan, DenseResult, Work
from convnext.bench.engine.machine import INSTALL, installed_version
from convnext.bench.engine.parity import TOLERANCE, random_images, relative_difference
from convnext.bench.engine.trial import set_up_process
from convnext.bench.engine.worker import preload
from convnext.core.errors import UserError
from convnext.core.logs import Progress
from convnext.models.fuse import fuse
from convnext.models.segmentation.build import build_segmenter
from convnext.models.segmentation.config import SegmenterConfig
from convnext.models.segmentation.encoder_decoder import EncoderDecoder
from convnext.tasks.segmentation.export import segmenter_in_transformers, transformers_segmenter_config

CONTESTANTS: tuple[Contestant, ...] = (OURS, "transformers")
TITLE = "UPerNet beside transformers'"
METHOD = """\
**transformers** is its `UperNetForSemanticSegmentation` on its ConvNeXt, with our weights, every tensor of which is
random. Before anything is timed, its logits (and in training its loss) are compared with ours in float32 (at most 1e-4
relative). It has no auxiliary head in inference, where it would run it for nothing; ours is folded for inference (layer
scale and norms into the layers that follow them, the batch norms of the heads into their convolutions), as in `convnext
predict`. Neither drops channels in training (transformers' heads cannot). Both give logits as large as the image, and
learn from a class for every pixel.

Every contestant runs in the memory layout that is faster for it (NCHW or NHWC, tried first). One process is alive at
a time; every round starts all of them again, in a new random order, warms them up and times one slice. **ours is**
compares round by round: the median of their time divided by ours (above 1: ours is faster), with its 95 % interval
(bootstrap over rounds). **images/s** is from the median over rounds, **noise** how far rounds lie apart (their
quartiles), **memory** what the contestant adds to its process at most while it runs. Training is forward, backward
and a fused AdamW step, at a rate of 0, so that the work stays the same; on a processor, every process keeps the
memory that training frees, as `convnext train` does. bfloat16 is by autocast over float32 weights."""

_FILE = "reference.pt"


@dataclass
class SegmentationJob(DenseJob):
    """One contestant at one kind of work."""

    def check(self) -> Any:
        """Raises UserError if its logits or losses differ from ours; in float32, on the processor."""
        set_up_process(self.settings)
        if self.contestant == OURS:
            return None
        ours, theirs = load_shared(self.plan, self.scratch), self._build_theirs()
        x, targets = self._batch()
        with torch.no_grad():
            if self.work == "inference":
                off = relative_difference(ours.eval()(x[:1]), theirs.eval()(x[:1]).logits)
            else:
                loss = torch.stack(list(ours.train()(x, targets).values())).sum()
                off = relative_difference(loss, theirs.train()(x, labels=targets).loss)
        if not off <= TOLERANCE:
            raise UserError(
                f"transformers with our weights differs from ours by {off:.1e} relative in float32, more than "
                f"{TOLERANCE:.0e}: not the same computation, so times would not compare. Please report it with the "
                "versions."
            )
        return None

    def imports(self) -> Sequence[str]:
        return ("transformers.models.upernet",)

    def build_network(self) -> tuple[nn.Module, Tensor, Callable[[nn.Module, Tensor], Callable[[], Any]]]:
        if self.contestant == OURS:
            ours = load_shared(self.plan, self.scratch)
            module: nn.Module = fuse(ours) if self.work == "inference" else ours
        else:
            module = self._build_theirs()
        x, targets = self._batch()
        return module, x, lambda module, x: self._forward(module, x, targets)

    def _forward(self, module: nn.Module, x: Tensor, targets: Tensor) -> Callable[[], Any]:
        """The contestant's forward pass."""
        learns = self.work == "train"
        if self.contestant == OURS:
            return partial(module, x, targets.to(x.device) if learns else None)
        if not learns:
            return lambda: module(x).logits
        labels = targets.to(x.device)
        return lambda: {"loss": module(x, labels=labels).loss}

    def _build_theirs(self) -> nn.Module:
        """transformers' segmenter with the weights of ours."""
        from transformers import UperNetConfig, UperNetForSemanticSegmentation

        ours, auxiliary = load_shared(self.plan, self.scratch), self.work == "train"
        values = transformers_segmenter_config(config_of(self.plan))
        values["use_auxiliary_head"] = auxiliary
        state = segmenter_in_transformers(ours.state_dict())
        if not auxiliary:
            state = {name: value for name, value in state.items() if not name.startswith("auxiliary_head.")}
        module = UperNetForSemanticSegmentation(UperNetConfig(**values))
        module.load_state_dict(state)
        return module.eval()

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) and the class of each of their pixels, int64 (B, H, W)."""
        plan = self.plan
        generator = torch.Generator().manual_seed(plan.seed + 2)
        coarse = torch.randint(0, config_of(plan).num_classes, (plan.batch, 1, 8, 8), generator=generator).float()
        targets = nn.functional.interpolate(coarse, size=plan.size, mode="nearest")
        return random_images(plan.size, plan.batch, seed=plan.seed), targets[:, 0].long()


def config_of(plan: DensePlan) -> SegmenterConfig:
    """The configuration of the segmenter that is measured, without dropout: transformers' heads have none."""
    assert isinstance(plan.config, SegmenterConfig)
    return replace(plan.config, dropout=0.0)


def save_shared(plan: DensePlan, scratch: Path) -> None:
    """Writes the weights that all contestants share into the folder `scratch`.

    Every tensor is random, and about as large as a trained one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        model = build_segmenter(config_of(plan))
        for name, value in model.state_dict().items():
            if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point() and value.ndim == 1:
                value.normal_(0, 0.1)
    torch.save(model.state_dict(), scratch / _FILE)


def load_shared(plan: DensePlan, scratch: Path) -> EncoderDecoder:
    """Our segmenter with the shared weights, in evaluation mode."""
    with torch.device("meta"):  # these weights are replaced at once
        model = build_segmenter(config_of(plan))
    model.load_state_dict(torch.load(scratch / _FILE, weights_only=True), assign=True)
    return model.eval()


def measure(plan: DensePlan) -> DenseResult:
    """Measures both contestants at every work of the plan.

    Raises:
        UserError: for a segmenter that transformers does not have, an unknown backbone, or if transformers computes
            something else than ours.
    """
    config = config_of(plan)
    transformers_segmenter_config(config)  # raises UserError if transformers has no such segmenter
    if installed_version("transformers") is None:
        raise UserError(f"There is nothing to compare with: transformers is absent. {INSTALL['transformers']}")
    preload(["convnext.bench.segmentation", "transformers.models.upernet"])
    total = len(plan.works) * len(CONTESTANTS) * (1 + plan.rounds)
    with tempfile.TemporaryDirectory(prefix="convnext-bench-") as folder, Progress("bench", total) as progress:
        save_shared(plan, Path(folder))

        def make_job(name: Contestant, work: Work) -> SegmentationJob:
            return SegmentationJob(plan, name, work, Path(folder))

        result = measure_all(plan, CONTESTANTS, make_job, absent={}, progress=progress)
        progress.update(total)
    return result
