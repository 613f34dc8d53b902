"""Published autoencoders: there are none. What is published of FCMAE are encoders (`convnext weights list`)."""

from __future__ import annotations

from collections.abc import Mapping

from convnext.weights.locate import Published


def published() -> Mapping[str, Published]:
    """None."""
    return {}
