"""What every fine-tuned model shares: a frame in, the next steps out; a folder that reads back.

Axis letters: L context, H horizon, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from hdt.data.columns import listed
from hdt.data.frames import Table, format_step, parse_step, read_frame
from hdt.data.layout import suffixed
from hdt.data.stamps import following
from hdt.students import STUDENTS
from hdt.system import folders
from hdt.system.errors import InputError, require
from hdt.system.parts import Named
from hdt.tuning.record import RECORD, ForecasterRecord, read_record

if TYPE_CHECKING:
    import torch

    from hdt.data.series import Panel

STUDENT = "hdt.tuning.student:StudentForecaster"
PRETRAINED = {
    "moirai": "hdt.tuning.moirai:MoiraiForecaster",
    "chronos": "hdt.tuning.chronos:ChronosForecaster",
    "timesfm": "hdt.tuning.timesfm:TimesFmForecaster",
}
MODELS = Named("model", lambda: {**dict.fromkeys(STUDENTS, STUDENT), **PRETRAINED})


class Forecaster(ABC):
    """A fine-tuned model that forecasts the H steps after a context of L steps.

    ``any_column``: whether it forecasts columns that it was not tuned on. ``files``: names of what it keeps beside
    forecaster.json.
    """

    any_column: ClassVar[bool] = False
    files: ClassVar[tuple[str, ...]]

    def __init__(self, record: ForecasterRecord) -> None:
        self.record = record

    @property
    def model(self) -> str:
        return self.record.model

    @property
    def context(self) -> int:
        """L, steps."""
        return self.record.context

    @property
    def horizon(self) -> int:
        """H, steps."""
        return self.record.horizon

    @property
    def columns(self) -> list[str]:
        """Names of the channels it was tuned on."""
        return self.record.columns

    @property
    def training(self) -> dict[str, Any]:
        """Facts of the training: data, steps, seconds, validation errors, device, versions."""
        return self.record.training

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model}: {self.context} steps in, {self.horizon} steps out)"

    def forecast(
        self,
        frame: pd.DataFrame,
        quantiles: Sequence[float] | None = None,
        *,
        time_column: str | None = None,
        id_column: str | None = None,
        target_column: str | None = None,
        resample: str | int | None = None,
    ) -> pd.DataFrame:
        """The H steps after the last row of ``frame``, in its layout, units, ids and time step.

        ``frame`` is wide or long, as for :func:`hdt.load`, also with its ``resample``; its last L rows are read.
        Without ``quantiles`` the columns keep their names; quantile 0.1 of a wide column ``load`` is called
        ``load/0.1``, that of a long frame's target ``y/0.1``. Raises :class:`hdt.system.errors.InputError` for a frame
        that is too short, lacks values, has another time step than the data that the model was tuned on, or columns it
        does not know.
        """
        levels = _levels(quantiles)
        table = read_frame(frame, "frame", time_column, id_column, target_column, resample=resample)
        recent = self._recent(table)
        if self.record.step is not None:
            _check_step(table, self.record.step)
        for column in table.columns:
            require(
                self.any_column or column in self.columns,
                f"frame: column {column!r} is unknown to this {self.model}, which was tuned on "
                f"{listed(self.columns)}; drop it, or tune on data that has it",
            )
        predicted = self._predict(recent, table.columns, levels)
        return _laid_out(table, self.horizon, levels, predicted)

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write the forecaster folder in one move: either all of it is there, or none.

        An existing folder is refused unless ``force``, and then only an empty one is replaced, or a forecaster
        folder that holds nothing but what hdt wrote. Raises :class:`hdt.system.errors.InputError` when the place
        cannot be written; where it was taken in the meantime, the forecaster is kept beside it.
        """
        folder = Path(folder)
        with folders.one_move(folder, "forecaster", own_files, force) as scratch:
            (scratch / RECORD).write_text(self.record.model_dump_json(indent=1), encoding="utf-8")
            self._write(scratch)
        return folder

    @staticmethod
    def load(folder: str | Path) -> Forecaster:
        """Read a forecaster folder back; raises :class:`InputError` naming the file that is missing or damaged."""
        record = read_record(Path(folder))
        return _kind(Path(folder), record)._read(Path(folder), record)

    @abstractmethod
    def test_errors(self, panel: Panel, device: torch.device) -> list[dict[str, Any]]:
        """Errors on the test part of ``panel`` in scaled units, a row per set of weights: ``weights`` names them, of
        what it was tuned from first, then its own. The test part is read here, once by each.
        """

    @abstractmethod
    def _predict(
        self, values: np.ndarray, columns: Sequence[str], quantiles: Sequence[float] | None
    ) -> Mapping[float | None, np.ndarray]:
        """Forecasts [H, C] in original units of ``values`` [L, C], float64, by quantile, or under None."""

    @abstractmethod
    def _write(self, folder: Path) -> None:
        """Write everything but forecaster.json."""

    @classmethod
    @abstractmethod
    def _read(cls, folder: Path, record: ForecasterRecord) -> Forecaster:
        """Read back what :meth:`_write` wrote; raises :class:`InputError` naming the file that does not fit."""

    def _recent(self, table: Table) -> np.ndarray:
        rows, length = len(table.values), self.context
        require(rows >= length, f"frame: {rows} rows are fewer than the context of {length} steps; give more history")
        recent = table.values[-length:]
        for column, values in zip(table.columns, recent.T, strict=True):
            holes = np.flatnonzero(np.isnan(values))
            if len(holes):
                stamp = table.stamps[rows - length + holes[0]]
                raise InputError(
                    f"frame: column {column!r} misses {len(holes)} of its last {length} values (first at {stamp}); "
                    "fill them, for instance with frame.interpolate()"
                )
        return recent


