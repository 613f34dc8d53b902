"""From a recipe to a trained, evaluated and reported model: the only place that runs; a task's spec says what."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convnext.core import distributed
from convnext.core.atomic import write_text
from convnext.core.console import few
from convnext.core.device import describe, pick_device, pick_dtype
from convnext.core.errors import UserError
from convnext.core.lock import taken
from convnext.core.logs import RunLog, say
from convnext.core.memory import keep_freed_memory
from convnext.core.seeding import mix_seed, seed_everything
from convnext.core.strict_json import to_json
from convnext.data.dataset import DataModule
from convnext.data.splits import Record
from convnext.models.create import count_parameters
from convnext.recipes.recipe import Recipe
from convnext.report.page import write_page
from convnext.report.run_folder import open_run
from convnext.tasks.choose import check_data, find_file, find_weights, task_of_run
from convnext.tasks.inspection import FIRST_BATCH, first_batch
from convnext.tasks.opening import RECIPE, SPLIT, given, open_data, run_of, split_of
from convnext.tasks.recipes import check_recipe, read_recipe, save_recipe, task_of
from convnext.tasks.setup import Setup
from convnext.tasks.spec import EvaluateOptions
from convnext.tasks.start import NONE
from convnext.training.checkpoint import TrainState, load_checkpoint
from convnext.training.ema import Ema
from convnext.training.loop import Loop, Plan, make_plan
from convnext.training.optim import build_optimizer
from convnext.training.parallel import parallelize
from convnext.training.place import check_free, cleared
from convnext.weights.files import Metadata, save_model
from convnext.weights.locate import BEST, WeightFile, split_choice

LOG, LAST = "log.jsonl", "last.pt"


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    data: DataModule[Any] | None = None,
    init: WeightFile | None = None,
    model: nn.Module | None = None,
    overwrite: bool = False,
    reasons: tuple[str, ...] = (),
) -> Path:
    """Trains what `recipe` says and returns the run's folder, `out`.

    Args:
        data: the data set, if it is open already (`open_data`), or one of your own (`data.dataset.GivenData`); else
            what is at `recipe.data`.
        init: the weights to start from, if they are open already; else what `recipe.init` means.
        model: a module of your own, trained in place of the recipe's: called as that is, with `block_list()` and
            `depth_ids()` as `models.convnext.ConvNeXt` has them. `convnext.load` does not know how to build it again:
            load best.safetensors into it (`weights.files.read_state`).
        overwrite: whether a run that stands there may go.
        reasons: notes for the log: why this recipe was picked.

    Raises UserError for whatever the user can repair.
    """
    out = Path(out)
    with held(out):
        if data is None:
            check_before_opening(recipe, out, overwrite=overwrite)
        else:
            check_recipe(recipe)
            check_free(out, overwrite=overwrite)
        recipe = _with_absolute_paths(recipe)
        data = data or open_data(recipe)
        recipe, measured = task_of(recipe).measure(recipe, data)
        device = _device(recipe)
        with distributed.process_group(device):
            _run(recipe, out, device, data, init, _checked(model), resume=False, reasons=(*reasons, *measured))
    return out


def held(out: Path) -> AbstractContextManager[None]:
    """Holds the folder of a run for this process (of several that train together, for all of them)."""
    return taken(out) if distributed.is_main() else nullcontext()


def check_before_opening(recipe: Recipe, out: Path, *, overwrite: bool) -> None:
    """Raises UserError for whatever can be refused before data is read: settings, and the run's folder."""
    if not recipe.data:
        raise UserError("Which images? Give --data DIR.")
    check_recipe(recipe)
    check_free(out, overwrite=overwrite)


def resume(out: str | Path, *, data: DataModule[Any] | None = None, model: nn.Module | None = None) -> Path:
    """Goes on with the run in `out` from its last checkpoint, exactly as if it had not been stopped. data, model: as in
    `train`."""
    out = Path(out)
    recipe = recipe_of(out)
    check_recipe(recipe)
    device = _device(recipe)
    with held(out), distributed.process_group(device):
        _run(recipe, out, device, data or open_data(recipe), None, _checked(model), resume=True, reasons=())
    return out


