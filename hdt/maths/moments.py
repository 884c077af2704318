"""Lag moments: every second-order statistic that a linear forecaster can learn from a series' windows.

A window w = (x, y) is a context x of L steps and a horizon y of H steps; for features φ of the context

    A = Σ φφᵀ  [D, D]      B = Σ φyᵀ  [D, H]      c = Σ ‖y‖²      n = number of windows

are sums over windows and channels in float64. Sums add: those of two channels, chunks or machines are
one addition. For φ = (x, 1) no windows are needed (:func:`lag_moments`): with x[0..T) and n = T−L−H+1

    G[0, j] = Σ_{t<n} x_t x_{t+j}                               one correlation, by FFT
    G[i+1, j+1] = G[i, j] − x_i x_j + x_{i+n} x_{j+n}           along the diagonals

so G, the Gram matrix of all windows, costs O(T log T + (L+H)²) per channel, whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor
from torch.autograd.function import once_differentiable

from hdt.maths.blocks import Real, blocks, summed
from hdt.maths.windows import windows
from hdt.system.errors import InputError
from hdt.system.machine import channels_at_once, one_thread

CHUNK_ELEMENTS = 2**20  # cells of a chunk of windows: 8 MB in float64

Features = Callable[[Float[Tensor, "B window"]], tuple[Float[Tensor, "B D"], Float[Tensor, "B H"]]]


@dataclass(frozen=True)
class Moments:
    """Sums over ``count`` windows of φφᵀ, φyᵀ and ‖y‖², float64; they add."""

    features: Float[Tensor, "D D"]
    cross: Float[Tensor, "D H"]
    target: Float[Tensor, ""]
    count: int

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.features + other.features,
            self.cross + other.cross,
            self.target + other.target,
            self.count + other.count,
        )

    def tensors(self) -> list[Tensor]:
        """The same as tensors, which add."""
        count = torch.tensor(self.count, dtype=torch.float64, device=self.features.device)
        return [self.features, self.cross, self.target, count]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Moments:
        """Inverse of :meth:`tensors`."""
        features, cross, target, count = tensors
        return cls(features, cross, target, int(count.item()))

    def double(self) -> Moments:
        """The same in float64."""
        return Moments(self.features.double(), self.cross.double(), self.target.double(), self.count)

    def means(self) -> Moments:
        """The same as averages over windows (``count`` 1)."""
        return Moments(self.features / self.count, self.cross / self.count, self.target / self.count, 1)

    def loss(self, weights: Float[Tensor, "D H"]) -> Float[Tensor, ""]:
        """Σ over windows of ‖y − Wᵀφ‖², exactly: tr(WᵀAW) − 2 tr(WᵀB) + c; alike with any number of threads."""
        with one_thread():
            product = self.features @ weights
        return total(weights * (product - 2 * self.cross)) + self.target


def ridge(
    features: Float[Tensor, "*C D D"], cross: Float[Tensor, "*C D H"], penalty: Float[Tensor, "*C"]
) -> Float[Tensor, "*C D H"]:
    """W, the ridge regressions of these mean moments, ``penalty`` added to the diagonal of φφᵀ.

    Neither W nor its gradient depends on the number of threads. Raises :class:`hdt.system.errors.InputError` where the
    moments are singular.
    """
    with one_thread():
        factor, info = torch.linalg.cholesky_ex(features + penalty[..., None].expand(features.shape[:-1]).diag_embed())
    if info.any():
        raise InputError("the synthetic moments became singular; raise --option ridge or lower --learning-rate")
    return torch.cholesky_solve(cross, factor)


def half(matrix: Float[Tensor, "n n"]) -> Float[Tensor, " half"]:
    """The upper triangle of a symmetric matrix, n(n+1)/2 numbers."""
    rows, columns = torch.triu_indices(*matrix.shape, device=matrix.device)
    return matrix[rows, columns]


def whole(upper: Float[Tensor, " half"]) -> Float[Tensor, "n n"]:
    """Inverse of :func:`half`."""
    size = (math.isqrt(8 * len(upper) + 1) - 1) // 2
    rows, columns = torch.triu_indices(size, size, device=upper.device)
    matrix = upper.new_empty(size, size)
    matrix[rows, columns] = matrix[columns, rows] = upper
    return matrix


def total(matrices: Float[Tensor, "*C rows columns"]) -> Float[Tensor, "*C"]:
    """The sum of all entries of each, column by column: torch splits one long sum among its threads, and their number
    would show in the last bits."""
    return matrices.sum(dim=-2).sum(dim=-1)


def gram(series: Real, size: int) -> Float[Tensor, "size_and_1 size_and_1"]:
    """Gram matrix of (w, 1) over all windows w of ``size`` steps, summed over channels; no window is formed.

    Blocks of channels add up, so that memory does not grow with C, and channels may begin at different rows
    (:mod:`hdt.maths.blocks`).
    """
    return gram_of(*summed(series, size, partial(lags, size=size)))


def gram_of(
    first: Float[Tensor, " size"], change: Float[Tensor, "less less"], sums: Float[Tensor, " size"],
    count: Float[Tensor, ""],
) -> Float[Tensor, "size_and_1 size_and_1"]:  # fmt: skip
    """The Gram matrix that sums of :func:`lags` make; differentiable in them."""
    size = len(first)
    step = torch.arange(size, device=first.device)
    row, column = step[:, None], step
    added = torch.cat([first[None], F.pad(change, (1, 0))])  # row 0, and what a step down a diagonal adds
    diagonals = added.gather(1, (row + column).clamp(max=size - 1)) * (row + column < size)  # one in each column
    upper = diagonals.cumsum(0).gather(1, (column - row).clamp(min=0)).triu()
    steps = torch.cat([upper + upper.triu(1).T, sums[:, None]], dim=1)
    return torch.cat([steps, torch.cat([sums, count[None]])[None]])


def lags(series: Float[Tensor, "T C"], size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of dense channels G[0, j], what a step down the diagonal of G adds [size-1, size-1], the sums of windows, and
    their number: they add over channels."""
    count = torch.tensor((len(series) - size + 1) * series.shape[1], dtype=torch.float64, device=series.device)
    parts = [_lags(some.double().T, size) for some in series.split(channels_at_once(len(series)), dim=1)]
    first, change, sums = (torch.stack(part).sum(dim=0) for part in zip(*parts, strict=True))
    return first, change, sums, count


