"""Files of models on the Hugging Face hub, through huggingface_hub and in its cache.

HF_TOKEN or `hf auth login` for gated and private models, HF_ENDPOINT for a mirror, HF_HUB_CACHE for another folder:
all that works as everywhere. CONVNEXT_OFFLINE=1 or HF_HUB_OFFLINE=1: only what is in that cache is used.
Weights are read from one file, or from several with an index ("sharded").
"""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.core.network import NotReached, offline
from convnext.weights.sharded import INDEXES, shard_names

PREFIX = "hf-hub:"
# transformers' and timm's name; OpenCLIP's; and, a pickle, what was written before safetensors
WEIGHTS = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
# Seconds that the hub may take to say what it has. huggingface_hub itself tries for minutes where there is no network.
_TIMEOUT = 5.0
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REPO = re.compile(rf"(?!.*(?:--|\.\.)){_NAME}/{_NAME}(?<!\.git)")
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]*")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_COMMIT = re.compile("[0-9a-f]{40}")


def parse_hub_id(text: str) -> tuple[str, str]:
    """The repository and revision in `hf-hub:owner/name` (revision "main") or `hf-hub:owner/name@revision`.

    Raises UserError for anything else.
    """
    repo, at, revision = text.removeprefix(PREFIX).partition("@")
    if not text.startswith(PREFIX) or (at and not revision):
        raise UserError(f"{text!r} is no model of the hub: {PREFIX}owner/name or {PREFIX}owner/name@revision is one.")
    revision = revision or "main"
    _check(repo, revision)
    return repo, revision


def hub_file(repo: str, file: str, *, revision: str = "main") -> Path:
    """The local path of one file of a model on the hub, fetched at first use.

    repo: `owner/name`. revision: a branch, a tag or a commit. A commit that is in the cache needs no network; for the
    others the hub is asked whether there is a newer file, and where it cannot be reached the cached one is used, with a
    line that says so.

    Raises UserError where the model or file is not there or gated, or the hub cannot be reached.
    """
    found = _find(repo, file, revision)
    if found is None and (variable := offline()):
        raise UserError(
            f"{file} of {_where(repo, revision)} is not in the hub's cache, and {variable} is set. Unset it once to "
            f"download the file, or give the path of a copy from {_page(repo)}."
        )
    if found is None:
        raise UserError(f"{_where(repo, revision)} has no file {file}: {_files(repo, revision)} shows those it has.")
    return found


def hub_weights(repo: str, *, revision: str = "main") -> tuple[Path, dict[str, Any]]:
    """The file of weights of a model on the hub, and what its config.json holds ({} where it has none).

    The weights are the first there are of WEIGHTS, else an index of several files; all are of one commit. Raises
    UserError as `hub_file` does, and where the model has no weights that are read here.
    """
    weights = next((path for name in WEIGHTS if (path := _find(repo, name, revision))), None)
    weights = weights or _shards(repo, revision)
    if weights is None:
        message = _no_weights(repo, revision)
        raise NotReached(message, message.rstrip(".")) if offline() else UserError(message)
    commit = weights.parent.name if _COMMIT.fullmatch(weights.parent.name) else revision
    config = _find(repo, "config.json", commit)
    if config is None:
        if offline():
            say(f"The config.json of {repo} is not in the hub's cache: what it would say is not known.")
        return weights, {}
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise UserError(f"{config}, of {_where(repo, revision)}, is damaged: delete it, and it is downloaded again.")
    return weights, values


def _shards(repo: str, revision: str) -> Path | None:
    """The index of weights in several files, which are fetched too; None where there is none."""
    index = next((path for name in INDEXES if (path := _find(repo, name, revision))), None)
    if index is not None:
        commit = index.parent.name if _COMMIT.fullmatch(index.parent.name) else revision
        for name in shard_names(index):
            hub_file(repo, name, revision=commit)
    return index


def _no_weights(repo: str, revision: str) -> str:
    where, names = _where(repo, revision), ", ".join(WEIGHTS)
    if variable := offline():
        return f"No weights of {where} are in the hub's cache, and {variable} is set. Unset it once to download them."
    return f"{where} has no weights that are read here ({names}): {_files(repo, revision)} shows its files."


