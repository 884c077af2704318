"""Training windows of a series, as views: nothing is copied until a batch is used."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hdt.system.errors import require


class Gappy(NamedTuple):
    """A series with gaps: ``values`` [..., T, C] with what fills them, for contexts, and the same as ``targets``, NaN
    where nothing was observed.

    Of a table that was transformed, errors are multiplied by ``unit`` [C], and ``summed`` along the horizon where it
    was differenced, to be those of the table itself.
    """

    values: Tensor
    targets: Tensor
    unit: Tensor | None = None
    summed: bool = False


Seen: TypeAlias = Tensor | Gappy  # a series that students see; rows of NaN where it has not begun


def parted(series: Seen) -> Gappy:
    """What contexts and what targets are read from: the same tensor for a series without gaps."""
    return series if isinstance(series, Gappy) else Gappy(series, series)


def windows(
    series: Float[Tensor, "... T C"], context: int, horizon: int, stride: int = 1
) -> Float[Tensor, "... B window C"]:
    """Every window of ``context + horizon`` steps, ``stride`` apart: a strided view [..., B, L+H, C].

    B = (T − L − H) // stride + 1. Raises :class:`hdt.system.errors.InputError` when T < L + H.
    """
    size = context + horizon
    steps = series.shape[-2]
    require(steps >= size, f"{steps} steps are fewer than context {context} + horizon {horizon} = {size}")
    return series.unfold(-2, size, stride).transpose(-1, -2)


def spread(count: int, most: int) -> Int[Tensor, " n"]:
    """Positions among ``count`` windows, ascending: all, or one in each of ``most`` equal stretches.

    Its place within the stretch is drawn, always alike, so that all phases of a season are visited, however long it
    is; a fixed stride sees a fraction of them where it shares a factor with the season.
    """
    if count <= most:
        return torch.arange(count)
    within = torch.rand(most, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    edges = torch.arange(most + 1) * count // most
    return edges[:-1] + (within * edges.diff()).long()


def some_windows(
    every: Float[Tensor, "N B window C"], share: int, generator: torch.Generator
) -> Float[Tensor, "N b window C"]:
    """One window in ``share``, evenly spaced from a random one on: each is equally likely. All, and nothing is drawn,
    when ``share`` is 1."""
    share = min(share, every.shape[1])
    return every if share == 1 else every[:, int(torch.randint(share, (), generator=generator)) :: share]


class WindowDataset(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Every window of every sequence as a pair: context [L, C] and horizon [H, C].

    For ``torch.utils.data.DataLoader``. Pair ``i`` is window ``i % B`` of sequence ``i // B``; the pairs are views
    of ``series`` [N, M, C].
    """

    def __init__(self, series: Float[Tensor, "N M C"], context: int, horizon: int) -> None:
        require(context >= 1 and horizon >= 1, f"context {context} and horizon {horizon} must be at least 1")
        self.context = context
        self.every = windows(series, context, horizon)  # [N, B, L+H, C]

    def __len__(self) -> int:
        return self.every.shape[0] * self.every.shape[1]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sequence, start = divmod(range(len(self))[index], self.every.shape[1])
        window = self.every[sequence, start]
        return window[: self.context], window[self.context :]
