"""The loop: it learns, accumulates exactly, clips in every precision, stops on a bad loss, and resumes to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import Colours, make_loop

from convnext.core.errors import UserError
from convnext.core.logs import read_log
from convnext.training.best import Best
from convnext.training.checkpoint import load_checkpoint, save_checkpoint
from convnext.training.config import LoopConfig, ScheduleConfig
from convnext.training.loop import Plan, make_plan


def weights(loop: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in loop.state.model.state_dict().items()}


def assert_equal_states(one: Any, two: Any) -> None:
    """Weights, average and both AdamW moments, bit for bit."""
    for name, value in weights(one).items():
        assert torch.equal(value, two.state.model.state_dict()[name]), name
        assert torch.equal(one.state.ema.shadow[name], two.state.ema.shadow[name]), name
    for key, value in one.state.optimizer.state_dict()["state"].items():
        for part, tensor in value.items():
            assert torch.equal(tensor, two.state.optimizer.state_dict()["state"][key][part]), (key, part)


def plan(images: int, batch: int, micro: int = 0, world: int = 1) -> Plan:
    loop = LoopConfig(global_batch=batch, micro_batch=micro)
    return make_plan(num_images=images, loop=loop, schedule=ScheduleConfig(2.0, 0.5), world_size=world)


def test_accumulation_follows_from_the_stated_global_batch() -> None:
    assert plan(1_281_167, 4096, 128, 8) == Plan(4096, 128, 4, 312, 156, 624)
    assert plan(1000, 256).accumulation == 1
    assert (plan(1000, 90, 32).micro_batch, plan(1000, 90, 32).accumulation) == (30, 3)  # equal parts, at most 32
    assert plan(10, 64).global_batch == 10  # fewer images than a batch: all of them
    with pytest.raises(UserError, match="cannot share"):
        plan(2, 64, world=4)


def test_it_learns_and_the_log_tells(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, epochs=8, drop_path_rate=0.0)
    loop.run()
    events = read_log(tmp_path / "log.jsonl")
    losses = [event["loss"] for event in events if event["event"] == "step"]
    assert len(losses) == loop.plan.total_steps == 32
    assert sum(losses[-4:]) < 0.6 * sum(losses[:4])
    assert {event["ema"] for event in events if event["event"] == "eval"} == {True, False}
    assert loop.state.best.goal > 0.6


def test_micro_batches_give_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    results = []
    for micro in (0, 4):
        loop = make_loop(tmp_path, micro_batch=micro, drop_path_rate=0.0)
        loop.state.step = 3  # past the first step's learning rate of 0
        batches = loop.task.batches(start_step=3, global_batch=16, micro_batch=loop.plan.micro_batch)
        loss, norm = loop.one_step(batches)
        results.append((loss, norm, weights(loop)))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])
    for name, value in results[0][2].items():
        torch.testing.assert_close(value, results[1][2][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_clipping_works_in_every_precision(tmp_path: Path, precision: str) -> None:
    loop = make_loop(tmp_path, precision=precision, clip_grad=1e-3)
    batches = loop.task.batches(start_step=0, global_batch=16, micro_batch=16)
    _, norm = loop.one_step(batches)
    clipped = torch.stack([p.grad.norm() for p in loop.state.model.parameters() if p.grad is not None]).norm()
    assert norm.item() > 1e-2
    assert clipped.item() == pytest.approx(1e-3, rel=1e-2)


def test_activation_checkpointing_changes_no_bit(tmp_path: Path) -> None:
    plain = make_loop(tmp_path)
    plain.run()
    saving = make_loop(tmp_path, activation_checkpointing=True)
    saving.run()
    assert_equal_states(plain, saving)


def test_figures_that_are_undefined_are_told_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As null in the log; and the last model is kept."""

    class Undefined(Colours):
        def evaluate(self, model: Any) -> dict[str, float | None]:
            return {"top1": None, "other": 0.5}

    kept: list[dict[str, Any]] = []
    loop = make_loop(tmp_path, task=Undefined())
    loop.keep = lambda weights, figures: kept.append(figures)
    loop.run()
    assert {event["top1"] for event in read_log(tmp_path / "log.jsonl") if event["event"] == "eval"} == {None}
    assert "top1 undefined, other 0.5" in capsys.readouterr().err
    assert [figures["top1"] for figures in kept] == [None] * len(kept)
    assert kept[-1]["step"] == loop.plan.total_steps
    assert "those of the last evaluation" in kept[-1]["chosen"]
    assert loop.state.best == Best(None, None, loop.plan.total_steps)


