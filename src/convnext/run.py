"""From a recipe to a trained model: the only place that assembles data, model, task, optimiser and loop."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convnext.core import distributed
from convnext.core.atomic import write_text
from convnext.core.device import describe, pick_device, pick_dtype
from convnext.core.errors import UserError
from convnext.core.logs import RunLog, say
from convnext.core.memory import keep_freed_memory
from convnext.core.seeding import mix_seed, seed_everything
from convnext.data.cached import Cached
from convnext.data.decode import BadImage
from convnext.data.loader import BadImages, resolved_workers
from convnext.data.opened import Opened, open_data
from convnext.data.source import Source
from convnext.models.create import Model, count_parameters, from_config
from convnext.recipes.choose import Facts, choose, warnings
from convnext.recipes.limits import check_limits
from convnext.recipes.recipe import Recipe, read_recipe, save_recipe
from convnext.tasks.classify import Classify
from convnext.train.checkpoint import TrainState, load_checkpoint
from convnext.train.ema import Ema
from convnext.train.loop import Loop, Plan, make_plan
from convnext.train.optim import build_optimizer
from convnext.train.parallel import parallelize
from convnext.weights.files import Card, save_model
from convnext.weights.load import load_initial, model_of
from convnext.weights.published import BEST

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


def _create_folder(out: Path, recipe: Recipe, split: dict[str, Any]) -> None:
    """Makes a run's folder, in place of the run that may stand there, with what a resume needs."""
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    save_recipe(out / RECIPE, recipe)
    write_text(out / SPLIT, json.dumps(split) + "\n")


def train(recipe: Recipe, out: Path, *, overwrite: bool = False, reasons: tuple[str, ...] = ()) -> Path:
    """Trains what `recipe` says and returns the run's folder, `out`.

    `reasons` are noted in the log: why this recipe was picked. Raises UserError for whatever the user can repair.
    """
    if not recipe.data:
        raise UserError("Which images? Give --data DIR: a folder with one folder of images for each class.")
    check_limits(recipe)
    _check_free(out, overwrite=overwrite)
    recipe = replace(recipe, data=_absolute(recipe.data), init=_absolute(recipe.init))
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


def _device(recipe: Recipe) -> torch.device:
    """Where to train; where that is the processor, its memory is kept from step to step."""
    device = pick_device(recipe.loop.device)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def _run(recipe: Recipe, out: Path, device: torch.device, *, resume: bool, reasons: tuple[str, ...]) -> None:
    """Assembles the parts and lets the loop run."""
    opened = _open(recipe, out, resume=resume)
    classes, as_given = opened.train.classes, recipe
    if recipe.model.num_classes not in (0, len(classes)):
        raise UserError(
            f"The data has {len(classes)} classes: leave out --model.num-classes {recipe.model.num_classes}."
        )
    recipe = replace(recipe, model=replace(recipe.model, num_classes=len(classes)))
    world = distributed.world_size()
    plan = make_plan(num_images=len(opened.train), loop=recipe.loop, schedule=recipe.schedule, world_size=world)
    saved = resume and (out / LAST).is_file()  # a run can be killed before its first checkpoint
    model, fresh = _model(recipe, device, load_init=not saved)
    state = _state(recipe, model, device)
    if not resume:
        distributed.barrier()  # every rank has what it needs: only now is anything written
        if distributed.is_main():
            _create_folder(out, as_given, opened.split)
    # From here on ranks differ in what they draw (drop path), and in nothing else.
    seed_everything(mix_seed(recipe.loop.seed, distributed.rank()))
    loop = Loop(
        state=state,
        task=_task(recipe, opened, device, plan),
        model=parallelize(
            model,
            activation_checkpointing=recipe.loop.activation_checkpointing,
            compile_blocks=recipe.loop.compile,
        ),
        plan=plan,
        config=recipe.loop,
        lr=(recipe.optim.lr, recipe.schedule.min_lr),
        clip_grad=recipe.optim.clip_grad,
        log=None,
        checkpoint=out / LAST,
        keep=_keeper(out / BEST, Card(recipe.model, recipe.input, classes)),
    )
    if saved:
        load_checkpoint(out / LAST, state, loop.sampler())
    if distributed.is_main():
        loop.log = RunLog(out / LOG, resume_step=state.step if resume else None)
        if state.step:
            loop.write("resume")
            say(f"going on from step {state.step} of {plan.total_steps}")
        else:
            notes = [opened.note, *reasons, *(f"{name} starts fresh" for name in fresh)]
            _announce(recipe, opened, model, plan, device, loop, notes)
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
    loop.write("end", seconds=round(time.monotonic() - begun, 1), best_top1=state.best)


def _open(recipe: Recipe, out: Path, *, resume: bool) -> Opened:
    """The data; where this is a resume, split as it was split before."""
    return open_data(
        recipe.data,
        val_fraction=recipe.loader.val_fraction,
        seed=recipe.loop.seed,
        max_pixels=recipe.loader.max_pixels,
        split=json.loads((out / SPLIT).read_text()) if resume else None,
    )


def _absolute(path: str) -> str:
    """A path as it can be found from any folder; a word that is no path as it is."""
    return str(Path(path).resolve()) if path and Path(path).exists() else path


