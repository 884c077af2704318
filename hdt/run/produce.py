"""From data and settings to a :class:`hdt.run.distilled.Distilled`. Nothing here prints."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from torch import Tensor

from hdt.data import datasets
from hdt.data.frames import format_step
from hdt.data.series import Panel
from hdt.distillation import config
from hdt.distillation.config import Settings
from hdt.distillation.loop import WatchIteration, optimise, typical
from hdt.distillation.methods import METHODS
from hdt.maths import residuals, stationarity
from hdt.maths.distance import nearest_distance
from hdt.maths.rows import Rows
from hdt.maths.spectrum import autocovariance_bound, mean_spectrum, pooled, psd, sub_series
from hdt.objective import OBJECTIVES, Sums
from hdt.parameterization import PARAMETERIZATIONS
from hdt.run import beside, private
from hdt.run.choice import decided
from hdt.run.distilled import Distilled
from hdt.run.kept import Kept, refusal
from hdt.run.plan import LittleCompression, check_memory, less_memory, little_compression
from hdt.run.reading import shared, train_blocks
from hdt.run.records import DataInfo, Distance, Noise, RunInfo, TransformRecord, in_words
from hdt.students.table import STUDENTS
from hdt.system import machine
from hdt.system.errors import InputError, readable, require
from hdt.system.fingerprint import fingerprint
from hdt.system.machine import device_of


def distill(
    data: Any, *, watch: WatchIteration | None = None, checkpoint: str | Path | None = None, engine: str = "local",
    workers: int | None = None, address: str | None = None, **settings: Any,
) -> Distilled:  # fmt: skip
    """Distil a series into a short synthetic one on which forecasters train as well.

    ``data`` is anything :func:`hdt.load` takes, or a loaded Panel. ``settings`` are those of a recipe
    (``method``, ``length`` M, ``context`` L, ``horizon`` H, ``seed``, ``device``, ``iterations``, …), the
    objective's hyperparameters (for ``hdt``: ``k``, ``lam``, …) and the options of :func:`hdt.load`;
    what is not given comes from the method and the data set. ``watch`` is called after each iteration
    with (iteration, iterations, loss terms). ``checkpoint`` is a file to go on from after an interruption, which is
    removed at the end. With ``engine="ray"`` the statistics of a table that stays in its files are tasks of Ray: of one
    with so many ``workers`` on this machine, or of that at ``address``, HOST:PORT, whose machines see the same files;
    they are the same to the last bit. Only the training part is read; equal seeds give equal
    bytes on one machine with an equal number of threads (for ``wiener`` and ``fred-wiener`` with any). With ``epsilon``
    the set is differentially private (:mod:`hdt.run.private`), its noise new each time, and it comes without its panel.
    Raises :class:`hdt.system.errors.InputError` for bad input.
    """
    panel, resolved = prepare(data, **settings)
    little = little_compression(panel, resolved)
    if little is not None:
        warnings.warn(little, LittleCompression, stacklevel=2)
    file = None if checkpoint is None else Path(checkpoint)
    with shared(panel, engine, workers, address):
        distilled = distill_panel(panel, resolved, watch=watch, checkpoint=file)
    if file is not None:
        file.unlink(missing_ok=True)
    return distilled


def prepare(
    data: str | Path | pd.DataFrame | Panel, progress: datasets.DownloadProgress | None = None, /, **settings: Any
) -> tuple[Panel, Settings]:
    """The checked data and the complete settings of a distillation, as :func:`distill` takes them."""
    loading = {name: settings.pop(name) for name in datasets.LOAD_DEFAULTS if name in settings}
    if isinstance(data, Panel):
        require(not loading, f"{', '.join(loading)}: already decided when the panel was loaded")
        panel = data
    else:
        # Settings first: a wrong flag should not cost reading the data.
        config.resolve(data, **settings)
        panel = datasets.load(data, progress=progress, **loading)
    resolved = config.resolve(panel.source, panel.channels, **settings)
    panel = panel.for_windows(resolved.context, resolved.horizon)
    if panel.unequal:
        resolved = _pooled(panel, resolved, settings)
    beside.check(panel, resolved)
    private.check(panel, resolved)
    rows, size = panel.borders[0], resolved.context + resolved.horizon
    require(rows >= size, f"{panel.name}: {rows} training rows are fewer than context + horizon = {size}")
    require(
        rows >= resolved.length,
        f"{panel.name}: {rows} training rows are fewer than length M = {resolved.length}; lower --length",
    )
    return decided(panel, resolved.context, resolved.horizon), resolved


def _pooled(panel: Panel, resolved: Settings, settings: dict[str, Any]) -> Settings:
    """Settings for series of unequal length: a few prototypes for all of them, as they share no time."""
    possible = [name for name, method in METHODS.items() if OBJECTIVES[method.objective].by_blocks]
    require(
        OBJECTIVES[resolved.objective].by_blocks,
        f"{panel.name}: its series differ in length, and objective {resolved.objective!r} takes only series that share "
        f"their stamps; choose --method {', '.join(possible[:-1])} or {possible[-1]}",
    )
    prototypes = settings.get("channels")
    require(prototypes != config.ALL, f"{panel.name}: its series differ in length; give a number of --channels")
    if prototypes is None:
        prototypes = max(1, min(config.PROTOTYPES, panel.channels // 2))
    return config.resolve(panel.source, panel.channels, **{**settings, "channels": prototypes})


def few(panel: Panel, settings: Settings) -> str | None:
    """One line when few channels stand for many."""
    if settings.channels is None:
        return None
    keep = "" if panel.unequal else "; --channels all keeps each"
    return f"{settings.channels} synthetic channels stand for all {panel.channels}, in scaled units{keep}"


def key(panel: Panel, settings: Settings) -> str:
    """Identifies everything that decides a distillation, and the device for its seconds."""
    facts = [settings.model_dump(mode="json", exclude={"device"}), panel.train_sha256, device_of(settings.device).type]
    facts += [] if panel.covariates is None else panel.covariates.identity
    facts += [] if settings.epsilon is None else [private.__name__]
    parts = [OBJECTIVES[settings.objective], PARAMETERIZATIONS[settings.parameterization], STUDENTS[settings.backbone]]
    return fingerprint(facts, code=[*parts, Panel, __name__])


def distill_panel(
    panel: Panel, settings: Settings, *, watch: WatchIteration | None = None, checkpoint: Path | None = None
) -> Distilled:
    """:func:`distill` once the data and the settings are known; the caller removes the ``checkpoint``."""
    check_memory(panel, settings)
    with machine.memory_refusal(less_memory(settings)):
        return _distilled(panel, settings, watch, checkpoint)


def _distilled(panel: Panel, settings: Settings, watch: WatchIteration | None, checkpoint: Path | None) -> Distilled:
    privacy = None
    if settings.epsilon is not None:
        panel, privacy = private.stand_in(panel, settings)
        checkpoint = None  # nothing goes on from other noise
    train = train_blocks(panel)
    little = little_compression(panel, settings)
    remedy = OBJECTIVES[settings.objective].remedy(settings.options)
    tested = machine.sample(panel.channels)
    some = panel.block("train", tested)
    drift = None if privacy else stationarity.notice(some, [panel.columns[c] for c in tested], remedy)
    device = device_of(settings.device)
    with machine.peak_memory(device) as peak:
        outcome = optimise(train, settings, watch=watch, checkpoint=checkpoint, beside=beside.told(panel))
    synthetic = psd(outcome.series.double()).mean(dim=0)
    sample = train if settings.channels is None else typical(train, settings)
    power = mean_spectrum(sample, settings.length).power
    real = pooled(power, settings.channels)
    bound = autocovariance_bound(synthetic, real, settings.length)
    given = beside.given(panel, outcome.row, settings.length)
    floats = sum(tensor.numel() for tensor in outcome.params.values()) + (0 if given is None else given.size)
    started = float((outcome.series - outcome.started).square().mean().sqrt())
    taken = panel.fitted
    notices = (*panel.notices, few(panel, settings), little, drift, privacy and privacy.notice)
    try:
        info = RunInfo(
            settings=settings,
            data=DataInfo(
                name=readable(panel.name),
                source=None if panel.source is None else readable(panel.source),
                load_options=dict(panel.load_options),
                rows=len(panel.values),
                borders=panel.borders,
                columns=list(panel.columns),
                first_stamp=str(panel.index[0]),
                step=format_step(panel.step),
                layout=vars(panel.layout),
                train_sha256=panel.train_sha256,
                shortest=None if panel.starts is None else panel.borders[0] - int(panel.starts.max()),
                missing=panel.survey.missing,
                transform=None if taken is None else TransformRecord.model_validate(taken.record),
                transform_auto=dict(panel.tried),
                covariates=beside.info(panel, outcome.row),
                notices=[readable(notice) for notice in notices if notice],
            ),
            scaler_mean=panel.scaler.mean.tolist(),
            scaler_std=panel.scaler.std.tolist(),
            floats=floats,
            compression=panel.train_numbers / floats,
            seconds=round(outcome.seconds, 3),
            peak_rss_mb=peak(),
            device=machine.device_name(str(device)),
            versions=machine.versions(),
            psd_gap=float(bound.psd_gap.mean()),
            acf_gap=float(bound.acf_gap.mean()),
            psd_gaps=bound.psd_gap.tolist(),
            acf_gaps=bound.acf_gap.tolist(),
            harmonics=None if outcome.mask is None else [bins.nonzero().flatten().tolist() for bins in outcome.mask.T],
            distance=Distance(
                start=None if settings.start == "phase" else started,
                nearest=nearest_distance(outcome.series, train),
            ),
            chosen=outcome.chosen,
            noise=noise(outcome.series, torch.tensor(some, dtype=torch.float32), settings),
            privacy=privacy,
        )
    except ValidationError as error:
        raise InputError(
            f"the result is out of range ({in_words(error)}); lower --learning-rate (now {settings.learning_rate:g})"
        ) from None
    params = {name: tensor.numpy() for name, tensor in outcome.params.items()}
    kept = None if refusal(panel, settings) else _kept(panel, settings, outcome.sums, power)
    # A stand-in is not kept: pictures would show it as the real series.
    return Distilled(outcome.series.numpy(), params, info, outcome.history, None if privacy else panel, kept, given)


def noise(series: Tensor, real: Tensor, settings: Settings) -> Noise | None:
    """What horizons of ``series`` [N, M, C] lack of the noise of the real ``[T, C_real]``; None for real segments."""
    if settings.objective == "none":
        return None
    own, rows = (Rows(values, settings.context, settings.horizon) for values in (series, real[None]))
    levels, shape = (find(own, rows, settings.context).tolist() for find in (residuals.lacking_noise, residuals.shape))
    return Noise(levels=levels, unit=residuals.unit(own, rows, settings.context), shape=shape)


def _kept(panel: Panel, settings: Settings, sums: Sums | None, power: Tensor) -> Kept | None:
    """What an update of the run goes on from."""
    if sums is None:
        return None
    last = panel.original("train")[-settings.length :].astype(np.float64, copy=False)
    tail = torch.tensor(panel.scaler.transform(last), dtype=torch.float32)
    sums = replace(sums, tensors=[tensor.cpu() for tensor in sums.tensors])
    return Kept(sums, tail, power.cpu(), len(sub_series(panel.borders[0], settings.length)))
