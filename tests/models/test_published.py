"""Every model has exactly the parameters, tensors and multiply-accumulates of the published one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from convnext.models import roadmap
from convnext.models.create import MODEL_NAMES as ALL
from convnext.models.create import count_macs, count_parameters, create_model

PUBLISHED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("published.json").read_text())["models"]
MODEL_NAMES = [name for name in ALL if name not in roadmap.MODEL_NAMES]  # the roadmap's have a table of their own
SHARED = Path(os.environ.get("CONVNEXT_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
FACTS = SHARED.parent / "facts" / "models.yaml"


def on_meta(name: str, **options):
    with torch.device("meta"):
        return create_model(name, **options)


def test_golden_file_has_every_model():
    assert list(PUBLISHED) == list(MODEL_NAMES)
    assert all("224" in entry["macs"] for entry in PUBLISHED.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODEL_NAMES)
def test_exact_figures(name):
    golden, model = PUBLISHED[name], on_meta(name)
    assert count_parameters(model) == golden["params"]
    assert len(model.state_dict()) == golden["tensors"]
    for size in {"224", max(golden["macs"])}:  # the largest shows that maps grow as they should
        assert count_macs(model, int(size)) == golden["macs"][size]


@pytest.mark.parametrize(
    ("name", "params_m", "gmacs"),
    [  # V1: paper Tables 1 and 2; V2: paper Table 14, whose figures count the blocks' LayerNorms too
        ("convnext_tiny", 29, 4.5),
        ("convnext_small", 50, 8.7),
        ("convnext_base", 89, 15.4),
        ("convnext_large", 198, 34.4),
        ("convnext_xlarge", 350, 60.9),
        ("convnext_isotropic_small", 22, 4.3),
        ("convnext_isotropic_base", 87, 16.9),
        ("convnext_isotropic_large", 306, 59.7),
        ("convnextv2_atto", 3.7, 0.55),
        ("convnextv2_femto", 5.2, 0.78),
        ("convnextv2_pico", 9.1, 1.37),
        ("convnextv2_nano", 15.6, 2.45),
        ("convnextv2_tiny", 28.6, 4.47),
        ("convnextv2_base", 89, 15.4),
        ("convnextv2_large", 198, 34.4),
        ("convnextv2_huge", 660, 115),
    ],
)
def test_golden_file_agrees_with_the_papers(name, params_m, gmacs):
    assert PUBLISHED[name]["params"] / 1e6 == pytest.approx(params_m, rel=0.015)
    assert PUBLISHED[name]["macs"]["224"] / 1e9 == pytest.approx(gmacs, rel=0.01)


@pytest.mark.data
def test_golden_file_agrees_with_the_facts():
    if not FACTS.is_file():
        pytest.skip(f"there is no {FACTS}")
    import yaml

    facts = yaml.safe_load(FACTS.read_text())
    compared = 0
    for prefix, group in (
        ("convnext_", "convnext_v1"),
        ("convnextv2_", "convnext_v2"),
        ("convnext_isotropic_", "convnext_isotropic"),
        ("dinov3_convnext_", "dinov3_convnext"),
    ):
        for size, entry in facts[group].items():
            if "flops_computed" not in entry:
                continue  # notes beside the models
            golden, params = PUBLISHED[prefix + size], entry["params"]
            exact = {
                "convnext_isotropic": f"exact_{params.get('shipped_config', '').replace(' ', '_')}",
                "dinov3_convnext": "backbone_exact",
            }.get(group, "exact_1000cls")
            assert golden["params"] == params[exact]
            assert golden["tensors"] == params.get("state_dict_tensors", golden["tensors"])
            macs = {str(side): figures["fvcore_conv_linear_macs"] for side, figures in entry["flops_computed"].items()}
            assert golden["macs"] == macs
            compared += 1
    assert compared == 20


@pytest.mark.data
def test_other_heads_agree_with_the_facts():
    """22k classes and no classifier: the head is as wide as the published one."""
    if not FACTS.is_file():
        pytest.skip(f"there is no {FACTS}")
    import yaml

    facts = yaml.safe_load(FACTS.read_text())
    for prefix, group in (("convnext_", "convnext_v1"), ("convnextv2_", "convnext_v2")):
        for size, entry in facts[group].items():
            if "exact_21841cls" in entry.get("params", {}):
                for classes, key in ((21841, "exact_21841cls"), (0, "exact_no_head")):
                    assert count_parameters(on_meta(prefix + size, num_classes=classes)) == entry["params"][key]


def test_macs_by_hand():
    """A model small enough to count: 32 pixels, maps of 8, 4, 2, 1; dims 2, 4, 6, 8; one block a stage."""
    model = create_model("convnext_tiny", depths=(1, 1, 1, 1), dims=(2, 4, 6, 8), num_classes=5)
    stem, head = 8 * 8 * 2 * 3 * 4 * 4, 8 * 5
    downsampling = 4 * 4 * 4 * 2 * 2 * 2 + 2 * 2 * 6 * 4 * 2 * 2 + 1 * 1 * 8 * 6 * 2 * 2
    blocks = sum(side * side * (dim * 49 + 2 * dim * 4 * dim) for side, dim in ((8, 2), (4, 4), (2, 6), (1, 8)))
    assert count_macs(model, 32) == stem + downsampling + blocks + head
    assert count_macs(model, (32, 64)) == 2 * (stem + downsampling + blocks) + head
    assert count_macs(model.bfloat16().train(), 32) == count_macs(model, 32)
    assert model.training  # as it was
    assert next(model.parameters()).device.type == "cpu"
