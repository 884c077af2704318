"""What a distillation would do and take, before the work; what would gain nothing or cannot fit is refused."""

from __future__ import annotations

from typing import Any

import torch

from hdt.data.series import Panel
from hdt.data.stored import Stored
from hdt.distillation import config
from hdt.distillation.config import Settings
from hdt.distillation.loop import objective_of, typical
from hdt.objective import OBJECTIVES
from hdt.parameterization import Size, build
from hdt.run.reading import train_blocks
from hdt.system import machine
from hdt.system.errors import require
from hdt.system.machine import device_of
from hdt.system.options import SIZE

BASE_MEMORY_MB = 530  # python with torch and pandas loaded, and what a statistic takes of any series
FLOAT = 4  # bytes
LEFT = 3  # copies of a table in memory: the panel's, and what reading it has left to the process
COPIES, MADE = 14, 12  # of a block, in float64 and transformed; of the synthetic series, as Adam and spectra hold them
COMPRESSION = 10.0  # times fewer numbers: what a distillation should reach
SLACK = 1.5  # memory is refused beyond so many times the machine's: the estimate may be a third too high


class LittleCompression(UserWarning):
    """A distillation that is about to return nearly as many numbers as it was given."""


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


def plan(panel: Panel, settings: Settings) -> dict[str, Any]:
    """What a distillation would do: settings, stored floats and a rough estimate of peak memory in MB."""
    little, channels = little_compression(panel, settings), settings.channels or panel.channels
    size = Size(settings.sequences, settings.length, channels)
    parameterization = build(settings.parameterization, size, settings.options)
    parameterization.prepare(typical(train_blocks(panel), settings), torch.Generator())
    floats = parameterization.floats()
    if panel.covariates is not None:
        floats += settings.length * panel.covariates.values.shape[1] * panel.covariates.given
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
    objective = objective_of(settings)
    graph = objective.graph_bytes(instances, min(channels, settings.channel_batch or channels))
    rows, block = panel.borders[0], min(panel.channels, machine.channels_at_once(panel.borders[0]))
    held = panel.values.footers if isinstance(panel.values, Stored) else LEFT * panel.values.nbytes
    dense = FLOAT * rows * (channels + (0 if objective.by_blocks else panel.channels))  # where it starts; all at once
    made = MADE * FLOAT * instances * settings.length * channels
    return round(BASE_MEMORY_MB + (held + dense + made + COPIES * FLOAT * rows * block + graph) / 2**20)


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