def _model(recipe: Recipe, device: torch.device, *, load_init: bool) -> tuple[Model, list[str]]:
    """The model on its device, the same on every rank; and the names of weights that `init` did not provide."""
    seed_everything(recipe.loop.seed)
    model = from_config(recipe.model)
    fresh = load_initial(model, recipe.init) if recipe.init and load_init else []
    smallest = model.strides[-1]
    if recipe.input.size < smallest:
        raise UserError(
            f"{recipe.model.name} shrinks images {smallest} times: --input.size is at least {smallest}, not "
            f"{recipe.input.size}. A smaller --model.stem-stride takes smaller images."
        )
    return model.to(device), fresh


def _state(recipe: Recipe, model: Model, device: torch.device) -> TrainState:
    """Everything that changes while training, at its beginning."""
    half = pick_dtype(recipe.loop.precision, device) == torch.float16
    return TrainState(
        model=model,
        optimizer=build_optimizer(model, recipe.optim),
        scaler=torch.amp.GradScaler(device.type, enabled=half),
        ema=Ema(model, decay=recipe.ema.decay, warmup=recipe.ema.warmup) if recipe.ema.decay else None,
    )


def _task(recipe: Recipe, opened: Opened, device: torch.device, plan: Plan) -> Classify:
    """The classification task on this data."""
    images = len(opened.train) + (len(opened.val) if opened.held_out else 0)
    train, val = opened.train, opened.val
    if resolved_workers(recipe.loader, size=recipe.input.size, world_size=distributed.world_size()) == 0:
        train = Cached(train, megabytes=recipe.loader.cache_megabytes)
        val = Cached(val, megabytes=recipe.loader.cache_megabytes) if opened.held_out else train
    return Classify(
        train=train,
        val=val,
        input=recipe.input,
        augment=recipe.augment,
        mixing=recipe.mix,
        loader=recipe.loader,
        device=device,
        seed=recipe.loop.seed,
        eval_batch=max(plan.micro_batch, 32),
        bad=BadImages(images, max_bad=recipe.loader.max_bad),
    )


def _keeper(path: Path, card: Card) -> Callable[[dict[str, Tensor], dict[str, Any]], None]:
    """What the loop calls with the best weights so far."""

    def keep(weights: dict[str, Tensor], figures: dict[str, Any]) -> None:
        save_model(path, weights, replace(card, note=json.dumps(figures)))

    return keep


def _announce(
    recipe: Recipe, opened: Opened, model: Model, plan: Plan, device: torch.device, loop: Loop, notes: list[str]
) -> None:
    """Says and logs what is about to happen, why, and what will probably go wrong."""
    loop.write(
        "start",
        model=recipe.model.name,
        parameters=count_parameters(model),
        train_images=len(opened.train),
        val_images=len(opened.val),
        held_out=opened.held_out,
        classes=len(opened.train.classes),
        device=describe(device),
        dtype=str(pick_dtype(recipe.loop.precision, device)).removeprefix("torch."),
        torch=torch.__version__,
        total_steps=plan.total_steps,
        steps_per_epoch=plan.steps_per_epoch,
    )
    alarms = warnings(
        recipe,
        images=len(opened.train),
        classes=len(opened.train.classes),
        side=median_side(opened.train),
        warmup_steps=plan.warmup_steps,
        total_steps=plan.total_steps,
    )
    for text in notes:
        loop.write("note", text=text)
        say(f"- {text}")
    for text in alarms:
        loop.write("note", text=text, warning=True)
        say(f"warning: {text}")
    size = f"{count_parameters(model) / 1e6:.1f} million parameters"
    say(f"{recipe.model.name}, {size}, on {describe(device)}: {plan.total_steps} steps of {plan.global_batch} images")


def median_side(source: Source, *, sample: int = 15) -> int:
    """The median shorter side, in pixels, of some images over the source. Raises UserError if none is readable."""
    sides = []
    for index in range(0, len(source), max(len(source) // sample, 1)):
        try:
            sides.append(min(source.read(index).shape[-2:]))
        except BadImage:
            continue
    if not sides:
        raise UserError("None of the images that were tried can be read; are they image files?")
    return int(statistics.median(sides))


def choose_recipe(data: str, *, init: str = "") -> tuple[Recipe, tuple[str, ...]]:
    """A recipe for this data (and these weights to start from), and the reasons for it."""
    plain = Recipe(name="")
    opened = open_data(
        data, val_fraction=plain.loader.val_fraction, seed=plain.loop.seed, max_pixels=plain.loader.max_pixels
    )
    facts = Facts(
        images=len(opened.train),
        classes=len(opened.train.classes),
        side=median_side(opened.train),
        accelerator=pick_device().type != "cpu",
        init=model_of(init) if init else None,
    )
    recipe, reasons = choose(facts)
    return replace(recipe, data=data, init=init), tuple(reasons)


def reopen(out: Path) -> Opened:
    """The data of the run in `out`, split as it was. Raises UserError where `out` is not a run or its data is gone."""
    if not (out / RECIPE).is_file():
        raise UserError(f"{out} is not a run's folder (it has no {RECIPE}): say which images, with --data DIR.")
    return _open(read_recipe(out / RECIPE), out, resume=True)
