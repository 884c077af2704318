"""Seconds and memory of a distillation over the size of the data: python recipes/scale.py

Tables are generated once into parquet files in ``--folder``: hourly, float32, daily and weekly cycles of random
amplitude and phase for each channel, AR(1) noise. Every cell is a process of its own, for the sake of its peak memory,
and is kept in ``--out``, so that an interrupted table goes on. Small unless told otherwise; Traffic's shape is
``--shapes 17544x862``, LargeST's ``201000x8600`` (7 GB of files). Beside each cell is the time of merely reading the
values, and ``--draw`` draws both over the size. ``--channels all`` keeps every channel; ``--batches 8 64`` distils each
table with so many channels per iteration, and ``--check`` adds the full loss of the objective, all channels at once,
the mean over 16 draws, and DLinear's test error at its published learning rate.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
WEEK, ROWS_PER_FILE = 168, 10_050


def generate(folder: Path, rows: int, channels: int, seed: int = 0) -> Path:
    """The files of one table, unless they are there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = folder / f"{rows}x{channels}"
    if target.is_dir():
        return target
    part = target.with_suffix(".part")
    part.mkdir(parents=True, exist_ok=True)
    rng, steps = np.random.default_rng(seed), np.arange(WEEK)[:, None]
    memory = rng.uniform(0.5, 0.95, channels).astype(np.float32)
    cycle = np.zeros((WEEK, channels), np.float32)
    for period in (24, WEEK):
        amplitude, phase = rng.uniform(0.5, 2, channels), rng.uniform(0, 2 * np.pi, channels)
        cycle += (amplitude * np.sin(2 * np.pi * steps / period + phase)).astype(np.float32)
    index, last = pd.date_range("2015-01-01", periods=rows, freq="h"), np.zeros(channels, np.float32)
    names = ["date", *(f"channel_{c}" for c in range(channels))]
    for n, first in enumerate(range(0, rows, ROWS_PER_FILE)):
        stamps = index[first : first + ROWS_PER_FILE]
        values = rng.standard_normal((len(stamps), channels), dtype=np.float32) * np.sqrt(1 - memory**2)
        for row in values:
            row += memory * last
            last = row.copy()
        values += cycle[np.arange(first, first + len(stamps)) % WEEK]
        arrays = [pa.array(stamps), *map(pa.array, np.ascontiguousarray(values.T))]
        pq.write_table(pa.Table.from_arrays(arrays, names=names), part / f"{n:03d}.parquet", use_dictionary=False)
    return part.rename(target)


def reading(folder: Path) -> float:
    """Seconds of reading all values by blocks of columns, and doing nothing with them."""
    from hdt.data.scaler import channel_blocks
    from hdt.data.stored import Stored

    begun = time.perf_counter()
    table = Stored(sorted(folder.glob("*.parquet")), folder.name)
    table.keep(table.head(None).columns.drop("date"))
    for some in channel_blocks(len(table.columns), len(table)):
        table.read(slice(None), range(some.start, some.stop))
    return time.perf_counter() - begun


def cell(folder: Path, method: str, batch: int | None, args: argparse.Namespace) -> dict[str, Any]:
    """One distillation in this process."""
    import hdt
    from hdt.run.plan import plan

    read = reading(folder)
    given = {} if args.iterations is None else {"iterations": args.iterations}
    given |= {} if args.channels is None else {"channels": args.channels}
    begun, used = time.perf_counter(), time.process_time()
    distilled = hdt.distill(folder, method=method, channel_batch=batch, seed=args.seed, **given)
    settings = distilled.info.settings
    row = {
        "rows": distilled.info.data.rows,
        "channels": len(distilled.info.data.columns),
        "method": method,
        "synthetic": distilled.values.shape[2],
        "at once": settings.channel_batch or distilled.values.shape[2],
        "iterations": settings.iterations,
        "seconds": round(time.perf_counter() - begun, 1),
        "CPU seconds": round(time.process_time() - used, 1),
        "reading": round(read, 1),
        "peak MB": distilled.info.peak_rss_mb,
        "estimated MB": plan(distilled.panel, settings)["estimated_memory_mb"],
        "values MB": round(4 * distilled.info.data.rows * len(distilled.info.data.columns) / 2**20),
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


def draw(table: pd.DataFrame) -> Path:
    """Seconds and peak memory over the values of a table, beside reading them and their size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    table = table.assign(size=table["rows"] * table["channels"]).sort_values("size")
    for method, own in table.groupby("method"):
        left.plot(own["size"], own["seconds"], "o-", ms=4, label=method)
        right.plot(own["size"], own["peak MB"], "o-", ms=4, label=method)
    once = table.groupby("size")[["reading", "values MB"]].median()
    left.plot(once.index, once["reading"], "k--", label="merely reading the files once")
    right.plot(once.index, once["values MB"], "k--", label="the values, float32")
    for ax, title in ((left, "seconds, one thread"), (right, "peak memory, MB")):
        ax.set(xscale="log", yscale="log", xlabel="values (steps × channels)", title=title)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8)
    path = HERE / "scale.png"
    figure.savefig(path, dpi=110)
    return path


def shape(text: str) -> tuple[int, int]:
    rows, channels = map(int, text.split("x"))
    return rows, channels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=shape, nargs="+", default=[(2000, 8), (2000, 64)], help="ROWSxCHANNELS")
    parser.add_argument("--methods", nargs="+", default=["hdt", "wiener", "fred-wiener"])
    parser.add_argument("--batches", type=int, nargs="+", default=[None], help="channels per iteration")
    parser.add_argument("--channels", type=lambda text: text if text == "all" else int(text), help="synthetic channels")
    parser.add_argument("--iterations", type=int, help="instead of each method's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="full loss and test error, too")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hdt-scale", help="of the files")
    parser.add_argument("--out", type=Path, help="a CSV file that cells are added to; those in it are not repeated")
    parser.add_argument("--draw", action="store_true", help="draw the CSV file --out as scale.png beside this")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.out and (args.check or len(args.batches) > 1):
        parser.error("--out keeps one way of distilling; leave it out with --check and --batches")
    if args.one:
        print(json.dumps(cell(Path(args.one), args.methods[0], args.batches[0], args)))
        return
    rows = pd.read_csv(args.out).to_dict("records") if args.out and args.out.exists() else []
    for size in args.shapes:
        folder = generate(args.folder, *size)
        for method in args.methods:
            for batch in args.batches:
                there = [(row["rows"], row["channels"]) == size and row["method"] == method for row in rows]
                if args.out and any(there):
                    continue
                words = [sys.executable, __file__, *sys.argv[1:], "--one", str(folder), "--methods", method]
                words += ["--batches", str(batch)] if batch else []
                with tempfile.TemporaryDirectory() as cache:  # nothing is known of the table before
                    env = {**os.environ, "HDT_CACHE_DIR": cache}
                    rows.append(json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, env=env).stdout))
                print(pd.DataFrame(rows[-1:]).to_string(header=len(rows) == 1, index=False), flush=True)
                if args.out:
                    pd.DataFrame(rows).to_csv(args.out, index=False)
    print("\n| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    print("\n".join("| " + " | ".join(map(str, row.values())) + " |" for row in rows))
    if args.draw:
        print(draw(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
