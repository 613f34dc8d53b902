"""Saving for others: a model in the layout that timm, torchvision or transformers load, so that work leaves without us.

o i outputs and inputs of a linear layer, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

from convnext.core.atomic import replacing
from convnext.core.errors import UserError
from convnext.data.preprocess import resolved_resize
from convnext.models.config import ModelConfig
from convnext.models.convnext import CONFIGS, ConvNeXtConfig
from convnext.models.create import from_config
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.weights.files import save_model
from convnext.weights.layouts import TIMM, TIMM_NORM_FIRST, TORCHVISION, TRANSFORMERS, TRANSFORMERS_DINOV3, translate
from convnext.weights.writing import LAYOUTS, LayoutName, check_layout, check_saved, own_memory, save_pickle, write_json

# timm builds these with 1x1 convolutions in the place of linear layers (conv_mlp)
_CONVOLUTIONS = ("atto", "femto", "pico", "nano", "zepto", "hnf")
_DINOV3 = "dinov3_"


def save_as(out: Path, state: Mapping[str, Tensor], metadata: ClassificationMetadata, layout: LayoutName) -> str:
    """Writes a model's weights, and what goes with them, for one library; returns how it is loaded there.

    convnext: OUT.safetensors with the metadata inside. official: OUT.pth as Meta's ({"model": ...}). torchvision:
    OUT.pth. timm and transformers: a folder OUT with model.safetensors, config.json (and preprocessor_config.json).

    Raises UserError for another layout, where that library has no such model or OUT does not suit the layout, and for a
    state that is not of the metadata's model.
    """
    check_layout(layout, LAYOUTS, model="classifier")
    check_saved(state, metadata, lambda: from_config(metadata.model), model="classifier")
    config, image = metadata.model, metadata.input
    suffix = {"convnext": ".safetensors", "official": ".pth", "torchvision": ".pth"}.get(layout, "")
    if out.suffix in (".safetensors", ".pth", ".pt", ".bin") and out.suffix != suffix:
        raise UserError(f"The layout {layout} is {f'a {suffix} file' if suffix else 'a folder'}, unlike {out}.")
    if suffix and out.suffix != suffix:
        raise UserError(f"The layout {layout} is a {suffix} file: {out}{suffix}, for one.")
    if layout == "convnext":
        save_model(out, dict(state), metadata)
        return f'convnext.load_model("{out}")'
    if layout == "official":
        save_pickle(out, {"model": own_memory(state)})
        return 'torch.load(...)["model"], as the official checkpoints'
    written = state_in(layout, state, config)
    if layout == "torchvision":
        save_pickle(out, own_memory(written))
        return f'{_torchvision_call(config)}.load_state_dict(torch.load("{out}"))'
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "model.safetensors") as file:
        file.write(save({name: value.contiguous() for name, value in written.items()}, metadata={"format": "pt"}))
    if layout == "timm":
        write_json(out / "config.json", _timm_config(metadata))
        return f'timm.create_model("local-dir:{out}", pretrained=True)'
    write_json(out / "config.json", _transformers_config(metadata))
    write_json(
        out / "preprocessor_config.json",
        {
            "image_processor_type": "ConvNextImageProcessor",
            "size": {"shortest_edge": image.size},
            "crop_pct": image.crop_ratio,
            "resample": 2 if image.interpolation == "bilinear" else 3,
            "image_mean": list(image.mean),
            "image_std": list(image.std),
            **dict.fromkeys(("do_resize", "do_rescale", "do_normalize"), True),
            "rescale_factor": 1 / 255,
        },
    )
    return f'transformers.{_transformers_class(config)}.from_pretrained("{out}")'


def state_in(
    layout: Literal["timm", "torchvision", "transformers"], state: Mapping[str, Tensor], config: ModelConfig
) -> dict[str, Tensor]:
    """A state dict under that library's names and in its shapes.

    Raises UserError where the library has no such model (no isotropic one anywhere, no V2 in torchvision, ...).
    """
    size = _size(layout, config)
    if layout == "timm":
        written = translate(state, TIMM_NORM_FIRST if size.head_norm_first else TIMM)
        convolutions = any(part in config.name for part in _CONVOLUTIONS)
        return {name: _timm_shape(name, value, convolutions) for name, value in written.items()}
    if layout == "torchvision":
        # Its blocks always have a layer scale.
        scales = {f"{name[:-11]}gamma": torch.ones_like(state[name]) for name in state if name.endswith("dwconv.bias")}
        written = translate({**scales, **state}, TORCHVISION)
        return {n: v.reshape(-1, 1, 1) if n.endswith(".layer_scale") else v for n, v in written.items()}
    if config.name.startswith(_DINOV3):
        return translate(state, TRANSFORMERS_DINOV3)
    prefix = "" if not config.num_classes else "convnextv2." if size.use_grn else "convnext."
    return translate(state, replace(TRANSFORMERS, prefixes=(prefix,)))


def _timm_shape(name: str, value: Tensor, convolutions: bool) -> Tensor:
    if convolutions and name.endswith((".mlp.fc1.weight", ".mlp.fc2.weight")):
        return value[:, :, None, None]  # (o, i) to (o, i, 1, 1)
    return value.reshape(-1) if ".mlp.grn." in name else value


def _size(layout: str, config: ModelConfig) -> ConvNeXtConfig:
    """The size of a model that the library has. Raises UserError for another."""
    size = CONFIGS.get(config.name)
    problem = ""
    if size is None:
        problem = "it is no ConvNeXt of four stages"
    elif config.stem_stride == 1 or (layout == "timm" and config.stem_stride != 4):
        problem = "its stems have other strides"
    elif layout != "timm":
        kernel = config.kernel_size or size.kernel_size
        other = size.stem != "patch" or size.norm != "layer" or size.head_norm_first or size.head_hidden
        if other or kernel != 7 or size.norm_eps != 1e-6:
            problem = "it has no such stem, norm, kernel size or head"
        elif layout == "torchvision" and (size.use_grn or config.stem_stride != 4):
            problem = "it has no V2, and stems of stride 4 alone"
        elif layout == "torchvision" and not config.num_classes:
            problem = "its models have a classifier"
        elif layout == "transformers" and config.name.startswith(_DINOV3) and config.num_classes:
            problem = "its DINOv3 models have no classifier"
    if size is None or problem:
        raise UserError(f"{config.name} of this shape cannot be saved for {layout}: {problem}.")
    return size


def _torchvision_call(config: ModelConfig) -> str:
    """What builds the model there: by name where it has one, else from its blocks' settings."""
    size = CONFIGS[config.name]
    depths, dims = config.depths or size.depths, config.dims or size.dims
    named = ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large")
    if config.name in named and (depths, dims, config.in_chans) == (size.depths, size.dims, 3):
        return f"torchvision.models.{config.name}(num_classes={config.num_classes})"
    blocks = ", ".join(f"CNBlockConfig{shape}" for shape in zip(dims, (*dims[1:], None), depths, strict=True))
    return f"torchvision.models.convnext.ConvNeXt([{blocks}], num_classes={config.num_classes})"


