"""What :mod:`hdt.objective.wiener` knows of the real series: views of its windows, and the sums they are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from hdt.maths import moments
from hdt.maths.joint import Joint
from hdt.maths.moments import Features, Moments
from hdt.objective.contract import Known
from hdt.objective.individual import Individual
from hdt.training.features import Relu


class View(NamedTuple):
    """Features of windows [B, L+H] with the real moments they have, as means; ``weight`` in the loss."""

    name: str
    weight: float
    features: Features
    real: Moments


class LinearView(NamedTuple):
    """The same of features whose moments are told by the Gram matrix of all windows, of which none is formed."""

    name: str
    weight: float
    of: Callable[[Float[Tensor, "n n"]], Moments]
    real: Moments


@dataclass(frozen=True, kw_only=True)
class Views(Known):
    """The linear views, which every iteration looks at, and those of random features, one of which it draws.

    The latter see one in ``share`` of the synthetic windows. ``joint`` is the view with covariates, ``own`` that
    of students that know one channel, where there are any.
    """

    linear: Sequence[LinearView]
    random: Sequence[View]
    share: int = 1
    joint: Joint | None = None
    own: Individual | None = None


@dataclass(frozen=True)
class Statistic:
    """All that the views need of some channels: it adds over channels, and over rows after ``begun`` known windows."""

    context: int
    horizon: int
    drawn: Sequence[Relu]
    stride: int
    begun: int = 0

    def __call__(self, own: Float[Tensor, "rows g"]) -> list[Tensor]:
        first, change, sums, count = moments.lags(own, self.context + self.horizon)
        found = [first, moments.half(change), sums, count]
        for draw, features in enumerate(self.drawn):
            offset = (draw * self.stride // len(self.drawn) - self.begun) % self.stride
            own_moments = moments.stream(own, self.context, self.horizon, features, self.stride, offset).tensors()
            found += [moments.half(own_moments[0]), *own_moments[1:]]
        return found
