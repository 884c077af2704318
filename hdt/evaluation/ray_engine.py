"""Trainings as tasks of Ray, and the cells of a comparison so."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from hdt.data.series import Panel
from hdt.distillation import config
from hdt.evaluation.cells import Cell, Work, measure
from hdt.evaluation.protocol import Evaluator, WatchTraining
from hdt.evaluation.scores import Score, cached, known
from hdt.run import produce
from hdt.run.distilled import Distilled
from hdt.system import cluster
from hdt.system.errors import require


def by_ray(
    work: Work, cells: Sequence[Cell], workers: int | None, address: str | None, watch: WatchTraining | None
) -> list[Score]:
    """The scores of all cells: a task per distillation and one per training, which share the threads of this process.

    The data go to Ray once. What a task returns is kept in the folder here, for no other machine need see that; tasks
    whose process was killed are repeated by Ray. ``workers``, ``address``: see :func:`hdt.system.cluster.joined`.
    """
    scores = {n: score for n, cell in enumerate(cells) if (score := known(work.file(cell))) is not None}
    if len(scores) == len(cells):
        return [scores[n] for n in range(len(cells))]
    if watch is not None:
        watch("Ray", len(scores), len(cells))
    with tasks(work.evaluator, workers, address) as (ray, task):
        panel = ray.put(work.panel)
        runs: dict[str, Any] = {}
        fresh: dict[Any, str] = {}
        trainings: dict[Any, int] = {}
        for n, cell in enumerate(cells):
            if n in scores:
                continue
            run = work.run(cell)
            if run is not None and run not in runs:
                kept = work.kept(run)
                runs[run] = task(_distil, panel, cell.settings) if kept is None else kept
                fresh |= {runs[run]: run} if kept is None else {}
            trainings[task(measure, cell, None if run is None else runs[run])] = n

        def done(task: Any, result: Any) -> None:
            if task in fresh:
                work.keep(fresh[task], result)
                return
            n = trainings[task]
            scores[n] = cached(work.file(cells[n]), lambda: result)
            if watch is not None:
                watch(f"{cells[n].method}, {cells[n].student}, seed {cells[n].seed}", len(scores), len(cells))

        cluster.each(ray, [*fresh, *trainings], done)
    return [scores[n] for n in range(len(cells))]


@contextmanager
def tasks(evaluator: Evaluator, workers: int | None, address: str | None) -> Iterator[tuple[Any, Callable[..., Any]]]:
    """Ray, and what makes a task of a function of (evaluator, ...) and the rest of its arguments.

    The evaluator goes to Ray once; tasks share the threads of this process, and the GPUs where it has one.
    Raises :class:`hdt.system.errors.InputError` for a Ray without a CPU, or the GPU that is needed.
    """
    with cluster.joined(workers, address) as ray:
        has = ray.cluster_resources()
        cores, cards = has.get("CPU", 0), has.get("GPU", 0)
        cuda = evaluator.device.type == "cuda"
        require(cores >= 1, "that Ray has no CPU for tasks; start it with some")
        require(cards > 0 or not cuda, "that Ray has no GPU; use --device cpu")
        share = int(10_000 * min(1, cards / cores)) / 10_000 if cuda else 0  # the finest that Ray knows
        call, given = ray.remote(num_cpus=1, num_gpus=share)(_call), ray.put(evaluator)
        threads = max(1, torch.get_num_threads() // int(cores))

        def task(function: Callable[..., Any], *arguments: Any) -> Any:
            return call.options(name=function.__name__).remote(function, given, threads, *arguments)

        yield ray, task


def _call(function: Callable[..., Any], evaluator: Evaluator, threads: int, *arguments: Any) -> Any:
    """A task, in a process that is made like the one that asked for it."""
    if evaluator.device.type == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for device auto
    torch.set_num_threads(threads)
    return function(evaluator, *arguments)


def _distil(evaluator: Evaluator, panel: Panel, settings: config.Settings) -> Distilled:
    return produce.distill_panel(panel, settings)
