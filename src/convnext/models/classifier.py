"""What every classifier here offers beside its layers, under timm's names.

B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from convnext.models.layers import init_head


class FeatureInfo(list[dict[str, Any]]):
    """What is known of each map of a model: `num_chs`, its channels; `reduction`, its stride; `module`, which gives it.

    A list of dicts, as timm's models have it; with the methods of timm's feature extractors.
    """

    def channels(self) -> list[int]:
        """The channels of each map."""
        return [info["num_chs"] for info in self]

    def reduction(self) -> list[int]:
        """The stride of each map, in pixels of the image."""
        return [info["reduction"] for info in self]

    def module_name(self) -> list[str]:
        """The module that gives each map."""
        return [info["module"] for info in self]


class ImageClassifier(nn.Module):
    """The base of ConvNeXt, IsotropicConvNeXt, ResNet, Swin and ViT.

    `num_features` is the number of pooled features, `num_classes` that of the outputs (0: no classifier), `in_chans`
    that of the image's channels. `forward(x)` is `forward_head(forward_features(x))`.
    """

    head: nn.Module
    num_classes: int
    num_features: int
    in_chans: int
    head_init_scale: float
    depths: tuple[int, ...]
    dims: tuple[int, ...]
    strides: list[int]

    @abstractmethod
    def forward_maps(self, x: Tensor) -> list[Tensor]:
        """The maps after each stage: (B, in_chans, H, W) to (B, dims[i], H / strides[i], W / strides[i])."""

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """The last map before pooling, (B, C, H', W'); a ViT's normalised tokens (B, 1 + N, C)."""

    @abstractmethod
    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """What `forward_features` gives to logits (B, K); with `pre_logits` to pooled features (B, num_features)."""

    @abstractmethod
    def min_side(self, stage: int = -1) -> int:
        """The smallest height and width of an image, in pixels, that leaves a pixel of the stage's map."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W), normalised, to logits (B, K), or to features (B, num_features) without a classifier."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self, x: Tensor, indices: int | Sequence[int] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """What `forward_features` gives, and the maps named in `feature_info`, before any final norm.

        Args:
            x: (B, in_chans, H, W).
            indices: which maps, in the order wanted: numbers from 0, or from -1 backwards; a number n: the last n;
                None: all of them.

        Raises:
            ValueError: for maps that the model does not have.
        """
        chosen = self._chosen(indices)
        last, maps = self._intermediates(x)
        return last, [maps[i] for i in chosen]

    def _chosen(self, indices: int | Sequence[int] | None) -> list[int]:
        count = len(self.feature_info)
        if indices is None:
            return list(range(count))
        wanted = list(range(count - indices, count)) if isinstance(indices, int) else list(indices)
        if (isinstance(indices, int) and not 0 < indices <= count) or not all(-count <= i < count for i in wanted):
            raise ValueError(f"The model has {count} maps, 0 to {count - 1}: indices={indices} asks for others.")
        return wanted

    @abstractmethod
    def _intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What `forward_features` gives, and every map of `feature_info`."""

    @property
    @abstractmethod
    def feature_info(self) -> FeatureInfo:
        """The maps of `forward_intermediates`."""

    def get_classifier(self) -> nn.Module:
        """The classifier: a linear layer; an Identity where the model gives features."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Replaces the classifier by a newly initialised one of that many classes; 0: by none, for features.

        Raises ValueError for a negative number.
        """
        if num_classes < 0:
            raise ValueError(f"num_classes is 0 or more, not {num_classes}.")
        like = next(self.parameters())
        self.num_classes = num_classes
        self.head = nn.Identity()
        if num_classes:
            self.head = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
            init_head(self.head, scale=self.head_init_scale)
        self.head.train(self.training)


def stage_info(dims: Sequence[int], strides: Sequence[int], modules: Sequence[str]) -> FeatureInfo:
    """The `feature_info` of maps of these channels and strides, the outputs of these modules."""
    rows = zip(dims, strides, modules, strict=True)
    return FeatureInfo({"num_chs": dim, "reduction": stride, "module": module} for dim, stride, module in rows)
