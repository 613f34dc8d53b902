"""convnext weights list | inspect | convert | verify"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import tyro

from convnext.cli.output import emit, emit_json, parse_part, table
from convnext.core.errors import UserError, nearest

if TYPE_CHECKING:
    from convnext.tasks.detection.published import PublishedDetector
    from convnext.tasks.segmentation.published import PublishedSegmenter

Row = TypeVar("Row", "PublishedDetector", "PublishedSegmenter")


@dataclass(frozen=True)
class List:
    """The published weights: what they are, where their accuracy holds, and under which licence."""

    model: str = ""
    """Those of one architecture, as convnext_tiny."""
    commercial: bool = False
    """Those alone that may be used commercially."""
    detectors: bool = False
    """The detectors instead of the classifiers and encoders."""
    segmenters: bool = False
    """The segmenters instead."""
    json: bool = False
    """Print as JSON, with addresses and preprocessing."""


@dataclass(frozen=True)
class Inspect:
    """What a file of weights holds, whoever saved it: architecture, layout, classes, preprocessing, licence."""

    source: tyro.conf.Positional[str]
    """A file, a folder, a name from `convnext weights list`, hf-hub:owner/name or an https address."""
    json: bool = False
    """Print as JSON."""


@dataclass(frozen=True)
class Convert:
    """Saves weights in another layout: ours, the official one, or that of timm, torchvision or transformers; a detector
    or segmenter in ours or the official one, which mmdetection and mmsegmentation read.

    For example:
      convnext weights convert runs/x out --layout timm
      convnext weights convert convnext_tiny_1k_224_ema.pth tiny.safetensors
    """

    source: tyro.conf.Positional[str]
    """A run's folder, a file, a name from `convnext weights list`, hf-hub:owner/name or an https address."""
    out: tyro.conf.Positional[Path]
    """A .safetensors file (convnext), a .pth file (official, torchvision) or a folder (timm, transformers)."""
    layout: Literal["convnext", "official", "timm", "torchvision", "transformers"] = "convnext"
    """Who is to read it."""
    force: bool = False
    """Write over what is there."""


@dataclass(frozen=True)
class Verify:
    """Evaluates published weights on your ImageNet, as they were evaluated, and compares with the published accuracy.

    For example:
      convnext weights verify convnext_tiny.fb_in1k --data /data/imagenet
    """

    name: tyro.conf.Positional[str]
    """One of `convnext weights list`."""
    data: str
    """ImageNet-1K: a folder with val/, or the 1,000 class folders (n01440764, ...), or shards."""
    batch: int = 64
    """Images at a time."""
    workers: int = -1
    """Processes that read images; -1: as many as this machine can use."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """auto: bfloat16 where the device is fast at it."""
    json: bool = False
    """Print everything as JSON."""


PARTS: dict[str, type[Any]] = {"list": List, "inspect": Inspect, "convert": Convert, "verify": Verify}

HELP = """convnext weights - published weights, and files of weights

usage: convnext weights PART [...]

parts:
  list      the published weights: accuracy, size, licence
  inspect   what a file of weights holds, whoever saved it
  convert   save in another layout: ours, the official one, timm's, torchvision's, transformers'
  verify    evaluate published weights on your ImageNet against the published accuracy

