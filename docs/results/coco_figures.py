"""How long COCO's figures take: hotcoco and pycocotools on the same 100,000 boxes, in turn. python coco_figures.py"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from convnext.metrics.coco_ap import Evaluator, coco_figures

IMAGES, OBJECTS, FOUND, CLASSES, SIDE, ROUNDS = 1_000, 36_000, 100_000, 80, 640, 3
EVALUATORS: tuple[Evaluator, ...] = ("hotcoco", "pycocotools")


def make_boxes(generator: np.random.Generator) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects at random places, and boxes near them: seven of ten of the right class."""
    sides = np.exp(generator.normal(4, 0.9, (OBJECTS, 2))).clip(4, 400)
    boxes = np.concatenate([generator.uniform(0, 1, (OBJECTS, 2)) * (SIDE - sides), sides], axis=1)
    image, kind = generator.integers(1, IMAGES + 1, OBJECTS), generator.integers(1, CLASSES + 1, OBJECTS)
    crowd = generator.random(OBJECTS) < 0.01
    columns = zip(image.tolist(), kind.tolist(), boxes.tolist(), sides.prod(1).tolist(), crowd.tolist(), strict=True)
    truth = {
        "images": [{"id": i, "height": SIDE, "width": SIDE} for i in range(1, IMAGES + 1)],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, CLASSES + 1)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": k, "bbox": box, "area": area, "iscrowd": int(c)}
            for n, (i, k, box, area, c) in enumerate(columns, start=1)
        ],
    }
    of = generator.integers(0, OBJECTS, FOUND)
    near = boxes[of] + generator.normal(0, 0.1, (FOUND, 4)) * np.tile(sides[of], 2)
    near[:, 2:] = near[:, 2:].clip(1)
    kinds = np.where(generator.random(FOUND) < 0.7, kind[of], generator.integers(1, CLASSES + 1, FOUND))
    scores = generator.random(FOUND).round(3)
    columns = zip(image[of].tolist(), kinds.tolist(), near.tolist(), scores.tolist(), strict=True)
    return truth, [{"image_id": i, "category_id": k, "bbox": box, "score": s} for i, k, box, s in columns]


def main() -> None:
    """Prints the seconds of each round, the medians' ratio, and whether the figures are the same."""
    truth, results = make_boxes(np.random.default_rng(0))
    coco_figures(truth, results[:100], kind="bbox", evaluator="hotcoco")  # imports
    seconds: dict[str, list[float]] = {name: [] for name in EVALUATORS}
    figures = {}
    for _ in range(ROUNDS):
        for name in EVALUATORS:
            begun = time.perf_counter()
            figures[name] = coco_figures(truth, results, kind="bbox", evaluator=name)
            seconds[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(of_rounds) for name, of_rounds in seconds.items()}
    for name, of_rounds in seconds.items():
        print(f"{name:12} {' '.join(f'{s:.2f}' for s in of_rounds)} s, median {medians[name]:.2f}")  # noqa: T201
    same = figures["hotcoco"] == figures["pycocotools"]
    print(f"{medians['pycocotools'] / medians['hotcoco']:.1f} times as fast; figures the same: {same}")  # noqa: T201


if __name__ == "__main__":
    main()
