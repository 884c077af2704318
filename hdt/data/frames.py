"""Read a wide or long pandas frame into checked arrays, and lay arrays out as the caller did.

Errors name the first offending column or row. Axis letters: T real steps, C channels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hdt.data.columns import (
    ID_NAMES,
    find_column,
    find_time_column,
    index_is_time,
    listed,
    name_of,
    only_column,
    series_and_target,
)
from hdt.data.layout import Label, Layout, labels_of, time_of
from hdt.data.resample import grid_of
from hdt.data.stamps import TIME_NAMES, Step, Times, looks_like_time, read_times
from hdt.data.steps import grid, regular_step, resample_hint
from hdt.data.unequal import aligned
from hdt.system.errors import InputError, require

UNNAMED = re.compile(r"Unnamed: \d+(\.\d+)?")  # what pandas calls a column without a name in the header
LARGEST, SMALLEST = 1e305, 1e-305  # float64 keeps some room beyond them, for results


class Table(NamedTuple):
    """A checked table: values [T, C] with NaN where missing, regular stamps, names, step, layout.

    Values are float32 where all columns are, else float64.

    ``notices`` tell what was chosen or left out in reading it, one line each. ``starts`` [C] are the first rows of
    series of unequal length (:mod:`hdt.data.unequal`), None when all begin with the table.
    """

    values: np.ndarray
    stamps: pd.Index
    columns: tuple[str, ...]
    step: Step
    layout: Layout
    notices: tuple[str, ...] = ()
    starts: np.ndarray | None = None


def as_frame(data: Any, name: str = "frame") -> pd.DataFrame:
    """A frame, a Series, or what turns itself into one with ``to_pandas`` (polars, pyarrow, xarray), as a frame."""
    if not isinstance(data, pd.DataFrame | pd.Series) and callable(getattr(data, "to_pandas", None)):
        kind = type(data).__name__
        try:
            data = data.to_pandas()
        except Exception as error:  # of any library, a missing pyarrow for instance
            raise InputError(f"{name}: to_pandas of this {kind} failed ({error}); give a pandas DataFrame") from error
    if isinstance(data, pd.Series):
        data = data.to_frame("y" if data.name is None else data.name)
    if isinstance(data, pd.DataFrame):
        return data
    kind = type(data).__name__
    how = "pd.DataFrame(data, index=pd.date_range('2024-01-01', periods=400, freq='h'))"
    raise InputError(f"{name}: expected a pandas DataFrame, got {kind}; make one with stamps, such as {how}")


def read_frame(
    frame: Any,
    name: str = "frame",
    time_column: str | None = None,
    id_column: str | None = None,
    target_column: str | None = None,
    dayfirst: bool | None = None,
    freq: str | int | None = None,
    resample: str | int | None = None,
) -> Table:
    """Check a frame, or what :func:`as_frame` makes one of.

    It is long when it has the columns ``id_column`` and ``target_column``, by default ``unique_id`` or
    ``item_id``, and ``y`` or ``target``; each may be a level of the index. ``dayfirst`` tells how dates such as
    01/02/2024 are read, ``freq`` a step on which absent rows become missing values, ``resample`` one to which rows at
    any times are aggregated (:mod:`hdt.data.resample`). Series of a long table may begin and end at different times.
    Raises :class:`InputError` for anything that then is not a regular numeric series in time order.
    """
    require(freq is None or resample is None, f"{name}: --freq and --resample are two ways to one step; give one")
    frame = as_frame(frame, name)
    require(frame.shape[0] > 0 and frame.shape[1] > 0, f"{name}: the table is empty")
    frame, levels = _with_levels(frame, time_column, id_column, name)
    twice = frame.columns[frame.columns.duplicated()]
    require(len(twice) == 0, f"{name}: column {twice[0] if len(twice) else ''!r} appears twice; rename one")
    frame, notices = _without_counters(frame, [time_column, id_column, target_column], name)
    long = series_and_target(frame, id_column, target_column, name)
    starts: np.ndarray | None = None
    known: Step | None = None
    if long is None:
        require(
            not levels,
            f"{name}: rows with an index of several levels are read for long tables only; name theirs with --id-column",
        )
        times, wide, layout = _read_wide(frame, time_column, dayfirst, name)
        if resample is not None:
            bins = grid_of(times.stamps, resample, name)
            wide, done = bins.wide(pd.DataFrame(_numeric(wide, name), columns=wide.columns))
            notices.append(done)
            times, known = times.on(bins.steps), bins.step
    else:
        times, wide, layout, starts, known = _read_long(
            frame, *long, levels, time_column, dayfirst, freq, resample, notices, name
        )
    index = times.stamps
    if freq is not None and starts is None and index.is_monotonic_increasing and index.is_unique:  # else refused below
        index = grid(index, freq, name)
        absent = len(index) - len(wide)
        wide = wide.set_axis(times.stamps).reindex(index)
        notices += [f"rows absent from steps of {freq}: {absent}; their values count as missing"] if absent else []
    step = regular_step(index, name) if known is None else known
    texts = [str(column) for column in wide.columns]
    layout = replace(layout, **time_of(index, times), **labels_of(wide.columns, texts, name))
    values = _numeric(wide, name)
    require(bool(np.isfinite(values).any()), f"{name}: no finite value in the table")
    return Table(values, index, tuple(texts), step, layout, (*notices, *times.notices), starts)


def parse_step(step: str) -> Step:
    """A step as stored in run.json: an ISO duration, a pandas frequency such as ``MS``, or a whole number."""
    if step.isdigit():
        return int(step)
    return pd.Timedelta(step) if step.startswith("P") else pd.tseries.frequencies.to_offset(step)


def format_step(step: Step) -> str:
    """Inverse of :func:`parse_step`."""
    if isinstance(step, int):
        return str(step)
    return step.isoformat() if isinstance(step, pd.Timedelta) else step.freqstr


def _with_levels(
    frame: pd.DataFrame, time_column: str | None, id_column: str | None, name: str
) -> tuple[pd.DataFrame, list[str]]:
    """The frame with levels of a long table's index as columns, and their names."""
    index = frame.index
    if isinstance(index, pd.MultiIndex):
        require(
            all(level is not None for level in index.names),
            f"{name}: rows are indexed by {index.nlevels} levels without names; name them, such as unique_id and ds",
        )
    elif index.name is None or str(index.name) not in {id_column, *ID_NAMES}:
        long = any(str(column) in {id_column, *ID_NAMES} for column in frame.columns)
        if not long or not index_is_time(frame, time_column):
            return frame, []
        frame = frame.rename_axis(index=str(index.name or "ds"))
    levels = [str(level) for level in frame.index.names]
    for level in frame.index.names:
        require(level not in frame.columns, f"{name}: {level!r} is both a column and a level of the index; drop one")
    return frame.reset_index(), levels


