"""The contract of every parameterization."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.system.parts import Part

Params = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


class Size(NamedTuple):
    """A raw synthetic set: N sequences of M steps and C channels. What is stored costs at most its N·M·C floats."""

    sequences: int
    length: int
    channels: int


class Parameterization(Part, ABC):
    """Named stored tensors ⇄ synthetic series [N, M, C]; knows no objective.

    ``decode`` is differentiable. ``encode`` gives the parameters whose decoding comes closest to a
    series (exactly, where the parameterization can), which is how every start is set. For the floats of
    a raw set of ``size`` a compressing parameterization decodes to more sequences, ``instances``. ``fixed``
    names tensors that are stored but not learned; ``chosen`` holds what was read from the data.
    """

    fixed: tuple[str, ...] = ()

    def __init__(self, size: Size, options: Any = None) -> None:
        self.size = size
        self.options: Any = options or self.Options()
        self.chosen: dict[str, int] = {}

    def prepare(self, series: Float[Tensor, "T C"], generator: torch.Generator) -> None:
        """Read from the scaled real training series what the options leave open."""
        return None

    def instances(self) -> int:
        """N, the series it decodes to."""
        return self.size.sequences

    @abstractmethod
    def shapes(self) -> Shapes:
        """What is stored."""

    def channel_axes(self) -> dict[str, int]:
        """The axis of channels of every tensor that has one: such parameters of some channels decode to the series of
        these alone. Empty where every number may concern all channels.
        """
        return {}

    @abstractmethod
    def encode(self, series: Float[Tensor, "N M C"], near: Params | None = None) -> Params:
        """Parameters of a series; ``near`` holds parameters to stay close to where several would do."""

    @abstractmethod
    def decode(self, params: Params) -> Float[Tensor, "N M C"]:
        """The series of the parameters."""

    def floats(self) -> int:
        """Stored numbers, indices and kernels included."""
        return sum(math.prod(shape) for shape in self.shapes().values())
