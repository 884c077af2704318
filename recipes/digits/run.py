"""FreD, NSD and CFM on 8×8 digits: python recipes/digits/run.py --seeds 10 --workers 2 --out runs/digits

One JSON file per variant and seed; those that are there are not run again. Then results.json, table.md and
images.png are written from all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from report import write
from variants import TINY, VARIANTS, Effort, run

from hdt.system.folders import replacing


def one_seed(folder: Path, tiny: bool, names: Sequence[str], seed: int) -> None:
    """The missing cells of a seed, on one thread; experts and teacher are trained once for all variants."""
    torch.set_num_threads(1)
    for name in names:
        file = folder / f"{name}-{seed}.json"
        if file.exists():
            continue
        cell, images = run(VARIANTS[name], "test", TINY if tiny else Effort(), seed)
        np.save(file.with_suffix(".npy"), images.numpy().astype(np.float16))
        with replacing(file) as part:
            part.write_text(json.dumps({"variant": name, "seed": seed, **cell}))
        print(f"seed {seed}  {name:15}  {cell['accuracy']:.3f}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="folder of the cells and the results")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--tiny", action="store_true", help="a few iterations, to see that everything runs")
    given = parser.parse_args(arguments)
    cells = given.out / ("tiny" if given.tiny else "cells")
    cells.mkdir(parents=True, exist_ok=True)
    work = partial(one_seed, cells, given.tiny, list(VARIANTS))
    if given.workers == 1:
        for seed in range(given.seeds):
            work(seed)
    else:
        with ProcessPoolExecutor(given.workers) as pool:
            list(pool.map(work, range(given.seeds)))
    print(write(given.out, cells, given.seeds))


if __name__ == "__main__":
    main()
