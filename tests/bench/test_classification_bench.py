"""The same model from each library, with the same weights; and what happens where it is not the same."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.callback import callback_handler

from convnext.bench import classification, classifiers
from convnext.bench.classification import ClassifierJob
from convnext.bench.engine.cells import LIBRARIES, Candidate, Cell, Library, Settings
from convnext.bench.engine.machine import INSTALL, installed_version
from convnext.bench.engine.parity import TOLERANCE, random_images, relative_difference
from convnext.bench.engine.timing import Deadline, GivenUp
from convnext.bench.engine.trial import Choice
from convnext.core.errors import UserError
from convnext.models.create import count_parameters

SETTINGS = Settings(size=64)


def job(library: Library, model: str, folder: Path, work="forward") -> ClassifierJob:
    return ClassifierJob(Cell(model, "float32", 1, work), SETTINGS, library, "eager", folder)


@pytest.mark.parametrize(
    ("library", "model"),
    [
        ("convnext", "convnext_atto"),
        ("convnext", "convnextv2_atto"),
        pytest.param("timm", "convnext_atto", marks=pytest.mark.slow),
        pytest.param("timm", "convnextv2_atto", marks=pytest.mark.slow),
        pytest.param("torchvision", "convnext_tiny", marks=pytest.mark.slow),
        pytest.param("timm", "convnext_atto_ols", marks=pytest.mark.slow),
        pytest.param("timm", "convnext_zepto_rms", marks=pytest.mark.slow),
        pytest.param("transformers", "convnext_atto", marks=pytest.mark.slow),
        pytest.param("transformers", "convnextv2_atto", marks=pytest.mark.slow),
    ],
)
def test_same_weights_same_logits(library: Library, model: str, tmp_path: Path) -> None:
    assert classifiers.offers(library, model)
    job(library, model, tmp_path).check()
    ours = classifiers.random_model(model, seed=0)
    theirs = classifiers.build(library, model, classifiers.random_model(model, seed=0))
    assert count_parameters(theirs) == count_parameters(ours)
    assert not theirs.training


@pytest.mark.slow
@torch.no_grad()
def test_every_tensor_matters() -> None:
    """The reference's weights hide nothing: whichever tensor is changed, the logits differ by more than the limit."""
    for model in ("convnext_atto", "convnextv2_atto"):
        ours, x = classifiers.random_model(model, seed=0), random_images((64, 64), 1, seed=0)
        expected = ours(x)
        for name, value in ours.named_parameters():
            kept = value.clone()
            value.copy_(kept.flip(0) * 1.1)
            assert relative_difference(ours(x), expected) > 3 * TOLERANCE, name
            value.copy_(kept)
        assert torch.equal(ours(x), expected)


@pytest.mark.slow
def test_memory_of_their_own() -> None:
    ours = classifiers.random_model("convnext_atto", seed=0)
    theirs = classifiers.build("timm", "convnext_atto", ours)
    places = {value.data_ptr() for value in ours.parameters()}
    assert not places & {value.data_ptr() for value in theirs.parameters()}
    assert all(value.is_contiguous() for value in theirs.parameters())


