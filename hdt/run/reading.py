"""The training part as blocks of channels, read here or by the processes of an engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hdt.data.series import Panel
from hdt.data.stored import Stored
from hdt.maths.blocks import Blocks
from hdt.system import cluster, machine
from hdt.system.errors import require


def train_blocks(panel: Panel) -> Blocks:
    """The scaled training part, which is read by blocks of channels."""

    def read(channels: Sequence[int]) -> Tensor:
        first, count = channels[0], len(channels)
        together = list(channels) == list(range(first, first + count))
        some = slice(first, first + count) if together else np.array(channels)
        return torch.tensor(panel.block("train", some), dtype=torch.float32)

    starts = torch.zeros(panel.channels, dtype=torch.long) if panel.starts is None else torch.tensor(panel.starts)
    series = Blocks(panel.borders[0], starts, read, lambda: panel.train_sha256)
    if isinstance(panel.values, Stored):
        return replace(series, sums=machine.cache_folder(), mapped=panel.values.mapped)
    return series


def check_sharing(panel: Panel, engine: str, workers: int | None, address: str | None) -> None:
    """Refuse an engine that is none, and one for a panel that has no blocks to share."""
    cluster.check(engine, workers, address)
    require(engine == "ray" or workers is None, f"workers={workers}: a distillation shares its work with --engine ray")
    told = f"{panel.name} fits into memory; --engine ray is for parquet tables that do not, and for hdt compare"
    require(engine == "local" or panel.stored, told)


@contextmanager
def shared(panel: Panel, engine: str, workers: int | None, address: str | None) -> Iterator[None]:
    """Blocks of the panel, where its values stay in files, are read by the processes of an engine."""
    check_sharing(panel, engine, workers, address)
    if engine == "local" or not isinstance(panel.values, Stored):
        yield
        return
    with cluster.joined(workers, address) as ray:
        panel.values.mapped = partial(cluster.mapped, ray)
        try:
            yield
        finally:
            panel.values.mapped = None
