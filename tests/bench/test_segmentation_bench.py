"""Segmenters beside each other: the same computation, the same work; and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convnext.bench import segmentation
from convnext.bench.engine.dense_results import DensePlan, Work
from convnext.bench.segmentation import SegmentationJob, config_of, load_shared, save_shared
from convnext.cli.main import main
from convnext.core.errors import UserError
from convnext.models.config import ModelConfig
from convnext.models.segmentation.config import SegmenterConfig, mlp

SIZE = (64, 96)
ATTO = ModelConfig("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), layer_scale_init_value=1.0)
PLAN = DensePlan(
    "a segmenter", SegmenterConfig(ATTO, 5, width=16, auxiliary_width=8), SIZE, batch=2, seconds=0.01, rounds=2
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scratch")
    save_shared(PLAN, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("work", ["inference", "train"])
def test_transformers_computes_the_same(work: Work, scratch: Path) -> None:
    pytest.importorskip("transformers")
    SegmentationJob(PLAN, "transformers", work, scratch).check()


@pytest.mark.slow
def test_another_computation_is_noticed(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    job = SegmentationJob(PLAN, "transformers", "inference", scratch)
    theirs = job._build_theirs()
    torch.nn.init.normal_(theirs.decode_head.classifier.weight)  # type: ignore[union-attr]
    monkeypatch.setattr(SegmentationJob, "_build_theirs", lambda _: theirs)
    with pytest.raises(UserError, match="not the same computation"):
        job.check()


def test_ours_is_folded_for_inference_and_has_the_common_weights(scratch: Path) -> None:
    ours, (folded, x, _) = (
        load_shared(PLAN, scratch),
        SegmentationJob(PLAN, "convnext", "inference", scratch).build_network(),
    )
    with torch.no_grad():
        torch.testing.assert_close(folded(x), ours(x), rtol=1e-4, atol=1e-4)
    assert config_of(PLAN).dropout == 0


@pytest.mark.parametrize("contestant", ["convnext", pytest.param("transformers", marks=pytest.mark.slow)])
def test_a_step_trains_everything_and_changes_nothing(contestant, scratch: Path) -> None:
    if contestant == "transformers":
        pytest.importorskip("transformers")
    job = SegmentationJob(PLAN, contestant, "train", scratch)
    module, x, forward = job.build_network()
    before = [value.detach().clone() for value in module.parameters()]
    loss = job.timed_call(module, forward(module, x), x.device)()
    assert loss.isfinite()
    assert all(value.grad is not None for value in module.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_what_transformers_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match="UPerNet on ConvNeXt V1 alone"):
        segmentation.measure(replace(PLAN, config=mlp(ATTO, num_classes=5)))


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    options = ["--height", "64", "--width", "64", "--works", "inference", "--rounds", "1", "--seconds", "0.01"]
    status = main(
        [
            "bench",
            "segmentation",
            "--model",
            "upernet_convnext_tiny",
            *options,
            "--threads",
            "1",
            "--out",
            str(tmp_path),
        ]
    )
    said = capsys.readouterr()
    assert status == 0, said.err
    assert "Ours in inference" in said.out
    page = (tmp_path / "segmentation.md").read_text()
    assert page.startswith("# UPerNet beside transformers'")
    entries = json.loads((tmp_path / "segmentation.json").read_text())["entries"]
    assert [entry["contestant"] for entry in entries] == ["convnext", "transformers"]
    assert all(entry["seconds"] for entry in entries)
