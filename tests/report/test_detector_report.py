"""The page of a detector's run: what it says, and that a broken run still gets one."""

import html.parser
import json
import re

import pytest

from convnext.run import write_report

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


class Attributes(html.parser.HTMLParser):
    """The names of all attributes of a page."""

    def __init__(self, source):
        super().__init__()
        self.names = set()
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.names |= {name for name, _ in attrs}


def source_of(folder):
    return write_report(folder).read_text(encoding="utf-8")


def words_of(source):
    """The words of a page, without tags and style."""
    body = source.split("<body>")[1]
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def change(folder, **values):
    file = folder / "evaluation.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def rows_of(source, heading):
    """The cells of the first table below a heading, a list a row."""
    body = source.split(f"<h2>{heading}</h2>")[1].split("<tbody>")[1].split("</tbody>")[0]
    cells = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("<tr>")[1:])
    return [[re.sub(r"<[^>]*>", "", cell).replace("\N{NARROW NO-BREAK SPACE}", " ") for cell in row] for row in cells]


def drawings_of(source):
    return re.findall(r'<svg [^>]*aria-label="([^"]*)"', source)


def test_a_whole_run(make_detection_run):
    folder = make_detection_run()
    source = source_of(folder)
    words = words_of(source)
    assert "<h1>Mask R-CNN on convnext_tiny</h1>" in source
    assert "held out Measured on 40 images that were kept out of training." in words
    for heading in ("How training went", "COCO's twelve figures", "What it finds", "Class by class", "Recipe"):
        assert f"<h2>{heading}</h2>" in source
    for heading in ("Confusion matrix", "Worst mistakes", "To keep in mind"):
        assert heading not in source
    assert "val/broken.jpg" in words
    assert "1h00m" in words
    assert source.count("<img ") == 3
    assert 'alt="Objects in val/0001.jpg"' in source


def test_the_table_has_every_figure_where_it_belongs(make_detection_run):
    folder = make_detection_run()
    values = json.loads((folder / "evaluation.json").read_text())
    rows = rows_of(source_of(folder), "COCO's twelve figures")
    assert len(rows) == 12
    for name, _, box, mask in rows:
        assert box == f"{100 * values['box'][name]:.1f} %"
        assert mask == f"{100 * values['mask'][name]:.1f} %"


def test_classes_stand_worst_first_and_those_without_objects_last(make_detection_run):
    rows = rows_of(source_of(make_detection_run()), "Class by class")
    assert [row[0] for row in rows] == ["bee", "fish", "bird", "dog", "cat"]
    assert rows[0] == ["bee", "12", "22.5 %", "25.0 %", "18.0 %", "20.0 %"]
    assert rows[-1] == ["cat", "0", "–", "–", "–", "–"]


def test_many_classes_are_folded(make_detection_run):
    source = source_of(make_detection_run(names=tuple(f"kind {i}" for i in range(60))))
    assert "The 12 worst of 60." in words_of(source)
    assert "The other 48 classes" in words_of(source)
    assert len(re.findall(r'<th scope="row">kind \d+</th>', source)) == 60


def test_curves(make_detection_run):
    folder = make_detection_run()
    last = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()][-2]
    loss, parts, box, mask, *rest = drawings_of(source_of(folder))
    assert loss.startswith("Loss: ")
    assert all(f"{name} ends at" in parts for name in ("proposals", "their boxes", "class", "box", "mask"))
    assert last["ema"] is True
    for drawing, kind in ((box, "box"), (mask, "mask")):
        figure = f"{100 * last[f'{kind}_AP']:.1f}\N{NARROW NO-BREAK SPACE}%"
        assert f"AP, EMA ends at {figure}" in drawing
        assert "AP75, EMA ends at" in drawing
    assert [each.split(":")[0] for each in rest] == ["Learning rate", "Gradient norm"]


