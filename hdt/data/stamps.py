"""The time axis of a table: stamps, periods or whole numbers.

A time axis is a DatetimeIndex, or an integer Index where rows are only counted.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from pandas.tseries.offsets import BaseOffset

from hdt.system.errors import InputError, require

TIME_NAMES = ("date", "ds", "timestamp", "time", "datetime", "date_time")
Step: TypeAlias = pd.Timedelta | BaseOffset | int
NUMERIC_DATE = r"^\s*(\d{1,2})([./-])(\d{1,2})\2(?:\d{4}|\d{2})(?!\d)"  # 13.01.2024, 1/13/24
LIKE_A_DATE = r"\d{4}|\d{1,2}[./-]\d{1,2}[./-]\d{2}"  # else 5,1 would pass for the first of May
FIRST = 8  # values of a column tell whether it holds texts of dates


class Times(NamedTuple):
    """What a time column holds; ``period`` is the frequency of a PeriodIndex, whose starts are ``stamps``."""

    stamps: pd.Index
    notices: list[str]
    period: str | None = None

    def on(self, steps: pd.Index) -> Times:
        """The same on other stamps; what came as periods are periods of theirs, if pandas has such."""
        period = None
        if self.period is not None and isinstance(steps, pd.DatetimeIndex):
            with warnings.catch_warnings(), contextlib.suppress(ValueError, AttributeError, FutureWarning):
                warnings.simplefilter("error")  # of pandas, that has no periods of business days any more
                period = str(steps.to_period().freqstr)
        return self._replace(stamps=steps, period=period)


def looks_like_time(values: pd.Series | pd.Index) -> bool:
    """Whether values are stamps or periods, or a text that starts with dates."""
    dtype = values.dtype
    if pd.api.types.is_datetime64_any_dtype(dtype) or isinstance(dtype, pd.PeriodDtype):
        return True
    if pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_timedelta64_dtype(dtype):
        return False
    first = (
        (values.iloc[:FIRST] if isinstance(values, pd.Series) else pd.Series(values[:FIRST]))
        .astype(object)
        .reset_index(drop=True)
    )
    if pd.api.types.infer_dtype(first) == "string":
        if not first.astype(str).str.contains(LIKE_A_DATE).all():
            return False
    elif pd.api.types.infer_dtype(first) not in ("datetime", "datetime64", "date", "period"):
        return False
    return pd.api.types.infer_dtype(first) == "period" or bool(_converted(first)[0].notna().all())


def read_times(values: pd.Series | pd.Index, name: str, column: object, dayfirst: bool | None = None) -> Times:
    """The stamps or whole numbers of a time column, in the order of its rows.

    ``dayfirst`` decides between 1 February and January 2 for 01/02/2024; None: as the other rows allow.
    Raises :class:`InputError` naming the first value that is no stamp.
    """
    what = f"{name}: time column {column!r}"
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = pd.Series(np.asarray(values))
    dtype = values.dtype
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if isinstance(dtype, pd.PeriodDtype) or kind == "period":
        return _periods(values, what)
    if pd.api.types.is_bool_dtype(dtype) or kind == "boolean":
        raise InputError(f"{what} holds True and False; give stamps or whole numbers")
    if pd.api.types.is_timedelta64_dtype(dtype) or kind in ("timedelta", "timedelta64"):
        raise InputError(f"{what} holds durations; add them to a start, such as pd.Timestamp('2024-01-01')")
    if pd.api.types.is_numeric_dtype(dtype) or kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        return Times(_whole_numbers(values, what), [])
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return Times(_complete(pd.DatetimeIndex(values), values, what), [])
    require(
        kind in ("string", "datetime", "datetime64", "date", "empty"),
        f"{what} holds values of several kinds ({kind}); give stamps throughout",
    )
    stamps, notices = _from_text(pd.Series(values).astype(object).reset_index(drop=True), what, dayfirst)
    return Times(_complete(stamps, values, what), notices)


def _complete(stamps: pd.DatetimeIndex, values: pd.Series | pd.Index, what: str) -> pd.DatetimeIndex:
    """The stamps of ``values``, none of which may be absent."""
    bad = np.flatnonzero(stamps.isna())
    if len(bad):
        value = list(values)[bad[0]]
        raise InputError(f"{what}: unparsable timestamp {value!r} in row {bad[0]}; expected a date")
    return stamps


def _periods(values: pd.Series | pd.Index, what: str) -> Times:
    try:
        periods = pd.PeriodIndex(values)
        index = periods.to_timestamp()
    except (ValueError, OverflowError) as error:  # mixed frequencies, years that stamps do not reach
        raise InputError(f"{what}: periods that are no stamps ({error}); give a DatetimeIndex") from None
    bad = np.flatnonzero(index.isna())
    require(len(bad) == 0, f"{what} holds no period in row {bad[0] if len(bad) else ''}; fill it")
    return Times(index, [], periods.freqstr)


def _whole_numbers(values: pd.Series | pd.Index, what: str) -> pd.Index:
    absent = np.flatnonzero(pd.isna(values))
    require(len(absent) == 0, f"{what} holds no value in row {absent[0] if len(absent) else ''}; fill it")
    numbers = np.asarray(values)
    objects = numbers.dtype == object and all(isinstance(number, int | np.integer) for number in numbers)
    whole = objects or numbers.dtype.kind in "iu"
    require(
        whole,
        f"{what} holds numbers that are not whole, and no timestamps; convert it with pd.to_datetime, or to integers",
    )
    inside = all(abs(int(number)) < 2**62 for number in (numbers.min(), numbers.max()))
    require(inside, f"{what} holds numbers beyond 2**62; give smaller ones")
    return pd.Index(numbers.astype(np.int64))


def _from_text(values: pd.Series, what: str, dayfirst: bool | None) -> tuple[pd.DatetimeIndex, list[str]]:
    """Stamps of texts or of Python's own dates, NaT where there is none."""
    how, notices = _order(values, what, dayfirst)
    parsed, changing = _converted(values, **how)
    if parsed.isna().any() and not how:
        again, changing_again = _converted(values, format="ISO8601")  # with and without seconds, for instance
        if again.isna().sum() < parsed.isna().sum():
            parsed, changing = again, changing_again
        if parsed.isna().any():
            with contextlib.suppress(ValueError, TypeError, OverflowError, UserWarning), warnings.catch_warnings():
                warnings.simplefilter("error")  # numpy warns that it has no time zones
                parsed = pd.Series(values.to_numpy(dtype="datetime64[us]"))  # years beyond 2262
    if changing:
        notices.append("stamps change their offset from UTC, as in summer; read as UTC")
    return pd.DatetimeIndex(parsed), notices


