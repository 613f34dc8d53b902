"""A segmenter's part of a run's page: headline, curves, images, classes, confusions."""

from __future__ import annotations

from convnext.report.charts import Curve, line_chart, percent_short, smoothed
from convnext.report.html import count, percent, section, table, text
from convnext.report.page import TaskReport
from convnext.report.parts import CLASSES_LISTED, class_by_class, headline_of_log, image_cards, speed, tile, verdict
from convnext.report.run_folder import RunFolder, Values, entries, finite
from convnext.report.training import across, loss_parts, series, steering, went

_FIGURES = {
    "mIoU": ("Mean IoU", "of each class the pixels rightly found, by all that are it or were taken for it"),
    "mAcc": ("Mean accuracy", "share of each class's pixels that was found"),
    "aAcc": ("Pixel accuracy", "share of all pixels"),
}


def headline(run: RunFolder) -> str:
    """The figures that matter most, and on which images they were taken; from the log if nothing else is there."""
    values = run.evaluation
    if values is None:
        return headline_of_log(run, "mIoU", _best_so_far)
    n = values.get("n")
    tiles = [tile(name, percent(values.get(key)), what, values.get(key)) for key, (name, what) in _FIGURES.items()]
    tiles += [tile("Images", count(n), speed(values)), tile("Classes", count(len(entries(values, "per_class"))))]
    return f'{verdict(values.get("held_out"), n)}<div class="tiles">{"".join(tiles)}</div>'


def _best_so_far(best: Values) -> list[str]:
    where = {"mIoU": f"step {count(best.get('step'))}"}
    return [
        tile(name, percent(best.get(key)), where.get(key, ""), best.get(key)) for key, (name, _) in _FIGURES.items()
    ]


def curves(run: RunFolder) -> str:
    """The loss and its parts, the figures of the validations, learning rate and gradient norm."""
    steps, evals = run.of("step"), run.of("eval")
    x = across(steps, evals)
    raw = series(steps, x, "loss")
    plain = [event for event in evals if event.get("ema") is not True]
    averaged = [event for event in evals if event.get("ema") is True]
    best, suffix = (averaged, ", EMA") if averaged else (plain, "")
    figures = [
        Curve("mIoU", series(plain, x, "mIoU"), "second"),
        Curve("mIoU, EMA", series(averaged, x, "mIoU"), "third"),
        Curve(f"mean accuracy{suffix}", series(best, x, "mAcc"), "fourth"),
        Curve(f"pixel accuracy{suffix}", series(best, x, "aAcc"), "fifth"),
    ]
    loss = [Curve("each step", raw, "faint"), Curve("training", smoothed(raw))]
    charts = [
        line_chart("Loss", loss, x_label=x, floor=0.0),
        line_chart("Parts of the loss", loss_parts(steps, x), x_label=x, floor=0.0),
        line_chart("Validation", figures, x_label=x, figure=percent_short, floor=0.0, ceiling=1.0),
        *steering(steps, x),
    ]
    return went(charts)


def images(run: RunFolder) -> str:
    """Some images with the classes that are there and those that were found."""
    return image_cards(run, "Classes of")


def classes(run: RunFolder) -> str:
    """The figures of each class, the worst first; classes without pixels last."""
    found = entries(run.evaluation, "per_class")
    found.sort(key=lambda entry: 2.0 if (share := finite(entry.get("IoU"))) is None else share)
    rows = [
        [text(e.get("name", "?")), count(e.get("pixels")), percent(e.get("IoU")), percent(e.get("Acc"))]
        for e in found[:CLASSES_LISTED]
    ]
    return class_by_class(["Class", "Pixels", "IoU", "Accuracy"], rows, total=len(found), kind="figures by-class")


def confusions(run: RunFolder) -> str:
    """What is taken for what most often."""
    rows = [
        [text(entry.get("name", "?")), text(entry.get("taken_for", "?")), percent(entry.get("share"))]
        for entry in entries(run.evaluation, "confused")
    ]
    lead = "Of all pixels of a class, the share that was taken for another one: the ten largest."
    head = ["Class", "Taken for", "Share of its pixels"]
    return section("Most confused", table(head, rows, kind="figures"), lead=lead) if rows else ""


def report(run: RunFolder) -> TaskReport:
    """A segmenter's part of a run's page. Its evaluation names the backbone, the log the whole segmenter."""
    return TaskReport(
        model=run.last("start").get("model") or (run.evaluation or {}).get("model"),
        headline=headline(run),
        sections=(curves(run), images(run), classes(run), confusions(run)),
        styles=("dense.css",),
    )
