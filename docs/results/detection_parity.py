# ruff: noqa: T201 - it prints tables
"""Mask R-CNN and Cascade Mask R-CNN beside mmdetection's, part by part: prints the tables of detection-parity.md.

Needs mmdetection 3.3.0 and a module that puts torchvision's operations in the place of mmcv's compiled ones (or
mmcv itself: leave `--stand-in` out). Both detectors have the same backbone, ours (proven in parity.md), and the same
weights, all of them random.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from detection_subjects import (
    CLASSES,
    FILES,
    ORIGINALS,
    SIZES,
    TOP,
    Batch,
    make_images,
    objects,
    randomise,
    reference,
    samples,
    stand_in,
)
from torch import Tensor

from convnext.models.detection.build import build_detector, count_detector_macs
from convnext.models.detection.config import detector_config
from convnext.models.detection.rcnn import RCNN
from convnext.ops.instances import Detections
from convnext.ops.roi import pool_regions, regions

LOSS_NAMES = {"rpn_cls": "rpn_class", "rpn_bbox": "rpn_box", "cls": "class", "bbox": "box", "mask": "mask"}  # losses
Rows = dict[str, float]


def apart(ours: Tensor | Iterable[Tensor], theirs: Tensor | Iterable[Tensor]) -> float:
    """The largest difference by the largest value, of all tensors together."""
    a, b = (list(x) if not isinstance(x, Tensor) else [x] for x in (ours, theirs))
    if [x.shape for x in a] != [x.shape for x in b]:
        return float("inf")
    a, b = (torch.cat([x.detach().double().flatten() for x in xs]) for xs in (a, b))
    if not len(b):
        return 0.0
    assert b.isfinite().all(), "the reference is not finite"
    most, difference = b.abs().max().item(), (a - b).abs().max().item()
    return difference / most if most else difference


@torch.no_grad()
def parts(ours: RCNN, theirs: Any, batch: Batch) -> Rows:
    """Every part of the forward, each given the same."""
    rows: Rows = {}
    metas = [each.metainfo for each in samples(batch)]
    ours.eval()
    theirs.eval()
    backbone = theirs.backbone(batch.images)
    rows["backbone's maps (our code in both)"] = apart(ours.backbone(batch.images), backbone)
    maps = list(theirs.neck(backbone))
    rows["pyramid's maps"] = apart(ours.neck(backbone), maps)
    logits, offsets = ours.rpn_head(maps)
    their_logits, their_offsets = theirs.rpn_head(maps)
    rows["RPN logits"] = apart(logits, [x.permute(0, 2, 3, 1).flatten(1) for x in their_logits])
    rows["RPN offsets"] = apart(offsets, [x.permute(0, 2, 3, 1).reshape(len(x), -1, 4) for x in their_offsets])
    anchors = ours.rpn_head.anchors(maps)
    sizes = [x.shape[2:] for x in maps]
    rows["anchors"] = apart(anchors, theirs.rpn_head.prior_generator.grid_priors(sizes, device="cpu"))
    proposals: list[Tensor] = []
    for name, training, settings in (
        ("training", True, theirs.train_cfg.rpn_proposal),
        ("test", False, theirs.test_cfg.rpn),
    ):
        ours.rpn_head.train(training)
        given = ours.rpn_head.propose(logits, offsets, anchors, SIZES)
        wanted = theirs.rpn_head.predict_by_feat(their_logits, their_offsets, batch_img_metas=metas, cfg=settings)
        proposals = [each.bboxes for each in wanted]
        alike, alone = in_order(given, proposals)
        rows[f"proposals, {name}"] = apart(alike, proposals)
        rows[f"proposals, {name}: number"] = sum(len(x) for x in proposals)
        rows[f"proposals, {name}: without counterpart"] = alone
        rows[f"proposals, {name}: in another place"] = sum(
            int((a != b).any(dim=1).sum()) for a, b in zip(given, alike, strict=True)
        )
    return rows | stages(ours, theirs, maps, [x[:TOP] for x in proposals], metas)


def in_order(ours: list[Tensor], theirs: list[Tensor]) -> tuple[list[Tensor], int]:
    """Our proposals in mmdetection's order, and how many have no counterpart within a hundredth of a pixel.

    Equal scores are sorted in any order by both, and random samples are drawn by place.
    """
    out, alone = [], 0
    for a, b in zip(ours, theirs, strict=True):
        near = (a[:, None] - b[None]).abs().amax(dim=2)
        rows = near.min(dim=0)
        fitting = sorted(rows.indices.tolist()) == list(range(len(a)))  # each of ours is taken once
        alone += int((rows.values >= 0.01).sum() + (near.min(dim=1).values >= 0.01).sum())
        out.append(a[rows.indices] if fitting and len(a) == len(b) else a)
    return out, alone


def stages(ours: RCNN, theirs: Any, maps: list[Tensor], proposals: list[Tensor], metas: list[Any]) -> Rows:
    """Box heads, mask heads and the cascade on equal proposals."""
    rows: Rows = {}
    head, rois = theirs.roi_head, regions(proposals)
    several, kinds = len(ours.roi_head.box_stages) > 1, torch.randint(CLASSES, (len(rois),))
    for stage, (box, mask) in enumerate(zip(ours.roi_head.box_stages, ours.roi_head.mask_stages, strict=True)):
        number = [stage] if several else []
        name = f", stage {stage + 1}" if several else ""
        for given, side, call in ((box, 7, head._bbox_forward), (mask, 14, head._mask_forward)):
            pooled, wanted = pool_regions(maps[:4], rois, ours.roi_head.strides, side), call(*number, maps, rois=rois)
            if side == 7:
                logits, offsets = (pooled.restored(x) for x in given(pooled.maps))
                rows[f"classes{name}"] = apart(logits, wanted["cls_score"])
                rows[f"offsets{name}"] = apart(offsets.flatten(1), wanted["bbox_pred"])
            else:
                masks = wanted["mask_preds"][torch.arange(len(rois)), kinds]
                rows[f"masks{name}"] = apart(pooled.restored(given(pooled.maps, kinds[pooled.order])), masks)
    if several:
        counts = tuple(len(x) for x in proposals)
        boxes, logits, offsets = head._refine_roi(maps, rois, metas, counts)
        scored = ours.roi_head.predict_boxes(maps, proposals, SIZES)
        rows["cascade's boxes"] = apart(scored.boxes, [x[:, 1:] for x in boxes])
        rows["cascade's mean logits"] = apart(scored.logits, logits)
        rows["cascade's last offsets"] = apart([x.flatten(1) for x in scored.offsets], offsets)
        rows["the cascade moves boxes by (pixels, mean)"] = (
            (torch.cat(scored.boxes) - torch.cat(proposals)).abs().mean().item()
        )
    return rows


@torch.no_grad()
def found(ours: RCNN, theirs: Any, batch: Batch) -> Rows:
    """The whole way: detections in pixels of the original images."""
    mine: list[Detections] = ours.eval()(batch.images, SIZES, originals=ORIGINALS)
    wanted = [each.pred_instances for each in theirs.eval().predict(batch.images, samples(batch), rescale=True)]
    pairs = [matched(a, b) for a, b in zip(mine, wanted, strict=True)]
    boxes = [(a.boxes[i], b.bboxes[j]) for a, b, (i, j) in zip(mine, wanted, pairs, strict=True)]
    masks = [(a.masks[i], b.masks[j]) for a, b, (i, j) in zip(mine, wanted, pairs, strict=True) if a.masks is not None]
    pixels = sum(int(b.masks.sum()) for b in wanted)
    scores = torch.cat([b.scores for b in wanted])
    return {
        "detections": len(scores),
        "different classes among them": len(torch.cat([b.labels for b in wanted]).unique()),
        "lowest score": scores.min().item(),
        "median score": scores.median().item(),
        "highest score": scores.max().item(),
        "pixels of all masks": pixels,
        "detections without counterpart": sum(
            len(a.scores) + len(b.scores) - 2 * len(i) for a, b, (i, _) in zip(mine, wanted, pairs, strict=True)
        ),
        "boxes": apart([a for a, _ in boxes], [b for _, b in boxes]),
        "scores": apart(
            [a.scores[i] for a, (i, _) in zip(mine, pairs, strict=True)],
            [b.scores[j] for b, (_, j) in zip(wanted, pairs, strict=True)],
        ),
        "differing pixels of masks, share": sum(int((a ^ b).sum()) for a, b in masks) / pixels,
    }


def matched(ours: Detections, theirs: Any) -> tuple[list[int], list[int]]:
    """Indices of equal detections: the same class and score (to 1e-4), boxes within a hundredth of a pixel."""
    near = (ours.boxes[:, None] - theirs.bboxes[None]).abs().amax(dim=2) < 0.01
    near &= (ours.scores[:, None] - theirs.scores[None]).abs() < 1e-4
    near &= ours.labels[:, None] == theirs.labels[None]
    places: list[tuple[int, int]] = []
    for i, row in enumerate(near):
        free = [j for j in row.nonzero().flatten().tolist() if j not in {b for _, b in places}]
        places += [(i, free[0])] if free else []
    return [i for i, _ in places], [j for _, j in places]


def learned(ours: RCNN, theirs: Any, batch: Batch, *, seed: int) -> Rows:
    """Losses by name, the gradients of their sum, and batch norm's running statistics; samples are of one seed."""
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    for detector in (ours, theirs):
        detector.train().zero_grad()
    given: list[Tensor] = []
    predict, propose = theirs.rpn_head.predict_by_feat, ours.rpn_head.propose

    def and_keep(*args: Any, **settings: Any) -> Any:
        found = predict(*args, **settings)
        given.extend(each.bboxes.clone() for each in found)
        return found

    vars(theirs.rpn_head)["predict_by_feat"] = and_keep
    vars(ours.rpn_head)["propose"] = lambda *args: in_order(propose(*args), given)[0]
    torch.manual_seed(seed)
    their_losses = theirs.loss(batch.images, samples(batch))
    torch.manual_seed(seed)
    losses: dict[str, Tensor] = ours(batch.images, SIZES, targets=batch.targets)
    del vars(theirs.rpn_head)["predict_by_feat"], vars(ours.rpn_head)["propose"]
    sum(losses.values(), torch.zeros(())).backward()
    summed = {name: torch.stack(x).sum() if isinstance(x, list) else x for name, x in their_losses.items()}
    wanted: dict[str, Tensor] = {renamed(name): x.reshape(()) for name, x in summed.items() if "loss" in name}
    sum(wanted.values(), torch.zeros(())).backward()
    assert set(losses) == set(wanted), set(losses) ^ set(wanted)
    rows = {f"loss {name}": apart(value, wanted[name]) for name, value in losses.items()}
    values: Rows = {f"value of {name}": value.item() for name, value in wanted.items()}
    gradients = dict(theirs.named_parameters())
    for name, value in ours.named_parameters():
        a, b = (torch.zeros_like(value) if p.grad is None else p.grad for p in (value, gradients[name]))
        rows["gradients (worst tensor)"] = max(rows.get("gradients (worst tensor)", 0.0), apart(a, b))
    values["tensors with a gradient"] = sum(p.grad is not None and bool(p.grad.any()) for p in gradients.values())
    values["tensors"] = len(gradients)
    statistics = {k: v for k, v in ours.state_dict().items() if "running" in k}
    if statistics:
        others = theirs.state_dict()
        rows["running statistics (worst tensor)"] = max(apart(v, others[k]) for k, v in statistics.items())
    for detector in (ours, theirs):
        detector.load_state_dict(before)
    return rows | values


