"""What ConvNeXts of four stages promise, V1, V2 and the variants: the contract, and what follows from their stages.

B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import pytest
import torch
from kinds import CLIP, DIMS, DINOV3, NORM_FIRST, OVERLAP, V1, V2, ZEPTO, build, image
from test_contract import Scaled

from convnext.models.convnext import ConvNeXt, ConvNeXtConfig


class Staged(Scaled):
    """What ConvNeXts of four stages promise beside."""

    size: ClassVar[ConvNeXtConfig]

    @torch.no_grad()
    @pytest.mark.parametrize(
        ("stem_stride", "output_stride", "strides"),
        [
            (4, 32, [4, 8, 16, 32]),
            (4, 16, [4, 8, 16, 16]),
            (4, 8, [4, 8, 8, 8]),
            (2, 32, [2, 4, 8, 16]),
            (2, 16, [2, 4, 8, 16]),
            (2, 8, [2, 4, 8, 8]),
            (1, 32, [1, 2, 4, 8]),
            (1, 8, [1, 2, 4, 8]),
        ],
    )
    def test_strides(self, stem_stride, output_stride, strides):
        model = self.make(stem_stride=stem_stride, output_stride=output_stride)
        assert model.strides == strides
        x = image(1, 3, 64, 96)
        maps = model.forward_maps(x)
        assert [tuple(m.shape[1:]) for m in maps] == [
            (dim, 64 // s, 96 // s) for dim, s in zip(DIMS, strides, strict=True)
        ]
        assert torch.isfinite(model(x)).all()

    def test_strides_keep_the_names(self):
        """A published checkpoint fits whatever the output stride; only the stem's kernel follows its stride."""
        plain = build(self.size).state_dict()
        for output_stride in (8, 16):
            other = build(self.size, output_stride=output_stride).state_dict()
            assert {n: v.shape for n, v in other.items()} == {n: v.shape for n, v in plain.items()}
        for stem_stride, kernel in ((2, 2), (1, 3)):
            other = build(self.size, stem_stride=stem_stride).state_dict()
            different = {name for name, value in other.items() if value.shape != plain[name].shape}
            if self.size.stem != "patch":
                assert (list(other), different) == (list(plain), set())  # 3x3 at every stride
                continue
            assert (list(other), different) == (list(plain), {"downsample_layers.0.0.weight"})
            assert other["downsample_layers.0.0.weight"].shape[2:] == (kernel, kernel)

    def test_wrong_strides_and_sizes(self):
        with pytest.raises(ValueError, match="stem_stride is 1, 2 or 4"):
            build(self.size, stem_stride=3)
        with pytest.raises(ValueError, match="output_stride 8, 16 or 32, not 4, 64"):
            build(self.size, output_stride=64)
        with pytest.raises(ValueError, match="four stages"):
            build(ConvNeXtConfig((1, 2, 3), (8, 8, 8)))
        with pytest.raises(ValueError, match="one of patch, overlap, overlap_tiered, overlap_act, not conv"):
            build(dataclasses.replace(self.size, stem="conv"))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"\[0, 1\)"):
            build(self.size, drop_path_rate=1.5)

    @torch.no_grad()
    def test_tokens(self):
        """The pooled token is the features; the others are the last map, normalised where it stands."""
        model, x = self.make(), image(2, 3, 64, 96)
        assert isinstance(model, ConvNeXt)
        pooled, patches = model.forward_tokens(x)
        last = model.forward_maps(x)[-1]
        assert patches.shape == (2, 6, last.shape[1])
        assert torch.equal(patches[:, 4], model.norm(last[:, :, 1, 1]))  # row by row: 1 * 3 + 1
        assert torch.equal(model.pre_logits(pooled), model.forward_head(model.forward_features(x), pre_logits=True))


class TestV1(Staged):
    size = V1


class TestV2(Staged):
    size = V2


class TestClip(Staged):
    size = CLIP


class TestDinov3(Staged):
    size = DINOV3


class TestOverlappingStem(Staged):
    size = OVERLAP
    rounding = (math.ceil, math.floor)


class TestSimpleNorm(Staged):
    size = ZEPTO
    rounding = (math.ceil, math.floor)


class TestHeadNormFirst(Staged):
    size = NORM_FIRST
