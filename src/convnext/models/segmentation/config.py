"""Settings of segmenters. No torch here: the command line reads these before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from convnext.models.config import ModelConfig, dense_backbone


@dataclass(frozen=True)
class SegmenterConfig:
    """A segmenter: a backbone and the head on it. The defaults are UPerNet's as the official configurations have it."""

    NAMED: ClassVar[str] = "head"

    backbone: ModelConfig = field(default_factory=ModelConfig)
    """A ConvNeXt, ResNet or Swin; its classifier is left off."""
    num_classes: int = 0
    """Classes of pixels; 0: as many as the data has."""
    head: Literal["upernet", "mlp", "linear"] = "upernet"
    """upernet: the paper's; mlp: linear layers on all maps (SegFormer), a tenth of the work; linear: one linear layer,
    for linear probing."""
    width: int = 512
    """Channels of the head's maps; a linear head has none."""
    auxiliary_width: int = 256
    """Channels of the auxiliary head, which helps in training alone; 0: no such head."""
    dropout: float = 0.1
    """Probability that a channel is dropped before the classifiers."""
    frozen: bool = False
    """Whether the backbone keeps the weights that it starts from (linear probing)."""

    def whole(self, head: str) -> SegmenterConfig:
        """The head of that name as it is, on this backbone; an unknown one is left for others to refuse."""
        usual = SEGMENTERS.get(head, upernet)(self.backbone, num_classes=self.num_classes)
        return replace(usual, dropout=self.dropout, frozen=self.frozen)


def upernet(backbone: ModelConfig, *, num_classes: int = 0) -> SegmenterConfig:
    """UPerNet as in the official configurations."""
    return SegmenterConfig(backbone, num_classes=num_classes)


def mlp(backbone: ModelConfig, *, num_classes: int = 0) -> SegmenterConfig:
    """A head of linear layers alone (SegFormer's all-MLP head), for people who need speed."""
    return SegmenterConfig(backbone, num_classes=num_classes, head="mlp", width=256, auxiliary_width=0)


def linear(backbone: ModelConfig, *, num_classes: int = 0) -> SegmenterConfig:
    """A linear layer on a frozen backbone."""
    return SegmenterConfig(backbone, num_classes=num_classes, head="linear", auxiliary_width=0, frozen=True)


RENAMED_HEADS = {"light": "mlp"}
"""Heads by the names that files of earlier versions have them under; whoever reads such files renames them."""

SEGMENTERS = {"upernet": upernet, "mlp": mlp, "linear": linear}
"""Name of a segmenter's head -> its configuration around a backbone."""


def segmenter_config(name: str, *, num_classes: int) -> SegmenterConfig:
    """`upernet_convnext_tiny` and the like: the name of a head, then that of a backbone.

    Layer scale begins at 1, as in the official configurations, where the backbone has one. Raises ValueError for a name
    that does not begin with one of `SEGMENTERS`.
    """
    kind, _, backbone = name.partition("_")
    if kind not in SEGMENTERS:
        raise ValueError(f"A segmenter's name begins with one of {', '.join(SEGMENTERS)}, not {name}.")
    return SEGMENTERS[kind](dense_backbone(backbone), num_classes=num_classes)
