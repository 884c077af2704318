"""From data and settings to a :class:`hdt.run.distilled.Distilled`. Nothing here prints."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
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
from hdt.distillation.loop import WatchIteration, objective_of, optimise, typical
from hdt.distillation.methods import METHODS
from hdt.maths import stationarity
from hdt.maths.blocks import Blocks
from hdt.maths.distance import nearest_distance
from hdt.maths.spectrum import autocovariance_bound, mean_spectrum, pooled, psd
from hdt.objective import OBJECTIVES
from hdt.parameterization import PARAMETERIZATIONS, Size, build
from hdt.run.distilled import Distilled
from hdt.run.records import DataInfo, Distance, RunInfo, in_words
from hdt.students.table import STUDENTS
from hdt.system import machine
from hdt.system.errors import InputError, readable, require
from hdt.system.fingerprint import fingerprint
from hdt.system.machine import device_of
from hdt.system.options import SIZE

BASE_MEMORY_MB = 500  # python with torch, pandas and matplotlib loaded
COMPRESSION = 10.0  # times fewer numbers: what a distillation should reach
TESTED = 64  # channels at most that are looked at for drift
SLACK = 1.5  # memory is refused beyond so many times the machine's: the estimate may be a third too high


class LittleCompression(UserWarning):
    """A distillation that is about to return nearly as many numbers as it was given."""


def distill(
    data: Any, *, watch: WatchIteration | None = None, checkpoint: str | Path | None = None, **settings: Any
) -> Distilled:
    """Distil a series into a short synthetic one on which forecasters train as well.

    ``data`` is anything :func:`hdt.load` takes, or a loaded Panel. ``settings`` are those of a recipe
    (``method``, ``length`` M, ``context`` L, ``horizon`` H, ``seed``, ``device``, ``iterations``, …), the
    objective's hyperparameters (for ``hdt``: ``k``, ``lam``, …) and the options of :func:`hdt.load`;
    what is not given comes from the method and the data set. ``watch`` is called after each iteration
    with (iteration, iterations, loss terms). ``checkpoint`` is a file to go on from after an interruption, which is
    removed at the end. Only the training part is read; equal seeds give equal
    bytes on one machine with an equal number of threads (for ``wiener`` and ``fred-wiener`` with any).
    Raises :class:`hdt.system.errors.InputError` for bad input.
    """
    panel, resolved = prepare(data, **settings)
    little = little_compression(panel, resolved)
    if little is not None:
        warnings.warn(little, LittleCompression, stacklevel=2)
    file = None if checkpoint is None else Path(checkpoint)
    distilled = distill_panel(panel, resolved, watch=watch, checkpoint=file)
    if file is not None:
        file.unlink(missing_ok=True)
    return distilled


def little_compression(panel: Panel, settings: Settings) -> str | None:
    """One line when the synthetic series holds more than a tenth of the numbers of the real one, with the remedy.

    Raises :class:`hdt.system.errors.InputError` when it would hold as many or more: then nothing is gained by the work.
    """
    channels = settings.channels or panel.channels
    real, synthetic = panel.train_numbers, settings.sequences * settings.length * channels
    if synthetic * COMPRESSION <= real:
        return None
    remedies = ["lower --length"] if settings.length > settings.context + settings.horizon else []
    if channels > 1:
        pools = OBJECTIVES[settings.objective].pools_channels
        remedies.append("ask for fewer --channels" if pools else "take fewer --channels with --method wiener")
    what = f"{panel.name}: {synthetic:,} synthetic numbers for {real:,} real ones, {real / synthetic:.1f}× fewer"
    advice = " or ".join(remedies) or "train on the data itself"
    require(synthetic < real, f"{what}: that distils nothing; {advice}")
    return f"{what}, little compression; {advice}"


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
    rows, size = panel.borders[0], resolved.context + resolved.horizon
    require(rows >= size, f"{panel.name}: {rows} training rows are fewer than context + horizon = {size}")
    require(
        rows >= resolved.length,
        f"{panel.name}: {rows} training rows are fewer than length M = {resolved.length}; lower --length",
    )
    return panel, resolved


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


def _few(panel: Panel, settings: Settings) -> str | None:
    """One line when few channels stand for many."""
    if settings.channels is None:
        return None
    keep = "" if panel.unequal else "; --channels all keeps each"
    return f"{settings.channels} synthetic channels stand for all {panel.channels}, in scaled units{keep}"


def plan(panel: Panel, settings: Settings) -> dict[str, Any]:
    """What a distillation would do: settings, stored floats and a rough estimate of peak memory in MB."""
    little, channels = little_compression(panel, settings), settings.channels or panel.channels
    size = Size(settings.sequences, settings.length, channels)
    parameterization = build(settings.parameterization, size, settings.options)
    parameterization.prepare(typical(train_blocks(panel), settings), torch.Generator())
    floats = parameterization.floats()
    return {
        "data": panel.name,
        "train_rows": panel.borders[0],
        "channels": panel.channels,
        "synthetic_channels": channels,
        "floats": floats,
        "compression": panel.train_numbers / floats,
        "estimated_memory_mb": estimated_memory_mb(panel, settings, parameterization.instances()),
        "settings": settings.model_dump(),
        **({"note": little} if little else {}),
    }


def estimated_memory_mb(panel: Panel, settings: Settings, instances: int) -> int:
    """A rough estimate of the peak memory of a distillation to so many decoded series, in MB."""
    channels = settings.channels or panel.channels
    graph = objective_of(settings).graph_bytes(instances, min(channels, settings.channel_batch or channels))
    return round(BASE_MEMORY_MB + (graph + 3 * panel.values.nbytes) / 2**20)


def less_memory(settings: Settings) -> str:
    """What to lower when memory does not suffice."""
    options = sorted(config.marked(settings, SIZE) & settings.options.keys())
    flags = ["--length"] + ["--sequences"] * (settings.sequences > 1) + [f"--option {name}" for name in options]
    return f"lower {', '.join(flags[:-1])}{' or ' if flags[1:] else ''}{flags[-1]}"


def check_memory(panel: Panel, settings: Settings) -> None:
    """Refuse, before the work, a distillation that cannot fit into the memory of the machine."""
    have, need = machine.memory_mb(device_of(settings.device)), estimated_memory_mb(panel, settings, settings.sequences)
    require(
        have is None or need <= SLACK * have,
        f"this needs about {need:,} MB of memory, and the machine has {have or 0:,.0f}; {less_memory(settings)}",
    )


def train_blocks(panel: Panel) -> Blocks:
    """The scaled training part, which is read by blocks of channels."""

    def read(channels: Sequence[int]) -> Tensor:
        first, count = channels[0], len(channels)
        together = list(channels) == list(range(first, first + count))
        some = slice(first, first + count) if together else np.array(channels)
        return torch.tensor(panel.block("train", some), dtype=torch.float32)

    starts = torch.zeros(panel.channels, dtype=torch.long) if panel.starts is None else torch.tensor(panel.starts)
    kept = None if not panel.stored else machine.cache_folder()
    return Blocks(panel.borders[0], starts, read, panel.train_sha256, sums=kept)


def key(panel: Panel, settings: Settings) -> str:
    """Identifies everything that decides a distillation, and the device for its seconds."""
    facts = [settings.model_dump(mode="json", exclude={"device"}), panel.train_sha256, device_of(settings.device).type]
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
    train = train_blocks(panel)
    little = little_compression(panel, settings)
    remedy = OBJECTIVES[settings.objective].remedy(settings.options)
    tested = np.arange(0, panel.channels, -(-panel.channels // TESTED))
    drift = stationarity.notice(panel.block("train", tested), [panel.columns[c] for c in tested], remedy)
    device = device_of(settings.device)
    with machine.peak_memory(device) as peak:
        outcome = optimise(train, settings, watch=watch, checkpoint=checkpoint)
    synthetic = psd(outcome.series.double()).mean(dim=0)
    real = pooled(mean_spectrum(train, settings.length).power, settings.channels)
    bound = autocovariance_bound(synthetic, real, settings.length)
    floats = sum(tensor.numel() for tensor in outcome.params.values())
    started = float((outcome.series - outcome.started).square().mean().sqrt())
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
                notices=[
                    readable(notice) for notice in (*panel.notices, _few(panel, settings), little, drift) if notice
                ],
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
        )
    except ValidationError as error:
        raise InputError(
            f"the result is out of range ({in_words(error)}); lower --learning-rate (now {settings.learning_rate:g})"
        ) from None
    params = {name: tensor.numpy() for name, tensor in outcome.params.items()}
    return Distilled(outcome.series.numpy(), params, info, outcome.history, panel)
