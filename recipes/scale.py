"""Seconds and memory of a distillation over the number of channels: python recipes/scale.py

Tables are generated: daily and weekly cycles of random amplitude and phase per channel, and AR(1) noise. Every cell is
a process of its own, so that its peak memory is its own. Small unless told otherwise; Traffic's shape is
``--rows 17544 --channels 8 64 862``. All channels are kept unless ``--prototypes 8`` says how many. ``--batches 8 64``
distils each table with so many channels per iteration, and
``--check`` adds the full loss of the objective, all channels at once, the mean over 16 draws, and DLinear's test error
at its published learning rate.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pandas as pd


def table(rows: int, channels: int, seed: int = 0) -> pd.DataFrame:
    """Hourly rows of two cycles and noise, float32."""
    rng = np.random.default_rng(seed)
    steps = np.arange(rows)[:, None]
    values = rng.normal(size=(rows, channels)).astype(np.float32)
    memory = rng.uniform(0.5, 0.95, channels).astype(np.float32)
    for t in range(1, rows):
        values[t] += memory * values[t - 1]
    values *= np.sqrt(1 - memory**2)
    for period in (24, 168):
        amplitude, phase = rng.uniform(0.5, 2, channels), rng.uniform(0, 2 * np.pi, channels)
        for c in range(channels):
            values[:, c] += amplitude[c] * np.sin(2 * np.pi * steps[:, 0] / period + phase[c])
    index = pd.date_range("2015-01-01", periods=rows, freq="h", name="date")
    return pd.DataFrame(values, index=index, columns=[f"channel_{c}" for c in range(channels)])


def cell(method: str, channels: int, batch: int | None, args: argparse.Namespace) -> dict[str, Any]:
    """One distillation in this process."""
    import hdt

    frame = table(args.rows, channels)
    given = {} if args.iterations is None else {"iterations": args.iterations}
    began, used = time.perf_counter(), time.process_time()
    distilled = hdt.distill(
        frame, method=method, channels=args.prototypes, channel_batch=batch, seed=args.seed, **given
    )
    row = {
        "method": method,
        "channels": channels,
        "synthetic": distilled.values.shape[2],
        "at once": distilled.info.settings.channel_batch or distilled.values.shape[2],
        "seconds": round(time.perf_counter() - began, 1),
        "CPU seconds": round(time.process_time() - used, 1),
        "peak MB": distilled.info.peak_rss_mb,
    }
    return {**row, **checked(distilled)} if args.check else row


def checked(distilled: Any) -> dict[str, float]:
    """Full loss and test error."""
    import torch

    from hdt.distillation.loop import objective_of
    from hdt.evaluation.protocol import Evaluator

    panel, settings = distilled.panel, distilled.info.settings
    objective, generator = objective_of(settings), torch.Generator().manual_seed(1)
    known = objective.prepare(torch.tensor(panel.part("train"), dtype=torch.float32))
    values = torch.as_tensor(distilled.values).requires_grad_()  # gradient matching differentiates in any case
    losses = [objective.loss(known, values, {}, generator).loss.item() for _ in range(16)]
    evaluator = Evaluator(panel, settings.context, settings.horizon, device="cpu", validation=False)
    return {
        "full loss": round(float(np.mean(losses)), 5),
        "DLinear": round(evaluator.score("dlinear", distilled.values, 0)["mse"], 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--channels", type=int, nargs="+", default=[8, 64, 128])
    parser.add_argument("--methods", nargs="+", default=["hdt", "wiener", "fred-wiener"])
    parser.add_argument("--batches", type=int, nargs="+", default=[None], help="channels per iteration")
    parser.add_argument("--prototypes", default="all", type=lambda text: text if text == "all" else int(text))
    parser.add_argument("--iterations", type=int, help="instead of each method's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="full loss and test error, too")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(cell(args.methods[0], args.channels[0], args.batches[0], args)))
        return
    rows = []
    for method in args.methods:
        for channels in args.channels:
            for batch in args.batches:
                words = [sys.executable, __file__, *sys.argv[1:], "--one", "--methods", method]
                words += ["--channels", str(channels), *(["--batches", str(batch)] if batch else [])]
                rows.append(json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout))
                print(pd.DataFrame(rows[-1:]).to_string(header=len(rows) == 1, index=False), flush=True)
    print("\n| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    print("\n".join("| " + " | ".join(map(str, row.values())) + " |" for row in rows))


if __name__ == "__main__":
    main()
