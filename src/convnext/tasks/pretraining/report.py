"""An autoencoder's part of a run's page: headline, curves, reconstructions."""

from __future__ import annotations

from convnext.report.charts import Curve, line_chart, percent_short, smoothed
from convnext.report.html import count, decimal, percent
from convnext.report.page import TaskReport
from convnext.report.parts import headline_of_log, image_cards, speed, tile, verdict
from convnext.report.run_folder import RunFolder, Values
from convnext.report.training import across, series, steering, went


def headline(run: RunFolder) -> str:
    """The figures that matter most; from the log if nothing else is there."""
    values = run.evaluation
    if values is None:
        return headline_of_log(run, "explained", _best_so_far)
    pixels = "of normalised pixels" if values.get("norm_pix") else "of pixels"
    tiles = [
        tile("Explained", percent(values.get("explained")), "of the masked cells' variance", values.get("explained")),
        tile("Loss", decimal(values.get("loss")), f"squared error {pixels}"),
        tile("Masked", percent(values.get("mask_ratio"), 0), "of an image's cells"),
        tile("Images", count(values.get("n")), speed(values)),
    ]
    return f'{verdict(values.get("held_out"), values.get("n"))}<div class="tiles few">{"".join(tiles)}</div>'


def _best_so_far(best: Values) -> list[str]:
    return [
        tile("Explained so far", percent(best.get("explained")), f"step {count(best.get('step'))}"),
        tile("Loss there", decimal(best.get("loss")), "squared error"),
    ]


def curves(run: RunFolder) -> str:
    """Losses, explained variance, learning rate and gradient norm over the run."""
    steps, evals = run.of("step"), run.of("eval")
    x = across(steps, evals)
    raw = series(steps, x, "loss")
    losses = [
        Curve("training, each step", raw, "faint"),
        Curve("training", smoothed(raw)),
        Curve("validation", series(evals, x, "loss"), "second"),
    ]
    explained = [Curve("validation", series(evals, x, "explained"), "second")]
    return went(
        [
            line_chart("Loss", losses, x_label=x, floor=0.0),
            line_chart("Explained variance", explained, x_label=x, figure=percent_short, ceiling=1.0),
            *steering(steps, x),
        ]
    )


def report(run: RunFolder) -> TaskReport:
    """An autoencoder's part of a run's page."""
    pictures = image_cards(run, "Reconstruction of", title="What it makes of what it does not see")
    return TaskReport(
        model=run.last("start").get("model") or (run.evaluation or {}).get("model"),
        headline=headline(run),
        sections=(curves(run), pictures),
        styles=("dense.css",),
    )