def test_seed() -> None:
    first, again, other = (classifiers.random_model("convnext_atto", seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not any(torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.slow
def test_another_computation_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two tensors of one shape taken for each other: nothing would be timed."""
    right = classifiers.state_in

    def swapped(library, state, config):
        renamed = right(library, state, config)
        a, b = "stages.0.blocks.0.norm.weight", "stages.0.blocks.1.norm.weight"
        return {**renamed, a: renamed[b], b: renamed[a]}

    monkeypatch.setattr(classifiers, "state_in", swapped)
    with pytest.raises(UserError, match=r"timm's convnext_atto with our weights differs from ours by .*--libraries"):
        job("timm", "convnext_atto", tmp_path).check()


@pytest.mark.parametrize("wrong", ["nan", "another shape"])
def test_a_result_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: str) -> None:
    class Wrong(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 1000 if wrong == "nan" else 10), float("nan"))

    monkeypatch.setattr(classifiers, "build", lambda *_: Wrong())
    with pytest.raises(UserError, match="not the same computation"):
        job("timm", "convnext_atto", tmp_path).check()


def test_a_candidate_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a compiler's mistake would have it: in one layout the model is right, in the other it is not."""
    right = ClassifierJob._inference

    def mistaken(self, module, x, candidate):
        call = right(self, module, x, candidate)
        return (lambda x: 1.001 * call(x)) if candidate.channels_last else call

    monkeypatch.setattr(ClassifierJob, "_inference", mistaken)
    settings = Settings(size=32, seconds=0.01)
    contestant = ClassifierJob(Cell("convnext_atto", "float32", 1, "forward"), settings, "convnext", "eager", tmp_path)
    contestant.build()
    choice = contestant.choose()
    assert choice.best == "NCHW"
    assert list(choice.tried) == ["NCHW"]
    assert "computes something else" in choice.failed["NHWC"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("work", ["forward", "train"])
@pytest.mark.parametrize("library", ["convnext", "timm"])
def test_eager_contestants_run(library: Library, work, dtype, tmp_path: Path) -> None:
    settings = Settings(size=32, seconds=0.01)
    contestant = ClassifierJob(Cell("convnextv2_atto", dtype, 2, work), settings, library, "eager", tmp_path)
    contestant.build()
    choice = contestant.choose()
    assert set(choice.tried) == {"NCHW", "NHWC"}
    assert choice.failed == {}
    assert choice.best == min(choice.tried, key=choice.tried.__getitem__)
    contestant.prepare(choice)
    assert contestant.slice() > 0


@pytest.mark.slow
@pytest.mark.parametrize("work", ["forward", "train"])
def test_a_contestant_that_takes_too_long_is_given_up(work, tmp_path: Path) -> None:
    cell, settings = Cell("convnext_atto", "float32", 2, work), Settings(size=32, seconds=0.01)
    contestant = ClassifierJob(cell, settings, "timm", "eager", tmp_path, max_seconds=1e-5)
    contestant.build()  # a first call may take longer
    with pytest.raises(GivenUp) as error:
        contestant.choose()
    assert error.value.seconds == 1e-5
    patient = replace(contestant, max_seconds=600.0)
    patient.build()
    assert set(patient.choose().tried) == {"NCHW", "NHWC"}


@pytest.mark.slow
@pytest.mark.parametrize("work", ["forward", "train"])
def test_a_compiler_is_waited_for(work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However little time a call has: what took it was not the call. What is compiled then takes too long by itself."""
    finished: list[str] = []
    compiled: list[str] = []
    monkeypatch.setattr(classification, "candidates_for", lambda *_: (Candidate(),))
    monkeypatch.setattr(classification, "FIRST_CALL_SECONDS", 3.0)
    small = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1000))
    monkeypatch.setattr(ClassifierJob, "_build_model", lambda _: small)
    cell, settings = Cell("convnext_atto", "float32", 2, work), Settings(size=32, seconds=0.01)
    contestant = ClassifierJob(cell, settings, "convnext", "compile", tmp_path, max_seconds=0.02)
    real = classification.compile_model

    def slow(module: nn.Module, candidate: Candidate):
        run = real(module, candidate)
        callback_handler.register_end_callback(lambda _: compiled.append("a graph"))

        def call(x: torch.Tensor) -> torch.Tensor:
            out = run(x)
            time.sleep(60)
            finished.append("a call")
            return out

        return call

    monkeypatch.setattr(classification, "compile_model", slow)
    torch._dynamo.reset()
    try:
        contestant.build()
        assert (compiled, finished) == (["a graph"], [])  # the backward pass is compiled when it runs
        with pytest.raises(GivenUp) as error:
            contestant.choose()
    finally:
        callback_handler.clear()
    assert error.value.seconds == 0.02


def test_a_backward_pass_is_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is one call of C++; an alarm that comes as it begins ends it before it has come to the first layer."""
    patience = Deadline(600.0, GivenUp(0.5))
    monkeypatch.setattr(classification, "time_limit", lambda *_, **__: patience)
    cell = Cell("convnext_atto", "float32", 2, "train")
    contestant = ClassifierJob(cell, Settings(size=32), "timm", "eager", tmp_path, max_seconds=0.5)
    model = nn.Sequential(*(nn.Linear(512, 512) for _ in range(20)))

    def step() -> torch.Tensor:
        out = model(torch.randn(4096, 512))
        out.register_hook(lambda _: signal.setitimer(signal.ITIMER_REAL, 0.001) and None)
        out.sum().backward()
        return out

    with pytest.raises(GivenUp):
        contestant._check_first_call(step)
    assert model[0].weight.grad is None


def test_the_memory_of_graphs_is_not_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A graph keeps memory that torch's account of a device leaves out."""
    monkeypatch.setattr(classification, "build_and_measure_memory", lambda *_, **__: (lambda: None, 7))
    monkeypatch.setattr(classification, "candidates_for", lambda *_: (Candidate(), Candidate(graphs=True)))
    contestant = job("convnext", "convnext_atto", tmp_path)
    assert contestant.prepare(Choice("NCHW", {"NCHW": 1.0}, {})) == 7
    assert contestant.prepare(Choice("NCHW graphs", {"NCHW graphs": 1.0}, {})) is None


def test_training_does_all_of_it(tmp_path: Path) -> None:
    """Each step gives every parameter a gradient of its own, not a sum over steps."""
    built: list[nn.Module] = []
    contestant = ClassifierJob(
        Cell("convnext_atto", "float32", 2, "train"), Settings(size=32, seconds=0.01), "convnext", "eager", tmp_path
    )
    original = contestant._build_model
    contestant._build_model = lambda: built.append(original()) or built[-1]  # type: ignore[method-assign]
    call = contestant._build_call(classification.candidates_for("eager", "train", "cpu")[0])
    call()
    first = [value.grad.clone() for value in built[0].parameters() if value.grad is not None]
    call()
    again = [value.grad for value in built[0].parameters() if value.grad is not None]
    assert len(first) == len(list(built[0].parameters()))
    assert all(relative_difference(a, b) < 1e-4 for a, b in zip(again, first, strict=True))
    assert built[0].training


def test_who_offers_what() -> None:
    table = {
        "convnext_tiny": LIBRARIES,
        "convnextv2_tiny": ("convnext", "timm", "transformers"),
        "convnext_atto": ("convnext", "timm", "transformers"),
        "convnext_atto_ols": ("convnext", "timm"),
        "convnext_tiny_hnf": ("convnext", "timm"),
        "convnext_xlarge": ("convnext", "timm", "transformers"),
        "dinov3_convnext_tiny": ("convnext",),
        "convnext_isotropic_small": ("convnext",),
    }
    assert {name: tuple(x for x in LIBRARIES if classifiers.offers(x, name)) for name in table} == table


def test_versions_are_found_without_importing() -> None:
    assert installed_version("timm") is not None
    assert set(classifiers.modules(LIBRARIES)) == {"timm.models", "torchvision.models", "transformers.models.convnext"}
    assert set(INSTALL) == set(LIBRARIES) - {"convnext"}


def test_difference_by_hand() -> None:
    assert relative_difference(torch.tensor([1.0, -3.5]), torch.tensor([1.0, -4.0])) == 0.125
    assert relative_difference(torch.zeros(2), torch.zeros(3)) == float("inf")