convnext weights PART --help says more about one.
"""


def run(argv: list[str]) -> int:
    args = parse_part(PARTS, argv, command="weights", text=HELP)
    if isinstance(args, List):
        _list(args)
    elif isinstance(args, Inspect):
        _inspect(args)
    elif isinstance(args, Convert):
        _convert(args)
    elif isinstance(args, Verify):
        return _verify(args)
    return 0


def _list_detectors(args: List) -> None:
    from convnext.tasks.detection.published import published_detectors

    rows = _of_model(args, published_detectors())
    if args.json:
        emit_json([asdict(row) for row in rows])
        return
    lines = [(row.name, f"{row.box_ap:.1f}", f"{row.mask_ap:.1f}", row.pretrained_on, row.licence) for row in rows]
    emit(table(lines, header=("name", "box AP", "mask AP", "backbone trained on", "licence")))
    emit(f"\n{len(rows)} detectors. AP: COCO val2017, percent, at 800 pixels, one view.")


def _list_segmenters(args: List) -> None:
    from convnext.tasks.segmentation.published import published_segmenters

    rows = _of_model(args, published_segmenters())
    if args.json:
        emit_json([asdict(row) for row in rows])
        return
    lines = [
        (row.name, f"{row.miou:.1f}", f"{row.miou_views:.1f}", str(row.crop), row.pretrained_on, row.licence)
        for row in rows
    ]
    emit(table(lines, header=("name", "mIoU", "six sizes", "pixels", "backbone trained on", "licence")))
    emit(f"\n{len(rows)} segmenters. mIoU: ADE20K's validation pictures, percent; the second mirrored too.")


def _of_model(args: List, published: Mapping[str, Row]) -> list[Row]:
    """The published weights of the model that is asked for; all where none is."""
    rows = [row for row in published.values() if args.model in ("", row.model)]
    if not rows:
        models = {row.model for row in published.values()}
        raise UserError(f"There are no published weights of '{args.model}'.{nearest(args.model, models)}")
    return rows


def _list(args: List) -> None:
    if args.detectors and args.segmenters:
        raise UserError("--detectors or --segmenters: one at a time.")
    if args.detectors or args.segmenters:
        (_list_detectors if args.detectors else _list_segmenters)(args)
        return
    from convnext.weights.catalog import catalog, list_weights

    models = {row.model for row in catalog().values()}
    if args.model and args.model not in models:
        raise UserError(f"There are no published weights of '{args.model}'.{nearest(args.model, models)}")
    rows = list_weights(model=args.model, commercial=True if args.commercial else None)
    if args.json:
        emit_json([{**asdict(row), "commercial": row.commercial} for row in rows])
        return
    lines = [
        (row.name, f"{row.top1:.2f}" if row.top1 else "", str(row.input.size), str(row.num_classes), row.licence)
        for row in rows
    ]
    emit(table(lines, header=("name", "top-1 %", "pixels", "classes", "licence")))
    emit(f"\n{len(rows)} checkpoints. top-1: ImageNet-1K validation at that size; empty: none published.")


def _inspect(args: Inspect) -> None:
    from convnext.core.typed import to_dict
    from convnext.tasks.classification.weights import describe
    from convnext.weights.kinds import kind_of
    from convnext.weights.locate import locate

    kind = kind_of(args.source)
    if kind != "classifier":
        (_inspect_detector if kind == "detector" else _inspect_segmenter)(args)
        return
    located = locate(args.source)
    given, metadata, notes = describe(located, args.source)
    row = located.row
    facts = {
        "file": str(located.file),
        "model": to_dict(metadata.model),
        "layout": given.layout,
        "tensors": len(given.state),
        "parameters": sum(value.numel() for value in given.state.values()),
        "dtypes": sorted({str(value.dtype).removeprefix("torch.") for value in given.state.values()}),
        "input": to_dict(metadata.input),
        "classes": list(metadata.classes),
        "source": metadata.source,
        "published": None if row is None else {**asdict(row), "commercial": row.commercial},
        "left_out": list(given.left),
        "notes": notes,
    }
    if args.json:
        emit_json(facts)
        return
    changed = [f"{key} {value}" for key, value in facts["model"].items() if key != "name" and _told(key, value)]
    image = metadata.input
    emit(f"file      {located.file}")
    emit(f"model     {metadata.model.name}" + (f" ({', '.join(changed)})" if changed else ""))
    emit(f"layout    {given.layout}: {len(given.state)} tensors, {facts['parameters']:,} parameters")
    emit(f"types     {', '.join(facts['dtypes'])}")
    emit(f"input     {image.size} pixels, {image.resize}, crop ratio {image.crop_ratio:g}, {image.interpolation}")
    emit(f"classes   {len(metadata.classes)}" + (f": {_few(metadata.classes)}" if metadata.classes else ""))
    if metadata.source:
        emit(f"source    {metadata.source}")
    for note in notes:
        emit(f"note      {note}")


def _inspect_detector(args: Inspect) -> None:
    from convnext.core.typed import to_dict
    from convnext.tasks.detection.weights import load_detector

    detector, metadata = load_detector(args.source)
    facts = {
        "model": to_dict(metadata.model),
        "parameters": sum(parameter.numel() for parameter in detector.parameters()),
        "input": to_dict(metadata.input),
        "classes": list(metadata.classes),
        "source": metadata.source,
    }
    if args.json:
        emit_json(facts)
        return
    stages = len(metadata.model.roi.ious)
    emit(f"model     detector on {metadata.model.backbone.name}, {stages} stage{'s' if stages > 1 else ''}")
    emit(f"weights   {facts['parameters']:,} parameters; {'boxes and masks' if metadata.model.masks else 'boxes'}")
    emit(f"input     {metadata.input.short} pixels on the shorter side, at most {metadata.input.long} on the longer")
    emit(f"classes   {metadata.model.num_classes}" + (f": {_few(metadata.classes)}" if metadata.classes else ""))
    if metadata.source:
        emit(f"source    {metadata.source}")


def _inspect_segmenter(args: Inspect) -> None:
    from convnext.core.typed import to_dict
    from convnext.tasks.segmentation.weights import load_segmenter

    segmenter, metadata = load_segmenter(args.source)
    facts = {
        "model": to_dict(metadata.model),
        "parameters": sum(parameter.numel() for parameter in segmenter.parameters()),
        "input": to_dict(metadata.input),
        "classes": list(metadata.classes),
        "source": metadata.source,
    }
    if args.json:
        emit_json(facts)
        return
    window = f"windows of {metadata.input.window}" if metadata.input.window else "whole pictures"
    emit(f"model     segmenter on {metadata.model.backbone.name}, {metadata.model.head} head")
    emit(f"weights   {facts['parameters']:,} parameters")
    emit(f"input     {metadata.input.short} pixels on the shorter side, {window}")
    emit(f"classes   {metadata.model.num_classes}" + (f": {_few(metadata.classes)}" if metadata.classes else ""))
    if metadata.source:
        emit(f"source    {metadata.source}")


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def _told(key: str, value: Any) -> bool:
    """Whether a setting of a model differs from its default."""
    from convnext.models.config import ModelConfig

    return value != getattr(ModelConfig(), key)


def _convert(args: Convert) -> None:
    from convnext.tasks.classification.export import save_as
    from convnext.tasks.classification.weights import load_model
    from convnext.tasks.detection.export import save_dense
    from convnext.tasks.detection.weights import load_detector
    from convnext.tasks.segmentation.weights import load_segmenter
    from convnext.weights.kinds import kind_of

    there = args.out.exists() and (args.out.is_file() or any(args.out.iterdir()))
    if there and not args.force:
        raise UserError(f"{args.out} is there already; --force writes over it.")
    if args.out.parent != Path() and not args.out.parent.is_dir():
        raise UserError(f"There is no folder {args.out.parent} to write {args.out.name} into.")
    kind = kind_of(args.source)
    if kind != "classifier":
        network, metadata = load_detector(args.source) if kind == "detector" else load_segmenter(args.source)
        how = save_dense(args.out, network.state_dict(), metadata, layout=args.layout)
        name = f"a {kind} on {metadata.model.backbone.name}"
    else:
        model, metadata = load_model(args.source)
        how, name = save_as(args.out, model.state_dict(), metadata, layout=args.layout), metadata.model.name
    emit(f"{args.out}: {name} for {args.layout}. Load it with\n  {how}")


def _verify(args: Verify) -> int:
    from convnext.tasks.classification.verify import verify

    figures = verify(
        args.name, data=args.data, batch=args.batch, workers=args.workers, device=args.device, dtype=args.dtype
    )
    if args.json:
        emit_json(figures)
    else:
        low, high = figures["top1_interval"]
        rest = "" if figures["whole"] else " (not the whole validation set: the interval counts)"
        emit(f"measured    {100 * figures['top1']:.3f} %  ({100 * low:.2f} to {100 * high:.2f})")
        emit(f"published   {figures['published']:.3f} %  ({figures['source']})")
        emit(f"images      {figures['n']}{rest}")
        emit("They agree." if figures["agrees"] else f"They do not agree: {figures['difference']:+.3f} points.")
    return 0 if figures["agrees"] else 1
