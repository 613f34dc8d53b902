"""Folded for inference, a model gives what it gave. B batch, C channels, H W space."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from kinds import (
    CLIP,
    DINOV3,
    ISOTROPIC,
    ISOTROPIC_SCALED,
    NORM_FIRST,
    OVERLAP,
    V1,
    V2,
    ZEPTO,
    block_outputs,
    build,
    difference,
    image,
    randomise,
)
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from convnext.models.convnext import Block, ConvNeXt
from convnext.models.features import FeatureMaps
from convnext.models.fuse import fuse
from convnext.models.layers import DropPath
from convnext.ops.norm import SimpleNorm, SimpleNorm2d

KINDS = {
    "v1": (V1, {}),
    "v1_without_layer_scale": (V1, {"layer_scale_init_value": 0.0}),
    "v1_dilated": (V1, {"output_stride": 16}),
    "v1_more_dilated": (V1, {"output_stride": 8}),
    "v1_stem_of_2": (V1, {"stem_stride": 2, "output_stride": 8}),
    "v1_stem_of_1": (V1, {"stem_stride": 1}),
    "v1_without_classes": (V1, {"num_classes": 0}),
    "v2": (V2, {}),
    "v2_dilated": (V2, {"output_stride": 8}),
    "v2_with_layer_scale": (V2, {"layer_scale_init_value": 0.1}),
    "clip": (CLIP, {}),
    "overlapping_stem": (OVERLAP, {}),
    "norm_before_pooling": (NORM_FIRST, {}),
    "simple_norm": (ZEPTO, {}),
    "simple_norm_dilated": (ZEPTO, {"output_stride": 16}),
    "dinov3": (DINOV3, {}),
    "isotropic": (ISOTROPIC, {}),
    "isotropic_scaled": (ISOTROPIC_SCALED, {}),
    "isotropic_without_classes": (ISOTROPIC, {"num_classes": 0}),
}


@pytest.fixture(params=KINDS)
def model(request):
    size, options = KINDS[request.param]
    return randomise(build(size, **options))


def is_plain(norm: nn.Module) -> bool:
    """Whether it normalises and nothing else."""
    return all(bool((value == (name == "weight")).all()) for name, value in norm.named_parameters())


def normed(model: nn.Module) -> list[str]:
    """The norms that still scale or shift."""
    kinds = (nn.LayerNorm, SimpleNorm, SimpleNorm2d)
    return [name for name, m in model.named_modules() if isinstance(m, kinds) and not is_plain(m)]


@torch.no_grad()
@pytest.mark.parametrize("shape", [(64, 96), (33, 47), (63, 200)])
def test_outputs_are_the_same(model, shape):
    """Logits, features, and the output of every block on the way."""
    fused, x = fuse(model), image(2, 3, *shape)
    assert difference(fused(x), model(x)) < 1e-5
    assert difference(fused.forward_features(x), model.forward_features(x)) < 1e-5
    for given, expected in zip(fused.forward_maps(x), model.forward_maps(x), strict=True):
        assert difference(given, expected) < 1e-5
    outputs = block_outputs(fused, x)
    assert len(outputs) == len(model.block_list())
    for given, expected in zip(outputs, block_outputs(model, x), strict=True):
        assert difference(given, expected) < 1e-5


@torch.no_grad()
def test_exact_in_double_precision(model):
    """What float32 leaves open is rounding alone, at the border too."""
    model, x = model.double(), image(2, 3, 64, 96).double()
    fused = fuse(model)
    assert {value.dtype for value in fused.parameters()} == {torch.float64}
    for given, expected in zip(fused.forward_maps(x), model.forward_maps(x), strict=True):
        assert difference(given, expected) < 1e-13
    assert difference(fused(x), model(x)) < 1e-13


def test_what_is_folded(model):
    fused = fuse(model)
    assert type(fused) is type(model)
    assert len(normed(model)) == len(
        [m for m in model.modules() if isinstance(m, (nn.LayerNorm, SimpleNorm, SimpleNorm2d))]
    )
    assert all(block.gamma is None and is_plain(block.norm) for block in fused.block_list())
    assert not [module for module in fused.modules() if isinstance(module, DropPath)]
    kept = set(normed(fused))
    if not isinstance(fused, ConvNeXt):
        assert kept == {"norm"}
        return
    # The stem's norm is followed by a shortcut. A norm before a padded convolution keeps what would be missing there.
    padded = {f"downsample_layers.{i}.0" for i in range(1, 4) if len(fused.downsample_layers[i]) == 3}
    stem = {f"downsample_layers.0.{len(fused.downsample_layers[0]) - 1}"}
    assert kept == stem | {"norm"} | padded
    assert len(padded) == sum(a == b for a, b in zip(model.strides, model.strides[1:], strict=False))


@torch.no_grad()
def test_a_shift_folded_before_padding_would_show():
    """Folded into a padded convolution all the same, the shift is wrong at the border, and the tests above see it."""
    model = randomise(build(V1, output_stride=16)).double()
    wrong, x = copy.deepcopy(model), image().double()
    norm, _, conv = wrong.downsample_layers[3]  # type: ignore[misc]
    conv.bias.add_(torch.einsum("oikl,i->o", conv.weight, norm.bias))
    norm.bias.zero_()
    assert difference(wrong(x), model(x)) > 1e-3


@torch.no_grad()
def test_tokens_are_the_same():
    model, x = randomise(build(DINOV3)), image(2, 3, 64, 96)
    assert isinstance(model, ConvNeXt)
    for given, expected in zip(fuse(model).forward_tokens(x), model.forward_tokens(x), strict=True):
        assert difference(given, expected) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("stages", [(0, 1, 2, 3), (1, 3)])
@pytest.mark.parametrize("output_stride", [32, 8])
def test_backbones_and_what_holds_them(stages, output_stride):
    """A backbone's own norms are outputs: they stay."""
    model = randomise(build(V1, output_stride=output_stride))
    assert isinstance(model, ConvNeXt)
    backbone, x = FeatureMaps(model, stages=stages).eval(), image(2, 3, 64, 96)
    for i in stages:
        backbone.get_submodule(f"norm{i}").weight.mul_(i + 2.0)  # type: ignore[union-attr]
    holder = nn.ModuleDict({"backbone": backbone})
    fused = fuse(holder)["backbone"]
    assert len(normed(fused)) < len(normed(backbone))
    for given, expected in zip(fused(x), backbone(x), strict=True):
        assert difference(given, expected) < 1e-5


