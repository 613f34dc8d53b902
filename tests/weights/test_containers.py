"""Checkpoints as trainings leave them: averages, wrappers, shards, what is beside the weights, what is no weights."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from convnext.core.errors import UserError
from convnext.weights.containers import contents
from convnext.weights.files import read_contents
from convnext.weights.formats import official
from convnext.weights.locate import locate, split_choice
from convnext.weights.prefixes import without_prefixes

FIRST = "downsample_layers.0.0.weight"
STATE = {FIRST: torch.ones(4, 3, 4, 4), "stages.0.0.gamma": torch.ones(4), "norm.weight": torch.ones(4)}


def named(prefix: str, state=None) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in (state or STATE).items()}


@pytest.mark.parametrize(
    "prefix",
    [
        "model.",
        "net.backbone.",
        "module.",
        "_orig_mod.",
        "model._orig_mod.",
        "module._orig_mod.model.",
        "a.b.c.d.",
        "0.",
    ],
)
def test_any_one_prefix_is_taken_off(prefix):
    for loaded in (named(prefix), {"state_dict": named(prefix), "epoch": 3}):
        assert list(contents(loaded, "f").state) == list(STATE)


def test_wrappers_inside_of_names():
    inner = {"stages.0._orig_mod.0.gamma": torch.ones(4), "stages._fsdp_wrapped_module.0.module.1.gamma": torch.ones(4)}
    state = {FIRST: STATE[FIRST], **inner}
    assert list(contents(state, "f").state) == [FIRST, "stages.0.0.gamma", "stages.0.1.gamma"]


def test_prefixes_that_say_what_a_file_is_stay():
    detector = {**named("backbone."), "rpn_head.rpn_conv.weight": torch.ones(2)}
    assert list(without_prefixes(detector)[0]) == list(detector)
    assert list(without_prefixes(named("model.", detector))[0]) == list(detector)
    tower = {**named("visual.trunk."), "text.weight": torch.ones(2)}
    assert without_prefixes(named("clip.", tower))[:2] == (tower, "'clip.'")


def test_parts_of_a_training_are_left_out_and_said():
    for prefix in ("model.", "net.backbone.", "module.model."):
        found = contents({**named(prefix), "criterion.weight": torch.ones(2)}, "f")
        assert (list(found.state), found.notes[-1]) == (
            list(STATE) if prefix != "net.backbone." else list(named("backbone.")),
            "tensors outside of the model are left out: 1, as criterion.weight",
        )


@pytest.mark.parametrize("count", [0, torch.tensor(0)])
def test_an_average_of_nothing_yet_is_not_taken(count):
    """SWA that had not begun: its weights are those of before the training."""
    swa = {"n_averaged": count, **named("module.", {name: 0 * value for name, value in STATE.items()})}
    found = contents({"state_dict": STATE, "swa_model": swa}, "f")
    assert torch.equal(found.state["norm.weight"], STATE["norm.weight"])
    assert "'state_dict' is taken" in found.notes[0]
    assert found.notes[0].endswith("'swa_model' (an average of nothing yet)")
    begun = contents({"state_dict": STATE, "swa_model": {**swa, "n_averaged": count + 1}}, "f")
    assert not begun.state["norm.weight"].any()


def test_a_model_inside_of_another_is_found():
    """Somebody's own head on a backbone: the layers are read, the head is named as left."""
    timm = {"stem.0.weight": torch.ones(4, 3, 4, 4), "stages.0.blocks.0.conv_dw.weight": torch.ones(4, 1, 7, 7)}
    for state in (STATE, timm):
        given = official(contents({**named("net.backbone.", state), "net.fc.weight": torch.ones(2)}, "f").state)
        assert FIRST in given.state
        assert given.left == ("fc.weight",)
    flat = {"stem_0.weight": torch.ones(4, 3, 4, 4), "stages_0.blocks.0.conv_dw.weight": torch.ones(4, 1, 7, 7)}
    assert set(official(contents(flat, "f").state).state) == {FIRST, "stages.0.0.dwconv.weight"}
    maps = {**STATE, "norm0.weight": torch.ones(4)}
    for prefix in ("", "backbone.", "a.b."):
        given = official(contents(named(prefix, maps), "f").state)
        assert (set(given.state), given.left) == (set(STATE), ("norm0.weight",))


def average_of(state):
    return {name: value + 1 for name, value in state.items()}


