"""Series of unequal length, aligned at their ends: what a long table of real life holds.

The last row of a table [T, C] is the last of every series, whenever that was; rows before a series begins are NaN. So
the last rows of all series can validate and test, as in M4 and GIFT-Eval, and no window crosses from one to another.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from hdt.data.stamps import Step
from hdt.data.steps import grid, regular_step
from hdt.system.errors import require

FEWEST = 3  # rows that tell a step


def aligned(
    data: pd.DataFrame, freq: str | int | None, name: str, known: Step | None = None
) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Rows ``id``, ``time``, ``value`` in time order → one column per series, its first rows [C], and notices.

    The index is that of the longest series. Every series begins with its first value and is regular in itself, with the
    step that all share, or that is ``known``; ``freq`` makes rows that it lacks in between missing values. Raises
    :class:`hdt.system.errors.InputError` naming the series.
    """
    found: dict[Any, pd.Series] = {}
    short: list[Any] = []
    step, absent = None, 0
    for label, own in data.groupby("id", sort=False):
        what, series = f"{name}: series {label!r}", own.set_index("time")["value"]
        if freq is not None:
            series = series.reindex(grid(series.index, freq, what))
            absent += len(series) - len(own)
        series = series.loc[series.first_valid_index() :] if series.notna().any() else series[:0]
        if len(series) < FEWEST:
            short.append(label)
            continue
        mine = regular_step(series.index, what) if known is None else known
        step = mine if step is None else step
        require(mine == step, f"{what} has a step of {mine}, series {next(iter(found), label)!r} one of {step}")
        found[label] = series
    require(len(found) > 0, f"{name}: no series has {FEWEST} rows")
    rows = {label: len(series) for label, series in found.items()}
    longest = max(rows, key=lambda label: rows[label])
    total = rows[longest]
    columns = [pd.Series(series.array, range(total - len(series), total)) for series in found.values()]
    wide = pd.concat(columns, axis=1, keys=list(found)).reindex(range(total)).set_axis(found[longest].index)
    starts = total - np.fromiter(rows.values(), int)
    notices = [f"{len(found)} series of {min(rows.values()):,} to {total:,} rows, aligned at their ends"]
    notices += [f"series of fewer than {FEWEST} rows are left out: {len(short)} (first {short[0]!r})"] if short else []
    notices += [f"rows absent from steps of {freq}: {absent}; their values count as missing"] if absent else []
    return wide.rename_axis(columns=None), starts, notices


def long_enough(panel: Any, starts: np.ndarray, context: int, horizon: int) -> Any:
    """See :meth:`hdt.data.series.Panel.for_windows`, of a panel whose series begin at rows ``starts`` [C]."""
    rows = len(panel.values)
    borders = (rows - 2 * horizon, rows - horizon, rows) if panel.last_windows else panel.borders
    enough = borders[0] - starts >= context + horizon
    needed = context + horizon + borders[2] - borders[0]
    require(
        bool(enough.any()),
        f"{panel.name}: no series has the {needed} rows that context {context}, horizon {horizon} and their "
        f"validation and test parts need; the longest has {rows - int(starts.min())}",
    )
    read = panel.read
    if not enough.all():
        c = int(np.flatnonzero(~enough)[0])
        lost = f"{panel.columns[c]!r} with {rows - int(starts[c])}"
        told = f"{(~enough).sum()} of {len(enough)} series have fewer than {needed} rows: left out (first {lost})"
        read = (*read, told)
    first = int(starts[enough].min())
    starts = starts[enough] - first
    labels = panel.layout.labels and [label for label, kept in zip(panel.layout.labels, enough, strict=True) if kept]
    panel = replace(
        panel, values=np.asarray(panel.values)[first:, enough], index=panel.index[first:],
        columns=tuple(name for name, kept in zip(panel.columns, enough, strict=True) if kept),
        borders=(borders[0] - first, borders[1] - first, borders[2] - first),
        layout=replace(panel.layout, labels=labels), read=read,
        starts=starts if starts.any() else None, last_windows=False,
    )  # fmt: skip
    panel.original("train")  # refuses what cannot be filled
    return panel
