"""Saving segmenters so that others read them: ours, the official layout, and transformers' UperNet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from convnext.core.atomic import replacing
from convnext.core.errors import UserError
from convnext.models.convnext import CONFIGS
from convnext.models.segmentation.build import build_segmenter
from convnext.models.segmentation.config import SegmenterConfig
from convnext.tasks.segmentation.recipe import SegmentationMetadata
from convnext.weights.layouts import TRANSFORMERS, translate
from convnext.weights.writing import check_layout, check_saved, own_memory, save_own_or_official, write_json

_NORM = "backbone.norm"
_BACKBONE = ("backbone.downsample_layers.", "backbone.stages.")
_BARE = replace(TRANSFORMERS, prefixes=("",))  # inside of UperNet nothing stands before the backbone's own names


def save_as(out: Path, state: Mapping[str, Tensor], metadata: SegmentationMetadata, layout: str) -> str:
    """Writes a segmenter's weights; returns how they are loaded.

    convnext: OUT.safetensors with the metadata inside. official: OUT.pth as the official checkpoints have it ({"meta",
    "state_dict"}), which is mmsegmentation's layout around the official backbone. transformers: a folder, of UPerNet on
    ConvNeXt V1.

    Raises UserError for any other layout, an OUT that does not suit it, and a state that is no such model's.
    """
    check_layout(layout, ("convnext", "official", "transformers"), model="segmenter")
    check_saved(state, metadata, lambda: build_segmenter(metadata.model), model="segmenter")
    if layout == "transformers":
        return _save_for_transformers(out, state, metadata)
    meta = {"CLASSES": list(metadata.classes), "PALETTE": [list(colour) for colour in metadata.colours]}
    if save_own_or_official(out, state, metadata, layout=layout, meta=meta):
        return f'convnext.load("{out}")'
    return 'torch.load(...)["state_dict"], in mmsegmentation, around the official backbone'


def _save_for_transformers(out: Path, state: Mapping[str, Tensor], metadata: SegmentationMetadata) -> str:
    values = transformers_segmenter_config(metadata.model)
    if out.suffix in (".pth", ".safetensors"):
        raise UserError(f"The layout transformers is a folder: {out.with_suffix('')}, for one.")
    names = metadata.classes or tuple(f"class {i}" for i in range(metadata.model.num_classes))
    out.mkdir(exist_ok=True)
    with replacing(out / "model.safetensors") as file:
        file.write(save(own_memory(segmenter_in_transformers(state)), metadata={"format": "pt"}))
    write_json(
        out / "config.json",
        {
            "architectures": ["UperNetForSemanticSegmentation"],
            "model_type": "upernet",
            **{key: value for key, value in values.items() if key != "num_labels"},
            "id2label": {str(i): name for i, name in enumerate(names)},
            "label2id": {name: i for i, name in enumerate(names)},
        },
    )
    return f'transformers.UperNetForSemanticSegmentation.from_pretrained("{out}")'


def segmenter_in_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A segmenter's state dict under the names of transformers' UperNetForSemanticSegmentation."""
    layers = {name.removeprefix("backbone."): v for name, v in state.items() if name.startswith(_BACKBONE)}
    written = {f"backbone.{name}": value for name, value in translate(layers, _BARE).items()}
    for name, value in state.items():
        if name.startswith(_NORM):
            stage, part = name.removeprefix(_NORM).split(".")
            written[f"backbone.hidden_states_norms.stage{int(stage) + 1}.{part}"] = value
        elif not name.startswith("backbone."):
            written[name.replace(".bn.", ".batch_norm.").replace("head.conv_seg.", "head.classifier.")] = value
    return written


def transformers_segmenter_config(config: SegmenterConfig) -> dict[str, Any]:
    """The arguments of transformers' UperNetConfig for a segmenter. Raises UserError where it has no such one."""
    backbone, size = config.backbone, CONFIGS.get(config.backbone.name)
    plain = backbone.stem_stride == 4 and backbone.kernel_size in (None, 7)
    if (
        config.head != "upernet"
        or size is None
        or size.use_grn
        or not backbone.name.startswith("convnext_")
        or not plain
    ):
        raise UserError("transformers has UPerNet on ConvNeXt V1 alone: --layout convnext keeps any segmenter.")
    scale = size.layer_scale_init_value if backbone.layer_scale_init_value is None else backbone.layer_scale_init_value
    dims = list(backbone.dims or size.dims)
    return {
        "backbone_config": {
            "model_type": "convnext",
            "depths": list(backbone.depths or size.depths),
            "hidden_sizes": dims,
            "num_channels": backbone.in_chans,
            "layer_scale_init_value": scale,
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
        },
        "hidden_size": config.width,
        "num_labels": config.num_classes,
        "use_auxiliary_head": config.auxiliary_width > 0,
        "auxiliary_in_channels": dims[2],
        "auxiliary_channels": config.auxiliary_width or 256,
    }
