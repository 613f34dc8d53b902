"""The all-MLP head: a class for every pixel from linear layers alone.

B images, C channels, H W space, K classes. A 1x1 convolution and a bilinear resize may change places, so each map is
convolved at its own size and the results are resized and added, where the literature resizes, concatenates and then
convolves: the same function of the maps at a fraction of the work.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from convnext.models.segmentation.upernet import init_segmentation_head, resized


class MLPHead(nn.Module):
    """All maps in one linear layer each, added, normalised, classified: SegFormer's head (arXiv 2105.15203), whose
    first two linear layers have nothing between them and are one here.

    Args:
        channels: of the backbone's maps, fine to coarse.
        num_classes: K.
        width: channels before the classifier.
        dropout: probability that a channel is dropped before the classifier.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, *, width: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, width, 1, bias=False) for c in channels)
        self.bn, self.act = nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(width, num_classes, 1)
        init_segmentation_head(self)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, channels[i], H_i, W_i) to logits (B, K, H_0, W_0)."""
        merged = sum_resized([conv(x) for conv, x in zip(self.convs, maps, strict=True)])
        return self.conv_seg(self.dropout(self.act(self.bn(merged))))


def sum_resized(maps: Sequence[Tensor]) -> Tensor:
    """Maps of equal channels, from fine to coarse, as one as large as the first; added from the coarsest up, each
    resized by the step to the next."""
    whole = maps[-1]
    for finer in reversed(maps[:-1]):
        whole = finer + resized(whole, finer)
    return whole
