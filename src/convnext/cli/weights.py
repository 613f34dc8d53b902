"""convnext weights list | inspect | convert | verify"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from convnext.cli.output import emit, emit_json, parse_part
from convnext.core.errors import UserError, nearest
from convnext.core.places import check_file, check_folder
from convnext.tasks.spec import TaskSpec
from convnext.tasks.table import TASKS


@dataclass(frozen=True)
class _List:
    """The published weights: what they are, where their accuracy holds, and under which licence."""

    model: str = ""
    """Those of one architecture, as convnext_tiny."""
    commercial: bool = False
    """Only those that may be used commercially."""
    json: bool = False
    """Print as JSON, with addresses and preprocessing."""


def _flag(spec: TaskSpec) -> str:
    return f"{spec.texts.model}s"


def _list_arguments() -> type[Any]:
    """`_List` with a switch for each task."""
    switches = [(_flag(spec), bool, field(default=False)) for spec in TASKS.values()]
    kind = make_dataclass("List", switches, bases=(_List,), frozen=True)
    kind.__doc__ = f"{_List.__doc__} --{' or --'.join(_flag(spec) for spec in TASKS.values())} says of which task."
    return kind


@dataclass(frozen=True)
class Inspect:
    """What a file of weights holds, whoever saved it: architecture, layout, classes, preprocessing, licence."""

    source: tyro.conf.Positional[str]
    """A file, a folder, a name from `convnext weights list`, hf-hub:owner/name or an https address. FILE#NAME takes one
    of several states in a checkpoint, FILE#raw the one that is no average."""
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
    """A run's folder, a file (FILE#NAME: one of several states in it), a name from `convnext weights list`,
    hf-hub:owner/name or an https address."""
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


List = _list_arguments()
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
    if isinstance(args, _List):
        _list(args)
    elif isinstance(args, Inspect):
        _inspect(args)
    elif isinstance(args, Convert):
        _convert(args)
    elif isinstance(args, Verify):
        return _verify(args)
    return 0


def _list(args: Any) -> None:
    asked = [spec for spec in TASKS.values() if getattr(args, _flag(spec))]
    if len(asked) > 1:
        raise UserError(f"{' or '.join(f'--{_flag(spec)}' for spec in asked)}: one at a time.")
    spec = asked[0] if asked else next(iter(TASKS.values()))
    published = spec.published()
    rows = [row for row in published.values() if args.model in ("", row.model)]
    if not rows:
        others = [o for o in TASKS.values() if any(row.model == args.model for row in o.published().values())]
        where = f" Those are listed by `convnext weights list --{_flag(others[0])}`." if others else ""
        hint = where or nearest(args.model, {row.model for row in published.values()})
        raise UserError(f"There are no published {_flag(spec)} of '{args.model}'.{hint}")
    if args.commercial:
        rows = [row for row in rows if is_commercial(row.licence)]
    if args.json:
        emit_json([{**asdict(row), "commercial": is_commercial(row.licence)} for row in rows])
    else:
        emit(spec.published_text(rows))


def is_commercial(licence: str) -> bool:
    """Whether a licence allows commercial use."""
    from convnext.weights.catalog import LICENCES

    return LICENCES[licence]


def _inspect(args: Inspect) -> None:
    from convnext.tasks.choose import find_weights

    spec, file = find_weights(args.source)
    facts, text = spec.inspect(file)
    if args.json:
        emit_json(facts)
    else:
        emit(text)


def _convert(args: Convert) -> None:
    from convnext.tasks.choose import find_weights

    there = args.out.exists() and (args.out.is_file() or any(args.out.iterdir()))
    if there and not args.force:
        raise UserError(f"{args.out} is there already; --force writes over it.")
    if args.out.parent != Path() and not args.out.parent.is_dir():
        raise UserError(f"There is no folder {args.out.parent} to write {args.out.name} into.")
    (check_file if args.out.suffix else check_folder)(args.out, "OUT")
    spec, file = find_weights(args.source)
    network, metadata = spec.load(file)
    how = spec.save_as(args.out, network.state_dict(), metadata, args.layout)
    model = metadata.model
    on = getattr(model, "backbone", model)  # the networks with heads name their backbone
    name = " on ".join([f"a {spec.texts.model}", *([on.name] if hasattr(on, "name") else [])])
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
