"""Windows of targets together with what is known beside them, for series whose first channels are the targets.

A forecaster may know, of a target y over a context of L and a horizon of H steps, the columns that are known ahead
over all L+H steps, and those of the past over the L of the context. Columns are those of all targets (G = 1), or each
target has its own (G = C). Such a window has (L+H)·K + L·P numbers, most of them alike from step to step: what is kept
is its coordinates along the ``MOST`` main axes of the real windows, which is all there is of a calendar.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.maths import moments
from hdt.maths.moments import Moments
from hdt.maths.roles import Roles
from hdt.maths.windows import spread, windows
from hdt.system.machine import one_thread

MOST, LEAST = 32, 1e-6  # axes; of the mean square of all, what an axis must hold
SOME, CHUNK = 1000, 256  # windows that tell the axes; at a time


@dataclass(frozen=True)
class Joint:
    """What is known of real windows: their moments (means) of φ = (x − x̄, z, 1) and y − x̄, with z the coordinates
    along ``axes`` [D, r] of what is beside; and ``known`` [M, G·K], the columns of the synthetic stretch of time."""

    roles: Roles
    context: int
    horizon: int
    axes: Float[Tensor, "D r"]
    known: Float[Tensor, "M GK"]
    real: Moments

    def of(self, synthetic: Float[Tensor, "N M C"]) -> Moments:
        """The same moments of synthetic windows, whose columns known ahead are ``known``."""
        known = self.known.to(synthetic).expand(len(synthetic), -1, -1)
        every = torch.cat([synthetic, known], dim=-1)
        found = _features(every, self.roles.within(every.shape[-1]), self.context, self.horizon, self.axes)
        return moments.window_moments([found]).means().double()


def joint(
    series: Float[Tensor, "T C_all"], roles: Roles, context: int, horizon: int, known: Float[Tensor, "M GK"], most: int
) -> Joint:
    """That of a real series, whose columns known ahead are its last channels, over at most ``most`` windows."""
    axes = _axes(series, roles, context, horizon)
    count = len(series) - context - horizon + 1
    chosen = spread(count, max(1, most // roles.targets))
    every = series.unfold(0, context + horizon, 1).transpose(1, 2)  # a view [n, L+H, C_all]
    batches = (_features(every[some], roles, context, horizon, axes) for some in chosen.split(CHUNK))
    real = moments.window_moments((phi.double(), y.double()) for phi, y in batches).means()
    return Joint(roles, context, horizon, axes, known, real)


def _features(
    series: Float[Tensor, "N M C_all"], roles: Roles, context: int, horizon: int, axes: Float[Tensor, "D r"]
) -> tuple[Float[Tensor, "B features"], Float[Tensor, "B H"]]:
    """φ and y of all windows of every target."""
    targets = windows(roles.parts(series)[0], context, horizon).transpose(-1, -2)  # [N, n, C, L+H]
    level = targets[..., :context].mean(dim=-1, keepdim=True)
    beside = _beside(series, roles, context, horizon) @ axes.to(series)  # [N, n, 1 or C, r]
    beside = beside.expand(*targets.shape[:-1], -1)
    phi = torch.cat([targets[..., :context] - level, beside, torch.ones_like(level)], dim=-1)
    return phi.flatten(0, 2), (targets[..., context:] - level).flatten(0, 2)


def _beside(
    series: Float[Tensor, "N M C_all"], roles: Roles, context: int, horizon: int
) -> Float[Tensor, "N n groups D"]:
    """All that is beside the targets in their windows, a mean square of one per column where columns have that."""
    _, past, known = roles.parts(series)
    size, groups = context + horizon, max(roles.groups, roles.past_groups)
    found = []
    for part, steps in ((known, size), (past, context)):
        if part.shape[-1]:
            every = part.unfold(1, size, 1)[..., :steps] / size**0.5  # [N, n, G, K, steps]
            found.append(every.flatten(-2).expand(-1, -1, groups, -1))
    return torch.cat(found, dim=-1)


def _axes(series: Float[Tensor, "T C_all"], roles: Roles, context: int, horizon: int) -> Float[Tensor, "D r"]:
    """The main axes of what is beside the targets of real windows."""
    size = context + horizon
    chosen = spread(len(series) - size + 1, SOME)
    rows = torch.cat([_beside(series[None, n : n + size], roles, context, horizon)[0, 0] for n in chosen.tolist()])
    rows = rows[spread(len(rows), SOME)].double()
    with one_thread():
        values, vectors = torch.linalg.eigh(rows @ rows.T)
    kept = [n for n in range(len(values) - 1, -1, -1) if values[n] > LEAST * values.clamp(min=0).sum()][:MOST]
    return (rows.T @ vectors[:, kept] / values[kept].sqrt()).to(series)


def stretch(synthetic: Float[Tensor, "N M C_s"], series: Float[Tensor, "T C_all"], roles: Roles, pooled: bool) -> int:
    """The row from which M real ones have the columns known ahead that suit a synthetic series best.

    Every real target is regressed on these columns at the same step; what they explain of it over M rows from each row
    on is correlated with the synthetic targets, of all sequences and channels together. Where ``pooled``, channels
    stand for all, and are held against the mean.
    """
    targets, _, known = roles.parts(series.double())
    ones = known.new_ones(*known.shape[:-1], 1)
    inputs = torch.cat([known, ones], dim=-1).transpose(0, 1)  # [G, T, K+1]
    truth = targets.T[..., None] if roles.groups > 1 else targets[None]  # [G, T, 1] or [1, T, C]
    gram = inputs.transpose(1, 2) @ inputs
    ridge = 1e-6 * len(series) * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    told = inputs @ torch.linalg.solve(gram + ridge, inputs.transpose(1, 2) @ truth)
    told = told.permute(1, 0, 2).flatten(1)  # [T, C]
    own = synthetic[..., : roles.targets].double()
    if pooled:
        told, own = told.mean(dim=1, keepdim=True), synthetic.double().mean(dim=-1, keepdim=True)
    own = (own - own.mean(dim=1, keepdim=True)).sum(dim=0)  # [M, C]
    length, rows = len(own), len(told)
    size = rows + length
    product = torch.fft.irfft(torch.fft.rfft(told, size, dim=0) * torch.fft.rfft(own, size, dim=0).conj(), size, dim=0)
    agreeing = product[: rows - length + 1].sum(dim=1)
    sums = torch.cat([told.new_zeros(1, told.shape[1]), told.cumsum(dim=0)])
    squares = torch.cat([told.new_zeros(1, told.shape[1]), told.square().cumsum(dim=0)])
    spread_ = (squares[length:] - squares[:-length]) - (sums[length:] - sums[:-length]).square() / length
    score = agreeing / spread_.sum(dim=1).clamp(min=1e-9 * length).sqrt()
    best = score.max()
    return int((score >= best - 1e-9 * best.abs()).nonzero()[0])
