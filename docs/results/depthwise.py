# ruff: noqa: T201 - it prints a table
"""The gradient of depthwise filters: torch's own beside this project's, interleaved, on this machine's processor.

python docs/results/depthwise.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from convnext.ops.depthwise import filter_gradient

CASES = [  # images, height, width, channels, filter: ConvNeXt-T at 224 pixels, and a detector's maps at 800 x 1216
    *((batch, side, side, dim, 7) for batch in (1, 16) for side, dim in ((56, 96), (28, 192), (14, 384), (7, 768))),
    *((1, 200 // s, 304 // s, 96 * s, 7) for s in (1, 2, 4, 8)),
    (128, 16, 16, 32, 3),
    (128, 16, 16, 32, 5),
]


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; milliseconds, medians of 9 rounds")
    print("| images | map | channels | filter | forward | torch | here | ratio |")
    print("| ---: | --- | ---: | --- | ---: | ---: | ---: | ---: |")
    for batch, height, width, dim, k in CASES:
        x = torch.randn(batch, dim, height, width).contiguous(memory_format=torch.channels_last)
        above, weight, p = torch.randn_like(x), torch.randn(dim, 1, k, k), k // 2

        def theirs(x=x, above=above, weight=weight, p=p) -> torch.Tensor:
            mask = [False, True, False]
            options = ([1, 1], [p, p], [1, 1], False, [0, 0], len(weight), mask)
            return torch.ops.aten.convolution_backward(above, x, weight, [len(weight)], *options)[1]

        ways: dict[str, Callable[[], object]] = {
            "forward": lambda x=x, weight=weight, p=p: F.conv2d(x, weight, None, 1, p, 1, len(weight)),
            "torch": theirs,
            "here": lambda x=x, above=above, k=k, p=p: filter_gradient(x, above, k, stride=1, padding=p, dilation=1),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(10):
            for name, way in ways.items():
                begun = time.perf_counter()
                way()
                taken[name].append(1000 * (time.perf_counter() - begun))
        forward, torchs, ours = (statistics.median(taken[name][1:]) for name in ("forward", "torch", "here"))
        ratio = statistics.median(b / a for a, b in zip(taken["here"][1:], taken["torch"][1:], strict=True))
        size = f"{height} x {width}"
        print(f"| {batch} | {size} | {dim} | {k} x {k} | {forward:.2f} | {torchs:.2f} | {ours:.2f} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
