"""Mask R-CNN (arXiv 1703.06870) and Cascade Mask R-CNN (1712.00726): pyramid, proposals and region heads on a backbone.

B images, C channels, H W space, K classes. Sizes are (H, W). Names are those of the official detection checkpoints:
`backbone`, `neck`, `rpn_head`, `roi_head`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from convnext.models.detection.config import RoIConfig, RPNConfig
from convnext.models.detection.fpn import FPN
from convnext.models.detection.roi_heads import RoIHeads
from convnext.models.detection.rpn import RPNHead
from convnext.models.network import Network, check_finite
from convnext.ops.instances import Instances

Size = tuple[int, int]


class RCNN(Network):
    """A detector: what `forward` gives are losses where the objects are told, detections where they are not.

    Args:
        backbone: gives four maps of `channels` and `strides`; knows its blocks and depths (`models.features`).
        channels, strides: of the backbone's maps.
        num_classes: K.
        width: channels of the pyramid.
        masks: whether masks are predicted too.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        strides: Sequence[int],
        *,
        num_classes: int,
        rpn: RPNConfig,
        roi: RoIConfig,
        width: int = 256,
        masks: bool = True,
    ) -> None:
        super().__init__(backbone)
        self.num_classes = num_classes
        self.neck = FPN(channels, strides, width=width)
        self.rpn_head = RPNHead(width, self.neck.strides, rpn)
        self.roi_head = RoIHeads(width, strides, num_classes, roi, masks=masks)

    def forward(
        self,
        images: Tensor,
        sizes: Sequence[Size],
        *,
        targets: Sequence[Instances] | None = None,
        originals: Sequence[Size] | None = None,
    ) -> Any:
        """Losses by name (scalars, to be summed) where `targets` are given, else a `Detections` for each image.

        images: (B, 3, H, W), normalised, each padded on the right and below with zeros. sizes: of the images without
        padding. targets: the objects, in pixels of the images. originals: sizes of the images before
        they were resized, in whose pixels detections are given; None: the images' own.
        """
        maps = self.maps(images)
        if targets is None:
            return self.roi_head.predict(maps, self.proposals(maps, sizes), sizes, originals or sizes)
        logits, offsets = self.rpn_head(maps)
        anchors = self.rpn_head.anchors(maps)
        proposals = self.rpn_head.propose(logits, offsets, anchors, sizes)
        losses = self.rpn_head.losses(logits, offsets, anchors, sizes, targets)
        return losses | self.roi_head.losses(maps, proposals, sizes, targets)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The pyramid's five maps of images (B, 3, H, W)."""
        return self.neck(self.backbone(images))

    def proposals(self, maps: Sequence[Tensor], sizes: Sequence[Size]) -> list[Tensor]:
        """Where in each image objects may be: (N, 4), the likeliest first.

        Raises NotFinite where the network gives no numbers: else it would look as if there were no objects.
        """
        logits, offsets = self.rpn_head(maps)
        check_finite([*logits, *offsets])
        return self.rpn_head.propose(logits, offsets, self.rpn_head.anchors(maps), sizes)
