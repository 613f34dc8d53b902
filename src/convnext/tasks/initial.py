"""The weights that a run starts from: named, picked for its data (`--init auto`), or none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.core.network import NotReached
from convnext.core.text import printable
from convnext.models.figures import all_figures
from convnext.recipes.advice import Reason
from convnext.recipes.named import named_parts, with_whole_models
from convnext.recipes.recipe import Recipe
from convnext.tasks.start import COMMERCIAL, NONE, Start, Wish
from convnext.weights.cache import place
from convnext.weights.catalog import LICENCES, catalog
from convnext.weights.download import size_of
from convnext.weights.hub import PREFIX
from convnext.weights.locate import fetch

if TYPE_CHECKING:
    from convnext.data.dataset import DataModule
    from convnext.tasks.spec import TaskSpec
    from convnext.weights.locate import Published, WeightFile

R = TypeVar("R", bound=Recipe)
_HERE = "--init FILE starts from weights that are on this machine"
_MIRRORS = {
    True: "CONVNEXT_MIRROR=https://HOST/FOLDER fetches them from a copy of another machine's cache",
    False: "HF_ENDPOINT=https://HOST fetches them from a mirror of the hub",
}
"""Whether the weights stand at an address of their own -> what takes another one."""


class Initial(NamedTuple):
    """What a run starts from."""

    file: WeightFile | None
    """None: from scratch."""
    reasons: tuple[str, ...] = ()
    named: Mapping[str, str] = {}
    """As `Start.named`."""


def wish_of(given: Mapping[str, str]) -> Wish:
    """What the settings that somebody gave ask of weights. given: option -> value, as "model.name"."""
    models = {name.removeprefix("model."): value for name, value in given.items() if name.startswith("model.")}
    name = models.get("backbone.name") or models.get("name") or ""
    return Wish(name, tuple(models), commercial=given.get("licence", COMMERCIAL) == COMMERCIAL)


def picked_weights(spec: TaskSpec, data: DataModule[Any], options: Mapping[str, str], wish: Wish) -> Initial:
    """The published weights that suit some data, fetched, and the reasons for them; or for starting from scratch.

    Raises UserError, within seconds, where they are not here, no address gives them, and the data is too little for
    training from scratch; and where something else is wrong with them.
    """
    start = spec.start(data, options, wish)
    if start.row is None:
        return Initial(None, (Reason(f"from scratch: {start.why}", "init"),) if start.why else ())
    try:
        size, file = _fetched(start.row, start.why)
    except NotReached as error:
        return Initial(None, (_without(start.row, start, error.reason),))
    except UserError as error:
        raise UserError(f"{error} (--init FILE starts from other weights, --init none from scratch.)") from None
    reason = f"starts from {start.row.name} ({_megabytes(size)}, {_licence(start.row)}): {start.why}"
    return Initial(file, (Reason(reason, "init"),), start.named)


@contextmanager
def advised(spec: TaskSpec) -> Iterator[None]:
    """Says what else there is to start from where the weights that somebody named are not reached."""
    try:
        yield
    except NotReached as error:
        scratch = f", --init none trains from scratch, which takes {spec.texts.scratch}" if spec.texts.scratch else ""
        raise UserError(f"{error} {_HERE}, {_MIRRORS[True]}{scratch}.") from None


def _fetched(row: Published, why: str) -> tuple[int, WeightFile]:
    """A published file and its size in bytes. What comes, and under which licence, is said before it comes."""
    if row.location.startswith(PREFIX):  # the hub's library has its own ways
        say(f"- weights to start from: {row.name}, {_licence(row)} ({why})")
        file = fetch(row)
        return file.file.stat().st_size, file
    size = size_of(row.location)
    if not place(row.location).is_file():
        say(f"- weights to start from: {row.name}, {_megabytes(size)}, {_licence(row)} ({why})")
    return size, fetch(row)


def _without(row: Published, start: Start, reason: str) -> Reason:
    """Why training is from scratch though there are weights. Raises UserError where the data is too little for that, or
    where several processes train together, of which others may have reached the weights."""
    ways = f"{_HERE}, {_MIRRORS[not row.location.startswith(PREFIX)]}"
    if not start.enough or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        scratch = f"--init none trains from scratch, which takes {start.needs}"
        raise UserError(f"The weights {row.name} are not here and cannot be fetched ({reason}): {ways}, {scratch}.")
    text = f"from scratch, for the weights {row.name} are not here and cannot be fetched ({reason})"
    return Reason(f"{text}; that takes {start.needs}. {ways}.", "init")


def with_named_models(recipe: R, given: Mapping[str, str], initial: Initial) -> tuple[R, list[str]]:
    """The recipe with the models that `given` names as those are (`recipes.named`), and what is to be said of it.

    initial: weights that the recipe was picked for. A recipe that names weights of its own starts from those of the
    same training of the model that was named. Raises UserError where there are none.
    """
    init = initial.file
    own = "" if "init" in given or init is not None else recipe.init
    new, changes = with_whole_models(recipe, {**initial.named, **given}, of_weights=bool(own or init))
    notes = [str(change) for change in changes if change.option in given]
    changed = [option.replace("_", "-") for option in given if option.startswith("model.") and option.endswith(".name")]
    before, after = ([part.name for _, part in named_parts(one) if part.NAMED == "name"] for one in (recipe, new))
    if before == after:
        return new, notes
    if init is not None and not _alike(before[0], after[0]):
        raise UserError(
            f"{init.source} holds a {before[0]}: leave out --{changed[0]} {printable(after[0])}, or start from "
            "weights of that model."
        )
    if not own:
        return new, notes
    name = f"{after[0]}.{own.partition('.')[2]}"
    if name not in catalog():
        raise UserError(
            f"The recipe {recipe.name} starts from {own}, which is no {printable(after[0])}: say what that starts "
            f"from, --init FILE, --init NAME (`convnext weights list` shows names) or --init {NONE}."
        )
    return replace(new, init=name), [*notes, f"starts from {name}, as {recipe.name} does from {own}"]


def _alike(one: str, other: str) -> bool:
    """Whether two models have stages of the same sizes, as those that differ in their norms do; unknown names are left
    for others to refuse."""
    sizes = [(figures.depths, figures.dims) for name in (one, other) if (figures := all_figures().get(name))]
    return len(sizes) < 2 or sizes[0] == sizes[1]


def _licence(row: Published) -> str:
    use = "commercial use allowed" if LICENCES[row.licence] else "NOT for commercial use"
    return f"licence {row.licence}, {use}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 950_000 else f"{size / 1e6:.2g} MB"
