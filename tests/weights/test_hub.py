"""Files of the hub, from a hub on this machine that is whole, gated, broken, silent or gone."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from convnext.core.errors import UserError
from convnext.weights import hub
from convnext.weights.hub import hub_file, hub_weights, parse_hub_id
from convnext.weights.locate import locate
from convnext.weights.sharded import INDEXES
from server import Server, hangs, status, whole

REPO = "owner/convnext_tiny.in1k"
ONE, TWO = "1" * 40, "2" * 40
CONFIG = {"architecture": "convnext_tiny", "num_classes": 3}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A hub, in place of the real one, and an empty cache."""
    import huggingface_hub
    from huggingface_hub import constants

    for name in ("CONVNEXT_OFFLINE", "HF_HUB_OFFLINE", "HF_HUB_ETAG_TIMEOUT", "HF_TOKEN", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with Server() as server:
        endpoint = server.url("")
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        yield server
        huggingface_hub.close_session()


def path_of(file: str, revision: str = "main") -> str:
    return f"/{REPO}/resolve/{revision}/{file}"


def put(server: Server, file: str, data: bytes, commit: str = ONE) -> None:
    """A file of the hub's model, on its main branch and under its commit."""
    step = whole(data, etag=f'"{commit[0]}-{file}"', extra={"X_Repo_Commit": commit})
    for revision in ("main", commit):
        server.at(path_of(file, revision), step)


def lacks(server: Server, *files: str, code: str | None = "EntryNotFound") -> None:
    for file in files:
        for revision in ("main", ONE):
            server.at(path_of(file, revision), status(404, X_Error_Code=code, X_Repo_Commit=ONE))


@pytest.fixture
def model(server):
    """A whole model on the hub."""
    put(server, "model.safetensors", b"weights")
    put(server, "config.json", json.dumps(CONFIG).encode())
    return server


# names


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("hf-hub:timm/convnext_tiny.fb_in1k", ("timm/convnext_tiny.fb_in1k", "main")),
        (
            "hf-hub:laion/CLIP-convnext_base_w-laion2B-s13B-b82K@v1.0",
            ("laion/CLIP-convnext_base_w-laion2B-s13B-b82K", "v1.0"),
        ),
        ("hf-hub:a/b@refs/pr/1", ("a/b", "refs/pr/1")),
        (f"hf-hub:_a/b_@{ONE}", ("_a/b_", ONE)),
    ],
)
def test_parse(text, parsed):
    assert parse_hub_id(text) == parsed


@pytest.mark.parametrize(
    "text",
    [
        *("", "a/b", "hf_hub:a/b", "hf-hub:", "hf-hub:name", "hf-hub:/name", "hf-hub:owner/", "hf-hub:a/b/c"),
        *("hf-hub:../etc", "hf-hub:a/..", "hf-hub:a/b--c", "hf-hub:a/b.git", "hf-hub:.a/b", "hf-hub:a/b."),
        *("hf-hub:a/b?", "hf-hub:ä/b", "hf-hub:a/b\n", "hf-hub: a/b", "hf-hub:a/" + "b" * 95),
        *("hf-hub:a/b@", "hf-hub:a/b@../../x", "hf-hub:a/b@-x", "hf-hub:a/b@x\x1b", "hf-hub:a/b@x@y"),
        "hf-hub:https://huggingface.co/a/b",
    ],
)
def test_parse_refuses(text):
    with pytest.raises(UserError, match=r"is no (model of the hub: .*owner/name|revision of )") as caught:
        parse_hub_id(text)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["", "../x", "/etc/passwd", "a/../../b", "a\\b", "a\x00", ".git/config"])
def test_files_that_lead_astray(server, file):
    with pytest.raises(UserError, match="is no file of"):
        hub_file(REPO, file)
    assert server.seen == []


# what there is


def test_a_file(model, tmp_path):
    path = hub_file(REPO, "model.safetensors")
    assert path.read_bytes() == b"weights"
    assert path.is_relative_to(tmp_path / "hub")


def test_weights_and_config(model):
    path, config = hub_weights(REPO)
    assert path.read_bytes() == b"weights"
    assert config == CONFIG


