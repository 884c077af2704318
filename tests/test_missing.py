"""Missing cells: filled along a season where windows need values, masked wherever errors are counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Result, make_frame, refused

import hdt
from hdt.data import stored
from hdt.data.missing import along_season, season
from hdt.data.series import Panel
from hdt.evaluation import naive
from hdt.evaluation.protocol import Evaluator
from hdt.maths.windows import Gappy
from hdt.students import build
from hdt.system import machine
from hdt.training.errors import errors, errors_by_series

Run = Callable[..., Result]
QUICK: dict[str, Any] = {"length": 48, "context": 12, "horizon": 6, "iterations": 3, "method": "wiener", "features": 8}


def gappy_frame(share: float = 0.3, rows: int = 400, seed: int = 0) -> pd.DataFrame:
    frame = make_frame(rows)
    return frame.mask(np.random.default_rng(seed).random(frame.shape) < share)


def long_gappy_frame() -> pd.DataFrame:
    frame = gappy_frame().rename_axis("ds").reset_index().melt("ds", var_name="unique_id", value_name="y")
    return frame[(frame["unique_id"] == "load") | (frame["ds"] >= frame["ds"].iloc[130])]


def test_a_column_is_filled_by_its_profile_and_what_is_left_of_its_neighbours() -> None:
    """A cycle without noise, and its level, come back where more than one of it is missing; a straight line is off."""
    steps = np.arange(240)
    cycle = np.sin(2 * np.pi * steps / 24) + 0.5 * np.cos(2 * np.pi * steps / 8)
    holes = np.zeros(240, bool)
    holes[[*range(60, 100), 150, 151, 152, *range(180, 200)]] = True
    filled, period = along_season(np.where(holes, np.nan, 3 + cycle), np.zeros(0), 240)
    assert period == 24
    np.testing.assert_allclose(filled, 3 + cycle, atol=0.25)
    straight = np.interp(steps, steps[~holes], cycle[~holes])
    assert np.abs(straight - cycle).max() > 1
    assert (filled[~holes] == (3 + cycle)[~holes]).all()


def test_a_profile_by_hand() -> None:
    own = np.tile([0.0, 2.0, 4.0, 0.0, -6.0], 8) + np.random.default_rng(0).normal(scale=0.1, size=40)
    own[[7, 8, 21]] = np.nan
    there = ~np.isnan(own)
    straight = np.interp(np.arange(40), np.flatnonzero(there), own[there])
    deviations = [own[t] - straight[max(0, t - 2) : t + 3].mean() for t in range(40)]
    profile = np.array([np.nanmean([deviations[t] for t in range(40) if t % 5 == phase]) for phase in range(5)])
    rest = own - np.tile(profile, 8)
    by_hand = np.interp(np.arange(40), np.flatnonzero(there), rest[there]) + np.tile(profile, 8)
    filled, period = along_season(own, np.zeros(0), 40)
    assert period == 5
    np.testing.assert_allclose(filled, by_hand)
    later, _ = along_season(own[30:].copy() * np.where(np.arange(10) == 4, np.nan, 1), own[:30], 30)
    first = own[:30]
    straight = np.interp(np.arange(30), np.flatnonzero(there[:30]), first[there[:30]])
    deviations = [first[t] - straight[max(0, t - 2) : t + 3].mean() for t in range(30)]
    profile = np.array([np.nanmean([deviations[t] for t in range(30) if t % 5 == phase]) for phase in range(5)])
    assert later[4] == pytest.approx(own[33] - profile[3] + profile[4])  # the last remainder, carried forward


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (np.random.default_rng(0).normal(size=300).cumsum(), None),
        (np.arange(300.0), None),
        (np.full(300, 7.0), None),
        (np.sin(np.arange(300) * 2 * np.pi / 12) + np.arange(300) / 30, 12),
        (np.sin(np.arange(40) * 2 * np.pi / 12), None),  # three cycles
        (np.full(9, np.nan), None),
    ],
)
def test_only_a_season_is_one(column: np.ndarray, expected: int | None) -> None:
    assert season(pd.Series(column)) == expected
    column = np.where(np.random.default_rng(1).random(len(column)) < 0.3, np.nan, column)
    assert season(pd.Series(column)) == expected


def test_large_values_are_filled_too() -> None:
    own = make_frame(120)["load"].to_numpy() * 1e304
    filled, _ = along_season(np.where(np.arange(120) % 7 == 3, np.nan, own), np.zeros(0), 120)
    assert np.isfinite(filled).all() and np.abs(filled / own - 1).max() < 0.5


def test_masked_cells_are_told_filled_and_marked() -> None:
    frame = gappy_frame()
    panel = hdt.load(frame)
    share = frame["load"].iloc[:280].isna().mean()
    told = (
        f"column 'load': {round(280 * share)} missing train values ({share:.1%}) masked: not counted in errors, filled"
    )
    assert [note for note in panel.notices if note.startswith(told) and "a season of 24 steps" in note]
    for part in ("train", "val", "test"):
        rows = panel.rows(part)
        missing = frame.iloc[rows].isna().to_numpy()
        assert panel.gappy(part) and np.isfinite(panel.part(part)).all()
        np.testing.assert_array_equal(np.isnan(panel.part(part, gaps=True)), missing)
        np.testing.assert_array_equal(panel.original(part)[~missing], frame.iloc[rows].to_numpy()[~missing])
    before = frame.iloc[268:320].isna().to_numpy()
    np.testing.assert_array_equal(np.isnan(panel.part("val", 12, gaps=True)), before)
    assert not hdt.load(frame, missing="interpolate").gappy("train", "val", "test")
    few = make_frame()
    few.iloc[5, 0] = np.nan
    assert not hdt.load(few).gappy("train") and hdt.load(few, missing="mask").gappy("train")


def test_what_comes_later_fills_nothing() -> None:
    """Holes of validation and test rows are filled by rows before them only, those of train rows by train rows."""
    frame = gappy_frame()
    later = frame.copy()
    later.iloc[350:] += 100.0
    one, other = hdt.load(frame), hdt.load(later)
    for part in ("train", "val"):
        np.testing.assert_array_equal(one.original(part), other.original(part))
    np.testing.assert_array_equal(one.original("test")[:30], other.original("test")[:30])


def test_a_column_that_misses_all_of_a_part_is_refused(run: Run, tmp_path: Path) -> None:
    frame = make_frame().rename_axis("date")
    frame.iloc[:280, 1] = np.nan
    frame.to_csv(tmp_path / "a.csv")
    refused(run("distill", tmp_path / "a.csv", "--missing", "mask", "--out", "o"), "'wind' misses 100.0% of its train")
    refused(run("distill", tmp_path / "a.csv", "--missing", "drop", "--out", "o"), "choose one of auto, error, inter")


@pytest.mark.parametrize("most", [None, 9])
def test_errors_count_observed_targets_only(most: int | None) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 40, 3)).astype(np.float32)
    targets = np.where(rng.random(values.shape) < 0.4, np.nan, values)
    student = build("dlinear", 12, 6, 3, 0)
    series = Gappy(torch.tensor(values), torch.tensor(targets))
    gaps: dict[tuple[int, int], list[float]] = {}
    for n in range(2):
        for start in range(40 - 18 + 1):
            context = torch.tensor(values[n : n + 1, start : start + 12])
            forecast = student(context)[0].detach().numpy()
            for h in range(6):
                for c in range(3):
                    if not np.isnan(targets[n, start + 12 + h, c]):
                        gap = forecast[h, c] - targets[n, start + 12 + h, c]
                        gaps.setdefault((n, c), []).append(float(gap))
    squared, absolute = errors_by_series(student, series, most)
    if most is None:
        for (n, c), own in gaps.items():
            assert squared[n, c].item() == pytest.approx(np.square(own).mean(), rel=1e-5)
            assert absolute[n, c].item() == pytest.approx(np.abs(own).mean(), rel=1e-5)
        one = errors_by_series(student, Gappy(series.values[0], series.targets[0]))[0]
        torch.testing.assert_close(one, squared[0])
    assert errors(student, series, most).mse == pytest.approx(squared.mean().item())
    complete = Gappy(series.values, series.values.clone())
    torch.testing.assert_close(
        errors_by_series(student, complete, most), errors_by_series(student, series.values, most)
    )


def test_a_diverged_student_has_no_finite_error() -> None:
    student = build("dlinear", 12, 6, 1, 0)
    with torch.no_grad():
        student.trend.bias.fill_(torch.nan)
    values = torch.zeros(30, 1)
    assert np.isnan(errors(student, Gappy(values, values)).mse)


def test_naive_forecasts_count_observed_targets_only() -> None:
    frame = gappy_frame()
    panel = hdt.load(frame)
    scaled, observed = panel.part("test", 24), panel.part("test", 24, gaps=True)
    gaps: list[list[float]] = [[], []]
    for t in range(24, len(scaled) - 6 + 1):
        for h in range(6):
            for c in range(2):
                if not np.isnan(observed[t + h, c]):
                    gaps[c].append(observed[t + h, c] - scaled[t - 24 + h, c])
    found = naive.score(panel, "last season", 6)
    assert found is not None
    assert found["mse"] == pytest.approx(np.mean([np.square(own).mean() for own in gaps]))
    train = panel.part("train", gaps=True)
    pairs = [[abs(a - b) for a, b in zip(x[24:], x[:-24], strict=True) if np.isfinite(a - b)] for x in train.T]
    np.testing.assert_allclose(naive.scale(panel), [np.mean(own) for own in pairs])


def test_the_protocol_scores_what_was_observed_and_trains_on_what_fills_the_rest() -> None:
    panel = hdt.load(gappy_frame())
    evaluator = Evaluator(panel, 12, 6)
    assert isinstance(evaluator.val, Gappy) and isinstance(evaluator.test, Gappy)
    assert evaluator.train.isfinite().all()
    found = evaluator.score("dlinear", evaluator.train[None], 0)
    student, _ = evaluator.trained("dlinear", evaluator.train[None], 0, evaluator.trainings("dlinear")[0])
    assert evaluator.test_errors(student)["mse"] == pytest.approx(errors(student, evaluator.test).mse)
    assert all(np.isfinite(value) for value in found.values())
    complete = Evaluator(hdt.load(make_frame()), 12, 6)
    assert isinstance(complete.val, torch.Tensor) and isinstance(complete.test, torch.Tensor)


def test_a_run_tells_shares_and_is_evaluated_updated_and_not_fine_tuned(run: Run, tmp_path: Path) -> None:
    frame = gappy_frame().rename_axis("date")
    frame.iloc[:360].to_csv(tmp_path / "a.csv")
    frame.iloc[360:].to_csv(tmp_path / "b.csv")
    words = [
        "--method",
        "wiener",
        "--length=48",
        "--context=12",
        "--horizon=6",
        "--iterations=3",
        "--option=features=8",
    ]
    found = run("distill", tmp_path / "a.csv", *words, "--split", "0.7,0.1,0.2", "--out", "r")
    assert found.code == 0 and "'wind': " in found.err and "masked" in found.err
    told = json.loads(Path("r/run.json").read_text())["data"]["missing"]
    assert told == pytest.approx(dict(frame.iloc[:252].isna().mean()))
    result = run("evaluate", "r", "--seeds", "1", "--json")
    assert result.code == 0
    refused(
        run("finetune", "r", "--model", "dlinear", "--out", "f"),
        "missing values are masked, and fine-tuning would be scored",
    )
    assert run("distill", tmp_path / "a.csv", *words, "--split", "1,0,0", "--state", "--out", "s").code == 0
    assert run("update", "s", tmp_path / "b.csv", "--out", "u").code == 0
    told = json.loads(Path("u/run.json").read_text())["data"]["missing"]
    assert told == pytest.approx(dict(frame.isna().mean()))


def test_validation_and_test_change_no_byte() -> None:
    frame = gappy_frame()
    poisoned = frame.copy()
    poisoned.iloc[280:] = 1e6 * np.random.default_rng(1).normal(size=(120, 2))
    one, other = (hdt.distill(each, **QUICK) for each in (frame, poisoned))
    assert one.values.tobytes() == other.values.tobytes()


def test_series_of_unequal_length_with_gaps_work(tmp_path: Path) -> None:
    frame = long_gappy_frame()
    panel = hdt.load(frame)
    made = hdt.distill(panel, **{**QUICK, "channels": 1, "draws": 1})
    assert np.isfinite(made.values).all()
    assert set(made.info.data.missing) == {"load", "wind"}
    table = hdt.evaluate(made, seeds=1)
    assert np.isfinite(table["mse"]).all() and np.isfinite(table["mase"]).all()


def test_a_table_in_files_is_filled_as_one_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CHANNELS", 1)
    frame = gappy_frame().rename_axis("date")
    frame.to_parquet(tmp_path / "a.parquet")
    held = hdt.load(frame)
    monkeypatch.setattr(stored, "IN_MEMORY", 0)
    panel = hdt.load(tmp_path / "a.parquet")
    assert panel.stored
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(panel.original(part), held.original(part))
    assert panel.survey.missing == held.survey.missing and panel.train_sha256 == held.train_sha256
    assert [note for note in panel.notices if "masked" in note]
    assert Panel.from_frame(frame).train_sha256 == held.train_sha256
