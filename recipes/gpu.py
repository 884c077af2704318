"""What a GPU gains: python recipes/gpu.py, or make gpu, which runs the tests marked gpu first.

Seconds of distilling, of training steps of the students and of fine-tuning steps of Moirai, on the CPU and on CUDA
where there is one, in float32, bf16 and through torch.compile; medians of ``--rounds`` after one that does not count.
With CUDA the table goes to recipes/gpu-DEVICE.md; without, it is printed with a note, and only small networks run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import hdt
from hdt.students import STUDENTS, build
from hdt.system import machine
from hdt.training.fit import Running, fit
from hdt.training.loop import PRECISIONS

SMALL_BASES = [str(Path(__file__).parent / "moirai" / "tiny")]
BASES = ["random:small", "random:base", "random:large"]  # 14M, 91M and 311M weights


def table(rows: int = 20_000, channels: int = 7) -> pd.DataFrame:
    """A generated table of ETTh1's shape: daily cycles and noise."""
    rng = np.random.default_rng(0)
    steps = np.arange(rows)[:, None] / 24 + np.arange(channels) / channels
    index = pd.date_range("2016-07-01", periods=rows, freq="h")
    return pd.DataFrame(np.sin(2 * np.pi * steps) + rng.normal(size=(rows, channels)), index=index)


def seconds(work: Callable[[], Any], rounds: int) -> float:
    """The median of so many runs."""
    found = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def rows(devices: list[str], steps: int, rounds: int, only: str) -> Iterator[dict[str, Any]]:
    """One row per piece of work and way, its seconds by device; what cannot run says why. Compiled ones come last.

    ``only`` those whose work begins so.
    """
    panel = hdt.load(table())

    for method in ("wiener", "fred-wiener", "hdt"):
        work = lambda device, m=method: hdt.distill(panel, method=m, iterations=steps, device=device)  # noqa: E731
        if "distil".startswith(only):
            yield {"work": f"distil, {method}, {steps} iterations", "way": "float32", **timed(work, devices, rounds)}
    series = torch.tensor(panel.part("train"), dtype=torch.float32)

    def trained(name: str, precision: str, compiled: bool) -> dict[str, Any]:
        def train(device: str) -> None:
            student = build(name, 96, 96, series.shape[1], 0).to(device)
            way = replace(student.training_settings, patience=99)
            running = Running(precision, compile=compiled, steps=steps)
            fit(student, series[None].to(device), series[:192].to(device), 0, way, running)

        way = precision + (", compiled" if compiled else "")
        return {"work": f"{name}, {steps} steps", "way": way, **timed(train, devices, rounds)}

    yield from (
        trained(name, precision, False) for name in STUDENTS if name.startswith(only) for precision in PRECISIONS
    )
    distilled = hdt.distill(panel, method="wiener", iterations=5)
    bases = SMALL_BASES + BASES * ("cuda" in devices) if "Moirai".startswith(only) else []
    for base, precision in ((base, precision) for base in bases for precision in PRECISIONS):

        def tune(device: str, base: str = base, precision: str = precision) -> None:
            hdt.finetune(distilled, base=base, steps=steps, lr=1e-5, device=device, precision=precision, patch=32)

        own = [device for device in devices if device == "cuda" or base in SMALL_BASES]
        yield {"work": f"Moirai {Path(base).name}, {steps} steps", "way": precision, **timed(tune, own, rounds)}
    yield from (trained(name, "float32", True) for name in STUDENTS if name.startswith(only))


def timed(work: Callable[[str], Any], devices: list[str], rounds: int) -> dict[str, str]:
    """Seconds by device, after one run that does not count."""
    found = {}
    for device in devices:
        try:
            work(device)
            found[device] = f"{seconds(lambda device=device: work(device), rounds):.2f} s"  # type: ignore[misc]
        except (hdt.InputError, RuntimeError) as error:  # no compiler, too little memory
            found[device] = str(error).strip().splitlines()[0][:60]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="what the work begins with: distil, xpatch, Moirai")
    args = parser.parse_args()
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    names = {device: machine.device_name(device) for device in devices}
    file = Path(__file__).parent / f"gpu-{names.get('cuda', 'none').replace(' ', '-')}.md"
    head = f"| work | | {' | '.join(names[device] for device in devices)} |\n|{'---|' * (2 + len(devices))}"
    text = f"`python recipes/gpu.py --steps {args.steps} --rounds {args.rounds}`, medians, torch {torch.__version__}"
    text += f"\n\n{head}\n"
    for row in rows(devices, args.steps, args.rounds, args.only):
        text += f"| {row['work']} | {row['way']} | {' | '.join(row.get(device, '') for device in devices)} |\n"
        print(text.splitlines()[-1], flush=True)
        if "cuda" in devices:  # what is known, should the rest be interrupted
            file.write_text(f"# {names['cuda']} beside the CPU\n\n{text}", encoding="utf-8")
    print(f"\nwritten: {file}" if "cuda" in devices else f"\nno CUDA device here: only the CPU ran\n\n{text}")


if __name__ == "__main__":
    main()
