"""What values mean: as the data says, by evidence that is said, or asked for."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.core.errors import UserError
from convnext.data.config import LoaderConfig
from convnext.data.decode import BadImage
from convnext.data.segmentation.colours import write_mapping
from convnext.data.segmentation.decode_map import read_codes
from convnext.data.segmentation.label_maps import LabelMapDataset
from convnext.data.segmentation.open import SegmentationData
from convnext.data.splits import Splits
from convnext.ops.losses import IGNORE_INDEX
from labelmaps import save

CASES = Path(os.environ.get("CONVNEXT_TEST_CASES", Path(__file__).parents[4] / "shared" / "cases"))


def data(root: Path, maps: Sequence[np.ndarray | Image.Image], names: str = "", ending: str = ".png") -> Path:
    for number, values in enumerate(maps):
        image = values if isinstance(values, Image.Image) else Image.fromarray(values)
        save(root / "images" / f"{number}.jpg", np.zeros((image.height, image.width, 3), dtype=np.uint8))
        (root / "masks").mkdir(exist_ok=True)
        image.save(root / "masks" / f"{number}{ending}")
    if names:
        (root / "classes.txt").write_text(names)
    return root


def of_values(*values: int) -> np.ndarray:
    """A label map with a stripe of 8 x 8 pixels for each value."""
    kind = np.uint8 if max(values) < 256 else np.uint16
    return np.repeat(np.repeat(np.array([values], dtype=kind), 8, axis=0), 8, axis=1)


def opened(root: Path, *, labels: str = "") -> Splits[LabelMapDataset]:
    return SegmentationData(root, labels=labels).splits(LoaderConfig(val_fraction=0.0), seed=0)


@pytest.mark.parametrize(
    ("values", "names", "classes", "says"),
    [
        ((0, 255), "", ("0", "255"), "values 0 and 255 are two classes, '0' and '255'"),
        ((1, 255), "", ("1", "255"), "values 1 and 255 are two classes"),
        ((0, 128, 255), "", ("0", "128", "255"), "255 too"),
        ((0, 85, 170, 255), "", ("0", "85", "170", "255"), "255 too"),
        ((0, 1, 255), "", ("class 0", "class 1"), "33 % of the pixels are of no class (value 255)"),
        ((0, 1, 2, 255), "", ("class 0", "class 1", "class 2"), "Value 255 is no class: the others are 0 to 2"),
        ((1, 2, 3), "", ("class 1", "class 2", "class 3"), "each value is one, 1, 2 and 3"),
        ((0, 1), "", ("class 0", "class 1"), "values 0 and 1 are two classes"),
        ((0, 1000), "", ("class 0", "class 1000"), "values 0 and 1000 are two classes"),
        ((0, 255), "a\nb\n", ("a", "b"), "Value 0 is 'a', value 255 is 'b'"),
        ((0, 128), "a\nb\n", ("a", "b"), "Value 0 is 'a', value 128 is 'b'"),
        ((1, 2), "a\nb\n", ("a", "b"), "Value 1 is 'a', value 2 is 'b'"),
        ((0, 1), "a\nb\n", ("a", "b"), ""),
        ((0, 1, 255), "a\nb\n", ("a", "b"), "33 % of the pixels are of no class (value 255)"),
        ((0, 1, 2), "a\nb\nvoid\n", ("a", "b"), "Value 2, 'void' in"),
        ((0, 1), "void\nb\n", ("void", "b"), "Value 0, 'void' in"),
        ((0, 1), "__ignore__\n_background_\nb\n", ("_background_", "b"), ""),
    ],
)
def test_what_is_decided_is_said(
    tmp_path: Path, values: tuple[int, ...], names: str, classes: tuple[str, ...], says: str
) -> None:
    splits = opened(data(tmp_path, [of_values(*values)] * 2, names))
    assert splits.train.classes == classes
    assert says in splits.note
    truth = splits.train.labels(0).unique().tolist()
    assert [k for k in truth if k != IGNORE_INDEX] == [*range(len(classes))]
    again = SegmentationData(tmp_path).splits(LoaderConfig(), seed=0, saved=json.loads(json.dumps(splits.record)))
    assert again.train.palette == splits.train.palette


@pytest.mark.parametrize(
    ("values", "names", "says"),
    [
        ((0,), "", "one value only, 0"),
        ((255,), "", "one value only, 255"),
        ((0, 7, 255), "", "Is 255 a class"),
        ((0, 255), "a\nb\nc\n", "there is one class only"),
        ((0, 255), "crack\n", "names one class, 'crack', and the label maps have the values 0 and 255"),
        ((0, 127, 255), "a\nb\nc\n", "names 3 classes, which are the values 0 to 2, but"),
        ((1, 2, 3), "a\nb\nc\n", "names 3 classes, which are the values 0 to 2, but"),
        ((0, 1, 2, 3), "a\nb\nc\n", "names 3 classes, which are the values 0 to 2, but"),
    ],
)
def test_what_evidence_does_not_decide_is_asked(tmp_path: Path, values: tuple[int, ...], names: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        opened(data(tmp_path, [of_values(*values)] * 2, names))


def test_a_file_of_ones_among_files_of_255_is_asked_about(tmp_path: Path) -> None:
    data(tmp_path, [of_values(0, 1), of_values(0, 255), of_values(0, 255)], "a\nb\n")
    with pytest.raises(UserError, match=r"1 label maps .* have the value 1 and 2 others 0 and 255"):
        opened(tmp_path)
    classes = [{"name": "a", "value": 0}, {"name": "b", "values": [1, 255]}]
    (tmp_path / "labels.json").write_text(json.dumps({"classes": classes}))
    assert opened(tmp_path).train.labels(2).unique().tolist() == [0, 1]


def test_conventions_are_asked_for_by_name(tmp_path: Path) -> None:
    data(tmp_path, [of_values(0, 1, 2)] * 2)
    ade = opened(tmp_path, labels="ade20k")
    assert (len(ade.train.classes), ade.train.classes[0]) == (150, "wall")
    assert "as --labels ade20k" in ade.note
    assert "33 % of the pixels are of no class (value 0)" in ade.note
    assert opened(tmp_path, labels="voc").train.classes[:2] == ("background", "aeroplane")
    assert opened(tmp_path, labels=str(tmp_path / "voc")).train.classes[0] == "background"
    with pytest.raises(UserError, match="cannot be read"):
        opened(tmp_path, labels="ade")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    named = opened(tmp_path, labels="ade20k")
    assert named.train.classes == ("a", "b", "c")
    assert "not those of --labels ade20k" in named.note


def test_cityscapes_ids_are_read_as_their_names_say(tmp_path: Path) -> None:
    for suffix, values in (("labelIds", (0, 7, 26)), ("labelTrainIds", (0, 13, 255))):
        root = tmp_path / suffix
        save(root / "leftImg8bit" / "a_leftImg8bit.png", np.zeros((8, 24, 3), dtype=np.uint8))
        save(root / "gtFine" / f"a_gtFine_{suffix}.png", of_values(*values))
        found = opened(root, labels="cityscapes").train
        assert {found.classes[k] for k in found.labels(0).unique().tolist() if k != IGNORE_INDEX} == {"road", "car"}


def test_ade20ks_own_evidence(tmp_path: Path) -> None:
    for part, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        save(tmp_path / "images" / part / f"{name}.png", np.zeros((8, 24, 3), dtype=np.uint8))
        save(tmp_path / "annotations" / part / f"{name}.png", of_values(0, 1, 150))
    splits = opened(tmp_path)
    assert len(splits.train.classes) == 150
    assert "label maps are called as ADE20K's" in splits.note


def smooth(blur: int) -> Image.Image:
    """A mask of 0 and 255 that lost its edges."""
    mask = np.zeros((96, 96), dtype=np.uint8)
    mask[20:70, 30:80] = 255
    yy, xx = np.mgrid[:96, :96]
    mask[(yy - 60) ** 2 + (xx - 30) ** 2 < 300] = 120
    small = Image.fromarray(mask)
    return small.resize((96 * blur, 96 * blur), Image.Resampling.BICUBIC) if blur > 1 else small


def test_a_lossy_copy_is_named_and_can_be_snapped(tmp_path: Path) -> None:
    data(tmp_path / "smooth", [smooth(3)] * 2)
    with pytest.raises(UserError, match="look like a lossy copy of 0 and 255 and 120"):
        opened(tmp_path / "smooth")
    file, words = write_mapping(tmp_path / "smooth")
    assert "3 values" in words
    assert json.loads(file.read_text())["others"] == "nearest"
    assert opened(tmp_path / "smooth").train.labels(0).unique().tolist() == [0, 1, 2]
    with pytest.raises(UserError, match="is there already"):
        write_mapping(tmp_path / "smooth")
    data(tmp_path / "jpeg", [smooth(1)] * 2, "a\nb\nc\n", ".jpg")
    with pytest.raises(UserError, match=r"2 of the 2 label maps .* are JPEG, which changes values. They look"):
        opened(tmp_path / "jpeg")
    write_mapping(tmp_path / "jpeg")
    assert opened(tmp_path / "jpeg").train.labels(0).unique().tolist() == [0, 1, 2]
    (tmp_path / "jpeg" / "labels.json").write_text(
        '{"classes": [{"name": "a", "value": 0}, {"name": "b", "value": 255}]}'
    )
    with pytest.raises(UserError, match="it is a JPEG, which changes values"):
        opened(tmp_path / "jpeg")


def test_many_true_classes_are_no_lossy_copy(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    maps = [np.kron(chance.integers(0, 40, (12, 12)), np.ones((8, 8))).astype(np.uint8) for _ in range(3)]
    for values in maps:
        values[:, ::16] = 40  # something thin
    assert len(opened(data(tmp_path, maps)).train.classes) == 41


def coloured(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.repeat(np.repeat(np.array([colours], dtype=np.uint8), 8, axis=0), 8, axis=1)


def test_colour_masks_get_a_mapping(tmp_path: Path) -> None:
    data(tmp_path, [coloured((0, 0, 0), (128, 0, 0)), coloured((0, 0, 0), (0, 0, 0), (0, 128, 0))])
    with pytest.raises(UserError, match=r"colour masks, of 3 colours: #000000 \(60 %\).*convnext data mapping"):
        opened(tmp_path)
    file, words = write_mapping(tmp_path)
    assert words.startswith("3 colours: #000000 (60 %)")
    assert json.loads(file.read_text())["classes"][0]["colour"] == "#000000"
    assert opened(tmp_path).train.labels(1).unique().tolist() == [0, 2]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("class_dict.csv", "\ufeffname, r, g, b\r\nnone, 0, 0, 0\r\ncar, 128, 0, 0\r\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nnone:0,0,0::\ncar:128,0,0::\n"),
        ("label_colors.txt", "0 0 0\tnone\n128 0 0\tcar\n"),
    ],
)
def test_colours_that_other_tools_name(tmp_path: Path, name: str, text: str) -> None:
    data(tmp_path, [coloured((0, 0, 0), (128, 0, 0))] * 2)
    (tmp_path / name).write_bytes(text.encode())
    found = opened(tmp_path).train
    assert (found.classes, found.labels(0).unique().tolist()) == (("none", "car"), [0, 1])


def test_roboflows_values(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        save(tmp_path / part / "a.jpg", np.zeros((8, 16, 3), dtype=np.uint8))
        save(tmp_path / part / "a_mask.png", of_values(0, 3))
        (tmp_path / part / "_classes.csv").write_bytes(
            "\ufeffPixel Value, Class\r\n0, background\r\n3, car\r\n".encode()
        )
    splits = opened(tmp_path)
    assert splits.train.classes == ("background", "car")
    assert "Passed over" not in splits.note
    (tmp_path / "valid" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n3, bus\n")
    with pytest.raises(UserError, match="say different things"):
        opened(tmp_path)


def with_palette(values: np.ndarray, *colours: int) -> Image.Image:
    image = Image.fromarray(values, mode="P")
    image.putpalette([part for code in colours for part in (code >> 16, code >> 8 & 255, code & 255)])
    return image


def test_palettes_in_another_order_are_asked_about(tmp_path: Path) -> None:
    data(tmp_path, [with_palette(of_values(0, 1), 0, 0xFF0000), with_palette(of_values(1, 0), 0xFF0000, 0)])
    with pytest.raises(UserError, match="one index has several colours: 0 is #000000 in 1 files"):
        opened(tmp_path)
    write_mapping(tmp_path)
    by_colour = opened(tmp_path).train
    assert np.array_equal(by_colour.labels(0).numpy(), by_colour.labels(1).numpy())
    (tmp_path / "labels.json").write_text('{"classes": ["a", "b"]}')
    by_index = opened(tmp_path)
    assert not np.array_equal(by_index.train.labels(0).numpy(), by_index.train.labels(1).numpy())
    assert "Warning: In the palettes" in by_index.note


def test_palettes_of_other_colours_are_warned_of(tmp_path: Path) -> None:
    data(tmp_path, [with_palette(of_values(0, 1), 0, 0xFF0000), with_palette(of_values(0, 1), 0, 0x00FF00)])
    splits = opened(tmp_path)
    assert "one index has several colours: 1 is #ff0000 in 1 files (as 0.jpg), #00ff00 in 1 files" in splits.note


def codes(image: Image.Image, kind: str = "PNG", **options: int) -> list[list[int]]:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return read_codes(buffer.getvalue(), name="x", max_pixels=1000, by_colour=False).tolist()


def test_values_of_every_depth() -> None:
    assert codes(Image.fromarray(np.array([[0, 70000 - 5000]], dtype=np.int32)), "TIFF") == [[0, 65000]]
    assert codes(Image.fromarray(np.array([[0.0, 3.0]], dtype=np.float32)), "TIFF") == [[0, 3]]
    with pytest.raises(BadImage, match="not whole numbers"):
        codes(Image.fromarray(np.array([[0.0, 0.5]], dtype=np.float32)), "TIFF")


def test_grey_of_two_bits_counts_from_0() -> None:
    """Pillow spreads 0, 1, 2, 3 over 0 to 255: the last would be no class."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0)
    body = zlib.compress(bytes([0, 0b00011011]))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    assert read_codes(png, name="x", max_pixels=9, by_colour=False).tolist() == [[0, 1, 2, 3]]


