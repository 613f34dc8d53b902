"""The command line's front door. Standard library alone: help and mistakes are answered before torch is loaded."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from convnext.core.errors import UserError, nearest

COMMANDS = {
    "train": "train or fine-tune a classifier or a detector on a folder of images",
    "evaluate": "how good a trained model is, and where it errs",
    "predict": "what a trained model sees in pictures",
    "report": "a run as one page: curves, confusion, worst mistakes",
    "models": "the models there are",
    "recipes": "the training recipes there are",
    "roadmap": "from ResNet to ConvNeXt, step by step: show, run, draw, speed",
    "weights": "published weights: list, inspect, convert, verify",
    "bench": "how fast the models are beside other libraries'",
    "completion": "completion of commands and options for your shell",
}

HELP = f"""convnext - train, judge and use ConvNeXt classifiers and detectors

usage: convnext COMMAND [...]

commands:
{chr(10).join(f"  {name:<11} {text}" for name, text in COMMANDS.items())}

begin with:
  convnext train --data photos        photos/ has one folder of images for each class
  convnext predict new.jpg            uses the model trained last
  convnext train demo                 no photos yet? handwritten digits, in a minute

convnext COMMAND --help says more about one command.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0 well, 1 something to repair, 2 wrong usage, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP, end="")  # noqa: T201
        return 0
    if argv[0] in ("-V", "--version", "version"):
        from convnext import __version__

        print(f"convnext {__version__}")  # noqa: T201
        return 0
    if argv[0] not in COMMANDS:
        return _complain(f"There is no command '{argv[0]}'.{nearest(argv[0], COMMANDS)}", status=2)
    try:
        return import_module(f"convnext.cli.{argv[0]}").run(argv[1:]) or 0
    except UserError as error:
        return _complain(str(error), status=1)
    except KeyboardInterrupt:
        return _complain("Stopped.", status=130)
    except BrokenPipeError:  # the reader of our output (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _complain(message: str, *, status: int) -> int:
    print(f"convnext: {message}", file=sys.stderr)  # noqa: T201
    return status