def _converted(values: pd.Series, **how: Any) -> tuple[pd.Series, bool]:
    """Stamps, NaT where a value is none, and whether they change their offset from UTC and so were read as UTC."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what cannot be parsed becomes NaT and is reported by us
        try:
            parsed = pd.to_datetime(values, errors="coerce", **how)
            if parsed.dtype != object:
                return parsed, False
        except (ValueError, TypeError, OverflowError):  # pandas 3 raises for offsets that change
            pass
        try:
            return pd.to_datetime(values, errors="coerce", utc=True, **how), True
        except (ValueError, TypeError, OverflowError):
            return pd.Series(pd.NaT, index=values.index, dtype="datetime64[ns]"), False


def _order(values: pd.Series, what: str, dayfirst: bool | None) -> tuple[dict[str, bool], list[str]]:
    """How pandas is told to read dates such as 01/02/2024, nothing for others; and a notice when we chose."""
    if not isinstance(values.iloc[0], str) or not pd.Series(values.iloc[:1]).str.match(NUMERIC_DATE).all():
        return {}, []
    parts = values.astype(str).str.extract(NUMERIC_DATE)
    first, second = (pd.to_numeric(parts[column]).fillna(0) for column in (0, 2))
    late = {True: np.flatnonzero(second > 12), False: np.flatnonzero(first > 12)}  # rows that forbid day, month first
    if len(late[True]) and len(late[False]):
        raise InputError(
            f"{what} has the day first in row {late[False][0]} ({values[late[False][0]]!r}) and the month first in "
            f"row {late[True][0]} ({values[late[True][0]]!r}); write all stamps alike"
        )
    if dayfirst is not None:
        if len(late[dayfirst]):
            row = late[dayfirst][0]
            flag, other = ("--dayfirst", "--monthfirst") if dayfirst else ("--monthfirst", "--dayfirst")
            raise InputError(f"{what}: {values[row]!r} in row {row} cannot be read with {flag}; give {other}")
        return {"dayfirst": dayfirst}, []
    if len(late[True]):
        return {"dayfirst": False}, []
    if len(late[False]) or parts[1].iloc[0] == ".":  # no country writes month.day.year
        return {"dayfirst": True}, [f"stamps such as {values.iloc[0]!r} are read with the day first"]
    raise InputError(
        f"{what}: {values.iloc[0]!r} may have the day or the month first, and no row tells; "
        "give --dayfirst or --monthfirst (dayfirst=True or False)"
    )


def following(first: Any, step: Step, periods: int, unit: str | None) -> pd.Index:
    """``periods`` stamps (or whole numbers) from ``first`` on, in its time zone; ``unit`` None is pandas' own."""
    if isinstance(step, int):
        return pd.RangeIndex(first, first + periods * step, step)
    zone = first.tz
    if zone is not None and isinstance(step, pd.Timedelta):
        # Fixed steps are counted in UTC: a day of 24 hours is no calendar day where clocks change.
        first = first.tz_convert("UTC")
    how: dict[str, Any] = {"freq": step, **({"unit": unit} if unit else {})}
    stamps = pd.date_range(first, periods=periods, **how)
    return stamps if zone is None else stamps.tz_convert(zone)
