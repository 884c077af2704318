"""`hdt finetune` and its comparison with all data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import SMALL, Result, make_frame, refused

import hdt
from hdt.system.errors import InputError
from hdt.tuning import benchmark

TINY = Path(__file__).parents[1] / "recipes" / "moirai" / "tiny"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def distilled() -> hdt.Distilled:
    return hdt.distill(make_frame(), **SMALL)


def test_the_command_prints_zero_shot_beside_fine_tuned(run: Run, tmp_path: Path, csv: Path) -> None:
    assert run("distill", csv, *small_flags(), "--out", "r").code == 0
    words = ("finetune", "r", "--base", TINY, "--steps", 2, "--lr", "1e-3", "--patch", 8)
    shown = run(*words)
    assert shown.code == 0 and "zero-shot" in shown.out and "fine-tuned" in shown.out and "MASE" in shown.out
    assert (tmp_path / "r-moirai" / "forecaster.json").is_file()
    refused(run(*words), "r-moirai exists; choose another --out")
    found = json.loads(run(*words, "--force", "--json").out)
    assert [row["weights"] for row in found["results"]] == ["zero-shot", "fine-tuned"]
    assert found["training"]["samples"] == 64 and found["schema_version"] == 1
    refused(run("finetune", "r", "--base", "absent", "--out", "x"), "absent: no such folder")
    refused(run("finetune", "r", "--model", "dlinear", "--base", TINY), "--base: for pre-trained networks only")
    refused(
        run("finetune", "r", "--base", "r-moirai", "--out", "r-moirai", "--force"), "is what the training starts from"
    )
    assert not (tmp_path / "x").exists() and not list(tmp_path.glob(".r-moirai*"))
    student = json.loads(run("finetune", "r", "--model", "dlinear", "--steps", 4, "--json").out)
    assert [row["weights"] for row in student["results"]] == ["trained"]
    assert student["training"]["steps"] == 4 == student["training"]["trainings"][0]["steps"]
    told = run("finetune", "r", "--model", "dlinear", "--steps", 4, "--force").out
    assert "distilled data: 4 steps at the best of 3 learning rates; in all" in told
    refused(run("finetune", "r", "--model", "dlinear", "--seed", -1, "--out", "x"), "seed=-1: expected 0 to")
    further = run("finetune", "r", "--model", "dlinear", "--from", "r-dlinear", "--steps", 4, "--out", "d2")
    assert further.code == 0 and "base" in further.out and "trained" in further.out


def test_compare_puts_errors_and_costs_beside_full_data(run: Run, tmp_path: Path, csv: Path) -> None:
    assert run("distill", csv, *small_flags(), "--out", "r").code == 0
    words = ("finetune", "r", "--compare", "--base", TINY, "--steps", 2, "--lr", "1e-3", "--patch", 8, "--seeds", 1)
    words += ("--method", "hdt", "--method", "kcenter")
    found = json.loads(run(*words, "--json").out)["rows"]
    assert [row["trained_on"] for row in found] == ["zero-shot", "full", "random", "hdt", "kcenter"]
    full, own = found[1], found[3]
    assert full["ratio_to_full"] == 1 and full["distill_seconds"] == 0 < own["distill_seconds"]
    if own["cheaper"] is not None:
        assert own["cheaper"] == pytest.approx(full["train_seconds"] / own["train_seconds"])
        assert own["cheaper_with_distillation"] < own["cheaper"]
    cells = {file.name: file.read_bytes() for file in (tmp_path / "r-compare" / "cells").iterdir()}
    assert len(cells) == 5
    again = run(*words)
    assert again.code == 0 and "pays after" in again.out
    assert {file.name: file.read_bytes() for file in (tmp_path / "r-compare" / "cells").iterdir()} == cells


def test_costs_are_those_until_the_validation_optimum() -> None:
    def cell(mse: float, seconds: float, distilling: float = 0.0) -> dict[str, float]:
        same = {"mae": 1.0, "mase": 1.0, "crps": 1.0, "seconds": 3 * seconds, "peak_memory_mb": 5.0}
        steps = {"steps_to_best": seconds * 2, "samples_to_best": seconds * 64}
        return {**same, **steps, "mse": mse, "seconds_to_best": seconds, "distill_seconds": distilling}

    zero = {"mse": 2.0, "mae": 1.0, "mase": 1.0, "crps": 1.0, "forecasts": 3, "seconds": 0.0}
    table = benchmark.summary(
        {
            "zero-shot": [zero],
            "full": [cell(1.0, 90), cell(1.0, 110)],
            "random": [cell(1.5, 0)],
            "hdt": [cell(1.1, 10, 250), cell(1.3, 10, 270)],
            "slow": [cell(1.0, 200, 1)],
        }
    ).set_index("trained_on")
    row = table.loc["hdt"]
    assert row["ratio_to_full"] == pytest.approx(1.2) and row["mse_std"] == pytest.approx(0.2 / 2**0.5)
    assert (row["cheaper"], row["samples"], row["steps"]) == (10, 640, 20)
    assert row["cheaper_with_distillation"] == pytest.approx(100 / 270)
    assert row["pays_after"] == 3  # 260 s of distilling, 90 s saved each time
    assert table.loc["full", "cheaper"] == 1 and table.loc["zero-shot", "ratio_to_full"] == 2
    assert pd.isna(table.loc[["zero-shot", "random"], "cheaper"]).all() and pd.isna(table.loc["slow", "pays_after"])


def test_compare_refuses_before_the_first_training(distilled: hdt.Distilled) -> None:
    for settings, message in (
        ({"methods": ["nope"]}, "unknown method"),
        ({"methods": ["random"]}, "is a row of every comparison"),
        ({"methods": ["hdt", "hdt"]}, "given twice"),
        ({"pattern": "some"}, "unknown pattern"),
        ({"seeds": 0}, "at least one"),
    ):
        with pytest.raises(InputError, match=message):
            benchmark.benchmark(distilled, base="never looked for", **settings)


def test_compare_does_not_take_the_cells_of_another_distillation(distilled: hdt.Distilled, tmp_path: Path) -> None:
    def cells(run: hdt.Distilled) -> int:
        benchmark.benchmark(
            run, base=TINY, methods=["hdt"], seeds=1, out=tmp_path, steps=1, lr=1e-4, patch=8, device="cpu"
        )
        return len(list((tmp_path / "cells").iterdir()))

    assert cells(distilled) == 4
    # What is not made from the run alone stays as it is: no tuning, all data, random segments.
    assert cells(hdt.distill(make_frame(), **{**SMALL, "k": 5})) == 5
    assert cells(hdt.distill(make_frame(), **{**SMALL, "length": 47})) == 9


def small_flags() -> list[object]:
    flags = {"length": 48, "context": 12, "horizon": 6, "k": 6, "iterations": 3}
    return [word for name, value in flags.items() for word in (f"--{name}", value)]
