"""State dicts have the official names, shapes and order, and depths are the official ones, written out here by hand.

Names: facebookresearch/ConvNeXt, models/convnext.py and convnext_isotropic.py. Depths: optim_factory.py there and in
ConvNeXt-V2.
"""

from __future__ import annotations

import pytest
import torch

from convnext.models.convnext import CONFIGS
from convnext.models.create import create_model
from convnext.models.isotropic import CONFIGS as ISOTROPIC_SIZES

MODEL_NAMES = (*CONFIGS, *ISOTROPIC_SIZES)


def on_meta(name):
    with torch.device("meta"):
        return create_model(name)


def norm_tensors(prefix, dim, *, bias=True):
    yield f"{prefix}.weight", (dim,)
    if bias:
        yield f"{prefix}.bias", (dim,)


def block_tensors(prefix, dim, *, scaled, grn=False, norm_bias=True):
    """A block's tensors; the layer scale stands first, as a parameter of the block itself."""
    yield from [(f"{prefix}.gamma", (dim,))] if scaled else []
    yield f"{prefix}.dwconv.weight", (dim, 1, 7, 7)
    yield f"{prefix}.dwconv.bias", (dim,)
    yield from norm_tensors(f"{prefix}.norm", dim, bias=norm_bias)
    yield f"{prefix}.pwconv1.weight", (4 * dim, dim)
    yield f"{prefix}.pwconv1.bias", (4 * dim,)
    if grn:
        yield f"{prefix}.grn.gamma", (1, 1, 1, 4 * dim)
        yield f"{prefix}.grn.beta", (1, 1, 1, 4 * dim)
    yield f"{prefix}.pwconv2.weight", (dim, 4 * dim)
    yield f"{prefix}.pwconv2.bias", (dim,)


def official(size):
    """Names and shapes in the official order: stem and downsampling layers come first."""
    dims, biased = size.dims, size.norm == "layer"
    if size.stem == "patch":
        yield "downsample_layers.0.0.weight", (dims[0], 3, 4, 4)
        yield "downsample_layers.0.0.bias", (dims[0],)
        yield from norm_tensors("downsample_layers.0.1", dims[0], bias=biased)
    else:  # without an official name: timm's numbers; with `overlap_act`, .1 is the GELU
        width = {40: 24, 48: 24, 64: 32}[dims[0]] if size.stem == "overlap_tiered" else dims[0]
        second = 2 if size.stem == "overlap_act" else 1
        yield "downsample_layers.0.0.weight", (width, 3, 3, 3)
        yield "downsample_layers.0.0.bias", (width,)
        yield f"downsample_layers.0.{second}.weight", (dims[0], width, 3, 3)
        yield f"downsample_layers.0.{second}.bias", (dims[0],)
        yield from norm_tensors(f"downsample_layers.0.{second + 1}", dims[0], bias=biased)
    for i in (1, 2, 3):
        yield from norm_tensors(f"downsample_layers.{i}.0", dims[i - 1], bias=biased)
        yield f"downsample_layers.{i}.1.weight", (dims[i], dims[i - 1], 2, 2)
        yield f"downsample_layers.{i}.1.bias", (dims[i],)
    for i in range(4):
        for j in range(size.depths[i]):
            yield from block_tensors(
                f"stages.{i}.{j}", dims[i], scaled=not size.use_grn, grn=size.use_grn, norm_bias=biased
            )
    yield from norm_tensors("norm", dims[3], bias=biased)
    if size.head_hidden:  # OpenCLIP's, which has no official name: timm's, without its `head.`
        yield "pre_logits.fc.weight", (size.head_hidden, dims[3])
        yield "pre_logits.fc.bias", (size.head_hidden,)
    if size.num_classes:
        yield "head.weight", (1000, size.head_hidden or dims[3])
        yield "head.bias", (1000,)


def official_isotropic(size):
    yield "stem.weight", (size.dim, 3, 16, 16)
    yield "stem.bias", (size.dim,)
    for j in range(size.depth):
        yield from block_tensors(f"blocks.{j}", size.dim, scaled=size.layer_scale_init_value > 0)
    yield "norm.weight", (size.dim,)
    yield "norm.bias", (size.dim,)
    yield "head.weight", (1000, size.dim)
    yield "head.bias", (1000,)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_names_shapes_and_order(name):
    size = ISOTROPIC_SIZES.get(name)
    expected = official_isotropic(size) if size else official(CONFIGS[name])
    model = on_meta(name)
    assert [(n, tuple(value.shape)) for n, value in model.state_dict().items()] == list(expected)
    assert [n for n, _ in model.named_parameters()] == list(model.state_dict())  # no buffers: all of it is trained


