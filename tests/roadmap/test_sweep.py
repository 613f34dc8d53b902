"""A sweep over the roadmap: what it plans, runs, goes on with, and says when a run fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from convnext.core.errors import UserError
from convnext.models.roadmap import STEPS
from convnext.roadmap import sweep
from convnext.roadmap.sweep import Plan, Result, by_step, epochs_within, plan_of, results, run_sweep, start
from convnext.sweep import facts, runs, timing
from convnext.sweep.facts import Facts
from convnext.tasks.recipes import save_recipe

SMALL = Plan("small", "digits", 0.3, seeds=1, steps=("baseline", "sep_ds"))
FACTS = Facts(train=1000, val=100, classes=10)


def test_one_recipe_for_every_step():
    """Two runs differ in the model's name, the recipe's, and the seed."""
    plan = Plan("resnet50", "somewhere", 30.0, seeds=2, batch=512, lr=1e-3)
    first, other = plan.recipe("baseline", 0), plan.recipe("k7", 1)
    assert replace(other, name=first.name, model=first.model, loop=first.loop) == first
    assert replace(other.model, name=first.model.name) == first.model
    assert replace(other.loop, seed=0) == first.loop
    assert (first.schedule.epochs, first.schedule.warmup_epochs) == (30.0, 2.0)  # 20 of 300
    assert (first.loop.global_batch, first.optim.lr, first.ema.decay) == (512, 1e-3, 0.0)


def test_order_of_runs():
    """A whole road comes before the next seed's."""
    plan = replace(SMALL, seeds=2)
    assert plan.cells() == [("baseline", 0), ("sep_ds", 0), ("baseline", 1), ("sep_ds", 1)]
    assert len(Plan("small", "x", 1.0).cells()) == 2 * len(STEPS)


def test_epochs_follow_from_the_budget(monkeypatch):
    """1,000 images of 1 ms in two steps: 2 s an epoch, beside a start and two evaluations of each run."""
    monkeypatch.setattr(sweep, "seconds_an_image", lambda *_args, **_options: 1e-3)
    fixed = 2 * (timing.START + 2 * 100 * 1e-3 / 3)
    assert epochs_within(SMALL, FACTS, seconds=fixed + 20.5, jobs=1) == pytest.approx(10.2)
    assert epochs_within(SMALL, FACTS, seconds=(fixed + 20.5) / 2, jobs=2) == pytest.approx(10.2)
    assert epochs_within(SMALL, FACTS, seconds=1e6, jobs=1) == 300.0  # never longer than the paper's
    with pytest.raises(UserError, match=r"25s are too short: 2 runs of one epoch each take about 27s"):
        epochs_within(SMALL, FACTS, seconds=25, jobs=1)


def test_speed_is_measured():
    taken = timing.seconds_an_image(SMALL.recipe("sep_ds", 0), 10, threads=1)
    assert timing.READ < taken < 1.0


@pytest.mark.slow
def test_a_sweep_from_start_to_end(tmp_path, monkeypatch):
    out = tmp_path / "sweep"
    plan = start(SMALL, out)
    assert run_sweep(plan, out, jobs=2) == []
    found = results(plan, out)
    assert [(result.step, result.seed) for result in found] == [("baseline", 0), ("sep_ds", 0)]
    assert all(0.05 < result.top1 <= 1 and (result.images, result.classes) == (179, 10) for result in found)
    assert json.loads((out / "results.json").read_text())[1]["step"] == "sep_ds"
    for result in found:
        assert (out / result.step / "seed0" / "report.html").is_file()
        assert "top-1" in (out / result.step / "seed0.txt").read_text()

    def never(*_args, **_options):
        raise AssertionError("what has ended is not run again")

    monkeypatch.setattr(runs.subprocess, "Popen", never)
    assert run_sweep(start(SMALL, out), out, jobs=1) == []


@pytest.mark.slow
def test_a_run_that_fails_and_one_that_goes_on(tmp_path):
    """The others go on, and the reason is told; a run that had begun is resumed."""
    out = tmp_path / "sweep"
    plan = start(SMALL, out)
    (out / "baseline" / "seed0").mkdir(parents=True)
    (out / "baseline" / "seed0" / "precious.txt").write_text("not a run")
    begun = out / "sep_ds" / "seed0"
    begun.mkdir(parents=True)
    save_recipe(begun / "recipe.json", plan.recipe("sep_ds", 0))
    (begun / "split.json").write_text(json.dumps(_split()))
    failed = run_sweep(plan, out, jobs=1)
    assert len(failed) == 1
    assert failed[0].startswith("baseline/seed0: ")
    assert "not empty" in failed[0]
    assert [result.step for result in results(plan, out)] == ["sep_ds"]
    assert (out / "baseline" / "seed0" / "precious.txt").read_text() == "not a run"


def _split():
    from convnext.data.classification.open import ClassificationData

    recipe = SMALL.recipe("sep_ds", 0)
    return ClassificationData("digits").splits(recipe.loader, seed=0).record


def test_a_folder_keeps_its_plan(tmp_path):
    out = tmp_path / "sweep"
    start(SMALL, out)
    assert plan_of(out) == SMALL
    assert start(replace(SMALL, epochs=99.0), out) == SMALL  # a budget measured again is no other plan
    with pytest.raises(UserError, match="another sweep"):
        start(replace(SMALL, seeds=3), out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(UserError, match="not empty and not a sweep's folder"):
        start(SMALL, tmp_path / "full")
    with pytest.raises(UserError, match="no sweep's folder"):
        plan_of(tmp_path)
    with pytest.raises(UserError, match="no step 'k8'"):
        start(replace(SMALL, steps=("k8",)), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (out / "plan.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        plan_of(out)


def test_data_without_validation_is_refused(tmp_path):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / name / "0.png")
    with pytest.raises(UserError, match="no images to hold out"):
        facts.look_at(str(tmp_path), SMALL.recipe("baseline", 0))


def test_data_with_several_labels_is_refused(monkeypatch):
    monkeypatch.setattr(facts, "several_labels", lambda dataset: True)
    with pytest.raises(UserError, match="digits has several labels for an image"):
        facts.look_at("digits", SMALL.recipe("baseline", 0))


def test_mean_and_deviation():
    found = [
        Result("k7", 0, 0.5, 100, 10, 9.0),
        Result("k7", 1, 0.7, 100, 10, 11.0),
        Result("gelu", 0, 0.4, 100, 10, 1.0),
    ]
    means = by_step(found, lambda result: result.top1)
    assert means["k7"] == (pytest.approx(0.6), pytest.approx(0.02**0.5), 2)
    assert means["gelu"] == (0.4, None, 1)


def test_nothing_ended_yet(tmp_path):
    assert results(SMALL, Path(tmp_path)) == []
