"""A series that drifts and what is distilled of it: python recipes/transforms.py co2 --picture transforms.png

The training part of one channel, what each transform leaves of it, and a set distilled from what is left, in the units
of the table. Errors: hdt compare co2 --transform difference --method hdt --student dlinear.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import hdt
from hdt.data.transform import TRANSFORMS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--method", default="hdt")
    parser.add_argument("--picture", type=Path, default=Path("transforms.png"))
    args = parser.parse_args()
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    for row, kind in zip(figure.subplots(len(TRANSFORMS), 2, squeeze=False), TRANSFORMS, strict=True):
        panel = hdt.load(args.data, transform=kind)
        made = hdt.distill(panel, method=args.method, seed=0)
        left, steps = panel.original("train")[:, 0], made.values.shape[1]
        row[0].plot(left, color="0.5", linewidth=0.7)
        row[0].set_ylabel(kind)
        for n, sequence in enumerate(made.original):
            row[1].plot(sequence[:, 0], color="tab:red", linewidth=0.9, label=None if n else "synthetic")
        row[1].plot(np.asarray(panel.plain.original("train"))[:steps, 0], color="0.5", linewidth=0.9, label="real")
    row[0].set_xlabel(f"{panel.name}: training part, what is left")
    row[1].set_xlabel("the first steps, in units of the table")
    row[1].legend(fontsize=8, frameon=False, ncols=2)
    figure.savefig(args.picture, dpi=120)


if __name__ == "__main__":
    main()