def renamed(name: str) -> str:
    """Our name of a loss: s0.loss_cls is 0_class."""
    stage, _, rest = name.rpartition(".")
    return (f"{stage[1:]}_" if stage else "") + LOSS_NAMES[rest.removeprefix("loss_")]


def drawing_all(ours: RCNN, theirs: Any) -> None:
    """Makes both learn from every candidate, so that no samples are drawn; with fewer proposals, to save memory."""
    every = 10**6
    ours.rpn_head.config = replace(ours.rpn_head.config, samples=every, after_nms=(TOP, 1000))
    ours.roi_head.config = replace(ours.roi_head.config, samples=every)
    theirs.train_cfg.rpn_proposal.max_per_img = TOP
    samplers = theirs.roi_head.bbox_sampler
    for sampler in (theirs.rpn_head.sampler, *(samplers if isinstance(samplers, list) else [samplers])):
        sampler.num = every


def compare(kind: str, image: Path | None, log: Callable[[str], None]) -> dict[str, Rows]:
    """All comparisons of one detector."""
    torch.manual_seed(0)
    images, theirs = make_images(image), reference(kind)
    ours = build_detector(detector_config(f"{kind}_convnext_tiny", num_classes=CLASSES))
    randomise(ours, images)
    theirs.load_state_dict(ours.state_dict())  # strict: the same names and shapes
    cases = {name: Batch(images, objects(ours, images, n)) for name, n in (("2", (7, 4)), ("1", (5, 0)), ("0", (0, 0)))}
    tables = {"parts": parts(ours, theirs, cases["2"]), "found": found(ours, theirs, cases["2"])}
    log(f"{kind}: {json.dumps(tables)}")
    for title, case in (("7 and 4 objects", "2"), ("5 objects and none", "1"), ("no objects", "0")):
        tables[f"training, {title}"] = learned(ours, theirs, cases[case], seed=7)
        log(f"{title}: {tables[f'training, {title}']}")
    drawing_all(ours, theirs)
    tables["training, 7 and 4 objects, all candidates"] = learned(ours, theirs, cases["2"], seed=7)
    return tables


