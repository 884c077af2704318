"""Rows at any times on a declared grid: what falls between two steps is aggregated, as pandas resamples.

Stamps may be irregular, repeated and unsorted. Steps without a row are missing values (:mod:`hdt.data.missing`), but
for ``count``, where they are zero.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hdt.data.stamps import Step, following
from hdt.data.steps import MOST_ROWS, step_named
from hdt.system.errors import InputError, first_line, require

MOST = 0.95  # of the span of a table
HOW = ("mean", "sum", "min", "max", "median", "first", "last", "count")


class Grid(NamedTuple):
    """All steps over the span of a table, and the place [rows] of every row among them; rows are in time order."""

    steps: pd.Index
    step: Step
    order: np.ndarray
    place: np.ndarray
    how: str
    rule: str

    def wide(self, table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
        """Rows of numbers, one column per series, on the grid; and a notice."""
        found = self._aggregated(table.iloc[self.order].groupby(self.place))
        whole = found.reindex(range(len(self.steps)), **self._empty).set_axis(self.steps)
        return whole, self._notice(len(whole), len(found), "")

    def long(self, data: pd.DataFrame) -> tuple[pd.DataFrame, str]:
        """Rows ``id``, ``time``, ``value`` on the grid, and a notice.

        Each series goes from its own first step to its last, or, when all of them cover ``MOST`` of the span, all go
        over all of it and share their stamps.
        """
        codes, labels = pd.factorize(data["id"])
        data = data.assign(id=codes).iloc[self.order]
        found = self._aggregated(data.groupby(["id", self.place])["value"])
        ends = pd.Series(self.place).groupby(data["id"].to_numpy()).agg(["min", "max"]).to_numpy(copy=True)
        if np.ptp(ends, axis=1).min() + 1 >= MOST * len(self.steps):
            ends[:] = 0, len(self.steps) - 1
        each = [np.arange(first, last + 1) for first, last in ends]
        ids, place = np.repeat(np.arange(len(each)), [len(own) for own in each]), np.concatenate(each)
        whole = found.reindex(pd.MultiIndex.from_arrays([ids, place]), **self._empty)
        made = pd.DataFrame({"id": labels.take(ids), "time": self.steps.take(place), "value": whole.to_numpy()})
        return made, self._notice(len(whole), len(found), " of all series")

    def _notice(self, total: int, filled: int, of: str) -> str:
        told = f"{len(self.place):,} rows resampled to {total:,} steps of {self.rule}{of}, by {self.how}"
        empty = "are zero" if self.how == "count" else "count as missing"
        return told if filled == total else f"{told}; {total - filled:,} steps without a row {empty}"

    def _aggregated(self, groups: Any) -> Any:
        return groups.sum(min_count=1) if self.how == "sum" else getattr(groups, self.how)()

    @property
    def _empty(self) -> dict[str, Any]:
        return {"fill_value": 0} if self.how == "count" else {}


def grid_of(stamps: pd.Index, resample: Any, name: str) -> Grid:
    """The grid of ``resample``, RULE or RULE:HOW, for rows at ``stamps``.

    Bins are those of pandas: fixed steps count from the midnight before the first row, ends of months, quarters, years
    and weeks are labelled by their ends. Raises :class:`InputError` for a rule that pandas does not have, one that is
    far too fine, and one whose steps cannot be counted on from the first.
    """
    what = f"{name}: resample={resample!r}"
    rule, _, how = str(resample).partition(":")
    how = how if ":" in str(resample) else "mean"
    require(how in HOW, f"{what}: after the colon comes one of {', '.join(HOW)}")
    numbered = not isinstance(stamps, pd.DatetimeIndex)
    offset = step_named(rule, numbered, f"{what}: {rule!r}")
    order = np.argsort(stamps, kind="stable")
    ordered = stamps.take(order)
    if isinstance(offset, int):
        place = np.asarray(ordered) // offset
        require(place[-1] - place[0] <= MOST_ROWS * len(ordered), _too_fine(what, ordered))
        steps: pd.Index = pd.RangeIndex(place[0] * offset, (place[-1] + 1) * offset, offset)
        return Grid(steps, offset, order, place - place[0], how, rule)
    try:
        further = ordered[0] + (MOST_ROWS * len(ordered) + 1) * offset
        forward = ordered[0] + offset > ordered[0]
    except (ValueError, OverflowError):  # beyond all stamps
        further, forward = ordered[-1], True
    require(forward and further >= ordered[-1], _too_fine(what, ordered))
    try:
        counts = pd.Series(1, ordered).resample(offset, origin=ordered[0].normalize()).count()
        steps = pd.DatetimeIndex(counts.index)
        step = _step(offset, steps)
        same = following(steps[0], step, len(steps), steps.unit).equals(steps) and counts.sum() == len(ordered)
    except Exception as error:  # clocks that change at midnight, hours that a business day lacks: of several libraries
        told = f"{what}: pandas cannot resample these stamps ({first_line(error)})"
        raise InputError(f"{told}; choose another, or give stamps in UTC") from None
    require(same, f"{what}: its steps do not follow one another here; choose another, or give stamps in UTC")
    return Grid(steps, step, order, np.repeat(np.arange(len(steps)), counts), how, rule)


def _step(offset: Any, steps: pd.DatetimeIndex) -> Step:
    """A duration where steps always have the same, as of tables that are not resampled."""
    utc = steps.tz is None or str(steps.tz) == "UTC"
    day, week = isinstance(offset, pd.offsets.Day), isinstance(offset, pd.offsets.Week)
    if (day or week) and not utc:
        return offset
    if day or week:
        return pd.Timedelta(days=offset.n * (7 if week else 1))
    fixed: Any = offset if isinstance(offset, pd.offsets.Tick) else None
    return offset if fixed is None else pd.Timedelta(fixed).as_unit("ns")


def _too_fine(what: str, stamps: pd.Index) -> str:
    return f"{what} is far too fine for {len(stamps)} rows from {stamps[0]} to {stamps[-1]}"