@pytest.mark.parametrize(
    "key",
    [
        "model_ema",
        "state_dict_ema",
        "ema",
        "ema_state_dict",
        "params_ema",
        "EMA",
        "emaModel",
        "swa_model",
        "avg",
        "polyak",
    ],
)
def test_the_average_is_taken_and_said_and_another_can_be_chosen(key):
    average = average_of(STATE)
    loaded = {"state_dict": STATE, key: average, "optimizer": {"state": {}, "param_groups": []}, "epoch": 2}
    found = contents(loaded, "f")
    assert torch.equal(found.state[FIRST], average[FIRST])
    assert found.notes == [
        f"of 2 states in the file, '{key}' (the average of the weights) is taken; FILE#NAME takes another: 'state_dict'"
    ]
    for which in ("state_dict", "raw"):
        assert torch.equal(contents(loaded, "f", which=which).state[FIRST], STATE[FIRST])
    for which in (key, "ema"):
        assert torch.equal(contents(loaded, "f", which=which).state[FIRST], average[FIRST])
    with pytest.raises(UserError, match=r"no model weights called 'state_dic'.*Did you mean 'state_dict'"):
        contents(loaded, "f", which="state_dic")


@pytest.mark.parametrize("key", ["schema", "remapped", "model_best"])
def test_names_that_are_no_averages(key):
    found = contents({"state_dict": STATE, key: average_of(STATE)}, "f")
    assert torch.equal(found.state[FIRST], STATE[FIRST])
    assert "'state_dict' is taken" in found.notes[0]


def test_networks_side_by_side_in_one_state():
    flat = {**named("model."), **named("ema_model.module.", average_of(STATE)), "criterion.weight": torch.ones(2)}
    for loaded, outer in ((flat, ""), ({"state_dict": flat, "epoch": 1}, "state_dict.")):
        found = contents(loaded, "f")
        assert found.state[FIRST].max() == 2
        assert (
            f"'{outer}ema_model.module' (the average" in found.notes[0] or f"'{outer}ema_model' (the" in found.notes[0]
        )
        assert found.notes[-1] == "tensors outside of the model are left out: 1, as criterion.weight"
        assert contents(loaded, "f", which="model").state[FIRST].max() == 1
        assert contents(loaded, "f", which="raw").state[FIRST].max() == 1
    itself = {**STATE, **named("ema.", average_of(STATE))}
    assert contents({"state_dict": itself}, "f").state[FIRST].max() == 2
    assert list(contents({"state_dict": itself}, "f", which="raw").state) == list(STATE)


def test_two_models_of_which_nothing_says_which_is_meant():
    loaded = {"student": named("net."), "teacher": named("net.", average_of(STATE))}
    with pytest.raises(UserError, match=r"^f holds 2 models\. Say which: FILE#student or FILE#teacher\.$"):
        contents(loaded, "f")
    assert contents(loaded, "f", which="teacher").state[FIRST].max() == 2
    with pytest.raises(UserError, match="several model weights called 'raw'"):
        contents(loaded, "f", which="raw")


def test_averages_that_other_libraries_keep_under_plain_names():
    lightning = {"state_dict": average_of(STATE), "current_model_state": STATE, "averaging_state": {"n_averaged": 3}}
    mmengine = {"state_dict": average_of(STATE), "ema_state_dict": {**named("module."), "steps": torch.tensor(3)}}
    for loaded in (lightning, {**mmengine, "message_hub": {}}, {**mmengine, "meta": {"mmengine_version": "0.10.4"}}):
        found = contents(loaded, "f")
        assert found.state[FIRST].max() == 2
        assert "'state_dict' (the average of the weights) is taken" in found.notes[0]
        assert contents(loaded, "f", which="raw").state[FIRST].max() == 1
    assert contents(mmengine, "f").state[FIRST].max() == 1  # another library's: its name is what it is


def test_averaged_model_of_torch(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3))
    averaged = torch.optim.swa_utils.AveragedModel(model)
    torch.save(averaged.state_dict(), tmp_path / "swa.pth")
    found = read_contents(tmp_path / "swa.pth")
    assert sorted(found.state) == ["0.bias", "0.weight"]
    assert found.notes[0] == "the file holds the average of the weights over 0 updates"
    nested = {"model": STATE, "second": {"n_averaged": torch.tensor(4), **named("module.", average_of(STATE))}}
    assert contents(nested, "f").state[FIRST].max() == 2