def costs() -> dict[str, tuple[float, float]]:
    """Of all six sizes: millions of parameters, and thousand millions of multiply-accumulates at 800 x 1280."""
    names = ["mask_rcnn_convnext_tiny"]
    names += [f"cascade_mask_rcnn_convnext_{size}" for size in ("tiny", "small", "base", "large", "xlarge")]
    out = {}
    for name in names:
        detector = build_detector(detector_config(name, num_classes=CLASSES))
        out[name] = (sum(p.numel() for p in detector.parameters()) / 1e6, count_detector_macs(detector) / 1e9)
    return out


def main() -> None:
    """Prints a table of both detectors for each comparison, and the costs of all sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stand-in", type=Path, help="module that replaces mmcv's compiled operations")
    parser.add_argument("--image", type=Path, help="a photograph; else noise")
    parser.add_argument("--only", choices=list(FILES), action="append", help="one of the two")
    parser.add_argument("--json", type=Path, help="also write everything here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    stand_in(args.stand_in)
    every = {kind: compare(kind, args.image, lambda line: print(line, file=sys.stderr)) for kind in args.only or FILES}
    for table in next(iter(every.values())):
        print(f"\n| {table} | Mask R-CNN | Cascade Mask R-CNN |\n| --- | --- | --- |")
        for name in dict.fromkeys(name for tables in every.values() for name in tables[table]):
            print(
                f"| {name} |",
                " | ".join(f"{t[table][name]:.3g}" if name in t[table] else "" for t in every.values()),
                "|",
            )
    counted = {} if args.only else costs()
    print("\n| detector | parameters, M | multiply-accumulates, G |\n| --- | --- | --- |")
    for name, (parameters, macs) in counted.items():
        print(f"| {name} | {parameters:.2f} | {macs:.1f} |")
    if args.json:
        args.json.write_text(json.dumps({"detectors": every, "costs": counted}, indent=1))


if __name__ == "__main__":
    main()
