"""Students that each know one channel, in closed form.

Windows of all channels are alike to a student that shares its weights, so the other views of
:mod:`hdt.objective.wiener` do not say which synthetic channel stands for which real one. Models that tell channels
apart (one regression for each, DLinear's ``individual``, whatever learns a channel by its shape) then learn the wrong
thing for each: ridge regressions per channel have a validation error of .49 on all of Weather and of .55 on such a set
(recipes/channels.py), where one for all channels has .56 on both. So with features φ of :mod:`hdt.training.features`,
x − x̄ and a few random ReLU ones, and for each channel c

    W_c(S) = (a_c + ρ·tr a_c/D·I)⁻¹ b_c          L(S) = Σ_c tr(W_cᵀA_cW_c) − 2 tr(W_cᵀB_c) + c_c

a_c, b_c are the mean moments of the windows of synthetic channel c, A_c, B_c, c_c those of real channel c. What it
gains, and where: recipes/LOG.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hdt.maths import moments
from hdt.maths.blocks import Real, blocks
from hdt.maths.moments import Features
from hdt.maths.windows import spread, windows
from hdt.training.features import centred, random_relu

WINDOWS = 4_000  # of a real channel at most
FEATURES, DRAWS = 64, 4  # ReLU ones in a draw, as many as the few windows of a channel can bear
LEAST = 1e-6  # of the mean diagonal, for a channel without variance


@dataclass(frozen=True)
class ByChannel:
    """Mean moments of every channel: φφᵀ, φyᵀ and ‖y‖²; float64."""

    features: Float[Tensor, "C D D"]
    cross: Float[Tensor, "C D H"]
    target: Float[Tensor, " C"]

    def restrict(self, channels: Int[Tensor, " g"]) -> ByChannel:
        """Those of some channels."""
        chosen = channels.to(self.target.device)
        return ByChannel(self.features[chosen], self.cross[chosen], self.target[chosen])

    def students(self, ridge: float) -> Float[Tensor, "C D H"]:
        """W_c, the ridge regression of each channel; ``ridge`` is ρ."""
        size = self.features.diagonal(dim1=1, dim2=2).mean(dim=1)
        return moments.ridge(self.features, self.cross, ridge * (size + LEAST * size.mean()))

    def error(self, students: Float[Tensor, "C D H"]) -> Float[Tensor, ""]:
        """What such students leave of ‖y‖², over channels."""
        left = (students * (self.features @ students - 2 * self.cross)).sum(dim=1).sum(dim=1) + self.target
        return left.mean() / self.target.mean()


@dataclass(frozen=True)
class Individual:
    """Features with their real moments by channel; the first ones are linear, the others draws of random ones."""

    views: Sequence[tuple[Features, ByChannel]]

    def restrict(self, channels: Int[Tensor, " g"]) -> Individual:
        """The same for some channels."""
        return replace(self, views=[(features, real.restrict(channels)) for features, real in self.views])

    def errors(
        self, flat: Float[Tensor, "B window"], ridge: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """L of the linear students and of those of one draw, and what they leave of synthetic windows, summed.

        Of ``flat`` each C windows that follow one another are of one time, in the order of channels.
        """
        draw = 1 + int(torch.randint(len(self.views) - 1, (), generator=generator))
        real_error = synthetic_error = flat.new_zeros((), dtype=torch.float64)
        for features, real in (self.views[0], self.views[draw]):
            own = by_channel(flat, len(real.target), features)
            students = own.students(ridge)
            real_error, synthetic_error = real_error + real.error(students), synthetic_error + own.error(students)
        return real_error, synthetic_error


def individual(series: Real, context: int, horizon: int) -> Individual:
    """That of a real series, over ``WINDOWS`` of each channel; one that is shorter than a window counts nothing."""
    generator = torch.Generator().manual_seed(0)  # features are no part of a run
    drawn: list[Features] = [partial(centred, context=context)]
    drawn += [random_relu(context, FEATURES, generator).to(series.device) for _ in range(DRAWS)]
    sizes = [context] + [FEATURES] * DRAWS
    empty = partial(torch.zeros, dtype=torch.float64, device=series.device)
    count = series.shape[1]
    found = [ByChannel(empty(count, n, n), empty(count, n, horizon), empty(count)) for n in sizes]
    for channels, own in blocks(series, context + horizon):
        every = windows(own, context, horizon)  # a view [n, L+H, g]
        chosen = spread(len(every), WINDOWS).to(every.device)
        for place, channel in enumerate(channels.tolist()):
            flat = every[chosen, :, place].double()
            for features, whole in zip(drawn, found, strict=True):
                part = by_channel(flat, 1, features)
                whole.features[channel], whole.cross[channel] = part.features[0], part.cross[0]
                whole.target[channel] = part.target[0]
    return Individual(list(zip(drawn, found, strict=True)))


def by_channel(flat: Float[Tensor, "B window"], channels: int, features: Features) -> ByChannel:
    """Moments of windows of which each ``channels`` that follow one another are of one time."""
    x, y = (part.double().unflatten(0, (-1, channels)).transpose(0, 1) for part in features(flat))  # [C, n, ·]
    count = x.shape[1]
    return ByChannel(x.mT @ x / count, x.mT @ y / count, y.square().sum(dim=1).sum(dim=1) / count)
