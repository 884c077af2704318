"""Synthetic series as other libraries take them: pandas frames and gluonts data sets."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hdt.data.frames import parse_step
from hdt.data.layout import Label, Layout, suffixed
from hdt.data.series import Panel
from hdt.run import beside
from hdt.system.errors import InputError, require

if TYPE_CHECKING:
    from gluonts.dataset.pandas import PandasDataset

    from hdt.run.synthetic import Synthetic


def laid_out(distilled: Synthetic, layout: Layout) -> pd.DataFrame:
    """The synthetic series in ``layout``, see :meth:`hdt.Distilled.to_frame`."""
    index = _stamps(distilled, layout, distilled.values.shape[1])
    labels = _labels(distilled, layout, joined=False)

    def together(sequences: np.ndarray) -> np.ndarray:
        return np.concatenate(list(sequences), axis=1)

    if layout.kind == "wide":
        return beside.wide(layout.frame(together(distilled.original), index, labels), distilled)
    return _long(distilled, layout.frame(together(_targets(distilled)), index, labels), together)


def _targets(distilled: Synthetic) -> np.ndarray:
    """Those of the channels [N, M, C] that are forecast, in original units."""
    own = distilled.info.data.covariates
    if own is None or distilled.info.settings.channels is not None:
        return distilled.original
    return distilled.original[..., : own.targets]


def _long(distilled: Synthetic, frame: pd.DataFrame, arrange: beside.Arrange) -> pd.DataFrame:
    """A long frame of the targets with their covariates."""
    own, ahead = distilled.info.data.covariates, distilled.ahead
    if own is None:
        return frame
    targets = _targets(distilled).shape[2]
    known = None if ahead is None else np.broadcast_to(ahead, (len(distilled.values), *ahead.shape))
    return beside.long(frame, own, targets, arrange, distilled.original[..., targets:], known)


def joined(distilled: Synthetic, layout: Layout) -> pd.DataFrame:
    """The sequences one after another in a long layout, see :meth:`hdt.Distilled.to_long`."""
    original, settings = _targets(distilled), distilled.info.settings
    gap = settings.context + settings.horizon
    apart = ((0, 0), (0, gap), (0, 0))
    level = original.mean(axis=(0, 1))
    known = np.pad(np.ones(original.shape, dtype=bool), apart)
    values = np.where(known, np.pad(original, apart), level).reshape(-1, len(level))[:-gap]
    long = layout.frame(values, _stamps(distilled, layout, len(values)), _labels(distilled, layout, joined=True))
    long = _long(distilled, long, lambda own: np.pad(own, apart, "edge").reshape(-1, own.shape[2])[:-gap])
    return long.assign(available_mask=known.reshape(-1, len(level))[:-gap].T.ravel().astype(int))


def real_validation(distilled: Synthetic, layout: Layout, panel: Panel, joined: bool) -> pd.DataFrame:
    """The real validation part under the ids of the synthetic series, see :meth:`hdt.Distilled.real_validation`."""
    pooled, rows = distilled.info.settings.channels, panel.rows("val")
    require(rows.stop > rows.start, f"{panel.name}: the val part has no rows; choose another --split")
    if pooled is None:
        values = panel.plain.original("val").astype(np.float64, copy=False)
    else:
        values = panel.block("val", [n * panel.channels // pooled for n in range(pooled)])
    labels, own = _labels(distilled, layout, joined), distilled.info.data.covariates
    targets = values.shape[1] if own is None or pooled is not None else own.targets
    copies = len(labels) // targets
    frame = layout.frame(np.tile(values[:, :targets], (1, copies)), panel.index[rows], labels)
    if own is None or panel.covariates is None:
        return frame
    past, known = values[None, :, targets:], panel.covariates.values[rows][None]
    return beside.long(frame, own, targets, lambda real: np.tile(real[0], (1, copies)), past, known)


def _stamps(distilled: Synthetic, layout: Layout, steps: int) -> pd.Index:
    data = distilled.info.data
    first = data.covariates.first_stamp if data.covariates else None
    return layout.stamps(first or data.first_stamp, parse_step(data.step), steps)


def _labels(distilled: Synthetic, layout: Layout, joined: bool) -> list[Label]:
    """Of the channels, or of those of every sequence where there are several that are not ``joined``."""
    sequences = 1 if joined else len(distilled.values)
    columns = distilled.columns if distilled.info.settings.channels is not None else _own(distilled, layout)
    if sequences == 1:
        return columns
    return [suffixed(column, str(n)) for n in range(1, sequences + 1) for column in columns]


def _own(distilled: Synthetic, layout: Layout) -> list[Label]:
    """The caller's labels of the learned channels, of the targets alone where the layout is long."""
    own, columns = distilled.info.data.covariates, list(distilled.columns)
    if own is None:
        return layout.own(columns)
    labels = layout.own(columns)
    labels += columns[len(labels) :]  # of a long table the past columns have none
    return labels[: own.targets] if layout.kind == "long" else labels


def names(frame: pd.DataFrame) -> list[object]:
    """Labels of columns as text, level by level: parquet keeps those of mixed kinds as text only."""
    return [tuple(map(str, label)) if isinstance(label, tuple) else str(label) for label in frame.columns]


def parquet(frame: pd.DataFrame) -> bytes:
    """A frame as a parquet file; pandas' warning that labels of mixed kinds become text is not the reader's."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The DataFrame has column names of mixed type", UserWarning)
        return frame.to_parquet()


def to_gluonts(wide: pd.DataFrame, step: str) -> PandasDataset:
    """One univariate float32 series per column of a wide frame, see :meth:`hdt.Distilled.to_gluonts`."""
    try:
        from gluonts.dataset.pandas import PandasDataset
    except ImportError as error:
        raise InputError("gluonts is not installed; pip install 'hdt-ts[moirai]'") from error
    if not isinstance(wide.index, pd.DatetimeIndex):
        raise InputError("gluonts has no period for numbered rows; use to_long() instead")
    stamps = wide.index
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas is to drop periods of business days, which gluonts still takes
            periods = stamps.tz_localize(None).to_period()  # gluonts counts in periods, which have no time zone
    except ValueError as error:
        raise InputError(f"gluonts has no period for the time step {step} ({error}); use to_long() instead") from error
    series = {
        str(name): pd.DataFrame({"target": wide[name].to_numpy(np.float32)}, index=periods) for name in wide.columns
    }
    return PandasDataset(series, target="target", freq=periods.freqstr)
