# ruff: noqa: T201 - it prints a table
"""UPerNet beside mmsegmentation's, with equal weights: prints the table of segmentation-parity.md.

Needs mmsegmentation 1.2.2 and a module that makes it run without mmcv's compiled operations (or mmcv itself: leave
`--stand-in` out). Both segmenters have the same backbone, ours (proven in parity.md), and the same weights, all of them
random.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any

import torch
from torch import Tensor, nn

from convnext.data.segmentation.config import SegmentationInputConfig
from convnext.models.segmentation.build import build_segmenter
from convnext.models.segmentation.config import segmenter_config
from convnext.models.segmentation.encoder_decoder import EncoderDecoder
from convnext.models.tta import TTA
from convnext.tasks.segmentation.evaluate import segment

K = 150
SIZES = [(128, 160), (97, 131)]


def randomise(model: nn.Module, seed: int) -> None:
    """Draws every tensor at random, norms and statistics too."""
    torch.manual_seed(seed)
    for name, value in model.state_dict().items():
        if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and value.ndim == 1:
            value.normal_(0, 0.3)
        elif value.is_floating_point():
            value.normal_(0, value[0].numel() ** -0.5)


def reference(ours: EncoderDecoder) -> Any:
    """mmsegmentation's segmenter of the official configuration around our backbone, with our weights."""
    from mmseg.models.decode_heads import FCNHead, UPerHead
    from mmseg.models.segmentors import EncoderDecoder as Theirs

    channels: Any = ours.backbone.channels
    common = {"dropout_ratio": 0.0, "num_classes": K, "norm_cfg": {"type": "BN"}, "align_corners": False}
    model = Theirs.__new__(Theirs)
    nn.Module.__init__(model)
    model.backbone = ours.backbone
    loss = {"type": "CrossEntropyLoss", "use_sigmoid": False}
    model.decode_head = UPerHead(
        in_channels=channels,
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        loss_decode={**loss, "loss_weight": 1.0},
        **common,
    )
    model.auxiliary_head = FCNHead(
        in_channels=channels[2],
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        loss_decode={**loss, "loss_weight": 0.4},
        **common,
    )
    for name in ("decode_head", "auxiliary_head"):
        state = getattr(ours, name).state_dict()
        getattr(model, name).load_state_dict(state)
    model.align_corners, model.out_channels, model.num_classes = False, K, K
    return model


def apart(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference by the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def losses(theirs: Any, maps: list[Tensor], targets: Tensor) -> dict[str, Tensor]:
    """mmsegmentation's losses of both heads."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = [SegDataSample(gt_sem_seg=PixelData(data=target[None])) for target in targets]
    found = {}
    for name, head in (("pixel", theirs.decode_head), ("auxiliary", theirs.auxiliary_head)):
        found[name] = head.loss_by_feat(head.forward(maps), samples)["loss_ce"]
    return found


def compare(name: str, size: tuple[int, int], seed: int) -> dict[str, float]:
    """The differences of logits, losses and gradients on images of `size`."""
    ours = build_segmenter(segmenter_config(name, num_classes=K))
    for module in ours.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    randomise(ours, seed)
    theirs = reference(ours)
    images, targets = torch.randn(2, 3, *size), torch.randint(0, K, (2, *size))
    targets[:, :9] = 255
    rows: dict[str, float] = {}
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        maps = ours.backbone(images)
        rows["head's logits"] = apart(ours.decode_head(maps), theirs.decode_head.forward(maps))
        ours.decode_head.as_published = True
        rows["merged as published"] = apart(ours.decode_head(maps), theirs.decode_head.forward(maps))
        ours.decode_head.as_published = False
    ours.train()
    theirs.train()
    ours_losses = ours(images, targets)
    maps = ours.backbone(images)
    theirs_losses = losses(theirs, maps, targets)
    for part, value in ours_losses.items():
        rows[f"loss: {part}"] = abs(value.item() / theirs_losses[part].item() - 1)
    parameters = [p for n, p in ours.named_parameters() if n.startswith("decode_head.")]
    names = [n.removeprefix("decode_head.") for n, _ in ours.named_parameters() if n.startswith("decode_head.")]
    mine = torch.autograd.grad(ours_losses["pixel"], parameters)
    ours.decode_head.as_published = True
    published = torch.autograd.grad(ours(images, targets)["pixel"], parameters)
    own = dict(theirs.decode_head.named_parameters())
    their = torch.autograd.grad(theirs_losses["pixel"], [own[n] for n in names])
    whole = max(float(g.abs().max()) for g in their)
    for words, given in (("gradients", mine), ("gradients, merged as published", published)):
        rows[words] = max(float((a - b).abs().max()) for a, b in zip(given, their, strict=True)) / whole
    return rows


@torch.inference_mode()
def inference(name: str, seed: int) -> dict[str, float]:
    """The share of pixels whose class differs from mmsegmentation's own: windows, the whole image, mirrored too."""
    ours = build_segmenter(segmenter_config(name, num_classes=K)).eval()
    randomise(ours, seed)
    theirs = reference(ours).eval()
    height, width = 120, 200
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 20), size=(height, width), mode="bilinear")[0]
    image = (image * 255).byte()
    plain = SegmentationInputConfig(short=0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    device = torch.device("cpu")
    from mmengine.config import ConfigDict

    rows: dict[str, float] = {}
    for mode, window, stride in (("windows", 64, 43), ("whole", 0, 1)):
        theirs.test_cfg = ConfigDict(mode="slide" if window else "whole", crop_size=(64, 64), stride=(43, 43))
        look = SegmentationInputConfig(0, 2048, window, stride, plain.mean, plain.std)
        expected = logits(theirs, image).argmax(1)[0]
        found = segment(ours, image, input=look, device=device)
        rows[mode] = float((found != expected).float().mean())
        tiled = segment(ours, image, input=look, device=device, megabytes=4)
        rows[f"{mode}, in parts"] = float((tiled != expected).float().mean())
        mirrored = segment(ours, image, input=look, device=device, tta=TTA((1.0,), flip=True))
        both = logits(theirs, image).softmax(1) + logits(theirs, image.flip(2)).softmax(1).flip(3)
        both = both.argmax(1)[0]  # mmsegmentation 0.x's aug_test
        rows[f"{mode}, mirrored too"] = float((mirrored != both).float().mean())
    return rows


def logits(theirs: Any, image: Tensor) -> Tensor:
    """mmsegmentation's own inference, in the mode that it is set to."""
    size = tuple(image.shape[1:])
    return theirs.inference(image[None].float() / 255, [{"ori_shape": size, "img_shape": size}])


def main() -> None:
    """Prints a table for each model and size, and one for inference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stand-in", default="", help="a module that is imported first")
    parser.add_argument("--models", nargs="+", default=["upernet_convnext_tiny", "upernet_convnext_base"])
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.stand_in:
        importlib.import_module(args.stand_in)
    for name in args.models:
        for size in SIZES:
            print(f"\n{name}, {size[0]} x {size[1]}")
            for part, off in compare(name, size, seed=0).items():
                print(f"| {part} | {off:.1e} |")
    print(f"\n{args.models[0]}: pixels of another class, of all")
    for part, off in inference(args.models[0], seed=1).items():
        print(f"| {part} | {off:.1e} |")


if __name__ == "__main__":
    main()
