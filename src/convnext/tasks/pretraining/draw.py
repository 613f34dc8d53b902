"""Reconstructions as images: an image, what the encoder sees of it, and what it makes of that.

B batch, C channels, H W space, h w cells.
"""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from convnext.data.config import InputConfig
from convnext.data.mix import prepare
from convnext.models.fcmae import FCMAE, Reconstruction, cells_of, images_of, statistics_of
from convnext.report.drawing import PAPER, thumbnail
from convnext.report.panels import stacked, title_strip, unit_of

_SIDE = 224  # pixels of a drawing
_GREY = 128


def reconstruct(model: FCMAE, images: Tensor, mask: Tensor, input: InputConfig) -> tuple[Tensor, Reconstruction]:
    """Images, uint8 (B, C, H, W), with their masked cells as the model predicts them; the visible ones are the images'
    own, of which predictions mean nothing.

    A model of normalised pixels says how a cell looks, not how bright it is: that is taken from the image.
    """
    device = next(model.parameters()).device
    normal = prepare(images.to(device), input)
    found = model(normal, mask.to(device))
    cells = found.predicted.float()
    if model.config.norm_pix:
        mean, deviation = statistics_of(cells_of(normal, model.cell))
        cells = cells * deviation + mean
    cells = torch.where(mask.to(device).flatten(1).unsqueeze(-1), cells, cells_of(normal, model.cell))
    pixels = images_of(cells, model.cell, images.shape[2]).cpu()
    mean, std = (torch.tensor(values)[:, None, None] for values in (input.mean, input.std))
    drawn = (255 * (pixels * std + mean)).round().clamp(0, 255).to(torch.uint8)
    return drawn, found


def masked(image: Tensor, mask: Tensor) -> Tensor:
    """An image, uint8 (C, H, W), with its masked cells grey. mask: bool (h, w)."""
    cell = image.shape[1] // mask.shape[0]
    hidden = mask.repeat_interleave(cell, 0).repeat_interleave(cell, 1)
    return torch.where(hidden, torch.tensor(_GREY, dtype=torch.uint8), image)


def panels(image: Tensor, mask: Tensor, reconstruction: Tensor) -> Image.Image:
    """The three side by side, each below its title."""
    shown = [("image", image), ("seen", masked(image, mask)), ("reconstructed", reconstruction)]
    unit = unit_of(_SIDE)
    columns = []
    for title, pixels in shown:
        drawn = thumbnail(pixels, _SIDE)
        columns.append(stacked([title_strip(title, drawn.width, unit, bold=True), drawn]))
    width = sum(column.width for column in columns) + unit * (len(columns) - 1)
    canvas = Image.new("RGB", (width, max(column.height for column in columns)), PAPER)
    left = 0
    for column in columns:
        canvas.paste(column, (left, 0))
        left += column.width + unit
    return canvas
