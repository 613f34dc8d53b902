"""Images with their objects. Shapes: H W space, N images, M objects of one of them, K classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor

from convnext.data.dataset import Dataset
from convnext.ops.instances import Instances

S = TypeVar("S", bound="DetectionDataset")


class DetectionDataset(Dataset, Protocol):
    """Images with boxes, and masks where there are any: what detection trains and is evaluated on."""

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The data's own number of each class, K of them, ascending; COCO's results name classes by them."""
        ...

    @property
    def has_masks(self) -> bool:
        """Whether the objects have masks, not boxes alone."""
        ...

    @property
    def sizes(self) -> Tensor:
        """int64 (N, 2): height and width of each image."""
        ...

    @property
    def counts(self) -> Tensor:
        """int64 (N,): objects in each image, crowds not counted."""
        ...

    def instances(self, index: int) -> Instances:
        """The image's objects: boxes float32 (M, 4) as x0, y0, x1, y1 in pixels, labels int64 (M,), masks bool
        (M, H, W) or None."""
        ...

    def image_id(self, index: int) -> int:
        """The image's number in results in COCO's form."""
        ...

    def truth(self) -> dict[str, list[dict[str, Any]]]:
        """All images as COCO's tools take them: {"images", "annotations", "categories"}."""
        ...

    def selected(self: S, indices: Sequence[int] | Tensor) -> S:
        """Some of these images, in the given order."""
        ...
