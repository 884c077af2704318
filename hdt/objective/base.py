"""The contract of every objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hdt.system.errors import InputError
from hdt.system.options import Options

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Problem:
    """What every objective needs to know: context L, horizon H, length M and the backbone student."""

    context: int
    horizon: int
    length: int
    backbone: str = "dlinear"


class Objective(ABC):
    """Scores synthetic series [N, M, C]; sees only decoded series, never parameters.

    ``pools_channels``: whether it reads windows of any channel alike, so that there may be fewer synthetic than
    real channels. ``kept`` marks the harmonics it is restricted to, if any; ``saved_seconds`` is work that was
    done before and read from a cache, to be counted all the same.
    """

    Options: ClassVar[type[Options]]
    pools_channels: ClassVar[bool] = True
    kept: Bool[Tensor, "F C"] | None = None

    def __init__(self, options: Any, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.chosen: dict[str, float] = {}  # values of hyperparameters given as "auto"

    saved_seconds: float = 0.0

    @abstractmethod
    def prepare(self, series: Float[Tensor, "T C"]) -> None:
        """One pass over the scaled real training series."""

    @abstractmethod
    def loss(self, synthetic: Float[Tensor, "N M C"], generator: torch.Generator) -> tuple[Tensor, Terms]:
        """The scalar to minimise, differentiable in ``synthetic``, and its terms for the log.

        All randomness comes from ``generator`` (on the CPU, so that every device draws alike).
        """

    def learned(self) -> list[tuple[Tensor, float]]:
        """Tensors of the objective itself that are learned alongside, each with its learning rate."""
        return []

    def revise(
        self, synthetic: Float[Tensor, "N M C"], iteration: int, generator: torch.Generator
    ) -> Float[Tensor, "N M C"] | None:
        """What to put in place of the series after an iteration, or None to leave it."""
        return None


class Unmatched(Objective):
    """No objective: the series stays at its start, a real subset for instance."""

    Options = Options

    def prepare(self, series: Float[Tensor, "T C"]) -> None:
        pass

    def loss(self, synthetic: Float[Tensor, "N M C"], generator: torch.Generator) -> tuple[Tensor, Terms]:
        raise InputError("objective none has nothing to optimise; use --iterations 0, or choose another --objective")
