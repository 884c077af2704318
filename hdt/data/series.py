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

from hdt.data.borders import end_rows
from hdt.data.covariates import Covariates
from hdt.data.frames import in_range, read_frame
from hdt.data.layout import Layout
from hdt.data.missing import POLICIES, Filled, fill
from hdt.data.scaler import Channels, Scaler, channel_blocks
from hdt.data.stamps import Step
from hdt.data.stored import Stored
from hdt.data.survey import Survey, digest, survey
from hdt.data.transform import AUTO, TRANSFORMS, Transform
from hdt.data.unequal import long_enough
from hdt.system.errors import require
from hdt.system.machine import cache_folder, memory_mb, sample

Part = Literal["train", "val", "test"]
Missing = Literal["auto", "error", "interpolate", "mask"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
ALL = slice(None)  # channels


@dataclass(frozen=True)
class Panel:
    """A multivariate series with borders; parts are filled and scaled on demand.

    ``values`` [T, C] in original units, float32 where the table is, else float64, NaN where missing; those of a table
    too large for memory stay in its files (:class:`hdt.data.stored.Stored`). ``borders`` are the end rows of the
    train, validation and test parts; ``index`` holds stamps or whole numbers, ``step`` apart; ``source`` and
    ``load_options`` are what :func:`hdt.load` was given, so that a run can find its data again. Only
    :meth:`original`, :meth:`part` and :meth:`block` read rows, and only those of the part they are asked for
    (validation and test with the context before them), so a distillation sees neither. ``read``: notices of reading.

    Series of unequal length are aligned at their ends: ``starts`` [C] are their first rows, None when all begin with
    the panel, and rows before are NaN. With ``last_windows`` their validation and test parts are not decided yet: they
    are every series' last horizons, as in M4 (:meth:`for_windows`). ``fixed``: a run's scaler. ``transform``: what
    filled parts go through before they are scaled (:mod:`hdt.data.transform`); ``auto`` is not decided yet, and
    ``tried`` has the errors that decided it (:mod:`hdt.run.choice`).
    """

    values: np.ndarray | Stored
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
    fixed: Scaler | None = None
    transform: str = "none"
    tried: Mapping[str, float] = field(default_factory=dict)
    covariates: Covariates | None = None  # beside the targets

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
        transform: str = "none",
        **reading: Any,
    ) -> Panel:
        """Check a wide or long frame and split it.

        ``split`` is three fractions that sum to one (of the shortest series, where lengths differ), or three end rows;
        by default 70/10/20, and the last windows where lengths differ. ``notices`` come before those of reading, and
        ``reading`` holds the options of :func:`hdt.data.frames.read_frame`. Raises :class:`InputError` for anything
        that is not a regular numeric series, naming the first offending column or row.
        """
        require(missing in POLICIES, f"missing={missing!r}: choose one of {', '.join(POLICIES)}")
        kinds = (*TRANSFORMS, AUTO)
        require(transform in kinds, f"transform={transform!r}: choose one of {', '.join(kinds)}")
        values, index, columns, step, layout, notes, starts = read_frame(frame, name, **reading)
        first = 0 if starts is None else int(starts.max())  # rows before it are some series' only
        train, val, test = (first + end for end in end_rows(split, len(values) - first, name))
        alike = transform == "none" or (starts is None and train > 1)
        require(alike, f"{name}: --transform is for series that share their stamps, and two training rows or more")
        panel = cls(
            values, index, columns, step, (train, val, test), layout, missing, name,
            (*notices, *notes), source, load_options or {}, starts,
            last_windows=starts is not None and split is None, transform=transform,
        )  # fmt: skip
        if not panel.last_windows:
            (panel.plain if transform == AUTO else panel).original("train")  # refuses what cannot be filled
        return panel

    @classmethod
    def from_files(
        cls, table: Stored, *, split: Sequence[float] | Sequence[int] | None = None, missing: Missing = "auto",
        source: str | None = None, load_options: Mapping[str, Any] | None = None, **reading: Any,
    ) -> Panel:  # fmt: skip
        """The same of a wide table whose values stay in its files; nothing is read here but its stamps."""
        require(missing in POLICIES, f"missing={missing!r}: choose one of {', '.join(POLICIES)}")
        head = table.head(reading.get("time_column"))
        _, index, columns, step, layout, notes, _ = read_frame(head, table.name, **reading)
        table.keep(columns)
        told = f"values stay in {len(table.paths)} files ({table.nbytes / 2**30:.1f} GB); blocks of columns are read"
        layout = replace(layout, labels=None)
        return cls(
            table, index, tuple(table.columns), step, end_rows(split, len(table), table.name), layout,
            missing, table.name, (*notes, told), source, load_options or {},
        )  # fmt: skip

    @property
    def channels(self) -> int:
        return len(self.columns)

    @property
    def stored(self) -> bool:
        """Whether the values lie in files, too many for memory."""
        return isinstance(self.values, Stored)

    def sampled(self) -> Panel:
        """The panel; of one whose values lie in files, a sample of its channels, in memory."""
        if not isinstance(self.values, Stored):
            return self
        kept = sample(self.channels)
        told = f"{len(kept)} of {self.channels:,} channels stand for all here, evenly spaced"
        return replace(
            self, values=self.values.read(slice(None), kept), columns=tuple(self.columns[c] for c in kept),
            read=(*self.read[:-1], told), fixed=None if self.fixed is None else self.fixed.of(list(kept)),
        )  # fmt: skip

    @cached_property
    def plain(self) -> Panel:
        """The panel before its transform."""
        return self if self.transform == "none" else replace(self, transform="none", fixed=None)

    @cached_property
    def fitted(self) -> Transform | None:
        """The transform, fitted on the training part; None without one."""
        if self.plain is self:
            return None
        told = "a distillation or a comparison chooses for its windows; load the data as its run was, or name one"
        require(self.transform != AUTO, f"{self.name}: transform='auto': {told}")
        return Transform.fit(self.transform, self.plain.original("train"), self.name)

    @property
    def unequal(self) -> bool:
        """Whether series differ in length and have no time in common."""
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
        panel: Panel = long_enough(self, self.starts, context, horizon)
        return panel

    @property
    def notices(self) -> tuple[str, ...]:
        """What was chosen, left out and filled in reading the table and its training part, one line each."""
        return self.read if self.last_windows else (*self.read, *self.survey.notes)

    @property
    def scaler(self) -> Scaler:
        """Fitted on the training part, after filling, unless it is given."""
        return self.survey.scaler if self.fixed is None else self.fixed

    @property
    def train_sha256(self) -> str:
        """Fingerprint of what a distillation may read: the filled training part in original units."""
        return self.survey.sha256

    @cached_property
    def survey(self) -> Survey:
        """One pass over the training part; of a table in files it is kept in the user cache, also when interrupted."""
        file, mapped = None, None
        if isinstance(self.values, Stored):
            mapped = self.values.mapped
            facts = [self.values.identity, self.columns, self.borders, self.missing]
            file = cache_folder() / f"survey-{digest(facts)[:32]}.json"
        return survey(self.columns, lambda some: self.filled("train", some), len(self.values), file, mapped)

    def rows(self, part: Part) -> slice:
        position = PARTS.index(part)
        return slice(self.borders[position - 1] if position else 0, self.borders[position])

    def gappy(self, *parts: Part) -> bool:
        """Whether cells of these parts are masked, in a panel in memory."""
        return not self.stored and any(self.filled(part).gaps is not None for part in parts)

    def part(
        self, part: Part, context: int = 0, dtype: type[np.floating[Any]] = np.float64, gaps: bool = False
    ) -> np.ndarray:
        """Scaled values [T_part, C] of one part.

        Validation and test start ``context`` rows early, so that their first forecast begins at the border (the
        evaluation protocol). Missing cells are filled without a look at later parts; with ``gaps``, those that are
        masked are NaN. Raises :class:`hdt.system.errors.InputError` for a table in files that does not fit into memory.
        """
        if self.stored:
            have, need = memory_mb(), 3 * self.values.nbytes / 2**20
            require(
                have is None or need <= have,
                f"{self.name}: this needs all of its values at once, about {need:,.0f} MB, and the machine has "
                f"{have or 0:,.0f}; --method wiener or fred-wiener with few --channels read them block by block",
            )
        blocks = channel_blocks(self.channels, len(self.values))
        first = self.block(part, blocks[0], context, gaps)
        whole = np.empty((len(first), self.channels), dtype)
        whole[:, blocks[0]] = first
        for some in blocks[1:]:
            whole[:, some] = self.block(part, some, context, gaps)
        return whole

    def block(self, part: Part, channels: Channels, context: int = 0, gaps: bool = False) -> np.ndarray:
        """The same of some channels [T_part, g], float64; of a table in files, only these are read."""
        values = self.original(part, channels, gaps)
        for before in reversed(PARTS[: PARTS.index(part)]):
            missing = self.rows(part).stop - self.rows(part).start + context - len(values)
            if missing > 0:
                values = np.concatenate([self.original(before, channels, gaps)[-missing:], values])
        known = (
            self.fixed is not None or "survey" in vars(self) or not self.stored
        )  # else a look at some columns is not worth a pass over all
        scaler = self.scaler.of(channels) if known else Scaler.fit(self.original("train", channels))
        return scaler.transform(values.astype(np.float64, copy=False))

    def original(self, part: Part, channels: Channels = ALL, gaps: bool = False) -> np.ndarray:
        """Values [T_part, g] of one part in original units, missing cells filled, or NaN as :meth:`part` says."""
        found = self.filled(part, channels)
        return np.where(found.gaps, np.nan, found.values) if gaps and found.gaps is not None else found.values

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of what all parts are made of: values in original units, borders, the policy for missing ones."""
        fixed = [] if self.fixed is None else [self.fixed.mean.tolist(), self.fixed.std.tolist()]
        fixed += [] if self.plain is self else [self.transform]
        beside = [] if self.covariates is None else self.covariates.identity
        facts = [self.values.shape, self.borders, self.missing, *fixed, *beside]
        if isinstance(self.values, Stored):
            return digest([*facts, self.values.identity])
        found = hashlib.sha256(digest(facts).encode())
        for some in channel_blocks(self.channels, len(self.values)):
            found.update(np.ascontiguousarray(self.values[:, some]).data)
        return found.hexdigest()

    def filled(self, part: Part, channels: Channels = ALL) -> Filled:
        """Values as :meth:`original` has them, what was filled, by column, and which cells are masked."""
        if isinstance(self.values, Stored):
            own = np.arange(self.channels)[channels]
            values = self.values.read(self.rows(part), own.tolist())
            in_range([self.columns[c] for c in own], values, self.name)
            return self._fill(values, part, own)
        if part not in self._filled and self.fitted is not None:
            found, before = self.plain.filled(part), PARTS[: PARTS.index(part)]
            past = np.concatenate([found.values[:0], *(self.plain.original(each) for each in before)])
            self._filled[part] = found._replace(values=self.fitted.forward(found.values, past))
        elif part not in self._filled:
            self._filled[part] = self._fill(self.values[self.rows(part)], part, np.arange(self.channels))
        return self._filled[part].of(channels, self.columns)

    def _fill(self, values: np.ndarray, part: Part, channels: np.ndarray) -> Filled:
        starts, columns = None if self.starts is None else self.starts[channels], [self.columns[c] for c in channels]

        def past(c: int, start: int) -> tuple[np.ndarray, int]:
            rows, own = slice(start, self.rows(part).start), [int(channels[c])]
            found = self.values.read(rows, own) if isinstance(self.values, Stored) else self.values[rows, own]
            return found[:, 0], self.borders[0] - start

        return fill(values, starts, columns, self.rows(part).start, part, self.missing, self.name, past)

    @cached_property
    def _filled(self) -> dict[Part, Filled]:
        return {}
