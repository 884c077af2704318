"""NSD: "Neural Spectral Decomposition for Dataset Distillation" (ECCV 2024).

The synthetic set as a whole is a tensor of low rank. Small spectrum tensors T_i are shared by small kernels
K_j, one matrix per axis, and every pair of the two gives samples (section 3.2):

    x_ij = T_i ×₁ K_j¹ ×₂ K_j² ×₃ K_j³ ×₄ K_j⁴,    T_i [t1, t2, t3, t4],  K_jᵈ [t_d, u_d]

so N_T·N_K·u1 samples [u2, u3, u4] for N_T·Πt + N_K·Σ t_d·u_d floats. The axes of series are instance, channel,
cycle and phase within the cycle (:mod:`hdt.maths.grid`); a learned channel kernel makes the order of channels
immaterial.

Kernels start as random orthonormal rows (NSD), as the first rows of a cosine transform (``dct``: eq. 4, whose
cosines are those of DCT-IV) or as the leading singular vectors of the starting series (``svd``), and are
learned or, with ``learn_kernels=false``, not. Fixed cosines are not stored.

Deviations and choices: the spectrum tensors start as those that come closest to the starting series, not at
random, and Adam replaces SGD with momentum 0.9. The real-guided loss, γ·L_real, belongs to the objective:
``real_weight`` of ``mtt`` (the loss of ``wiener`` is one already).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pydantic import Field
from torch import Tensor

from hdt.maths.grid import Grid, dominant_period
from hdt.maths.transforms import closest_tensors, compose, dct4
from hdt.parameterization.contract import Parameterization, Params, Shapes, Size
from hdt.system.errors import require
from hdt.system.options import FLAG, SIZE, Options
from hdt.system.parts import History, Method

AXES = ("instance", "channel", "cycle", "phase")


class NSDOptions(Options):
    """Hyperparameters of :class:`NSD`."""

    kernels: Literal["random", "dct", "svd"] = Field("random", description="where the kernels start")
    learn_kernels: bool = Field(True, description="false keeps them there")
    kernel_sets: int = Field(1, ge=1, description="N_K")
    tensors: int = Field(1, ge=1, description="N_T")
    group: int = Field(4, ge=1, description="u1, samples per pair of tensor and kernels", json_schema_extra=SIZE)
    instance_rank: int = Field(2, ge=1, description="t1, at most u1")
    channel_rank: int | None = Field(None, ge=1, description="t2; by default all channels")
    cycle_rank: int | None = Field(None, ge=1, description="t3; by default half the rows")
    phase_rank: int | None = Field(None, ge=1, description="t4; by default as large as the floats allow")
    period: int | None = Field(
        None, ge=1, description="P, steps per row; by default the dominant period", json_schema_extra=FLAG
    )


class NSD(Parameterization):
    """``tensors`` [N_T, t1, t2, t3, t4] and one kernel [N_K, t_d, u_d] per axis."""

    name = "nsd"
    Options: ClassVar[type[NSDOptions]] = NSDOptions
    citation = """@inproceedings{yang2024nsd,
  author    = {Yang, Shaolei and Cheng, Shen and Hong, Mingbo and Fan, Haoqiang and Wei, Xing and Liu, Shuaicheng},
  title     = {Neural Spectral Decomposition for Dataset Distillation},
  booktitle = {European Conference on Computer Vision},
  year      = {2024},
  note      = {arXiv:2408.16236}
}"""
    methods = {
        "nsd-wiener": Method(
            title="Spectrum tensors and shared kernels, Wiener objective",
            parameterization="nsd",
            objective="wiener",
            start="phase",
            iterations=300,
            learning_rate=0.02,
            parameterization_options={"kernels": "svd"},
        ),
        "nsd-mtt": Method(
            title="Spectrum tensors and shared kernels, trajectory matching",
            parameterization="nsd",
            objective="mtt",
            start="real",
            iterations=300,
            learning_rate=0.02,
            parameterization_options={"kernels": "svd"},
        ),
    }

    def __init__(self, size: Size, options: Any = None) -> None:
        super().__init__(size, options)
        self.stored = self.options.learn_kernels or self.options.kernels != "dct"
        self.fixed = () if self.options.learn_kernels else AXES

    def prepare(self, series: Float[Tensor, "T C"], generator: torch.Generator) -> None:
        if self.options.period is None:
            self.chosen["period"] = dominant_period(series, self.size.length)
        self.seed = int(torch.randint(2**31, (), generator=generator))

    @property
    def grid(self) -> Grid:
        """How series fold."""
        return Grid(self.size.length, self.options.period or self.chosen["period"])

    def sizes(self) -> list[tuple[int, int]]:
        """(t_d, u_d) of the four axes."""
        options, size, grid = self.options, self.size, self.grid
        full = (options.group, size.channels, grid.rows, grid.period)
        ranks = [
            options.instance_rank, options.channel_rank or size.channels, options.cycle_rank or -(-grid.rows // 2)
        ]  # fmt: skip
        sets = options.kernel_sets if self.stored else 0
        room = math.prod(size) - sets * sum(rank * axis for rank, axis in zip(ranks, full, strict=False))
        each = options.tensors * math.prod(ranks) + sets * grid.period
        ranks.append(options.phase_rank or max(1, min(grid.period, room // each)))
        for axis, rank, most in zip(AXES, ranks, full, strict=True):
            require(rank <= most, f"{axis}_rank={rank}, but that axis has {most}; lower it")
        require(
            ranks[3] * each <= room,
            f"{options.tensors} spectrum tensors and {sets} sets of kernels of rank {' × '.join(map(str, ranks))} are "
            f"more than the {' × '.join(map(str, size))} = {math.prod(size)} floats there are; lower a rank",
        )
        return list(zip(ranks, full, strict=True))

    def instances(self) -> int:
        return self.options.tensors * self.options.kernel_sets * self.options.group

    def shapes(self) -> Shapes:
        sizes = self.sizes()
        shapes: Shapes = {"tensors": (self.options.tensors, *(rank for rank, _ in sizes))}
        if self.stored:
            shapes |= {axis: (self.options.kernel_sets, *size) for axis, size in zip(AXES, sizes, strict=True)}
        return shapes

    def encode(self, series: Float[Tensor, "n M C"], near: Params | None = None) -> Params:
        sets, group = self.options.kernel_sets, self.options.group
        require(len(series) % (sets * group) == 0, f"{len(series)} series are not a multiple of {sets} × {group}")
        whole = self.grid.fold(series, None if near is None else self.cells(near))
        target = whole.unflatten(0, (-1, sets, group))  # [N_T, N_K, u1, C, R, P]
        if near is None or not self.stored:
            kernels = self.first_kernels(target)
        else:
            kernels = [near[axis].detach() for axis in AXES]
        tensors = closest_tensors(target, kernels)
        stored = dict(zip(AXES, (kernel.clone() for kernel in kernels), strict=True)) if self.stored else {}
        return {"tensors": tensors, **stored}

    def decode(self, params: Params) -> Float[Tensor, "n M C"]:
        return self.grid.unfold(self.cells(params))

    def cells(self, params: Params) -> Float[Tensor, "n C R P"]:
        """The grids of the parameters."""
        tensors = params["tensors"]
        kernels = [params[axis] for axis in AXES] if self.stored else self.cosines(tensors)
        return compose(tensors, kernels).flatten(0, 2)

    def first_kernels(self, target: Float[Tensor, "N_T N_K u1 C R P"]) -> list[Tensor]:
        """One kernel [N_K, t_d, u_d] per axis, with orthonormal rows."""
        if self.options.kernels == "dct":
            return self.cosines(target)
        if self.options.kernels == "random":
            generator, sets = torch.Generator().manual_seed(self.seed), self.options.kernel_sets
            draws = [
                torch.randn(sets, size, rank, generator=generator, dtype=torch.float64) for rank, size in self.sizes()
            ]
            return [torch.linalg.qr(draw).Q.transpose(1, 2).to(target) for draw in draws]
        kernels = []
        for axis, (rank, _) in enumerate(self.sizes()):
            unfolded = target.transpose(0, 1).movedim(2 + axis, 1).flatten(2).double()  # [N_K, u_d, everything else]
            vectors = torch.linalg.eigh(unfolded @ unfolded.transpose(1, 2)).eigenvectors
            kernels.append(vectors[..., -rank:].transpose(1, 2).to(target))
        return kernels

    def cosines(self, like: Tensor) -> list[Tensor]:
        """The first rows of DCT-IV; sets after the first take later ones, lest all sets be one."""
        sets = range(self.options.kernel_sets)
        return [torch.stack([dct4(size, like).roll(-j, 0)[:rank] for j in sets]) for rank, size in self.sizes()]

    @classmethod
    def picture(
        cls, options: Mapping[str, Any], params: Mapping[str, np.ndarray], history: History, length: int
    ) -> Figure | None:
        """The kernels of the first set, one per axis, each [rank, size]."""
        if "phase" not in params:
            return None
        figure = Figure(figsize=(11, 3), layout="constrained")
        widths = [max(2, params[name].shape[2]) ** 0.5 for name in AXES]
        for ax, name in zip(figure.subplots(1, 4, width_ratios=widths), AXES, strict=True):
            kernel = params[name][0]
            most = np.abs(kernel).max()
            ax.imshow(kernel, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
            ax.set_title(f"{name} kernel, {kernel.shape[0]} × {kernel.shape[1]}", fontsize=9)
            ax.tick_params(labelsize=8)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        return figure
