"""The command line's front door. Nothing heavy: help and mistakes are answered before torch is loaded."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module

from convnext.core.atomic import is_full
from convnext.core.errors import UserError, nearest
from convnext.core.text import safe

COMMANDS = {
    "train": "train or fine-tune a model on a folder of images",
    "evaluate": "how good a trained model is, and where it errs",
    "compare": "two models on the same images: is one better, beyond chance",
    "predict": "what a trained model sees in images",
    "report": "a run as one page: curves, figures, mistakes",
    "models": "the models there are",
    "recipes": "the training recipes there are",
    "roadmap": "from ResNet to ConvNeXt, step by step: show, run, draw, speed",
    "scaling": "how error falls with size and compute, ConvNets beside ViTs: fit, plan, run, draw",
    "weights": "published weights: list, inspect, convert, verify",
    "data": "data before it is trained on: check, show, mapping",
    "bench": "how fast the models are beside other libraries'",
    "completion": "completion of commands and options for your shell",
}


def help_text() -> str:
    """The help of the program, with a line for each task."""
    from convnext.tasks.table import TASKS

    models = "\n".join(f"  {spec.texts.model:<11} {spec.texts.does}" for spec in TASKS.values())
    commands = "\n".join(f"  {name:<11} {text}" for name, text in COMMANDS.items())
    kinds = [f"{spec.texts.model}s" for spec in TASKS.values()]
    return f"""convnext - train, evaluate and use ConvNeXt {", ".join(kinds[:-1])} and {kinds[-1]}

usage: convnext COMMAND [...]

commands:
{commands}

models, by the data that they are trained on (convnext train --help):
{models}

begin with:
  convnext train --data photos        looks at what photos/ holds and picks a recipe
  convnext predict new.jpg            uses the model trained last
  convnext train demo                 no images yet? handwritten digits, in a minute

convnext COMMAND --help says more about one command.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0 well, 1 something to repair, 2 wrong usage, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    _show_everything()
    try:
        status = _run(argv)
        sys.stdout.flush()  # here, where a full disk or a reader that is gone can still be told
        return status
    except UserError as error:
        return _complain(str(error), status=1)
    except KeyboardInterrupt:
        return _complain("Stopped.", status=130)
    except BrokenPipeError:  # the reader of our output (head, less) has seen enough
        _close_outputs()
        return 0
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        name = getattr(error, "filename", None)
        if is_full(error):
            _close_outputs(errors=False)  # else Python would try again at its end, and show a traceback
            where = f" to write {name}" if name else ""
            return _complain(f"No space left{where}: the disk, or your share of it, is full.", status=1)
        if not isinstance(error, OSError) or not name:
            raise
        return _complain(f"{name}: {error.strerror}.", status=1)  # closed to us, a name too long, a disk that is gone


def _run(argv: list[str]) -> int:
    """Runs one command."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(help_text(), end="")  # noqa: T201
        return 0
    if argv[0] in ("-V", "--version", "version"):
        from convnext import __version__

        print(f"convnext {__version__}")  # noqa: T201
        return 0
    if argv[0] not in COMMANDS:
        return _complain(f"There is no command '{argv[0]}'.{nearest(argv[0], COMMANDS)}", status=2)
    try:
        return import_module(f"convnext.cli.{argv[0]}").run(argv[1:]) or 0
    except SystemExit as stop:  # after help, or arguments that were refused
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


def _show_everything() -> None:
    """A name that the terminal's encoding lacks is shown as escapes, never an error: a result is not lost by it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _close_outputs(*, errors: bool = True) -> None:
    """Sends what is still to be printed nowhere."""
    for stream in (sys.stdout, sys.stderr) if errors else (sys.stdout,):
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def _complain(message: str, *, status: int) -> int:
    print(f"convnext: {safe(message)}", file=sys.stderr)  # noqa: T201
    return status
