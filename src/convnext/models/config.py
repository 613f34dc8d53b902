"""Settings of a model. No torch here: the command line reads these before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar


@dataclass(frozen=True)
class ModelConfig:
    """A model by name, and what differs from that name's defaults."""

    NAMED: ClassVar[str] = "name"

    name: str = "convnext_tiny"
    """One of `convnext models`."""
    num_classes: int = 0
    """Outputs of the classifier; 0: as many as the data has classes (in a model: features, no classifier)."""
    in_chans: int = 3
    """Channels of the input image."""
    drop_path_rate: float = 0.0
    """Stochastic depth: the probability that the last block is skipped, rising linearly from 0 at the first."""
    layer_scale_init_value: float | None = None
    """Initial layer scale; 0: no layer scale; None: as the named model has it (1e-6 for ConvNeXt, none for V2)."""
    head_init_scale: float = 1.0
    """Factor on the classifier's initial weights (0.001 for fine-tuning, paper Table 6)."""
    init_std: float = 0.02
    """Standard deviation of the initial weights; 0.02 as published. Narrow models learn faster from more, as 0.08."""
    stem_stride: int = 4
    """Downsampling of the stem: 4, or 2 or 1 for small images."""
    output_stride: int = 32
    """Largest downsampling, 8, 16 or 32: later stages dilate their convolutions instead of shrinking the map."""
    depths: tuple[int, ...] | None = None
    """Blocks in each of the four stages (isotropic, ViT: in the one there is), where they differ from the named
    model's."""
    dims: tuple[int, ...] | None = None
    """Channels of each stage, where they differ from the named model's."""
    kernel_size: int | None = None
    """Side of the depthwise filters, odd, where it differs from the named model's (7); small images learn from 3."""
    patch_size: int | None = None
    """Isotropic, ViT, Swin: side of the patches that an image is cut into, where it differs from the named model's."""
    window_size: int | None = None
    """Swin: side of the windows of attention, where it differs from the named model's (7)."""
    img_size: int | None = None
    """ViT: side of the images that its positions are learned for (224 as published); for others they are
    interpolated."""

    def whole(self, name: str) -> ModelConfig:
        """The model of that name as it is, with what here is of data and training rather than of a model: channels,
        classes, drop path, the classifier's beginning. A dense backbone's layer scale begins as theirs do."""
        usual = dense_backbone(self.name).layer_scale_init_value
        dense = usual is not None and self.layer_scale_init_value == usual
        kept = {key: getattr(self, key) for key in ("num_classes", "in_chans", "drop_path_rate", "head_init_scale")}
        return replace(dense_backbone(name) if dense else ModelConfig(name), **kept)


@dataclass(frozen=True)
class FCMAEConfig:
    """A fully convolutional masked autoencoder: an encoder and the decoder on it (V2 paper, section 3)."""

    backbone: ModelConfig = field(default_factory=lambda: ModelConfig("convnextv2_tiny"))
    """The encoder: a ConvNeXt, V2 or V1, with a patchify stem."""
    mask_ratio: float = 0.6
    """Share of an image's cells that are masked; a cell is as large as the encoder's total stride (32 pixels)."""
    decoder_dim: int = 512
    """Channels of the decoder."""
    decoder_depth: int = 1
    """Blocks of the decoder."""
    norm_pix: bool = True
    """Whether each cell's pixels are normalised by their own mean and deviation before they are predicted."""


def dense_backbone(name: str, *, drop_path_rate: float = 0.0) -> ModelConfig:
    """A backbone by name, its layer scale beginning at 1 if it has one (official dense configurations)."""
    scaled = name.startswith(("convnext_", "dinov3_convnext_"))
    return ModelConfig(name, drop_path_rate=drop_path_rate, layer_scale_init_value=1.0 if scaled else None)
