"""What distilled data is worth for fine-tuning a pre-trained network: beside no tuning, all data and random segments.

Every row has the same base, validation, learning rates and test windows; random and distilled rows have equal
floats. Costs are training steps until the validation optimum, of the learning rate that validation chose; looks at
the validation part, 20 per training whatever its length, are left out of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from hdt.data.series import Panel
from hdt.distillation.methods import METHODS, named
from hdt.evaluation.protocol import WatchTraining
from hdt.evaluation.scores import cached
from hdt.run import produce
from hdt.run.distilled import Distilled
from hdt.run.source import real_data, same_data, same_length
from hdt.start import random_set
from hdt.system.errors import require
from hdt.system.fingerprint import fingerprint
from hdt.system.machine import device_of, memory_refusal, package_version
from hdt.tuning.base import check_size, parameters
from hdt.tuning.loop import Plan
from hdt.tuning.pretrained import Pretrained, kind_of, tune_values, validation_windows
from hdt.tuning.score import score

DISTILLED = ("hdt", "wiener")  # unless others are asked for
FIXED = ("zero-shot", "full", "random")
SIZE = {"length", "sequences", "channels", "context", "horizon"}


@dataclass(frozen=True)
class Work:
    """The comparison of one run's data: what every row shares."""

    kind: type[Pretrained]
    panel: Panel
    distilled: Distilled
    base: str
    device: torch.device
    out: Path | None
    settings: dict[str, Any]
    key: str

    def cell(self, row: str, seed: int) -> dict[str, float]:
        """One row at one seed, computed or read back."""
        if self.out is None:
            return self._score(row, seed)
        own = [] if row in FIXED else [produce.key(*produce.prepare(self.panel, **self._recipe(row, seed)))]
        key = fingerprint([self.key, *own])
        return cached(self.out / "cells" / f"{row}-{seed}-{key}.json", lambda: self._score(row, seed))

    def _score(self, row: str, seed: int) -> dict[str, float]:
        run, panel = self.distilled.info.settings, self.panel
        context, horizon = run.context, run.horizon
        if row == "zero-shot":
            network = self.kind.load_network(self.base).to(self.device).eval()
            patch = self.settings.get("patch")
            patch = patch or self.kind.choose_patch(network, validation_windows(panel, context, horizon), context)
            return {**self._errors(network, patch), "seconds": 0.0}
        distill_seconds = 0.0
        lacking: list[float] | None = None
        if row == "full":
            values = panel.part("train")[None]
        elif row == "random":
            train = torch.tensor(panel.part("train"), dtype=torch.float32)
            values = random_set(train, run.sequences, run.length, run.channels, seed).numpy()
        else:
            made = produce.distill(panel, **self._recipe(row, seed))
            values, distill_seconds, noise = made.values, made.info.seconds, made.info.noise
            lacking = None if noise is None else noise.levels
        tuned = tune_values(
            self.kind, values, panel, base=self.base, context=context, horizon=horizon, seed=seed,
            device=self.device.type, lacking=lacking, **self.settings,
        )  # fmt: skip
        facts = tuned.training
        names = ("steps", "samples", "seconds", "steps_to_best", "samples_to_best", "seconds_to_best")
        return {
            **self._errors(tuned.network, tuned.patch),
            **{name: float(facts[name]) for name in (*names, "lr", "validation_crps", "windows")},
            "peak_memory_mb": float(facts["peak_memory_mb"] or math.nan),
            "distill_seconds": distill_seconds,
            "patch": float(tuned.patch),
        }

    def _errors(self, network: Any, patch: int) -> dict[str, float]:
        run = self.distilled.info.settings
        model = self.kind.predictor(network, run.context, run.horizon, patch, self.device)
        return score(model, self.panel, run.horizon, self.device)

    def _recipe(self, method: str, seed: int) -> dict[str, Any]:
        """The settings of a distillation: the run's own for its method, else those usual at its size."""
        run, own = self.distilled.info.settings, {"method": method, "seed": seed, "device": self.device.type}
        if method == run.method:
            return {**run.model_dump(exclude={"options"}), **run.options, **own}
        return {**run.model_dump(include=SIZE), **own}


