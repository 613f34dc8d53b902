"""FCMAE, the masked autoencoder of ConvNeXt V2 (arXiv 2301.00808, section 3): dense convolutions, masked places zero.

B batch, C channels, H W space, P side of a cell in pixels (the encoder's total stride), h w cells, V visible places.
The paper's sparse convolutions and dense ones whose masked places are zero before and after give the same numbers
(its appendix A.2). The depthwise convolutions here are dense; all that mixes channels is computed at the visible places
alone, which is most of the work.

Parameters have the names of the official code (facebookresearch/ConvNeXt-V2, models/fcmae.py); the encoder's are those
of `ConvNeXt`. What is other than there, and why: docs/results/fcmae.md.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from convnext.core.errors import UserError
from convnext.models.check_input import check_images
from convnext.models.config import FCMAEConfig
from convnext.models.convnext import Block, ConvNeXt
from convnext.models.create import from_config
from convnext.models.layers import init_weights


class Reconstruction(NamedTuple):
    """What an FCMAE makes of masked images."""

    predicted: Tensor
    """(B, h * w, P * P * C): the pixels of every cell, row by row; what it says of visible cells means nothing."""
    target: Tensor
    """The same of the images, normalised where the model is taught so."""
    losses: Tensor
    """float32 (B, h * w): the mean squared error of each cell; visible ones are 0."""


class FCMAE(nn.Module):
    """An encoder that sees the unmasked cells of an image, and a decoder that predicts the pixels of the others.

    Raises UserError for an encoder that is no ConvNeXt with a patchify stem, whose cells would see each other's pixels
    before they are masked.
    """

    def __init__(self, config: FCMAEConfig) -> None:
        super().__init__()
        encoder = from_config(config.backbone)
        if not isinstance(encoder, ConvNeXt) or encoder.size.stem != "patch" or encoder.num_classes:
            raise UserError(
                f"Masked pre-training takes a ConvNeXt with a stem of patches, as convnextv2_tiny, not "
                f"{config.backbone.name}."
            )
        self.config, self.encoder = config, encoder
        self.cell = encoder.strides[-1]
        self.in_chans = config.backbone.in_chans
        # the encoder's norm and head are for classifiers: the decoder takes the last map as it is
        self.encoder.norm = nn.Identity()  # type: ignore[assignment]
        self.proj = nn.Conv2d(encoder.dims[-1], config.decoder_dim, 1)
        self.mask_token = nn.Parameter(torch.zeros(1, config.decoder_dim, 1, 1))
        blocks = (
            Block(config.decoder_dim, layer_scale_init_value=0.0, use_grn=True) for _ in range(config.decoder_depth)
        )
        self.decoder = nn.Sequential(*blocks)
        self.pred = nn.Conv2d(config.decoder_dim, self.in_chans * self.cell**2, 1)
        for part in (self.proj, self.decoder, self.pred):
            part.apply(init_weights)
        nn.init.normal_(self.mask_token, std=0.02)

    def block_list(self) -> list[nn.Module]:
        """Every block, first to last: the units of compilation and activation checkpointing."""
        return [*self.encoder.block_list(), *self.decoder.children()]

    def depth_ids(self, *, blocks_per_group: int = 3) -> dict[str, int]:
        """The depth of every parameter: the decoder's, and what belongs to it, are one beyond the encoder's last."""
        inner = self.encoder.depth_ids(blocks_per_group=blocks_per_group)
        deepest = max(inner.values()) + 1
        return {name: inner.get(name.removeprefix("encoder."), deepest) for name, _ in self.named_parameters()}

    def encode(self, images: Tensor, mask: Tensor) -> Tensor:
        """The last map of the visible cells: (B, C, H, W) and bool (B, h, w), True where masked, to
        (B, dims[-1], h, w), 0 where masked. Every image has as many masked cells."""
        self._check(images, mask)
        x = images.contiguous(memory_format=torch.channels_last)
        for downsample, stage, stride in zip(
            self.encoder.downsample_layers, self.encoder.stages, self.encoder.strides, strict=True
        ):
            keep = _enlarged(~mask, self.cell // stride)
            x = downsample(x) * keep.unsqueeze(1)  # the norm before it, and its bias, leave no zeros as they are
            visible = places_of(keep)
            for block in cast("nn.Sequential", stage):
                x = block(x, visible)
        return x

    def forward(self, images: Tensor, mask: Tensor) -> Reconstruction:
        """images: (B, C, H, W), normalised, sides multiples of a cell. mask: bool (B, h, w), True where masked."""
        hidden = mask.unsqueeze(1)
        x = torch.where(hidden, self.mask_token.to(images.dtype), self.proj(self.encode(images, mask)))
        predicted = self.pred(self.decoder(x)).flatten(2).transpose(1, 2)  # (B, P * P * C, h, w) -> (B, h * w, ...)
        target = cells_of(images, self.cell)
        if self.config.norm_pix:
            target = normalised(target)
        errors = (predicted.float() - target.float()).square().mean(dim=-1)
        return Reconstruction(predicted, target, errors * mask.flatten(1))

    def _check(self, images: Tensor, mask: Tensor) -> None:
        check_images(images, self.in_chans, self.cell)
        height, width = images.shape[2:]
        if height % self.cell or width % self.cell:
            raise ValueError(f"Sides are multiples of {self.cell} pixels, not {height} x {width}.")
        if mask.shape != (images.shape[0], height // self.cell, width // self.cell):
            raise ValueError(f"The mask has a value for each of the images' cells, not the shape {tuple(mask.shape)}.")


def cells_of(images: Tensor, cell: int) -> Tensor:
    """(B, C, H, W) to (B, h * w, P * P * C): each cell's pixels row by row, the channels of a pixel together."""
    x = images.unfold(2, cell, cell).unfold(3, cell, cell)  # (B, C, h, w, P, P)
    return x.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)


def images_of(cells: Tensor, cell: int, height: int) -> Tensor:
    """The reverse of `cells_of`, for images of `height` pixels: (B, h * w, P * P * C) to (B, C, H, W)."""
    rows = height // cell
    x = cells.unflatten(2, (cell, cell, -1)).unflatten(1, (rows, -1))  # (B, h, w, P, P, C)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def statistics_of(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each cell's values, (B, h * w, 1): of an unbiased variance, plus 1e-6."""
    return cells.mean(dim=-1, keepdim=True), (cells.var(dim=-1, keepdim=True) + 1e-6).sqrt()


def normalised(cells: Tensor) -> Tensor:
    """Cells less their mean, over their deviation."""
    mean, deviation = statistics_of(cells)
    return (cells - mean) / deviation


def places_of(keep: Tensor) -> Tensor:
    """Which of H * W places are kept: bool (B, H, W), as many in each, to int64 (B, V), ascending."""
    return keep.flatten(1).nonzero()[:, 1].view(keep.shape[0], -1)


def _enlarged(cells: Tensor, times: int) -> Tensor:
    """(B, h, w) to (B, h * times, w * times), every value repeated."""
    return cells.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2)
