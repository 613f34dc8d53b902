"""convnext completion bash|zsh|fish, and the words that the shells then ask for."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import tyro

from convnext.cli.main import COMMANDS
from convnext.cli.output import emit, parse
from convnext.recipes.recipe import ClassificationRecipe

_BASH = """_convnext() {
    local IFS=$'\\n'
    COMPREPLY=($(convnext completion words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    [ ${#COMPREPLY[@]} -eq 0 ] && COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o filenames -F _convnext convnext
"""
SCRIPTS = {
    "bash": _BASH,
    "zsh": "autoload -Uz bashcompinit && bashcompinit\n" + _BASH,
    "fish": "complete -c convnext -a '(convnext completion words (commandline -opc)[2..] (commandline -ct))'\n",
}


@dataclass(frozen=True)
class Completion:
    """Prints the completion script of a shell.

    For example:
      bash   add to ~/.bashrc:   eval "$(convnext completion bash)"
      zsh    add to ~/.zshrc:    eval "$(convnext completion zsh)"
      fish   convnext completion fish > ~/.config/fish/completions/convnext.fish
    """

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """Your shell."""


def run(argv: list[str]) -> None:
    if argv[:1] == ["words"]:
        *before, word = argv[1:] or [""]
        emit("\n".join(candidate for candidate in words(before) if candidate.startswith(word)))
        return
    emit(SCRIPTS[parse(Completion, argv, command="completion").shell])


def words(before: list[str]) -> list[str]:
    """What may come after the words `before`: commands, then names and options."""
    from convnext.cli import bench, evaluate, models, predict, recipes, report, roadmap, train, weights
    from convnext.recipes.table import RECIPES
    from convnext.tasks.detection.published import published_detectors
    from convnext.weights.catalog import catalog

    if not before:
        return list(COMMANDS)
    kinds: dict[str, type] = {
        "train": train.Train,
        "evaluate": evaluate.Evaluate,
        "predict": predict.Predict,
        "report": report.Report,
        "models": models.Models,
        "recipes": recipes.Recipes,
        "bench": bench.Bench,
    }
    command = before[0]
    if command == "weights":
        if len(before) == 1:
            return list(weights.PARTS)
        names = [*catalog(), *published_detectors()] if len(before) == 2 and before[1] != "list" else []
        return names + (list(options(weights.PARTS[before[1]])) if before[1] in weights.PARTS else [])
    if command == "roadmap":
        parts = roadmap.PARTS
        return list(parts) if len(before) == 1 else list(options(parts[before[1]])) if before[1] in parts else []
    names = list(RECIPES) if command in ("train", "recipes") and len(before) == 1 else []
    recipe = (
        type(RECIPES[before[1]]())
        if command == "train" and len(before) > 1 and before[1] in RECIPES
        else ClassificationRecipe
    )
    return names + (list(options(kinds[command], recipe=recipe)) if command in kinds else [])


def options(kind: type, prefix: str = "--", *, recipe: type = ClassificationRecipe) -> Iterator[str]:
    """Every option of a command's dataclass, nested ones as --optim.lr; `recipe` is the kind of its recipe, if any."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        nested = field.name == "recipe"  # its settings carry no prefix of their own
        hint: Any = recipe if nested else hints[field.name]
        if dataclasses.is_dataclass(hint):
            inner = prefix if nested else f"{prefix}{field.name}."
            yield from options(hint, inner)  # type: ignore[arg-type]
        else:
            yield f"{prefix}{field.name}".replace("_", "-")
