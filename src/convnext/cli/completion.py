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
from convnext.recipes.recipe import Recipe
from convnext.tasks.recipes import all_recipes
from convnext.tasks.table import TASKS

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
    if not before:
        return list(COMMANDS)
    command, rest = before[0], before[1:]
    if command in ("weights", "roadmap", "scaling", "data"):
        return _of_parts(command, rest)
    kinds = _arguments()
    if command not in kinds:
        return []
    recipes = all_recipes()
    names = list(recipes) if command in ("train", "recipes") and not rest else []
    recipe = type(recipes[rest[0]]()) if command == "train" and rest and rest[0] in recipes else _plain_recipe()
    return names + list(options(kinds[command], recipe=recipe))


def _arguments() -> dict[str, type]:
    """The arguments of each command without parts."""
    from convnext.cli import bench, compare, evaluate, models, predict, recipes, report, train

    return {
        "train": train.Train,
        "evaluate": evaluate.arguments(),
        "compare": compare.Compare,
        "predict": predict.arguments(),
        "report": report.Report,
        "models": models.Models,
        "recipes": recipes.Recipes,
        "bench": bench.Bench,
    }


def _of_parts(command: str, rest: list[str]) -> list[str]:
    """What may come after a command with parts, as `convnext weights list`."""
    from convnext.cli import data, roadmap, scaling, weights

    of_commands = {"weights": weights, "roadmap": roadmap, "scaling": scaling, "data": data}
    parts = of_commands[command].PARTS
    if not rest:
        return list(parts)
    published = [name for spec in TASKS.values() for name in spec.published()]
    names = published if command == "weights" and len(rest) == 1 and rest[0] != "list" else []
    return names + (list(options(parts[rest[0]], recipe=_plain_recipe())) if rest[0] in parts else [])


def _plain_recipe() -> type[Recipe]:
    return next(iter(TASKS.values())).recipe_type()


def options(kind: type, prefix: str = "--", *, recipe: type) -> Iterator[str]:
    """Every option of a command's dataclass, nested ones as --optim.lr; `recipe` is the kind of its recipe, if any."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        nested = field.name == "recipe"  # its settings carry no prefix of their own
        hint: Any = recipe if nested else hints[field.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            inner = prefix if nested else f"{prefix}{field.name}."
            yield from options(hint, inner, recipe=recipe)
        else:
            yield f"{prefix}{field.name}".replace("_", "-")
