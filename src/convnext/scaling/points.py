"""Points of scaling: what a model costs and how often it errs. Published ones are shipped, each with its source.

Units are explicit. gmacs: 10^9 multiply-accumulates of one image (of CLIP: image and text), the papers' "FLOPs".
parameters_m: millions. train_flops: training FLOPs, 6 for each multiply-accumulate and image seen in pre-training (an
upper bound where part of it ran at a smaller size); unknown for models that see a part of each image, or that were
trained at another size than `resolution`. top1: per cent.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from convnext.core.atomic import write_text
from convnext.core.errors import UserError, nearest
from convnext.core.text import printable
from convnext.scaling.study import Row

PUBLISHED = Path(__file__).with_name("published")
FILES = ("imagenet", "clip")
Axis = Literal["gmacs", "params", "compute"]
Figure = Literal["error", "loss"]
COLUMNS: Mapping[Axis, str] = {"gmacs": "gmacs", "params": "parameters_m", "compute": "train_flops"}
AXES: Mapping[Axis, str] = {
    "gmacs": "multiply-accumulates of an image, billions",
    "params": "parameters, millions",
    "compute": "training FLOPs",
}


@dataclass(frozen=True)
class Point:
    """One trained model. None: not known."""

    family: str
    model: str
    source: str = ""
    data: str = ""
    resolution: int | None = None
    parameters_m: float | None = None
    gmacs: float | None = None
    train_flops: float | None = None
    error: float | None = None
    """Share of images that are wrong at first guess, 0 to 1."""
    loss: float | None = None
    """Cross-entropy, in nats."""
    repeats: str = ""
    """What all its repeats share, as the runs of several seeds do; "": it has none."""

    def x(self, axis: Axis) -> float | None:
        """The point's place on an axis, in its unit."""
        return getattr(self, COLUMNS[axis])


@dataclass(frozen=True)
class Series:
    """Points that one law is fitted to."""

    name: str
    points: tuple[Point, ...]
    title: str = ""
    axis: Axis = "gmacs"
    """The axis on which these points are usually compared."""

    def xy(self, axis: Axis, figure: Figure) -> list[tuple[Point, float, float]]:
        """The points that have both, with both. Raises UserError where a value is not above 0."""
        found = []
        for point in self.points:
            x, y = point.x(axis), point.error if figure == "error" else point.loss
            if x is None or y is None:
                continue
            if not (x > 0 and y > 0 and math.isfinite(x) and math.isfinite(y)):
                raise UserError(f"{self.name}, {printable(point.model)}: {x:g} and {y:g} are not both above 0.")
            found.append((point, x, y))
        return found


@dataclass(frozen=True)
class Choice:
    """Which of the published points make a series."""

    title: str
    source: str
    data: str
    prefix: str = ""
    """What the models' names begin with."""
    resolution: int | None = 224
    models: tuple[str, ...] = ()
    file: str = "imagenet"
    axis: Axis = "gmacs"

    def takes(self, point: Point) -> bool:
        return (
            point.source == self.source
            and point.data in self.data.split()
            and point.model.startswith(self.prefix)
            and self.resolution in (None, point.resolution)
            and (not self.models or point.model in self.models)
        )


_V2 = "ConvNeXt V2, masked pre-training (FCMAE), ImageNet-1K"
_GRID = "laion80m laion400m laion2b"
SERIES: Mapping[str, Choice] = {
    "convnext_v1_in1k_224": Choice("ConvNeXt T-L, ImageNet-1K", "cnx1_t1", "in1k", "ConvNeXt-"),
    "deit3_in1k_224": Choice("DeiT III S-H (ViT), ImageNet-1K", "deit3", "in1k"),
    "convnext_iso_in1k": Choice("isotropic ConvNeXt S-L, ImageNet-1K", "cnx1_t2", "in1k", "ConvNeXt"),
    "vit_table2_in1k": Choice("ViT S-L beside it, ImageNet-1K", "cnx1_t2", "in1k", "ViT"),
    "swin_in1k_224": Choice("Swin T-B, ImageNet-1K", "swin", "in1k"),
    "maxvit_in1k_224": Choice("MaxViT T-L (hybrid), ImageNet-1K", "maxvit", "in1k"),
    "internimage_in1k_224": Choice("InternImage T-B (deformable), ImageNet-1K", "internimage", "in1k"),
    "unireplknet_in1k_224": Choice("UniRepLKNet A-S, ImageNet-1K", "unireplknet", "in1k"),
    "moganet_in1k_224": Choice("MogaNet S-XL, ImageNet-1K", "moganet", "in1k"),
    "overlock_in1k_224": Choice("OverLoCK XT-B, ImageNet-1K", "overlock", "in1k"),
    "mambaout_in1k_224": Choice("MambaOut Femto-B, ImageNet-1K", "mambaout", "in1k"),
    "convnext_v1_in22k_224": Choice("ConvNeXt T-XL, ImageNet-22K", "cnx1_t1", "in22k", "ConvNeXt-"),
    "deit3_in22k_224": Choice("DeiT III S-H (ViT), ImageNet-22K", "deit3", "in22k"),
    "swin_in22k_224": Choice("Swin T-L, ImageNet-22K", "swin", "in22k"),
    "convnext_v2_fcmae_in1k_A_to_H": Choice(f"{_V2}, A-H", "cnx2_t14", "in1k-fcmae"),
    "convnext_v2_fcmae_in1k_B_L_H": Choice(
        f"{_V2}, B-H", "cnx2_t14", "in1k-fcmae", models=("ConvNeXtV2-B", "ConvNeXtV2-L", "ConvNeXtV2-H")
    ),
    "mae_vit_in1k_B_L_H": Choice("ViT B-H, masked pre-training (MAE), ImageNet-1K", "mae", "in1k-mae"),
    "clip_convnext_laion2b": Choice(
        "ConvNeXt CLIP, LAION-2B",
        "openclip",
        "laion2b",
        resolution=256,
        models=("convnext_base_w augreg", "convnext_large_d augreg", "convnext_xxlarge augreg"),
        file="clip",
        axis="compute",
    ),
    "clip_vit_laion2b": Choice(
        "ViT CLIP, LAION-2B, final models", "openclip", "laion2b", "ViT", file="clip", axis="compute"
    ),
    "clip_vit_grid": Choice(
        "ViT CLIP, grid over LAION", "laion_scaling", _GRID, file="clip", axis="compute", resolution=None
    ),
    "clip_vit_grid_laion2b": Choice(
        "ViT CLIP, grid over LAION-2B", "laion_scaling", "laion2b", file="clip", axis="compute", resolution=None
    ),
    "clip_vit_openai": Choice("ViT CLIP, OpenAI's data", "laion_scaling", "wit", file="clip", axis="compute"),
}


