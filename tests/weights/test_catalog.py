"""The catalogue: complete, plain and consistent with the models and the published facts."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch

import convnext
from convnext.core.errors import UserError
from convnext.models.create import MODEL_NAMES, create_model
from convnext.weights.catalog import LICENCES, at_location, best_start, catalog, find, list_weights
from convnext.weights.hub import parse_hub_id
from convnext.weights.imagenet import COUNTS

ROWS = list(catalog().values())
FACTS = Path(os.environ.get("CONVNEXT_TEST_FACTS", Path(__file__).parents[2].parent / "shared" / "facts"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_whole(row) -> None:
    assert row.model in MODEL_NAMES
    assert row.licence in LICENCES
    assert row.source
    assert row.trained_on
    assert 160 <= row.input.size <= 512
    assert row.input.resize in ("crop", "warp")  # stated, not left to a rule
    assert row.num_classes in (0, 640, 768, 1024, *COUNTS)
    if row.num_classes in COUNTS:
        assert row.trained_on.endswith(COUNTS[row.num_classes])
    assert row.top1 is None or (70 < row.top1 < 90 and row.num_classes == 1000)
    for place in (row.location, *row.also):
        if place.startswith("https://"):
            assert urlsplit(place).path.endswith((".pth", ".pt"))
        else:
            parse_hub_id(place)


def test_names_and_places_are_unique() -> None:
    places = Counter(place for row in ROWS for place in (row.location, *row.also))
    assert set(places.values()) == {1}
    assert len(catalog()) == len(ROWS) == 110


def test_how_many_of_each_family() -> None:
    """Meta's V1 files, isotropic ones, V2 (encoders and fine-tuned), DINOv3, CLIP towers and what came of them."""
    meta = [row for row in ROWS if row.location.startswith("https://dl.fbaipublicfiles.com/convnext/convnext_")]
    assert len([row for row in meta if "iso" not in row.location]) == 24
    assert len([row for row in meta if "iso" in row.location]) == 3
    assert len([row for row in ROWS if row.name.endswith(".fcmae")]) == 8
    assert len([row for row in ROWS if row.model.startswith("convnextv2_") and row.num_classes == 1000]) == 18
    assert len([row for row in ROWS if "dinov3" in row.name]) == 4
    assert len([row for row in ROWS if row.name.split(".")[1].startswith("tv_")]) == 4


@pytest.mark.parametrize(
    ("name", "size", "resize", "top1"),
    [
        ("convnext_tiny.fb_in22k_ft_in1k", 224, "crop", 82.9),  # 78.95 at 288
        ("convnext_tiny.fb_in1k", 224, "crop", 82.066),
        ("convnext_base.fb_in1k_384", 384, "warp", 85.1),
        ("convnext_xlarge.fb_in22k_ft_in1k_384", 384, "warp", 87.764),
        ("convnext_isotropic_small.fb_in1k", 224, "crop", 78.7),  # the paper prints 79.7
        ("convnextv2_huge.fcmae_ft_in22k_in1k_512", 512, "warp", 88.86),
        ("convnext_large.tv_in1k", 224, "crop", 84.414),
        ("convnext_nano.r384_in12k_ft_in1k", 384, "crop", 83.334),
    ],
)
def test_where_accuracy_holds(name: str, size: int, resize: str, top1: float) -> None:
    row = find(name)
    assert (row.input.size, row.input.resize, row.top1) == (size, resize, top1)


def test_torchvisions_are_resized_as_there() -> None:
    """Its presets resize to 236, 230, 232 and 232, bilinear, then crop 224."""
    rows = [find(f"convnext_{size}.tv_in1k") for size in ("tiny", "small", "base", "large")]
    assert [int(row.input.size / row.input.crop_ratio) for row in rows] == [236, 230, 232, 232]
    assert {row.input.interpolation for row in rows} == {"bilinear"}


def test_every_published_address_is_there() -> None:
    """Each address and hub id of the shared facts."""
    file = FACTS / "models.yaml"
    if not file.is_file():
        pytest.skip(f"{file} is not here: the published facts lie beside the project's root")
    text = file.read_text()
    urls = set(re.findall(r"https://[^\s'\",}]+\.pth?\b", text))
    hubs = {f"hf-hub:{name}" for name in re.findall(r"hf_hub_id: ([^,}\s]+)", text)}
    places = {place for row in ROWS for place in (row.location, *row.also)}
    assert len(urls) > 50
    assert len(hubs) > 90
    assert urls | hubs <= places


def test_licences() -> None:
    free = set(convnext.list_models(commercial=True))
    bound = set(convnext.list_models(commercial=False))
    assert free | bound == set(convnext.list_models(pretrained=True)) == set(catalog())
    assert not free & bound
    assert all(name.startswith("convnextv2_") or "eupe" in name for name in bound)
    assert not any(name.startswith("convnextv2_") for name in free)


def test_finding() -> None:
    assert [row.name for row in list_weights(model="convnext_base", commercial=True)][:2] == [
        "convnext_base.fb_in1k",
        "convnext_base.fb_in1k_no_ema",
    ]
    with pytest.raises(UserError, match=r"no published weights 'convnext_tiny\.fb_in2k'.*convnext_tiny\.fb_in"):
        find("convnext_tiny.fb_in2k")
    with pytest.raises(UserError, match=r"is an architecture.*convnext_tiny\.fb_in1k, "):
        find("convnext_tiny")
    url = "https://dl.fbaipublicfiles.com/convnext/convnext_tiny_22k_1k_384.pth"
    for place in (url, "convnext_tiny_22k_1k_384.pth", "hf-hub:timm/convnext_tiny.fb_in22k_ft_in1k_384"):
        row = at_location(place)
        assert row is not None
        assert row.name == "convnext_tiny.fb_in22k_ft_in1k_384"
    assert at_location("model.safetensors") is None
    assert at_location("hf-hub:someone/else") is None


def test_a_row_can_be_built() -> None:
    """Headless encoders and every number of classes."""
    for name in ("convnextv2_atto.fcmae", "convnext_base.clip_laion2b", "convnext_tiny.fb_in22k"):
        with torch.device("meta"):
            assert create_model(find(name).model, num_classes=find(name).num_classes).num_classes in (0, 640, 21841)


def test_what_training_on_photos_best_starts_from() -> None:
    for model in ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large", "convnext_xlarge"):
        row = best_start(model, commercial=True)
        assert row is not None
        assert (row.name, row.trained_on) == (f"{model}.fb_in22k", "ImageNet-22K")
    nano = best_start("convnext_nano", commercial=True)
    assert nano is not None
    assert nano.trained_on == "ImageNet-12K"
    assert best_start("convnextv2_tiny", commercial=True) is None
    free = best_start("convnextv2_atto", commercial=False)
    assert free is not None
    assert free.num_classes  # not the encoder alone
    assert best_start("swin_tiny", commercial=False) is None
    for row in list_weights():
        found = best_start(row.model, commercial=True)
        assert found is None or found.commercial