def test_names_are_the_checkpoints(model):
    """But for the layer scale's."""
    names = [name for name in model.state_dict() if not name.endswith(".gamma") or name.endswith("grn.gamma")]
    assert list(fuse(model).state_dict()) == names


@torch.no_grad()
def test_the_given_model_is_untouched(model):
    model.train()
    before = copy.deepcopy(model.state_dict())
    fused = fuse(model)
    assert model.training
    assert all(value.requires_grad for value in model.parameters())
    assert not fused.training
    assert not [name for name, value in fused.named_parameters() if value.requires_grad]
    for value in fused.parameters():
        value.fill_(float("nan"))  # no memory is shared
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@torch.no_grad()
def test_from_training_with_drop_path():
    """In training mode or not: what is folded is the model as it evaluates."""
    model, x = randomise(build(V1, drop_path_rate=0.5)), image()
    expected = model(x)
    assert difference(fuse(model.train())(x), expected) < 1e-5


@torch.no_grad()
def test_twice_is_once(model):
    once, x = fuse(model), image()
    twice = fuse(once)
    assert torch.equal(twice(x), once(x))
    assert all(torch.equal(value, once.state_dict()[name]) for name, value in twice.state_dict().items())
    assert twice.head is not once.head


@torch.no_grad()
def test_bfloat16():
    """Folded before or after the cast, the model is as near to float32 as it was."""
    model, x = randomise(build(V1)), image(4)
    expected = model(x)
    for fused in (fuse(model).bfloat16(), fuse(copy.deepcopy(model).bfloat16())):
        assert {value.dtype for value in fused.parameters()} == {torch.bfloat16}
        assert difference(fused(x.bfloat16()).float(), expected) < 0.05