def _checked(model: nn.Module | None) -> nn.Module | None:
    """A module of one's own, if the optimiser can handle it. Raises UserError for one that it cannot."""
    missing = [name for name in ("block_list", "depth_ids") if model is not None and not hasattr(model, name)]
    if missing:
        raise UserError(
            f"{type(model).__name__} has no {' and no '.join(missing)}: block_list() gives the modules that are "
            "compiled and checkpointed one by one ([] for none), depth_ids(*, blocks_per_group=3) a depth for the name "
            "of every parameter (0 for all where learning rates do not depend on the layer)."
        )
    return model


def evaluate(
    model: str | Path | WeightFile,
    *,
    data: str | Path | DataModule[Any] = "",
    options: EvaluateOptions | None = None,
) -> dict[str, Any]:
    """The figures of a model: a run's folder, a file, a name of published weights.

    data: a path or an open data set; without it, the images that the model's run held out. options: of the model's task
    (`tasks/*/options`). Raises UserError where the data's classes are not the model's, or its run is not there.
    """
    spec, file = find_weights(model)
    options = options or spec.evaluate_options()()
    if not options.opens_data and spec.evaluate_suites is not None:
        return spec.evaluate_suites(file, options, str(data))
    if data and not isinstance(data, (str, Path)):
        return spec.evaluate_on(file, options, data, None, None)
    opening = {name: given(options, name) for name in spec.data_options}
    if data:
        why = f"{file.source} is a {spec.texts.model}"
        check_data(spec, str(data), opening, why=why, advice=f"Give images for a {spec.texts.model}.")
        return spec.evaluate_on(file, options, spec.open_data(str(data), opening), None, None)
    folder = run_of(file)
    recipe = read_recipe(folder / RECIPE)
    figures = spec.evaluate_on(file, options, open_data(recipe), recipe, split_of(folder))
    return figures | ({"chosen": chosen} if (chosen := _chosen(file)) else {})


def _chosen(file: WeightFile) -> str:
    """How a run's best weights were chosen, where not by the goal's figure; else empty."""
    try:
        note: Any = json.loads(str((file.values or {}).get("note") or "{}"))
    except ValueError:
        return ""
    return str(note.get("chosen") or "") if isinstance(note, dict) else ""


def evaluate_run(out: Path, *, data: DataModule[Any] | None = None) -> dict[str, Any]:
    """Evaluates a run's best model on what it held out, writes evaluation.json and images into its folder, and returns
    the figures. data: as in `train`."""
    recipe = recipe_of(out)
    return task_of(recipe).evaluate_run(out, data or open_data(recipe), recipe, split_of(out))


def write_report(out: Path) -> Path:
    """Writes a run's page, report.html, into its folder and returns its path. Works while the run is still training.

    Raises UserError if `out` is not a run's folder.
    """
    run = open_run(out)
    return write_page(run, task_of_run(run).report)


def held_out(out: Path) -> Any:
    """The images that the run in `out` held out, as a data set. Raises UserError where its data is gone."""
    recipe = recipe_of(out)
    return open_data(recipe).splits(recipe.loader, seed=recipe.loop.seed, saved=split_of(out)).val


def recipe_of(out: Path) -> Recipe:
    """The recipe of the run in `out`. Raises UserError where there is none."""
    if not (out / RECIPE).is_file():
        raise UserError(f"{out} is not the folder of a run (it has no {RECIPE}); `convnext train` makes one.")
    return read_recipe(out / RECIPE)


def _create_folder(out: Path, recipe: Recipe, split: Record) -> None:
    """Makes a run's folder, in place of the run that may stand there, with what a resume needs."""
    if left := cleared(out):
        say(f"- left in {out}, for no run wrote it: {few(left)}")
    save_recipe(out / RECIPE, recipe)
    write_text(out / SPLIT, to_json(split) + "\n")


