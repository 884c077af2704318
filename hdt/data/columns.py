"""Which column of a table is which: its time, its series and its values, by name or by what they hold."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import pandas as pd

from hdt.data.layout import Label
from hdt.data.stamps import TIME_NAMES, looks_like_time
from hdt.system.errors import InputError, require

ID_NAMES = ("unique_id", "item_id")  # Nixtla; AutoGluon and Chronos
TARGET_NAMES = ("y", "target")


def find_column(frame: pd.DataFrame, wanted: str, name: str) -> Label:
    """The label of the column that is called ``wanted``."""
    for column in frame.columns:
        if str(column) == str(wanted) or (isinstance(column, tuple) and name_of(column) == str(wanted)):
            return column
    texts = [str(column) for column in frame.columns]
    near = difflib.get_close_matches(str(wanted), texts, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(f"{name}: no column {str(wanted)!r} (columns: {listed(texts)}){hint}")


def only_column(frame: pd.DataFrame, column: Label) -> pd.Series:
    """One column by its label, tuples included, as a series."""
    return frame.iloc[:, list(frame.columns).index(column)]


def name_of(column: Label) -> str:
    """The name of a column whose deeper levels are empty, as ``reset_index`` leaves that of the time."""
    return str(column[0]) if isinstance(column, tuple) and not any(column[1:]) else str(column)


def series_and_target(
    frame: pd.DataFrame, id_column: str | None, target_column: str | None, name: str
) -> tuple[Label, Label] | None:
    """The columns that hold series and values of a long table; None for a wide one."""
    known = [column for column in frame.columns if str(column) in ID_NAMES]
    if id_column is None and not known:
        if target_column is not None:
            find_column(frame, target_column, name)
        require(
            target_column is None,
            f"{name}: target_column={target_column!r} is for long tables, but there is no column unique_id or item_id; "
            "name it with --id-column, or leave --target-column out",
        )
        return None
    ids = known[0] if id_column is None else find_column(frame, id_column, name)
    targets = [column for column in frame.columns if str(column) in TARGET_NAMES and column != ids]
    if target_column is None and not targets:
        raise InputError(
            f"{name}: the long table with series in {str(ids)!r} has no column y or target "
            f"(columns: {listed(frame.columns)}); name that of the values with --target-column"
        )
    target = targets[0] if target_column is None else find_column(frame, target_column, name)
    require(target != ids, f"{name}: {str(ids)!r} cannot hold both the series and their values")
    return ids, target


def find_time_column(frame: pd.DataFrame, name: str) -> Label:
    """The label of the column that holds stamps: by its name, or by what it holds."""
    for column in frame.columns:
        dtype = frame[column].dtype
        stamps = pd.api.types.is_datetime64_any_dtype(dtype) or isinstance(dtype, pd.PeriodDtype)
        if name_of(column).lower() in TIME_NAMES or stamps:
            return column
    for column in frame.columns:
        if looks_like_time(frame[column]):
            return column
    raise InputError(
        f"{name}: no timestamps found (columns: {listed(frame.columns)}); "
        "give a DatetimeIndex, a column named 'date' or 'ds', or --time-column"
    )


def index_is_time(frame: pd.DataFrame, time_column: str | None) -> bool:
    """Whether the rows are indexed by time."""
    index = frame.index
    if time_column is not None:
        return str(index.name) == time_column and all(name_of(column) != time_column for column in frame.columns)
    long = any(str(column) in ID_NAMES for column in frame.columns)
    named = any(name_of(column).lower() in TIME_NAMES for column in frame.columns)
    if isinstance(index, pd.DatetimeIndex | pd.PeriodIndex):
        return not (long and named)
    if index.name is not None and str(index.name).lower() in TIME_NAMES:
        return True
    return not named and not isinstance(index, pd.RangeIndex) and looks_like_time(index)


def listed(columns: Iterable[object], most: int = 12) -> str:
    """The names of columns for an error, ``most`` of them at most."""
    names = [str(column) for column in columns]
    return ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "")