class _Strange(nn.Module):
    """A norm of a kind that `fuse` does not know."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), 2.0))
        self.elementwise_affine = True

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh() * self.weight


@torch.no_grad()
@pytest.mark.parametrize("kind", ["strange", "rms", "without_bias"])
def test_other_norms(kind):
    """RMS norm and a LayerNorm without bias are folded, an unknown norm is left alone; the output stands."""
    model, x = randomise(build(V1)), image()
    for block in model.block_list():
        dim = block.pwconv1.in_features
        norms = {
            "strange": _Strange(dim),
            "rms": nn.RMSNorm(dim, eps=1e-6),
            "without_bias": nn.LayerNorm(dim, eps=1e-6, bias=False),
        }
        block.norm = norms[kind]
        block.norm.weight.copy_(torch.linspace(0.5, 2.0, dim))
    fused = fuse(model)
    assert difference(fused(x), model(x)) < 1e-5
    assert all(is_plain(block.norm) == (kind != "strange") for block in fused.block_list())


@torch.no_grad()
def test_other_layers_are_left_alone():
    """What is no plain linear layer (a quantised one, say) keeps its inputs and outputs as they are."""
    model, x = randomise(build(V1)), image()
    for block in model.block_list():
        block.pwconv1 = nn.Sequential(block.pwconv1)  # type: ignore[assignment]
        block.pwconv2 = nn.Sequential(block.pwconv2)  # type: ignore[assignment]
    fused = fuse(model)
    assert not any(block.gamma is None or is_plain(block.norm) for block in fused.block_list())
    assert difference(fused(x), model(x)) < 1e-5


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func.__name__.split(".")[0])
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_a_folded_block_does_less():
    """It multiplies by nothing where a block multiplies by gamma, and GELU takes no memory; its input is left alone."""
    block = randomise(build(V1)).block_list()[0]
    assert isinstance(block, Block)
    x = image(2, block.dwconv.in_channels).contiguous(memory_format=torch.channels_last)
    before, counts = x.clone(), []
    for module in (block, fuse(block)):
        with _Counter() as counter:
            module(x)
        counts.append(counter.seen)
    assert (counts[0].count("mul"), counts[1].count("mul")) == (1, 0)
    assert (counts[0].count("gelu"), counts[1].count("gelu_")) == (1, 1)
    assert sorted([*(name.replace("gelu_", "gelu") for name in counts[1]), "mul"]) == sorted(counts[0])
    assert torch.equal(x, before)


def test_gradients_of_the_input_are_right():
    """Saliency through a folded model: what GELU writes over is what its gradient needs, and autograd keeps it."""
    model = randomise(build(V1))
    x = image()
    gradients = []
    for module in (model, fuse(model)):
        given = x.clone().requires_grad_()
        module(given).square().sum().backward()
        gradients.append(given.grad)
    assert difference(gradients[1], gradients[0]) < 1e-4


def test_parameters_on_the_meta_device():
    with torch.device("meta"):
        fused = fuse(build(V1))
    assert fused(image().to("meta")).shape == (2, 7)


@torch.no_grad()
def test_export(model):
    fused, x = fuse(model), image(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, in some versions
        program = torch.export.export(fused, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    assert difference(program.module()(image(2)), fused(image(2))) < 1e-6


@torch.no_grad()
def test_one_graph():
    torch.compiler.reset()
    fused = fuse(randomise(build(V2)))
    compiled = torch.compile(fused, backend="eager", fullgraph=True)
    assert difference(compiled(image()), fused(image())) < 1e-6
