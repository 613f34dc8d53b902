"""What masking costs and saves in FCMAE's encoder: prints the rows of fcmae.md.

A training step (forward and backward) of the encoder, in three ways that take turns: the whole image; masked, with
every layer computed everywhere and masked places set to zero (the definition); masked, with what mixes channels
computed at the visible places alone (what is trained). Memory is what autograd keeps for the backward pass.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from convnext.data.pretraining.batch import Masking, mask_of
from convnext.models.config import FCMAEConfig, ModelConfig
from convnext.models.fcmae import FCMAE

ROUNDS = 7


def everywhere(model: FCMAE, images: Tensor, mask: Tensor) -> Tensor:
    """The definition: dense layers, masked places zero before and after each."""
    x = images.contiguous(memory_format=torch.channels_last)
    encoder = model.encoder
    for downsample, stage, stride in zip(encoder.downsample_layers, encoder.stages, encoder.strides, strict=True):
        times = model.cell // stride
        keep = (~mask).repeat_interleave(times, 1).repeat_interleave(times, 2).unsqueeze(1)
        last = keep.permute(0, 2, 3, 1)  # (B, H, W, 1), beside maps of (B, H, W, C)
        x = downsample(x) * keep
        for block in stage.children():
            y = block.dwconv(x).permute(0, 2, 3, 1)
            y = block.act(block.pwconv1(block.norm(y))) * last
            y = block.pwconv2(block.grn(y)) * last
            x = x + y.permute(0, 3, 1, 2)
    return x


def kept(step: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps, each tensor's memory counted once."""
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = step()
    total = sum(seen.values())
    result.sum().backward()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["convnextv2_atto", "convnextv2_tiny"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.models:
        torch.manual_seed(0)
        model = FCMAE(FCMAEConfig(ModelConfig(name)))
        images = torch.randn(args.batch, 3, 224, 224)
        masking = Masking(model.cell, 0.6, 0)
        mask = torch.stack([mask_of(i, epoch=0, size=224, masking=masking) for i in range(args.batch)])
        ways: dict[str, Callable[[], Tensor]] = {
            "whole image": lambda m=model, x=images: m.encoder.forward_maps(x)[-1],
            "masked, everywhere": lambda m=model, x=images, k=mask: everywhere(m, x, k),
            "masked, visible places": lambda m=model, x=images, k=mask: m.encode(x, k),
        }
        with torch.no_grad():
            difference = (ways["masked, everywhere"]() - ways["masked, visible places"]()).abs().max()
        memory = {way: kept(step) for way, step in ways.items()}
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, step in ways.items():
                begun = time.perf_counter()
                step().sum().backward()
                times[way].append(time.perf_counter() - begun)
        first = statistics.median(times["whole image"])
        for way, taken in times.items():
            middle = statistics.median(taken)
            print(  # noqa: T201
                f"| {name} | {way} | {args.batch / middle:.2f} | {first / middle:.2f} | {memory[way] / 1e6:.0f} | "
                f"{memory[way] / memory['whole image']:.2f} |"
            )
        print(f"largest difference between the two masked ways: {float(difference):.1e}")  # noqa: T201


if __name__ == "__main__":
    main()