def _timm_config(metadata: ClassificationMetadata) -> dict[str, Any]:
    config, image = metadata.model, metadata.input
    size = CONFIGS[config.name]
    arguments: dict[str, Any] = {key: list(v) for key in ("depths", "dims") if (v := getattr(config, key)) is not None}
    if config.kernel_size:
        arguments["kernel_sizes"] = config.kernel_size
    if config.layer_scale_init_value is not None:
        arguments["ls_init_value"] = config.layer_scale_init_value or None
    if config.in_chans != 3:
        arguments["in_chans"] = config.in_chans
    name = config.name.removeprefix(_DINOV3)
    return {
        "architecture": name,
        "num_classes": config.num_classes,
        "num_features": size.head_hidden or (config.dims or size.dims)[-1],
        "model_args": arguments,
        "pretrained_cfg": {
            "architecture": name,
            "num_classes": config.num_classes,
            "input_size": [config.in_chans, image.size, image.size],
            "interpolation": image.interpolation,
            "crop_pct": image.crop_ratio if not _warped(metadata) else 1.0,
            "crop_mode": "squash" if _warped(metadata) else "center",
            "mean": list(image.mean),
            "std": list(image.std),
        },
        **({"label_names": list(metadata.classes)} if metadata.classes else {}),
    }


def _transformers_class(config: ModelConfig) -> str:
    family = "ConvNextV2" if CONFIGS[config.name].use_grn else "ConvNext"
    if config.name.startswith(_DINOV3):
        return "DINOv3ConvNextModel"
    return f"{family}ForImageClassification" if config.num_classes else f"{family}Model"


def _transformers_config(metadata: ClassificationMetadata) -> dict[str, Any]:
    config, size = metadata.model, CONFIGS[metadata.model.name]
    scale = size.layer_scale_init_value if config.layer_scale_init_value is None else config.layer_scale_init_value
    kind = "dinov3_convnext" if config.name.startswith(_DINOV3) else "convnextv2" if size.use_grn else "convnext"
    names = metadata.classes or tuple(f"class {i}" for i in range(config.num_classes))
    return {
        "architectures": [_transformers_class(config)],
        "model_type": kind,
        "depths": list(config.depths or size.depths),
        "hidden_sizes": list(config.dims or size.dims),
        "num_channels": config.in_chans,
        "patch_size": config.stem_stride,
        "hidden_act": "gelu",
        "image_size": metadata.input.size,
        "layer_scale_init_value": scale,
        "layer_norm_eps": 1e-6,  # the official one: transformers' own default for the final norm is 1e-12
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
        **({"problem_type": "multi_label_classification"} if metadata.multi_label else {}),
    }


def _warped(metadata: ClassificationMetadata) -> bool:
    return resolved_resize(metadata.input) == "warp"
