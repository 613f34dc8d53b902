"""An autoencoder's figures and weights for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convnext.core.console import pairs, percent
from convnext.core.typed import to_dict
from convnext.tasks.console import evaluated, held_out, skipped
from convnext.tasks.pretraining.weights import describe
from convnext.weights.locate import WeightFile


def summary(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures that are printed as JSON when a run has ended."""
    return {"explained": figures["explained"], "loss": figures["loss"]}


def headline(figures: Mapping[str, Any]) -> str:
    """The same in words."""
    return f"explains {percent(figures['explained'])} of what is masked, on {held_out(figures)}"


def evaluation_text(figures: Mapping[str, Any]) -> str:
    """An evaluation's figures."""
    loss = "-" if figures["loss"] is None else f"{figures['loss']:.4f}"
    pixels = "normalised pixels" if figures["norm_pix"] else "pixels"
    lines = [
        *evaluated(figures),
        ("masked", f"{percent(figures['mask_ratio'], 0)} of the cells of each image"),
        ("explained", f"{percent(figures['explained'], 2)} of the masked cells' variance"),
        ("loss", f"{loss}, mean squared error of {pixels}"),
        ("speed", f"{figures['images_per_second']:.1f} images/s, reading included"),
        *skipped(figures),
    ]
    return "\n".join(pairs(lines))


def published_text(rows: Sequence[Any]) -> str:
    """A list of published weights: there are none."""
    return "No autoencoder is published. FCMAE's encoders are: convnext weights list --model convnextv2_tiny"


def inspect(file: WeightFile) -> tuple[dict[str, Any], str]:
    """What a file holds, whoever saved it: as JSON values, and as text."""
    state, metadata, notes = describe(file)
    config, parts = metadata.model, {"encoder": 0, "decoder": 0}
    for name, value in state.items():
        parts["encoder" if name.startswith("encoder.") else "decoder"] += value.numel()
    facts = {
        "file": str(file.file),
        "model": to_dict(config),
        "parameters": parts,
        "input": to_dict(metadata.input),
        "source": metadata.source,
        "notes": notes,
    }
    lines = [
        ("file", str(file.file)),
        ("model", f"masked autoencoder (FCMAE) of {config.backbone.name}"),
        ("weights", f"encoder {parts['encoder']:,} parameters, decoder {parts['decoder']:,}"),
        ("masks", f"{percent(config.mask_ratio, 0)} of the cells"),
        ("input", f"{metadata.input.size} pixels"),
        *(("assumed", note) for note in notes),
    ]
    return facts, "\n".join(pairs(lines))
