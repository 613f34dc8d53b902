"""The same classifier with the same weights from each library. B batch, H W space, K classes.

A library is imported only when its model is built, and none is needed.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from convnext.bench.engine.cells import OURS, Library
from convnext.bench.engine.machine import installed_version
from convnext.models.config import ModelConfig
from convnext.models.convnext import CONFIGS
from convnext.models.create import Model, create_model
from convnext.tasks.classification.export import state_in

_TORCHVISION = ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large")


def modules(libraries: Iterable[Library]) -> list[str]:
    """The modules that build the models of those libraries, as far as they are installed."""
    needed = {
        "timm": "timm.models",
        "torchvision": "torchvision.models",
        "transformers": "transformers.models.convnext",
    }
    return [needed[name] for name in libraries if name != OURS and installed_version(name) is not None]


def offers(library: Library, model: str) -> bool:
    """Whether the library has that model, with a classifier."""
    if library == OURS:
        return True
    size = CONFIGS.get(model)  # no other library has the isotropic ones
    if size is None or not size.num_classes:
        return False
    if library == "timm":
        return True
    if library == "torchvision":
        return model in _TORCHVISION
    kind = (size.stem, size.norm, size.norm_eps, size.kernel_size, size.head_norm_first, size.head_hidden)
    return kind == ("patch", "layer", 1e-6, 7, False, 0)


@torch.no_grad()
def random_model(model: str, *, seed: int) -> Model:
    """Our model with every tensor random and about 1 in its effect: float32, evaluation mode, on the CPU.

    With initial values (layer scale 1e-6, GRN 0, norms 1 and 0) a mistake in a branch could not be seen.
    """
    with torch.device("meta"):  # these weights are replaced at once
        ours = create_model(model)
    ours.to_empty(device="cpu")
    if any(True for _ in ours.buffers()):
        ours.init_weights()  # running statistics and indices
    generator = torch.Generator().manual_seed(seed)
    for name, value in ours.named_parameters():
        value.normal_(generator=generator)
        if value.ndim >= 2 and not name.endswith((".gamma", ".beta")):
            value.div_(value[0].numel() ** 0.5)  # a weight: divided by the root of its fan-in
        elif name.endswith((".bias", ".beta")):
            value.mul_(0.3)
        else:
            value.mul_(0.3).add_(0.5 if name.endswith(".gamma") else 1.0)
    return ours.eval()


def build(library: Library, model: str, ours: Model) -> nn.Module:
    """The library's model with the weights of `ours`: images (B, 3, H, W) to logits (B, K), in evaluation mode."""
    if library == OURS:
        return ours
    with torch.device("meta"):
        peer = _architecture(library, model)
    state = state_in(library, ours.state_dict(), ModelConfig(model, num_classes=ours.num_classes))
    expected = peer.state_dict()
    fitting = {  # (o, i) to (o, i, 1, 1) where they have a 1x1 convolution; memory of its own
        name: value.reshape(expected[name].shape).clone() if name in expected else value
        for name, value in state.items()
    }
    peer.load_state_dict(fitting, strict=True, assign=True)
    return (_Logits(peer) if library == "transformers" else peer).eval()


def _architecture(library: Library, model: str) -> nn.Module:
    if library == "timm":
        import timm

        return timm.create_model(model, pretrained=False)
    if library == "torchvision":
        from torchvision.models import get_model

        return get_model(model, weights=None, stochastic_depth_prob=0.0)
    import transformers

    transformers.logging.set_verbosity_error()
    size = CONFIGS[model]
    # Their final norm's epsilon is 1e-12 unless told otherwise; the official one is 1e-6.
    shape = {"depths": list(size.depths), "hidden_sizes": list(size.dims)}
    if size.use_grn:
        config = transformers.ConvNextV2Config(**shape, layer_norm_eps=1e-6)  # type: ignore[arg-type]
        config.num_labels = size.num_classes
        return transformers.ConvNextV2ForImageClassification(config)
    config = transformers.ConvNextConfig(**shape, layer_norm_eps=1e-6)  # type: ignore[arg-type]
    config.num_labels = size.num_classes
    return transformers.ConvNextForImageClassification(config)


class _Logits(nn.Module):
    """Makes a model of transformers take and return plain tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(pixel_values=x).logits
