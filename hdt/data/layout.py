"""How a caller's table is laid out: what turns checked values back into a frame like the one that was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any, Literal

import numpy as np
import pandas as pd

from hdt.data.stamps import Step, Times, following
from hdt.system.errors import require

Label = Any  # of a column: text, a number, or a tuple of them for the levels of a MultiIndex


@dataclass(frozen=True)
class Layout:
    """How the caller's frame was laid out, so that results go back the same way. Everything here is kept as JSON.

    ``wide``: one column per channel, time in the index or, with ``time_in_column``, in a column.
    ``long``: one row per (series, time) in the columns ``id_column``, ``time_column``, ``target_column``, those
    of ``index`` in the index. ``zone`` and ``unit`` are those of the stamps, ``period`` the frequency of a
    PeriodIndex. ``labels`` are the channels where the caller's are not plain text, with the names of their levels
    and, in long frames, their dtype.
    """

    kind: Literal["wide", "long"] = "wide"
    time_column: str | None = None
    id_column: str = "unique_id"
    target_column: str = "y"
    time_in_column: bool = False
    index: Sequence[str] = ()
    zone: str | None = None
    unit: str | None = None
    period: str | None = None
    labels: Sequence[Any] | None = None
    level_names: Sequence[str | None] = (None,)
    id_dtype: str | None = None

    def own(self, columns: Sequence[str]) -> list[Label]:
        """The caller's own labels of all channels, which are called ``columns`` as text."""
        labels = columns if self.labels is None else self.labels
        return [tuple(label) if isinstance(label, list | tuple) else label for label in labels]

    def stamps(self, first: str, step: Step, periods: int) -> pd.Index:
        """``periods`` stamps or numbers from ``first`` on, in the caller's time zone and unit."""
        if isinstance(step, int):
            return following(int(first), step, periods, None)
        start = pd.Timestamp(first)
        return following(start.tz_convert(self.zone) if self.zone else start, step, periods, self.unit)

    def frame(self, values: np.ndarray, index: pd.Index, columns: Sequence[Label]) -> pd.DataFrame:
        """Lay ``values`` [T, C] out as the caller did.

        Long frames are ordered by series, then by time, as forecasting libraries write them.
        """
        if self.period is not None and isinstance(index, pd.DatetimeIndex):
            index = index.to_period(self.period)
        if self.kind == "wide":
            wide = pd.DataFrame(values, index=index.rename(self.time_column), columns=self._columns(columns))
            return wide.reset_index() if self.time_in_column else wide
        time, steps = self.time_column or "ds", len(index)
        ids = pd.Series([str(label) if isinstance(label, tuple) else label for label in columns]).repeat(steps)
        if self.id_dtype == "category" or (self.id_dtype and pd.api.types.is_integer_dtype(ids)):
            ids = ids.astype(pd.api.types.pandas_dtype(self.id_dtype))
        stamps = index[np.tile(np.arange(steps), len(columns))]
        long = pd.DataFrame({self.id_column: ids.array, time: stamps, self.target_column: values.T.ravel()})
        return long.set_index(list(self.index)) if self.index else long

    def _columns(self, columns: Sequence[Label]) -> pd.Index:
        names = list(self.level_names)
        if len(names) > 1 and all(isinstance(column, tuple) for column in columns):
            return pd.MultiIndex.from_tuples(list(columns), names=names)
        return pd.Index(list(columns), name=names[0] if len(names) == 1 else None, tupleize_cols=False)


def suffixed(label: Label, suffix: str) -> Label:
    """A label that says which of several it is: ``load/1``, or the same on the last level of a MultiIndex."""
    return (*label[:-1], f"{label[-1]}/{suffix}") if isinstance(label, tuple) else f"{label}/{suffix}"


def time_of(index: pd.Index, times: Times) -> dict[str, Any]:
    """What a layout keeps of stamps."""
    if not isinstance(index, pd.DatetimeIndex):
        return {}
    zone = None if index.tz is None else str(index.tz)
    try:
        pd.Timestamp(0, tz=zone)
    except (ValueError, KeyError, OSError):  # a zone without a public name; the first stamp still tells its offset
        zone = None
    return {"zone": zone, "unit": index.unit, "period": times.period}


def labels_of(columns: pd.Index, texts: list[str], name: str) -> dict[str, Any]:
    """What a layout keeps of labels; refused when two of them are the same as text."""
    seen: dict[str, Label] = {}
    for label, text in zip(columns, texts, strict=True):
        require(
            text not in seen,
            f"{name}: columns {seen.get(text)!r} and {label!r} would both be called {text!r}; rename one",
        )
        seen[text] = label
    names = [None if level is None else str(level) for level in columns.names]
    kept = [_plain(label) for label in columns]
    return {"labels": None if kept == texts else kept, "level_names": names}


def _plain(label: Label) -> Any:
    """A label as JSON holds it: numbers stay numbers, anything else becomes text."""
    if isinstance(label, tuple):
        return [_plain(part) for part in label]
    if isinstance(label, bool | np.bool_) or not isinstance(label, Real) or not isfinite(label):
        return str(label)
    return int(label) if isinstance(label, int | np.integer) else float(label)
