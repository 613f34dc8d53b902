"""Which task a path, a file of weights or a run belongs to: every task is asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from convnext.core.errors import UserError, nearest
from convnext.core.network import NotReached
from convnext.core.text import printable
from convnext.data.recognise import Mine, Nearly
from convnext.report.run_folder import RunFolder
from convnext.tasks.spec import TaskSpec
from convnext.tasks.start import AUTO, NONE
from convnext.tasks.table import TASKS
from convnext.weights.files import Metadata, metadata_from
from convnext.weights.locate import WeightFile, fetch, locate

_ANY_TASK = "`convnext.load` knows those of every task"
_ELSEWHERE = (
    "A file of weights that is on this machine can be given in place of the name; CONVNEXT_MIRROR (of an address) and "
    "HF_ENDPOINT (of the hub) name mirrors."
)


def recognise(data: str, options: Mapping[str, str], *, task: str = "") -> tuple[TaskSpec, str]:
    """The task whose data a path holds, and what shows it.

    options: settings that say how data is opened, as given (`TaskSpec.data_options`). task: the one that somebody asked
    for. Raises UserError where no task, more than one, or another than the one that was asked for knows the data.
    """
    if task:
        spec = task_named(task)
        return spec, check_data(spec, data, options)
    verdicts = {spec.name: spec.recognise(data, options) for spec in TASKS.values() if not spec.asked}
    mine = {name: verdict.reason for name, verdict in verdicts.items() if isinstance(verdict, Mine)}
    if len(mine) > 1:  # a setting that one of them alone takes says which
        takers = {name: reason for name, reason in mine.items() if set(options) <= set(TASKS[name].data_options)}
        mine = takers or mine
    if len(mine) == 1:
        ((name, reason),) = mine.items()
        return TASKS[name], reason
    if mine:
        found = "; ".join(f"{TASKS[name].texts.model}: {reason}" for name, reason in mine.items())
        raise UserError(
            f"{data} can be data for several tasks ({found}). Say which: --task {' or --task '.join(mine)}."
        )
    missing = [verdict.missing for verdict in verdicts.values() if isinstance(verdict, Nearly)]
    raise UserError(_unknown(data, missing))


def check_data(spec: TaskSpec, data: str, options: Mapping[str, str], *, why: str = "", advice: str = "") -> str:
    """What shows that a path holds data of a task. Raises UserError, with what it holds instead, where it does not.

    why: what asked for the task, as "the recipe cifar10 trains a classifier"; "" for --task. advice: what to do.
    """
    verdict = spec.recognise(data, options)
    if isinstance(verdict, Mine):
        return verdict.reason
    others = {
        other.name: found.reason
        for other in TASKS.values()
        if other is not spec and not other.asked and isinstance(found := other.recognise(data, options), Mine)
    }
    why = why or f"--task {spec.name} trains a {spec.texts.model}"
    if others:
        name, reason = next(iter(others.items()))
        raise UserError(
            f"{data} looks like data for a {TASKS[name].texts.model} ({reason}), but {why}, which needs "
            f"{spec.texts.data}. {advice or 'Leave it out, and a recipe for the data is picked.'}"
        )
    if isinstance(verdict, Nearly):
        raise UserError(verdict.missing)
    spec.open_data(data, options)  # says what is wrong with the path itself
    raise UserError(f"{_unknown(data, [], only=spec)} ({why}.)")


def check_path(data: str) -> None:
    """Raises UserError where a path is not there, and no word (as "digits") that some task knows as data."""
    if not Path(data).exists() and not any(isinstance(spec.recognise(data, {}), Mine) for spec in TASKS.values()):
        raise UserError(_unknown(data, []))


def _unknown(data: str, missing: list[str], only: TaskSpec | None = None) -> str:
    """What a path that no task knows holds, and what is accepted."""
    path = Path(data)
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        what = f"There is no {path}.{nearest(path.name, beside)}"
    elif missing:
        what = " ".join(missing)
    else:
        what = f"{data} is no data set that is known here: it holds {_content(path)}."
    specs = [only] if only else list(TASKS.values())
    accepted = "".join(f"\n  for a {spec.texts.model}: {spec.texts.data}" for spec in specs)
    return f"{what} Accepted are{accepted}"


def _content(path: Path) -> str:
    """What a path holds, in words: the first folders, and files by their endings."""
    if path.is_file():
        return f"a file ({path.suffix or 'without an ending'})"
    entries = sorted(path.iterdir())
    folders = [printable(entry.name) + "/" for entry in entries if entry.is_dir()]
    endings = Counter(entry.suffix.lower() or "without an ending" for entry in entries if not entry.is_dir())
    files = [f"{count} {printable(ending)} file{'s' if count > 1 else ''}" for ending, count in endings.most_common(3)]
    return ", ".join([*folders[:4], *files]) or "nothing"


def task_named(name: str) -> TaskSpec:
    """The task of that name. Raises UserError with the nearest where there is none."""
    if name not in TASKS:
        raise UserError(f"There is no task '{name}'.{nearest(name, TASKS)}")
    return TASKS[name]


def find_weights(source: str | Path | WeightFile) -> tuple[TaskSpec, WeightFile]:
    """The file that a path, a name or an address means, and whose task it is. Published names of every task count.

    Raises UserError where it means none, with the nearest names.
    """
    try:
        file = find_file(source)
    except NotReached as error:
        raise NotReached(f"{error} {_ELSEWHERE}", error.reason) from None
    for spec in TASKS.values():
        if file.row is not None and spec.published().get(file.row.name) is file.row:
            return spec, file
    if file.values is not None:
        owner = next((spec for spec in TASKS.values() if spec.owns(file.values)), None)
        if owner is None:
            raise UserError(f"{file.file} says in no way known here which task its model is for.")
        return owner, file
    marked = (spec for spec in TASKS.values() if any(mark in file.state for mark in spec.marks))
    return next(marked, next(spec for spec in TASKS.values() if not spec.marks)), file


def find_file(source: str | Path | WeightFile) -> WeightFile:
    """The file that a path, an address or the name of published weights of any task means."""
    text = str(source)
    if isinstance(source, WeightFile) or Path(source).exists():
        return locate(source)
    if text in (AUTO, NONE):
        raise UserError(f"'{text}' is for `convnext train --init {text}`: here a model is needed, by its name or path.")
    for spec in TASKS.values():
        if text in spec.published():
            return fetch(spec.published()[text])
    for spec in TASKS.values():
        if spec.name_pattern and re.fullmatch(spec.name_pattern, text):
            raise UserError(
                f"There are no published weights '{text}'.{nearest(text, spec.published())} `convnext weights list "
                f"--{spec.texts.model}s` shows them all."
            )
    return locate(source)


def refuse_names_of_others(source: str | Path | WeightFile, task: str, *, advice: str = _ANY_TASK) -> None:
    """Raises UserError for the name of published weights with heads of another task than `task`."""
    if isinstance(source, WeightFile) or Path(source).exists():
        return
    for spec in TASKS.values():
        if spec.marks and spec.name != task and str(source) in spec.published():
            raise UserError(f"{source} is a published {spec.texts.model}: {advice}.")


def task_of_run(run: RunFolder) -> TaskSpec:
    """The task of a run: as its recipe says, or its evaluation, or the figures in its log; else a classifier's."""
    for values in (run.recipe, run.evaluation):
        named = TASKS.get(str((values or {}).get("task")))
        if named is not None:
            return named
    claiming = (spec for spec in TASKS.values() if spec.marks and spec.claims(run))
    return next(claiming, next(spec for spec in TASKS.values() if not spec.marks))


def read_metadata(source: str | Path | WeightFile) -> Metadata:
    """The metadata of a file that was saved here; no tensor is read. Raises UserError for a file of others."""
    file = locate(source)
    if file.values is None:
        raise UserError(f"{file.file} does not say which model it holds; `convnext train` writes files that do.")
    spec = find_weights(file)[0]
    return metadata_from(spec.recipe_type().migrated(dict(file.values)), spec.metadata_type(), file.file)
