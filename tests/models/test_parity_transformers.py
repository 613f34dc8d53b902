"""The same weights give the same outputs in transformers. B batch, C channels, H W space."""

from __future__ import annotations

import pytest
import torch
from kinds import DEPTHS, DIMS, DINOV3, V1, V2, build, difference, image, randomise
from peers import TRANSFORMERS_DINOV3, agree, lend, transformers_rules
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
)

from convnext.models.convnext import ConvNeXt

V1_PARTS = (V1, ConvNextConfig, ConvNextForImageClassification, "convnext")
V2_PARTS = (V2, ConvNextV2Config, ConvNextV2ForImageClassification, "convnextv2")


def pair(parts, **options):
    size, config, model, base = parts
    ours = randomise(build(size))
    theirs = model(config(depths=list(DEPTHS), hidden_sizes=list(DIMS), num_labels=7, **options))
    lend(ours.state_dict(), theirs, transformers_rules(base))
    return ours, theirs


@pytest.mark.parametrize("parts", [V1_PARTS, V2_PARTS], ids=["v1", "v2"])
def test_classifiers(parts):
    ours, theirs = pair(parts, layer_norm_eps=1e-6)
    single, double = agree(ours, theirs, image(2, 3, 64, 96), call=lambda model, x: model(x).logits)
    assert single < 1e-5
    assert double < 1e-12


@pytest.mark.parametrize("parts", [V1_PARTS, V2_PARTS], ids=["v1", "v2"])
def test_their_last_epsilon_is_another(parts):
    """As shipped, their final norm has an epsilon of 1e-12: the official 1e-6 differs in the seventh digit or so."""
    ours, theirs = pair(parts)
    single, double = agree(ours, theirs, image(2, 3, 64, 96), call=lambda model, x: model(x).logits)
    assert single < 1e-5
    assert 1e-10 < double < 1e-4


@torch.no_grad()
def test_dinov3():
    """Pooled token and patch tokens: the last map in rows, each normalised."""
    ours = randomise(build(DINOV3))
    assert isinstance(ours, ConvNeXt)
    theirs = DINOv3ConvNextModel(DINOv3ConvNextConfig(depths=list(DEPTHS), hidden_sizes=list(DIMS)))
    lend(ours.state_dict(), theirs, TRANSFORMERS_DINOV3)
    x = image(2, 3, 64, 96)
    single, double = agree(ours, theirs, x, call=lambda model, x: model(x).pooler_output)
    assert single < 1e-5
    assert double < 1e-12
    pooled, patches = ours.forward_tokens(x.double())
    expected = theirs(x.double()).last_hidden_state
    assert difference(pooled, expected[:, 0]) < 1e-12
    assert difference(patches, expected[:, 1:]) < 1e-12
