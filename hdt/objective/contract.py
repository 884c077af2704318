"""The contract of every objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hdt.maths.roles import Roles
from hdt.system.parts import Part

SHARE = 4  # of its windows, which overlap, a group of channels looks at one in so many
BYTES, COPIES = 4, 10  # of float32; tensors of a window's size that a forecast and its gradient keep, roughly

Terms = dict[str, Tensor]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Problem:
    """What every objective needs to know: context L, horizon H, length M and the backbone student."""

    context: int
    horizon: int
    length: int
    backbone: str = "dlinear"


@dataclass(frozen=True)
class Sums:
    """Sums over the windows of a series, to which rows that follow add theirs: ``tensors`` in the objective's order.

    ``stride`` is the distance of the windows of some of them, ``windows`` how many each channel had, and ``features``
    identifies what random features they are of.
    """

    tensors: Sequence[Tensor]
    stride: int
    windows: int
    features: str


@dataclass(frozen=True, kw_only=True)
class Known:
    """What an objective knows of the real series; each adds its own.

    ``mask`` marks the harmonics it is restricted to, if any; ``power``, where it was computed, is that of
    :func:`hdt.maths.spectrum.mean_spectrum` for sub-series of length M; ``chosen`` holds hyperparameters that were left
    to the data; ``saved_seconds`` is work that was done before and read from a cache, to be counted all the same;
    ``sums`` is what :meth:`Objective.extend` goes on from, None where it cannot.
    """

    mask: Bool[Tensor, "F C"] | None = None
    power: Float[Tensor, "F C"] | None = None
    chosen: Mapping[str, int | float] = field(default_factory=dict)
    saved_seconds: float = 0.0
    sums: Sums | None = None


K = TypeVar("K", bound=Known)


class Scored(NamedTuple):
    """The scalar to minimise, its terms for the log, and what the next call goes on from."""

    loss: Tensor
    terms: Terms
    state: State


class Objective(Part, ABC, Generic[K]):
    """Scores synthetic series [N, M, C]; sees only decoded series, never parameters.

    Called, in this order: ``check`` (of the class, with complete settings) and ``graph_bytes`` before any work;
    :meth:`prepare`, once; :meth:`initial` and :meth:`rates`, once; in every iteration :meth:`restrict` where it works
    on a group of channels, :meth:`loss`, and after the optimiser's step :meth:`revise`; :meth:`chosen` at the end.
    ``remedy`` words a notice, ``picture`` draws for the report.

    It holds hyperparameters and nothing else: what it knows of the real series is what :meth:`prepare` returns, what
    changes from one iteration to the next is a dict of tensors, the state. ``pools_channels``: whether it reads
    windows of any channel alike, so that there may be fewer synthetic than real channels. ``backbone``: the student
    whose gradients, trajectories or features it matches, unless another is asked for. ``by_blocks``: whether
    :meth:`prepare` takes the real series block by block (:class:`hdt.maths.blocks.Blocks`), so that channels may be of
    unequal length and need not fit into memory together; others get one dense table. ``joins``: whether it matches
    targets together with what is known beside them (:meth:`join`).
    """

    pools_channels: ClassVar[bool] = True
    backbone: ClassVar[str] = "dlinear"
    by_blocks: ClassVar[bool] = False
    joins: ClassVar[bool] = False

    def __init__(self, options: Any, problem: Problem) -> None:
        self.options, self.problem = options, problem

    @abstractmethod
    def prepare(self, series: Any) -> K:
        """One pass over the scaled real training series: a tensor [T, C], or :data:`hdt.maths.blocks.Real` where
        ``by_blocks``."""

    @classmethod
    def fixed(cls, options: Mapping[str, Any]) -> str | None:
        """Why rows that follow cannot be added to what it knows, None where they can: see :meth:`extend`."""
        return f"objective {cls.name!r} needs all of the data at once"

    def extend(self, sums: Sums, series: Any) -> K:
        """What :meth:`prepare` would return for the series behind ``sums`` and the rows that follow it.

        ``series`` [T, C] begins with the last L+H−1 rows behind ``sums``, so that windows across the border are
        there. Only for objectives that are not :meth:`fixed`.
        """
        raise NotImplementedError

    def join(self, known: K, series: Any, roles: Roles, stretch: Any) -> K:
        """What it knows with covariates, where it ``joins``: ``series`` [T, C_all] are the real channels in the order
        of ``roles``, ``stretch`` [M, G·K] the columns known ahead of the synthetic series."""
        raise NotImplementedError

    def restrict(self, known: K, channels: Int[Tensor, " g"]) -> K:
        """What the loss of a group of channels knows; all there is, where windows of any channel are alike.

        ``channels`` indexes the synthetic ones.
        """
        return known

    def initial(self, known: K, like: Float[Tensor, "N M C"]) -> State:
        """The state before the first iteration, on the device of ``like``, the synthetic series."""
        return {}

    def rates(self) -> dict[str, float]:
        """Learning rates of the tensors of the state that are learned alongside the series, by name."""
        return {}

    @abstractmethod
    def loss(self, known: K, synthetic: Float[Tensor, "N M C"], state: State, generator: torch.Generator) -> Scored:
        """The loss, differentiable in ``synthetic`` and in the learned tensors of ``state``, which is not changed.

        All randomness comes from ``generator`` (on the CPU, so that every device draws alike).
        """

    def revise(
        self, known: K, synthetic: Float[Tensor, "N M C"], iteration: int, generator: torch.Generator
    ) -> Float[Tensor, "N M C"] | None:
        """What to put in place of the series after an iteration, or None to leave it."""
        return None

    def chosen(self, known: K, state: State) -> dict[str, int | float]:
        """Values of hyperparameters that were left to the data."""
        return dict(known.chosen)

    def graph_bytes(self, instances: int, channels: int) -> int:
        """A rough estimate of the memory that one loss and its gradient take, in bytes."""
        return self._graph_bytes(instances, channels)

    def _graph_bytes(
        self, instances: int, channels: int, stride: int = 1, steps: int = 1, batch: int | None = None
    ) -> int:
        """The same for ``steps`` on windows at ``stride``, at most ``batch`` at a time."""
        size = self.problem.context + self.problem.horizon
        count = instances * ((self.problem.length - size) // stride + 1)
        return BYTES * COPIES * steps * min(count, batch or count) * channels * size

    @classmethod
    def remedy(cls, options: Mapping[str, Any]) -> str:
        """What its hyperparameters do about channels that drift, or what to do instead; ends a sentence."""
        advice = "--method wiener has a level term, --transform difference distils steps"
        return f"objective {cls.name!r} assumes they do not; {advice}"
