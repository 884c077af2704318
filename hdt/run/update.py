"""A run that goes on: rows that follow those it has seen are added to its sums, and its set is refined on these.

What a run has seen is not read again. Its scale, its features and, of ``fred``, its mask stay those of the first rows,
which keeps sums additive; all rows of an updated run are training rows.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError

from hdt.data import datasets
from hdt.data.frames import parse_step
from hdt.data.layout import Layout
from hdt.data.series import Panel
from hdt.data.survey import digest, sha256
from hdt.distillation import config
from hdt.distillation.loop import Outcome, Since, WatchIteration, optimise, typical
from hdt.maths.distance import nearest_distance
from hdt.maths.spectrum import apart, autocovariance_bound, mean_spectrum, pooled, psd, sub_series
from hdt.run import kept as state
from hdt.run.distilled import Distilled
from hdt.run.kept import Kept
from hdt.run.plan import less_memory
from hdt.run.produce import few, noise
from hdt.run.records import DataInfo, DataPart, Distance, RunInfo, in_words
from hdt.system import machine
from hdt.system.errors import InputError, readable, require
from hdt.system.machine import device_of

SHARE = 4  # by default an update has one in so many of the iterations that its method has
FAR, WIDE = 2.0, 3.0  # deviations from the old mean, and times the old deviation: a column that left its scale
ALL_TRAIN = (1.0, 0.0, 0.0)


def update(
    distilled: Distilled | str | Path, data: Any, *, iterations: int | None = None, learning_rate: float | None = None,
    device: str | None = None, watch: WatchIteration | None = None,
) -> Distilled:  # fmt: skip
    """Refine a distilled set with rows that follow those it has seen, without these.

    ``distilled`` is what :func:`hdt.distill` or an update returned, or the folder of a run that was saved with
    ``state=True``; ``data`` is anything :func:`hdt.load` takes, read as the run's table was, with the same columns. Its
    first row follows the last that the run has seen: that is the end of its training part, for a run never reads its
    validation and test parts. ``iterations`` are a quarter of the method's and ``learning_rate`` the run's own, unless
    given. The result is new; the run stays as it was. Raises :class:`hdt.system.errors.InputError` for bad input.
    """
    run = distilled if isinstance(distilled, Distilled) else Distilled.load(distilled)
    if run.kept is None:
        raise InputError(state.missing(run.info))
    settings = changed(run.info.settings, iterations, learning_rate, device)
    panel = following(run, data)
    with machine.memory_refusal(less_memory(settings)):
        return _updated(run, run.kept, panel, settings, watch)


def changed(
    settings: config.Settings, iterations: int | None, learning_rate: float | None, device: str | None
) -> config.Settings:
    """The settings of an update."""
    if iterations is None:
        iterations = -(-config.METHODS[settings.method].iterations // SHARE)
    given = {"iterations": iterations, "learning_rate": learning_rate, "device": device}
    values = settings.model_dump() | {name: value for name, value in given.items() if value is not None}
    return config.validated(config.Settings, values)


def following(run: Distilled, data: Any) -> Panel:
    """The rows of ``data``, all of them training rows, columns and scale as the run has them.

    Raises :class:`hdt.system.errors.InputError` when they are not those that follow what the run has seen.
    """
    info = run.info.data
    if isinstance(data, Panel):
        panel = replace(data, borders=(len(data.values),) * 3)
    else:
        panel = datasets.load(data, **{**info.load_options, "split": ALL_TRAIN})
    name = panel.name
    require(not panel.unequal, f"{name}: its series differ in length; give rows that all of them have")
    require(not panel.stored, f"{name}: its values stay in their files; give them in smaller parts")
    lacking = [column for column in info.columns if column not in panel.columns]
    others = [column for column in panel.columns if column not in info.columns]
    wrong = [f"lacks {column!r}" for column in lacking[:1]] + [f"has {column!r}, which is new" for column in others[:1]]
    require(not wrong, f"{name}: {' and '.join(wrong)}; give the {len(info.columns)} columns of the run")
    order = [panel.columns.index(column) for column in info.columns]
    _check_stamps(panel, run)
    panel = replace(panel, values=np.asarray(panel.values)[:, order], columns=tuple(info.columns), fixed=run.scaler)
    panel.original("train")  # refuses what cannot be filled
    return panel


def _check_stamps(panel: Panel, run: Distilled) -> None:
    """Refuse rows that overlap what was seen, leave a gap after it, or have another step."""
    info, index = run.info.data, panel.index
    seen, rows = info.borders[0], len(index)
    expected = Layout(**info.layout).stamps(info.first_stamp, parse_step(info.step), seen + rows)
    last, first, expected = expected[seen - 1], expected[seen], expected[seen:]
    told = f"{panel.name}: begins at {index[0]}, and the run has seen all rows until {last}"
    zones = [isinstance(i, pd.DatetimeIndex) and i.tz is not None for i in (index, expected)]
    alike = isinstance(index, pd.DatetimeIndex) == isinstance(expected, pd.DatetimeIndex) and zones[0] == zones[1]
    require(alike, f"{told}, which is another kind of stamp; give stamps like those of the run")
    overlap = int((index < first).sum())
    require(overlap == 0, f"{told}: {overlap:,} rows overlap; give those from {first} on")
    require(index[0] == first, f"{told}: rows are missing between; give those from {first} on, too")
    away = np.flatnonzero(np.asarray(index != expected))
    row = away[0] if len(away) else 0
    require(
        len(away) == 0, f"{panel.name}: row {row} is {index[row]}, and by the run's step {expected[row]}; keep its step"
    )


def _updated(
    run: Distilled, old: Kept, panel: Panel, settings: config.Settings, watch: WatchIteration | None
) -> Distilled:
    info = run.info.data
    device = device_of(settings.device)
    new = torch.tensor(panel.part("train"), dtype=torch.float32)
    joined = torch.cat([old.tail, new])  # M rows that were seen, and all that were not
    length, size = settings.length, settings.context + settings.horizon
    params = {name: torch.tensor(array) for name, array in run.params.items()}
    since = Since(params, run.info.chosen, old.sums)
    with machine.peak_memory(device) as peak:
        outcome = optimise(joined[length - size + 1 :], settings, watch=watch, since=since)
    assert outcome.sums is not None
    kept = _kept(old, outcome, joined, settings)
    power = pooled(kept.power, settings.channels)
    bound = autocovariance_bound(psd(outcome.series.double()).mean(dim=0), power, length)
    seen = info.borders[0] + len(new)
    part = DataPart(
        source=None if panel.source is None else readable(panel.source), rows=len(new),
        first_stamp=str(panel.index[0]), sha256=sha256(panel.original("train")),
    )  # fmt: skip
    first = DataPart(source=info.source, rows=info.borders[0], first_stamp=info.first_stamp, sha256=info.train_sha256)
    parts = [*(info.parts or [first]), part]
    data = info.model_copy(
        update={
            "source": None,
            "load_options": {name: value for name, value in info.load_options.items() if name != "split"},
            "rows": seen,
            "borders": (seen, seen, seen),
            "train_sha256": digest([part.sha256 for part in parts]),
            "notices": [*map(readable, panel.notices), *_notices(new, parts, panel, settings)],
            "parts": parts,
            "missing": _missing(info, panel),
        }
    )
    values = run.info.model_dump() | {
        "settings": settings.model_dump(),
        "data": data.model_dump(),
        "compression": seen * len(info.columns) / run.info.floats,
        "seconds": round(outcome.seconds, 3),
        "peak_rss_mb": peak(),
        "device": machine.device_name(str(device)),
        "versions": machine.versions(),
        "psd_gap": float(bound.psd_gap.mean()),
        "acf_gap": float(bound.acf_gap.mean()),
        "psd_gaps": bound.psd_gap.tolist(),
        "acf_gaps": bound.acf_gap.tolist(),
        "distance": Distance(start=None, nearest=nearest_distance(outcome.series, joined)).model_dump(),
        "chosen": outcome.chosen,
        "noise": noise(outcome.series, joined, settings),
    }
    try:
        found = RunInfo.model_validate(values)
    except ValidationError as error:
        raise InputError(
            f"the result is out of range ({in_words(error)}); lower --learning-rate (now {settings.learning_rate:g})"
        ) from None
    arrays = {name: tensor.numpy() for name, tensor in outcome.params.items()}
    return Distilled(outcome.series.numpy(), arrays, found, outcome.history, kept=kept)


def _missing(info: DataInfo, panel: Panel) -> dict[str, float]:
    """Shares of missing values in all rows."""
    before, more, new = info.borders[0], len(panel.values), panel.survey.missing
    shares = {c: (info.missing.get(c, 0) * before + new.get(c, 0) * more) / (before + more) for c in info.columns}
    return {column: share for column, share in shares.items() if share > 0}


def _kept(old: Kept, outcome: Outcome, joined: torch.Tensor, settings: config.Settings) -> Kept:
    """What the next update goes on from. Sub-series go on as far apart as they were; of fewer new rows, by these."""
    length = settings.length
    rest = joined[min(apart(length), len(joined) - length) :]
    before, more = old.sub_series, len(sub_series(len(rest), length))
    own = mean_spectrum(rest if settings.channels is None else typical(rest, settings), length).power
    power, count = (old.power * before + own * more) / (before + more), before + more
    assert outcome.sums is not None
    sums = replace(outcome.sums, tensors=[tensor.cpu() for tensor in outcome.sums.tensors])
    return Kept(sums, joined[-length:].clone(), power, count)


def _notices(new: torch.Tensor, parts: list[DataPart], panel: Panel, settings: config.Settings) -> list[str]:
    pooled_channels = few(panel, settings)
    found = [
        *([pooled_channels] if pooled_channels else []),
        f"updated: {len(parts)} parts of {', '.join(f'{part.rows:,}' for part in parts)} rows, all of them training "
        "rows, in the scale of the first",
        "the nearest real sub-series is that of the new rows and the last old ones, as no more are kept",
    ]
    left = (new.mean(dim=0).abs() > FAR) | (new.std(dim=0, correction=0) > WIDE)
    if bool(left.any()):
        names = [panel.columns[c] for c in left.nonzero().flatten().tolist()]
        found.append(
            f"{len(names)} of {len(panel.columns)} columns left the scale of the first rows (first {names[0]!r}); "
            "distil all rows anew when the set gets worse"
        )
    return found
