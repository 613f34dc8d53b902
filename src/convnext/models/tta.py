"""Settings of the heads. No torch here: the command line reads these before torch is loaded.

The defaults are Mask R-CNN's as the official ConvNeXt configurations have it (object_detection/configs/convnext and the
bases of mmdetection that they name); `CASCADE_RPN` and `CASCADE_ROI` are Cascade Mask R-CNN's.
"""

from __future__ import annotations

from dataclasses import dataclass

from convnext.core.errors import UserError


@dataclass(frozen=True)
class TTA:
    """How often each picture is looked at: at which sizes, times the usual one, and mirrored too or not.

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
        """Whether it is once, as it is."""
        return self.scales == (1.0,) and not self.flip


NO_TTA = TTA()
