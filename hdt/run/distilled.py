"""Distilled: the result of a distillation, its way to a frame, and the run folder it is kept in."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hdt.data.covariates import calendar, calendar_names
from hdt.data.frames import parse_step
from hdt.data.layout import Layout
from hdt.data.series import Panel
from hdt.distillation import recipe
from hdt.run import card, interchange, loading, records
from hdt.run.kept import missing, read, write
from hdt.run.source import real_data, same_data
from hdt.run.synthetic import Synthetic
from hdt.system import folders
from hdt.system.errors import InputError, require

if TYPE_CHECKING:
    from gluonts.dataset.pandas import PandasDataset

    from hdt.maths.windows import WindowDataset

PLAIN: dict[str, Any] = {  # names of to_long and to_wide, and stamps without periods
    "time_column": None, "id_column": "unique_id", "target_column": "y", "time_in_column": False, "index": (),
    "period": None,
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class Distilled(Synthetic):
    """The result of a distillation, with its ways to frames and data sets and to a run folder and back."""

    @property
    def _layout(self) -> Layout:
        return Layout(**self.info.data.layout)

    @property
    def freq(self) -> str | int:
        """The time step as pandas and forecasting libraries write it: "h", "MS"; of numbered rows, a number."""
        step: Any = parse_step(self.info.data.step)
        return step if isinstance(step, int) else pd.tseries.frequencies.to_offset(step).freqstr

    @property
    def _long(self) -> Layout:
        return replace(self._layout, kind="long", **PLAIN)

    def to_frame(self) -> pd.DataFrame:
        """The synthetic series in original units and the caller's layout (M rows, or M·C when long).

        The stamps are placeholders that start at the first real stamp and keep its step; with columns known ahead they
        are those of the stretch that these are from, and all covariates are columns of the frame. Of several
        sequences, ``load/1`` and ``load/2`` are the first and second of channel ``load``. Fewer synthetic than
        real channels are called ``synthetic_1`` … and stay in scaled units: each stands for all of them.
        """
        return interchange.laid_out(self, self._layout)

    def to_long(self, *, joined: bool = False) -> pd.DataFrame:
        """:meth:`to_frame` with the columns ``unique_id``, ``ds`` and ``y``, whatever the caller's layout.

        Of several sequences each has ids of its own, so that no window goes from one to another. Models that take all
        series at once (``n_series``) need one id per channel: ``joined``, the sequences follow one another, with
        context + horizon rows between them that hold the channel's mean and 0 in ``available_mask``, which
        neuralforecast counts in no loss.
        """
        return (interchange.joined if joined else interchange.laid_out)(self, self._long)

    def real_validation(self, data: Any = None, *, joined: bool = False) -> pd.DataFrame:
        """The real validation part under the ids of :meth:`to_long`, to stop on: ``nf.fit(df=…, val_df=…)``.

        It repeats for every sequence unless ``joined``. Where synthetic channels stand for several, as many evenly
        spaced real ones in scaled units take their ids. ``data`` as in :func:`hdt.evaluate`. Raises
        :class:`InputError` when the data are not at hand, or not those of the run.
        """
        panel = real_data(self, data)
        same_data(self, panel)
        return interchange.real_validation(self, self._long, panel, joined)

    def to_wide(self) -> pd.DataFrame:
        """:meth:`to_frame` with one column per channel and a DatetimeIndex, whatever the caller's layout."""
        return interchange.laid_out(self, replace(self._layout, kind="wide", **PLAIN))

    def to_static(self, *, joined: bool = False) -> pd.DataFrame:
        """The static columns, a row per ``unique_id`` of :meth:`to_long`: neuralforecast's ``static_df``.

        Raises :class:`InputError` for a run without any.
        """
        own = self.info.data.covariates
        if own is None or not own.static:
            raise InputError(f"{self.info.data.name}: this run has no static columns; distil with --static COLUMN")
        rows = self.to_long(joined=joined).drop_duplicates("unique_id")
        return rows[["unique_id", *own.static]].reset_index(drop=True)

    @property
    def exogenous(self) -> dict[str, list[str]]:
        """The columns of :meth:`to_long` by role, as models of neuralforecast take them."""
        own = self.info.data.covariates
        known, past, static = ([], [], []) if own is None else (own.known, own.past, list(own.static))
        return {"futr_exog_list": known, "hist_exog_list": past, "stat_exog_list": static}

    def with_calendar(self, frame: pd.DataFrame, time_column: str = "ds") -> pd.DataFrame:
        """A frame of stamps, such as the future of a forecast, with the calendar columns that this run has."""
        own = self.info.data.covariates
        cycles = own.calendar if own else []
        made = calendar(pd.DatetimeIndex(frame[time_column]), cycles)
        return frame.assign(**dict(zip(calendar_names(cycles), made.T, strict=True)))

    def to_torch(self, context: int | None = None, horizon: int | None = None) -> WindowDataset:
        """A torch Dataset of (context [L, C], horizon [H, C]) pairs, float32 in scaled units.

        One pair per window of every sequence, N·(M − L − H + 1) in all, sequence by sequence; L and H are the
        run's own unless given. Raises :class:`InputError` when a sequence is shorter than one window.
        """
        import torch

        from hdt.maths.windows import WindowDataset

        settings = self.info.settings
        context = settings.context if context is None else context
        horizon = settings.horizon if horizon is None else horizon
        return WindowDataset(torch.tensor(self.values, dtype=torch.float32), context, horizon)

    def to_gluonts(self) -> PandasDataset:
        """A gluonts PandasDataset of univariate series in original units, one per column of :meth:`to_wide`.

        Raises :class:`InputError` when gluonts is not installed.
        """
        wide = self.to_wide()
        return interchange.to_gluonts(wide.iloc[:, : self.values.shape[0] * self.values.shape[2]], self.info.data.step)

    def with_panel(self, panel: Panel) -> Distilled:
        """The same result, with the real data at hand for pictures."""
        return replace(self, panel=panel)

    def save(self, folder: str | Path, *, force: bool = False, command: str | None = None, state: bool = False) -> Path:
        """Write the run folder in one move: either all of it is there, or none.

        An existing folder is refused unless ``force``, and then only an empty one is replaced, or a run folder that
        holds nothing but what hdt wrote. With ``state``, what :func:`hdt.update` goes on from is written, too: some
        megabytes, the last M real rows among them, so it is not for handing on. Raises :class:`InputError` when the
        place cannot be written (where it was taken in the meantime, the run is kept beside it), and for a ``state``
        that the run does not have.
        """
        folder = Path(folder)
        if state and self.kept is None:
            raise InputError(missing(self.info))
        with folders.one_move(folder, "run", own_files, force) as scratch:
            self._write(scratch, folder, command)
            if state and self.kept is not None:
                write(self.kept, self.info, scratch / records.STATE)
        return folder

    def _write(self, folder: Path, target: Path, command: str | None) -> None:
        """Everything into ``folder``, which becomes ``target``."""
        from safetensors.numpy import save

        from hdt.run import report  # here: matplotlib takes its time

        settings, data = self.info.settings, self.info.data
        (folder / records.SERIES).write_bytes(interchange.parquet(self.to_frame()))
        # safetensors writes the memory as it lies, so strided arrays would come back scrambled.
        arrays = {name: np.ascontiguousarray(array) for name, array in self.params.items()}
        arrays |= {} if self.given is None else {records.GIVEN: self.given}
        (folder / records.PARAMS).write_bytes(save(arrays))  # its own save_file leaves mode 600
        (folder / records.RUN).write_text(self.info.model_dump_json(indent=1), encoding="utf-8")
        source = data.source or data.name
        if command is None and data.parts:
            command = shlex.join(["hdt", "update", "RUN", data.parts[-1].source or "TABLE"])
        command = command or recipe.command(settings, source, data.load_options, len(data.columns))
        text = recipe.write_recipe(settings, source, data.load_options, command)
        (folder / records.RECIPE).write_text(text, encoding="utf-8")
        history = "".join(json.dumps(entry) + "\n" for entry in self.history)
        (folder / records.METRICS).write_text(history, encoding="utf-8")
        (folder / records.CARD).write_text(card.card(self, command), encoding="utf-8")
        (folder / records.PAGE).write_text(report.page(self, folder, target), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Distilled:
        """Read a run folder back; every file is checked against the others.

        Raises :class:`InputError` naming the file that is missing, damaged or does not fit.
        """
        folder = Path(folder)
        if not folder.is_dir():
            folders.recover(folder)
        require(folder.is_dir(), f"{folder}: no such run folder; make one with 'hdt distill DATA --out {folder}'")
        for name in records.FILES:
            require((folder / name).is_file(), f"{folder}: {name} is missing, so this is not a complete run folder")
        info = loading.read_info(folder)
        info = info.model_copy(update={"settings": loading.read_settings(info, folder)})
        history = loading.read_history(folder, info.settings.iterations)
        params, frame = loading.read_params(folder), loading.read_series(folder)
        given = loading.read_given(params, info, folder)
        values = loading.decode(params, info, loading.cells(frame, info), folder)
        distilled = cls(values, params, info, history, kept=read(folder / records.STATE, info), given=given)
        unit = np.broadcast_to(np.maximum(1, np.abs(values).max(axis=1, keepdims=True)), values.shape)
        zeros, taken = [0.0] * len(info.scaler_mean), info.data.transform
        rest = taken and taken.model_copy(update={"state": [zeros] * len(taken.state)})
        update = {"scaler_mean": zeros, "data": info.data.model_copy(update={"transform": rest})}
        centred = info.model_copy(update=update)
        try:
            with np.errstate(over="ignore"):
                expected, scale = distilled.to_frame(), cls(unit, params, centred, given=given).to_frame()
        except (ValueError, TypeError, ArithmeticError) as error:
            wrong = "data.first_stamp, data.step or data.layout is wrong"
            raise InputError(f"{folder / records.RUN}: {wrong} ({error})") from None
        if interchange.names(frame) == interchange.names(expected):
            frame.columns = expected.columns  # parquet makes text of numbers and tuples
        loading.check_series(frame, expected, scale, folder)
        return distilled


def own_files(folder: Path) -> set[str]:
    """The names of all files that hdt writes into a run folder; raises :class:`InputError` when it is none."""
    from hdt.run import report

    loading.read_info(folder)
    return {
        *records.FILES,
        records.STATE,
        records.EVALUATION,
        records.PAGE,
        records.VIEW,
        *(f"{name}.png" for name in report.CAPTIONS),
    }


def check_target(folder: Path, force: bool) -> None:
    """Refuse a place that a run cannot be saved to, before the work is done."""
    folders.check_target(folder, "run", own_files, force)