def test_what_transparent_pixels_mean_is_not_guessed() -> None:
    pixels = np.zeros((1, 2, 4), dtype=np.uint8)
    pixels[0, 0] = (1, 1, 1, 255)
    assert codes(Image.fromarray(pixels)) == [[1, 0]]  # what lies below is a value of its own
    pixels[0, 0] = (0, 0, 0, 255)
    with pytest.raises(BadImage, match="50 % of its pixels are transparent"):
        codes(Image.fromarray(pixels))


def test_pages_are_not_passed_over() -> None:
    page = Image.fromarray(np.zeros((2, 2), dtype=np.uint8))
    buffer = io.BytesIO()
    page.save(buffer, "TIFF", save_all=True, append_images=[page])
    with pytest.raises(BadImage, match="it has 2 pages"):
        read_codes(buffer.getvalue(), name="x", max_pixels=9, by_colour=False)


def test_classes_that_cannot_be_judged_are_said(tmp_path: Path) -> None:
    data(tmp_path, [of_values(0, 1, 2), *[of_values(0, 0, 1)] * 4])
    splits = SegmentationData(tmp_path).splits(LoaderConfig(val_fraction=0.2), seed=0)
    assert "1 of 3 classes have no pixel in the images to validate on (class 2)" in splits.note
    assert 2 in splits.train.labels(0)


