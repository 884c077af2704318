"""Panel: a checked, split and scaled multivariate series, and its way back to the caller's layout.

Nothing here imports torch. Axis letters: T real steps, C channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from hdt.data.frames import read_frame
from hdt.data.layout import Layout
from hdt.data.stamps import Step
from hdt.system.errors import require

Part = Literal["train", "val", "test"]
Missing = Literal["auto", "error", "interpolate"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
MISSING_LIMIT = 0.05  # of a column: more is not filled unless asked for
DEFAULT_SPLIT = (0.7, 0.1, 0.2)
ROUNDING = 1e-9  # of shares: 0.7 + 0.1 + 0.2 is not 1 in floats, nor is 0.29 * 100 29
SAFE_EXPONENT = 300  # of two: squares and sums of values up to here are far from the limits of float64


@dataclass(frozen=True)
class Scaler:
    """Per-channel z-score, ``(x - mean) / std``, with the population standard deviation of the train part.

    A constant channel keeps ``std = 1`` so that it maps to zero and back without loss. Values from 1e-305 to 1e305
    are scaled as exactly as others.
    """

    mean: np.ndarray  # [C]
    std: np.ndarray  # [C]

    @classmethod
    def fit(cls, values: np.ndarray) -> Scaler:
        """Of values [T, C], finite but for the rows before a series begins, which are NaN."""
        starts = np.isnan(values).sum(axis=0)
        if not starts.any():
            return cls._fit(values)
        mean, std = np.empty(len(starts)), np.empty(len(starts))
        for start in np.unique(starts):
            own = starts == start
            part = cls._fit(values[start:, own])
            mean[own], std[own] = part.mean, part.std
        return cls(mean, std)

    @classmethod
    def _fit(cls, values: np.ndarray) -> Scaler:
        # The mean of a constant such as 0.1 differs from it in the last bits.
        constant = (values == values[:1]).all(axis=0)
        # Squares and sums of very large or small values leave float64; powers of two take them back without rounding.
        _, exponents = np.frexp(np.maximum(values.max(axis=0), -values.min(axis=0)))
        exponents = np.where(np.abs(exponents) > SAFE_EXPONENT, exponents, 0)
        near = np.ldexp(values, -exponents) if exponents.any() else values
        mean = np.where(constant, values[0], np.ldexp(near.mean(axis=0), exponents))
        std = np.ldexp(near.std(axis=0), exponents)
        return cls(mean, np.where(constant | (std == 0), 1.0, std))

    def transform(self, values: np.ndarray) -> np.ndarray:
        return (values - self.mean) / self.std

    def inverse(self, values: np.ndarray) -> np.ndarray:
        return values * self.std + self.mean


@dataclass(frozen=True)
class Panel:
    """A multivariate series with borders; parts are filled and scaled on demand.

    ``values`` [T, C] float64 in original units, NaN where missing; ``borders`` are the end rows of the
    train, validation and test parts; ``index`` holds stamps or whole numbers, ``step`` apart; ``source`` and
    ``load_options`` are what :func:`hdt.load` was given, so that a run can find its data again. Only
    :meth:`original` and :meth:`part` read rows, and only those of the part they are asked for (validation and test with
    the context before them), so a distillation never sees validation or test. ``read`` are the notices of reading.

    Series of unequal length are aligned at their ends: ``starts`` [C] are their first rows, None when all begin with
    the panel, and rows before are NaN. With ``last_windows`` their validation and test parts are not decided yet: they
    are the last horizons of every series, as in M4 (:meth:`for_windows`).
    """

    values: np.ndarray
    index: pd.Index
    columns: tuple[str, ...]
    step: Step
    borders: tuple[int, int, int]
    layout: Layout = field(default_factory=Layout)
    missing: Missing = "auto"
    name: str = "frame"
    read: tuple[str, ...] = ()
    source: str | None = None
    load_options: Mapping[str, Any] = field(default_factory=dict)
    starts: np.ndarray | None = None
    last_windows: bool = False

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        name: str = "frame",
        split: Sequence[float] | Sequence[int] | None = None,
        missing: Missing = "auto",
        notices: Sequence[str] = (),
        source: str | None = None,
        load_options: Mapping[str, Any] | None = None,
        **reading: Any,
    ) -> Panel:
        """Check a wide or long frame and split it.

        ``split`` is three fractions that sum to one (of the shortest series, where lengths differ), or three end rows;
        by default 70/10/20, and the last windows where lengths differ. ``notices`` come before those of reading, and
        ``reading`` holds the options of :func:`hdt.data.frames.read_frame`. Raises :class:`InputError` for anything
        that is not a regular numeric series, naming the first offending column or row.
        """
        require(missing in ("auto", "error", "interpolate"), f"missing={missing!r}: choose auto, error or interpolate")
        values, index, columns, step, layout, notes, starts = read_frame(frame, name, **reading)
        first = 0 if starts is None else int(starts.max())  # rows before it are some series' only
        train, val, test = _borders(split or DEFAULT_SPLIT, len(values) - first, name)
        panel = cls(
            values, index, columns, step, (first + train, first + val, first + test), layout, missing, name,
            (*notices, *notes), source, load_options or {}, starts, last_windows=starts is not None and split is None,
        )  # fmt: skip
        if not panel.last_windows:
            panel.original("train")  # refuses what cannot be filled
        return panel

    @property
    def channels(self) -> int:
        return len(self.columns)

    @property
    def unequal(self) -> bool:
        """Whether series differ in length, and so have no time in common."""
        return self.starts is not None

    @property
    def train_numbers(self) -> int:
        """How many numbers the training part holds."""
        rows, starts = self.borders[0], np.zeros(self.channels, int) if self.starts is None else self.starts
        return int(np.maximum(rows - starts, 0).sum())

    def for_windows(self, context: int, horizon: int) -> Panel:
        """The series of unequal length that can be used with these windows, and their borders; else the panel itself.

        A series needs context + horizon training rows; shorter ones are left out, counted and named in a notice.
        Raises :class:`InputError` when none is long enough.
        """
        if self.starts is None:
            return self
        rows = len(self.values)
        borders = (rows - 2 * horizon, rows - horizon, rows) if self.last_windows else self.borders
        enough = borders[0] - self.starts >= context + horizon
        needed = context + horizon + borders[2] - borders[0]
        require(
            bool(enough.any()),
            f"{self.name}: no series has the {needed} rows that context {context}, horizon {horizon} and their "
            f"validation and test parts need; the longest has {rows - int(self.starts.min())}",
        )
        read = self.read
        if not enough.all():
            c = int(np.flatnonzero(~enough)[0])
            lost = f"{self.columns[c]!r} with {rows - int(self.starts[c])}"
            told = f"{(~enough).sum()} of {len(enough)} series have fewer than {needed} rows: left out (first {lost})"
            read = (*read, told)
        first = int(self.starts[enough].min())
        starts = self.starts[enough] - first
        labels = self.layout.labels and [label for label, kept in zip(self.layout.labels, enough, strict=True) if kept]
        panel = replace(
            self, values=self.values[first:, enough], index=self.index[first:],
            columns=tuple(name for name, kept in zip(self.columns, enough, strict=True) if kept),
            borders=(borders[0] - first, borders[1] - first, borders[2] - first),
            layout=replace(self.layout, labels=labels), read=read,
            starts=starts if starts.any() else None, last_windows=False,
        )  # fmt: skip
        panel.original("train")  # refuses what cannot be filled
        return panel

    @property
    def notices(self) -> tuple[str, ...]:
        """What was chosen, left out and filled in reading the table and its training part, one line each."""
        if self.last_windows:
            return self.read
        train, filled = self.original("train"), self._original["train"][1]
        constant = [c for c, x in zip(self.columns, train.T, strict=True) if (x == x[-1]).sum() == np.isfinite(x).sum()]
        flat = [f"column {c!r} is constant on the training part; kept, scaled to zero" for c in constant]
        return (*self.read, *filled, *flat)

    @cached_property
    def scaler(self) -> Scaler:
        """Fitted on the training part, after filling."""
        return Scaler.fit(self.original("train"))

    def rows(self, part: Part) -> slice:
        position = PARTS.index(part)
        return slice(self.borders[position - 1] if position else 0, self.borders[position])

    def part(self, part: Part, context: int = 0) -> np.ndarray:
        """Scaled values [T_part, C] of one part.

        Validation and test start ``context`` rows early, so that their first forecast begins at the
        border (the evaluation protocol). Missing cells are interpolated within the part only.
        """
        values = self.original(part)
        for before in reversed(PARTS[: PARTS.index(part)]):
            missing = self.rows(part).stop - self.rows(part).start + context - len(values)
            values = np.concatenate([self.original(before)[-missing:], values]) if missing > 0 else values
        return self.scaler.transform(values)

    def original(self, part: Part) -> np.ndarray:
        """Values [T_part, C] of one part in original units, its missing cells filled when it is first asked for."""
        if part not in self._original:
            self._original[part] = self._filled(part)
        return self._original[part][0]

    @cached_property
    def _original(self) -> dict[Part, tuple[np.ndarray, list[str]]]:
        return {}

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of what all parts are made of: values in original units, borders, the policy for missing ones."""
        digest = hashlib.sha256(f"{self.values.shape}{self.borders}{self.missing}".encode())
        digest.update(np.ascontiguousarray(self.values).data)
        return digest.hexdigest()

    @cached_property
    def train_sha256(self) -> str:
        """Fingerprint of what a distillation may read: the filled training part in original units."""
        return hashlib.sha256(np.ascontiguousarray(self.original("train")).data).hexdigest()

    def _filled(self, part: Part) -> tuple[np.ndarray, list[str]]:
        values = self.values[self.rows(part)]
        before = np.zeros((1, 1), bool)  # the series begins
        if self.starts is not None:
            before = np.arange(len(values))[:, None] + self.rows(part).start < self.starts
        holes = np.isnan(values) & ~before
        if not holes.any():
            return values, []
        notes = []
        for c, share in enumerate(holes.sum(axis=0) / np.maximum(1, len(values) - before.sum(axis=0))):
            if share == 0:
                continue
            column, row = self.columns[c], self.rows(part).start + int(holes[:, c].argmax())
            what = f"{self.name}: column {column!r} misses {share:.1%} of its {part} values (first at row {row})"
            require(share < 1, f"{what}; drop the column, or choose another --split")
            require(self.missing != "error", f"{what}; fill them, or pass --missing interpolate")
            require(
                share <= MISSING_LIMIT or self.missing == "interpolate",
                f"{what}, more than {MISSING_LIMIT:.0%}; fill them, or pass --missing interpolate",
            )
            count = int(holes[:, c].sum())
            notes.append(f"column {column!r}: {count} missing {part} values ({share:.1%}) linearly interpolated")
        filled = pd.DataFrame(values).interpolate("linear", limit_direction="both").to_numpy()
        return filled if self.starts is None else np.where(before, np.nan, filled), notes


def _borders(split: Sequence[float] | Sequence[int], rows: int, name: str) -> tuple[int, int, int]:
    require(len(split) == 3, f"split {tuple(split)}: expected three numbers (train, validation, test)")
    if all(float(s).is_integer() for s in split) and max(split) > 1:
        train, val, test = (int(s) for s in split)
        require(0 < train <= val <= test <= rows, f"{name}: borders {train}/{val}/{test} do not fit {rows} rows")
        return train, val, test
    ok = all(0 <= s <= 1 for s in split) and abs(sum(split) - 1) < ROUNDING and split[0] > 0
    require(ok, f"split {tuple(split)}: expected three fractions from 0 to 1 that sum to 1, the first positive")
    train, test = int(rows * split[0] + ROUNDING), int(rows * split[2] + ROUNDING)
    return train, rows - test, rows