def _without_counters(frame: pd.DataFrame, asked: list[str | None], name: str) -> tuple[pd.DataFrame, list[str]]:
    """The frame without columns that only an index or a trailing separator left in a file, and what was dropped."""
    notices = []
    for column in frame.columns:
        if not isinstance(column, str) or not UNNAMED.fullmatch(column) or column in asked:
            continue
        values = frame[column]
        whole = pd.api.types.is_integer_dtype(values.dtype) and not values.isna().any()
        if values.isna().all():
            notices.append(f"column {column!r} has no name and no values; dropped")
        elif whole and (len(values) < 2 or (np.diff(values.to_numpy(dtype=np.float64)) == 1).all()):
            notices.append(f"column {column!r} only counts the rows; dropped")
        elif looks_like_time(values):
            if isinstance(frame.index, pd.RangeIndex) and not any(
                str(c).lower() in TIME_NAMES or str(c) in ID_NAMES for c in frame.columns
            ):
                frame = frame.set_index(column).rename_axis(index=None)
            continue
        else:
            raise InputError(f"{name}: column {column!r} has no name in the header; name it, or drop it")
        frame = frame.drop(columns=column)
    require(frame.shape[1] > 0, f"{name}: no value columns beside the timestamps")
    return frame, notices


def _read_wide(
    frame: pd.DataFrame, time_column: str | None, dayfirst: bool | None, name: str
) -> tuple[Times, pd.DataFrame, Layout]:
    if index_is_time(frame, time_column):
        label = None if frame.index.name is None else str(frame.index.name)
        return read_times(frame.index, name, label, dayfirst), frame, Layout("wide", label)
    column = find_time_column(frame, name) if time_column is None else find_column(frame, time_column, name)
    times, wide = read_times(only_column(frame, column), name, name_of(column), dayfirst), frame.drop(columns=[column])
    require(wide.shape[1] > 0, f"{name}: no value columns beside the timestamps")
    return times, wide, Layout("wide", name_of(column), time_in_column=True)


