"""The comparison that decides which method to trust: methods × students × seeds on one data set.

Each seed distils anew and trains each student once on the result, under the protocol of
:mod:`hdt.evaluation.protocol`. Finished distillations and scores are kept in the comparison's folder under names
that say what they depend on, so that a run that was stopped goes on, and asking for more computes only that.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from hdt.data import datasets
from hdt.data.series import Panel
from hdt.distillation import config
from hdt.distillation.methods import METHODS, named
from hdt.evaluation import naive, published
from hdt.evaluation.cells import Cell, Work, by_workers, in_turn
from hdt.evaluation.protocol import PROTOCOL, Evaluator, WatchTraining, check
from hdt.evaluation.ray_engine import by_ray
from hdt.evaluation.scores import QUANTILES, Score, summary, to_full
from hdt.objective import OBJECTIVES, Objective
from hdt.parameterization import PARAMETERIZATIONS, Parameterization
from hdt.run import produce
from hdt.students import STUDENTS, Student
from hdt.system import cluster, folders, machine
from hdt.system.errors import require

ALWAYS = ("random", "full")
COLUMNS = (
    "method", "student", "mse", "mse_std", "mae", "mae_std", "mase", "validation_mse", "seeds", "ratio_to_full",
    "published", "floats", "distill_seconds", "train_seconds", "train_speedup", "distance_start", "distance_nearest",
)  # fmt: skip
FACTS = ("floats", "distill_seconds", "distance_start", "distance_nearest")
CELL_TABLE = "cells.csv"  # in its folder: every training
SETTING = ("length", "context", "horizon")


@machine.memory_refusal("lower --context or --horizon, choose a smaller --student, or --device cpu")
def compare(
    data: str | Path | pd.DataFrame | Panel,
    *,
    methods: Sequence[str] | None = None,
    students: Sequence[str | type[Student]] | None = None,
    seeds: int = 3,
    vary: Mapping[str, Sequence[Any]] | None = None,
    validation: bool = True,
    quantiles: bool = False,
    device: str = "auto",
    out: str | Path | None = None,
    workers: int | None = None,
    engine: str = "local",
    address: str | None = None,
    watch: WatchTraining | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Distil with every method and train every student on the results, beside full data.

    ``methods`` and ``students`` default to all; ``random``, ``full`` and the naive forecasts are always there.
    ``vary`` repeats the comparison for several values of one setting, such as ``{"length": [240, 384]}``. ``settings``
    are those of :func:`hdt.distill`; a hyperparameter holds for the methods that have it. Work goes to
    ``out`` and is taken up from there, and every seed's errors to its ``cells.csv`` (see :mod:`hdt.evaluation.paired`);
    without ``out`` only rows of full data are kept. ``workers`` processes share the work, and the threads: errors are
    those of one process with as many threads as each of them has. With ``engine="ray"`` every distillation and training
    is a task of Ray: of one with so many ``workers`` on this machine, or of that at ``address``, HOST:PORT.

    Returns one row per method and student: ``mse``, ``mae`` (± over seeds, scaled units), ``mase``,
    ``ratio_to_full``, ``published`` where a paper prints this setting, stored ``floats``, seconds to
    distil and to train (medians), how much faster than training on full data, and the root mean square
    distances from the starting and from the nearest real segment. With ``quantiles`` rows also have those of
    :func:`hdt.evaluate`, errors of one number are those of the median, nothing ``published`` is beside them, and
    ``floats`` count the noise that horizons lack, which students then train with. Raises
    :class:`hdt.system.errors.InputError`.
    """
    chosen = list(STUDENTS) if students is None else STUDENTS.names(students)
    check(chosen, seeds, quantiles)
    cluster.check(engine, workers, address)
    own = [name for name in chosen if students and name not in students]
    require(
        not own or (engine == "local" and workers in (None, 1)),
        f"student {', '.join(own)}: other processes cannot see a class; give its path",
    )
    names = _names(methods)
    name, values = _varied(vary)
    loading = {key: settings.pop(key) for key in datasets.LOAD_DEFAULTS if key in settings}
    panel = data if isinstance(data, Panel) else datasets.load(data, **loading)
    plans: dict[tuple[str, Any], config.Settings] = {}
    for m, v in product(names, values):  # the first decides what the panel leaves open
        applicable = _applicable(m, {**settings, **({name: v} if name else {})})
        panel, plans[m, v] = produce.prepare(panel, method=m, **applicable)
    first = next(iter(plans.values()))
    if panel.tried:
        warnings.warn(f"{panel.name}: {panel.read[-1]}", stacklevel=2)
    evaluator = Evaluator(
        panel, first.context, first.horizon, device=device, validation=validation, quantiles=quantiles
    )
    cells = [Cell("full", None, None, student, seed) for seed in range(seeds) for student in chosen]
    cells += [
        Cell(m, v, plan.model_copy(update={"seed": seed, "device": device}), student, seed)
        for (m, v), plan in plans.items()
        for seed in range(seeds)
        for student in chosen
    ]
    work = Work(panel, evaluator, None if out is None else Path(out))
    scores: dict[tuple[str, Any, str], list[Score]] = {}
    for cell, score in zip(cells, _found(work, cells, workers, engine, address, watch), strict=True):
        scores.setdefault((cell.method, cell.varied, cell.student), []).append(score)
    if watch is not None:
        watch("done", len(cells), len(cells))
    if out is not None:
        folders.write(Path(out) / CELL_TABLE, _seeds(cells, scores, evaluator, first).to_csv(index=False))
    for kind in naive.NAIVE:
        forecast = evaluator.score_naive(kind)
        scores |= {} if forecast is None else {(kind, None, student): [forecast] for student in chosen}
    return _table(scores, name, evaluator.panel, first)


