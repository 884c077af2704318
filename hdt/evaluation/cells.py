"""The cells of a comparison: one distillation and one training each, computed here or by several processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import groupby
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hdt.data.series import Panel
from hdt.distillation import config
from hdt.evaluation.protocol import Evaluator, WatchTraining
from hdt.evaluation.scores import Score, cached, noise_of
from hdt.run import produce
from hdt.run.distilled import Distilled
from hdt.system.errors import InputError, require
from hdt.system.fingerprint import fingerprint

CELLS, RUNS = "cells", "runs"  # in a comparison's folder: a file per training, a run folder per distillation


class Cell(NamedTuple):
    """One training: which method at which settings (None for full data), student and seed."""

    method: str
    varied: Any
    settings: config.Settings | None
    student: str
    seed: int


class Work:
    """Computes cells, or finds them in the folder."""

    def __init__(self, panel: Panel, evaluator: Evaluator, folder: Path | None) -> None:
        self.panel, self.evaluator, self.folder = panel, evaluator, folder
        self.last: tuple[str, Distilled] | None = None
        if folder is not None:
            try:
                others = folder.is_dir() and not (folder / CELLS).is_dir() and any(folder.iterdir())
                require(not others, f"{folder} exists and holds no comparison; choose another --out")
                (folder / CELLS).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{folder}: cannot write here ({error.strerror}); choose another --out") from None

    def score(self, cell: Cell) -> Score:
        """The score of a cell, with the facts of its distillation."""
        return cached(self.file(cell), lambda: measure(self.evaluator, cell, self.distilled(cell)))

    def file(self, cell: Cell) -> Path | None:
        """Where the score of a cell is kept, if anywhere."""
        if cell.settings is None:
            return self.evaluator.full_file(cell.student, cell.seed)
        if self.folder is None:
            return None
        run = produce.key(self.panel, cell.settings)
        key = fingerprint([run, self.evaluator.key(cell.student, cell.seed)])
        return self.folder / CELLS / f"{cell.method}-{cell.student}-{cell.seed}-{key}.json".replace(":", ".")

    def run(self, cell: Cell) -> str | None:
        """The name of a cell's distillation, shared by its students; None for full data, which need none."""
        if cell.settings is None:
            return None
        return f"{cell.method}-{cell.seed}-{produce.key(self.panel, cell.settings)}"

    def kept(self, run: str) -> Distilled | None:
        """The distillation of that name, where the folder holds it."""
        if self.folder is None or not (self.folder / RUNS / run).is_dir():
            return None
        return Distilled.load(self.folder / RUNS / run)

    def keep(self, run: str, distilled: Distilled) -> None:
        """Into the folder, if there is one."""
        if self.folder is not None:
            distilled.save(self.folder / RUNS / run)

    def distilled(self, cell: Cell) -> Distilled | None:
        """The distillation of a cell: the last one, one that is kept, or a new one."""
        run = self.run(cell)
        if run is None or cell.settings is None:
            return None
        if self.last is None or self.last[0] != run:
            found = self.kept(run)
            if found is None:
                found = produce.distill_panel(self.panel, cell.settings)
                self.keep(run, found)
            self.last = run, found
        return self.last[1]


def measure(evaluator: Evaluator, cell: Cell, distilled: Distilled | None) -> Score:
    """The score of a cell from its distillation, with the facts of that; of full data where there is none."""
    if distilled is None:
        return evaluator.score(cell.student, evaluator.train[None], cell.seed)
    info = distilled.info
    noise = noise_of(distilled) if evaluator.quantiles else None
    return {
        **evaluator.score(cell.student, distilled.seen, cell.seed, noise),
        "floats": info.floats + (info.noise_floats if evaluator.quantiles else 0),
        "distill_seconds": info.seconds,
        "distance_nearest": info.distance.nearest,
        **({} if info.distance.start is None else {"distance_start": info.distance.start}),
    }


def in_turn(work: Work, cells: Sequence[Cell], watch: WatchTraining | None) -> Iterator[Score]:
    """The scores of all cells, one after the other."""
    for done, cell in enumerate(cells):
        if watch is not None:
            watch(f"{cell.method}, {cell.student}, seed {cell.seed}", done, len(cells))
        yield work.score(cell)


def by_workers(work: Work, cells: Sequence[Cell], workers: int, watch: WatchTraining | None) -> list[Score]:
    """The same by so many processes, which share the threads of this one.

    What one distillation serves is one task. Raises :class:`hdt.system.errors.InputError` when a process was killed;
    what is finished is kept in the folder. An interruption, or an error in one of them, ends them all at once.
    """
    others = set(active_children())
    groups = groupby(range(len(cells)), lambda n: cells[n]._replace(student="", settings=None))
    together = [list(group) for _, group in groups]
    tasks = [part for group in together for part in ([group] if cells[group[0]].settings else [[n] for n in group])]
    threads = max(1, torch.get_num_threads() // workers)
    pool = ProcessPoolExecutor(
        workers, get_context("spawn"), _begin, (work.panel, work.evaluator, work.folder, threads)
    )
    try:
        waiting = {pool.submit(_compute, [cells[n] for n in task]): task for task in tasks}
        scores: dict[int, Score] = {}
        for future in as_completed(waiting):
            task = waiting[future]
            scores |= dict(zip(task, future.result(), strict=True))
            if watch is not None:
                watch(f"{cells[task[0]].method}, seed {cells[task[0]].seed}", len(scores), len(cells))
        return [scores[n] for n in range(len(cells))]
    except BrokenProcessPool:
        raise InputError(
            "a worker process was killed, for lack of memory most likely; what is finished is kept, so run the same "
            "command again with fewer --workers"
        ) from None
    except BaseException:
        for process in set(active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_work: Work  # of this process, when it is a worker


def _begin(panel: Panel, evaluator: Evaluator, folder: Path | None, threads: int) -> None:
    """What a worker does first: it takes the data, and will end with its parent, and at Ctrl-C without a word."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _work = Work(panel, evaluator, folder)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()  # killed, for instance
    os._exit(1)


def _compute(task: list[Cell]) -> list[Score]:
    return [_work.score(cell) for cell in task]
