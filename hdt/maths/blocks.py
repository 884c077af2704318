"""Series of unequal length [T, C], aligned at their ends: rows before a series begins are NaN.

Statistics that add up are taken block by block; what needs one dense table takes the rows that all have.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hdt.system.errors import require


def starts(series: Float[Tensor, "T C"]) -> Int[Tensor, " C"]:
    """The first row of every series."""
    return series.isnan().sum(dim=0)


def blocks(series: Float[Tensor, "T C"], rows: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Series that begin together, [T_i, C_i] without the rows before, and their channels [C_i].

    Only those of at least ``rows`` rows. One block, the table itself, when all begin with it.
    """
    first = starts(series)
    if not first.any():
        return [(torch.arange(series.shape[1]), series)]
    found = [(start, (first == start).nonzero().flatten()) for start in first.unique().tolist()]
    return [(own.cpu(), series[start:, own]) for start, own in found if len(series) - start >= rows]


def long_enough(series: Float[Tensor, "T C"], rows: int, least: int = 1) -> Float[Tensor, "T C_long"]:
    """The series of at least ``rows`` rows; raises :class:`hdt.system.errors.InputError` for fewer than ``least``."""
    first = starts(series)
    if not first.any():
        return series
    enough = len(series) - first >= rows
    longest = len(series) - int(first.min())
    require(
        int(enough.sum()) >= least,
        f"{int(enough.sum())} series have {rows} training rows, the longest {longest}, and {least} are needed; "
        f"lower --length{' or --channels' if least > 1 else ''}",
    )
    return series[:, enough]


def common(series: Float[Tensor, "T C"]) -> Float[Tensor, "T_common C"]:
    """The series from the row on that all of them have."""
    return series[int(starts(series).max()) :]