def published(file: str) -> list[Point]:
    """The shipped points of "imagenet" (159, top-1 on ImageNet-1K) or "clip" (43, zero-shot on ImageNet-1K)."""
    return read_points(PUBLISHED / f"{file}.csv")


def sources() -> dict[str, tuple[str, str]]:
    """Where the shipped points are from: source -> its paper or repository, and how it was read."""
    with (PUBLISHED / "sources.csv").open(encoding="utf-8", newline="") as file:
        return {row["source"]: (row["where"], row["read"]) for row in csv.DictReader(file)}


def published_series(name: str) -> Series:
    """A series of shipped points. Raises UserError for an unknown name, with the nearest."""
    if name not in SERIES:
        raise UserError(f"There is no published series '{name}'.{nearest(name, SERIES)}")
    choice = SERIES[name]
    points = tuple(point for point in published(choice.file) if choice.takes(point))
    return Series(name, points, choice.title, choice.axis)


def read_points(path: Path) -> list[Point]:
    """Points of a csv file: family, one of top1 (per cent), error (0 to 1) and loss, and one of gmacs, parameters_m and
    train_flops; other columns of the shipped files are taken too. Empty cells are not known.

    Raises UserError for a file that is no such table, naming the column or line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as csv: {error}.") from None
    _check_columns(path, columns)
    if not rows:
        raise UserError(f"{path} has no lines below its header.")
    return [_point(row, columns, f"{path}, line {number}") for number, row in enumerate(rows, start=2)]


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    for need, why in (
        (("family",), "which points belong together"),
        (("top1", "error", "loss"), "top1 in per cent, error as a share, or loss"),
        (tuple(COLUMNS.values()), "what a model costs"),
    ):
        if not set(need) & set(columns):
            missing = need[0] if len(need) == 1 else f"one of {', '.join(need)}"
            raise UserError(f"{path} lacks the column {missing} ({why}); it has {', '.join(map(printable, columns))}.")


def _point(row: Mapping[str, str | None], columns: Sequence[str], where: str) -> Point:
    def number(name: str) -> float | None:
        text = (row.get(name) or "").strip()
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UserError(f"{where}: {name} is a number, not '{printable(text)}'.")
        return value

    top1, error = number("top1"), number("error")
    if error is not None and not 0 <= error <= 1:
        raise UserError(f"{where}: error is a share, 0 to 1, not {error:g}; per cents go into top1 (100 - error).")
    if top1 is not None and not 0 <= top1 <= 100:
        raise UserError(f"{where}: top1 is in per cent, 0 to 100, not {top1:g}.")
    resolution = number("resolution")
    return Point(
        family=(row.get("family") or "").strip(),
        model=(row.get("model") or "").strip(),
        source=(row.get("source") or "").strip(),
        data=(row.get("data") or "").strip(),
        resolution=None if resolution is None else int(resolution),
        parameters_m=number("parameters_m"),
        gmacs=number("gmacs"),
        train_flops=number("train_flops"),
        error=error if top1 is None else 1 - top1 / 100,
        loss=number("loss"),
        repeats=(row.get("repeats") or "").strip(),
    )


def by_family(points: Iterable[Point], name: str = "") -> list[Series]:
    """A series for each family, in the order in which they come."""
    grouped: dict[str, list[Point]] = {}
    for point in points:
        grouped.setdefault(point.family, []).append(point)
    prefix = f"{name}: " if name else ""
    return [Series(f"{prefix}{family}", tuple(same), family, "compute") for family, same in grouped.items()]


def write_points(path: Path, points: Sequence[Point]) -> None:
    """Writes points as `read_points` reads them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Point)], lineterminator="\n")
    writer.writeheader()
    for point in points:
        writer.writerow({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in asdict(point).items()})
    write_text(path, text.getvalue())


def of_study(rows: Iterable[Row]) -> list[Point]:
    """The runs of a study as points, one for each seed."""
    return [
        Point(
            row.family,
            row.name,
            source="here",
            parameters_m=row.parameters / 1e6,
            gmacs=row.macs / 1e9,
            train_flops=row.compute,
            error=row.error,
            loss=row.loss,
            repeats=row.name.rsplit("/", 1)[0],
        )
        for row in rows
    ]
