"""Training windows of a series, as views: nothing is copied until a batch is used."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from hdt.errors import require


def windows(
    series: Float[Tensor, "... T C"], context: int, horizon: int, stride: int = 1
) -> Float[Tensor, "... B window C"]:
    """Every window of ``context + horizon`` steps, ``stride`` apart: a strided view [..., B, L+H, C].

    B = (T − L − H) // stride + 1. Raises :class:`hdt.errors.InputError` when T < L + H.
    """
    size = context + horizon
    steps = series.shape[-2]
    require(steps >= size, f"{steps} steps are fewer than context {context} + horizon {horizon} = {size}")
    return series.unfold(-2, size, stride).transpose(-1, -2)
