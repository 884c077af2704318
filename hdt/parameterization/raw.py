"""Raw values: the synthetic series itself is stored and learned (dataset distillation, arXiv 1811.10959)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from hdt.parameterization.contract import Parameterization, Params, Shapes


class Raw(Parameterization):
    """``values`` [N, M, C] in scaled units; N·M·C floats."""

    name = "raw"

    def shapes(self) -> Shapes:
        return {"values": self.size}

    def channel_axes(self) -> dict[str, int]:
        return {"values": 2}

    def encode(self, series: Float[Tensor, "N M C"], near: Params | None = None) -> Params:
        return {"values": series.clone()}

    def decode(self, params: Params) -> Float[Tensor, "N M C"]:
        return params["values"]
