"""The contract of every parameterization."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

Params = dict[str, Tensor]


class Parameterization(ABC):
    """Named parameter tensors ⇄ synthetic series [N, M, C]; knows no objective.

    ``decode`` is differentiable. ``encode`` gives the parameters whose decoding comes closest to a
    series (exactly, where the parameterization can), which is how every start is set.
    """

    def __init__(self, length: int) -> None:
        self.length = length

    @abstractmethod
    def encode(self, series: Float[Tensor, "N M C"]) -> Params:
        """Parameters of a series."""

    @abstractmethod
    def decode(self, params: Params) -> Float[Tensor, "N M C"]:
        """The series of the parameters."""

    @staticmethod
    def floats(params: Params) -> int:
        """Stored numbers: one per real entry, two per complex one, indices and kernels included."""
        return sum(tensor.numel() * (2 if tensor.is_complex() else 1) for tensor in params.values())
