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
ENOUGH = 300  # of a synthetic one, which overlap: of twice as many an iteration looks at every second, and so on
FEATURES, DRAWS = 64, 4  # ReLU ones in a draw, as many as the few windows of a channel can bear
LEAST = 1e-6  # of the mean diagonal, for a channel without variance
FITTED, RIDGES = 0.8, tuple(10.0**power for power in range(-5, 1))  # to tell whether channels differ
APART = 0.95  # of the error of a regression for all channels: they differ where those for each have less


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
        left = moments.total(students * (self.features @ students - 2 * self.cross)) + self.target
        return left.mean() / self.target.mean()


@dataclass(frozen=True)
class Individual:
    """Features with their real moments by channel; the first ones are linear, the others draws of random ones."""

    weight: float
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
        channels = len(self.views[0][1].target)
        times = flat.unflatten(0, (-1, channels))
        share = max(1, len(times) // ENOUGH)
        begin = int(torch.randint(share, (), generator=generator))
        some = times[begin::share].flatten(0, 1)
        real_error = synthetic_error = flat.new_zeros((), dtype=torch.float64)
        for features, real in (self.views[0], self.views[draw]):
            own = by_channel(some, channels, features)
            students = own.students(ridge)
            real_error, synthetic_error = real_error + real.error(students), synthetic_error + own.error(students)
        return real_error, synthetic_error


def individual(series: Real, context: int, horizon: int, weight: float = 1.0) -> Individual:
    """That of a real series."""
    generator = torch.Generator().manual_seed(0)  # features are no part of a run
    drawn: list[Features] = [partial(centred, context=context)]
    drawn += [random_relu(context, FEATURES, generator).to(series.device) for _ in range(DRAWS)]
    return Individual(weight, list(zip(drawn, of_windows(series, context, horizon, drawn), strict=True)))


def told_apart(series: Real, context: int, horizon: int) -> float:
    """The error of a ridge regression on x − x̄ for each channel over that of one for all of them.

    Both are fitted on the first ``FITTED`` of the rows and measured on what follows, each with the best of ``RIDGES``.
    1 where rows are too few for that, or do not vary.
    """
    linear = [partial(centred, context=context)]
    (fit,), (held,) = (of_windows(series, context, horizon, linear, *part) for part in ((0.0, FITTED), (FITTED, 1.0)))
    if not (fit.features.any() and held.target.any()):
        return 1.0
    shared = ByChannel(*(each.mean(dim=0, keepdim=True) for each in vars(fit).values()))
    each, one = (min(held.error(own.students(rho)).item() for rho in RIDGES) for own in (fit, shared))
    return each / one


def of_windows(
    series: Real, context: int, horizon: int, features: Sequence[Features], begin: float = 0.0, end: float = 1.0
) -> list[ByChannel]:
    """Moments for each of ``features`` over ``WINDOWS`` of each channel, spread over those whose horizons lie between
    these shares of its rows; of a channel that has none, zero."""
    empty = partial(torch.zeros, dtype=torch.float64, device=series.device)
    count, size = series.shape[1], context + horizon
    depths = [own(empty(0, size))[0].shape[1] for own in features]
    found = [ByChannel(empty(count, n, n), empty(count, n, horizon), empty(count)) for n in depths]
    for channels, own in blocks(series, size):
        first, last = (round(share * len(own)) for share in (begin, end))
        rows = own[max(0, first - context) : last]
        if len(rows) < size:
            continue
        every = windows(rows, context, horizon)  # a view [n, L+H, g]
        chosen = spread(len(every), WINDOWS).to(every.device)
        for place, channel in enumerate(channels.tolist()):
            flat = every[chosen, :, place].double()
            for draw, whole in zip(features, found, strict=True):
                part = by_channel(flat, 1, draw)
                whole.features[channel], whole.cross[channel] = part.features[0], part.cross[0]
                whole.target[channel] = part.target[0]
    return found


def by_channel(flat: Float[Tensor, "B window"], channels: int, features: Features) -> ByChannel:
    """Moments of windows of which each ``channels`` that follow one another are of one time."""
    x, y = (part.unflatten(0, (-1, channels)).transpose(0, 1) for part in features(flat))  # [C, n, ·]
    return ByChannel(*(each.double() / x.shape[1] for each in moments.products(x, y)))