OFFICIAL_GROUPS = {  # the table for 3, 3, 27, 3: twelve groups, and the head beyond
    "downsample_layers.0": 0,
    "stages.0": 1,
    "downsample_layers.1": 2,
    "stages.1": 2,
    "downsample_layers.2": 3,
    **{f"stages.2.{j}": group for group in range(3, 12) for j in range(3 * group - 9, 3 * group - 6)},
    "downsample_layers.3": 12,
    "stages.3": 12,
    "norm": 13,
    "head": 13,
}
OFFICIAL_GROUPS_TINY = {  # detection's and segmentation's, for 3, 3, 9, 3: six groups
    **{name: depth for name, depth in OFFICIAL_GROUPS.items() if not name.startswith("stages.2") and depth < 12},
    **{f"stages.2.{j}": 3 + j // 3 for j in range(9)},
    "downsample_layers.3": 6,
    "stages.3": 6,
    "norm": 7,
    "head": 7,
}


def by_table(model, table):
    """The depth of every parameter by the longest entry of the table that its name begins with."""
    ids = {}
    for name, _ in model.named_parameters():
        entry = max((key for key in table if f"{name}.".startswith(f"{key}.")), key=len)
        ids[name] = table[entry]
    return ids


@pytest.mark.parametrize("name", ["convnext_small", "convnext_base", "convnext_xlarge", "convnextv2_huge"])
def test_twelve_groups(name):
    model = on_meta(name)
    assert model.depth_ids() == by_table(model, OFFICIAL_GROUPS)


@pytest.mark.parametrize("name", ["convnext_tiny", "convnextv2_tiny"])
def test_six_groups(name):
    model = on_meta(name)
    assert model.depth_ids() == by_table(model, OFFICIAL_GROUPS_TINY)


@pytest.mark.parametrize("name", ["convnextv2_atto", "convnextv2_nano", "convnextv2_tiny", "convnextv2_huge"])
def test_single_blocks(name):
    """V2's "single" rule: sum(depths[:i]) + 1 for a downsampling layer, + j + 1 for a block, all + 1 for the rest."""
    model = on_meta(name)
    depths = CONFIGS[name].depths
    table = {f"downsample_layers.{i}": sum(depths[:i]) + 1 for i in range(4)}
    table |= {f"stages.{i}.{j}": sum(depths[:i]) + j + 1 for i in range(4) for j in range(depths[i])}
    table |= {"norm": sum(depths) + 1, "head": sum(depths) + 1}
    assert model.depth_ids(blocks_per_group=1) == by_table(model, table)


def test_groups_of_other_depths():
    """Where a stage is no multiple of three (xxlarge: 3, 4, 30, 3), its last group is smaller."""
    ids = on_meta("convnext_xxlarge").depth_ids()
    stages = [[ids[f"stages.{i}.{j}.gamma"] for j in range(depth)] for i, depth in enumerate((3, 4, 30, 3))]
    assert stages[:2] == [[1, 1, 1], [2, 2, 2, 3]]
    assert stages[2] == [4 + j // 3 for j in range(30)]
    assert stages[3] == [14, 14, 14]
    assert [ids[f"downsample_layers.{i}.0.weight"] for i in range(4)] == [0, 2, 4, 14]
    assert (ids["norm.weight"], ids["head.bias"]) == (15, 15)


@pytest.mark.parametrize("name", ["convnext_nano_ols", "convnext_zepto_rms_ols"])
def test_groups_of_another_stem(name):
    """Every layer of the stem has the stem's depth."""
    ids = on_meta(name).depth_ids()
    stem = {depth for name, depth in ids.items() if name.startswith("downsample_layers.0.")}
    assert stem == {0}
    assert {name for name, depth in ids.items() if depth == 0} == {
        n for n in ids if n.startswith("downsample_layers.0")
    }


def test_groups_of_isotropic():
    ids = on_meta("convnext_isotropic_small").depth_ids()
    assert [ids[f"blocks.{j}.norm.weight"] for j in range(18)] == [1 + j // 3 for j in range(18)]
    assert (ids["stem.weight"], ids["norm.weight"], ids["head.weight"]) == (0, 7, 7)
