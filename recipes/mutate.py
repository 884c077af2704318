"""The share of edits of the maths that a test notices: `make mutate`, or `make mutate SAMPLE=400` for so many of them.

They come in one fixed random order, in which every file has its share of any stretch, so that SAMPLE=400 and
SAMPLE=400:650 have none in common. What was run is not run again until its function changes; `rm -r mutants` forgets
it, `mutmut show NAME` shows an edit.
"""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path

MUTMUT = [sys.executable, "-m", "mutmut"]
SURVIVED = (None, 0, 5, 33)  # not run, no test failed, no tests; anything else is a failed test, a crash or a timeout


def results() -> dict[str, list[tuple[str, int | None]]]:
    """Names and exit codes of all mutants by file, but of those of the drawings for reports, which are no maths."""
    files = {}
    for file in sorted(Path("mutants/hdt").rglob("*.meta")):
        codes = json.loads(file.read_text())["exit_code_by_key"]
        files[str(file)] = [(name, code) for name, code in codes.items() if "ǁpicture__" not in name]
    return files


def order(files: dict[str, list[tuple[str, int | None]]]) -> list[str]:
    """The names, at random, each always alike, and each file evenly spread."""
    places = []
    for codes in files.values():
        names = sorted((name for name, _ in codes), key=lambda name: random.Random(name).random())
        places += [((place + 0.5) / len(names), name) for place, name in enumerate(names)]
    return [name for _, name in sorted(places)]


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95% interval of a share of ``count`` draws."""
    z = 1.96
    middle, scale = share + z**2 / (2 * count), 1 + z**2 / count
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return (middle - half) / scale, (middle + half) / scale


def main(sample: str = ":") -> None:
    subprocess.run([*MUTMUT, "run", "hdt.objective.unmatched.*"], check=True)  # makes all mutants, times the tests
    first, last = (int(bound) if bound else None for bound in sample.rpartition(":")[::2])
    names = order(results())[first:last]
    codes = {name: code for found in results().values() for name, code in found}
    todo = [name for name in names if codes[name] is None]
    if todo:
        subprocess.run([*MUTMUT, "run", *todo], check=True)
    codes = {name: code for found in results().values() for name, code in found}
    survived = sorted(name for name in names if codes[name] in SURVIVED)
    score = 1 - len(survived) / len(names)
    print(*survived, sep="\n")
    low, high = wilson(score, len(names))
    print(f"{len(names) - len(survived)} of {len(names)} killed: {score:.1%}, 95% interval {low:.1%} to {high:.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