def _lags(x: Float[Tensor, "C T"], size: int) -> tuple[Tensor, Tensor, Tensor]:
    rows = x.shape[1]
    count = rows - size + 1
    padded = next_fast_len(rows + size - 1, real=True)
    spectrum = (torch.fft.rfft(x[:, :count], padded).conj() * torch.fft.rfft(x, padded)).sum(dim=0)
    first = torch.fft.irfft(spectrum, padded)[:size]
    head, tail = x[:, : size - 1], x[:, count : count + size - 1]
    sums = torch.cat([x[:, :count].sum(dim=1, keepdim=True), tail - head], dim=1).cumsum(1).sum(dim=0)
    return first, tail.T @ tail - head.T @ head, sums


def lag_moments(gram: Float[Tensor, "n n"], context: int, bias: bool = True) -> Moments:
    """Moments of φ = (x, 1), or of φ = x without ``bias``, from a Gram matrix of :func:`gram`."""
    size = len(gram) - 1
    inputs = [*range(context), size] if bias else [*range(context)]
    outputs = slice(context, size)
    return Moments(
        gram[inputs][:, inputs], gram[inputs][:, outputs], gram[outputs, outputs].trace(), round(gram[-1, -1].item())
    )


def centred_gram(gram: Float[Tensor, "n n"], context: int) -> Float[Tensor, "n n"]:
    """The Gram matrix after each window's context mean was subtracted from all its steps: P G Pᵀ."""
    project = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    project[:-1, :context] -= 1 / context
    return project @ gram @ project.T


def centred_moments(gram: Float[Tensor, "n n"], context: int) -> Moments:
    """Moments of φ = x − x̄ and y − x̄ from the same."""
    return lag_moments(centred_gram(gram, context), context, bias=False)


def window_moments(batches: Iterable[tuple[Float[Tensor, "B D"], Float[Tensor, "B H"]]]) -> Moments:
    """Moments of features and targets given batch by batch."""
    found: Moments | None = None
    for features, target in batches:
        part = Moments(*products(features, target), len(features))
        found = part if found is None else found + part
    assert found is not None, "no windows"
    return found


def products(
    features: Float[Tensor, "*C B D"], target: Float[Tensor, "*C B H"]
) -> tuple[Float[Tensor, "*C D D"], Float[Tensor, "*C D H"], Float[Tensor, "*C"]]:
    """φᵀφ, φᵀy and Σ‖y‖², differentiable once.

    Neither they nor their gradient depend on the number of threads.
    """
    square, cross, power = _Products.apply(features, target)
    return square, cross, power


class _Products(torch.autograd.Function):
    """The gradient in φ takes one product with a symmetric matrix, where autograd would take two."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(features, target)
        with one_thread():  # several would share the sums over windows
            square, cross = features.mT @ features, features.mT @ target
        return square, cross, total(target.square())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, square: Tensor, cross: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
        features, target = ctx.saved_tensors
        own = (features @ (square + square.mT)).add_(target @ cross.mT)
        return own, (features @ cross).add_(target * (2 * power[..., None, None]))


def stream(series: Real, context: int, horizon: int, features: Features, stride: int = 1, offset: int = 0) -> Moments:
    """Moments of any features over the windows ``offset``, ``offset + stride``, … of all channels.

    Memory does not grow with T. Channels may begin at different rows (:mod:`hdt.maths.blocks`).
    """

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        yield features(torch.zeros(0, context + horizon, dtype=torch.float64, device=series.device))
        for _, own in blocks(series, context + horizon + offset):
            every = windows(own[offset:], context, horizon, stride)  # a view [n, L+H, C]
            size = max(1, CHUNK_ELEMENTS // (every.shape[1] * every.shape[2]))
            for part in every.split(size):
                yield features(part.double().transpose(1, 2).flatten(0, 1))

    return window_moments(batches())


def level_shifted(real: Moments, deviation: float) -> Moments:
    """The expectation of mean moments of φ = (x, 1) when every window is shifted by N(0, ``deviation``²)."""
    variance, (size, horizon) = deviation**2, real.cross.shape
    shift = torch.ones(size, 1, dtype=real.features.dtype, device=real.features.device)
    shift[-1] = 0  # the bias feature does not shift
    return Moments(
        real.features + variance * shift @ shift.T, real.cross + variance * shift, real.target + variance * horizon, 1
    )
