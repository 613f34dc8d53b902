"""The report's sections on how the run went: what is amiss, curves, facts, notes, the recipe. Drawn from the log."""

from __future__ import annotations

from convnext.report.charts import Curve, line_chart, percent_short, smoothed
from convnext.report.run_folder import RunFolder
from convnext.report.training import across, series, steering, went


def curves(run: RunFolder) -> str:
    """Losses, accuracies, learning rate and gradient norm over the run."""
    steps, evals = run.of("step"), run.of("eval")
    x = across(steps, evals)
    plain = [event for event in evals if event.get("ema") is not True]
    averaged = [event for event in evals if event.get("ema") is True]
    raw = series(steps, x, "loss")
    losses = [
        Curve("training, each step", raw, "faint"),
        Curve("training", smoothed(raw)),
        Curve("validation", series(plain, x, "loss"), "second"),
        Curve("EMA", series(averaged, x, "loss"), "third"),
    ]
    accuracies = [
        Curve("validation", series(plain, x, "top1"), "second"),
        Curve("EMA", series(averaged, x, "top1"), "third"),
    ]
    charts = [
        line_chart("Loss", losses, x_label=x, floor=0.0),
        line_chart("Top-1 accuracy", accuracies, x_label=x, figure=percent_short, floor=0.0, ceiling=1.0),
        *steering(steps, x),
    ]
    return went(charts)
