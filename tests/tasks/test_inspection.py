"""`convnext data check` and `show`: what is wrong is found and counted, for every task; sheets are drawn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.cli.main import main
from convnext.data.config import LoaderConfig
from convnext.tasks.choose import recognise
from convnext.tasks.inspection import check, check_text
from labelmaps import labelled, save, scene
from painted import painted


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8))


@pytest.fixture
def photos(tmp_path):
    for number, part in enumerate(("train", "val")):
        for place, kind in enumerate(("cat", "dog")):
            folder = tmp_path / "photos" / part / kind
            folder.mkdir(parents=True)
            for i in range(5 if part == "train" else 2):
                noise(100 * number + 10 * place + i).save(folder / f"{i}.png")
    return tmp_path / "photos"


def checked(data) -> dict:
    spec, _ = recognise(str(data), {})
    found = check(spec, spec.open_data(str(data), {}), LoaderConfig(), workers=0)
    assert json.loads(json.dumps(found)) == found
    return found


def test_nothing_wrong(photos):
    found = checked(photos)
    assert found["wrong"] == 0
    assert found["parts"]["train"]["classes"] == {"cat": 5, "dog": 5}
    assert (found["parts"]["val"]["smallest"], found["parts"]["val"]["median_side"]) == ([24, 32], 24)
    assert check_text(found).endswith("Nothing is wrong.")


def test_all_that_is_wrong_is_found(photos, capsys):
    shutil.copy(photos / "train/cat/0.png", photos / "val/cat/leak.png")
    shutil.copy(photos / "train/dog/1.png", photos / "train/cat/also a dog.png")
    shutil.copy(photos / "train/dog/2.png", photos / "train/dog/twice.png")
    (photos / "train/dog/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    found = checked(photos)
    assert found["leaks"] == [["train/cat/0.png", "val/cat/leak.png"]]
    assert found["contradictions"] == [["train/cat/also a dog.png (cat)", "train/dog/1.png (dog)"]]
    assert ["train/dog/2.png", "train/dog/twice.png"] in found["duplicates"]
    assert [entry["name"] for entry in found["unreadable"]] == ["train/dog/broken.png"]
    assert found["wrong"] == 3
    assert main(["data", "check", str(photos), "--workers", "0"]) == 1
    text = capsys.readouterr().out
    assert "Images that are in training and in validation: 1\n    train/cat/0.png = val/cat/leak.png" in text
    assert "Things to repair: 3" in text


def test_many_equal_images_are_one_short_line(photos):
    for copy in range(20):
        shutil.copy(photos / "train/dog/1.png", photos / f"train/dog/copy {copy:02}.png")
    found = checked(photos)
    assert [len(group) for group in found["duplicates"]] == [21]
    (line,) = [line for line in check_text(found).splitlines() if " = " in line]
    assert line.count(".png") == 5
    assert line.endswith(" = 16 more")


def test_look_alikes_across_parts_are_listed(photos):
    smooth = Image.fromarray(
        np.kron(np.random.default_rng(7).integers(0, 255, (8, 9, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    )
    smooth.save(photos / "train/cat/smooth.png")
    smooth.resize((60, 54)).save(photos / "val/cat/smaller.png")
    found = checked(photos)
    assert found["alike_across"] == [["train/cat/smooth.png", "val/cat/smaller.png"]]
    assert found["wrong"] == 0  # looks alone prove nothing


def test_detection_and_segmentation(tmp_path):
    found = checked(painted(tmp_path / "coco"))
    assert found["task"] == "detect"
    assert all(part["counted"] == "objects" for part in found["parts"].values())
    assert sum(found["parts"]["train"]["classes"].values()) > 0
    found = checked(labelled(tmp_path / "maps"))
    assert found["parts"]["train"]["counted"] == "pixels"


def test_sheets_are_drawn(photos, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    for data in (photos, painted(tmp_path / "coco"), labelled(tmp_path / "maps")):
        assert main(["data", "show", str(data), "--out", str(out), "--images", "3", "--force"]) == 0
        with Image.open(out) as image:
            assert image.width > 600
            assert len(np.unique(np.asarray(image.convert("L")))) > 50
    assert main(["data", "show", str(photos), "--out", str(out)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(["data", "show", str(photos), "--out", str(tmp_path / "no" / "x.png")]) == 1
    assert main(["data", "show", str(photos), "--out", str(tmp_path / "x.jpg")]) == 1


def test_problems_of_annotations_are_something_wrong(tmp_path, capsys):
    data = painted(tmp_path / "coco")
    file = data / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["category_id"] = 99
    file.write_text(json.dumps(content))
    found = checked(data)
    assert "annotations of unknown categories" in found["problems"][0]
    assert found["wrong"] == 1
    assert main(["data", "check", str(data), "--workers", "0"]) == 1
    assert "Training refuses this data:" in capsys.readouterr().out


def test_data_is_opened_by_the_settings_that_messages_name(photos, tmp_path, capsys):
    root = tmp_path / "twice"
    for part in ("old", "new"):
        shutil.copytree(photos / "train", root / part)
    assert main(["data", "check", str(root), "--workers", "0"]) == 1
    assert "--folders classes" in capsys.readouterr().err
    main(["data", "check", str(root), "--workers", "0", "--folders", "classes", "--json"])
    assert json.loads(capsys.readouterr().out)["parts"]["train"]["classes"].keys() == {"new", "old"}
    assert main(["data", "show", str(root), "--folders", "parts", "--out", str(tmp_path / "s.png")]) == 1
    assert "--folders is auto or classes, not parts." in capsys.readouterr().err
    assert main(["data", "check", str(labelled(tmp_path / "maps")), "--folders", "classes", "--task", "segment"]) == 1
    assert "data for a segmenter, for which there is no --folders" in capsys.readouterr().err


def test_pixels_of_a_drawn_part_are_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = np.zeros(3, dtype=np.int64)
    for number in range(10):
        picture, labels = scene(number)
        save(tmp_path / "images" / f"{number}.png", picture)
        save(tmp_path / "masks" / f"{number}.png", labels)
        counts += np.bincount(labels.ravel(), minlength=3)
    assert main(["data", "check", str(tmp_path), "--workers", "0", "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)["parts"]
    for part, images in (("train", 9), ("val", 1)):
        assert sum(parts[part]["classes"].values()) == images * 48 * 64
    both = zip(parts["train"]["classes"].values(), parts["val"]["classes"].values(), strict=True)
    assert [a + b for a, b in both] == counts.tolist()


def test_a_mapping_file_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], dtype=np.uint8)
    for number in range(3):
        picture, labels = scene(number)
        save(tmp_path / "images" / f"{number}.png", picture)
        save(tmp_path / "masks" / f"{number}.png", colours[labels])
    assert main(["data", "mapping", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "found 3 colours: " in said
    assert f"wrote {tmp_path / 'labels.json'}" in said
    classes = json.loads((tmp_path / "labels.json").read_text())["classes"]
    assert {entry["colour"] for entry in classes} == {"#000000", "#ff0000", "#0000ff"}
    assert main(["data", "mapping", str(tmp_path)]) == 1
    assert "is there already. Give another --out, or --force" in capsys.readouterr().err
    assert main(["data", "mapping", str(tmp_path), "--out", str(tmp_path / "other.json")]) == 0
    assert (tmp_path / "other.json").read_text() == (tmp_path / "labels.json").read_text()
    assert main(["data", "check", str(tmp_path), "--workers", "0"]) == 0  # it can be trained on now


def test_images_of_many_bands_are_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = np.random.default_rng(0)
    for name in ("field", "forest"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(4):
            np.save(tmp_path / "data" / name / f"{number}.npy", chance.integers(0, 256, (16, 16, 7), dtype=np.uint8))
    words = [str(tmp_path / "data"), "--loader.bands", "7"]
    assert main(["data", "check", *words, "--workers", "0"]) == 0
    assert "8 images of 2 classes" in capsys.readouterr().out
    assert main(["data", "show", *words, "--out", str(tmp_path / "sheet.png")]) == 0
    assert (tmp_path / "sheet.png").is_file()
    assert main(["data", "check", words[0], "--loader.bands", "many"]) == 1
    assert "--loader.bands is a number of bands, 1 or more, not many." in capsys.readouterr().err
