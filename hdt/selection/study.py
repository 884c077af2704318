"""A search as a study of Optuna: TPE proposes configurations, successive halving ends the worse ones early.

The study lies in ``study.db`` (SQLite) of the search's folder, where optuna-dashboard reads it. Its name holds the
fingerprint of all that decides its trials, so that the same search goes on in it, and another is another study beside
it. TPE is seeded anew for every trial, by the search's seed and the number of trials that are done; a trial that was
interrupted goes on first. So a search that was stopped tries what one in one go tries.

TPE: Bergstra et al. (NeurIPS 2011). ASHA: Li et al., "A System for Massively Parallel Hyperparameter Tuning" (MLSys
2020); its resource is the share of a training's schedule, in twentieths: trials end after a fifth or three fifths.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hdt.selection.space import Configuration, Space
from hdt.system import folders
from hdt.system.errors import InputError, first_line, require
from hdt.training.loop import Diverged, WatchStep

FILE = "study.db"
PARTS, FIRST_RUNG, FACTOR = 20, 4, 3  # of a schedule; those before the first trials end; one in so many goes on
STATUSES = COMPLETE, PRUNED, DIVERGED = "complete", "pruned", "diverged"
Train = Callable[[Configuration, WatchStep], dict[str, float]]


class Pruned(Exception):
    """Raised out of a training that is not worth going on with."""


def installed() -> Any:
    """The module ``optuna``, imported; raises :class:`InputError` when it is not there."""
    require(find_spec("optuna") is not None, "Optuna is not installed; pip install 'hdt-ts[search]'")
    import optuna

    return optuna


@contextmanager
def opened(folder: Path | None, name: str) -> Iterator[Any]:
    """The study of that name in a folder, or in memory; a folder is locked while it is open.

    Raises :class:`hdt.system.errors.InputError` for a folder that cannot be used.
    """
    optuna = installed()
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        if folder is None:
            yield optuna.create_study(study_name=name)
            return
        with folders.alone(folder, FILE, "search"):
            file = folder / FILE
            try:
                how = {"creator": lambda: sqlite3.connect(file)}  # an address cannot hold every name
                storage = optuna.storages.RDBStorage(f"sqlite:///{FILE}", engine_kwargs=how)
                study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True)
            except Exception as error:  # of SQLite, SQLAlchemy, Alembic and Optuna
                raise InputError(
                    f"{file}: cannot be opened as a study ({first_line(error)}); move it away, or choose another --out"
                ) from error
            try:
                yield study
            except optuna.exceptions.StorageInternalError as error:
                raise InputError(f"{file}: cannot be written ({first_line(error)}); make room there") from error
            finally:
                storage.engine.dispose()
    finally:
        optuna.logging.set_verbosity(level)


def explore(
    study: Any, space: Space, trials: int, train: Train, *, seed: int, prune: bool, watch: Callable[[int], None]
) -> None:
    """Try configurations until the study has so many trials; those it has count, and an unfinished one comes first.

    ``train`` trains a configuration, calls its second argument at every look, and returns facts with
    ``validation_mse``. ``watch`` is called with the number of finished trials before each.
    """
    optuna = installed()
    states = optuna.trial.TrialState
    study.pruner = optuna.pruners.SuccessiveHalvingPruner(FIRST_RUNG, FACTOR) if prune else optuna.pruners.NopPruner()
    while (done := len(finished(study))) < trials:
        watch(done)
        entropy = np.random.SeedSequence([seed, done]).generate_state(1)
        study.sampler = optuna.samplers.TPESampler(seed=int(entropy[0]))
        trial = _begun(study, optuna)
        own = space.suggest(trial)
        trial.set_user_attr("configuration", {"student": own.student, "values": dict(own.values)})
        twin = next((t for t in finished(study) if configuration(t) == own), None)
        if twin is not None:
            _told(study, trial, twin.user_attrs["status"], twin.value, {**_facts(twin), "twin": twin.number})
            continue
        try:
            facts = train(own, _Looks(trial))
        except Diverged:
            _told(study, trial, DIVERGED, None, {})
        except Pruned as ended:
            _told(study, trial, PRUNED, ended.args[0], {})
        except InputError as error:
            study.tell(trial, state=states.FAIL)
            raise InputError(f"{own.student} ({own.text}): {error}") from error
        else:
            _told(study, trial, COMPLETE, facts["validation_mse"], facts)
    watch(len(finished(study)))


def _begun(study: Any, optuna: Any) -> Any:
    """The trial that was interrupted, or a new one."""
    states = optuna.trial.TrialState
    for left in study.get_trials(states=(states.RUNNING,)):
        if "configuration" in left.user_attrs:
            return optuna.trial.Trial(study, left._trial_id)
        study.tell(left.number, state=states.FAIL)  # before all of its values were drawn
    return study.ask()


class _Looks:
    """Tells a trial the lowest validation error after every look, and ends its training when it is pruned."""

    def __init__(self, trial: Any) -> None:
        self.trial = trial
        self.told = dict(trial.study.trials[trial.number].intermediate_values)  # of one that was interrupted
        self.best = min(self.told.values(), default=math.inf)

    def __call__(self, step: int, steps: int, value: float) -> None:
        part, self.best = math.ceil(PARTS * step / steps), min(self.best, value)
        if part in self.told or not math.isfinite(self.best):
            return
        self.told[part] = self.best
        self.trial.report(self.best, part)
        if self.trial.should_prune():
            raise Pruned(self.best)


def _told(study: Any, trial: Any, status: str, value: float | None, facts: dict[str, Any]) -> None:
    """Finish a trial: a pruned or diverged one is worse to TPE than every complete one."""
    from optuna.trial import TrialState

    for name, fact in {**facts, "status": status}.items():
        trial.set_user_attr(name, fact)
    if status == COMPLETE:
        study.tell(trial, value)
    else:
        study.tell(trial, state=TrialState.PRUNED)


def finished(study: Any) -> list[Any]:
    """The trials that are done, in order."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def configuration(trial: Any) -> Configuration:
    """What a trial tried."""
    return Configuration(**trial.user_attrs["configuration"])


def _facts(trial: Any) -> dict[str, Any]:
    return {name: fact for name, fact in trial.user_attrs.items() if name not in ("configuration", "status")}
