"""The contract of every objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Problem:
    """What every objective needs to know: context L, horizon H, length M and the backbone student."""

    context: int
    horizon: int
    length: int
    backbone: str = "dlinear"


class Options(BaseModel):
    """An objective's hyperparameters; unknown names and values out of range are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Objective(ABC):
    """Scores synthetic series [N, M, C]; sees only decoded series, never parameters.

    ``kept`` marks the harmonics it is restricted to, if any.
    """

    Options: ClassVar[type[Options]]
    kept: Bool[Tensor, "F C"] | None = None

    def __init__(self, options: Any, problem: Problem) -> None:
        self.options, self.problem = options, problem

    @abstractmethod
    def prepare(self, series: Float[Tensor, "T C"]) -> None:
        """One pass over the scaled real training series."""

    @abstractmethod
    def loss(self, synthetic: Float[Tensor, "N M C"], generator: torch.Generator) -> tuple[Tensor, Terms]:
        """The scalar to minimise, differentiable in ``synthetic``, and its terms for the log.

        All randomness comes from ``generator`` (on the CPU, so that every device draws alike).
        """
