"""The trainings of a search: here, one after the other, or as tasks of Ray."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hdt.evaluation.protocol import Evaluator
from hdt.evaluation.ray_engine import tasks
from hdt.evaluation.scores import Score, cached, known
from hdt.selection import ranking
from hdt.selection.space import Configuration
from hdt.selection.study import COMPLETE, Attempt, Done, Looks, Outcome, outcome
from hdt.system import cluster
from hdt.system.machine import cache_folder
from hdt.training.fit import Running

Watch = Callable[[int], None]


@dataclass
class Here:
    """On this machine, in this process; in ``folder``, if there is one, an interrupted training leaves a checkpoint."""

    evaluator: Evaluator
    values: np.ndarray
    seed: int
    folder: Path | None

    def trials(self, attempts: Sequence[Attempt], done: Done) -> None:
        """Train on the distilled set, as :func:`hdt.selection.study.explore` asks for."""
        for n, (own, looks) in enumerate(attempts):
            file = self._checkpoint(own)
            running = Running(watch=looks, checkpoint=file)
            ended = _on_distilled(self.evaluator, self.values, own, self.seed, running)
            if file is not None:
                file.unlink(missing_ok=True)  # of one that was pruned
            done(n, ended)

    def on_all(self, chosen: Sequence[Configuration], watch: Watch) -> list[Score]:
        """Train on all data: scores, kept in the user cache; NaN where that diverges. ``watch``: how many are done."""
        scores: list[Score] = []
        for own in chosen:
            watch(len(scores))
            file, running = self._file(own), Running(checkpoint=self._checkpoint(own))
            scores.append(known(file) or _keep(file, _on_all(self.evaluator, own, self.seed, running)))
        return scores

    def _file(self, own: Configuration) -> Path:
        return cache_folder() / "evaluations" / f"full-{ranking.key(self.evaluator, own, self.seed)}.json"

    def _checkpoint(self, own: Configuration) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / f".{ranking.key(self.evaluator, own, self.seed)}.checkpoint"


@dataclass
class ByRay(Here):
    """Each a task of Ray, which is joined when the first one is needed and left with ``stack``.

    A training that was interrupted, or whose process was killed, begins anew.
    """

    stack: ExitStack
    workers: int | None
    address: str | None

    @cached_property
    def _joined(self) -> tuple[Any, Callable[..., Any], Any]:
        ray, task = self.stack.enter_context(tasks(self.evaluator, self.workers, self.address))
        return ray, task, ray.put(self.values)

    def trials(self, attempts: Sequence[Attempt], done: Done) -> None:
        ray, task, values = self._joined
        places = {
            task(_trial, values, own, self.seed, dict(looks.limits)): n for n, (own, looks) in enumerate(attempts)
        }

        def told(task: Any, result: tuple[Outcome, dict[int, float]]) -> None:
            ended, looks = result
            for part, value in looks.items():
                attempts[places[task]].looks.tell(part, value)
            done(places[task], ended)

        cluster.each(ray, list(places), told)

    def on_all(self, chosen: Sequence[Configuration], watch: Watch) -> list[Score]:
        found = {n: score for n, own in enumerate(chosen) if (score := known(self._file(own))) is not None}
        watch(len(found))
        if len(found) < len(chosen):
            ray, task, _ = self._joined
            places = {task(_on_all, own, self.seed): n for n, own in enumerate(chosen) if n not in found}

            def told(task: Any, result: Score) -> None:
                n = places[task]
                found[n] = _keep(self._file(chosen[n]), result)
                watch(len(found))

            cluster.each(ray, list(places), told)
        return [found[n] for n in range(len(chosen))]


def _trial(
    evaluator: Evaluator, values: np.ndarray, own: Configuration, seed: int, limits: dict[int, float]
) -> tuple[Outcome, dict[int, float]]:
    looks = Looks(limits)
    return _on_distilled(evaluator, values, own, seed, Running(watch=looks)), looks.told


def _on_distilled(evaluator: Evaluator, values: Any, own: Configuration, seed: int, running: Running) -> Outcome:
    def train() -> Score:
        _, run = evaluator.trained(own.student, values, seed, own.training, running, own.keywords)
        return {"validation_mse": run.validation, "train_seconds": run.seconds}

    return outcome(own, train)


def _on_all(evaluator: Evaluator, own: Configuration, seed: int, running: Running | None = None) -> Score:
    ended = outcome(own, lambda: ranking.score(evaluator, own, evaluator.train[None], seed, running))
    return dict(ended.facts) if ended.status == COMPLETE else ranking.FAILED


def _keep(file: Path, score: Score) -> Score:
    return score if math.isnan(score["validation_mse"]) else cached(file, lambda: score)