def _kind(folder: Path, record: ForecasterRecord) -> type[Forecaster]:
    require(record.model in MODELS, f"{folder}: unknown model {record.model!r}; known: {', '.join(MODELS)}")
    return class_of(record.model)


def class_of(model: str) -> type[Any]:
    """The class of one of ``MODELS``."""
    module, name = MODELS[model].split(":")
    kind: type[Any] = getattr(import_module(module), name)
    return kind


def own_files(folder: Path) -> set[str]:
    """The names of all files that hdt writes into a forecaster folder; raises :class:`InputError` when it is none."""
    return {RECORD, *_kind(folder, read_record(folder)).files}


def check_target(folder: Path, force: bool) -> None:
    """Refuse a place that a forecaster cannot be saved to, before the work is done."""
    folders.check_target(folder, "forecaster", own_files, force)


def _check_step(table: Table, step: str) -> None:
    """Refuse stamps that do not follow each other by ``step``; few monthly ones may look like days."""
    known = parse_step(step)
    alike = isinstance(known, int) == isinstance(table.step, int)
    require(
        alike and following(table.stamps[0], known, len(table.stamps), table.layout.unit).equals(table.stamps),
        f"frame: its step is {format_step(table.step)}, this forecaster was tuned on steps of {step}; resample it",
    )


def check_window(steps: int, context: int, horizon: int, what: str) -> None:
    """Refuse a window that does not fit into ``what`` of so many steps, and say which would."""
    require(context >= 1 and horizon >= 1, f"context {context} and horizon {horizon} must be at least 1")
    size = context + horizon
    ways = [f"with a context of {context} the horizon can be at most {steps - context}"] if context < steps else []
    ways += [f"with a horizon of {horizon} the context can be at most {steps - horizon}"] if horizon < steps else []
    require(
        size <= steps,
        f"context {context} + horizon {horizon} = {size} steps are longer than the {what} of {steps}; "
        + (", ".join(ways) or f"together they can be at most {steps}"),
    )


def _levels(quantiles: Sequence[float] | None) -> list[float] | None:
    if quantiles is None:
        return None
    for level in quantiles:
        inside = isinstance(level, Real) and 0 < level < 1
        require(inside, f"quantile {level!r}: expected a number between 0 and 1, both excluded")
    levels = [float(level) for level in quantiles]
    require(len(levels) > 0, "no quantile given; leave quantiles out for one forecast per step")
    for level in levels:
        require(levels.count(level) == 1, f"quantile {level} is given twice")
    return levels


def _laid_out(
    table: Table,
    horizon: int,
    levels: Sequence[float] | None,
    predicted: Mapping[float | None, np.ndarray],
) -> pd.DataFrame:
    """Forecasts as the caller's frame is laid out, after its last stamp."""
    layout, labels = table.layout, table.layout.own(table.columns)
    stamps = following(table.stamps[-1], table.step, horizon + 1, table.layout.unit)[1:]
    if levels is None:
        return layout.frame(predicted[None], stamps, labels)
    if layout.kind == "wide":
        names = [suffixed(label, str(level)) for label in labels for level in levels]
        values = np.stack([predicted[level] for level in levels], axis=2)  # [H, C, quantiles]
        return layout.frame(values.reshape(horizon, -1), stamps, names)
    target = layout.target_column
    frames = {f"{target}/{level}": layout.frame(predicted[level], stamps, labels) for level in levels}
    first = next(iter(frames.values())).drop(columns=target)
    return first.assign(**{name: long[target] for name, long in frames.items()})
