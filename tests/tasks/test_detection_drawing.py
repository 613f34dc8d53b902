"""Pictures of scenes: what is drawn where, at any size, with names of every kind."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import MaxPool2d

from convnext.ops.instances import Detections, Instances
from convnext.report.panels import beside
from convnext.tasks.detection.draw import COLOURS, drawn
from convnext.tasks.detection.label_places import placed

NEAR = 8  # pixels around a box that its outline and the white around it may take


def scene(height, width, boxes, *, labels=None, masks=False, score=0.97):
    """A grey picture and detections in it: masks are the ellipses in the boxes. No score: the truth."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor(labels if labels is not None else [0] * len(boxes), dtype=torch.int64)
    found = None
    if masks:
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        inside = ((x - centre[:, 0, None, None]) / half[:, 0, None, None]) ** 2
        found = inside + ((y - centre[:, 1, None, None]) / half[:, 1, None, None]) ** 2 < 1
    image = torch.full((3, height, width), 128, dtype=torch.uint8)
    if score is None:
        return image, Instances(boxes, labels, found)
    return image, Detections(boxes, torch.full((len(boxes),), score), labels, found)


def changed(image, shown):
    """bool (H, W): where a picture that is shown as large as it is differs from itself."""
    return (np.asarray(shown) != image.permute(1, 2, 0).numpy()).any(2)


def where(mask):
    """The box of what is true: x0, y0, x1, y1."""
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def has(shown, colour):
    return int((np.asarray(shown) == colour).all(2).sum())


def test_a_mask_is_tinted_and_nothing_else_is():
    image, truth = scene(480, 800, [[300, 100, 500, 300]], masks=True, score=None)
    shown = drawn(image, truth, [""])  # no name, no label
    touched, inside = changed(image, shown), truth.masks[0].numpy()
    assert touched.shape == (480, 800)
    assert touched[inside].all()
    frame = np.zeros_like(inside)
    frame[100:300, 300:500] = True
    frame[102:298, 302:498] = False
    around = MaxPool2d(5, stride=1, padding=2)(truth.masks.float())[0].numpy() > 0  # two pixels of white line
    assert not touched[~around & ~frame].any()
    assert np.asarray(shown)[200, 400].tolist() == pytest.approx([128 + 0.34 * (c - 128) for c in COLOURS[0]], abs=1)


def test_truth_of_a_box_alone_is_a_frame():
    image, truth = scene(480, 800, [[200, 100, 600, 400]], score=None)
    shown = drawn(image, truth, ["fig"])
    touched = changed(image, shown)
    assert touched[100, 200:600].all()
    assert touched[399, 200:600].all()
    assert touched[100:400, 200].all()
    assert touched[100:400, 599].all()
    assert not touched[200:390, 220:580].any()
    assert shown.getpixel((400, 100)) == COLOURS[0]


@pytest.mark.parametrize(("height", "width"), [(480, 640), (2000, 3000), (300, 400), (1200, 700)])
def test_a_mask_moves_with_its_picture(height, width):
    box = [0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]
    image, truth = scene(height, width, [box], masks=True, score=None)
    shown = np.asarray(drawn(image, truth, [" "])).astype(int)
    scale = shown.shape[1] / width
    assert shown.shape[0] == pytest.approx(height * scale, abs=1)
    assert 640 <= max(shown.shape[:2]) <= 1280
    tinted = np.abs(shown - 128).sum(2) > 60
    fill = tinted[:, :, None].any(2)
    x0, y0, x1, y1 = where(fill)
    assert (x0, y0, x1, y1) == pytest.approx([value * scale for value in box], abs=30)  # label and halo included
    middle = shown.shape[0] // 2, shown.shape[1] // 2
    assert fill[middle]
    assert not fill[middle[0], : round(0.25 * shown.shape[1]) - NEAR].any()


def test_tiny_pictures_keep_square_pixels():
    image, truth = scene(8, 8, [[2, 2, 6, 6]], score=None)
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 2:6, 2:6] = True
    shown = drawn(image, truth._replace(masks=mask), ["0"])
    assert shown.size == (640, 640)
    touched = (np.asarray(shown) != 128).any(2)
    assert touched[160:480, 160:480].all()
    assert not touched[480 + NEAR :, :].any()
    assert not touched[:, 480 + NEAR :].any()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (3000, 4000), (3, 4000), (4000, 3), (40, 2000)])
