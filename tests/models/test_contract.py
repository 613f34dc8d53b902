"""What every kind of model promises, checked on a small one of each (those of four stages: test_contract_staged.py).

B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

import copy
import io
import math
import pickle
import warnings
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from contract_timm import TimmInterface
from kinds import (
    INVERTED,
    ISOTROPIC,
    ISOTROPIC_SCALED,
    NEARLY,
    RESNET,
    RESNEXT,
    SWIN,
    VIT,
    AnySize,
    block_outputs,
    build,
    difference,
    image,
    randomise,
)
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.functional import cross_entropy

from convnext.models.create import Model
from convnext.models.layers import DropPath


class Contract(TimmInterface):
    """Inherited by one class for each kind of model, which says `size`."""

    size: ClassVar[AnySize]
    rounding: ClassVar[tuple[Callable[[float], int], Callable[[float], int]]] = (math.floor, math.floor)
    """How an odd size is halved: by the stem, and by the layers after it."""

    def make(self, **options) -> Model:
        """A small model of this kind with random weights, in evaluation mode."""
        model = build(self.size, **options)
        randomise(model)
        return model

    def outputs(self) -> int:
        """How many values a model of this kind gives for an image."""
        return self.size.num_classes or self.make().num_features

    # ----- forward

    @torch.no_grad()
    @pytest.mark.parametrize("batch", [1, 3])
    def test_forward(self, batch):
        y = self.make()(image(batch))
        assert y.shape == (batch, self.outputs())
        assert torch.isfinite(y).all()

    @torch.no_grad()
    @pytest.mark.parametrize("shape", [(32, 32), (33, 33), (47, 65), (65, 47), (224, 160), (63, 200)])
    def test_odd_sizes(self, shape):
        model = self.make()
        x = image(1, 3, *shape)
        assert torch.isfinite(model(x)).all()
        sizes = [tuple(m.shape[2:]) for m in model.forward_maps(x)]
        (stem, later), first = self.rounding, model.strides[0]
        assert sizes == [
            tuple(later(stem(side / first) * first / stride) for side in shape) for stride in model.strides
        ]

    @torch.no_grad()
    def test_large_image(self):
        model = self.make()
        assert torch.isfinite(model(image(1, 3, 1024))).all()

    @torch.no_grad()
    def test_each_image_for_itself(self):
        model, x = self.make(), image(3)
        together = model(x)
        apart = torch.cat([model(x[i : i + 1]) for i in range(3)])
        assert difference(together, apart) < 1e-5
        assert difference(model(x.flip(0)), together) > 0.01  # and the images do differ

    @torch.no_grad()
    @pytest.mark.parametrize("channels", [1, 4])
    def test_other_channels(self, channels):
        model = self.make(in_chans=channels)
        assert model(image(2, channels)).shape == (2, self.outputs())
        with pytest.raises(ValueError, match=f"built for {channels} channels; build it with in_chans=3"):
            model(image(2, 3))

    @torch.no_grad()
    def test_without_classes_gives_features(self):
        model = self.make(num_classes=0)
        x = image()
        assert not [name for name in model.state_dict() if name.startswith("head")]
        assert torch.equal(model(x), model.forward_head(model.forward_features(x), pre_logits=True))
        assert model(x).shape == (2, model.num_features)
        other = self.make(num_classes=11)
        other.load_state_dict({**other.state_dict(), **model.state_dict()})
        assert torch.equal(other.forward_head(other.forward_features(x), pre_logits=True), model(x))
        assert torch.equal(other.head(model(x)), other(x))
        assert other(x).shape == (2, 11)

    # ----- backward

    @pytest.mark.parametrize("drop_path_rate", [0.0, 0.3])
    def test_every_parameter_gets_a_gradient(self, drop_path_rate):
        torch.manual_seed(0)
        model = self.make(drop_path_rate=drop_path_rate).train()
        y = model(image(8))
        cross_entropy(y, torch.arange(8) % y.shape[1]).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name

    def test_fresh_model_learns(self):
        """From `init_weights`, not from the test's own random weights: one batch is learned by heart."""
        torch.manual_seed(0)
        model = build(self.size, num_classes=4).train()
        x, targets = image(8, height=32), torch.arange(8) % 4
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(100):
            loss = cross_entropy(model(x), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(1.386, abs=0.2)  # log 4: the fresh classifier knows nothing
        assert losses[-1] < 0.1

    # ----- initial values

    def test_init_weights_forgets_no_parameter(self):
        """Filled with NaN and initialised again, every parameter is finite."""
        model = build(self.size)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(float("nan"))
        model.init_weights()
        forgotten = [name for name, value in model.named_parameters() if not torch.isfinite(value).all()]
        assert forgotten == []

    def test_initial_values(self):
        torch.manual_seed(0)
        model = build(self.size, num_classes=500)
        for name, value in model.named_parameters():
            if name.endswith(("grn.gamma", "bias", "beta")):
                assert (value == 0).all(), name
            elif name.endswith("gamma"):
                assert (value == 1e-6).all(), name
            elif value.ndim == 1:
                assert (value == 1).all(), name
            else:
                assert value.abs().max() <= 2.0, name
                if value.numel() > 500:
                    assert value.std().item() == pytest.approx(0.02, rel=0.15), name
        torch.manual_seed(0)
        scaled = build(self.size, num_classes=500, head_init_scale=0.001)
        assert torch.equal(scaled.state_dict()["head.weight"], model.state_dict()["head.weight"] * 0.001)

    def test_other_initial_deviation(self):
        """Of every weight but the classifier's, so that a fresh model still knows nothing."""
        torch.manual_seed(0)
        model = build(self.size, num_classes=500)
        model.init_weights(std=0.08)
        for name, value in model.named_parameters():
            if value.ndim >= 2 and value.numel() > 500:
                expected = 0.02 if name == "head.weight" else 0.08
                assert value.std().item() == pytest.approx(expected, rel=0.15), name

    def test_same_seed_same_weights(self):
        torch.manual_seed(3)
        first = build(self.size).state_dict()
        torch.manual_seed(3)
        again = build(self.size).state_dict()
        other = build(self.size).state_dict()
        assert all(torch.equal(value, again[name]) for name, value in first.items())
        assert not all(torch.equal(value, other[name]) for name, value in first.items())

    # ----- drop path

    @torch.no_grad()
    def test_drop_path_in_training_only(self):
        model, x = self.make(drop_path_rate=0.5), image()
        plain = self.make()
        assert torch.equal(model(x), plain(x))  # in evaluation it is not there
        torch.manual_seed(0)
        twin = self.make(drop_path_rate=0.0).train()
        assert torch.equal(plain.train()(x), twin(x))  # nor at rate 0
        model.train()
        torch.manual_seed(0)
        first, other = model(x), model(x)
        torch.manual_seed(0)
        assert torch.equal(model(x), first)
        assert not torch.equal(other, first)

    def test_drop_path_rates_rise_from_zero(self):
        model = build(self.size, drop_path_rate=0.4)
        rates = [module.rate for module in model.modules() if isinstance(module, DropPath)]
        assert rates == pytest.approx(torch.linspace(0, 0.4, len(rates)).tolist())  # the official rule
        assert len(rates) == len(model.block_list())

    # ----- files, copies, devices

    @torch.no_grad()
    def test_save_and_load(self):
        model, x = self.make(), image()
        other = build(self.size)
        assert not torch.equal(other(x), model(x))
        other.load_state_dict(load(save(model.state_dict())))
        assert torch.equal(other(x), model(x))
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        buffer.seek(0)
        third = build(self.size)
        third.load_state_dict(torch.load(buffer, weights_only=True))
        assert torch.equal(third(x), model(x))

    @torch.no_grad()
    def test_copies(self):
        model, x = self.make(drop_path_rate=0.1), image()
        expected = model(x)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 - our own
            assert torch.equal(twin(x), expected)
            next(iter(twin.parameters())).add_(1.0)
            assert not torch.equal(twin(x), expected)
        assert torch.equal(model(x), expected)

    @torch.no_grad()
    def test_meta_device(self):
        """Built without memory, given memory, initialised: the same as one that was built at once."""
        torch.manual_seed(0)
        expected = build(self.size)
        torch.manual_seed(0)
        expected.init_weights()
        with torch.device("meta"):
            model = build(self.size)
        assert {value.device.type for value in model.state_dict().values()} == {"meta"}
        assert model(image().to("meta")).shape == (2, self.outputs())
        model.to_empty(device="cpu")
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
        torch.manual_seed(0)
        model.init_weights()
        assert all(torch.equal(value, expected.state_dict()[name]) for name, value in model.state_dict().items())
        assert torch.equal(model(image()), expected(image()))

    @torch.no_grad()
    def test_double_precision(self):
        model, x = self.make(), image()
        expected = model(x)
        assert difference(model.double()(x.double()).float(), expected) < 1e-5

    @torch.no_grad()
    def test_bfloat16(self):
        """The whole model in bfloat16 (8 bits of mantissa) stays near float32."""
        model, x = self.make(), image(4)
        expected = model(x)
        given = model.bfloat16()(x.bfloat16())
        assert given.dtype == torch.bfloat16
        assert difference(given.float(), expected) < 0.05
        with torch.autocast("cpu", torch.bfloat16):
            assert difference(self.make()(x).float(), expected) < 0.05

    @torch.no_grad()
    def test_export(self):
        """torch.export gives one graph for any batch."""
        model, x = self.make(), image(3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, in some versions
            program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        exported = program.module()
        for batch in (2, 5):
            assert difference(exported(image(batch, seed=1)), model(image(batch, seed=1))) < 1e-6

    # ----- structure

    def test_depth_ids_name_every_parameter(self):
        model = build(self.size)
        for per_group in (1, 2, 3):
            ids = model.depth_ids(blocks_per_group=per_group)
            assert list(ids) == [name for name, _ in model.named_parameters()]
            assert set(ids.values()) >= set(range(1, max(ids.values()) + 1))  # no depth is left out
            last = max(ids.values())
            assert {name for name, depth in ids.items() if depth == last} == {
                name for name in ids if name.startswith(("norm.", "pre_logits.", "head.", "encoder.ln."))
            }

    def test_blocks_are_listed_in_order(self):
        model = self.make()
        outputs = block_outputs(model, image())
        assert len(outputs) == len(model.block_list())
        assert torch.equal(self.as_map(outputs[-1]), model.forward_maps(image())[-1])


class Scaled(Contract):
    """What models of our ConvNeXt blocks promise beside."""

    @pytest.mark.parametrize("value", [0.0, None, 1e-6, 0.5])
    def test_layer_scale(self, value):
        model = build(self.size, layer_scale_init_value=value)
        expected = self.size.layer_scale_init_value if value is None else value
        scales = [block.gamma for block in model.block_list()]
        names = [name for name in model.state_dict() if name.endswith(".gamma") and not name.endswith("grn.gamma")]
        if expected == 0:
            assert (scales, names) == ([None] * len(scales), [])
        else:
            assert len(names) == len(scales)
            assert all(scale is not None and bool((scale == expected).all()) for scale in scales)
        assert torch.isfinite(model(image())).all()


class TestIsotropic(Scaled):
    size = ISOTROPIC


class TestIsotropicWithLayerScale(Scaled):
    size = ISOTROPIC_SCALED


class TestResNet(Contract):
    size = RESNET
    rounding = (math.ceil, math.ceil)


class TestResNeXt(Contract):
    size = RESNEXT
    rounding = (math.floor, math.ceil)


class TestInverted(Contract):
    size = INVERTED
    rounding = (math.floor, math.ceil)


class TestNearlyConvNeXt(Contract):
    size = NEARLY
    rounding = (math.floor, math.ceil)


class TestSwin(Contract):
    size = SWIN
    rounding = (math.floor, math.ceil)

    def as_map(self, output: Tensor, height: int = 4) -> Tensor:
        return output.permute(0, 3, 1, 2)


class TestViT(Contract):
    size = VIT

    def as_map(self, output: Tensor, height: int = 4) -> Tensor:
        return output[:, 1:].transpose(1, 2).reshape(2, 32, height, -1)

    def feature_shape(self, dim: int, height: int, width: int) -> tuple[int, ...]:
        return 2, 1 + height * width, dim
