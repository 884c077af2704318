"""A real series [T, C] by blocks of channels: what adds up over channels never needs the whole of it.

Either a tensor that holds all of it, or a :class:`Blocks` that reads some channels when asked. Channels of unequal
length are aligned at their ends: rows before one begins are NaN. A block has no such rows; what needs one dense table
takes the rows that all have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hdt.system import checkpoint
from hdt.system.cluster import Mapped
from hdt.system.errors import InputError, require
from hdt.system.machine import channels_at_once, sample

CPU = torch.device("cpu")
KEEP_SECONDS = 10.0  # between two times that running sums are kept


@dataclass(frozen=True)
class Blocks:
    """A series read by blocks: ``read`` gives the scaled rows [T, g] of some channels, float32.

    ``starts`` [C] are the first rows of channels, all zero where they begin together. ``key`` tells what identifies the
    values. ``sums`` is a folder in which running sums over all blocks are kept, so that an interrupted pass goes on and
    a finished one is not repeated; None keeps nothing, where reading costs little. ``mapped`` calls a function with
    numbers and yields what it returns, in their order, by other processes; None calls it here.
    """

    rows: int
    starts: Int[Tensor, " C"]
    read: Callable[[Sequence[int]], Float[Tensor, "T g"]]
    key: Callable[[], str]
    device: torch.device = CPU
    sums: Path | None = None
    mapped: Mapped | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """T and C."""
        return self.rows, len(self.starts)

    def to(self, device: torch.device) -> Blocks:
        """The same, whose blocks come on that device."""
        return replace(self, device=device)


Real: TypeAlias = Float[Tensor, "T C"] | Blocks  # a real series, held or read


def starts(series: Real) -> Int[Tensor, " C"]:
    """The first row of every channel."""
    return series.starts if isinstance(series, Blocks) else series.isnan().sum(dim=0)


def groups(series: Real, rows: int = 1) -> list[tuple[int, Int[Tensor, " g"]]]:
    """Where the channels of each block begin and which they are, of those with at least ``rows`` rows.

    Channels of a block begin together. A tensor whose channels all do is one block, the table itself.
    """
    first = starts(series).cpu()
    found = [(start, (first == start).nonzero().flatten()) for start in first.unique().tolist()]
    found = [(start, own) for start, own in found if series.shape[0] - start >= rows]
    if isinstance(series, Blocks):
        return [(start, part) for start, own in found for part in own.split(channels_at_once(series.rows))]
    return found


def blocks(series: Real, rows: int = 1) -> Iterator[tuple[Int[Tensor, " g"], Float[Tensor, "rows g"]]]:
    """The channels [g] of every block and their rows from where they begin [T_i, g]."""
    for start, own in groups(series, rows):
        yield own, take(series, own)[start:]


def take(series: Real, channels: Int[Tensor, " g"]) -> Float[Tensor, "T g"]:
    """All rows of some channels."""
    if isinstance(series, Blocks):
        return series.read(channels.tolist()).to(series.device)
    whole = len(channels) == series.shape[1] and bool((channels.diff() == 1).all())
    return series if whole else series[:, channels.to(series.device)]


def select(series: Real, channels: Int[Tensor, " g"]) -> Float[Tensor, "T_common g"]:
    """Some channels, in that order, from the row on that they all have."""
    first = starts(series)[channels]
    return take(series, channels)[int(first.max()) if len(first) else 0 :]


def long_enough(series: Real, rows: int, least: int = 1) -> Int[Tensor, " C_long"]:
    """The channels of at least ``rows`` rows; raises :class:`hdt.system.errors.InputError` for fewer than ``least``."""
    lengths = series.shape[0] - starts(series).cpu()
    found = (lengths >= rows).nonzero().flatten()
    require(
        len(found) >= least,
        f"{len(found)} series have {rows} training rows, the longest {int(lengths.max())}, and {least} are needed; "
        f"lower --length{' or --channels' if least > 1 else ''}",
    )
    return found


def dense(series: Real) -> Float[Tensor, "T C"]:
    """All of it at once."""
    if isinstance(series, Tensor):
        return series
    whole = torch.full(series.shape, torch.nan, device=series.device)
    for start, own in groups(series):
        whole[start:, own.to(series.device)] = take(series, own)[start:]
    return whole


def evenly(channels: Int[Tensor, " C"]) -> Int[Tensor, " g"]:
    """Of some channels a sample (:func:`hdt.system.machine.sample`)."""
    return channels[list(sample(len(channels)))]


@dataclass(frozen=True)
class _Told:
    """What a statistic tells of the nth block; other processes take it as it is, which they do not a closure."""

    series: Real
    blocks: Sequence[tuple[int, Tensor]]
    statistic: Callable[[Tensor], Sequence[Tensor]]

    def __call__(self, n: int) -> list[Tensor]:
        start, own = self.blocks[n]
        return list(self.statistic(take(self.series, own)[start:]))


def summed(
    series: Real,
    rows: int,
    statistic: Callable[[Float[Tensor, "rows g"]], Sequence[Tensor]],
    identity: Callable[[], str] | None = None,
) -> list[Tensor]:
    """The sum over blocks of channels with at least ``rows`` rows of what ``statistic`` tells of one.

    Of a series that is read, the running sum is kept under the ``identity`` of the statistic, where one is given: an
    interrupted pass goes on where it was, to the same bits, and a finished one is not repeated. There must be one block
    at least.
    """
    file, mapped = None, None
    if isinstance(series, Blocks):
        if series.sums is not None and identity is not None:
            name = f"sums-{series.key()[:32]}-{series.device.type}-{identity()}.safetensors"
            file = series.sums / name
        series, mapped = replace(series, mapped=None), series.mapped
    stored = None if file is None else checkpoint.load(file)
    parts, last_kept = groups(series, rows), time.monotonic()
    count = len(parts)
    done, found = 0, []
    if stored is not None and stored.facts["rows"] == rows and stored.facts["blocks"] == count:
        done, found = stored.facts["done"], [stored.tensors[str(n)] for n in range(len(stored.tensors))]
        found = [tensor.to(series.device) for tensor in found]
    begun = done
    for told in (mapped or map)(_Told(series, parts, statistic), range(done, count)):
        found = [total + part for total, part in zip(found, told, strict=True)] if found else told
        done += 1
        if file is not None and time.monotonic() - last_kept >= KEEP_SECONDS:
            _keep(file, found, rows, count, done)
            last_kept = time.monotonic()
    if file is not None and done > begun:
        _keep(file, found, rows, count, done)
    return found


def _keep(file: Path, found: Sequence[Tensor], rows: int, count: int, done: int) -> None:
    tensors = {str(n): tensor for n, tensor in enumerate(found)}
    with suppress(InputError):  # a folder that cannot be written costs a second pass at most
        checkpoint.save(file, tensors, {"rows": rows, "blocks": count, "done": done})
