"""The file of weights that a path, a name or an address means; read once, and what is known of it from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor

from convnext.core.errors import UserError, nearest
from convnext.core.logs import say
from convnext.weights.catalog import at_location, catalog, find
from convnext.weights.containers import Contents
from convnext.weights.download import download
from convnext.weights.files import read_contents, read_values
from convnext.weights.hub import PREFIX, hub_file, hub_weights, parse_hub_id
from convnext.weights.sharded import INDEXES, index_of, whole_of_parts

BEST = "best.safetensors"
_OF_LIBRARIES = ("model.safetensors", "pytorch_model.bin", *INDEXES)  # beside which a config.json tells more
_FOLDER_FILES = (BEST, *_OF_LIBRARIES)
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_DIGEST = 8  # hex digits of the sha256 at the end of a published file's name, as convnext_tiny-983f1562.pth


class Published(Protocol):
    """A row of a list of published weights: a dataclass of each task's own."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str:
        """What people call it, as convnext_tiny.fb_in1k."""
        ...

    @property
    def model(self) -> str:
        """Its architecture."""
        ...

    @property
    def licence(self) -> str:
        """Under which it may be used."""
        ...

    @property
    def location(self) -> str:
        """An https address, or hf-hub:owner/name."""
        ...


class WeightFile:
    """A file of weights on this machine, whose content is read when it is first asked for, and once.

    Args:
        source: what was asked for: a path, a name, an address.
        file: where it is.
        row: its row in a list of published weights.
        which: the name of one of several states in a checkpoint; "": the average of the weights where there is one.
        config, preprocessor: config.json and preprocessor_config.json beside it, as timm and transformers write them.
    """

    def __init__(
        self,
        source: str,
        file: Path,
        *,
        row: Published | None = None,
        config: Mapping[str, Any] | None = None,
        preprocessor: Mapping[str, Any] | None = None,
        which: str = "",
    ) -> None:
        self.source, self.file, self.row, self.which = source, file, row, which
        self.config, self.preprocessor = dict(config or {}), dict(preprocessor or {})

    @cached_property
    def values(self) -> dict[str, Any] | None:
        """The metadata of a file of ours as JSON values; None for a file of others."""
        return read_values(self.file)

    @cached_property
    def _contents(self) -> Contents:
        found = read_contents(self.file, which=self.which)
        if found.notes:
            say(f"- {self.source}: {'; '.join(found.notes)}")
        return found

    @property
    def state(self) -> dict[str, Tensor]:
        """Every tensor under the name that it has in the file, without prefixes of wrappers, on the CPU; mapped where
        the format allows it. What was taken of several states is said."""
        return self._contents.state

    def classes(self, count: int) -> tuple[str, ...]:
        """The names of `count` classes that stand beside the weights of others; () where there are none."""
        found = self._contents.classes
        return found if len(found) == count else ()


def locate(source: str | Path | WeightFile) -> WeightFile:
    """The file that a path, a name of the catalogue, `hf-hub:owner/name` or an https address means, downloaded where
    need be.

    A folder means the best model of a run, or the model that timm or transformers saved there. Raises UserError for
    what is none of these, naming the nearest, and where a download fails.
    """
    if isinstance(source, WeightFile):
        return source
    text, path = str(source), Path(source)
    if path.exists():
        return _on_disk(path, text)
    where, which = split_choice(text)
    if which and Path(where).exists():
        return _on_disk(Path(where), text, which=which)
    if text.startswith(PREFIX):
        return _on_hub(where, text, which=which)
    if text.startswith("https://"):
        file = download(where, sha256=_digest_in(where))
        return WeightFile(text, file, row=None if which else at_location(where), which=which)
    path = Path(where)
    if text not in catalog() and (len(path.parts) > 1 or path.suffix in _SUFFIXES):
        raise UserError(
            f"There is no model at {path}: give a run's folder, a file of weights ({', '.join(_SUFFIXES)}), a name "
            f"from `convnext weights list`, or {PREFIX}owner/name."
        )
    return fetch(find(text))


def split_choice(source: str) -> tuple[str, str]:
    """`FILE#NAME` as FILE and NAME, the state that is asked for of several in it; NAME is "" where none is."""
    if Path(source).exists():
        return source, ""
    where, _, which = source.rpartition("#")
    return (where, which) if where and which else (source, "")


def locate_among(
    source: str | Path | WeightFile, rows: Mapping[str, Published], *, pattern: str, kind: str
) -> WeightFile:
    """As `locate`, for a name of published weights in `rows` too.

    pattern: of their names, so that a mistyped one is answered with the nearest. kind: what these are, as "detector".
    """
    text = str(source)
    if isinstance(source, WeightFile):
        return source
    if text in rows:
        return fetch(rows[text])
    if re.fullmatch(pattern, text) and not Path(text).exists():
        raise UserError(
            f"There are no published weights '{text}'.{nearest(text, rows)} "
            f"`convnext weights list --{kind}s` shows them all."
        )
    return locate(source)


def fetch(row: Published) -> WeightFile:
    """The file of published weights, downloaded where need be. Raises UserError where that fails."""
    if row.location.startswith(PREFIX):
        return _on_hub(row.location, row.name, row)
    return WeightFile(row.name, download(row.location, sha256=_digest_in(row.location)), row=row)


def _digest_in(url: str) -> str:
    """The digest that a published file's name ends in, "" where it has none."""
    end = Path(url).stem.rpartition("-")[2]
    return end if len(end) == _DIGEST and all(c in "0123456789abcdef" for c in end) else ""


def _on_hub(text: str, source: str, row: Published | None = None, *, which: str = "") -> WeightFile:
    repo, revision = parse_hub_id(text)
    file, config = hub_weights(repo, revision=revision)
    preprocessor: dict[str, Any] = {}
    if "architectures" in config:  # transformers' file: its preprocessing stands in another
        preprocessor = _json(hub_file(repo, "preprocessor_config.json", revision=revision))
    row = row or at_location(f"{PREFIX}{repo}")
    return WeightFile(source, file, row=row, config=config, preprocessor=preprocessor, which=which)


def _on_disk(path: Path, source: str, *, which: str = "") -> WeightFile:
    file = (index_of(path) or path) if path.is_file() else _in_folder(path)
    row = at_location(path.name) if path.is_file() else None
    config, preprocessor = file.with_name("config.json"), file.with_name("preprocessor_config.json")
    if file.name not in _OF_LIBRARIES or not config.is_file():
        return WeightFile(source, file, row=row, which=which)
    beside = _json(preprocessor) if preprocessor.is_file() else {}
    return WeightFile(source, file, row=row, config=_json(config), preprocessor=beside, which=which)


def _in_folder(path: Path) -> Path:
    """The file of weights in a folder: a run's best, or what other libraries save. Raises UserError for none."""
    file = next((path / name for name in _FOLDER_FILES if (path / name).is_file()), None) or whole_of_parts(path)
    if file is None:
        raise UserError(
            f"{path} holds no {BEST}: it is not the folder of a run, or its first evaluation is still to come."
        )
    return file


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no object of named values.")
    return values