class Told(Colours):
    """Gives these figures, one evaluation after the other, twice each (the average has the same)."""

    def __init__(self, *figures: dict[str, float | None]) -> None:
        super().__init__()
        self.left = [entry for entry in figures for _ in range(2)]

    def evaluate(self, model: Any) -> dict[str, float | None]:
        return self.left.pop(0)


@pytest.mark.parametrize(
    ("figures", "step", "how"),
    [
        ([{"top1": 0.0}, {"top1": 0.0}, {"top1": 0.0}], 12, "last evaluation"),
        ([{"top1": None}, {"top1": 0.5}, {"top1": None}], 8, ""),
        ([{"top1": 0.0}, {"top1": 0.2}, {"top1": 0.2}], 8, ""),
        (
            [{"top1": None, "loss": 3.0}, {"top1": None, "loss": 1.0}, {"top1": 0.0, "loss": 2.0}],
            8,
            "lowest validation",
        ),
        ([{"top1": 0.5}, {"top1": float("nan")}, {"top1": 0.0}], 4, ""),
        ([{"top1": 0.5, "loss": 1.0}, {"top1": 0.4, "loss": 0.5}, {"top1": 0.3, "loss": 0.1}], 4, ""),
    ],
)
def test_an_undefined_goal_or_one_of_zero_freezes_no_weights(
    tmp_path: Path, figures: list[dict[str, float | None]], step: int, how: str
) -> None:
    kept: list[dict[str, Any]] = []
    loop = make_loop(tmp_path, task=Told(*figures))
    loop.keep = lambda weights, figures: kept.append(figures)
    loop.run()
    assert kept[-1]["step"] == step
    assert loop.state.best is not None
    assert how in loop.state.best.chosen("top1")
    assert bool(how) == ("chosen" in kept[-1])


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"top1": 0.9, "loss": float("nan")}, "validation loss is not a finite number"),
        ({"top1": 0.9, "loss": None}, "validation loss is not a finite number"),
        ({"top1": 0.9, "loss": 1.0, "invalid": 3}, "not finite numbers for 3"),
    ],
)
def test_weights_that_give_no_numbers_are_never_the_best(
    tmp_path: Path, broken: dict[str, float | None], words: str
) -> None:
    kept: list[dict[str, Any]] = []
    loop = make_loop(tmp_path, task=Told({"top1": 0.1, "loss": 2.0}, broken, broken))
    loop.keep = lambda weights, figures: kept.append(figures)
    with pytest.raises(UserError, match=rf"(?s){words}.*diverged.*step 4.*--optim\.lr"):
        loop.run()
    assert [figures["step"] for figures in kept] == [4]
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 4
    (note,) = [event for event in read_log(tmp_path / "log.jsonl") if event["event"] == "note"]
    assert note["warning"]


def test_weights_that_are_not_finite_are_not_even_evaluated(tmp_path: Path) -> None:
    loop = make_loop(tmp_path)
    with torch.no_grad():
        loop.state.model.head.bias.fill_(float("inf"))
        loop.state.ema.shadow["head.bias"].fill_(float("nan"))
    with pytest.raises(UserError, match=r"weights are not finite.*no weights were good enough"):
        loop.evaluate_and_save_best()


