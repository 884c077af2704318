"""The errors of one training, kept in files, and what a row of a table makes of those of several seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import TypeAdapter

from hdt.maths.residuals import Scatter
from hdt.run.synthetic import Synthetic
from hdt.system.errors import InputError
from hdt.system.folders import replacing

Score = dict[str, float]
SCORE = TypeAdapter(Score)
QUANTILES = ("crps", "wql", "wql_std", "coverage_80", "coverage_80_std", "wql_to_full")  # columns of quantile rows


def summary(scores: Sequence[Score]) -> dict[str, Any]:
    """Mean and standard deviation of a row's trainings; the median of their seconds."""
    table = pd.DataFrame(scores)
    spread = table.std(ddof=1) if len(table) > 1 else table.iloc[0] * 0
    chosen_by = "validation_crps" if "wql" in table else "validation_mse"
    row = {
        "mse": table["mse"].mean(),
        "mse_std": spread["mse"],
        "mae": table["mae"].mean(),
        "mae_std": spread["mae"],
        "mase": table["mase"].mean(),
        chosen_by: table[chosen_by].mean(),
        "seeds": len(table),
        "train_seconds": table["train_seconds"].median(),
    }
    if "wql" in table:
        row |= {name: table[name].mean() for name in ("crps", "wql", "coverage_80")}
        row |= {f"{name}_std": spread[name] for name in ("wql", "coverage_80")}
    return row


def to_full(row: Mapping[str, Any], full: Mapping[str, Any]) -> dict[str, float]:
    """The errors of a row over those of full data."""
    more = {"wql_to_full": row["wql"] / full["wql"]} if "wql" in row and full["wql"] > 0 else {}
    return {"ratio_to_full": row["mse"] / full["mse"], **more}


def known(file: Path | None) -> Score | None:
    """The score in ``file``; None where there is none, or a damaged one."""
    try:
        return None if file is None else SCORE.validate_json(file.read_bytes())
    except (OSError, ValueError):
        return None


def cached(file: Path | None, compute: Callable[[], Score]) -> Score:
    """The score in ``file``, or a new one written there; a damaged file or a full disk only costs time."""
    found = known(file)
    if found is not None:
        return found
    score = compute()
    if file is not None:
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as part:
                part.write_text(json.dumps(score), encoding="utf-8")
    return score


def readable(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of an evaluation for people; quantiles are shown by errors of their own."""
    if "wql" in rows[0]:
        headings = ["CRPS", "WQL", "in the 80% interval", "WQL vs full", "MSE of the median"]
    else:
        headings = ["MSE", "MAE", "MASE", "vs full"]
    lines = []
    for row in rows:
        mse = f"{row['mse']:.3f} ± {row['mse_std']:.3f}"
        if "wql" in row:
            coverage = f"{row['coverage_80']:.1%} ± {row['coverage_80_std']:.1%}"
            wql = f"{row['wql']:.3f} ± {row['wql_std']:.3f}"
            cells = [f"{row['crps']:.3f}", wql, coverage, f"{row['wql_to_full']:.3f}×", mse]
        else:
            mae = f"{row['mae']:.3f} ± {row['mae_std']:.3f}"
            cells = [mse, mae, "" if row.get("mase") is None else f"{row['mase']:.2f}", f"{row['ratio_to_full']:.2f}×"]
        lines.append([row["student"], row["trained_on"], *cells, f"{row['train_seconds']:.1f} s"])
    return ["student", "trained on", *headings, "training"], lines


def noise_of(distilled: Synthetic) -> Scatter | None:
    """What horizons of a set lack for students with quantiles to learn how uncertain they are; real ones lack nothing.

    Raises :class:`hdt.system.errors.InputError` for a run that was made before it was stored.
    """
    info = distilled.info
    if info.settings.objective == "none":
        return None
    if info.noise is None:
        raise InputError(
            f"{info.data.name}: this run was made by an older hdt, which stored no noise of horizons; distil it again "
            "for --quantiles"
        )
    levels, shape = torch.tensor(info.noise.levels), torch.tensor(info.noise.shape)
    return Scatter(info.noise.unit * levels, shape)
