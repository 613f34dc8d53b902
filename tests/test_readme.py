"""README's table of tasks says what the specs say."""

from __future__ import annotations

from pathlib import Path

from convnext.tasks.table import TASKS

README = Path(__file__).parents[1] / "README.md"
HEAD = "| `--task` | a model | its data | recipes | published weights |\n| --- | --- | --- | --- | --- |"


def tasks_table() -> str:
    rows = [
        f"| {spec.name} | {spec.texts.model}: {spec.texts.does} | {spec.texts.data} | {len(spec.recipes())} | "
        f"{len(spec.published())} |"
        for spec in TASKS.values()
    ]
    return "\n".join([HEAD, *rows])


def test_the_table_of_tasks() -> None:
    table = tasks_table()
    assert table in README.read_text(encoding="utf-8"), f"README.md should hold:\n\n{table}"
