"""Series of unequal length: from a long table to prototypes, their evaluation, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Result, make_frame

import hdt
from hdt.evaluation import naive
from hdt.evaluation.protocol import Evaluator
from hdt.maths import blocks, moments
from hdt.maths.distance import nearest_distance
from hdt.maths.spectrum import mean_spectrum
from hdt.start import random_set
from hdt.students import Training, build
from hdt.training.errors import errors, errors_by_series
from hdt.training.fit import _Students

Run = Callable[..., Result]
LENGTHS = {"a": 150, "b": 90, "c": 150, "d": 200, "e": 90, "f": 31}
WINDOW: dict[str, Any] = {"length": 48, "context": 12, "horizon": 6}
QUICK = {**WINDOW, "method": "wiener", "iterations": 3, "features": 8, "draws": 1, "channels": 2}


def long_frame(lengths: dict[str, int] = LENGTHS, end: str | None = None) -> pd.DataFrame:
    """Series of a daily cycle and noise, of own level and scale; they begin together, or end at ``end``."""
    parts = []
    for n, (name, rows) in enumerate(lengths.items()):
        values = 10 * n + (n + 1) * make_frame(rows, ("y",), seed=n)["y"].to_numpy()
        stamps = pd.date_range("2024-01-01" if end is None else None, end=end, periods=rows, freq="h")
        parts.append(pd.DataFrame({"unique_id": name, "ds": stamps, "y": values}))
    return pd.concat(parts, ignore_index=True)


def own(name: str, frame: pd.DataFrame | None = None) -> np.ndarray:
    frame = long_frame() if frame is None else frame
    return frame.loc[frame["unique_id"] == name, "y"].to_numpy()


def test_series_are_aligned_at_their_ends() -> None:
    panel = hdt.load(long_frame())
    assert panel.columns == tuple("abcdef") and panel.unequal and panel.starts is not None
    assert panel.starts.tolist() == [50, 110, 50, 0, 110, 169] and panel.values.shape == (200, 6)
    for c, name in enumerate(LENGTHS):
        np.testing.assert_array_equal(panel.values[200 - LENGTHS[name] :, c], own(name))
        assert np.isnan(panel.values[: 200 - LENGTHS[name], c]).all()
    assert "6 series of 31 to 200 rows, aligned at their ends" in panel.notices
    assert not hdt.load(long_frame({"a": 90, "b": 90})).unequal
    assert hdt.load(long_frame({"a": 90, "b": 90}).assign(ds=[*range(90), *range(7, 97)])).unequal


def test_the_last_windows_validate_and_test_and_short_series_are_named() -> None:
    panel = hdt.load(long_frame()).for_windows(12, 6)
    assert panel.columns == tuple("abcdef") and panel.borders == (188, 194, 200)
    smaller = hdt.load(long_frame()).for_windows(16, 8)  # 16 + 8 + 2 · 8 = 40 rows are needed
    assert smaller.columns == tuple("abcde") and smaller.borders == (184, 192, 200)
    assert "1 of 6 series have fewer than 40 rows: left out (first 'f' with 31)" in smaller.notices
    longest = hdt.load(long_frame()).for_windows(50, 40)  # 170: d alone, which is a panel like any other then
    assert longest.columns == ("d",) and not longest.unequal and longest.borders == (120, 160, 200)
    with pytest.raises(hdt.InputError, match=r"no series has the 240 rows .* the longest has 200"):
        hdt.load(long_frame()).for_windows(60, 60)
    with pytest.raises(hdt.InputError, match="no series has the 30 rows"):
        hdt.distill(long_frame({"a": 10, "b": 12}), **QUICK)


def test_a_series_begins_with_its_first_value_and_one_without_any_is_left_out() -> None:
    frame = long_frame({"a": 150, "b": 90, "c": 60})
    frame.loc[(frame["unique_id"] == "c"), "y"] = np.nan
    frame.loc[frame.index[:20], "y"] = np.nan  # of a
    panel = hdt.load(frame)
    assert panel.columns == ("a", "b") and panel.starts is not None and panel.starts.tolist() == [0, 40]
    assert "series of fewer than 3 rows are left out: 1 (first 'c')" in panel.notices
    np.testing.assert_array_equal(panel.values[:, 0], own("a", frame)[20:])


def test_a_split_that_was_asked_for_is_that_of_the_shortest_series() -> None:
    panel = hdt.load(long_frame({"a": 100, "b": 200}), split=[0.6, 0.2, 0.2])
    assert panel.borders == (160, 180, 200) and panel.for_windows(12, 6).borders == (160, 180, 200)


def test_every_series_is_scaled_by_its_own_training_rows() -> None:
    panel = hdt.load(long_frame()).for_windows(12, 6)
    train = panel.part("train")
    for c, name in enumerate(LENGTHS):
        values = own(name)[:-12]
        np.testing.assert_allclose(train[188 - len(values) :, c], (values - values.mean()) / values.std(), rtol=1e-9)
        assert np.isnan(train[: 188 - len(values), c]).all()
        test = (own(name)[-18:] - values.mean()) / values.std()
        np.testing.assert_allclose(panel.part("test", context=12)[:, c], test, rtol=1e-9)
    assert panel.train_numbers == sum(LENGTHS.values()) - 6 * 12


def test_holes_within_a_series_are_filled_and_what_comes_before_it_is_not() -> None:
    frame = long_frame()
    frame.loc[(frame["unique_id"] == "b") & (frame.index % 40 == 0), "y"] = np.nan
    panel = hdt.load(frame).for_windows(12, 6)
    train = panel.part("train")
    assert np.isfinite(train[110:, 1]).all() and np.isnan(train[:110, 1]).all()
    gap = frame.drop(frame.index[160])  # row 10 of b
    with pytest.raises(hdt.InputError, match="series 'b': irregular step at row 10"):
        hdt.load(gap)
    filled = hdt.load(gap, freq="h").for_windows(12, 6)
    assert filled.unequal and np.isfinite(filled.part("train")[110:, 1]).all()


@pytest.mark.parametrize("parts", [1, 3])
def test_moments_and_spectra_add_up_over_series(parts: int) -> None:
    panel = hdt.load(long_frame()).for_windows(12, 6)
    train = torch.tensor(panel.part("train"))
    alone = [train[~train[:, c].isnan(), c : c + 1] for c in range(6)]
    whole = moments.gram(train, 18)
    torch.testing.assert_close(whole, torch.stack([moments.gram(x, 18) for x in alone]).sum(dim=0))
    found = moments.stream(train, 12, 6, lambda w: (w[:, :12], w[:, 12:]), stride=parts)
    byhand = [x[s : s + 18, 0] for x in alone for s in range(0, len(x) - 17, parts)]
    x, y = torch.stack(byhand)[:, :12], torch.stack(byhand)[:, 12:]
    torch.testing.assert_close(found.features, x.T @ x)
    torch.testing.assert_close(found.cross, x.T @ y)
    assert found.count == len(byhand)
    long = [x for x in alone if len(x) >= 48]
    power = mean_spectrum(train, 48).power
    each = torch.cat([mean_spectrum(x, 48).power for x in long], dim=1)
    torch.testing.assert_close(power.sum(dim=1), each.sum(dim=1))


def test_blocks_hold_series_that_begin_together() -> None:
    train = torch.tensor(hdt.load(long_frame()).values)
    found = [(index.tolist(), tuple(part.shape)) for index, part in blocks.blocks(train, 40)]
    assert found == [([3], (200, 1)), ([0, 2], (150, 2)), ([1, 4], (90, 2))]
    assert blocks.select(train, blocks.long_enough(train, 100)).shape == (150, 3)
    dense = torch.zeros(30, 2)
    assert blocks.select(dense, blocks.long_enough(dense, 9)).data_ptr() == dense.data_ptr()
    with pytest.raises(hdt.InputError, match="1 series have 160 training rows, the longest 200, and 2 are needed"):
        blocks.long_enough(train, 160, 2)


def test_training_on_all_data_takes_every_window_of_a_series_and_none_before_it() -> None:
    panel = hdt.load(long_frame()).for_windows(12, 6)
    evaluator = Evaluator(panel, 12, 6)
    assert evaluator.train.shape == (188, 6) and evaluator.test.shape == (6, 18, 1)
    alone = evaluator.train.T[..., None]
    task = _Students(build("dlinear", 12, 6, 1, 0), alone, evaluator.val, 0, Training(lr=1e-3), _running())
    assert task.count == sum(rows - 12 - 17 for rows in LENGTHS.values())
    batches = task.batches(0)
    seen = torch.cat([next(batches) for _ in range(task.epoch)])
    assert len(seen) == task.count and seen.isfinite().all()
    starts = {(round(w[0, 0].item(), 4), round(w[-1, 0].item(), 4)) for w in seen}
    train = panel.part("train").astype(np.float32)
    expected = {
        (round(float(train[t, c]), 4), round(float(train[t + 17, c]), 4))
        for c in range(6) for t in range(188 - 17) if np.isfinite(train[t, c])
    }  # fmt: skip
    assert starts == expected


def _running() -> Any:
    from hdt.training.fit import Running

    return Running()


def test_errors_are_those_of_every_series_alone() -> None:
    student, series = build("dlinear", 12, 6, 1, 0), torch.randn(5, 40, 1, generator=torch.Generator().manual_seed(0))
    squared, absolute = errors_by_series(student, series)
    alone = [errors(student, own) for own in series]
    torch.testing.assert_close(squared[:, 0], torch.tensor([e.mse for e in alone], dtype=torch.float64))
    torch.testing.assert_close(absolute[:, 0], torch.tensor([e.mae for e in alone], dtype=torch.float64))
    assert errors(student, series).mse == pytest.approx(np.mean([e.mse for e in alone]))
    some = errors(student, series, 10)  # two windows of each
    assert some.mse != errors(student, series).mse and np.isfinite(some.mse)


def test_the_scaled_error_is_that_of_hyndman_and_koehler() -> None:
    """Mean absolute error over that of the seasonal naive forecast within training, averaged over series."""
    panel = hdt.load(long_frame()).for_windows(12, 6)
    season = naive.season_of(panel)
    assert season == 24
    found = naive.score(panel, naive.LAST_VALUE, 6)
    assert found is not None
    ratios = []
    for name in LENGTHS:
        values = own(name)
        train = values[:-12]
        ratios.append(np.abs(values[-6:] - values[-7]).mean() / np.abs(train[season:] - train[:-season]).mean()
                      if len(train) > season else np.nan)  # fmt: skip
    assert found["mase"] == pytest.approx(np.nanmean(ratios), rel=1e-9)


def test_prototypes_come_back_long_with_ids_of_their_own(tmp_path: Path) -> None:
    frame = long_frame().rename(columns={"ds": "stamp"})
    distilled = hdt.distill(frame, **QUICK)
    assert distilled.values.shape == (1, 48, 2) and distilled.info.data.shortest == 31 - 12
    back = distilled.to_frame()
    assert list(back.columns) == ["unique_id", "stamp", "y"] and back["unique_id"].unique().tolist() == [
        "synthetic_1", "synthetic_2",
    ]  # fmt: skip
    assert back["stamp"].iloc[0] == pd.Timestamp("2024-01-01")
    loaded = hdt.Distilled.load(distilled.save(tmp_path / "run"))
    np.testing.assert_array_equal(loaded.values, distilled.values)
    assert "6 series of 19 to 188 rows" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    table = hdt.evaluate(loaded, frame, seeds=1)
    assert table["trained_on"].tolist() == ["distilled", "random", "full", "last value"]
    assert np.isfinite(table[["mse", "mae", "mase"]].to_numpy()).all()
    assert hdt.distill(frame, **{**QUICK, "channels": None}).values.shape[2] == 3  # eight, but at most half the series
    rows = torch.tensor(hdt.load(frame).for_windows(12, 6).part("train"))
    own = [x[~x.isnan(), None] for x in rows.T if (~x.isnan()).sum() >= 48]
    nearest = [nearest_distance(torch.tensor(distilled.values), x) for x in own]
    assert distilled.info.distance.nearest == pytest.approx(min(nearest), rel=1e-5)


SUBSET: dict[str, Any] = {**WINDOW, "channels": 2}
METHODS: dict[str, dict[str, Any]] = {
    "wiener": QUICK, "fred-wiener": QUICK, "nsd-wiener": {**QUICK, "group": 2, "instance_rank": 1, "cycle_rank": 1},
    "random": SUBSET, "herding": SUBSET, "kcenter": SUBSET,
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_validation_and_test_change_no_byte(method: str) -> None:
    frame, poisoned = long_frame(), long_frame()
    last = poisoned.groupby("unique_id").cumcount(ascending=False) < 12
    poisoned.loc[last, "y"] = np.nan
    first, second = (hdt.distill(f, **{**METHODS[method], "method": method}) for f in (frame, poisoned))
    assert first.values.tobytes() == second.values.tobytes()


def test_what_needs_common_stamps_says_so() -> None:
    with pytest.raises(
        hdt.InputError, match=r"differ in length, and objective 'harmonic' takes only .* choose --method"
    ):
        hdt.distill(long_frame(), k=6, **WINDOW)
    with pytest.raises(hdt.InputError, match="objective 'mtt' takes only"):
        hdt.distill(long_frame(), method="mtt", **WINDOW)
    distilled = hdt.distill(long_frame(), **QUICK)
    with pytest.raises(hdt.InputError, match="fine-tuning takes only series that share their stamps"):
        hdt.finetune(distilled, model="dlinear")
    with pytest.raises(hdt.InputError, match="1 series have 185 training rows, the longest 188, and 2 are needed"):
        hdt.distill(long_frame(), **{**QUICK, "length": 185})


def test_random_segments_are_real_rows_of_long_enough_series() -> None:
    panel = hdt.load(long_frame()).for_windows(12, 6)
    train = torch.tensor(panel.part("train"), dtype=torch.float32)
    drawn = random_set(train, 1, 100, 2, seed=3)
    assert drawn.shape == (1, 100, 2)
    for segment in drawn[0].T:
        places = [c for c in range(6) for t in range(89) if torch.equal(train[t : t + 100, c], segment)]
        assert len(places) == 1


def test_the_command_line_distils_evaluates_and_compares(run: Run, tmp_path: Path) -> None:
    long_frame(end="2024-03-01").to_parquet("meters.parquet")
    words = ("--context", 12, "--horizon", 6, "--length", 48)
    refused = run("distill", "meters.parquet", *words, "--k", 6)
    assert refused.code == 2 and "choose --method" in refused.err and len(refused.err.strip().splitlines()) == 1
    small = ("--option", "features=8", "--option", "draws=1", "--iterations", 3)
    done = run("distill", "meters.parquet", "--method", "wiener", *words, *small, "--channels", 2, "--out", "r")
    assert done.code == 0 and "6 series of 19 to 188 rows" in done.out
    rows = json.loads(run("evaluate", "r", "--student", "dlinear", "--seeds", 1, "--json").out)["rows"]
    assert {row["trained_on"] for row in rows} == {"distilled", "random", "full", "last value"}
    assert all(row["mase"] > 0 for row in rows)
    table = run("compare", "meters.parquet", "--method", "wiener", "--student", "dlinear", "--seeds", 1, *words,
                "--option", "features=8", "--option", "draws=1", "--option", "iterations=3", "--option", "channels=2",
                "--json")  # fmt: skip
    assert table.code == 0, table.err
    assert {row["method"] for row in json.loads(table.out)["rows"]} >= {"full", "random", "wiener", "last value"}
    info = json.loads(run("data", "info", "meters.parquet", "--json").out)
    assert "6 series of 31 to 200 rows, aligned at their ends" in info["notices"]


@pytest.mark.parametrize(
    ("name", "series", "shortest", "longest"), [("M4-Hourly", 414, 700, 960), ("M4-Weekly", 359, 80, 2597)]
)
def test_the_panels_of_m4_are_read(name: str, series: int, shortest: int, longest: int, data_dir: Path) -> None:
    panel = hdt.load(name)
    assert panel.values.shape == (longest, series) and panel.starts is not None
    assert longest - panel.starts.max() == shortest
    raw = pd.read_csv(data_dir / f"M4_{name[3:]}-train.csv", index_col=0).loc["H7" if series == 414 else "W7"].dropna()
    np.testing.assert_array_equal(panel.values[-len(raw) :, 6], raw.to_numpy())