def _find(repo: str, file: str, revision: str) -> Path | None:
    """The local path of a file, None where the model does not have it, or, offline, where the cache does not."""
    _check(repo, revision, file)
    try:
        import huggingface_hub as hub  # slow, and only needed here
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise UserError("Models of the hub need a library: `pip install huggingface_hub`.") from None

    known = hub.try_to_load_from_cache(repo, file, revision=revision)
    cached = Path(known) if isinstance(known, str) else None
    if offline() or (cached and _COMMIT.fullmatch(revision)):
        return cached
    timeout = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or _TIMEOUT)
    try:
        # asked first, since it gives up at once where hf_hub_download goes on trying
        found = hub.get_hf_file_metadata(hub.hf_hub_url(repo, file, revision=revision), timeout=timeout)
        if found.commit_hash is None:
            raise ConnectionError("what answers is no hub, but perhaps a network that wants a login")
        return Path(hub.hf_hub_download(repo, file, revision=revision, etag_timeout=timeout))
    except Exception as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            return None
        if type(error) is HfHubHTTPError and error.response.status_code == 404:
            return None  # a mirror that does not say what it is that it lacks
        problem = _problem(error, repo, revision)
        if not problem:
            raise
        if cached is None:
            raise (NotReached(problem, problem.rstrip(".")) if _of_the_network(error) else UserError(problem)) from None
        say(f"{problem} The copy of {file} in the hub's cache is used.")
        return cached


def _problem(error: Exception, repo: str, revision: str) -> str:
    """What huggingface_hub's error means and what to do, "" for one that is none of the hub, network or disk."""
    from huggingface_hub import errors

    where, page = _where(repo, revision), _page(repo)
    if isinstance(error, errors.GatedRepoError):
        login = "then log in with `hf auth login`, or set HF_TOKEN to a token of yours"
        return f"{where} is gated: accept its licence on {page}, {login}."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo} on the hub has no revision {revision!r}: {page}/commits/main shows those it has."
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"There is no {repo} on the hub, or it is private: look for {page}; private ones need HF_TOKEN."
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        hint = {401: "is HF_TOKEN right?", 403: "is HF_TOKEN right?", 429: "wait a little, or set HF_TOKEN."}
        return f"The hub answered with status {status} for {repo}: {hint.get(status, 'try again later.')}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full: make room for {where}, or set HF_HUB_CACHE to a folder on another one."
    if _of_the_network(error):
        reason = repr(f"{type(error).__name__}: {error}".splitlines()[0])[1:-1][:100]
        return f"The hub is not reached for {repo} ({reason}). Is there a network? HF_ENDPOINT sets a mirror."
    if isinstance(error, OSError):
        return f"{where} cannot be stored ({error.strerror or error}): HF_HUB_CACHE sets another folder."
    return ""


def _of_the_network(error: Exception) -> bool:
    """Whether the connection is to blame."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError, TimeoutError)):
        return True
    # the library that huggingface_hub talks through has changed three times, and its faster one is a part of its own
    libraries = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return not libraries.isdisjoint({"httpx2", "httpx", "requests", "hf_xet"})


def _check(repo: str, revision: str, file: str = "config.json") -> None:
    """Raises UserError for names that the hub does not give: some would lead out of its cache."""
    if not _REPO.fullmatch(repo) or len(repo) > 96:
        raise UserError(f"{repo!r} is no model of the hub: those are named owner/name, as timm/convnext_tiny.fb_in1k.")
    if not _REVISION.fullmatch(revision):
        raise UserError(f"{revision!r} is no revision of {repo}: a branch, a tag or a commit is needed, as main.")
    if not _FILE.fullmatch(file):
        raise UserError(f"{file!r} is no file of {repo}: a name is needed, as model.safetensors.")


def _where(repo: str, revision: str) -> str:
    return f"{repo} on the hub" + (f" at {revision}" if revision != "main" else "")


def _page(repo: str) -> str:
    return f"https://huggingface.co/{repo}"


def _files(repo: str, revision: str) -> str:
    return f"{_page(repo)}/tree/{revision}"
