"""convnext bench"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from convnext.bench.engine import dense_results
from convnext.bench.engine.cells import (
    LIBRARIES,
    MODELS,
    MODES,
    DType,
    Library,
    Mode,
    Plan,
    Settings,
    Work,
    all_cells,
    modes_for,
)
from convnext.cli.output import emit, emit_json, parse, table
from convnext.core.errors import UserError, nearest
from convnext.core.places import check_folder


@dataclass(frozen=True)
class Bench:
    """Times this project's models beside timm, torchvision and transformers, with the same weights, in turns.

    Everything takes hours; it says how long first, and a run that was stopped goes on where it was. For example:
      convnext bench                                                   everything
      convnext bench --models convnext_tiny --modes eager --batches 1  a few minutes

    Detectors and segmenters have benchmarks of their own: convnext bench detection --help, convnext bench
    segmentation --help.
    """

    models: tuple[str, ...] = MODELS
    """Models; `convnext models` lists them. A library that has no such model is left out there."""
    libraries: tuple[Library, ...] = LIBRARIES
    """Libraries that take part. One that is not installed is listed as absent."""
    modes: tuple[Mode, ...] = MODES
    """Eager, under torch.compile, as an AOTInductor package (inference only)."""
    dtypes: tuple[DType, ...] = ("float32", "bfloat16")
    """Floating types."""
    batches: tuple[int, ...] = (1, 16)
    """Images at a time."""
    works: tuple[Work, ...] = ("forward", "train")
    """Inference, and a training step: forward, cross-entropy, backward."""
    size: int = 224
    """Height and width of the images."""
    seconds: float = 1.0
    """Time slice of each contestant in each round."""
    starts: int = 3
    """How often all processes are started; the same program runs faster or slower by where its memory lies."""
    rounds: int = 5
    """Rounds after each start; in each, every contestant runs once, in a new random order."""
    give_up: float = 5.0
    """A contestant that takes over so many times our time, and over a second, is given up; 0: none is."""
    threads: int = 0
    """Threads of each contestant; 0: as many as this machine has processors."""
    device: str = "cpu"
    """cpu or cuda."""
    out: Path = Path("bench")
    """Folder for cells.jsonl, bench.json, bench.md and bench.png."""
    json: bool = False
    """Print everything as JSON."""


@dataclass(frozen=True)
class Detection:
    """Times our Mask R-CNN beside torchvision's, with the same weights and the same work, in turns.

    torchvision's is measured twice: around our backbone, and around its own ConvNeXt. For example:
      convnext bench detection                                                  half an hour on two cores
      convnext bench detection --height 480 --width 640 --rounds 4              some minutes
    """

    model: str = "mask_rcnn_convnext_tiny"
    """mask_rcnn_ and the name of a backbone; torchvision's own is compared where it has that one."""
    height: int = 800
    """Height of the images, a multiple of 32."""
    width: int = 1280
    """Width of the images, a multiple of 32."""
    batch: int = 1
    """Images at a time."""
    works: tuple[dense_results.Work, ...] = ("inference", "train")
    """Inference with masks as large as the image, and a training step with its optimizer."""
    dtype: DType = "float32"
    """Floating type; bfloat16 by autocast."""
    seconds: float = 1.0
    """Time slice of each contestant in each round."""
    rounds: int = 7
    """In each, every contestant is started again and runs once, in a new random order."""
    threads: int = 0
    """Threads of each contestant; 0: as many as this machine has processors."""
    device: str = "cpu"
    """cpu or cuda."""
    out: Path = Path("bench")
    """Folder for detection.json and detection.md."""
    json: bool = False
    """Print everything as JSON."""


@dataclass(frozen=True)
class Segmentation:
    """Times our UPerNet beside transformers', with the same weights and the same work, in turns.

    For example:
      convnext bench segmentation                                               ten minutes on two cores
      convnext bench segmentation --height 256 --width 256 --rounds 4           a few minutes
    """

    model: str = "upernet_convnext_tiny"
    """upernet_ and the name of a ConvNeXt V1."""
    height: int = 512
    """Height of the images, a multiple of 32."""
    width: int = 512
    """Width of the images, a multiple of 32."""
    batch: int = 2
    """Images at a time."""
    works: tuple[dense_results.Work, ...] = ("inference", "train")
    """Inference with logits as large as the image, and a training step with its optimizer."""
    dtype: DType = "float32"
    """Floating type; bfloat16 by autocast."""
    seconds: float = 1.0
    """Time slice of each contestant in each round."""
    rounds: int = 7
    """In each, every contestant is started again and runs once, in a new random order."""
    threads: int = 0
    """Threads of each contestant; 0: as many as this machine has processors."""
    device: str = "cpu"
    """cpu or cuda."""
    out: Path = Path("bench")
    """Folder for segmentation.json and segmentation.md."""
    json: bool = False
    """Print everything as JSON."""


_DENSE: dict[str, type[Detection] | type[Segmentation]] = {"detection": Detection, "segmentation": Segmentation}


