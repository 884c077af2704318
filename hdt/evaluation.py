"""The evaluation protocol, the same for every method and for full data (DESIGN, section 6).

Scaler fitted on train; the student trains on one series only; its epoch is chosen on the real validation
part; the test part is read once, every window of it; several seeds. ``random`` (a real segment of
equal floats) and ``full`` are always there to compare with.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from hdt.distilled import Distilled
from hdt.errors import InputError, require
from hdt.machine import cache_folder
from hdt.series import Panel
from hdt.start import real_segments
from hdt.students import STUDENTS, build
from hdt.train import device_of, errors, fit

PROTOCOL = 2  # raise it when anything here changes a number; cached rows of other protocols are ignored
Watcher = Callable[[str, int, int], None]
Score = dict[str, float]


def evaluate(
    distilled: Distilled,
    panel: Panel,
    *,
    students: Sequence[str] = ("dlinear",),
    seeds: int = 3,
    device: str = "auto",
    watch: Watcher | None = None,
) -> pd.DataFrame:
    """Test errors of students trained on the distilled series, on random real segments and on all data.

    One row per student and training set (column ``trained_on``: distilled, random, full) with ``mse``,
    ``mse_std``, ``mae``, ``mae_std`` over ``seeds``, ``train_seconds`` and ``ratio_to_full``; errors in
    scaled units. Rows of full data are cached by data and settings. ``watch`` is called before each
    training with (label, done, total).
    """
    info = distilled.info
    require(seeds >= 1, f"seeds={seeds}: at least one is needed")
    require(len(students) > 0, f"no student given; known: {', '.join(STUDENTS)}")
    for student in students:
        require(student in STUDENTS, f"unknown student {student!r}; known: {', '.join(STUDENTS)}")
    require(
        panel.train_sha256() == info.data.train_sha256,
        f"{panel.name}: its training part differs from the one this run was made from ({info.data.name}); "
        "give the same data, split and missing-value policy",
    )
    settings = info.settings
    target = device_of(device)
    parts = {part: _part(panel, part, settings.context, settings.horizon, target) for part in ("train", "val", "test")}
    synthetic = torch.tensor(distilled.values, dtype=torch.float32, device=target)
    rows, done, total = [], 0, 3 * len(students) * seeds
    for student in students:
        table: dict[str, list[Score]] = {"distilled": [], "random": [], "full": []}
        for trained_on, scores in table.items():
            for seed in range(seeds):
                if watch is not None:
                    watch(f"{student} on {trained_on}, seed {seed}", done, total)
                if trained_on == "distilled":
                    training = synthetic
                elif trained_on == "random":
                    draw = torch.Generator().manual_seed(seed)
                    training = real_segments(parts["train"], len(synthetic), synthetic.shape[1], draw)
                else:
                    training = parts["train"][None]
                compute = partial(_score, student, training, parts, settings, seed)
                if trained_on == "full":
                    key = _key(panel, student, settings.context, settings.horizon, seed)
                    scores.append(_cached(key, compute))
                else:
                    scores.append(compute())
                done += 1
        rows += [_row(student, trained_on, scores) for trained_on, scores in table.items()]
        full = rows[-1]["mse"]
        for row in rows[-3:]:
            row["ratio_to_full"] = row["mse"] / full
    if watch is not None:
        watch("done", total, total)
    return pd.DataFrame(rows)


def _part(panel: Panel, part: Any, context: int, horizon: int, device: torch.device) -> torch.Tensor:
    values = panel.part(part, context=0 if part == "train" else context)
    require(
        len(values) >= context + horizon,
        f"{panel.name}: the {part} part has {len(values)} rows (context included), fewer than context + horizon = "
        f"{context + horizon}; choose another --split",
    )
    return torch.tensor(values, dtype=torch.float32, device=device)


def _score(name: str, training: torch.Tensor, parts: dict[str, torch.Tensor], settings: Any, seed: int) -> Score:
    student = build(name, settings.context, settings.horizon, training.shape[-1], seed).to(training.device)
    run = fit(student, training, parts["val"], seed)
    test = errors(student, parts["test"])
    return {**test._asdict(), "validation_mse": run.validation_mse, "steps": run.steps, "train_seconds": run.seconds}


def _row(student: str, trained_on: str, scores: list[Score]) -> dict[str, Any]:
    table = pd.DataFrame(scores)
    spread = table.std(ddof=1) if len(table) > 1 else table.iloc[0] * 0
    return {
        "student": student,
        "trained_on": trained_on,
        "mse": table["mse"].mean(),
        "mse_std": spread["mse"],
        "mae": table["mae"].mean(),
        "mae_std": spread["mae"],
        "validation_mse": table["validation_mse"].mean(),
        "seeds": len(table),
        "train_seconds": table["train_seconds"].median(),
    }


def _key(panel: Panel, student: str, context: int, horizon: int, seed: int) -> str:
    data = hashlib.sha256(np.ascontiguousarray(panel.values).tobytes()).hexdigest()
    what = [PROTOCOL, data, panel.borders, panel.missing, student, asdict(STUDENTS[student].training_settings)]
    what += [context, horizon, seed, torch.__version__]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def _cached(key: str, compute: Callable[[], Score]) -> Score:
    """Scores of full data are the same for every method: computed once, kept in the user cache."""
    file = cache_folder() / "evaluations" / f"full-{key}.json"
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        score = compute()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(score))
        part.replace(file)
    except OSError:
        pass  # a cache that cannot be written only costs time
    return score


def real_data(distilled: Distilled, data: Any = None) -> Panel:
    """The panel behind a run: the one it holds, or ``data``, or what run.json names, loaded alike."""
    from hdt import datasets

    info = distilled.info.data
    if data is None and distilled.panel is not None:
        return distilled.panel
    if isinstance(data, Panel):
        return data
    source = info.source if data is None else data
    if source is None:
        raise InputError("this run was distilled from a frame in memory; give the data with --data")
    return datasets.load(source, **info.load_options)
