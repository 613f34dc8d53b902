"""The runs of a sweep on a Ray cluster (Ray Core): each is a task that asks for one GPU, or for processors.

The sweep's folder and the data stand on a file system that every node sees, under the same path. A run whose node is
lost starts again on another, and goes on where it was saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.sweep.runs import PLAN, Endings, Run, train_one

_RETRIES = 3  # of a run whose node is lost
_PATIENCE = 20.0  # seconds that runs have to stop


@contextmanager
def on_ray(runs: Sequence[Run], out: Path, jobs: int) -> Iterator[Endings]:
    """An engine: as many runs at a time as the cluster has room for, `jobs` at most (0: as many as fit).

    It joins the cluster that this machine belongs to, or that RAY_ADDRESS names; without one it starts one of this
    machine. Raises UserError where Ray is not installed.
    """
    ray = _ray()
    running: dict[Any, Run] = {}
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, include_dashboard=False, logging_level="warning")
    try:
        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        at_once = min(jobs or max(gpus, 1), len(runs))
        cores = 1 if gpus else max(cpus // at_once, 1)
        say(f"Ray: {len(ray.nodes())} nodes, {gpus} GPUs, {cpus} processors; {at_once} runs at a time")
        place = {} if gpus else {"OMP_NUM_THREADS": str(cores)}
        task = ray.remote(num_gpus=1 if gpus else 0, num_cpus=cores, max_retries=_RETRIES)(_on_a_node)
        yield _endings(ray, lambda run: task.remote(run, str(out.resolve()), place), runs, at_once, running)
    finally:
        for reference in running:
            ray.cancel(reference)  # an interrupt there: `train_one` ends its process
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=_PATIENCE)
        if ours:
            ray.shutdown()


def _endings(
    ray: Any, begin: Callable[[Run], Any], runs: Sequence[Run], at_once: int, running: dict[Any, Run]
) -> Endings:
    """Keeps `at_once` runs going, by reference in `running`."""
    left = list(runs)
    while left or running:
        while left and len(running) < at_once:
            run = left.pop(0)
            running[begin(run)] = run
        (ready, *_), _ = ray.wait(list(running), num_returns=1)
        run = running.pop(ready)
        try:
            why = ray.get(ready)
        except ray.exceptions.RayError as error:
            why = f"Ray gave it up: {str(error).strip().splitlines()[-1]}"
        yield run, why


def _on_a_node(run: Run, out: str, place: dict[str, str]) -> str:
    if not (Path(out) / PLAN).is_file():
        return f"this node does not see {out}: a sweep on several machines needs a folder that all of them share"
    return train_one(run, Path(out), place)


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray needs Ray: pip install 'convnext[ray]'.") from None
    return ray