def _read_long(
    frame: pd.DataFrame,
    ids: Label,
    target: Label,
    levels: list[str],
    time_column: str | None,
    dayfirst: bool | None,
    freq: str | int | None,
    resample: str | int | None,
    notices: list[str],
    name: str,
) -> tuple[Times, pd.DataFrame, Layout, np.ndarray | None, Step | None]:
    """Stamps, one column per series, the layout, where series of unequal length begin, and the step of ``resample``;
    what is not read, or left out, is added to ``notices``."""
    others = frame.drop(columns=[ids, target])
    time = find_time_column(others, name) if time_column is None else find_column(others, time_column, name)
    unread = [str(column) for column in others.columns if column != time]
    if unread:
        notices.append(
            f"columns of the long table that are not read: {listed(unread)} (values come from {str(target)!r}; "
            "--target-column names another)"
        )
    nameless = np.flatnonzero(frame[ids].isna())
    if len(nameless):
        raise InputError(
            f"{name}: series column {str(ids)!r} has no value in {len(nameless)} of {len(frame)} rows (first at row "
            f"{nameless[0]}); fill them, or drop these rows"
        )
    times = read_times(only_column(frame, time), name, name_of(time), dayfirst)
    # Categories would come back with those that have no rows.
    series = frame[ids].astype(object) if isinstance(frame[ids].dtype, pd.CategoricalDtype) else frame[ids]
    data = pd.DataFrame({"id": series.to_numpy(), "time": times.stamps, "value": frame[target].array})
    known: Step | None = None
    if resample is not None:
        bins = grid_of(times.stamps, resample, name)
        data, done = bins.long(data.assign(value=_numeric(frame[[target]], name)[:, 0]))
        notices.append(done)
        times, known = times.on(bins.steps), bins.step
    twice = np.flatnonzero(data.duplicated(["id", "time"]))
    if len(twice):
        row = data.iloc[twice[0]]
        hint = resample_hint(pd.Index(data.loc[data["id"] == row["id"], "time"]))
        where = f"{name}: row {twice[0]} repeats stamp {row['time']} of series {row['id']!r}"
        raise InputError(f"{where}; drop it, or {hint}")
    groups = data.groupby("id", sort=False)["time"]
    for label, stamps in groups:
        if not stamps.is_monotonic_increasing:
            raise InputError(
                f"{name}: stamps of series {label!r} are not in time order; sort the frame first, "
                f"or {resample_hint(pd.Index(stamps))}"
            )
    lengths = groups.agg(["size", "min", "max"])
    starts = None
    if (lengths != lengths.iloc[0]).any(axis=None):
        wide, starts, told = aligned(data, freq, name, known)
        notices += told
    else:
        wide = data.pivot(index="time", columns="id", values="value")[list(lengths.index)].rename_axis(columns=None)
    dtype = frame[ids].dtype
    numbered = pd.api.types.is_integer_dtype(dtype) or isinstance(dtype, pd.CategoricalDtype)
    layout = Layout("long", name_of(time), str(ids), str(target), index=levels)
    layout = replace(layout, id_dtype="category" if not pd.api.types.is_numeric_dtype(dtype) else str(dtype))
    layout = layout if numbered else replace(layout, id_dtype=None)
    return times._replace(stamps=pd.Index(wide.index)), wide, layout, starts, known


def _numeric(wide: pd.DataFrame, name: str) -> np.ndarray:
    for c, (column, dtype) in enumerate(zip(wide.columns, wide.dtypes, strict=True)):
        cells = wide.iloc[:, c]
        if pd.api.types.is_bool_dtype(dtype) or not pd.api.types.is_numeric_dtype(dtype):
            numbers = pd.to_numeric(cells.astype(object), errors="coerce")
            bad = np.flatnonzero(numbers.isna() & cells.notna())
            where, advice = "", "drop or convert it"
            if len(bad):
                where = f", first at row {bad[0]}: {cells.iloc[bad[0]]!r}"
                comma = re.fullmatch(r"\s*[+-]?\d+,\d+\s*", str(cells.iloc[bad[0]]))
                advice = "give --decimal , if commas are decimal marks here" if comma else advice
            raise InputError(f"{name}: column {column!r} is not numeric ({dtype}{where}); {advice}")
        if pd.api.types.is_complex_dtype(dtype):
            raise InputError(f"{name}: column {column!r} is complex; give real values")
    narrow = all(dtype in (np.float32, np.float16) for dtype in wide.dtypes)
    dtype = np.float32 if narrow else np.float64
    plain = all(isinstance(kind, np.dtype) for kind in wide.dtypes)  # else cells may be pd.NA
    absent = {} if plain else {"na_value": np.nan}
    values = wide.to_numpy(dtype=dtype, copy=True, **absent)  # ours from here on, not the caller's
    for own in values.T:
        own[~np.isfinite(own)] = np.nan
    in_range([str(column) for column in wide.columns], values, name)
    return values


def in_range(columns: Sequence[str], values: np.ndarray, name: str) -> None:
    """Refuse columns whose values [T, g] are too large or too small for computing with their squares."""
    for column, own in zip(columns, values.T, strict=True):
        size = float(np.abs(own).max(where=~np.isnan(own), initial=0.0))
        require(
            size <= LARGEST and not 0 < size < SMALLEST,
            f"{name}: values of column {column!r} reach at most {size:g}; "
            f"hdt computes from {SMALLEST:g} to {LARGEST:g}, so give another unit",
        )