@memory_refusal("lower --batch or --context, or choose a smaller --base")
def benchmark(
    distilled: Distilled,
    *,
    base: str | Path,
    data: Any = None,
    methods: Sequence[str] = DISTILLED,
    seeds: int = 3,
    device: str = "auto",
    out: Path | None = None,
    watch: WatchTraining | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Test errors and costs of the network in ``base`` on the data of a run: one row each for no tuning, all data,
    random segments of equal floats, and series distilled by ``methods``, whose length, context and horizon are the
    run's.

    ``settings`` are those of :func:`hdt.tuning.pretrained.tune_values`. Finished cells are kept in ``out`` and not
    computed again. ``watch`` is called before each cell with (label, done, total). See :func:`summary` for the
    columns. Raises :class:`hdt.system.errors.InputError`.
    """
    _check(methods, seeds, settings)
    kind, on = kind_of(base), device_of(device)
    check_size(base, None, device)
    panel = same_length(real_data(distilled, data), "train", "val", "test")
    same_data(distilled, panel)
    network = kind.load_network(base)
    check_size(base, parameters(network), device)
    run = distilled.info.settings
    given = {name: value for name, value in settings.items() if value is not None}
    facts = [given, on.type, run.model_dump(include=SIZE), panel.sha256, *map(package_version, kind.packages)]
    key = fingerprint(facts, network.state_dict().values(), [kind.__module__, __name__, Panel])
    work = Work(kind, panel, distilled, str(base), on, out, settings, key)
    rows = [*FIXED, *methods]
    total = 1 + (len(rows) - 1) * seeds
    cells: dict[str, list[dict[str, float]]] = {row: [] for row in rows}
    done = 0
    for seed in range(seeds):
        for row in rows:
            if row == "zero-shot" and seed > 0:
                continue
            if watch is not None:
                watch(f"{row}, seed {seed}", done, total)
            cells[row].append(work.cell(row, seed))
            done += 1
    return summary(cells)


def _check(methods: Sequence[str], seeds: int, settings: dict[str, Any]) -> None:
    """Refuse before the first training what would be refused after it."""
    require(seeds >= 1, f"seeds={seeds}: at least one is needed")
    for method in methods:
        METHODS[named(method)]  # refuses an unknown one
        require(method not in FIXED, f"method {method!r}: is a row of every comparison")
        require(list(methods).count(method) == 1, f"method {method!r} is given twice")
    names = ("pattern", "batch", "mix", "clip", "precision", "lr", "steps", "patch")
    given = {name: settings[name] for name in names if settings.get(name) is not None}
    Plan(**{"context": 1, "horizon": 1, "patch": 1, "lr": 1.0, "steps": 1, "check_every": 1, **given})


def summary(cells: dict[str, list[dict[str, float]]]) -> pd.DataFrame:
    """One row per training set, means over seeds.

    ``mse``, ``mae``, ``mase``, ``crps`` on test; ``ratio_to_full`` of the MSE; ``steps``, ``samples`` and
    ``train_seconds`` until the validation optimum; ``total_seconds`` of all trainings that validation chose from;
    ``cheaper``: training seconds of full data over the row's, ``cheaper_with_distillation`` with the row's
    distillation added; ``pays_after``: after how many fine-tunings distilling once has cost less than
    tuning on all data each time. Null where there is nothing to divide.
    """
    table = {row: pd.DataFrame(scores) for row, scores in cells.items()}

    def mean(row: str, column: str) -> float:
        return float(table[row][column].mean()) if column in table[row] else 0.0

    full = mean("full", "seconds_to_best")
    rows = []
    for row, scores in table.items():
        seconds, distilling = mean(row, "seconds_to_best"), mean(row, "distill_seconds")
        tuned = row != "zero-shot" and seconds > 0
        rows.append(
            {
                "trained_on": row,
                **{name: mean(row, name) for name in ("mse", "mae", "mase", "crps")},
                "mse_std": float(scores["mse"].std(ddof=1)) if len(scores) > 1 else 0.0,
                "ratio_to_full": mean(row, "mse") / mean("full", "mse"),
                "steps": mean(row, "steps_to_best"),
                "samples": mean(row, "samples_to_best"),
                "train_seconds": seconds,
                "total_seconds": mean(row, "seconds"),
                "distill_seconds": distilling,
                "peak_memory_mb": mean(row, "peak_memory_mb") or None,
                "cheaper": full / seconds if tuned else None,
                "cheaper_with_distillation": full / (seconds + distilling) if tuned else None,
                "pays_after": math.floor(distilling / (full - seconds)) + 1 if tuned and full > seconds else None,
                "seeds": len(scores),
            }
        )
    return pd.DataFrame(rows)


def cells_of(table: pd.DataFrame) -> list[list[str]]:
    """The table as text: errors, costs until the validation optimum, and what they save."""

    def times(value: float | None) -> str:
        return "" if value is None or pd.isna(value) else f"{value:.1f}×"

    return [
        [
            row["trained_on"], f"{row['mse']:.3f} ± {row['mse_std']:.3f}", f"{row['mase']:.3f}", f"{row['crps']:.3f}",
            f"{row['ratio_to_full']:.3f}×", f"{row['samples']:,.0f}", f"{row['train_seconds']:.1f} s",
            "" if pd.isna(row["peak_memory_mb"]) else f"{row['peak_memory_mb']:.0f} MB", times(row["cheaper"]),
            times(row["cheaper_with_distillation"]), "" if pd.isna(row["pays_after"]) else f"{row['pays_after']:.0f}",
        ]
        for row in table.to_dict("records")
    ]  # fmt: skip
