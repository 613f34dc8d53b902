"""`convnext scaling` and `convnext compare` as people use them, and what they say to mistakes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from convnext.cli.main import main
from convnext.core.errors import UserError
from convnext.scaling import study
from convnext.scaling.ladders import FAMILIES, LADDERS
from convnext.scaling.points import published_series
from convnext.scaling.report import How, fitted
from convnext.scaling.study import FLOPS_PER_MAC, Plan
from convnext.sweep.runs import Ended

PLAN = Plan("small", "digits", 1000, 10, families=("convnext", "vit"), sizes=(1, 2), compute=(1e11, 3e11), seeds=2)


# Planning


def test_every_rung_can_be_built_and_costs_more_than_the_last():
    for regime, ladders in LADDERS.items():
        for family in FAMILIES:
            pixels = 32 if regime == "small" else 224
            costs = [study.costs_of(model, pixels, 10).macs for model in ladders[family]]
            assert costs == sorted(costs), (regime, family)
            assert len(set(costs)) == len(costs) >= 3
            if regime == "small":
                assert 2e6 < costs[0] < 5e6
                assert 1.4e7 < costs[-1] < 2e7


def test_equal_compute_is_equal():
    """Of one budget all runs cost the same to the rounding of steps; a model twice as large sees half the images."""
    cells = PLAN.cells()
    assert len(cells) == 2 * 2 * 2 * 2
    for cell in cells:
        assert cell.compute == pytest.approx(cell.budget, rel=0.06)  # some hundred steps
        assert cell.compute == FLOPS_PER_MAC * cell.costs.macs * cell.seen
    one, two = (next(c for c in cells if (c.family, c.size, c.budget) == ("convnext", size, 3e11)) for size in (1, 2))
    assert one.seen / two.seen == pytest.approx(two.costs.macs / one.costs.macs, rel=0.02)


def test_equal_data_is_equal():
    plan = replace(PLAN, compute=(), epochs=(2.0, 4.0), fractions=(0.5, 1.0))
    assert {(cell.budget, cell.fraction): cell.seen for cell in plan.cells()} == {
        (2.0, 0.5): 8 * 128,
        (2.0, 1.0): 16 * 128,
        (4.0, 0.5): 16 * 128,
        (4.0, 1.0): 31 * 128,
    }
    half = next(cell for cell in plan.cells() if cell.fraction == 0.5)
    assert plan.recipe(half).loader.train_fraction == 0.5
    assert "-of-0.5" in half.name


def test_one_recipe_for_all():
    """Runs differ in model, name, length and seed alone, and are as the recipe checks allow."""
    first, *others = (PLAN.recipe(cell) for cell in PLAN.cells())
    for other in others:
        same = replace(other, name=first.name, model=first.model, schedule=first.schedule, loop=first.loop)
        assert same == first
        assert replace(other.loop, seed=first.loop.seed) == first.loop
        assert other.schedule.warmup_steps == max(round(other.schedule.steps / 10), 1)
    study.check(PLAN)


def test_runs_that_see_too_little_are_left_out_and_told(capsys):
    plan = replace(PLAN, images=200_000)
    assert {cell.name.split("/")[0] for cell in plan.left_out()} >= {"convnext2", "vit2"}
    assert not {cell.name for cell in plan.cells()} & {cell.name for cell in plan.left_out()}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sizes": (1,), "compute": (3e11,)}, "a single point"),
        ({"compute": (1.0,)}, "no point"),
        ({"compute": (-1.0,)}, "above 0"),
        ({"fractions": (1.5,)}, "up to 1"),
        ({"sizes": (1, 9)}, "has sizes 1 to 4, not 9"),
        ({"sizes": (1, 1, 2)}, "stands twice in this grid"),
        ({"compute": (1.0001e11, 1.0002e11)}, "stands twice in this grid"),
        ({"families": ("resnext",)}, "no family 'resnext'. Did you mean 'resnet'"),
        ({"regime": "medium"}, "no regime 'medium'"),
    ],
)
def test_grids_that_cannot_be(changed, words):
    with pytest.raises(UserError, match=words):
        study.check(replace(PLAN, **changed))


def test_a_time_becomes_budgets_of_compute():
    """As large as fit: by the stated speeds, three levels, each three times the one before."""
    speeds = dict.fromkeys([("convnext", 1), ("convnext", 2), ("vit", 1), ("vit", 2)], 1e-3)
    plan = study.within(PLAN, speeds, levels=3, seconds=2000, val=100, jobs=2)
    assert [b / plan.compute[0] for b in plan.compute] == pytest.approx([1, 3, 9])
    seconds = study.seconds_of(plan, speeds, val=100, jobs=2)
    assert 1800 < seconds <= 2000
    with pytest.raises(UserError, match="too short for this grid"):
        study.within(PLAN, speeds, levels=3, seconds=1, val=100, jobs=1)


def test_a_folder_keeps_its_study(tmp_path):
    assert study.start(PLAN, tmp_path / "s") == PLAN
    assert study.plan_of(tmp_path / "s") == PLAN
    assert study.start(replace(PLAN, compute=(5e11, 6e11)), tmp_path / "s") == PLAN  # a budget measured again
    with pytest.raises(UserError, match="another study"):
        study.start(replace(PLAN, seeds=5), tmp_path / "s")
    with pytest.raises(UserError, match="no sweep's folder"):
        study.plan_of(tmp_path)


def test_rows_are_of_the_logs(tmp_path, monkeypatch):
    cell = PLAN.cells()[0]
    end = Ended({"loss": 1.25, "top1": 0.6}, images=100, train_images=900, classes=10, seconds=3.0)
    monkeypatch.setattr(study, "ended", lambda folder: end if folder == tmp_path / cell.name else None)
    (row,) = study.rows(PLAN, tmp_path)
    assert (row.family, row.size, row.seed, row.loss, row.error, row.images) == ("convnext", 1, 0, 1.25, 0.4, 900)
    assert (row.macs, row.compute) == (cell.costs.macs, cell.compute)


# The command


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "Which images? Give --data DIR"),
        (["run", "--data", "digits"], "Give one of --compute (equal compute), --epochs (equal data) or --budget"),
        (["run", "--data", "digits", "--epochs", "1", "--budget", "1h"], "Give one of"),
        (["run", "--data", "digits", "--budget", "soon"], "not 'soon'"),
        (["run", "--data", "digits", "--epochs", "1", "--seeds", "0"], "at least 1"),
        (["run", "--data", "nowhere", "--epochs", "1"], "nowhere"),
        (["run", "--data", "digits", "--epochs", "1", "--sizes", "1"], "a single point"),
        (["plan", "--data", "digits", "--epochs", "1", "--sizes", "1", "7"], "has sizes 1 to 4"),
        (["fit", "swin_in1k"], "no published series 'swin_in1k'. Did you mean"),
        (["fit", "."], "is no sweep's folder"),
        (["fit", "--slack", "0.5"], "--slack is at least 1"),
        (["draw", "--out", "no/such/folder/x"], "There is no folder"),
        (["fly"], "no part 'fly'"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(["scaling", *arguments]) == 1
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_fit_tells_laws_and_comparisons(capsys):
    words = ["scaling", "fit", "convnext_v1_in1k_224", "swin_in1k_224", "--draws", "100"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "0.1955 x^-0.0646" in text
    assert "4.5 to 34.4" in text
    assert "do not differ beyond chance" in text
    assert "2 points of convnext_v1_in1k_224 beyond what swin_in1k_224 covers: no claim" in text
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["law"]["exponent"] for one in found["fits"]] == pytest.approx([-0.0646, -0.1077], abs=1e-4)
    (pair,) = found["comparisons"]
    assert [entry["model"] for entry in pair["equal_figure_cost_ratios"]] == ["ConvNeXt-T", "ConvNeXt-S"]


def test_fit_a_table_of_ones_own(tmp_path, capsys):
    file = tmp_path / "mine.csv"
    lines = [
        f"{name},m{i},{10**i},{100 - 100 * a * 10 ** (b * i)}"
        for name, a, b in (("x", 0.5, -0.1), ("y", 0.4, -0.2))
        for i in range(6)
    ]
    file.write_text("family,model,gmacs,top1\n" + "\n".join(lines) + "\n")
    assert main(["scaling", "fit", str(file), "--x", "gmacs", "--draws", "100"]) == 0
    text = capsys.readouterr().out
    assert "0.5000 x^-0.1000" in text
    assert "0.4000 x^-0.2000" in text
    assert "differ (difference +0.100" in text
    assert (
        main(["scaling", "fit", str(file), "--x", "gmacs", "--law", "floor", "--loss", "huber", "--draws", "100"]) == 0
    )
    assert "x^" in capsys.readouterr().out
    file.write_text("family,gmacs,top1\nx,1,70\n")
    assert main(["scaling", "fit", str(file), "--x", "gmacs"]) == 1
    assert "No law can be fitted: mine: x: A power law has 2 numbers" in capsys.readouterr().err
    assert main(["scaling", "fit", str(file), "--y", "loss", "--x", "gmacs"]) == 1
    assert "no point has both gmacs and loss" in capsys.readouterr().err


def test_draw(tmp_path, capsys):
    out = tmp_path / "figure"
    assert main(["scaling", "draw", "--out", str(out), "--draws", "100", "--json"]) == 0
    paths = [Path(path) for path in json.loads(capsys.readouterr().out)]
    assert [path.suffix for path in paths] == [".png", ".svg", ".csv", ".json"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in paths[1].read_text()
    rows = list(csv.DictReader(paths[2].read_text().splitlines()))
    assert {row["series"] for row in rows} >= {"convnext_v1_in1k_224", "clip_vit_grid_laion2b"}
    values = json.loads(paths[3].read_text())
    assert all(one["law"] or one["why_not"] for one in values["fits"])
    assert len({row["panel"] for row in rows}) == 4


def test_models_of_one_name_each_have_their_ratio(capsys):
    """A grid has a model several times, at several budgets: none of them is lost in JSON."""
    words = ["scaling", "fit", "clip_vit_grid_laion2b", "clip_vit_laion2b", "--draws", "100", "--json"]
    assert main(words) == 0
    (pair,) = json.loads(capsys.readouterr().out)["comparisons"]
    names = [entry["model"] for entry in pair["equal_figure_cost_ratios"]]
    assert len(names) > len(set(names))


def test_repeats_of_equal_cost_are_found_by_name(tmp_path, capsys):
    """The mean of three equal costs may differ from them in its last digit."""
    lines = ["family,model,train_flops,error,repeats"]
    for family, start in (("x", 0.5), ("y", 0.6)):
        lines += [f"{family},m,{0.1 * 3**i},{start * 0.8**i},{family}{i}" for i in range(3) for _ in range(3)]
    (tmp_path / "mine.csv").write_text("\n".join(lines) + "\n")
    assert main(["scaling", "fit", str(tmp_path / "mine.csv"), "--draws", "100"]) == 0
    assert "mine: y costs: x0" in capsys.readouterr().out


def test_what_has_no_points_on_an_axis_is_told(tmp_path, capsys):
    words = ["scaling", "draw", "clip_vit_openai", "swin_in1k_224", "--x", "params", "--out", str(tmp_path / "f")]
    assert main([*words, "--draws", "100"]) == 0
    assert "clip_vit_openai has no law and is not drawn: no point has both params and error" in capsys.readouterr().err


def test_families_are_ladders():
    assert all(tuple(ladders) == FAMILIES for ladders in LADDERS.values())


def test_no_law_is_drawn_or_told_beyond_its_points():
    one = fitted(published_series("swin_in1k_224"), How())
    assert one.fit is not None
    assert (one.fit.low, one.fit.high) == (4.5, 15.4)
    assert not one.fit.covers(34.4)


@pytest.mark.slow
def test_a_study_from_plan_to_figure(tmp_path, capsys):
    """Planned, run, gone on with, fitted and drawn; its points are also a table that can be fitted."""
    grid = ["--data", "digits", "--families", "convnext", "swin", "--sizes", "1", "2", "--epochs", "0.3", "0.6"]
    grid += ["--seeds", "2", "--jobs", "2"]
    assert main(["scaling", "plan", *grid, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert len(plan["runs"]) == 8
    assert plan["seconds"] > 0
    out = tmp_path / "study"
    assert main(["scaling", "run", *grid, "--out", str(out), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 16
    assert all(0 < row["error"] < 1 and row["loss"] > 0 for row in rows)
    assert main(["scaling", "run", *grid, "--out", str(out)]) == 0  # goes on: nothing is left to do
    assert "scaling draw" in capsys.readouterr().out
    for what in (out, out / "points.csv"):
        assert main(["scaling", "fit", str(what), "--y", "loss", "--pareto", "--json", "--draws", "100"]) == 0
        fits = json.loads(capsys.readouterr().out)["fits"]
        assert [one["series"].split(": ")[1] for one in fits] == ["convnext", "swin"]
        assert all(one["fit"]["basis"] == "repeats" for one in fits if one["fit"])
    assert main(["scaling", "draw", str(out), "--no-published", "--draws", "100"]) == 0
    assert (out / "scaling.svg").is_file()


# Comparing


@pytest.mark.slow
def test_compare_two_runs(tmp_path, shapes, convnext: Callable[..., object], capsys):
    settings = ["--data", str(shapes), "--loader.workers", "0", "--schedule.epochs", "2", "--input.size", "32"]
    for name, seed in (("a", "0"), ("b", "0")):
        extra = ["--optim.lr", "1e-9"] if name == "b" else []
        assert main(["train", "cifar10", *settings, "--loop.seed", seed, "--out", str(tmp_path / name), *extra]) == 0
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["held_out"]) == (4, True)
    assert found["difference"] == pytest.approx(found["top1"][0] - found["top1"][1])
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--data", str(shapes)]) == 0
    assert "McNemar" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "a")]) != 0
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "nothing")]) == 1
    assert "nothing" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "a"), "--corruptions", "fog", "--severities", "1"]) == 0
    assert (tmp_path / "a" / "robustness.json").is_file()
    assert main(["report", str(tmp_path / "a")]) == 0
    assert "On images that training did not show" in (tmp_path / "a" / "report.html").read_text()
