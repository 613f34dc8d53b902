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

from convnext.bench import peers
from convnext.bench.contestants import PARITY, difference
from convnext.bench.dense import DenseJob, take_turns
from convnext.bench.dense_results import OURS, Asked, Contestant, DenseResult, Work
from convnext.bench.detectors import images
from convnext.bench.trial import set_up
from convnext.bench.worker import load_once
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
scale and norms into the layers behind them, the heads' batch norms into their convolutions), as `convnext predict` has
it. Neither drops channels in training (transformers' heads cannot). Both give logits as large as the image, and learn
from a class for every pixel.

Every contestant runs in the memory layout that is faster for it (NCHW or NHWC, tried first). One process is alive at
a time; every round starts all of them afresh, in an order drawn anew, warms them up and times one slice. **ours is**
compares round by round: the median of their time over ours (above 1: ours is faster), with its 95 % interval
(bootstrap over rounds). **images/s** is from the median over rounds, **noise** how far rounds lie apart (their
quartiles), **memory** what the contestant adds to its process at most while it runs. Training is forward, backward
and a fused AdamW step, at a rate of 0, so that the work stays the same; on a processor, every process keeps the
memory that training frees, as that of `convnext train` does. bfloat16 is by autocast over float32 weights."""

_FILE = "reference.pt"


@dataclass
class SegmentationJob(DenseJob):
    """One contestant at one kind of work."""

    def check(self) -> Any:
        """Raises UserError where logits or losses are not those of ours; in float32, on the processor."""
        set_up(self.settings)
        if self.contestant == OURS:
            return None
        ours, theirs = load_common(self.asked, self.scratch), self._theirs()
        x, targets = self._given()
        with torch.no_grad():
            if self.work == "inference":
                off = difference(ours.eval()(x[:1]), theirs.eval()(x[:1]).logits)
            else:
                loss = torch.stack(list(ours.train()(x, targets).values())).sum()
                off = difference(loss, theirs.train()(x, labels=targets).loss)
        if not off <= PARITY:
            raise UserError(
                f"transformers with our weights differs from ours by {off:.1e} relative in float32, more than "
                f"{PARITY:.0e}: not the same computation, so times would not compare. Please report it with the "
                "versions."
            )
        return None

    def imports(self) -> Sequence[str]:
        return ("transformers.models.upernet",)

    def built(self) -> tuple[nn.Module, Tensor, Callable[[nn.Module, Tensor], Callable[[], Any]]]:
        if self.contestant == OURS:
            ours = load_common(self.asked, self.scratch)
            module: nn.Module = fuse(ours) if self.work == "inference" else ours
        else:
            module = self._theirs()
        x, targets = self._given()
        return module, x, lambda module, x: self._forward(module, x, targets)

    def _forward(self, module: nn.Module, x: Tensor, targets: Tensor) -> Callable[[], Any]:
        """The contestant's own forward pass."""
        learns = self.work == "train"
        if self.contestant == OURS:
            return partial(module, x, targets.to(x.device) if learns else None)
        if not learns:
            return lambda: module(x).logits
        labels = targets.to(x.device)
        return lambda: {"loss": module(x, labels=labels).loss}

    def _theirs(self) -> nn.Module:
        """transformers' with the weights of ours."""
        from transformers import UperNetConfig, UperNetForSemanticSegmentation

        ours, auxiliary = load_common(self.asked, self.scratch), self.work == "train"
        values = transformers_segmenter_config(config_of(self.asked))
        values["use_auxiliary_head"] = auxiliary
        state = segmenter_in_transformers(ours.state_dict())
        if not auxiliary:
            state = {name: value for name, value in state.items() if not name.startswith("auxiliary_head.")}
        module = UperNetForSemanticSegmentation(UperNetConfig(**values))
        module.load_state_dict(state)
        return module.eval()

    def _given(self) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W), and a class for each of their pixels, int64 (B, H, W)."""
        asked = self.asked
        chance = torch.Generator().manual_seed(asked.seed + 2)
        coarse = torch.randint(0, config_of(asked).num_classes, (asked.batch, 1, 8, 8), generator=chance).float()
        targets = nn.functional.interpolate(coarse, size=asked.size, mode="nearest")
        return images(asked.size, asked.batch, seed=asked.seed), targets[:, 0].long()


def config_of(asked: Asked) -> SegmenterConfig:
    """The segmenter that is measured: without dropout, which transformers' heads do not have."""
    assert isinstance(asked.config, SegmenterConfig)
    return replace(asked.config, dropout=0.0)


def save_common(asked: Asked, scratch: Path) -> None:
    """Writes the weights that all contestants share: every tensor random, about as large as trained ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(asked.seed)
        model = build_segmenter(config_of(asked))
        for name, value in model.state_dict().items():
            if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point() and value.ndim == 1:
                value.normal_(0, 0.1)
    torch.save(model.state_dict(), scratch / _FILE)


def load_common(asked: Asked, scratch: Path) -> EncoderDecoder:
    """Our segmenter with the shared weights, in evaluation mode."""
    with torch.device("meta"):  # no time spent on weights that are replaced at once
        model = build_segmenter(config_of(asked))
    model.load_state_dict(torch.load(scratch / _FILE, weights_only=True), assign=True)
    return model.eval()


def measure(asked: Asked) -> DenseResult:
    """Both contestants at every work that was asked for.

    Raises:
        UserError: for a segmenter that transformers does not have, an unknown backbone, or where it computes something
            else than ours.
    """
    config = config_of(asked)
    transformers_segmenter_config(config)  # where it has no such segmenter, that says so
    if peers.version("transformers") is None:
        raise UserError(f"There is nothing to compare with: transformers is absent. {peers.INSTALL['transformers']}")
    load_once(["convnext.bench.segmentation", "transformers.models.upernet"])
    total = len(asked.works) * len(CONTESTANTS) * (1 + asked.rounds)
    with tempfile.TemporaryDirectory(prefix="convnext-bench-") as folder, Progress("bench", total) as progress:
        save_common(asked, Path(folder))

        def job(name: Contestant, work: Work) -> SegmentationJob:
            return SegmentationJob(asked, name, work, Path(folder))

        result = take_turns(asked, CONTESTANTS, job, absent={}, progress=progress)
        progress.update(total)
    return result