def test_the_only_image_without_a_class_is_not_held_out(tmp_path: Path) -> None:
    for seed in range(6):
        data(tmp_path, [of_values(0, 1), of_values(0, 1), of_values(255, 255), of_values(0, 1)])
        splits = SegmentationData(tmp_path).splits(LoaderConfig(val_fraction=0.25), seed=seed)
        assert splits.record["val"] != ["2.jpg"]


CASE = {
    "seg-binary-0-255-named": (("background", "crack"), "value 255 is 'crack'"),
    "seg-binary-0-255": (("0", "255"), "two classes"),
    "seg-ade-layout": (("class 0", "class 1", "class 2"), "0, 1 and 2"),
    "seg-image-mask": (("class 0", "class 1", "class 2"), ""),
    "roboflow-masks": (("bg", "red", "blue"), "in 'valid' to validate on"),
    "seg-classes-bom": (("background", "red", "blue"), ""),
    "seg-mapping-bom": (("bg", "red", "blue"), ""),
    "seg-best-stays-first": (("class 0", "class 1", "class 2"), "17 % of the pixels are of no class"),
    "seg-mask-jpeg": ((), "are JPEG, which changes values. They look like a lossy copy of"),
    "seg-mask-jpeg-as-png": ((), "look like a lossy copy of"),
    "seg-rgb-masks": ((), "colour masks, of 3 colours"),
    "seg-palettes-differ": ((), "one index has several colours"),
}


@pytest.mark.parametrize("name", CASE)
def test_inputs_as_people_have_them(name: str) -> None:
    root, (classes, says) = CASES / name / "data", CASE[name]
    if not root.is_dir():
        pytest.skip(f"{root} is not there: cases are not part of the project")
    if not classes:
        with pytest.raises(UserError, match=says):
            SegmentationData(root).splits(LoaderConfig(), seed=0)
        return
    splits = SegmentationData(root).splits(LoaderConfig(), seed=0)
    assert splits.train.classes == classes
    assert says in splits.note
    assert splits.val.labels(0).unique().tolist() != [IGNORE_INDEX]