def test_the_stages_of_a_cascade_are_added_up(make_detection_run):
    folder = make_detection_run()
    losses = {"rpn_class": 0.5, "0_class": 1.0, "1_class": 0.25, "2_class": 0.125, "0_box": 2.0, "1_box": None}
    lines = [{"event": "step", "step": i, "epoch": i / 2, "loss": 4.0, "losses": losses, "lr": 1e-4} for i in (1, 2)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    parts = drawings_of(source_of(folder))[1]
    assert "class ends at 1.38" in parts
    assert "proposals ends at 0.5" in parts
    assert "box ends" not in parts  # of which a part is no number


def test_without_masks(make_detection_run):
    folder = make_detection_run(masks=False)
    source = source_of(folder)
    assert "Masks" not in words_of(source)
    assert all(len(row) == 3 for row in rows_of(source, "COCO's twelve figures"))
    assert all(len(row) == 4 for row in rows_of(source, "Class by class"))
    assert "Boxes: AP75" in words_of(source)


def test_undefined_figures_are_no_zeros(make_detection_run):
    source = source_of(make_detection_run(undefined=("AP", "APs", "ARs")))
    rows = {row[0]: row[2:] for row in rows_of(source, "COCO's twelve figures")}
    assert rows["APs"] == rows["ARs"] == rows["AP"] == ["–", "–"]
    assert rows["AP50"] == ["85.0 %", "68.0 %"]
    assert "Boxes: AP –" in words_of(source)


@pytest.mark.parametrize("recipe", [True, False])
def test_without_an_evaluation_the_log_has_figures(make_detection_run, recipe):
    folder = make_detection_run()
    (folder / "evaluation.json").unlink()
    if not recipe:
        (folder / "recipe.json").unlink()
    source = source_of(folder)
    words = words_of(source)
    assert "From the validations during training" in words
    assert "Best AP of boxes so far" in words
    assert "AP of masks there" in words
    assert "There is no evaluation.json" in words
    assert "Top-1" not in words
    assert "Boxes: average precision" in words
    assert "twelve" not in words


def test_only_a_start(make_detection_run):
    folder = make_detection_run()
    (folder / "evaluation.json").unlink()
    log = folder / "log.jsonl"
    log.write_text(log.read_text().splitlines()[0] + "\n")
    words = words_of(source_of(folder))
    assert "There are no figures on this model yet." in words
    assert "Mask R-CNN on convnext_tiny" in words


def test_hostile_words_stay_words(make_detection_run):
    folder = make_detection_run(names=(HOSTILE, "\u202eevil", "broken \udcff name"))
    change(
        folder,
        model=HOSTILE,
        data=HOSTILE,
        pictures=[{"name": HOSTILE, "picture": HOSTILE}, {"name": HOSTILE, "picture": "pictures/000.png"}],
        skipped=[{"name": HOSTILE, "reason": HOSTILE}],
    )
    lines = [
        {"event": "start", "model": HOSTILE},
        {"event": "step", "step": 1, "epoch": 1, "loss": 1.0, "losses": {HOSTILE: 1.0, "x": HOSTILE}},
        {"event": "eval", "step": 1, "epoch": 1, "box_AP": HOSTILE, "mask_AP": 0.5},
        {"event": "note", "step": HOSTILE, "text": HOSTILE},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = source_of(folder)
    assert "<script" not in source
    assert source.count("<img ") == 1
    assert not [name for name in Attributes(source).names if name.startswith("on")]
    assert "no image" in words_of(source)
    assert source.count("&lt;script&gt;") > 8


@pytest.mark.parametrize("value", [None, "x", [], [1, "x"], {}, True, 10**400, -1], ids=lambda value: str(value)[:9])
def test_values_of_a_wrong_kind_break_nothing(make_detection_run, value):
    folder = make_detection_run()
    values = json.loads((folder / "evaluation.json").read_text())
    for key in values:
        (folder / "evaluation.json").write_text(json.dumps(values | {key: value}))
        write_report(folder)
    for key in values["box"]:
        (folder / "evaluation.json").write_text(json.dumps(values | {"box": values["box"] | {key: value}}))
        write_report(folder)
    (folder / "evaluation.json").unlink()
    events = [
        {"event": kind, "step": value, "epoch": value, "loss": value, "losses": value, "box_AP": value, "ema": value}
        for kind in ("start", "step", "eval")
    ]
    events.append({"event": "step", "step": 1, "epoch": 1, "loss": 1.0, "losses": {"class": value, "0_class": value}})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*events, {"event": value}]))
    write_report(folder)


def test_a_classifier_of_the_same_log_has_its_own_page(make_run):
    source = source_of(make_run())
    assert "Confusion matrix" in source
    assert "twelve figures" not in source
    assert ".scenes" not in source  # nor the look of the other page
