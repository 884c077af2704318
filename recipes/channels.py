"""Does a set say which channel is which? python recipes/channels.py RUN… --out channels.png

Ridge regressions on x − x̄, one for all channels and one for each, fitted on all training windows (``WINDOWS`` of each
channel) and on the windows of each run's set: what they leave of the validation windows, in closed form, as a table and
as bars. The ridge is the best of a few. Runs are of the same data.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import hdt
from hdt.evaluation.protocol import Evaluator
from hdt.maths.windows import parted, windows
from hdt.training.features import centred

WINDOWS, RIDGES = 8_000, (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def by_channel(series: Tensor, context: int, horizon: int) -> Tensor:
    """Windows [C, n, L+H] of series [N, M, C], at most ``WINDOWS`` of a channel, drawn always alike."""
    every = windows(series, context, horizon).flatten(0, 1).permute(2, 0, 1)
    order = torch.randperm(every.shape[1], generator=torch.Generator().manual_seed(0))
    return every[:, order[:WINDOWS]].double()


def errors(train: Tensor, validation: Tensor, context: int) -> tuple[float, float]:
    """Those of one regression for all channels, and of one for each."""
    x, y = centred(train.flatten(0, 1), context)
    x, y = x.unflatten(0, train.shape[:2]), y.unflatten(0, train.shape[:2])
    gram, cross = x.mT @ x / x.shape[1], x.mT @ y / x.shape[1]
    far, wanted = (part.unflatten(0, validation.shape[:2]) for part in centred(validation.flatten(0, 1), context))
    found = []
    for a, b in ((gram.mean(dim=0, keepdim=True), cross.mean(dim=0, keepdim=True)), (gram, cross)):
        size = a.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None] * torch.eye(context, dtype=a.dtype)
        maps = (torch.linalg.solve(a + ridge * size, b) for ridge in RIDGES)
        found.append(min(float((far @ own - wanted).square().mean()) for own in maps))
    return found[0], found[1]


def draw(rows: Sequence[tuple[str, float, float]], title: str, path: Path) -> None:
    figure = Figure(figsize=(5.6, 0.5 * len(rows) + 1.1), layout="constrained")
    ax = figure.subplots()
    for place, (_, shared, own) in enumerate(rows):
        for shift, value, colour in ((-0.19, shared, "0.7"), (0.19, own, "C3")):
            ax.barh(place + shift, value, 0.36, color=colour)
            ax.text(value, place + shift, f" {value:.3f}", va="center", fontsize=8)
    ax.barh([0], [0], color="0.7", label="one regression for all channels")
    ax.barh([0], [0], color="C3", label="one for each channel")
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows])
    ax.invert_yaxis()
    ax.set(title=title, xlabel="validation MSE of ridge regressions fitted on …")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlim(0, 1.15 * max(max(row[1:]) for row in rows))
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("channels.png"))
    args = parser.parse_args()
    sets = [hdt.Distilled.load(run) for run in args.runs]
    settings, panel = sets[0].info.settings, hdt.load(sets[0].info.data.source)
    context, horizon = settings.context, settings.horizon
    evaluator = Evaluator(panel, context, horizon, device="cpu")
    validation = by_channel(parted(evaluator.val)[0][None], context, horizon)
    rows = [("all data", *errors(by_channel(evaluator.train[None], context, horizon), validation, context))]
    for own in sets:
        made = by_channel(torch.as_tensor(own.values), context, horizon)
        weight = own.info.settings.options.get("individual", 0)
        name = own.info.settings.method + (f", individual={weight:g}" if weight else "")
        rows.append((name, *errors(made, validation, context)))
    for name, shared, alone in rows:
        print(f"{panel.name} {name}: for all channels {shared:.4f}, for each {alone:.4f}")
    draw(rows, panel.name, args.out)


if __name__ == "__main__":
    main()