def test_a_revision(model):
    path, config = hub_weights(REPO, revision=ONE)
    assert (path.read_bytes(), config) == (b"weights", CONFIG)
    asked = len(model.seen)
    assert hub_weights(REPO, revision=ONE) == (path, config)
    assert len(model.seen) == asked  # a commit does not change: the cache is enough


def test_weights_and_config_are_of_one_commit(model):
    """Even where the model changes between the two."""
    both = model.behaviours[path_of("config.json", ONE)]
    put(model, "config.json", b'{"architecture": "convnext_base"}', TWO)
    model.behaviours[path_of("config.json", ONE)] = both
    assert hub_weights(REPO)[1] == CONFIG


def test_a_newer_file_is_noticed(model):
    hub_weights(REPO)
    put(model, "model.safetensors", b"better weights", TWO)
    put(model, "config.json", b"{}", TWO)
    path, config = hub_weights(REPO)
    assert (path.read_bytes(), config) == (b"better weights", {})


@pytest.mark.parametrize("code", ["EntryNotFound", None])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_kinds_of_weights_in_order(server, number, code):
    """The first there is, on a hub and on a mirror that gives no codes."""
    lacks(server, "config.json", *hub.WEIGHTS[:number], code=code)
    for name in hub.WEIGHTS[number:]:
        put(server, name, name.encode())
    path, config = hub_weights(REPO)
    assert path.name == hub.WEIGHTS[number]
    assert path.read_bytes() == hub.WEIGHTS[number].encode()
    assert config == {}


def test_no_weights(server):
    lacks(server, *hub.WEIGHTS, *INDEXES)
    with pytest.raises(UserError, match=rf"{REPO} on the hub has no weights that are read here \(model.safetensors, "):
        hub_weights(REPO)


def test_sharded_weights(server, tmp_path):
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"weight_map": {"norm.weight": names[0], "norm.bias": names[1]}}
    lacks(server, *hub.WEIGHTS)
    put(server, INDEXES[0], json.dumps(index).encode())
    put(server, "config.json", json.dumps(CONFIG).encode())
    for name, tensor in zip(names, index["weight_map"], strict=True):
        save_file({tensor: torch.ones(2)}, tmp_path / "part")
        put(server, name, (tmp_path / "part").read_bytes())
    file = locate(f"hf-hub:{REPO}")
    assert (file.file.name, file.config) == (INDEXES[0], CONFIG)
    assert sorted(file.state) == ["norm.bias", "norm.weight"]


def test_sharded_weights_stay_in_their_model(server):
    lacks(server, *hub.WEIGHTS)
    put(server, INDEXES[0], b'{"weight_map": {"norm.weight": "../../x"}}')
    with pytest.raises(UserError, match="which is no file beside it"):
        hub_weights(REPO)


def test_no_file(server):
    lacks(server, "labels.txt")
    with pytest.raises(UserError, match=rf"{REPO} on the hub has no file labels.txt: https://.*/{REPO}/tree/main"):
        hub_file(REPO, "labels.txt")


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff", b""])
def test_damaged_config(model, text):
    put(model, "config.json", text)
    with pytest.raises(UserError, match=rf"config\.json, of {REPO} on the hub, is damaged: delete it"):
        hub_weights(REPO)


# what there is not

ERRORS = [
    (
        status(403, X_Error_Code="GatedRepo"),
        rf"is gated: accept its licence on https://huggingface.co/{REPO}, .*HF_TOKEN",
    ),
    (status(401, X_Error_Code="GatedRepo"), "is gated: accept its licence"),
    (status(404, X_Error_Code="RepoNotFound"), rf"There is no {REPO} on the hub, or it is private"),
    (status(404, X_Error_Code="RevisionNotFound"), "on the hub has no revision 'main'"),
    (status(401, X_Error_Message="Invalid credentials in Authorization header"), "status 401 .*is HF_TOKEN right"),
    (status(403), "status 403"),
    (status(403, X_Error_Message="Access to this resource is disabled."), "status 403"),
    (status(429), "status 429 .*wait a little"),
    (status(500), "status 500 .*try again later"),
    (status(503), "status 503 .*try again later"),
    (
        status(200, b"<html>login</html>", Content_Type="text/html"),
        "The hub is not reached .*a network that wants a login",
    ),
    (status(302, Location="https://192.0.2.1/login"), "The hub is not reached .*a network that wants a login"),
    (hangs, r"The hub is not reached for .* \(ReadTimeout"),
    (lambda call: call.cut(), "The hub is not reached for"),
]


