"""The page of a run: what it says, what it never does, and that a broken run still gets one."""

import html.parser
import json
import re
import subprocess
import sys

import pytest
from PIL import Image

from convnext.core.errors import UserError
from convnext.run import write_report

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
VOID = {"meta", "img", "br", "link", "input"}


class Page(html.parser.HTMLParser):
    """Parses a page: the tags must nest, and what it holds is kept."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(source)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def page_of(folder):
    path = write_report(folder)
    assert path == folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def change(folder, **values):
    file = folder / "evaluation.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_whole_run(make_run):
    folder = make_run()
    page = page_of(folder)
    values = json.loads((folder / "evaluation.json").read_text())
    assert f"{100 * values['top1']:.1f}" in page.text
    low, high = values["top1_interval"]
    assert f"{100 * low:.1f}–{100 * high:.1f}" in page.text
    assert "held out Measured on 360 images that were kept out of training." in page.text
    for heading in ("How training went", "Worst mistakes", "Confusion matrix", "Class by class", "Recipe"):
        assert heading in page.text
    assert "To keep in mind" not in page.text
    assert "12m34s" in page.text
    assert '"lr": 0.004' in page.text
    assert "train/broken.jpg" in page.text
    assert "The run was taken up again here. step 150" in page.text
    left = {"recipe.json", "log.jsonl", "evaluation.json", "mistakes", "report.html"}
    assert {file.name for file in folder.iterdir()} == left


def test_the_same_files_give_the_same_page(make_run):
    folder = make_run()
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_nothing_is_fetched_and_nothing_runs(make_run):
    page = page_of(make_run())
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "form", "a")]
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")]
        assert attrs.get("src", "data:").startswith("data:image/png;base64,") or tag != "img"
        assert not [value for value in attrs.values() if value and value.startswith(("http:", "https:", "//"))]
    policy = next(attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs)
    assert "default-src 'none'" in policy


def test_pictures_and_drawings_have_words(make_run):
    page = page_of(make_run(names=tuple(f"kind {i}" for i in range(10))))
    assert len(page.all("img")) == 8
    assert page.all("img")[0]["alt"] == "val/0000.jpg: kind 0, taken for kind 1"
    drawings = [attrs for attrs in page.all("svg") if "role" in attrs]
    assert len(drawings) == 5
    assert all(attrs["role"] == "img" and len(attrs["aria-label"]) > 20 for attrs in drawings)


@pytest.mark.parametrize(
    ("held_out", "said"),
    [(False, "NOT held out"), (None, "not known whether training used them"), ("yes", "not known")],
)
def test_figures_on_training_images_are_called_so(make_run, held_out, said):
    folder = make_run()
    change(folder, held_out=held_out)
    assert said in page_of(folder).text


def test_the_matrix_has_every_count_where_it_belongs(make_run):
    folder = make_run()
    matrix = json.loads((folder / "evaluation.json").read_text())["confusion"]
    source = write_report(folder).read_text(encoding="utf-8")
    body = source.split('class="heat')[1].split("</table>")[0]
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in body.split("<tbody>")[1].split("<tr>")[1:]]
    assert [[0 if cell == "·" else int(cell) for cell in row] for row in rows] == matrix


def test_many_classes_show_pairs_and_the_worst_first(make_run):
    folder = make_run(names=tuple(f"kind {i}" for i in range(60)), images=600)
    values = json.loads((folder / "evaluation.json").read_text())
    source = write_report(folder).read_text(encoding="utf-8")
    assert 'class="heat' not in source
    pairs = source.split('class="pairs"')[1].split("</table>")[0]
    assert pairs.count("<tr>") == 21
    most = max(n for i, row in enumerate(values["confusion"]) for j, n in enumerate(row) if i != j)
    assert int(re.findall(r"<td>(\d+)</td>", pairs)[0]) == most
    listed = re.findall(r'<th scope="row">(kind \d+)</th>', source.split("Class by class")[1])
    known = {entry["name"]: entry["top1"] for entry in values["per_class"]}
    assert listed[0] == min((name for name in known if known[name] is not None), key=lambda name: known[name])
    assert len(listed) == 60
    assert listed[-1] == "kind 59"  # the one without images


@pytest.mark.parametrize("gone", ["recipe.json", "log.jsonl", "evaluation.json"])
def test_a_missing_file_is_said(make_run, gone):
    folder = make_run()
    (folder / gone).unlink()
    page = page_of(folder)
    assert "To keep in mind" in page.text
    assert gone in page.text
    assert ("How training went" in page.text) == (gone != "log.jsonl")
    assert ("Class by class" in page.text) == (gone != "evaluation.json")


def test_a_killed_run(make_run):
    folder = make_run()
    (folder / "evaluation.json").write_text('{"top1": 0.')
    log = folder / "log.jsonl"
    log.write_text(log.read_text()[:30000])  # cut in the middle of a line
    page = page_of(folder)
    assert "The log has no end" in page.text
    assert "evaluation.json cannot be read" in page.text
    assert "Best top-1 so far" in page.text
    assert "How training went" in page.text


def test_only_a_start(make_run):
    folder = make_run()
    (folder / "evaluation.json").unlink()
    log = folder / "log.jsonl"
    log.write_text(log.read_text().splitlines()[0] + "\n")
    page = page_of(folder)
    assert "There are no figures on this model yet." in page.text
    assert "The log has no validation yet." in page.text
    assert "convnext_atto" in page.text


def test_losses_that_are_no_number_are_said(make_run):
    folder = make_run()
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps({"event": "step", "step": 301, "epoch": 20.1, "loss": None, "lr": 1e-3}) + "\n")
    change(folder, invalid=17)
    page = page_of(folder)
    assert "not a number at 1 of the logged steps (first at step 301)" in page.text
    assert "For 17 images the model's output was not a number" in page.text


def test_hostile_words_stay_words(make_run):
    names = (HOSTILE, "\u202eevil", "broken \udcff name", *(f"'{i}&amp;" for i in range(7)))
    folder = make_run(names=names)
    change(
        folder,
        model=HOSTILE,
        data=HOSTILE,
        skipped=[{"name": HOSTILE, "reason": HOSTILE}],
        mistakes=[
            {"name": HOSTILE, "target": HOSTILE, "prediction": HOSTILE, "confidence": HOSTILE, "picture": HOSTILE}
        ],
    )
    (folder / "recipe.json").write_text(json.dumps({HOSTILE: HOSTILE}))
    lines = [
        {"event": "note", "step": HOSTILE, "text": HOSTILE},
        {"event": "start", "model": HOSTILE, "dtype": HOSTILE},
    ]
    with (folder / "log.jsonl").open("a") as log:
        log.write("".join(json.dumps(line) + "\n" for line in lines))
    page = page_of(folder)
    assert not page.all("script")
    assert not page.all("img")
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert page.text.count(HOSTILE) > 10
    assert "'0&amp;" in page.text  # shown as it is written, not decoded twice


@pytest.mark.parametrize("kind", ["above", "absolute", "link", "folder", "text", "missing", "number", "long", "null"])
def test_pictures_from_elsewhere_are_left_out(make_run, tmp_path, kind):
    folder = make_run(mistakes=1)
    inside = (folder / "mistakes/000.png").read_bytes()
    outside = tmp_path / "outside.png"
    outside.write_bytes(inside)
    (folder / "link.png").symlink_to(outside)
    (folder / "text.png").write_text("secret")
    name = {
        "above": "../outside.png",
        "absolute": str(outside),
        "link": "link.png",
        "folder": "mistakes",
        "text": "text.png",
        "missing": "mistakes/9.png",
        "number": 7,
        "long": "x" * 5000,
        "null": "a\0b",
    }[kind]
    mistake = {"name": "a", "target": "b", "prediction": "c", "confidence": 0.5, "picture": name}
    change(folder, mistakes=[mistake, mistake | {"picture": "mistakes/000.png"}])
    page = page_of(folder)
    assert len(page.all("img")) == 1
    assert "no image" in page.text


@pytest.mark.parametrize("value", [None, "x", [], [1, "x"], {}, True, 10**400, -1], ids=lambda value: str(value)[:9])
def test_values_of_a_wrong_kind_break_nothing(make_run, value):
    folder = make_run()
    values = json.loads((folder / "evaluation.json").read_text())
    for key in values:
        (folder / "evaluation.json").write_text(json.dumps(values | {key: value}))
        page_of(folder)
    (folder / "evaluation.json").write_text(json.dumps(dict.fromkeys(values, value)))
    events = [
        {"event": kind, "step": value, "epoch": value, "loss": value, "lr": value, "seconds": value}
        for kind in ("start", "step", "eval", "note", "end")
    ]
    lines = [*events, value, {"event": value}]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page_of(folder)


def test_no_run_is_an_error_that_repairs(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match="`convnext train --data DIR` makes"):
            write_report(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        write_report(tmp_path / "file")
    assert not (tmp_path / "report.html").exists()


def test_a_long_run_gives_a_small_page(make_run):
    folder = make_run()
    lines = ({"event": "step", "step": i, "epoch": i / 500, "loss": 1 / (i + 1), "lr": 0.1} for i in range(20000))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert write_report(folder).stat().st_size < 150_000


def test_a_report_needs_no_torch():
    check = "import convnext.report.page, sys; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_the_first_batch_is_shown_where_it_was_drawn(make_run):
    folder = make_run()
    assert "As training saw it" not in write_report(folder).read_text(encoding="utf-8")
    Image.new("RGB", (40, 30), (200, 10, 10)).save(folder / "first_batch.png")
    source = write_report(folder).read_text(encoding="utf-8")
    assert re.search(r'As training saw it.*<img class="wide" src="data:image/png;base64,', source, re.DOTALL)
    Page(source)