def test_the_best_so_far_survives_a_checkpoint_and_old_ones_are_read(tmp_path: Path) -> None:
    loop, path = make_loop(tmp_path), tmp_path / "last.pt"
    for best in (None, Best(0.5, 1.0, 3), Best(None, 1.0, 3)):
        loop.state.best = best
        save_checkpoint(path, loop.state, loop.sampler())
        other = make_loop(tmp_path)
        load_checkpoint(path, other.state, other.sampler())
        assert other.state.best == best
    content = torch.load(path, weights_only=True)
    for old, best in ((0.75, Best(0.75)), (0.0, Best()), (float("-inf"), None)):
        torch.save({**content, "best": old}, path)
        load_checkpoint(path, other.state, other.sampler())
        assert other.state.best == best


def test_a_bad_loss_stops_the_run_and_says_what_to_try(tmp_path: Path) -> None:
    class Broken(Colours):
        def losses(self, model: Any, batch: Any, *, step: int, micro: int) -> dict[str, Tensor]:
            factor = float("nan") if step == 5 else 1.0
            return {k: factor * v for k, v in super().losses(model, batch, step=step, micro=micro).items()}

    loop = make_loop(tmp_path, task=Broken())
    with pytest.raises(UserError, match=r"nan at step 6.*--optim.lr"):
        loop.run()
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert state["step"] == 4  # the checkpoint before it
    assert all(value.isfinite().all() for value in state["model"].values())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("stop", [4, 6], ids=["after an epoch", "in an epoch"])
def test_resume_is_exact_to_the_bit(tmp_path: Path, stop: int, optimizer: str) -> None:
    whole = make_loop(tmp_path, optimizer=optimizer)
    whole.run()

    first = make_loop(tmp_path, optimizer=optimizer)
    batches = first.task.batches(start_step=0, global_batch=16, micro_batch=16)
    for _ in range(stop):
        first.one_step(batches)
        first.state.step += 1
    save_checkpoint(tmp_path / "stopped.pt", first.state, first.sampler())

    second = make_loop(tmp_path, optimizer=optimizer)
    torch.manual_seed(999)  # whatever came before must not matter
    load_checkpoint(tmp_path / "stopped.pt", second.state, second.sampler())
    second.run()
    assert_equal_states(whole, second)


def test_without_the_generators_a_resume_would_differ(tmp_path: Path) -> None:
    """Drop path draws from the global generator: the test above can fail."""
    whole, other = make_loop(tmp_path), make_loop(tmp_path)
    whole.run()
    torch.manual_seed(999)
    other.run()
    assert not torch.equal(whole.state.model.head.weight, other.state.model.head.weight)


@pytest.mark.parametrize(("key", "value"), [("num_images", 65), ("global_batch", 8), ("seed", 3), ("total_steps", 13)])
def test_resuming_something_else_is_refused(tmp_path: Path, key: str, value: int) -> None:
    loop = make_loop(tmp_path)
    save_checkpoint(tmp_path / "last.pt", loop.state, loop.sampler())
    with pytest.raises(UserError, match=key):
        load_checkpoint(tmp_path / "last.pt", loop.state, {**loop.sampler(), key: value})


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "other"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    loop, path = make_loop(tmp_path), tmp_path / "last.pt"
    save_checkpoint(path, loop.state, loop.sampler())
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[:64] = bytes(64)
    path.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "text": b"hello"}.get(damage, data))
    if damage == "other":
        torch.save({"format": 99}, path)
    with pytest.raises(UserError, match=r"last\.pt"):
        load_checkpoint(path, loop.state, loop.sampler())


def test_a_kill_while_writing_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, path = make_loop(tmp_path), tmp_path / "last.pt"
    save_checkpoint(path, loop.state, loop.sampler())
    before = path.read_bytes()

    def half(content: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="space"):
        save_checkpoint(path, loop.state, loop.sampler())
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "log.jsonl"]