def _found(
    work: Work, cells: list[Cell], workers: int | None, engine: str, address: str | None, watch: WatchTraining | None
) -> Iterable[Score]:
    if engine == "ray":
        return by_ray(work, cells, workers, address, watch)
    if workers is None or workers == 1:
        return in_turn(work, cells, watch)
    return by_workers(work, cells, workers, watch)


def _names(asked: Sequence[str] | None) -> list[str]:
    names = list(METHODS) if asked is None else list(dict.fromkeys(asked))
    for name in names:
        if name != "full":
            METHODS[named(name)]  # refuses an unknown one
    return [name for name in [*names, *(a for a in ALWAYS if a not in names)] if name != "full"]


def _varied(vary: Mapping[str, Sequence[Any]] | None) -> tuple[str | None, list[Any]]:
    if not vary:
        return None, [None]
    require(len(vary) == 1, f"vary={', '.join(vary)}: one setting at a time")
    ((name, values),) = vary.items()
    require(len(values) > 0, f"vary {name}: no values given")
    require(name not in ("context", "horizon", "seed", "method"), f"vary {name}: that would change the question")
    return name, list(values)


def _applicable(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """The settings that concern a method: hyperparameters of other objectives are left out."""
    known = METHODS[named(method)]

    def fields(kind: type[Objective] | type[Parameterization]) -> set[str]:
        return {*kind.Options.model_fields}

    own = fields(OBJECTIVES[known.objective]) | fields(PARAMETERIZATIONS[known.parameterization])
    others = set().union(*map(fields, OBJECTIVES.values()), *map(fields, PARAMETERIZATIONS.values())) - own
    if known.objective == "none":
        others.add("iterations")
    return {name: value for name, value in given.items() if name not in others}


def _seeds(
    cells: Sequence[Cell],
    scores: Mapping[tuple[str, Any, str], Sequence[Score]],
    evaluator: Evaluator,
    plan: config.Settings,
) -> pd.DataFrame:
    """One row per method, student and seed, with what identifies it."""
    left = {key: iter(found) for key, found in scores.items()}
    where = {"data": evaluator.panel.name, **{name: getattr(plan, name) for name in SETTING}}
    where |= {"validation": evaluator.validation}
    about = {"protocol": PROTOCOL, **machine.versions()}
    rows = []
    for cell in cells:
        own = {"method": cell.method, "varied": cell.varied, "student": cell.student, "seed": cell.seed}
        rows.append({**where, **own, **next(left[cell.method, cell.varied, cell.student]), **about})
    return pd.DataFrame(rows)


def _table(
    scores: dict[tuple[str, Any, str], list[Score]], vary: str | None, panel: Panel, settings: config.Settings
) -> pd.DataFrame:
    full = {student: summary(found) for (method, _, student), found in scores.items() if method == "full"}
    quantiles = any("wql" in row for row in full.values())
    rows = []
    for (method, value, student), found in scores.items():
        row: dict[Any, Any] = {"method": method, "student": student, **summary(found)}
        facts = pd.DataFrame(found).reindex(columns=list(FACTS)).median()
        row |= facts.to_dict()
        if method == "full":
            row["floats"] = panel.train_numbers
        elif method in naive.NAIVE:
            row["floats"] = 0
        row |= to_full(row, full[student])
        if method not in naive.NAIVE:
            row["train_speedup"] = full[student]["train_seconds"] / row["train_seconds"]
        where = {"length": settings.length, "context": settings.context, "horizon": settings.horizon}
        if vary is not None and value is not None:
            row[vary] = where[vary] = value
        row["published"] = published.mse(panel.name, method, student, **{k: where[k] for k in SETTING})
        rows.append(row)
    columns = [vary, *COLUMNS] if vary else list(COLUMNS)
    if quantiles:
        columns = ["validation_crps" if name == "validation_mse" else name for name in columns if name != "published"]
        columns[columns.index("seeds") : columns.index("seeds")] = QUANTILES
    table = pd.DataFrame(rows).reindex(columns=columns)
    return table.astype({name: kind for name, kind in {"published": float, "floats": int}.items() if name in table})
