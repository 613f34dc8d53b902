"""A detector's part of a run's page: headline, curves, COCO's figures, images, classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convnext.report.charts import Curve, line_chart, percent_short, smoothed
from convnext.report.html import UNKNOWN, count, measure, percent, section, table, text
from convnext.report.page import TaskReport
from convnext.report.parts import CLASSES_LISTED, class_by_class, headline_of_log, image_cards, speed, tile, verdict
from convnext.report.run_folder import RunFolder, Values, entries, finite
from convnext.report.training import across, loss_parts, series, steering, went

_LOSSES = {
    "rpn_class": "proposals",
    "rpn_box": "their boxes",
}
_KINDS = {"box": "Boxes", "mask": "Masks"}
_PERCENT = "\N{NARROW NO-BREAK SPACE}%"
_FIGURES = {
    "AP": f"precision, mean over overlaps of 50{_PERCENT} to 95{_PERCENT}",
    "AP50": f"precision at an overlap of 50{_PERCENT}",
    "AP75": f"precision at an overlap of 75{_PERCENT}",
    "APs": "precision on small objects, up to 32² pixels",
    "APm": "precision on medium ones, up to 96² pixels",
    "APl": "precision on large ones",
    "AR1": "recall with the surest find of each class",
    "AR10": "recall with the surest ten",
    "AR100": "recall with the surest hundred",
    "ARs": "recall of small objects",
    "ARm": "recall of medium ones",
    "ARl": "recall of large ones",
}


def headline(run: RunFolder) -> str:
    """The figures that matter most, and on which images they were taken; from the log if nothing else is there."""
    values = run.evaluation
    if values is None:
        return headline_of_log(run, "box_AP", _best_so_far)
    box, mask = (_of(values, kind) for kind in _KINDS)
    first, second = (("box", box), ("mask", mask)) if mask else (("box", box), ("box", box))
    names = ("AP", "AP", "AP50", "AP50") if mask else ("AP", "AP50", "AP75", "AR100")
    chosen = [(*pair, name) for pair, name in zip((first, second) * 2, names, strict=True)]
    tiles = [_figure_tile(kind, found, name) for kind, found, name in chosen]
    n = values.get("n")
    tiles += [tile("Images", count(n), speed(values)), tile("Objects", count(values.get("objects")), "to be found")]
    return f'{verdict(values.get("held_out"), n)}<div class="tiles">{"".join(tiles)}</div>'


def _of(values: Values, kind: str) -> Values:
    """The figures of boxes or masks, empty where there are none."""
    found = values.get(kind)
    return found if isinstance(found, dict) else {}


def _figure_tile(kind: str, found: Values, name: str) -> str:
    return tile(f"{_KINDS[kind]}: {name}", percent(found.get(name)), _FIGURES[name], found.get(name))


def _best_so_far(best: Values) -> list[str]:
    known = [("box_AP", "Best AP of boxes so far"), ("box_AP50", "AP50 there"), ("mask_AP", "AP of masks there")]
    where = {"box_AP": f"step {count(best.get('step'))}"}
    return [tile(name, percent(best[key]), where.get(key, ""), best[key]) for key, name in known if key in best]


def curves(run: RunFolder) -> str:
    """The loss and its parts, the average precision of boxes and masks, learning rate and gradient norm."""
    steps, evals = run.of("step"), run.of("eval")
    x = across(steps, evals)
    raw = series(steps, x, "loss")
    total = [Curve("each step", raw, "faint"), Curve("training", smoothed(raw))]
    charts = [
        line_chart("Loss", total, x_label=x, floor=0.0),
        line_chart("Parts of the loss", loss_parts(steps, x, names=_LOSSES), x_label=x, floor=0.0),
        *(_precision(evals, x, kind) for kind in _KINDS),
        *steering(steps, x),
    ]
    return went(charts)


def _precision(evals: Sequence[Values], x: str, kind: str) -> str:
    """The average precision over the run; at single overlaps that of the EMA, where there is one."""
    plain = [event for event in evals if event.get("ema") is not True]
    averaged = [event for event in evals if event.get("ema") is True]
    best, suffix = (averaged, ", EMA") if averaged else (plain, "")
    lines = [
        Curve("AP", series(plain, x, f"{kind}_AP"), "second"),
        Curve("AP, EMA", series(averaged, x, f"{kind}_AP"), "third"),
        Curve(f"AP50{suffix}", series(best, x, f"{kind}_AP50"), "fourth"),
        Curve(f"AP75{suffix}", series(best, x, f"{kind}_AP75"), "fifth"),
    ]
    return line_chart(
        f"{_KINDS[kind]}: average precision", lines, x_label=x, figure=percent_short, floor=0.0, ceiling=1.0
    )


def figures(run: RunFolder) -> str:
    """COCO's twelve figures of boxes and masks as a table."""
    kinds = {_KINDS[kind]: found for kind in _KINDS if (found := _of(run.evaluation or {}, kind))}
    if not kinds:
        return ""
    rows = [[name, words, *(_share(found.get(name)) for found in kinds.values())] for name, words in _FIGURES.items()]
    lead = (
        "A find counts where it overlaps an object of its class by so much. Precision (AP) is high where finds are "
        "right, the surest above all, and few objects are missed; recall (AR) is the share of objects that were found."
    )
    return section("COCO's twelve figures", table(["", "What", *kinds], rows, kind="figures"), lead=lead)


def _share(value: Any) -> str:
    share = finite(value)
    return UNKNOWN if share is None else measure(share)


def images(run: RunFolder) -> str:
    """Some images with what is in them and what was found."""
    return image_cards(run, "Objects in")


def classes(run: RunFolder) -> str:
    """The figures of each class, the worst first; classes without objects last."""
    box, mask = (entries(_of(run.evaluation or {}, kind), "per_class") for kind in _KINDS)
    same = [entry.get("name") for entry in box] == [entry.get("name") for entry in mask]
    pairs = list(zip(box, mask if same else [{}] * len(box), strict=True))
    pairs.sort(key=lambda pair: 2.0 if (share := finite(pair[0].get("AP"))) is None else share)
    head = ["Class", "Objects", "Boxes: AP", "AP50", *(["Masks: AP", "AP50"] if same else [])]
    rows = []
    for entry, outlined in pairs[:CLASSES_LISTED]:
        shares = [_share(entry.get("AP")), percent(entry.get("AP50"))]
        if same:
            shares += [_share(outlined.get("AP")), percent(outlined.get("AP50"))]
        rows.append([text(entry.get("name", "?")), count(entry.get("n")), *shares])
    return class_by_class(head, rows, total=len(pairs), kind="figures by-class")


def report(run: RunFolder) -> TaskReport:
    """A detector's part of a run's page. Its evaluation names the backbone, the log the whole detector."""
    return TaskReport(
        model=run.last("start").get("model") or (run.evaluation or {}).get("model"),
        headline=headline(run),
        sections=(curves(run), figures(run), images(run), classes(run)),
        styles=("dense.css",),
    )