@pytest.mark.parametrize("masks", [False, True])
def test_every_size_can_be_drawn(height, width, masks):
    image, found = scene(height, width, [[0, 0, width, height], [0, 0, 1, 1]], labels=[0, 1], masks=masks)
    shown = drawn(image, found, ["fig", "date"], title="a.jpg")
    assert shown.mode == "RGB"
    assert min(shown.size) >= 50
    assert max(shown.size) <= 1350
    assert has(shown, COLOURS[0]) > 100


def test_large_pictures_shrink_to_what_was_asked_for():
    image, found = scene(900, 1200, [[100, 100, 500, 400]])
    assert drawn(image, found, ["fig"], longest=800).size == (800, 600)
    assert drawn(image, found, ["fig"]).size == (1200, 900)


def test_no_objects():
    image, found = scene(300, 640, [], masks=True)
    assert not changed(image, drawn(image, found, ["fig"])).any()
    image, truth = scene(300, 640, [], score=None)
    assert not changed(image, drawn(image, truth, [])).any()


def test_an_empty_mask_and_a_flat_box():
    image, found = scene(300, 640, [[100, 100, 100, 100], [50, 50, 20, 20], [-9, -9, 9999, 9999]])
    masks = torch.zeros(3, 300, 640, dtype=torch.bool)
    assert drawn(image, found, ["fig"]).size == (640, 300)
    assert drawn(image, found._replace(masks=masks), ["fig"]).size == (640, 300)


@pytest.mark.parametrize(
    "box",
    [[0, 0, 90, 60], [550, 0, 640, 60], [0, 420, 90, 480], [550, 420, 640, 480], [0, 0, 640, 480], [639, 0, 640, 1]],
)
def test_labels_at_the_border_are_whole(box):
    image, found = scene(480, 640, [box])
    whole = has(drawn(*scene(480, 640, [[200, 200, 290, 260]]), ["hazelnut"]), COLOURS[0])
    frame = has(drawn(*scene(480, 640, [[200, 200, 290, 260]], score=None), [""]), COLOURS[0])
    label = whole - frame
    assert label > 800
    own = has(drawn(image, found, ["hazelnut"]), COLOURS[0]) - has(
        drawn(image, Instances(*found[:1], found.labels), [""]), COLOURS[0]
    )
    assert own > 0.6 * label  # but for what lies on the frame itself


def test_labels_stand_apart_and_inside():
    generator = np.random.default_rng(0)
    low = generator.uniform(0, (560, 400), (25, 2))
    boxes = np.concatenate([low, low + generator.uniform(10, 80, (25, 2))], axis=1)
    sizes = [(60, 18)] * 25
    corners = placed(boxes, sizes, (640, 480), every=True)
    assert len(corners) == 25
    assert all(0 <= x <= 580 and 0 <= y <= 462 for x, y in corners)
    fewer = [corner for corner in placed(boxes, sizes, (640, 480), every=False) if corner is not None]
    assert len(fewer) > 12
    for i, (x, y) in enumerate(fewer):
        for u, v in fewer[:i]:
            assert max(0, 60 - abs(x - u)) * max(0, 18 - abs(y - v)) <= 0.1 * 60 * 18


def test_the_first_of_two_labels_at_one_place_stays():
    boxes = np.array([[0, 0, 20, 20]] * 30, dtype=float)
    corners = placed(boxes, [(40, 15)] * 30, (40, 30), every=False)
    assert corners[0] is not None
    assert corners[-1] is None
    assert None not in placed(boxes, [(40, 15)] * 30, (40, 30), every=True)
    assert placed(boxes[:1], [(900, 15)], (40, 30), every=True) == [(0, corners[0][1])]


def test_a_label_larger_than_its_object_does_not_hide_it():
    (corner,) = placed(np.array([[300.0, 200, 310, 210]]), [(60, 18)], (640, 480), every=True)
    assert corner == (300, 182)


