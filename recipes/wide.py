"""A model that cannot train on all of a wide table trains on what it distils to: python recipes/wide.py

On a generated table of 17,544 × 8,600 (``recipes/scale.py``), iTransformer's attention between all channels does not
fit into memory. Trained on eight prototypes it forecasts every channel, in groups of 64. Beside it are the naive
forecasts and what can be trained on all data at all: the best linear forecaster, least squares from the exact moments
of all windows (:mod:`hdt.maths.moments`), and with ``--pass`` DLinear for one pass. Errors are of all channels and of
every 25th test window, so that each phase of the day is met. Rows are kept in ``--out``; an interrupted table goes on.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from scale import generate, shape
from torch import Tensor

import hdt
from hdt.data import datasets
from hdt.data.series import Panel
from hdt.evaluation.naive import season_of
from hdt.evaluation.protocol import Evaluator
from hdt.maths import moments
from hdt.run.reading import train_blocks
from hdt.students import STUDENTS, build
from hdt.training.fit import fit

CONTEXT = HORIZON = 96
STRIDE, GROUP = 25, 64
Forecast = Callable[[Tensor], Tensor]  # [B, T, C] → [B, H, C]


def tests(panel: Panel, before: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Contexts [n, before, g] and horizons [n, H, g] of the test part, for each group of channels."""
    for first in range(0, panel.channels, GROUP):
        part = panel.block("test", slice(first, first + GROUP), before)
        values = torch.tensor(part, dtype=torch.float32)
        every = values.unfold(0, before + HORIZON, STRIDE).transpose(1, 2)
        yield every[:, :before], every[:, before:]


@torch.no_grad()
def error(panel: Panel, forecast: Forecast, before: int = CONTEXT) -> float:
    """Mean squared error over the test windows of all channels, scaled units."""
    gaps = [(forecast(x) - y).square().mean(dim=(0, 1), dtype=torch.float64) for x, y in tests(panel, before)]
    return torch.cat(gaps).mean().item()


def naive(panel: Panel, season: int) -> Forecast:
    steps = [h % season - season for h in range(HORIZON)]
    return lambda x: x[:, steps]


def least_squares(panel: Panel) -> Forecast:
    """The linear forecaster of the context and a constant that is best on all training windows."""
    gram = moments.gram(train_blocks(panel), CONTEXT + HORIZON)
    real = moments.lag_moments(gram, CONTEXT).means()
    weights = torch.linalg.solve(real.features, real.cross).float()
    return lambda x: torch.einsum("blc,lh->bhc", x, weights[:-1]) + weights[-1][:, None]


def trained(name: str, series: Tensor, evaluator: Evaluator, seed: int, **changed: Any) -> Forecast:
    """A student at the learning rate and epoch that validation (64 channels) chooses, or at the settings given."""
    best, network = math.inf, None
    ways = [replace(STUDENTS[name].training_settings, **changed)] if changed else STUDENTS[name].trainings()
    for training in ways:
        student = build(name, CONTEXT, HORIZON, series.shape[-1], seed)
        run = fit(student, series, evaluator.val, seed, training)
        if run.validation < best:
            best, network = run.validation, student
    assert network is not None
    return network.eval()


def on_all(panel: Panel, name: str, evaluator: Evaluator) -> Forecast:
    """A student after one pass over all windows of all channels at its published rate."""
    series = torch.tensor(panel.part("train", dtype="float32"))[None]
    return trained(name, series, evaluator, 0, epochs=1, min_steps=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=shape, default=(3000, 70), help="ROWSxCHANNELS; 17544x8600 for the table")
    parser.add_argument("--method", default="fred-wiener")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, help="instead of the method's own")
    parser.add_argument("--pass", action="store_true", dest="once", help="DLinear on all data, too; takes long")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hdt-scale", help="of the files")
    parser.add_argument("--out", type=Path, default=Path("wide.csv"))
    args = parser.parse_args()
    panel = datasets.load(generate(args.folder, *args.shape))
    evaluator = Evaluator(panel, CONTEXT, HORIZON, device="cpu")
    season = season_of(evaluator.panel) or 1
    given = {} if args.iterations is None else {"iterations": args.iterations}

    def distilled(name: str, seed: int) -> Callable[[], Forecast]:
        def made() -> Forecast:
            small = hdt.distill(panel, method=args.method, seed=seed, context=CONTEXT, horizon=HORIZON, **given)
            return trained(name, torch.as_tensor(small.values, dtype=torch.float32), evaluator, seed)

        return made

    cells: dict[tuple[str, str, int], tuple[Callable[[], Forecast], int]] = {
        ("last value", "", 0): (lambda: naive(panel, 1), 1),
        ("last season", "", 0): (lambda: naive(panel, season), season),
        ("least squares", "all", 0): (lambda: least_squares(panel), CONTEXT),
    }
    for seed in range(args.seeds):
        for name in ("dlinear", "itransformer"):
            cells[name, args.method, seed] = distilled(name, seed), CONTEXT
    for name in ("dlinear", "itransformer")[not args.once :]:
        cells[name, "all", 0] = (lambda name=name: on_all(panel, name, evaluator)), CONTEXT
    rows = pd.read_csv(args.out, keep_default_na=False).to_dict("records") if args.out.exists() else []
    for (model, data, seed), (made, before) in cells.items():
        if any((row["model"], row["trained on"], row["seed"]) == (model, data, seed) for row in rows):
            continue
        begun, row = time.perf_counter(), {"model": model, "trained on": data, "seed": seed}
        try:
            forecast = made()
            row |= {"seconds": round(time.perf_counter() - begun, 1), "mse": round(error(panel, forecast, before), 5)}
        except (RuntimeError, MemoryError) as failed:
            row |= {"seconds": "", "mse": str(failed).splitlines()[0]}
        rows.append(row)
        print(row, flush=True)
        pd.DataFrame(rows).to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
