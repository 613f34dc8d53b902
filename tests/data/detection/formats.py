"""Small data sets in the forms that annotation tools write: three images of 40 x 30, a box and an outline each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT, COUNT = 40, 30, 3


def corners(number: int) -> tuple[int, int, int, int]:
    """Of the box in image `number`: x0, y0, x1, y1."""
    return 4 + number, 5, 20 + number, 17


def outline(number: int) -> list[float]:
    """The outline of the other object: a triangle."""
    return [22.0, 4.0, 36.0 - number, 4.0, 30.0, 26.0]


def draw(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def coco(names: list[str] | None = None) -> dict:
    """A document in COCO's form; the box is a cat, the outline a dog."""
    names = names or [f"{i}.png" for i in range(COUNT)]
    images = [{"id": i + 1, "file_name": name, "width": WIDTH, "height": HEIGHT} for i, name in enumerate(names)]
    annotations = []
    for i in range(COUNT):
        x0, y0, x1, y1 = corners(i)
        box = [x0, y0, x1 - x0, y1 - y0]
        square = [x0, y0, x1, y0, x1, y1, x0, y1]
        annotations.append({"image_id": i + 1, "category_id": 1, "bbox": box, "segmentation": [square]})
        points = outline(i)
        xs, ys = points[::2], points[1::2]
        box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        annotations.append({"image_id": i + 1, "category_id": 2, "bbox": box, "segmentation": [points]})
    for number, entry in enumerate(annotations, 1):
        entry |= {"id": number, "iscrowd": 0}
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def yolo(root: Path, *, part: str = "train", inner: bool = False) -> Path:
    """images/train + labels/train (or train/images + train/labels) and data.yaml."""
    images, labels = (root / part / kind if inner else root / kind / part for kind in ("images", "labels"))
    draw(images)
    labels.mkdir(parents=True)
    for i in range(COUNT):
        x0, y0, x1, y1 = corners(i)
        box = ((x0 + x1) / 2 / WIDTH, (y0 + y1) / 2 / HEIGHT, (x1 - x0) / WIDTH, (y1 - y0) / HEIGHT)
        points = [value / (WIDTH, HEIGHT)[place % 2] for place, value in enumerate(outline(i))]
        lines = [" ".join(map(str, (0, *box))), " ".join(map(str, (1, *points)))]
        (labels / f"{i}.txt").write_text("\n".join(lines) + "\n")
    (root / "data.yaml").write_text("train: ../train/images\nnc: 2\nnames: [cat, dog]\n")
    return root


def voc(root: Path, *, first: int = 1, difficult: int = 0) -> Path:
    """JPEGImages + Annotations; boxes alone. first: what corners count from."""
    draw(root / "JPEGImages")
    (root / "Annotations").mkdir()
    for i in range(COUNT):
        objects = ""
        xs, ys = outline(i)[::2], outline(i)[1::2]
        for name, box in (("cat", corners(i)), ("dog", (int(min(xs)), int(min(ys)), int(max(xs)), int(max(ys))))):
            x0, y0, x1, y1 = box
            hard = int(name == "dog" and i < difficult)
            objects += (
                f"<object><name>{name}</name><difficult>{hard}</difficult><bndbox><xmin>{x0 + first}</xmin>"
                f"<ymin>{y0 + first}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            )
        text = f"<annotation><filename>{i}.png</filename>{objects}</annotation>"
        (root / "Annotations" / f"{i}.xml").write_text(text)
    return root


def labelme(root: Path) -> Path:
    """A .json file beside each image."""
    draw(root)
    for i in range(COUNT):
        x0, y0, x1, y1 = corners(i)
        shapes = [
            {"label": "cat", "shape_type": "rectangle", "points": [[x1, y0], [x0, y1]]},
            {"label": "dog", "shape_type": "polygon", "points": np.array(outline(i)).reshape(-1, 2).tolist()},
            {"label": "dog", "shape_type": "line", "points": [[1, 1], [3, 3]]},
        ]
        content = {"imagePath": f"{i}.png", "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": shapes}
        (root / f"{i}.json").write_text(json.dumps(content))
    return root


def cvat(root: Path) -> Path:
    """annotations.xml beside images/."""
    draw(root / "images")
    images = ""
    for i in range(COUNT):
        x0, y0, x1, y1 = corners(i)
        points = ";".join(f"{x},{y}" for x, y in np.array(outline(i)).reshape(-1, 2).tolist())
        images += (
            f'<image id="{i}" name="{i}.png" width="{WIDTH}" height="{HEIGHT}"><box label="cat" xtl="{x0}" ytl="{y0}" '
            f'xbr="{x1}" ybr="{y1}"/><polygon label="dog" points="{points}"/><points label="dog" points="1,2"/></image>'
        )
    (root / "annotations.xml").write_text(f"<annotations><version>1.1</version>{images}</annotations>")
    return root