@pytest.mark.parametrize(
    "name",
    ["", "x" * 9999, "hazelnut " * 20, "無花果", "Ελλάδα Київ", "עברית", "🐈", "two\nlines\t", "broken \udcff", "\0"],
)
def test_every_name_can_be_drawn(name):
    image, found = scene(300, 640, [[10, 10, 200, 200]] * 20, masks=True)
    size = drawn(image, found, ["cat"], title="a").size
    assert drawn(image, found, [name], title=name or "a").size == size
    few = Detections(*(part[:2] for part in found))
    assert drawn(image, few, [name]).size == (640, 300)


def test_many_objects_get_a_legend_and_room():
    boxes = [[20 + 45 * i, 50 + 30 * j, 55 + 45 * i, 70 + 30 * j] for i in range(12) for j in range(3)]
    image, found = scene(240, 640, boxes, labels=[i % 3 for i in range(36)])
    names = ["date", "fig", "hazelnut"]
    shown = drawn(image, found, names)
    few = drawn(image, Detections(*(part if part is None else part[:12] for part in found)), names)
    assert few.size == (640, 240)
    assert shown.width == 1000
    legend = shown.crop((0, 375, *shown.size))
    assert all(has(legend, colour) > 100 for colour in COLOURS[:3])
    assert has(legend, COLOURS[3]) == 0
    truth = Instances(found.boxes, found.labels)
    bare = drawn(image, truth, names)  # no score to tell, and the legend has the names
    assert has(bare.crop((0, 0, 1000, 375)), COLOURS[0]) < has(shown.crop((0, 0, 1000, 375)), COLOURS[0])


def test_classes_of_one_colour_are_named():
    boxes = [[20 + 45 * i, 50 + 60 * j, 55 + 45 * i, 70 + 60 * j] for i in range(12) for j in range(3)]
    names = [f"kind {i}" for i in range(40)]
    image, truth = scene(240, 640, boxes, labels=[0, len(COLOURS)] + [1] * 34, score=None)
    alone = Instances(truth.boxes, torch.tensor([0, 0] + [1] * 34))
    shared, own = (has(drawn(image, each, names).crop((0, 0, 1000, 375)), COLOURS[0]) for each in (truth, alone))
    assert shared > own + 300


def test_a_legend_of_very_many_classes_ends():
    image, truth = scene(240, 640, [[1, 1, 30, 30]] * 90, labels=list(range(90)), score=None)
    names = [f"a class with a long name, number {i}" for i in range(90)]
    assert drawn(image, truth, names).height < 900


def test_colours_differ_and_stay():
    assert len(set(COLOURS)) == len(COLOURS)
    for label in (0, 3):
        image, truth = scene(300, 640, [[100, 100, 400, 200]], labels=[label], score=None)
        assert has(drawn(image, truth, ["a", "b", "c", "d"]), COLOURS[label]) > 500


def test_a_title_stands_above():
    image, found = scene(300, 640, [[100, 100, 400, 200]])
    plain, titled = drawn(image, found, ["fig"]), drawn(image, found, ["fig"], title="a.jpg")
    strip = titled.height - plain.height
    assert strip > 10
    assert np.array_equal(np.asarray(titled)[strip:], np.asarray(plain))


def test_beside():
    left, right = Image.new("RGB", (640, 480), "red"), Image.new("RGB", (500, 600), "blue")
    shown = beside(left, right, ("annotated", "found"))
    strip = shown.height - 600
    assert 10 < strip < 60
    assert shown.width > 1140
    assert shown.getpixel((5, strip)) == (255, 0, 0)
    assert shown.getpixel((639, strip + 479)) == (255, 0, 0)
    assert shown.getpixel((shown.width - 1, strip + 599)) == (0, 0, 255)
    assert has(shown, (255, 0, 0)) == 640 * 480
    assert has(shown, (0, 0, 255)) == 500 * 600


def test_what_cannot_be_meant_is_refused():
    image, found = scene(300, 640, [[100, 100, 400, 200]], labels=[2])
    with pytest.raises(ValueError, match="2 classes"):
        drawn(image, found, ["fig", "date"])
    with pytest.raises(ValueError, match="Masks"):
        drawn(image, found._replace(masks=torch.zeros(1, 30, 64, dtype=torch.bool)), ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"uint8 image \(C, H, W\)"):
        drawn(image.float(), found, ["a", "b", "c"])
