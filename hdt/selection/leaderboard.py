"""The leaderboard of a search: a row per configuration, as a table for people, as CSV, JSON and picture.

Columns: ``rank``; ``student``; ``status`` (complete, pruned, diverged); ``validation_mse`` on the distilled set, the
lowest that was seen; of the best few, trained on all data, ``full_validation_mse`` and on the test part ``full_mse``,
``full_mae``, ``full_mase``; seconds of both trainings; ``trial``; then every parameter, empty where a student has none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hdt.evaluation.figures import PALETTE
from hdt.evaluation.scores import Score
from hdt.run import glyphs
from hdt.run.pictures import MARK, png
from hdt.selection import study
from hdt.selection.ranking import Agreement
from hdt.selection.space import Configuration
from hdt.system import folders

COLUMNS = [
    "rank", "student", "status", "validation_mse", "full_validation_mse", "full_mse", "full_mae", "full_mase",
    "train_seconds", "full_train_seconds", "trial",
]  # fmt: skip
SHOWN = 10  # rows of the table people read
HIGHEST = 1.5  # trials above this many times the best are drawn at the upper edge


@dataclass
class Row:
    """A configuration that was tried, and its score on all data, of the best few."""

    trial: int
    configuration: Configuration
    status: str
    validation_mse: float
    train_seconds: float
    full: Score | None = None


def rows(found: Any) -> list[Row]:
    """Every configuration that a study tried, once, best first."""
    every = []
    for trial in study.finished(found):
        told = trial.user_attrs
        if "twin" in told:
            continue
        lowest = math.nan if trial.value is None else trial.value
        seconds = told.get("train_seconds", math.nan)
        every.append(Row(trial.number, study.configuration(trial), told["status"], lowest, seconds))
    return sorted(every, key=order)


def order(row: Row) -> tuple[bool, float, int, bool, float, int]:
    """Those on all data first, by their validation error there; then complete, pruned, diverged ones by theirs, and
    behind other complete ones those that diverged on all data."""
    full = math.inf if row.full is None or math.isnan(row.full["validation_mse"]) else row.full["validation_mse"]
    own = math.inf if math.isnan(row.validation_mse) else row.validation_mse
    failed = row.full is not None and math.isinf(full)
    return math.isinf(full), full, study.STATUSES.index(row.status), failed, own, row.trial


def table(ordered: list[Row]) -> pd.DataFrame:
    """The leaderboard; see the columns above."""
    lines = []
    for n, row in enumerate(ordered, 1):
        own = {"rank": n, "student": row.configuration.student, "status": row.status, "trial": row.trial}
        own |= {"validation_mse": row.validation_mse, "train_seconds": row.train_seconds}
        full = {f"full_{name}": value for name, value in (row.full or {}).items()}
        lines.append({**own, **full})
    found = pd.DataFrame(lines).reindex(columns=COLUMNS)
    for name in dict.fromkeys(name for row in ordered for name in row.configuration.values):
        values = [row.configuration.values.get(name) for row in ordered]
        found[name] = pd.Series(values, dtype=object)  # whole numbers stay so
    return found


def parameters(row: Mapping[Any, Any]) -> dict[str, Any]:
    """The parameters of a row of the table."""
    return {name: value for name, value in row.items() if name not in COLUMNS and not pd.isna(value)}


def pivot(found: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table people read: the best ``SHOWN``."""
    lines = []
    for row in found.head(SHOWN).to_dict("records"):
        settings = Configuration(row["student"], parameters(row)).text
        errors = [_number(row[name]) for name in ("validation_mse", "full_validation_mse", "full_mse")]
        errors[0] += "" if row["status"] == study.COMPLETE else f" ({row['status']})"
        lines.append([str(row["rank"]), row["student"], settings, *errors])
    return ["", "student", "settings", "validation", "on all data", "test, on all data"], lines


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def in_words(agreement: Agreement) -> str:
    """What the best few say of the distilled set."""
    return (
        f"Kendall τ {agreement.kendall:.2f} between validation errors on the distilled set and on all data, over the "
        f"best {agreement.count}; taking the first on the distilled set costs {agreement.regret:.1%} (regret)"
    )


