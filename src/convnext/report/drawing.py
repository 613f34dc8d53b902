"""Parts of drawings: thumbnails, text in fonts that have its letters, rounded boxes.

H W space; images are uint8 RGB tensors (3, H, W).
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]
"""Red, green and blue, 0..255."""

LONGEST, SHORTEST = 1280, 400  # pixels of the shown image's longer side; larger ones shrink, smaller ones grow
PAPER, INK, MUTED = (250, 249, 246), (32, 35, 40), (112, 116, 124)
ACCENT, QUIET, TRACK = (43, 108, 176), (150, 172, 198), (232, 230, 224)
_CJK = ("Noto Sans CJK JP", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "WenQuanYi Zen Hei", "Arial Unicode MS")


def thumbnail(image: Tensor, side: int) -> Image.Image:
    """The image (C, H, W) uint8 with its longer side at `side` pixels, its proportions kept: the first three of its
    bands in colours, or the first in grey.

    Images of at most half that size, such as 8 x 8 digits, grow by a whole factor with their pixels left square
    (so the longer side may fall short of `side`); all others are resampled (Lanczos). Raises ValueError for another
    shape or type.
    """
    shown = _as_pil(image)
    factor = whole_factor(max(shown.size), side)
    if factor > 1:
        return shown.resize((shown.width * factor, shown.height * factor), Image.Resampling.NEAREST)
    width, height = (max(1, round(length * side / max(shown.size))) for length in shown.size)
    return shown.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def whole_factor(longest: int, side: int) -> int:
    """By which whole factor `thumbnail` grows an image whose longer side is `longest`; 1 where it resamples."""
    return side // longest if 2 * longest <= side else 1


def _as_pil(image: Tensor) -> Image.Image:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.numel() == 0:
        raise ValueError(f"Expected a uint8 image (C, H, W), got {image.dtype} {tuple(image.shape)}.")
    image = image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)
    return Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())  # Pillow wants H W before the channels


def rounded(panel: Image.Image, box: tuple[int, int, int, int], *, radius: float, fill: Colour) -> None:
    """Fills `box` (x, y, width, height), its corners rounded; nothing where it has no width."""
    x, y, width, height = box
    if width:
        # drawn at four times the size: Pillow's own round corners are jagged
        mask = Image.new("L", (4 * width, 4 * height))
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * width - 1, 4 * height - 1), 4 * radius, fill=255)
        panel.paste(fill, (x, y), mask.resize((width, height), Image.Resampling.BOX))


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    *,
    size: int,
    width: int,
    fill: Colour,
    bold: bool = False,
) -> None:
    """Writes one line at `at` (left, baseline: the same for every font), shortened to `width` pixels."""
    clean = printable(text)
    face = font(size, bold=bold, text=clean)
    draw.text(at, shortened(clean, face, width), font=face, fill=fill, anchor="ls")


def printable(text: str) -> str:
    """One line that every font can draw: line breaks, controls and broken file names become a replacement sign."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def shortened(text: str, face: Font, width: int) -> str:
    """`text`, or its beginning and end around an ellipsis where it is longer than `width` pixels."""
    text = text if len(text) <= 500 else f"{text[:250]}…{text[-250:]}"  # measuring a megabyte takes its time
    if face.getlength(text) <= width:
        return text
    short = "…"
    for kept in range(1, len(text)):
        candidate = f"{text[: (2 * kept + 2) // 3].rstrip()}…{text[len(text) - kept // 3 :].lstrip()}"
        if face.getlength(candidate) > width:
            break
        short = candidate
    return short


def font(size: int, *, bold: bool, text: str) -> Font:
    """DejaVu Sans, which comes with matplotlib; for letters it lacks, a font of this machine that has them."""
    # up to U+024F, the Latin letters, a look into the fonts is not worth its time
    beyond = frozenset(ord(char) for char in text if ord(char) > 0x24F and char != "…")
    return _load(_font_file(beyond, bold=bold), size)


@functools.lru_cache(maxsize=64)
def _load(path: str | None, size: int) -> Font:
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)


@functools.lru_cache(maxsize=1024)
def _font_file(letters: frozenset[int], *, bold: bool) -> str | None:
    spec = importlib.util.find_spec("matplotlib")
    folder = Path(spec.origin or "").parent / "mpl-data/fonts/ttf" if spec else Path()
    path = folder / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    if not path.is_file():
        return None
    if letters and (fallback := _covering(letters, path)):
        return fallback
    return str(path)


def _covering(letters: frozenset[int], usual: Path) -> str | None:
    """A font of this machine that has more of `letters` than the usual one, if there is one."""
    from matplotlib.font_manager import fontManager, get_font

    def lacking(path: str) -> int:
        return len(letters - get_font(path).get_charmap().keys())

    if lacking(str(usual)) == 0:
        return None
    there = [entry for name in _CJK for entry in fontManager.ttflist if entry.name == name]
    there.sort(key=lambda entry: str(entry.weight) not in ("400", "normal", "regular"))  # stable: _CJK's order stays
    return min([str(usual), *(entry.fname for entry in there[:8])], key=lacking)
