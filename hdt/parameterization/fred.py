"""FreD: "Frequency Domain-based Dataset Distillation" (arXiv 2311.08819).

An image is stored as its k most telling coefficients of a 2D cosine transform (sections 3.2 to 3.4):

    x = IDCT2(mask ⊙ F),   mask = top-k of  Var_i / Σ Var

Var_i is the variance of coefficient i over real images, averaged over channels. The mask is fixed; k
coefficients instead of R·P leave room for ⌊R·P/k⌋ times as many instances at equal floats. Images are
series folded by their dominant period (:mod:`hdt.maths.grid`): coefficient (a, b) is a waveform b within the period
that changes a half-waves over the series.

Deviations and choices: orthonormal DCT-II (the authors scale it otherwise, hence their learning rates of
1e8), Adam instead of SGD with momentum 0.5. Series have no classes, so there is one mask. The variance throws away
what all series share, the mean periodic pattern, so the default is the mean square; ``center`` is the paper's.
The mask is stored and counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from hdt.maths.grid import Grid, dominant_period
from hdt.maths.transforms import dct2, idct2
from hdt.maths.windows import windows
from hdt.parameterization.contract import Parameterization, Params, Shapes
from hdt.system.errors import require
from hdt.system.options import FLAG, Options
from hdt.system.parts import History, Method

# The mask is chosen from evenly spaced real series: as many as hold so many cells (64 MB), within these bounds, for a
# variance wants some, and the more there are, the more they overlap.
MOST_CELLS, FEWEST_SERIES, MOST_SERIES = 2**24, 16, 512


class FreDOptions(Options):
    """Hyperparameters of :class:`FreD`."""

    kept: int | None = Field(None, ge=1, description="k, coefficients per channel and series; by default so few ...")
    multiple: int = Field(4, ge=1, description="... that this many times as many series fit")
    center: bool = Field(False, description="choose them by variance, as published, not by mean square")
    mask: Literal["shared", "channel"] = Field("shared", description="one mask for all channels, or one for each")
    period: int | None = Field(
        None, ge=1, description="P, steps per row; by default the dominant period", json_schema_extra=FLAG
    )


class FreD(Parameterization):
    """``coefficients`` [n, C, k] and ``mask`` [1 or C, k]; decodes to n = ⌊(N·M·C − |mask|) / (C·k)⌋ series."""

    name = "fred"
    Options: ClassVar[type[FreDOptions]] = FreDOptions
    citation = """@inproceedings{shin2023fred,
  author    = {Shin, DongHyeok and Shin, Seungjae and Moon, Il-Chul},
  title     = {Frequency Domain-based Dataset Distillation},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2023},
  note      = {arXiv:2311.08819}
}"""
    methods = {
        "fred-wiener": Method(
            title="Masked cosine coefficients of the folded series, Wiener objective",
            parameterization="fred",
            objective="wiener",
            start="phase",
            iterations=200,
            learning_rate=0.1,
            options={"noise": 0.06},
        ),
        "fred-mtt": Method(
            title="Masked cosine coefficients of the folded series, trajectory matching",
            parameterization="fred",
            objective="mtt",
            start="real",
            iterations=300,
            learning_rate=0.1,
        ),
    }
    fixed = ("mask",)

    def prepare(self, series: Float[Tensor, "T C"], generator: torch.Generator) -> None:
        length, options = self.size.length, self.options
        if options.period is None:
            self.chosen["period"] = dominant_period(series, length)
        most = min(MOST_SERIES, max(FEWEST_SERIES, MOST_CELLS // (length * series.shape[1])))
        every = windows(series, length, 0, stride=-(-(len(series) - length + 1) // most))
        self.mask = choose(dct2(self.grid.fold(every)), self.kept, options.center, options.mask == "channel")

    @property
    def grid(self) -> Grid:
        """How series fold."""
        return Grid(self.size.length, self.options.period or self.chosen["period"])

    @property
    def masks(self) -> int:
        """Masks stored."""
        return self.size.channels if self.options.mask == "channel" else 1

    @property
    def kept(self) -> int:
        """k."""
        series = self.options.multiple * self.size.sequences
        default = math.prod(self.size) // (series * self.size.channels + self.masks)
        k, cells = self.options.kept or max(1, default), self.grid.rows * self.grid.period
        require(k <= cells, f"kept={k} coefficients, but the grid has {self.grid.rows} × {self.grid.period} = {cells}")
        return k

    def instances(self) -> int:
        each, room = self.size.channels * self.kept, math.prod(self.size) - self.masks * self.kept
        require(room >= each, f"kept={self.kept}: its mask leaves no room for one series of that many; lower it")
        return room // each

    def shapes(self) -> Shapes:
        coefficients = (self.instances(), self.size.channels, self.kept)
        return {"coefficients": coefficients, "mask": (self.masks, self.kept)}

    def channel_axes(self) -> dict[str, int]:
        return {"coefficients": 1, **({"mask": 0} if self.options.mask == "channel" else {})}

    def encode(self, series: Float[Tensor, "n M C"], near: Params | None = None) -> Params:
        mask = self.mask.to(series.device) if near is None else near["mask"]
        require(
            len(mask) in (1, series.shape[2]), f"mask=channel: made for {len(mask)} channels, not {series.shape[2]}"
        )
        cells = dct2(self.grid.fold(series, None if near is None else self.cells(near))).flatten(2)
        return {"coefficients": cells.gather(2, where(mask, cells)), "mask": mask.clone()}

    def decode(self, params: Params) -> Float[Tensor, "n M C"]:
        return self.grid.unfold(self.cells(params))

    def cells(self, params: Params) -> Float[Tensor, "n C R P"]:
        """The grids of the parameters."""
        coefficients, grid = params["coefficients"], self.grid
        cells = coefficients.new_zeros(*coefficients.shape[:2], grid.rows * grid.period)
        cells = cells.scatter(2, where(params["mask"], cells), coefficients)
        return idct2(cells.unflatten(2, (grid.rows, grid.period)))

    @classmethod
    def picture(
        cls, options: Mapping[str, Any], params: Mapping[str, np.ndarray], history: History, length: int
    ) -> Figure | None:
        """Mean square of every kept coefficient over sequences and channels; white ones are not kept."""
        period = int(options["period"])
        rows = -(-length // period)
        power = np.zeros((params["coefficients"].shape[1], rows * period))
        power[np.arange(len(power))[:, None], params["mask"]] = np.square(params["coefficients"]).mean(axis=0)
        power = power.mean(axis=0).reshape(rows, period)
        figure = Figure(figsize=(9, min(6.0, 2 + 5 * rows / period)), layout="constrained")
        ax = figure.subplots()
        shown = np.ma.masked_equal(power, 0)
        image = ax.imshow(shown, norm=LogNorm(), aspect="auto", cmap="viridis", interpolation="nearest")
        ax.set_xlabel(f"half-waves within a period of {period} steps", fontsize=8)
        ax.set_ylabel("half-waves over the series", fontsize=8)
        kept = params["mask"].shape[1]
        ax.set_title(f"cosine coefficients: {kept} of {rows * period} kept per channel", fontsize=9)
        figure.colorbar(image, ax=ax, label="mean square")
        return figure


def where(mask: Int[Tensor, "masks k"], cells: Float[Tensor, "N C RP"]) -> Int[Tensor, "N C k"]:
    """The mask as an index into every series and channel."""
    return mask.long().expand(*cells.shape[:2], -1)


def choose(transformed: Float[Tensor, "N C R P"], kept: int, center: bool, per_channel: bool) -> Int[Tensor, "masks k"]:
    """The coefficients with the largest variance (``center``) or mean square over real images, in order."""
    spread = transformed.var(dim=0, correction=0) if center else transformed.square().mean(dim=0)
    spread = spread.flatten(1) if per_channel else spread.mean(dim=0).flatten()[None]
    return spread.topk(kept, dim=1).indices.sort(dim=1).values.int()