def _with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with paths that can be found from any folder; words that are no paths stay."""
    names = ("data", "init", *task_of(recipe).data_options)
    given = {field.name for field in fields(recipe)} & set(names)
    paths = {name: _absolute(getattr(recipe, name)) for name in given}
    return replace(recipe, **paths | ({"init": ""} if recipe.init == NONE else {}))


def _absolute(path: str) -> str:
    where, which = split_choice(path)  # FILE#NAME: one of several states in a file
    if not where or not Path(where).exists():
        return path
    return str(Path(where).resolve()) + (f"#{which}" if which else "")


def _device(recipe: Recipe) -> torch.device:
    """Where to train; where that is the processor, its memory is kept from step to step."""
    device = pick_device(recipe.loop.device)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def _run(
    recipe: Recipe,
    out: Path,
    device: torch.device,
    data: DataModule[Any],
    init: WeightFile | None,
    given: nn.Module | None,
    *,
    resume: bool,
    reasons: tuple[str, ...],
) -> None:
    """Assembles everything and lets the loop run."""
    setup = task_of(recipe).setup(recipe, data, device, split_of(out) if resume else None)
    world = distributed.world_size()
    plan = make_plan(num_images=setup.num_images, loop=recipe.loop, schedule=recipe.schedule, world_size=world)
    saved = resume and (out / LAST).is_file()  # a run can be killed before its first checkpoint
    if recipe.init and not saved:
        init = init or find_file(recipe.init)
    seed_everything(recipe.loop.seed)
    model, new = (given.to(device), []) if given is not None else setup.build(None if saved else init)
    state, task = _state(recipe, model, device), setup.task(plan)
    if not resume:
        distributed.barrier()  # every rank has what it needs: only now is anything written
        if distributed.is_main():
            _create_folder(out, recipe, setup.split)
            if (drawn := first_batch(task_of(recipe), recipe, task)) is not None:
                drawn.save(out / FIRST_BATCH)
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
        keep=_keeper(out / BEST, setup.metadata),
    )
    if saved:
        load_checkpoint(out / LAST, state, loop.sampler())
    if distributed.is_main():
        loop.log = RunLog(out / LOG, resume_step=state.step if resume else None)
        if state.step:
            loop.write("resume")
            say(f"going on from step {state.step} of {plan.total_steps}")
        else:
            notes = [*setup.notes, *reasons, *(f"{name} is newly initialised" for name in new)]
            _announce(recipe, setup, model, plan, device, loop, notes)
    _loop(loop, out, plan, device)


def _loop(loop: Loop, out: Path, plan: Plan, device: torch.device) -> None:
    """Lets the loop run, and says how its best weights were chosen where the goal did not decide."""
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
    best = loop.state.best
    chosen = best.chosen(loop.task.goal) if best else ""
    loop.write("end", seconds=round(time.monotonic() - begun, 1), best=best and best.goal, chosen=chosen or None)
    if chosen and distributed.is_main():
        say(chosen)


def _state(recipe: Recipe, model: nn.Module, device: torch.device) -> TrainState:
    """Everything that changes while training, at its beginning."""
    half = pick_dtype(recipe.loop.precision, device) == torch.float16
    return TrainState(
        model=model,
        optimizer=build_optimizer(model, recipe.optim),
        scaler=torch.amp.GradScaler(device.type, enabled=half),
        ema=Ema(model, decay=recipe.ema.decay, warmup=recipe.ema.warmup) if recipe.ema.decay else None,
    )


def _keeper(path: Path, metadata: Metadata) -> Callable[[dict[str, Tensor], dict[str, Any]], None]:
    """What the loop calls with the best weights so far."""

    def keep(weights: dict[str, Tensor], figures: Mapping[str, Any]) -> None:
        save_model(path, weights, replace(metadata, note=to_json(figures)))

    return keep


def _announce(
    recipe: Recipe, setup: Setup, model: nn.Module, plan: Plan, device: torch.device, loop: Loop, notes: list[str]
) -> None:
    """Says and logs what is about to happen, why, and what will probably go wrong."""
    loop.write(
        "start",
        model=setup.name,
        parameters=count_parameters(model),
        **setup.facts,
        device=describe(device),
        dtype=str(pick_dtype(recipe.loop.precision, device)).removeprefix("torch."),
        torch=torch.__version__,
        total_steps=plan.total_steps,
        steps_per_epoch=plan.steps_per_epoch,
    )
    for text in notes:
        loop.write("note", text=text)
        say(f"- {text}")
    for text in setup.warnings(plan):
        loop.write("note", text=text, warning=True)
        say(f"warning: {text}")
    size = f"{count_parameters(model) / 1e6:.1f} million parameters"
    say(f"{setup.name}, {size}, on {describe(device)}: {plan.total_steps} steps of {plan.global_batch} images")
