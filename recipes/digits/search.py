"""The search for settings on 800/200 of the training images: python recipes/digits/search.py --out runs/digits-search

Seeds 1000 up, which no final run uses; the test images are not looked at. Prints the mean accuracy of every setting.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from variants import VARIANTS, Effort, Variant, run

RATES = (0.03, 0.1, 0.3)
CFM_RATES = (0.01, 0.03, 0.1)
BETAS = (0.1, 1.0, 10.0)


def changed(name: str, rate: float, gamma: float = 0.0, **options: Any) -> tuple[str, Variant]:
    """A variant with other settings, under a name that tells them."""
    told = [name, f"rate={rate}", *([f"gamma={gamma}"] if gamma else []), *(f"{k}={v}" for k, v in options.items())]
    before = VARIANTS[name]
    return ",".join(told), replace(before, rate=rate, gamma=gamma, options={**before.options, **options})


STAGES: dict[str, list[tuple[str, Variant]]] = {
    "size": [
        changed("nsd", 0.1, group=group, instance_rank=instance, cycle_rank=side, phase_rank=side)
        for group, instance, side in ((31, 3, 4), (8, 3, 4), (20, 2, 5), (6, 2, 5), (3, 2, 5), (2, 1, 7))
    ]
    + [
        changed("nsd-dct", 0.1, group=group, instance_rank=instance, cycle_rank=rows, phase_rank=columns)
        for group, instance, rows, columns in ((4, 4, 4, 4), (2, 2, 5, 6), (1, 1, 8, 8))
    ],
    "rate": [
        changed(name, rate)
        for name in (
            "pixels",
            "fred8",
            "fred16",
            "fred32",
            "fred8-shared",
            "fred16-shared",
            "fred32-shared",
            "nsd",
            "nsd-dct-learned",
            "nsd-dct",
        )
        for rate in RATES
    ]
    + [changed(name, 1.0) for name in ("fred8", "fred8-shared")],  # 0.3 was best there
    "gamma": [changed("nsd", 0.1, gamma) for gamma in (0.03, 0.1, 0.3, 1.0)],
    "cfm": [changed(name, rate, beta=beta) for name in ("cfm", "cfm-fixed") for rate in CFM_RATES for beta in BETAS]
    + [changed(name, rate) for name in ("cfm-high", "cfm-low", "cfm-task") for rate in CFM_RATES],
    "y": [changed("cfm", 0.01, beta=1.0, y="teacher")],
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", default=list(STAGES))
    parser.add_argument("--out", type=Path, default=Path("runs/digits-search"))
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    for stage in given.stages:
        for name, variant in STAGES[stage]:
            found = []
            for seed in range(1000, 1000 + given.seeds):
                file = given.out / f"{name}-{seed}.json"
                if not file.exists():
                    file.write_text(json.dumps(run(variant, "validation", Effort(), seed)[0]))
                found.append(json.loads(file.read_text()))
            shares = [cell["accuracy"] for cell in found]
            seconds = statistics.mean(cell["distil_seconds"] for cell in found)
            told = " ".join(f"{share:.3f}" for share in shares)
            print(f"{statistics.mean(shares):.3f}  ({told})  {seconds:.1f} s  {stage}: {name}", flush=True)


if __name__ == "__main__":
    main()
