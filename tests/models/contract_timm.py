"""What every model promises to readers of timm: its halves, its intermediate maps, its classifier, its refusals.

B batch, C channels, H W space, K classes. `test_contract.py` inherits these.
"""

from __future__ import annotations

from abc import abstractmethod

import pytest
import torch
from kinds import image
from torch import Tensor

from convnext.models.create import Model


class TimmInterface:
    """A part of `test_contract.Contract`."""

    @abstractmethod
    def make(self, **options) -> Model:
        """A small model with random weights, in evaluation mode."""

    def as_map(self, output: Tensor, height: int = 4) -> Tensor:
        """What a block gives, as a map (B, C, H, W)."""
        return output

    @torch.no_grad()
    def test_features_and_head(self):
        """The two halves of `forward`, bit by bit."""
        model, x = self.make(), image(2, 3, 64, 96)
        features = model.forward_features(x)
        assert torch.equal(model.forward_head(features), model(x))
        assert model.forward_head(features, pre_logits=True).shape == (2, model.num_features)
        stride, dim = model.strides[-1], model.dims[-1]
        assert features.shape == self.feature_shape(dim, 64 // stride, 96 // stride)

    def feature_shape(self, dim: int, height: int, width: int) -> tuple[int, ...]:
        """Of `forward_features`, for two images."""
        return 2, dim, height, width

    @torch.no_grad()
    def test_intermediates(self):
        model, x = self.make(), image(2, 3, 64, 96)
        info = model.feature_info
        last, maps = model.forward_intermediates(x)
        assert torch.equal(last, model.forward_features(x))
        assert len(maps) == len(info)
        for one, given in zip(info, maps, strict=True):
            assert given.shape == (2, one["num_chs"], 64 // one["reduction"], 96 // one["reduction"])
            assert model.get_submodule(one["module"])
        assert (info.channels()[-1], info.reduction()[-1]) == (model.dims[-1], model.strides[-1])
        for module, expected in zip(info.module_name(), maps, strict=True):
            outputs = []
            hook = model.get_submodule(module).register_forward_hook(lambda *given, keep=outputs: keep.append(given[2]))
            model(x)
            hook.remove()
            assert torch.equal(self.as_map(outputs[0], 64 // model.strides[-1]), expected)
        for indices, chosen in ((2, maps[-2:]), ([0, -1], [maps[0], maps[-1]])):
            some = model.forward_intermediates(x, indices)[1]
            assert all(torch.equal(one, other) for one, other in zip(some, chosen, strict=True))
        for indices in (0, len(info) + 1, [len(info)], [-len(info) - 1]):
            with pytest.raises(ValueError, match="asks for others"):
                model.forward_intermediates(x, indices)

    @torch.no_grad()
    def test_reset_classifier(self):
        torch.manual_seed(0)
        model, x = self.make(), image()
        pooled = model.forward_head(model.forward_features(x), pre_logits=True)
        model.double().reset_classifier(5)
        assert model.num_classes == 5
        assert model.get_classifier() is model.head
        assert model.head.weight.dtype == torch.float64  # type: ignore[union-attr]
        assert model.float()(x).shape == (2, 5)
        assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.5)  # type: ignore[operator, union-attr]
        model.reset_classifier(0)
        assert torch.equal(model(x), pooled)
        with pytest.raises(ValueError, match="0 or more, not -1"):
            model.reset_classifier(-1)

    @torch.no_grad()
    def test_wrong_images(self):
        model = self.make()
        for given, error, message in (
            (image()[0], ValueError, r"not \(3, 64, 64\): x.unsqueeze\(0\)"),
            (image().permute(0, 2, 3, 1), ValueError, r"x.permute\(0, 3, 1, 2\)"),
            (image(2, 1), ValueError, "built for 3 channels; build it with in_chans=1"),
            (image().byte(), TypeError, "not torch.uint8: divide by 255"),
            (image()[None], ValueError, r"not \(1, 2, 3, 64, 64\)"),
            (image().numpy(), TypeError, "not a ndarray"),
        ):
            with pytest.raises(error, match=message):
                model(given)

    @torch.no_grad()
    def test_smallest_image(self, monkeypatch):
        """What is refused could not work; what could is not refused."""
        model = self.make()
        least = model.min_side()
        assert torch.isfinite(model(image(2, 3, least, least + 1))).all()
        if least > 1:
            with pytest.raises(ValueError, match=f"at least {least} x {least} pixels, not {least} x {least - 1}"):
                model(image(2, 3, least, least - 1))
            for module in ("baselines", "convnext", "isotropic", "resnet"):
                monkeypatch.setattr(f"convnext.models.{module}.check_images", lambda *_: None)
            with pytest.raises(RuntimeError):
                assert torch.isfinite(model(image(2, 3, least, least - 1))).all()
