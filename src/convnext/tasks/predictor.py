"""What predictors share: images in whatever form people have them, in batches, one result for each. R is the result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from PIL import Image
from torch import Tensor

from convnext.core.errors import NotFinite, UserError
from convnext.core.places import make_folder
from convnext.core.text import printable
from convnext.data.inputs import MAX_PIXELS, image_name, is_single, iterate, read_image

R = TypeVar("R")


def no_numbers(what: str) -> NotFinite:
    """The error of a model that is broken. what: "MODEL gives for IMAGE"."""
    return NotFinite(
        f"What {printable(what)} is not numbers (NaN or infinity), so it says nothing. The weights are damaged, or of "
        "a training that diverged: take others. In half precision, --dtype float32 may help."
    )


def check_channels(channels: int, model: str) -> None:
    """Raises UserError for a detector or segmenter that takes other than the 3 channels in which images are read for
    it. model: what it is called."""
    if channels != 3:
        raise UserError(
            f"The {model} takes images of {channels} channel{'s' if channels > 1 else ''}, and images are read with 3 "
            "(red, green, blue): only classifiers take others."
        )


@contextmanager
def numbers_for(name: str) -> Generator[None, None, None]:
    """Names the image in an error of a model whose outputs are not finite."""
    try:
        yield
    except NotFinite:
        raise no_numbers(f"the model gives for {name}") from None


class BasePredictor(ABC, Generic[R]):
    """A loaded model that predicts images.

    Calling it takes one image (a path, an address, the bytes of a file, a PIL image, an array HWC uint8 or float 0..1,
    a tensor CHW) and gives its result; or a list, tuple, generator or 4-dimensional array of them, and gives a list of
    results, of a generator an iterator. Errors: `data.inputs`.
    """

    batch_size: int = 1
    """Images that are predicted at a time."""
    bands: int = 3
    """Bands of an image that the model takes."""
    white: float = 0.0
    """Of a model of other than 3 bands: the value that counts as white."""

    @abstractmethod
    def predict(self, images: Sequence[Tensor], names: Sequence[str] = ()) -> list[R]:
        """The results of some images, uint8 (3, H, W) in RGB each, of any sizes. names: for people."""

    def read(self, image: Any) -> Tensor:
        """An image in any form, as the model takes it before its preprocessing: uint8 (bands, H, W)."""
        return read_image(image, max_pixels=MAX_PIXELS, bands=self.bands, white=self.white)

    def stream(self, images: Any) -> Iterator[R]:
        """The results of many images, in their order, `batch_size` at a time; they are read when their turn comes."""
        return self._stream(images, self.predict)

    def _stream(
        self, images: Iterable[Any], predict: Callable[[Sequence[Tensor], Sequence[str]], list[R]]
    ) -> Iterator[R]:
        named = ((image_name(image, i), image) for i, image in enumerate(iterate(images)))
        while some := list(islice(named, self.batch_size)):
            tensors = [self.read(image) for _, image in some]
            yield from predict(tensors, [name for name, _ in some])

    def _call(self, images: Any, predict: Callable[[Sequence[Tensor], Sequence[str]], list[R]]) -> Any:
        if is_single(images):
            return predict([self.read(images)], [image_name(images, 0)])[0]
        results = self._stream(images, predict)
        return results if isinstance(images, Iterator) else list(results)


class BaseResult(ABC):
    """What a model sees in one image.

    Args:
        image: uint8 (3, H, W), on the CPU.
        name: of the image, for people.
    """

    def __init__(self, image: Tensor, name: str) -> None:
        self.image, self.name = image, name

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, with the image's name."""

    @abstractmethod
    def summary(self) -> str:
        """In a line, for people."""

    @abstractmethod
    def plot(self) -> Image.Image:
        """The image with what was found drawn on it."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """A row for each thing that was found, for `to_pandas`."""

    def save(self, path: str | Path) -> dict[str, Path]:
        """Writes the drawing to `path` (.png, .jpg, ...); what each written file is -> its path."""
        target = _writable(Path(path))
        self.plot().save(target)
        return {"picture": target}

    def to_pandas(self) -> Any:
        """`rows` as a pandas DataFrame. Raises UserError where pandas is not installed."""
        try:
            import pandas  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UserError("to_pandas() needs pandas: pip install pandas. rows() gives the same as a list.") from None
        return pandas.DataFrame(self.rows())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}: {self.summary()})"


def _writable(path: Path) -> Path:
    make_folder(path.parent)
    return path


class NoCollector:
    """Collects nothing (`spec.Collector`)."""

    def add(self, number: int, prediction: Any) -> None:
        """Forgets it."""

    def close(self) -> None:
        """Writes nothing."""
