"""Means, paired differences with confidence intervals, and a picture, from the cells of run.py."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from digits import digits

from hdt.evaluation.paired import interval

PAIRS = [  # claim, better, worse
    *(("FreD > pixels", f"fred{k}", "pixels") for k in (8, 16, 32)),
    *(("FreD > pixels", f"fred{k}-shared", "pixels") for k in (8, 16, 32)),
    *(("variance mask > random mask", f"fred{k}", f"fred{k}-random") for k in (8, 16, 32)),
    *(("variance mask > random mask", f"fred{k}-shared", f"fred{k}-shared-random") for k in (8, 16, 32)),
    ("NSD > pixels", "nsd", "pixels"),
    ("NSD > pixels", "nsd-guided", "pixels"),
    ("learned ≥ learned-DCT kernels", "nsd", "nsd-dct-learned"),
    ("learned-DCT ≥ DCT kernels", "nsd-dct-learned", "nsd-dct"),
    ("learned-DCT ≥ DCT kernels", "nsd-dct-learned", "nsd-dct-own"),
    ("γ on > off", "nsd-guided", "nsd"),
    ("CFM > fixed β", "cfm", "cfm-fixed"),
    ("CFM > high-only", "cfm", "cfm-high"),
    ("CFM > low-only", "cfm", "cfm-low"),
    ("control: CFM > its task loss alone", "cfm", "cfm-task"),
    ("control: CFM > random real images", "cfm", "random10"),
    ("control: pixels > random real images", "pixels", "random1"),
]
PICTURED = ("random1", "pixels", "fred16", "fred16-random", "fred16-shared", "nsd", "nsd-dct", "cfm")


def verdict(low: float, high: float) -> str:
    """What the interval of a difference says of the claim that it is positive."""
    if low > 0:
        return "holds"
    if high < 0:
        return "does not hold"
    return "undecided"


def results(cells: Path, seeds: int) -> dict[str, Any]:
    """Accuracies by variant, in per cent, and the paired differences, in percentage points."""
    every = [json.loads(file.read_text()) for file in sorted(cells.glob("*.json"))]
    by_variant: dict[str, list[dict[str, Any]]] = {}
    for cell in sorted(every, key=lambda cell: cell["seed"]):
        if cell["seed"] < seeds:
            by_variant.setdefault(cell["variant"], []).append(cell)
    variants, pairs = {}, []
    for name, own in by_variant.items():
        shares = 100 * np.array([cell["accuracy"] for cell in own])
        variants[name] = {
            "mean": float(shares.mean()),
            "std": float(shares.std(ddof=1)) if len(shares) > 1 else math.nan,
            "seeds": shares.round(3).tolist(),
            "images": sum(own[0]["per_class"]),
            "floats": own[0]["floats"],
            "cpu_seconds": float(np.mean([cell["distil_seconds"] + cell["score_seconds"] for cell in own])),
        }
    for claim, better, worse in PAIRS:
        mean, low, high = interval(np.subtract(variants[better]["seeds"], variants[worse]["seeds"]))
        pairs.append(
            {"claim": claim, "pair": f"{better} − {worse}", "mean": mean, "low": low, "high": high}
            | {"verdict": verdict(low, high)}
        )
    seconds = sum(cell["distil_seconds"] + cell["score_seconds"] for cell in every)
    return {"variants": variants, "pairs": pairs, "cpu_seconds": seconds}


def table(found: dict[str, Any]) -> str:
    """Two Markdown tables."""
    lines = ["| variant | test accuracy, % | images | floats | CPU s per seed |", "| --- | --- | --- | --- | --- |"]
    for name, own in sorted(found["variants"].items(), key=lambda pair: -pair[1]["mean"]):
        numbers = f"{own['mean']:.1f} ± {own['std']:.1f} | {own['images']} | {own['floats']:,}"
        lines.append(f"| {name} | {numbers} | {own['cpu_seconds']:.1f} |")
    lines += ["", "| claim | pair | difference, points [95% interval] | here |", "| --- | --- | --- | --- |"]
    for pair in found["pairs"]:
        reach = f"{pair['mean']:+.1f} [{pair['low']:+.1f}, {pair['high']:+.1f}]"
        lines.append(f"| {pair['claim']} | {pair['pair']} | {reach} | {pair['verdict']} |")
    return "\n".join(lines)


def picture(cells: Path, file: Path) -> None:
    """The first image of every class, one row per variant, seed 0."""
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    data, rows = digits("test"), []
    for name in PICTURED:
        images = np.load(cells / f"{name}-0.npy").astype(np.float32) * data.spread + data.mean.numpy()
        firsts = images[:10] if name.startswith("cfm") else images[:: len(images) // 10]  # CFM orders by batch
        framed = np.pad(firsts[:, 0].clip(0, 16), ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
        rows.append(np.concatenate(list(framed), axis=1))
    figure, axis = plt.subplots(figsize=(6, 0.52 * len(rows)))
    axis.imshow(np.concatenate(rows), cmap="gray")
    axis.set_yticks(10 * np.arange(len(rows)) + 4.5, PICTURED, fontsize=8)
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.set_frame_on(False)
    figure.savefig(file, dpi=100, bbox_inches="tight")
    plt.close(figure)


def write(out: Path, cells: Path, seeds: int) -> str:
    """results.json, table.md and images.png; returns the tables."""
    found = results(cells, seeds)
    (out / "results.json").write_text(json.dumps(found, indent=1))
    text = table(found)
    (out / "table.md").write_text(text + "\n")
    picture(cells, out / "images.png")
    return text
