"""From a recipe to a trained model: the only place that runs; `parts` say what of."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from convnext.core import distributed
from convnext.core.atomic import write_text
from convnext.core.device import describe, pick_device, pick_dtype
from convnext.core.errors import UserError
from convnext.core.logs import RunLog, say
from convnext.core.memory import keep_freed_memory
from convnext.core.seeding import mix_seed, seed_everything
from convnext.data.classification.open import ClassificationSplits
from convnext.data.detection.open import DetectionSplits
from convnext.data.segmentation.open import SegmentationSplits
from convnext.models.create import count_parameters
from convnext.recipes.limits import check_limits
from convnext.recipes.recipe import (
    AnyRecipe,
    ClassificationRecipe,
    DetectionRecipe,
    SegmentationRecipe,
    read_recipe,
    save_recipe,
)
from convnext.tasks.classification.setup import classification, open_images
from convnext.tasks.detection.setup import detection, open_pictures
from convnext.tasks.segmentation.setup import open_pixels, segmentation
from convnext.tasks.setup import Setup
from convnext.train.checkpoint import TrainState, load_checkpoint
from convnext.train.ema import Ema
from convnext.train.loop import Loop, Plan, make_plan
from convnext.train.optim import build_optimizer
from convnext.train.parallel import parallelize
from convnext.weights.files import AnyMetadata, save_model
from convnext.weights.locate import BEST

R = TypeVar("R", ClassificationRecipe, DetectionRecipe, SegmentationRecipe)
_TRAINED = {ClassificationRecipe: "classifier", DetectionRecipe: "detector", SegmentationRecipe: "segmenter"}
_TRUTH = {
    ClassificationRecipe: "classes of images",
    DetectionRecipe: "objects in pictures",
    SegmentationRecipe: "label maps",
}
RECIPE, SPLIT, LOG, LAST = "recipe.json", "split.json", "log.jsonl", "last.pt"


def _check_free(out: Path, *, overwrite: bool) -> None:
    """Raises UserError where `out` holds a run (unless it may go) or anything else."""
    if (out / RECIPE).exists() and not overwrite:
        raise UserError(
            f"{out} holds a run already. Go on with it: convnext train --resume {out}. "
            "Or start afresh: --overwrite, or another --out."
        )
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / RECIPE).exists()):
        raise UserError(f"{out} is not empty and not a run's folder; give another --out.")


def _create_folder(out: Path, recipe: AnyRecipe, split: dict[str, Any]) -> None:
    """Makes a run's folder, in place of the run that may stand there, with what a resume needs."""
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    save_recipe(out / RECIPE, recipe)
    write_text(out / SPLIT, json.dumps(split) + "\n")


def train(recipe: AnyRecipe, out: Path, *, overwrite: bool = False, reasons: tuple[str, ...] = ()) -> Path:
    """Trains what `recipe` says and returns the run's folder, `out`.

    `reasons` are noted in the log: why this recipe was picked. Raises UserError for whatever the user can repair.
    """
    if not recipe.data:
        raise UserError("Which images? Give --data DIR.")
    check_limits(recipe)
    _check_free(out, overwrite=overwrite)
    recipe = replace(recipe, data=_absolute(recipe.data), init=_absolute(recipe.init))
    if isinstance(recipe, SegmentationRecipe):
        recipe = replace(recipe, labels=_absolute(recipe.labels))
    device = _device(recipe)
    with distributed.process_group(device):
        _run(recipe, out, device, resume=False, reasons=reasons)
    return out


def resume(out: Path) -> Path:
    """Goes on with the run in `out` from its last checkpoint, exactly as if it had not been stopped."""
    if not (out / RECIPE).is_file():
        raise UserError(f"{out} is not the folder of a run (it has no {RECIPE}); `convnext train` makes one.")
    recipe = read_recipe(out / RECIPE)
    check_limits(recipe)
    device = _device(recipe)
    with distributed.process_group(device):
        _run(recipe, out, device, resume=True, reasons=())
    return out


