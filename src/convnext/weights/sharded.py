"""Weights in several files: with an index beside them, as transformers and accelerate save large models; and the
folders that trainings on many devices leave (DeepSpeed, torch.distributed.checkpoint)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from convnext.core.console import few
from convnext.core.errors import UserError
from convnext.core.text import printable

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.safetensors|\.bin)")
_MOST_BYTES = 64 << 20
_MODEL_STATES = re.compile(r"(zero_pp_rank_\d+_)?mp_rank_(\d+)_model_states\.pt")
_OPTIM_STATES = re.compile(r"(bf16_)?zero_pp_rank_\d+_mp_rank_\d+_optim_states\.pt")
_WEIGHTS = {".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar"}


def index_of(path: Path) -> Path | None:
    """The index that a path means: itself, or the one beside a shard; None for a file of another kind.

    Raises UserError for a part that is no model without the others.
    """
    if path.name.endswith(".index.json"):
        return path
    if path.suffix == ".distcp" or _OPTIM_STATES.fullmatch(path.name) or _MODEL_STATES.fullmatch(path.name):
        whole_of_parts(path.absolute().parent)  # says what they are, where this one is no model
        if not _MODEL_STATES.fullmatch(path.name):
            raise UserError(f"{path} holds a part of a training's state, and no model.")
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return None
    index = path.with_name(f"{match[1]}{match[3]}.index.json")
    if not index.is_file():
        raise UserError(
            f"{path} is one of {int(match[2])} files that hold a model together, and there is no {index.name} beside "
            "it. Get all of them, and give their folder."
        )
    return index


def shard_names(index: Path) -> list[str]:
    """The names of the files that an index tells, in order. Raises UserError for an index that is damaged, or names a
    file outside of its folder."""
    try:
        if index.stat().st_size > _MOST_BYTES:
            raise UserError(f"{index} has more than {_MOST_BYTES:,} bytes: it is no index of weights.")
        content: Any = json.loads(index.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{index} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{index} is not JSON: {str(error)[:200]}.") from None
    where = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(where, dict) or not where:
        raise UserError(f"{index} has no 'weight_map': it is no index of weights.")
    names: list[str] = []
    for name in where.values():
        inside = isinstance(name, str) and name not in ("", ".", "..") and not re.search(r"[/\\\x00]", name)
        if not inside:
            raise UserError(f"{index} names {printable(str(name))[:80]}, which is no file beside it.")
        names.append(name)
    return list(dict.fromkeys(names))


def shards_of(index: Path) -> list[Path]:
    """The files that an index names, in order. Raises UserError as `shard_names`, and where one is not there."""
    files = [index.with_name(name) for name in shard_names(index)]
    missing = [printable(file.name) for file in files if not file.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(files)} files of {index} are not there, as {missing[0]}. Get them too."
        )
    return files


def whole_of_parts(folder: Path) -> Path | None:
    """The file with all weights in the folder that DeepSpeed left; None where nothing is known of the folder.

    Raises UserError, with what joins them, for weights that lie in parts; and for models of other libraries.
    """
    places = [folder, *(place for name in _tags(folder) if (place := folder / name).is_dir())]
    for place in places:
        names = sorted(entry.name for entry in place.iterdir())
        states = [found for name in names if (found := _MODEL_STATES.fullmatch(name))]
        if any(found[1] for found in states) or (not states and any(_OPTIM_STATES.fullmatch(name) for name in names)):
            script = next((path for path in (folder, folder.parent) if (path / "zero_to_fp32.py").is_file()), folder)
            raise UserError(
                f"{folder} is a checkpoint of DeepSpeed's ZeRO-3, whose weights lie in parts. Join them: "
                f"python {script / 'zero_to_fp32.py'} {script} OUT"
            )
        if len(states) > 1:
            raise UserError(f"{folder} holds a model in {len(states)} parts (tensor parallel): join them first.")
        if states:
            return place / states[0][0]
        if ".metadata" in names and any(name.endswith(".distcp") for name in names):
            raise UserError(
                f"{folder} is a distributed checkpoint of PyTorch, whose weights lie in parts. Join them: "
                f"python -m torch.distributed.checkpoint.format_utils dcp_to_torch {place} weights.pth"
            )
    _refuse_others(folder)
    return None


def _tags(folder: Path) -> list[str]:
    """Folders inside of one in which a training's state may lie."""
    tags = ["pytorch_model", "checkpoint", "pytorch_model_fsdp_0", "model"]
    try:
        with (folder / "latest").open(encoding="utf-8") as file:
            latest = file.read(200).strip()
    except (OSError, ValueError):
        return tags
    return [latest, *tags] if re.fullmatch(r"[\w-]+", latest) else tags


def _refuse_others(folder: Path) -> None:
    """Raises UserError for a folder with a model of another library, or with weights of other names."""
    names = sorted(entry.name for entry in folder.iterdir())
    if "saved_model.pb" in names or any(re.search(r"\.data-\d{5}-of-\d{5}$", name) for name in names):
        raise UserError(
            f"{folder} holds a model of TensorFlow. Its weights are not read here: convert them to PyTorch."
        )
    shards = [name for name in names if _SHARD.fullmatch(name)]
    if shards:
        index_of(folder / shards[0])
    weights = [name for name in names if Path(name).suffix in _WEIGHTS]
    if weights:
        which = f"It has {few([printable(name) for name in weights])}: give the one that is meant"
        raise UserError(f"{folder} is no run's folder, and holds no model.safetensors. {which}, by its path.")
