"""A search as a study of Optuna: TPE proposes configurations, successive halving ends the worse ones early.

The study lies in ``study.db`` (SQLite) of the search's folder, where optuna-dashboard reads it. Its name holds the
fingerprint of all that decides its trials, so that the same search goes on in it, and another is another study beside
it. Trials come in batches of ``BATCH``: what is proposed, and the errors above which a training is ended, follow from
the seed and the trials of earlier batches alone. So neither the order in which trainings end, nor how many run at once,
nor an interruption, nor trials that are added later change anything. (TPE takes trials of its batch for poor ones, so
that it does not propose them again. Best of 50 trials on a made-up function, 30 seeds: .0112 ± .0019 so,
.0114 ± .0020 one at a time, and .0317 ± .0023 where TPE does not know of the others.)

TPE: Bergstra et al. (NeurIPS 2011). ASHA: Li et al., "A System for Massively Parallel Hyperparameter Tuning" (MLSys
2020); its resource is the share of a training's schedule, in twentieths: trials end after a fifth or three fifths.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hdt.selection.space import Configuration, Space
from hdt.system import folders
from hdt.system.errors import InputError, first_line, require
from hdt.training.loop import Diverged

FILE = "study.db"
BATCH = 10  # trials that are proposed at once; so many TPE draws by chance first, knowing nothing
PARTS, RUNGS, FACTOR = 20, (4, 12), 3  # of a schedule; after which trials end; one in so many goes on
EVIDENCE = 10  # trials that have reached a rung before others end there: the best third of fewer is one or two
STATUSES = COMPLETE, PRUNED, DIVERGED = "complete", "pruned", "diverged"


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
    study: Any,
    space: Space,
    trials: int,
    train: Callable[[Sequence[Attempt], Done], None],
    *,
    seed: int,
    prune: bool,
    watch: Callable[[int], None],
) -> None:
    """Try configurations until the study has so many trials; those it has count, and unfinished ones come first.

    ``train`` is given trainings, and calls ``Done`` with the place and the outcome of each as it ends. ``watch`` is
    called with the number of trials that have ended, at first and whenever that changes.
    """
    optuna = installed()
    study.sampler = optuna.samplers.RandomSampler()  # draws nothing: trials come with their values
    for start in range(0, trials, BATCH):
        stop = min(start + BATCH, trials)
        if len(finished(study)) >= stop:
            continue
        known = _tried(study)[:start]
        for new in list(_proposed(space, known, seed, range(start, stop)))[len(_tried(study)) - start :]:
            study.add_trial(new)
        _train(study, start, stop, limits(known) if prune else {}, train, watch)
        for trial in _tried(study)[start:stop]:
            if not trial.state.is_finished():
                _finish(study, trial)
    watch(len(finished(study)))


def _proposed(space: Space, known: Sequence[Any], seed: int, places: range) -> Iterator[Any]:
    """Trials of a batch: each drawn by a seed of its own, knowing those before the batch, and that the others run."""
    optuna = installed()
    scratch = optuna.create_study()
    scratch.add_trials(known)
    for n in places:
        entropy = np.random.SeedSequence([seed, n]).generate_state(1)
        scratch.sampler = optuna.samplers.TPESampler(seed=int(entropy[0]), constant_liar=True)
        own = space.suggest(scratch.ask())
        drawn = scratch.trials[-1]
        yield optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=drawn.params,
            distributions=drawn.distributions,
            user_attrs={"configuration": {"student": own.student, "values": dict(own.values)}},
        )


def limits(known: Sequence[Any]) -> dict[int, float]:
    """By rung, the error above which a trial is not among the best third there, counted with those that are known.

    There is none for a rung that fewer than ``EVIDENCE`` of them have reached.
    """
    found = {}
    for rung in RUNGS:
        reached = sorted(
            looks[min(part for part in looks if part >= rung)]
            for looks in (trial.intermediate_values for trial in known)
            if max(looks, default=0) >= rung
        )
        if len(reached) >= EVIDENCE:
            found[rung] = reached[(len(reached) + 1) // FACTOR - 1]
    return found


def _train(
    study: Any,
    start: int,
    stop: int,
    limits: Mapping[int, float],
    train: Callable[[Sequence[Attempt], Done], None],
    watch: Callable[[int], None],
) -> None:
    """Train what of a batch has no outcome yet and is no twin of an earlier trial."""
    from optuna.trial import Trial

    every = _tried(study)[:stop]
    waiting = [t for t in every[start:] if "status" not in t.user_attrs and _twin(t, every) is None]
    own = [Trial(study, trial._trial_id) for trial in waiting]
    looks = [Looks(limits, dict(t.intermediate_values), now.report) for t, now in zip(waiting, own, strict=True)]
    ended = sum("status" in trial.user_attrs for trial in every)

    def done(n: int, outcome: Outcome) -> None:
        nonlocal ended
        for name, fact in {**outcome.facts, "status": outcome.status}.items():
            own[n].set_user_attr(name, fact)
        ended += 1
        watch(ended)

    watch(ended)
    if waiting:
        train([Attempt(configuration(trial), look) for trial, look in zip(waiting, looks, strict=True)], done)


def _finish(study: Any, trial: Any) -> None:
    """A trial whose outcome is known: a pruned or diverged one is worse to TPE than every complete one."""
    from optuna.trial import Trial, TrialState

    twin = _twin(trial, finished(study))
    facts = trial.user_attrs
    if twin is not None:
        facts = {
            **{name: fact for name, fact in twin.user_attrs.items() if name != "configuration"},
            "twin": twin.number,
        }
        for name, fact in facts.items():
            Trial(study, trial._trial_id).set_user_attr(name, fact)
    if facts["status"] == COMPLETE:
        study.tell(trial.number, facts["validation_mse"])
    else:
        study.tell(trial.number, state=TrialState.PRUNED)


@dataclass
class Looks:
    """Keeps the lowest validation error ``told`` at every part of a schedule, and ends a training above its limits.

    ``limits``: by rung. ``keep`` is called with (error, part) for what is told.
    """

    limits: Mapping[int, float]
    told: dict[int, float] = field(default_factory=dict)  # before an interruption, too
    keep: Callable[[float, int], None] | None = None

    def __post_init__(self) -> None:
        self.best = min(self.told.values(), default=math.inf)

    def __call__(self, step: int, steps: int, value: float) -> None:
        part, self.best = math.ceil(PARTS * step / steps), min(self.best, value)
        if part in self.told or not math.isfinite(self.best):
            return
        before = max(self.told, default=0)
        self.tell(part, self.best)
        if any(before < rung <= part and self.best > limit for rung, limit in self.limits.items()):
            raise Pruned

    def tell(self, part: int, value: float) -> None:
        """Keep what was lowest at a part, once."""
        if part not in self.told:
            self.told[part] = value
            if self.keep is not None:
                self.keep(value, part)


class Attempt(NamedTuple):
    """A training that is to be done: it calls ``looks`` after every look at the validation part."""

    configuration: Configuration
    looks: Looks


class Outcome(NamedTuple):
    """How a training ended: one of ``STATUSES``, and facts of a complete one with ``validation_mse``."""

    status: str
    facts: Mapping[str, float]


Done = Callable[[int, Outcome], None]


def outcome(own: Configuration, train: Callable[[], Mapping[str, float]]) -> Outcome:
    """Of a training that is called; whatever else it raises goes on, refusals with the configuration before them."""
    try:
        return Outcome(COMPLETE, train())
    except Diverged:
        return Outcome(DIVERGED, {})
    except Pruned:
        return Outcome(PRUNED, {})
    except InputError as error:
        raise InputError(f"{own.student} ({own.text}): {error}") from error


def _tried(study: Any) -> list[Any]:
    """All trials, in order."""
    return study.get_trials(deepcopy=False)


def _twin(trial: Any, others: Sequence[Any]) -> Any:
    """The first of others that was proposed before and has the same configuration, if any."""
    own = configuration(trial)
    return next((t for t in others if t.number < trial.number and configuration(t) == own), None)


def finished(study: Any) -> list[Any]:
    """The trials that are done, in order."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def configuration(trial: Any) -> Configuration:
    """What a trial tried."""
    return Configuration(**trial.user_attrs["configuration"])