def run(argv: list[str]) -> None:
    if argv and argv[0] in _DENSE:
        _run_dense(parse(_DENSE[argv[0]], argv[1:], command=f"bench {argv[0]}"))
        return
    args = parse(Bench, argv, command="bench")
    _check(args)
    plan = _plan(args)
    check_folder(args.out, "--out")  # before the hours that it takes
    from rich.console import Console

    from convnext.bench.classification import measure
    from convnext.bench.engine.chart import draw
    from convnext.bench.engine.machine import command_line
    from convnext.bench.engine.results import summary
    from convnext.bench.engine.tables import markdown, print_tables
    from convnext.core.atomic import write_text

    results = measure(plan, args.out)
    found = summary(results, command=command_line())
    write_text(args.out / "bench.json", json.dumps(found, indent=2) + "\n")
    write_text(args.out / "bench.md", markdown(results, command=command_line(), chart="bench.png"))
    draw(results, args.out / "bench.png")
    if args.json:
        emit_json(found)
        return
    width = min(max(Console().width, 80), 120)
    print_tables(results, Console(width=width))
    emit(f"written to {args.out}: bench.md, bench.png, bench.json")


def _plan(args: Bench) -> Plan:
    """The plan; raises UserError for unknown models, an absent device and nothing to measure."""
    from convnext.core.device import available_cpus, pick_device
    from convnext.models.create import MODEL_NAMES

    for name in args.models:
        if name not in MODEL_NAMES:
            raise UserError(
                f"There is no model '{name}'.{nearest(name, MODEL_NAMES)} `convnext models` lists them all."
            )
    settings = Settings(
        size=args.size,
        seconds=args.seconds,
        starts=args.starts,
        rounds=args.rounds,
        threads=args.threads or available_cpus(),
        device=str(pick_device(args.device)),
        give_up=args.give_up,
    )
    cells = all_cells(args.models, args.dtypes, args.batches, args.works)
    cells = tuple(cell for cell in cells if modes_for(cell.work, args.modes))
    if not cells:
        raise UserError(
            "There is nothing to measure: an AOTInductor package cannot train. Add --modes eager or compile."
        )
    return Plan(cells, args.libraries, args.modes, settings)


def _check(args: Bench) -> None:
    """Raises UserError for numbers out of range and empty lists. Models are checked later, with torch."""
    for name in ("models", "libraries", "modes", "dtypes", "batches", "works"):
        if not getattr(args, name):
            raise UserError(f"--{name} needs at least one value.")
    numbers = {"--batches": min(args.batches), "--size": args.size, "--seconds": args.seconds}
    numbers |= {"--starts": args.starts, "--rounds": args.rounds}
    for name, value in numbers.items():
        if not value > 0:
            raise UserError(f"{name} takes numbers above 0, not {value}.")
    if args.threads < 0:
        raise UserError(f"--threads takes 0 (as many as there are processors) or more, not {args.threads}.")
    if args.give_up and not args.give_up >= 2:
        raise UserError(f"--give-up takes 0 (none is given up) or at least 2, times ours, not {args.give_up}.")
    if args.size < 32:
        raise UserError(f"--size is at least 32 pixels, the stride of the last stage, not {args.size}.")


def _run_dense(args: Detection | Segmentation) -> None:
    plan = _dense_plan(args)
    check_folder(args.out, "--out")
    from convnext.bench import detection, segmentation
    from convnext.bench.engine.machine import command_line
    from convnext.core.atomic import write_text

    comparison, name = (detection, "detection") if isinstance(args, Detection) else (segmentation, "segmentation")
    result = comparison.measure(plan)
    found = dense_results.summary(result, command=command_line())
    page = dense_results.markdown(result, command=command_line(), title=comparison.TITLE, method=comparison.METHOD)
    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / f"{name}.json", json.dumps(found, indent=2) + "\n")
    write_text(args.out / f"{name}.md", page)
    if args.json:
        emit_json(found)
        return
    emit(table(dense_results.rows(result), header=dense_results.HEADER))
    for note in dense_results.notes(result):
        emit(note)
    emit(dense_results.verdict(result))
    emit(f"written to {args.out}: {name}.md, {name}.json")


def _dense_plan(args: Detection | Segmentation) -> dense_results.DensePlan:
    """The plan; raises UserError for unknown models and numbers out of range."""
    for name in ("height", "width", "batch", "seconds", "rounds"):
        if not getattr(args, name) > 0:
            raise UserError(f"--{name} takes numbers above 0, not {getattr(args, name)}.")
    for name in ("height", "width"):
        if getattr(args, name) % 32:
            raise UserError(f"--{name} is a multiple of 32, the stride of the last stage, not {getattr(args, name)}.")
    if not args.works:
        raise UserError("--works needs at least one value.")
    if args.threads < 0:
        raise UserError(f"--threads takes 0 (as many as there are processors) or more, not {args.threads}.")
    from convnext.core.device import available_cpus, pick_device
    from convnext.models.detection.config import detector_config
    from convnext.models.segmentation.config import segmenter_config

    try:
        if isinstance(args, Detection):
            config = detector_config(args.model, num_classes=80)
        else:
            config = segmenter_config(args.model, num_classes=150)
    except ValueError as error:
        raise UserError(str(error)) from None
    return dense_results.DensePlan(
        args.model,
        config,
        (args.height, args.width),
        batch=args.batch,
        dtype=args.dtype,
        works=args.works,
        seconds=args.seconds,
        rounds=args.rounds,
        threads=args.threads or available_cpus(),
        device=str(pick_device(args.device)),
    )