def test_lists_and_deep_nesting():
    assert list(contents([STATE, {"state": {0: {"step": torch.ones(1)}}, "param_groups": []}], "f").state) == list(
        STATE
    )
    assert list(contents({"checkpoint": {"model": {"state_dict": STATE}}, "cfg": {}}, "f").state) == list(STATE)
    odd = contents({**STATE, "version": 3, "extra": {"a": 1}}, "f")
    assert (list(odd.state), odd.notes) == (list(STATE), ["entries that are no weights are left out: 2, as version"])


def test_names_are_printed_safely():
    notes = contents({**named("a\x1b[31m."), "loss\x07": 3}, "f").notes
    assert all(note.isprintable() for note in notes)


def test_one_file_with_several_states_by_name(tmp_path, capsys):
    path = tmp_path / "c.pth"
    torch.save({"model": STATE, "model_ema": {name: value * 2 for name, value in STATE.items()}}, path)
    assert locate(path).state[FIRST].max() == 2
    assert "'model_ema' (the average of the weights) is taken" in capsys.readouterr().err
    assert locate(f"{path}#model").state[FIRST].max() == 1


def test_what_is_kept_beside_weights(tmp_path):
    beside = {"best": np.float64(0.5), "n": np.int64(3), "path": pathlib.Path("a/b"), "history": np.arange(3.0)}
    torch.save({"state_dict": STATE, **beside}, tmp_path / "c.pth")
    assert list(read_contents(tmp_path / "c.pth").state) == list(STATE)
    torch.save({name: value.numpy() for name, value in STATE.items()}, tmp_path / "n.pth")
    assert torch.equal(read_contents(tmp_path / "n.pth").state[FIRST], STATE[FIRST])


def test_weights_that_are_not_finite(tmp_path):
    broken = {**STATE, "head.weight": torch.tensor([[1.0, float("nan")], [float("inf"), 0.0]])}
    torch.save(broken, tmp_path / "c.pth")
    save_file(broken, tmp_path / "c.safetensors")
    for name in ("c.pth", "c.safetensors"):
        with pytest.raises(UserError, match=r"not finite: 2 of 4 in head\.weight"):
            read_contents(tmp_path / name)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.ones(2, 2).to_sparse(), "sparse"),
        (torch.ones(2, dtype=torch.complex64), "complex"),
        (torch.ones(2, device="meta"), r"empty \(meta\)"),
    ],
)
def test_tensors_that_are_no_plain_numbers(tmp_path, value, kind):
    torch.save({**STATE, "head.weight": value}, tmp_path / "c.pth")
    with pytest.raises(UserError, match=rf"holds {kind} tensors, as head\.weight"):
        read_contents(tmp_path / "c.pth")


def test_weights_that_lie_elsewhere(tmp_path):
    torch.save({"module": {name: torch.zeros(0) for name in STATE}}, tmp_path / "c.pth")
    with pytest.raises(UserError, match=r"3 tensors without values, as downsample.*ZeRO-3"):
        read_contents(tmp_path / "c.pth")


def test_a_few_bits_are_finite_too(tmp_path):
    torch.save({name: value.to(torch.float8_e4m3fn) for name, value in STATE.items()}, tmp_path / "c.pth")
    assert list(read_contents(tmp_path / "c.pth").state) == list(STATE)


def test_which_state_is_kept_in_the_recipe_with_its_path(tmp_path, monkeypatch):
    """FILE#NAME is found from any folder, as FILE is; a file of that very name comes first."""
    torch.save({"model": STATE, "model_ema": average_of(STATE)}, tmp_path / "c.pth")
    monkeypatch.chdir(tmp_path)
    assert split_choice("c.pth#model") == ("c.pth", "model")
    assert locate("c.pth#model").state[FIRST].max() == 1
    torch.save(average_of(average_of(STATE)), tmp_path / "c.pth#model")
    assert split_choice("c.pth#model") == ("c.pth#model", "")
    assert locate("c.pth#model").state[FIRST].max() == 3
    with pytest.raises(UserError, match=r"no model weights called 'none'\..*It holds 'model', 'model_ema'"):
        _ = locate("c.pth#none").state
    with pytest.raises(UserError, match="There is no model at"):
        locate("none.pth#model")
