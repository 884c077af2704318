"""What channels tell of each other, and how much of it a set carries: python recipes/cross.py Weather --views none load

Ridge regressions that see the main axes of all channels beside the own one, fitted on real windows and on those of
sets, and students trained on the sets (--students dlinear itransformer): validation errors, the test part is not read.
Sets are those of --method, with a further view or without it. Contexts are less their means; z_j = Σ_c v_cj x_c are
contexts along the main axes v [C, p], of which the views see means of the last 1, 4, 12 and 48 steps:

- load: φ_c = (x_c, v_cj·z_j, 1), one W for all channels
- each: φ = (x_c, z_j, 1), W of every channel its own
- relu: φ_c = σ_c·relu(x_c R/σ_c + v_cj·z_j Q/σ_c + b), 16 draws of R, Q and b, one in an iteration, one W

Each loss is, as in hdt/objective/wiener.py, the exact error over real windows of the ridge solution on synthetic ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

import hdt
from hdt.data.series import Panel
from hdt.evaluation.protocol import Evaluator
from hdt.maths.blocks import dense
from hdt.maths.windows import parted, spread, windows
from hdt.objective.contract import Scored
from hdt.objective.wiener import Wiener

L = H = 96
LAST, FEATURES, DRAWS, GAIN = (1, 4, 12, 48), 256, 16, 3.0
RIDGE = {"own": 0.01, "load": 0.01, "each own": 0.1, "each": 0.1, "relu": 0.1}
Moments = tuple[Tensor, Tensor, Tensor]  # A [g, D, D], B [g, D, H] and c [g], g = 1 or C


class View(NamedTuple):
    """A kind of features, the axes [C, p], and R, Q, b of random ones."""

    kind: str
    axes: Tensor
    drawn: tuple[Tensor, ...] = ()

    def features(self, every: Tensor) -> tuple[Tensor, Tensor]:
        """φ and y of centred windows [B, L+H, C]: [1, B·C, ...] where channels share W, else [C, B, ...]."""
        x, y, axes = every[:, :L].transpose(1, 2), every[:, L:].transpose(1, 2), self.axes.to(every)
        z = every[:, :L] @ axes
        last = torch.stack([z[:, -n:].mean(dim=1) for n in LAST], dim=-1)  # [B, p, k]
        found = [x, torch.ones_like(x[..., :1])]
        if self.kind == "each":
            found.append(last.flatten(1)[:, None].expand(-1, x.shape[1], -1))
        if self.kind in ("load", "relu"):
            found.append((last[:, None] * axes[..., None]).flatten(2))
        phi = torch.cat(found, dim=-1)
        if self.kind == "relu":
            scale = (x.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
            mix, beside, bias = (part.to(x) for part in self.drawn)
            phi = torch.relu(x / scale @ mix + found[-1] / scale @ beside + bias) * scale
        if self.kind.startswith("each"):
            return phi.transpose(0, 1), y.transpose(0, 1)
        return phi.flatten(0, 1)[None], y.flatten(0, 1)[None]

    def moments(self, every: Tensor) -> Moments:
        """Those of windows, as means."""
        phi, y = self.features(every)
        count = phi.shape[1]
        a, b = phi.transpose(1, 2) @ phi / count, phi.transpose(1, 2) @ y / count
        return a.double(), b.double(), (y.square().sum(dim=(1, 2)) / count).double()

    def solution(self, own: Moments) -> Tensor:
        """W of the ridge regression."""
        a, b, _ = own
        ridge = RIDGE[self.kind] * a.diagonal(dim1=1, dim2=2).mean(dim=1)
        return torch.linalg.solve(a + ridge[:, None, None] * torch.eye(a.shape[1], dtype=a.dtype), b)


def error(real: Moments, weights: Tensor, unit: float | None = None) -> Tensor:
    """The exact error of W; in units of that of no change, unless a unit is given."""
    a, b, c = real
    found = (weights * (a @ weights - 2 * b)).sum() + c.sum()
    return found / (c.sum() if unit is None else unit * len(c))


def centred(series: Tensor, most: int | None = None) -> Tensor:
    """Windows [B, L+H, C] of series [..., T, C] less the means of their contexts."""
    every = windows(series, L, H)
    every = every if most is None else every[spread(len(every), most)].double()
    every = every.reshape(-1, *every.shape[-2:])
    return every - every[:, :L].mean(dim=1, keepdim=True)


def main_axes(every: Tensor, count: int) -> Tensor:
    """Of the channels of centred windows, the largest first [C, p]."""
    x = every[:, :L].flatten(0, 1)
    return torch.linalg.eigh(x.T @ x / len(x))[1].flip(1)[:, :count]


@contextmanager
def seeing(kind: str, weight: float, principal: int) -> Iterator[None]:
    """Wiener with that view beside its own."""
    views: list[View] = []
    real: list[Moments] = []
    before, without = Wiener.prepare, Wiener.loss

    def prepare(self: Wiener, series: Any) -> Any:
        table = dense(series)
        every = centred(table, 28_000 // max(14, table.shape[1]))
        axes, generator = main_axes(every, principal), torch.Generator().manual_seed(0)
        for _ in range(DRAWS if kind == "relu" else 1):
            size = len(LAST) * axes.shape[1]
            mix = torch.randn(L, FEATURES, generator=generator) / L**0.5
            beside = torch.randn(size, FEATURES, generator=generator) / size**0.5 * GAIN
            bias = torch.rand(FEATURES, generator=generator) * 2 - 1
            views.append(View(kind, axes, (mix, beside, bias)))
            real.append(views[-1].moments(every.float() if kind == "relu" else every))
        return before(self, series)

    def loss(self: Wiener, known: Any, synthetic: Tensor, state: Any, generator: torch.Generator) -> Scored:
        total, terms, state = without(self, known, synthetic, state, generator)
        chosen = int(torch.randint(len(views), (), generator=generator)) if len(views) > 1 else 0
        own = views[chosen].moments(centred(synthetic))
        weights = views[chosen].solution(own)
        gap = error(real[chosen], weights)
        total = total + weight * (gap + self.options.noise * error(own, weights))
        return Scored(total, {**terms, "cross": gap.detach()}, state)

    if kind == "none":
        yield
        return
    with patch.object(Wiener, "prepare", prepare), patch.object(Wiener, "loss", loss):
        yield


def closed(every: Tensor, held: Tensor, axes: Tensor) -> dict[str, float]:
    """Errors on held windows of ridge regressions fitted on others, per step."""
    found = {}
    for name in ("own", "load", "each own", "each"):
        view = View(name, axes)
        weights = view.solution(view.moments(every))
        found[name] = round(error(view.moments(held), weights, H).item(), 4)
    return found


def trained(evaluator: Evaluator, student: str, values: Tensor, seed: int) -> dict[str, float]:
    """Least validation error; of iTransformer at 5e-4, on windows as they are and on shuffled channels."""
    ways = evaluator.trainings(student)
    if student != "itransformer":
        return {student: min(evaluator.trained(student, values, seed, way)[1].validation for way in ways)}
    (way,) = (way for way in ways if 4e-4 < way.lr < 6e-4)
    kinds = {student: way, f"{student}, shuffled": replace(way, shuffle_channels=True)}
    return {name: evaluator.trained(student, values, seed, way)[1].validation for name, way in kinds.items()}


def rows(panel: Panel, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Real windows first, then sets."""
    evaluator = Evaluator(panel, L, H, device="cpu")
    held, every = centred(parted(evaluator.val).values, 1024), centred(evaluator.train, given.windows)
    axes = main_axes(every, given.principal)
    yield {"view": "all data", **closed(every, held, axes)}
    for seed in range(given.seeds):
        for kind in given.views:
            with seeing(kind, given.weight, given.principal):
                made = hdt.distill(panel, method=given.method, seed=seed, context=L, horizon=H, **given.options)
            values = torch.as_tensor(made.values, dtype=torch.float32)
            row = {"view": kind, "seed": seed, **closed(centred(values.double()), held, axes)}
            for student in given.students:
                row |= {name: round(value, 4) for name, value in trained(evaluator, student, values, seed).items()}
            yield row


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--method", default="wiener")
    parser.add_argument("--views", nargs="+", default=["none"], choices=["none", "load", "each", "relu"])
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--principal", type=int, default=8, help="main axes")
    parser.add_argument("--students", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--windows", type=int, default=1000, help="real ones of every channel")
    parser.add_argument("--iterations", type=int)
    given = parser.parse_args()
    given.options = {} if given.iterations is None else {"iterations": given.iterations}
    for row in rows(hdt.load(given.data), given):
        print(row, flush=True)


if __name__ == "__main__":
    main()