def _device(recipe: AnyRecipe) -> torch.device:
    """Where to train; where that is the processor, its memory is kept from step to step."""
    device = pick_device(recipe.loop.device)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def _run(recipe: AnyRecipe, out: Path, device: torch.device, *, resume: bool, reasons: tuple[str, ...]) -> None:
    """Assembles the parts and lets the loop run."""
    parts = _parts(recipe, device, _split_of(out) if resume else None)
    world = distributed.world_size()
    plan = make_plan(num_images=parts.num_images, loop=recipe.loop, schedule=recipe.schedule, world_size=world)
    saved = resume and (out / LAST).is_file()  # a run can be killed before its first checkpoint
    seed_everything(recipe.loop.seed)
    model, fresh = parts.build(not saved)
    state, task = _state(recipe, model, device), parts.task(plan)
    if not resume:
        distributed.barrier()  # every rank has what it needs: only now is anything written
        if distributed.is_main():
            _create_folder(out, recipe, parts.split)
    # From here on ranks differ in what they draw (drop path), and in nothing else.
    seed_everything(mix_seed(recipe.loop.seed, distributed.rank()))
    loop = Loop(
        state=state,
        task=task,
        model=parallelize(
            model,
            activation_checkpointing=recipe.loop.activation_checkpointing,
            compile_blocks=recipe.loop.compile,
        ),
        plan=plan,
        config=recipe.loop,
        lr=recipe.optim.lr,
        schedule=recipe.schedule,
        clip_grad=recipe.optim.clip_grad,
        log=None,
        checkpoint=out / LAST,
        keep=_keeper(out / BEST, parts.metadata),
    )
    if saved:
        load_checkpoint(out / LAST, state, loop.sampler())
    if distributed.is_main():
        loop.log = RunLog(out / LOG, resume_step=state.step if resume else None)
        if state.step:
            loop.write("resume")
            say(f"going on from step {state.step} of {plan.total_steps}")
        else:
            notes = [*parts.notes, *reasons, *(f"{name} starts fresh" for name in fresh)]
            _announce(recipe, parts, model, plan, device, loop, notes)
    begun = time.monotonic()
    try:
        loop.run()
    except KeyboardInterrupt:
        say(f"To go on exactly where it was last saved: convnext train --resume {out}")
        raise
    except torch.OutOfMemoryError:
        raise UserError(
            f"{plan.micro_batch} images at a time do not fit into the memory of {describe(device)}. Use "
            f"--loop.micro-batch {max(plan.micro_batch // 2, 1)} (the batch of a step stays {plan.global_batch}), "
            "or --loop.activation-checkpointing."
        ) from None
    loop.write("end", seconds=round(time.monotonic() - begun, 1), best=state.best)


def _parts(recipe: AnyRecipe, device: torch.device, split: dict[str, Any] | None) -> Setup:
    """What the recipe's task is made of; with `split`, the data as it was split before."""
    if isinstance(recipe, DetectionRecipe):
        return detection(recipe, device, split)
    if isinstance(recipe, SegmentationRecipe):
        return segmentation(recipe, device, split)
    return classification(recipe, device, split)


def _absolute(path: str) -> str:
    """A path as it can be found from any folder; a word that is no path as it is."""
    return str(Path(path).resolve()) if path and Path(path).exists() else path


def _state(recipe: AnyRecipe, model: nn.Module, device: torch.device) -> TrainState:
    """Everything that changes while training, at its beginning."""
    half = pick_dtype(recipe.loop.precision, device) == torch.float16
    return TrainState(
        model=model,
        optimizer=build_optimizer(model, recipe.optim),
        scaler=torch.amp.GradScaler(device.type, enabled=half),
        ema=Ema(model, decay=recipe.ema.decay, warmup=recipe.ema.warmup) if recipe.ema.decay else None,
    )


def _keeper(path: Path, metadata: AnyMetadata) -> Callable[[dict[str, Tensor], dict[str, Any]], None]:
    """What the loop calls with the best weights so far."""

    def keep(weights: dict[str, Tensor], figures: dict[str, Any]) -> None:
        save_model(path, weights, replace(metadata, note=json.dumps(figures)))

    return keep


def _announce(
    recipe: AnyRecipe, parts: Setup, model: nn.Module, plan: Plan, device: torch.device, loop: Loop, notes: list[str]
) -> None:
    """Says and logs what is about to happen, why, and what will probably go wrong."""
    loop.write(
        "start",
        model=parts.name,
        parameters=count_parameters(model),
        **parts.facts,
        device=describe(device),
        dtype=str(pick_dtype(recipe.loop.precision, device)).removeprefix("torch."),
        torch=torch.__version__,
        total_steps=plan.total_steps,
        steps_per_epoch=plan.steps_per_epoch,
    )
    for text in notes:
        loop.write("note", text=text)
        say(f"- {text}")
    for text in parts.warnings(plan):
        loop.write("note", text=text, warning=True)
        say(f"warning: {text}")
    size = f"{count_parameters(model) / 1e6:.1f} million parameters"
    say(f"{parts.name}, {size}, on {describe(device)}: {plan.total_steps} steps of {plan.global_batch} images")


def reopen(out: Path) -> ClassificationSplits:
    """The images of the classification run in `out`, split as they were.

    Raises UserError where `out` is no such run or its data is gone.
    """
    return open_images(_recipe_of(out, ClassificationRecipe), _split_of(out))


def reopen_scenes(out: Path) -> DetectionSplits:
    """The pictures of the detection run in `out`, split as they were. Raises UserError as `reopen` does."""
    return open_pictures(_recipe_of(out, DetectionRecipe), _split_of(out))


def reopen_labelled(out: Path) -> SegmentationSplits:
    """The pictures of the segmentation run in `out`, split as they were. Raises UserError as `reopen` does."""
    return open_pixels(_recipe_of(out, SegmentationRecipe), _split_of(out))


def _recipe_of(out: Path, kind: type[R]) -> R:
    """The recipe of the run in `out`, which is one for such a task."""
    if not (out / RECIPE).is_file():
        raise UserError(f"{out} is not a run's folder (it has no {RECIPE}): say which images, with --data DIR.")
    recipe = read_recipe(out / RECIPE)
    if not isinstance(recipe, kind):
        raise UserError(
            f"{out} is the run of a {_TRAINED[type(recipe)]}; a {_TRAINED[kind]} learns from {_TRUTH[kind]}, which its "
            "data does not have."
        )
    return recipe


def _split_of(out: Path) -> dict[str, Any]:
    return json.loads((out / SPLIT).read_text())
