"""The command line's front door. Nothing heavy: help and mistakes are answered before torch is loaded."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from convnext.core.errors import UserError, nearest

COMMANDS = {
    "train": "train or fine-tune a model on a folder of images",
    "evaluate": "how good a trained model is, and where it errs",
    "predict": "what a trained model sees in images",
    "report": "a run as one page: curves, figures, mistakes",
    "models": "the models there are",
    "recipes": "the training recipes there are",
    "roadmap": "from ResNet to ConvNeXt, step by step: show, run, draw, speed",
    "weights": "published weights: list, inspect, convert, verify",
    "data": "data before it is trained on: check, show",
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
