"""Read a wide or long pandas frame into checked arrays, and lay arrays out as the caller did.

Errors name the first offending column or row. Axis letters: T real steps, C channels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from pandas.tseries.offsets import BaseOffset

from hdt.system.errors import InputError, require

TIME_NAMES = ("date", "ds", "timestamp", "time", "datetime", "date_time")
Step: TypeAlias = pd.Timedelta | BaseOffset


@dataclass(frozen=True)
class Layout:
    """How the caller's frame was laid out, so that results go back the same way.

    ``wide``: one column per channel, time in a DatetimeIndex or, with ``time_in_column``, in a column.
    ``long``: one row per (series, time) in the columns ``id_column``, ``time_column``, ``target_column``.
    """

    kind: Literal["wide", "long"] = "wide"
    time_column: str | None = None
    id_column: str = "unique_id"
    target_column: str = "y"
    time_in_column: bool = False

    def frame(self, values: np.ndarray, index: pd.DatetimeIndex, columns: Sequence[str]) -> pd.DataFrame:
        """Lay ``values`` [T, C] out as the caller did.

        Long frames are ordered by series, then by time, as forecasting libraries write them.
        """
        wide = pd.DataFrame(values, index=index, columns=list(columns))
        if self.kind == "wide":
            wide.index.name = self.time_column
            return wide.reset_index() if self.time_in_column else wide
        time = self.time_column or "ds"
        wide.index.name = time
        long = wide.reset_index().melt(time, var_name=self.id_column, value_name=self.target_column)
        return long[[self.id_column, time, self.target_column]]


class Table(NamedTuple):
    """A checked table: float64 values [T, C] with NaN where missing, regular stamps, names, step, layout."""

    values: np.ndarray
    stamps: pd.DatetimeIndex
    columns: tuple[str, ...]
    step: Step
    layout: Layout


def read_frame(
    frame: pd.DataFrame,
    name: str = "frame",
    time_column: str | None = None,
    id_column: str = "unique_id",
    target_column: str = "y",
) -> Table:
    """Check a frame; it is long when it has the columns ``id_column`` and ``target_column``.

    Raises :class:`InputError` for anything that is not a regular numeric series in time order.
    """
    require(isinstance(frame, pd.DataFrame), f"{name}: expected a pandas DataFrame, got {type(frame).__name__}")
    require(frame.shape[0] > 0 and frame.shape[1] > 0, f"{name}: the table is empty")
    if id_column in frame.columns and target_column in frame.columns:
        layout = Layout("long", time_column or _time_column(frame, name), id_column, target_column)
        index, wide = _read_long(frame, layout, name)
    else:
        index, wide, layout = _read_wide(frame, time_column, name)
    step = _regular_step(index, name)
    values = _numeric(wide, name)
    require(bool(np.isfinite(values).any()), f"{name}: no finite value in the table")
    return Table(values, index, tuple(str(column) for column in wide.columns), step, layout)


def parse_step(step: str) -> Step:
    """A step as stored in run.json: an ISO duration, or a pandas frequency such as ``MS``."""
    return pd.Timedelta(step) if step.startswith("P") else pd.tseries.frequencies.to_offset(step)


def format_step(step: Step) -> str:
    """Inverse of :func:`parse_step`."""
    return step.isoformat() if isinstance(step, pd.Timedelta) else step.freqstr


def _time_column(frame: pd.DataFrame, name: str) -> str:
    for column in frame.columns:
        if str(column).lower() in TIME_NAMES or pd.api.types.is_datetime64_any_dtype(frame[column]):
            return column
    text = [c for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c])]
    for column in text:
        if _to_datetime(frame[column].head(8)).notna().all():
            return column
    raise InputError(
        f"{name}: no timestamps found (columns: {_listed(frame.columns)}); "
        "give a DatetimeIndex, a column named 'date' or 'ds', or --time-column"
    )


def _to_datetime(values: pd.Series | pd.Index) -> pd.Series | pd.Index:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what cannot be parsed becomes NaT and is reported by us
        return pd.to_datetime(values, errors="coerce")


def _parse_time(values: pd.Series | pd.Index, name: str, column: object) -> pd.DatetimeIndex:
    if pd.api.types.is_numeric_dtype(values):
        raise InputError(
            f"{name}: time column {column!r} holds numbers, not timestamps; convert it with pd.to_datetime"
        )
    parsed = _to_datetime(values)
    bad = np.flatnonzero(pd.isna(parsed))
    if len(bad):
        value = values.iloc[bad[0]] if isinstance(values, pd.Series) else values[bad[0]]
        raise InputError(f"{name}: unparsable timestamp {value!r} in column {column!r}, row {bad[0]}; expected a date")
    return pd.DatetimeIndex(parsed)


def _read_wide(
    frame: pd.DataFrame, time_column: str | None, name: str
) -> tuple[pd.DatetimeIndex, pd.DataFrame, Layout]:
    if time_column is None and isinstance(frame.index, pd.DatetimeIndex):
        label = None if frame.index.name is None else str(frame.index.name)
        index, wide = _parse_time(frame.index, name, label), frame
        layout = Layout("wide", label)
    else:
        column = time_column or _time_column(frame, name)
        require(column in frame.columns, f"{name}: no column {column!r} (columns: {_listed(frame.columns)})")
        index, wide = _parse_time(frame[column], name, column), frame.drop(columns=column)
        layout = Layout("wide", str(column), time_in_column=True)
    require(wide.shape[1] > 0, f"{name}: no value columns beside the timestamps")
    twice = wide.columns[wide.columns.duplicated()]
    require(len(twice) == 0, f"{name}: column {twice[0] if len(twice) else ''!r} appears twice; rename one")
    return index, wide, layout


def _read_long(frame: pd.DataFrame, layout: Layout, name: str) -> tuple[pd.DatetimeIndex, pd.DataFrame]:
    time = layout.time_column
    if time is None or time not in frame.columns:
        raise InputError(f"{name}: no time column {time!r} (columns: {_listed(frame.columns)})")
    data = frame[[layout.id_column, layout.target_column]].assign(**{str(time): _parse_time(frame[time], name, time)})
    twice = np.flatnonzero(data.duplicated([layout.id_column, time]))
    if len(twice):
        row = data.iloc[twice[0]]
        raise InputError(f"{name}: row {twice[0]} repeats stamp {row[time]} of series {row[layout.id_column]!r}")
    for series, stamps in data.groupby(layout.id_column, sort=False)[time]:
        if not stamps.is_monotonic_increasing:
            raise InputError(f"{name}: stamps of series {series!r} are not in time order; sort the frame first")
    lengths = data.groupby(layout.id_column, sort=False)[time].agg(["size", "min", "max"])
    odd = lengths[(lengths != lengths.iloc[0]).any(axis=1)]
    if len(odd):
        raise InputError(
            f"{name}: series {odd.index[0]!r} has {odd.iloc[0]['size']} rows from {odd.iloc[0]['min']}, series "
            f"{lengths.index[0]!r} has {lengths.iloc[0]['size']} from {lengths.iloc[0]['min']}; "
            "all series must share their stamps"
        )
    ids = list(lengths.index)
    wide = data.pivot(index=time, columns=layout.id_column, values=layout.target_column)[ids]
    return pd.DatetimeIndex(wide.index), wide


def _numeric(wide: pd.DataFrame, name: str) -> np.ndarray:
    for column in wide.columns:
        dtype = wide[column].dtype
        if pd.api.types.is_bool_dtype(dtype) or not pd.api.types.is_numeric_dtype(dtype):
            numbers = pd.to_numeric(wide[column], errors="coerce")
            bad = np.flatnonzero(numbers.isna() & wide[column].notna())
            where = f", first at row {bad[0]}: {wide[column].iloc[bad[0]]!r}" if len(bad) else ""
            raise InputError(f"{name}: column {column!r} is not numeric ({dtype}{where}); drop or convert it")
        if pd.api.types.is_complex_dtype(dtype):
            raise InputError(f"{name}: column {column!r} is complex; give real values")
    values = wide.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _regular_step(index: pd.DatetimeIndex, name: str) -> Step:
    require(len(index) >= 3, f"{name}: {len(index)} rows are too few to find the time step; at least 3 are needed")
    deltas = index[1:] - index[:-1]
    zero = np.flatnonzero(deltas == pd.Timedelta(0))
    if len(zero):
        raise InputError(f"{name}: rows {zero[0]} and {zero[0] + 1} carry the same stamp {index[zero[0]]}; drop one")
    back = np.flatnonzero(deltas < pd.Timedelta(0))
    if len(back):
        row = back[0]
        raise InputError(
            f"{name}: row {row + 1} ({index[row + 1]}) comes before row {row} ({index[row]}); sort by time first"
        )
    if (deltas == deltas[0]).all():
        return deltas[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas 3 announces that this will be an offset; both are handled
        inferred = pd.infer_freq(index)
    if inferred is not None:
        return pd.tseries.frequencies.to_offset(inferred)
    usual = deltas.value_counts().index[0]
    row = int(np.flatnonzero(deltas != usual)[0])
    raise InputError(
        f"{name}: irregular step at row {row + 1}: {index[row]} to {index[row + 1]}, elsewhere {usual}; "
        "resample first, for instance with frame.asfreq()"
    )


def _listed(columns: Iterable[object], most: int = 12) -> str:
    names = [str(column) for column in columns]
    return ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "")
