"""The search: configurations are tried on the distilled set, and the best few trained on all data in the end.

A trial is one training on the distilled series; its epoch and its error come from the real validation part. The best
``top`` are trained on all data, which decides among them, again by validation; their test errors are read then. How
well the distilled set had ordered them, and what taking its first one would have cost, is part of the outcome.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hdt.data.series import Panel
from hdt.evaluation.protocol import Evaluator, WatchTraining
from hdt.run.distilled import Distilled
from hdt.run.source import real_data, same_data
from hdt.selection import leaderboard, ranking, study
from hdt.selection.ranking import Agreement
from hdt.selection.space import Configuration, Space
from hdt.selection.trainings import ByRay, Here
from hdt.students import STUDENTS
from hdt.system import cluster
from hdt.system.errors import require
from hdt.system.fingerprint import fingerprint
from hdt.system.machine import memory_refusal
from hdt.system.options import LARGEST_SEED


@dataclass(frozen=True)
class Found:
    """What a search found.

    ``best``: the configuration that is best on all data, by validation; on the distilled set, where none was trained on
    all data. ``agreement`` of the best few between the two, None for less than two. ``table``: the leaderboard, see
    :mod:`hdt.selection.leaderboard`; ``title`` its heading. ``study``: of Optuna.
    """

    best: Configuration
    table: pd.DataFrame
    title: str
    agreement: Agreement | None
    study: Any


@memory_refusal("leave out the largest students of the space, lower the context or the horizon, or take device cpu")
def search(
    distilled: Distilled | str | Path,
    space: Space | Mapping[Any, Any] | str | Path | None = None,
    *,
    trials: int = 50,
    top: int = 5,
    prune: bool = True,
    seed: int = 0,
    data: str | Path | pd.DataFrame | Panel | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    workers: int | None = None,
    engine: str = "local",
    address: str | None = None,
    watch: WatchTraining | None = None,
) -> Found:
    """Choose a student and its hyperparameters on a distilled set in place of all data.

    ``distilled`` may be the folder of a run. ``space`` is a space file or a mapping of students to parameters
    (:mod:`hdt.selection.space`); by default one of hdt's own students. ``trials`` configurations are tried, proposed by
    TPE; with ``prune`` the worse of them are ended early (ASHA). The best ``top`` are trained on all data, 0 for none.
    ``out`` is a folder in which an interrupted search goes on, more trials are added, and which holds the study and the
    leaderboard. With ``engine="ray"`` every training is a task of Ray: of one with so many ``workers`` on this machine,
    or of that at ``address``, HOST:PORT. Trials are proposed ten at a time, from those before, and ended by what was
    known then, so what is found is the same with either engine, however many train at once and whatever interrupts
    them, but for the last digits where tasks have fewer threads than this process.
    ``watch`` is called with (label, done, total) as trainings begin or end. Needs Optuna, ``hdt-ts[search]``.
    Raises :class:`hdt.system.errors.InputError`.
    """
    study.installed()
    cluster.check(engine, workers, address)
    require(engine == "ray" or workers is None, f"workers={workers}: a search shares its work with --engine ray")
    require(trials >= 1, f"trials={trials}: at least one is needed")
    require(top >= 0, f"top={top}: 0 or more configurations are trained on all data")
    require(0 <= seed <= LARGEST_SEED, f"seed={seed}: expected 0 to {LARGEST_SEED:,}")
    if not isinstance(space, Space):
        space = Space.of(space) if isinstance(space, Mapping) else Space.read(space)
    if not isinstance(distilled, Distilled):
        distilled = Distilled.load(distilled)
    panel = real_data(distilled, data)
    same_data(distilled, panel)
    settings = distilled.info.settings
    evaluator = Evaluator(panel, settings.context, settings.horizon, device=device)
    own = [name for name in space.students if ":" not in name and name not in list(STUDENTS)]
    require(
        not own or engine == "local", f"student {', '.join(own)}: other processes cannot see a class; give its path"
    )
    space.check(evaluator, evaluator.seen(distilled.values).shape[-1])
    folder = None if out is None else Path(out)
    total = trials + top

    def told(label: str, done: int) -> None:
        if watch is not None:
            watch(label, done, total)

    given = evaluator, distilled.seen, seed, folder
    with ExitStack() as stack, study.opened(folder, _name(distilled, evaluator, space, seed, prune)) as found:
        trainings = Here(*given) if engine == "local" else ByRay(*given, stack, workers, address)
        study.explore(
            found, space, trials, trainings.trials, seed=seed, prune=prune,
            watch=lambda n: told(f"trial {n + 1}", min(n, trials)),
        )  # fmt: skip
        rows = leaderboard.rows(found)
        complete = [row for row in rows if row.status == study.COMPLETE]
        require(len(complete) > 0, f"every trial diverged; lower the learning rates of {space.place}")
        best = complete[:top]
        scores = trainings.on_all([row.configuration for row in best], lambda n: told("on all data", trials + n))
        for row, score in zip(best, scores, strict=True):
            row.full = score
        told("done", total)
        rows.sort(key=leaderboard.order)
        both = [(row.validation_mse, row.full["validation_mse"]) for row in rows if row.full is not None]
        agreement = ranking.agreement(*np.array(both).T, draws=0) if len(both) > 1 else None
        table, title = leaderboard.table(rows), _title(distilled, rows)
        if folder is not None:
            leaderboard.write(table, agreement, title, folder)
    return Found(rows[0].configuration, table, title, agreement, found)


def _name(distilled: Distilled, evaluator: Evaluator, space: Space, seed: int, prune: bool) -> str:
    """Of the study, the same for all that is decided alike."""
    in_order = json.dumps(space.facts())  # which TPE's proposals depend on
    facts = [in_order, prune, [evaluator.key(student, seed) for student in space.students]]
    return f"{evaluator.panel.name} {fingerprint(facts, [distilled.values], [__name__])[:12]}"


def _title(distilled: Distilled, rows: list[leaderboard.Row]) -> str:
    info, counts = distilled.info, Counter(row.status for row in rows)
    told = ", ".join(f"{counts[name]} {name}" for name in study.STATUSES if name in counts)
    return f"{info.data.name} by {info.settings.method}, {info.settings.context}→{info.settings.horizon}: {told}"