@pytest.mark.parametrize(("behaviour", "message"), ERRORS)
def test_errors(server, monkeypatch, behaviour, message):
    monkeypatch.setattr(hub, "_TIMEOUT", 0.1)
    server.at(path_of("model.safetensors"), behaviour)
    with pytest.raises(UserError, match=message) as caught:
        hub_weights(REPO)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 330


@pytest.mark.parametrize(("behaviour", "message"), ERRORS)
def test_the_cache_helps_and_says_so(model, monkeypatch, capsys, behaviour, message):
    monkeypatch.setattr(hub, "_TIMEOUT", 0.1)
    path, config = hub_weights(REPO)
    model.at(path_of("model.safetensors"), behaviour)
    assert hub_weights(REPO) == (path, config)
    said = capsys.readouterr().err
    assert said.endswith("The copy of model.safetensors in the hub's cache is used.\n")


def test_nobody_listens(server, monkeypatch):
    server.close()
    monkeypatch.setattr("time.sleep", pytest.fail)  # told at once, without new attempts
    with pytest.raises(UserError, match=r"The hub is not reached for .* \(ConnectError.*refused"):
        hub_file(REPO, "model.safetensors")


def test_an_old_tag_that_is_gone(server):
    server.at(path_of("model.safetensors", "v0"), status(404, X_Error_Code="RevisionNotFound"))
    with pytest.raises(UserError, match=r"has no revision 'v0': https://huggingface.co/.*/commits/main"):
        hub_file(REPO, "model.safetensors", revision="v0")


def test_disk_full(model, monkeypatch):
    import huggingface_hub

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(UserError, match=r"The disk is full: make room for .* HF_HUB_CACHE"):
        hub_file(REPO, "model.safetensors")


def test_a_cache_that_cannot_be_written(model, monkeypatch, tmp_path):
    (tmp_path / "hub").write_text("")
    with pytest.raises(UserError, match=r"cannot be stored .* HF_HUB_CACHE sets another folder"):
        hub_file(REPO, "model.safetensors")


def test_errors_of_the_program_stay_as_they_are(model, monkeypatch):
    import huggingface_hub

    def wrong(*args, **options):
        raise TypeError("a mistake of ours")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", wrong)
    with pytest.raises(TypeError, match="a mistake of ours"):
        hub_file(REPO, "model.safetensors")


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="pip install huggingface_hub"):
        hub_file(REPO, "model.safetensors")


# offline


@pytest.mark.parametrize("name", ["CONVNEXT_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(model, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(UserError, match=rf"model\.safetensors of {REPO} on the hub is not in .* {name} is set"):
        hub_file(REPO, "model.safetensors")
    with pytest.raises(UserError, match=rf"No weights of {REPO} on the hub are in the hub's cache, and {name} is set"):
        hub_weights(REPO)
    monkeypatch.delenv(name)
    online = hub_weights(REPO)
    asked = len(model.seen)
    monkeypatch.setenv(name, "1")
    assert hub_weights(REPO) == online
    assert hub_file(REPO, "model.safetensors") == online[0]
    assert len(model.seen) == asked


def test_offline_without_the_config(model, monkeypatch, capsys):
    path = hub_file(REPO, "model.safetensors")
    monkeypatch.setenv("CONVNEXT_OFFLINE", "1")
    assert hub_weights(REPO) == (path, {})
    assert "config.json of owner/convnext_tiny.in1k is not in the hub's cache" in capsys.readouterr().err


def test_another_timeout_by_the_hubs_own_variable(model, monkeypatch):
    """Slow networks set it for every program."""
    import huggingface_hub

    given, real = [], huggingface_hub.get_hf_file_metadata
    monkeypatch.setattr(
        huggingface_hub, "get_hf_file_metadata", lambda url, timeout: (given.append(timeout), real(url))[1]
    )
    hub_file(REPO, "model.safetensors")
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "30")
    hub_file(REPO, "model.safetensors")
    assert given == [hub._TIMEOUT, 30]