def write(found: pd.DataFrame, agreement: Agreement | None, title: str, folder: Path) -> list[Path]:
    """Write ``leaderboard.csv``, ``.json`` and ``.png`` into ``folder``; return their paths."""
    contents: dict[str, str | bytes] = {
        "csv": found.to_csv(index=False),
        "json": json.dumps(as_json(found, agreement), indent=1),
        "png": png(draw(found, agreement, title), 130),
    }
    for kind, content in contents.items():
        folders.write(folder / f"leaderboard.{kind}", content)
    return [folder / f"leaderboard.{kind}" for kind in contents]


def as_json(found: pd.DataFrame, agreement: Agreement | None) -> dict[str, Any]:
    """The best configuration, the agreement and all rows, as JSON knows them."""
    first = found.iloc[0].to_dict()
    told = None if agreement is None else {k: v if math.isfinite(v) else None for k, v in asdict(agreement).items()}
    every = [{str(k): None if pd.isna(v) else v for k, v in row.items()} for row in found.to_dict("records")]
    best = {"student": first["student"], "values": {name: every[0][name] for name in parameters(first)}}
    return {"best": best, "agreement": told, "rows": every}


def draw(found: pd.DataFrame, agreement: Agreement | None, title: str) -> Figure:
    """Left: validation errors by trial, and the best so far. Right: the best few, on the distilled set and on all."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    students = list(dict.fromkeys(found.sort_values("student")["student"]))
    colors = {student: PALETTE[n % len(PALETTE)] for n, student in enumerate(students)}
    _trials(left, found, colors)
    _finalists(right, found.dropna(subset="full_validation_mse"), colors)
    if agreement is not None:
        right.set_title(f"Kendall τ {agreement.kendall:.2f}, regret {agreement.regret:.1%}", fontsize=10)
    text, font = glyphs.name(title)
    left.set_title(text, fontsize=10, **font)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=8, fontsize=8, frameon=False)
    return figure


def _trials(ax: Axes, found: pd.DataFrame, colors: Mapping[str, str]) -> None:
    complete = found[found["status"] == study.COMPLETE].sort_values("trial")
    top = HIGHEST * complete["validation_mse"].min()
    ended = found[found["status"] != study.COMPLETE]
    for student, color in colors.items():
        own, short = (each[each["student"] == student] for each in (complete, ended))
        ax.plot(own["trial"], own["validation_mse"].clip(upper=top), "o", ms=5, color=color, label=student)
        ax.plot(short["trial"], short["validation_mse"].fillna(top).clip(upper=top), "x", ms=4, color=color)
    if len(ended):
        ax.plot([], [], "x", ms=4, color=MARK, label="ended early")
    best = complete["validation_mse"].cummin()
    last = max(found["trial"].max() + 1, 1)
    ax.step([*complete["trial"], last], [*best, best.iloc[-1]], where="post", color=MARK, lw=1, label="best so far")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="trial", ylabel="validation MSE, trained on the distilled set")
    ax.spines[["top", "right"]].set_visible(False)


def _finalists(ax: Axes, few: pd.DataFrame, colors: Mapping[str, str]) -> None:
    if few.empty:
        return ax.set_axis_off()
    for row in few.to_dict("records"):
        place = (row["validation_mse"], row["full_validation_mse"])
        ax.plot(*place, "o", ms=6, color=colors[row["student"]])
        ax.annotate(str(row["rank"]), place, xytext=(5, 4), textcoords="offset points", fontsize=8)
    ax.margins(0.15)
    ax.locator_params(nbins=5)
    ax.set(xlabel="validation MSE, trained on the distilled set", ylabel="validation MSE, trained on all data")
    ax.spines[["top", "right"]].set_visible(False)
