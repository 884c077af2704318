"""The one step of a time axis: found, declared with ``freq``, or suggested for ``resample``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.offsets import BaseOffset

from hdt.data.stamps import Step
from hdt.system.errors import InputError, require

CALENDAR = ("B", "D", "MS", "ME", "QS", "QE", "YS", "YE")
DATES = ((19000101, 29991231), (190001, 299912))  # whole numbers that are years, months and days, or years and months
MOST_ROWS = 20  # a grid of steps may have this many times the rows of the table
RULES = (
    "ms", "10ms", "100ms", "s", "2s", "5s", "10s", "15s", "30s", "min", "2min", "5min", "10min", "15min", "30min",
    "h", "2h", "3h", "4h", "6h", "12h", "D", "W", "MS", "QS", "YS",
)  # fmt: skip  # that are suggested
LENGTHS = {"W": "7D", "MS": "30D", "QS": "91D", "YS": "365D"}  # of those that vary, about
ALMOST = 0.95  # of the median gap: a suggested step is not shorter
SPARSE = 2  # times the rows: steps of which so many are absent are no grid of theirs


def regular_step(index: pd.Index, name: str) -> Step:
    """The one step of a time axis; raises :class:`InputError` naming the first row that breaks it."""
    require(len(index) >= 3, f"{name}: {len(index)} rows are too few to find the time step; at least 3 are needed")
    stamps = index if isinstance(index, pd.DatetimeIndex) else None
    deltas = _deltas(index, name)
    nothing: Any = pd.Timedelta(0) if stamps is not None else 0
    zero = np.flatnonzero(deltas == nothing)
    if len(zero):
        raise InputError(
            f"{name}: rows {zero[0]} and {zero[0] + 1} carry the same stamp {index[zero[0]]}; drop one, "
            f"or {resample_hint(index)}"
        )
    back = np.flatnonzero(deltas < nothing)
    if len(back):
        row = back[0]
        raise InputError(
            f"{name}: row {row + 1} ({index[row + 1]}) comes before row {row} ({index[row]}); sort by time first, "
            f"or {resample_hint(index)}"
        )
    if (deltas == deltas[0]).all():
        return deltas[0] if stamps is not None else int(deltas[0])
    usual = deltas.value_counts().index[0]
    row = int(np.flatnonzero(deltas != usual)[0])
    where = f"{name}: irregular step at row {row + 1}: {index[row]} to {index[row + 1]}, elsewhere {usual}; "
    if stamps is None:
        whole = (np.asarray(deltas) % usual == 0).all() and index[-1] - index[0] < MOST_ROWS * usual * len(index)
        told = f"with --freq {usual} the absent rows count as missing values"
        advice = told if whole else resample_hint(index)
        if any(low <= index[0] <= index[-1] <= high for low, high in DATES):
            advice = (
                "if these are dates written as numbers, convert them with pd.to_datetime(frame[column].astype(str))"
            )
        raise InputError(where + advice)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas 3 announces that this will be an offset; both are handled
        inferred = pd.infer_freq(stamps)
    if inferred is not None:
        step = pd.tseries.frequencies.to_offset(inferred)
        if _on_grid(stamps, step) == len(stamps):
            return step
    rows, freq = _grid_of(stamps, usual)
    if freq is None:
        raise InputError(where + resample_hint(index))
    hint = f"with --freq {freq} (freq={freq!r}) the absent rows count as missing values"
    hint += f", or {resample_hint(index)}" if rows > SPARSE * len(index) else ""
    raise InputError(where + hint)


def resample_hint(index: pd.Index) -> str:
    """What to type for rows at any times: a step that is not much shorter than the median gap."""
    gaps = np.diff(np.unique(np.asarray(index)))
    if len(gaps) == 0:
        return "aggregate rows with --resample"
    gap = np.median(gaps) if gaps.dtype.kind != "m" else pd.Timedelta(np.median(gaps))
    if not isinstance(gap, pd.Timedelta):
        rule = str(int(gap))
    else:
        long = (rule for rule in RULES if pd.Timedelta(LENGTHS.get(rule) or _one(rule)) >= ALMOST * gap)
        rule = next(long, RULES[-1])
    return f"aggregate rows with --resample {rule} (their means; {rule}:sum adds them up)"


def step_named(freq: Any, numbered: bool, what: str) -> BaseOffset | int:
    """The step that a text names, which ``what`` is an option: a frequency of pandas, or for ``numbered`` rows a whole
    number."""
    if numbered:
        require(
            str(freq).isdecimal() and 0 < int(freq) < 2**62,
            f"{what} is for stamps, not for numbered rows; give a whole number such as 5",
        )
        return int(freq)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas 2 still knows H, for instance
        try:
            step = pd.tseries.frequencies.to_offset(freq)
        except (ValueError, TypeError):
            step = None
    if step is None:
        raise InputError(f"{what} is no frequency of pandas, such as h, 15min, D, B or MS")
    return step


def grid(index: pd.Index, freq: str | int, name: str) -> pd.Index:
    """All stamps of ``freq`` from the first to the last of ``index``, which must lie among them."""
    regular = steps_of(index, step_named(freq, not isinstance(index, pd.DatetimeIndex), f"{name}: freq={freq!r}"))
    if regular is None:
        raise InputError(f"{name}: freq={freq!r} is far too fine for {len(index)} rows from {index[0]} to {index[-1]}")
    off = np.flatnonzero(~index.isin(regular))
    if len(off):
        raise InputError(f"{name}: row {off[0]} ({index[off[0]]}) is on no step of {freq}; choose another --freq")
    return regular


def _deltas(index: pd.Index, name: str) -> pd.Index:
    try:
        deltas = index[1:] - index[:-1]
        if isinstance(deltas, pd.TimedeltaIndex):
            deltas = deltas.as_unit("ns")  # steps are stored with nanoseconds
    except (ValueError, OverflowError):
        raise InputError(f"{name}: rows lie more than 290 years apart; give stamps with a smaller step") from None
    return deltas


def steps_of(index: pd.Index, step: BaseOffset | int) -> pd.Index | None:
    """Steps over the span of ``index``; None when there are far more than its rows."""
    first, last, most = index[0], index[-1], MOST_ROWS * len(index) + 1
    if isinstance(step, int):
        return None if last - first > most * step else pd.RangeIndex(first, last + 1, step)
    try:
        too_fine = first + most * step < last
    except (ValueError, OverflowError):  # so many steps lead beyond all stamps
        too_fine = False
    try:
        return None if too_fine else pd.date_range(first, last, freq=step, unit=pd.DatetimeIndex(index).unit)
    except (ValueError, OverflowError):
        return None


def _on_grid(index: pd.DatetimeIndex, step: BaseOffset) -> int | None:
    """How many stamps ``step`` makes over the span of ``index``; None unless all of ``index`` is among them."""
    regular = steps_of(index, step)
    return None if regular is None or not index.isin(regular).all() else len(regular)


def _grid_of(index: pd.DatetimeIndex, usual: Any) -> tuple[int, str | None]:
    """The frequency with the fewest absent rows on which all stamps lie, and how many stamps it makes."""

    def candidates() -> Iterator[tuple[int, str]]:
        for freq in (pd.tseries.frequencies.to_offset(usual).freqstr, *CALENDAR):
            rows = _on_grid(index, pd.tseries.frequencies.to_offset(freq))
            if rows is not None:
                yield rows, freq

    return min(candidates(), key=lambda found: found[0], default=(0, None))


def _one(rule: str) -> str:
    return rule if rule[0].isdigit() else f"1{rule}"
