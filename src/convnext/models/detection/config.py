"""Settings of the heads. No torch here: the command line reads these before torch is loaded.

The defaults are Mask R-CNN's as the official ConvNeXt configurations have it (object_detection/configs/convnext and the
bases of mmdetection that they name); `CASCADE_RPN` and `CASCADE_ROI` are Cascade Mask R-CNN's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from convnext.models.config import ModelConfig, dense_backbone

Four = tuple[float, float, float, float]


@dataclass(frozen=True)
class RPNConfig:
    """The region proposal network (arXiv 1506.01497)."""

    anchor_scale: float = 8.0
    """Side of a square anchor, in strides of its level."""
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height by width of the anchors."""
    inside_only: bool = False
    """Learn from those anchors alone that lie within the image."""
    smooth: float = 0.0
    """Offsets up to which their loss is quadratic (smooth L1); 0: L1."""
    positive_iou: float = 0.7
    """Overlap with an object from which an anchor stands for it."""
    negative_iou: float = 0.3
    """Overlap below which an anchor is background; an object's best anchors stand for it from here on."""
    samples: int = 256
    """Anchors that an image's loss is taken over, at most half of them objects."""
    before_nms: tuple[int, int] = (2000, 1000)
    """Proposals of each level before suppression, in training and else."""
    after_nms: tuple[int, int] = (1000, 1000)
    """Proposals of an image after suppression, in training and else."""
    nms_iou: float = 0.7
    """Overlap with a better proposal of its level above which a proposal is dropped."""


@dataclass(frozen=True)
class RoIConfig:
    """The heads on regions: classes, boxes and masks, in one stage (Mask R-CNN) or more (Cascade R-CNN)."""

    ious: tuple[float, ...] = (0.5,)
    """Of each stage: overlap with an object from which a region stands for it."""
    stds: tuple[Four, ...] = ((0.1, 0.1, 0.2, 0.2),)
    """Of each stage: the units of the four offsets between region and object."""
    weights: tuple[float, ...] = (1.0,)
    """Of each stage: the weight of its losses."""
    best_too: bool = True
    """Whether an object's best regions stand for it even where they overlap another one more."""
    convs: int = 0
    """3x3 convolutions with batch norm in front of the linear layers."""
    fcs: int = 2
    """Linear layers in front of the outputs."""
    width: int = 1024
    """Features of the linear layers."""
    class_agnostic: bool = False
    """Whether one box is predicted for a region whatever its class (mmdetection's own cascades); else one for each."""
    giou: bool = False
    """Whether the boxes' loss is 10 x GIoU of the boxes themselves; else L1 of the offsets."""
    samples: int = 512
    """Regions that an image's loss is taken over."""
    positive_share: float = 0.25
    """Most of these that are objects."""
    score: float = 0.05
    """Detections below this score are dropped."""
    nms_iou: float = 0.5
    """Overlap with a detection of its class of a higher score above which a detection is dropped."""
    most: int = 100
    """Detections in an image at most."""
    mask_threshold: float = 0.5
    """Probability from which a pixel belongs to an object."""
    mask_convs: int = 4
    """3x3 convolutions of the mask head."""


CASCADE_RPN = RPNConfig(inside_only=True, smooth=1 / 9, after_nms=(2000, 1000))
CASCADE_ROI = RoIConfig(
    ious=(0.5, 0.6, 0.7),
    stds=((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067)),
    weights=(1.0, 0.5, 0.25),
    best_too=False,
    convs=4,
    fcs=1,
    giou=True,
)


@dataclass(frozen=True)
class DetectorConfig:
    """A detector: a backbone and the heads on it."""

    backbone: ModelConfig = field(default_factory=ModelConfig)
    """A ConvNeXt, ResNet or Swin; its classifier is left off."""
    num_classes: int = 0
    """Kinds of objects; 0: as many as the data has."""
    masks: bool = True
    """Whether masks are predicted, or boxes only."""
    width: int = 256
    """Channels of the feature pyramid and of the heads' convolutions."""
    rpn: RPNConfig = field(default_factory=RPNConfig)
    """The region proposal network."""
    roi: RoIConfig = field(default_factory=RoIConfig)
    """The heads on regions."""


def mask_rcnn(backbone: ModelConfig, *, num_classes: int = 0) -> DetectorConfig:
    """Mask R-CNN as in the official configurations."""
    return DetectorConfig(backbone, num_classes=num_classes)


def cascade_mask_rcnn(backbone: ModelConfig, *, num_classes: int = 0) -> DetectorConfig:
    """Cascade Mask R-CNN of three stages, with 4-conv-1-fc box heads, as in the official configurations."""
    return DetectorConfig(backbone, num_classes=num_classes, rpn=CASCADE_RPN, roi=CASCADE_ROI)


def faster_rcnn(backbone: ModelConfig, *, num_classes: int = 0) -> DetectorConfig:
    """Faster R-CNN: Mask R-CNN without masks."""
    return DetectorConfig(backbone, num_classes=num_classes, masks=False)


KINDS = {"mask_rcnn": mask_rcnn, "cascade_mask_rcnn": cascade_mask_rcnn, "faster_rcnn": faster_rcnn}
"""Name of a detector -> its configuration around a backbone."""


def detector_config(name: str, *, num_classes: int) -> DetectorConfig:
    """`mask_rcnn_convnext_tiny` and the like: the name of a detector, then that of a backbone.

    Layer scale begins at 1, as in the official configurations, where the backbone has one. Raises ValueError for a name
    that does not begin with one of `KINDS`.
    """
    kind = next((kind for kind in KINDS if name.startswith(f"{kind}_")), None)
    if kind is None:
        raise ValueError(
            f"A detector's name begins with one of {', '.join(KINDS)}, as mask_rcnn_convnext_tiny, not {name}."
        )
    return KINDS[kind](dense_backbone(name.removeprefix(f"{kind}_")), num_classes=num_classes)
