"""Settings of test-time augmentation. No torch here: the command line reads these before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from convnext.core.errors import UserError


@dataclass(frozen=True)
class TTA:
    """Test-time augmentation: each image is predicted at several sizes, `scales` times the usual one, and with `flip`
    also mirrored from left to right; the predictions are merged.

    Raises UserError for no size at all, or one outside 0.1 to 4.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        if not self.scales or not all(0.1 <= scale <= 4 for scale in self.scales):
            given = " ".join(f"{scale:g}" for scale in self.scales) or "none"
            raise UserError(f"Scales are numbers of 0.1 to 4, as 0.5 1 1.5, not {given}.")

    @property
    def single(self) -> bool:
        """Whether each image is predicted once, as it is."""
        return self.scales == (1.0,) and not self.flip


NO_TTA = TTA()
