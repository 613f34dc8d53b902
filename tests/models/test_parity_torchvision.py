"""The same weights give the same outputs in torchvision."""

from __future__ import annotations

import pytest
import torch
from kinds import DEPTHS, DIMS, V1, build, image, randomise
from peers import TORCHVISION, agree, lend
from torchvision.models import convnext_base, convnext_large, convnext_small, convnext_tiny
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.convnext import ConvNeXt as TorchvisionConvNeXt

from convnext.models.create import count_parameters, create_model


def test_small_model():
    ours = randomise(build(V1))
    settings = [CNBlockConfig(dim, out, n) for dim, out, n in zip(DIMS, (*DIMS[1:], None), DEPTHS, strict=True)]
    theirs = TorchvisionConvNeXt(settings, num_classes=7)
    lend(ours.state_dict(), theirs, TORCHVISION)
    single, double = agree(ours, theirs, image(2, 3, 64, 96))
    assert single < 1e-5
    assert double < 1e-12


@pytest.mark.parametrize("builder", [convnext_tiny, convnext_small, convnext_base, convnext_large])
def test_whole_size(builder):
    """At full depth and width, on the meta device: every name and shape fits."""
    with torch.device("meta"):
        ours, theirs = create_model(builder.__name__), builder()
        lend(ours.state_dict(), theirs, TORCHVISION)
    assert count_parameters(ours) == count_parameters(theirs)
