"""Rows at any times on a declared grid, with pandas' own resample as the oracle."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Result, make_frame, refused
from hypothesis import assume, given
from hypothesis import strategies as st

import hdt
from hdt.data import datasets, stored
from hdt.data.datasets import load
from hdt.data.frames import format_step, parse_step
from hdt.data.layout import Layout
from hdt.system.errors import InputError

Run = Callable[..., Result]
RULES = ("7min", "15min", "h", "6h", "7h", "D", "2D", "B", "W", "W-WED", "MS", "ME", "2MS", "QS", "QE", "QS-FEB", "YS")
ZONES = (None, "UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata", "Australia/Lord_Howe")
QUICK = ["--method", "wiener", "--length=48", "--context=12", "--horizon=6", "--iterations=3", "--option=features=8"]


def events(rows: int = 1600, seed: int = 0, hours: int = 400) -> pd.DataFrame:
    """Rows of :func:`make_frame`'s signal at random times, unsorted, two of them repeated."""
    rng = np.random.default_rng(seed)
    seconds = rng.permutation(np.r_[rng.integers(0, hours * 3600, rows - 4), 0, 5, 5, hours * 3600 - 1])
    values = 5 + np.sin(2 * np.pi * seconds[:, None] / 86_400 + np.arange(2)) + 0.1 * rng.normal(size=(rows, 2))
    index = pd.Timestamp("2024-01-01") + pd.to_timedelta(seconds, unit="s")
    return pd.DataFrame(values, pd.DatetimeIndex(index, name="date"), ["load", "wind"])


def long_of(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.reset_index().melt("date", var_name="unique_id", value_name="y").rename(columns={"date": "ds"})


@pytest.mark.parametrize("rule", ["15min", "h", "2h", "D"])
@pytest.mark.parametrize("how", ["mean", "sum", "min", "max", "median", "first", "last", "count"])
def test_values_are_those_of_pandas(rule: str, how: str) -> None:
    frame = events()
    frame.iloc[3] = np.nan
    more = {"min_count": 1} if how == "sum" else {}
    expected = getattr(frame.sort_index(kind="stable").resample(rule), how)(**more).astype(np.float64)
    for table, columns in ((frame, ["load", "wind"]), (long_of(frame), ["load", "wind"])):
        panel = load(table, resample=f"{rule}:{how}", split=(1, 0, 0))
        found = pd.DataFrame(panel.values, panel.index, columns)
        pd.testing.assert_frame_equal(found, expected, check_names=False, check_freq=False)
    empty = len(expected) - frame.resample(rule).size().astype(bool).sum()
    told = f"1,600 rows resampled to {len(expected):,} steps of {rule}, by {how}"
    told += f"; {empty} steps without a row {'are zero' if how == 'count' else 'count as missing'}" if empty else ""
    assert load(frame, resample=f"{rule}:{how}").notices[0] == told
    assert load(frame, resample=rule).values.tobytes() == load(frame, resample=f"{rule}:mean").values.tobytes()


@given(
    st.sampled_from(RULES), st.sampled_from(ZONES), st.sampled_from(["s", "us", "ns"]), st.integers(0, 2**32 - 1),
    st.sampled_from(["wide", "column", "long"]), st.sampled_from([None, "when"]),
)  # fmt: skip
def test_a_callers_index_comes_back_from_any_calendar(
    rule: str, zone: str | None, unit: str, seed: int, layout: str, name: str | None
) -> None:
    rng = np.random.default_rng(seed)
    grid = pd.date_range("2017-09-25" if seed % 2 else "2023-03-01", periods=41, freq=rule, unit=unit)
    gaps = np.diff(grid.asi8)
    times = np.concatenate([grid.asi8[:-1] + (rng.random(40) * gaps).astype(int) for _ in range(3)])
    stamps = pd.DatetimeIndex(rng.permutation(times).astype(f"datetime64[{unit}]"), name=name)
    local = stamps.tz_localize(zone, ambiguous=True, nonexistent="shift_forward") if zone else stamps
    frame = pd.DataFrame({"a": rng.normal(size=120), "b": rng.normal(size=120)}, local)
    try:
        expected = frame.sort_index(kind="stable").resample(rule).mean()
    except Exception as error:  # midnights that clocks skip
        assume("2017-10-15" not in str(error))
        raise
    given_ = frame
    if layout != "wide":
        given_ = frame.rename_axis("date").reset_index()
    if layout == "long":
        given_ = long_of(frame.rename_axis("date"))
    try:
        panel = load(given_, resample=rule, missing="mask", split=(1, 0, 0))
    except InputError as error:
        assume(zone != "America/Sao_Paulo" or "choose another, or give stamps in UTC" not in str(error))
        raise
    told = json.loads(json.dumps([vars(panel.layout), format_step(panel.step), str(panel.index[0])]))
    kept, step = Layout(**told[0]), parse_step(told[1])
    index = kept.stamps(told[2], step, len(expected))
    assert index.equals(expected.index) and index.dtype == expected.index.dtype == panel.index.dtype
    assert rule.startswith("W") or index.freq == expected.index.freq
    back = kept.frame(panel.values, index, kept.own(panel.columns))
    if layout == "column":
        back = back.set_index("date").rename_axis(name)
    elif layout == "long":
        assert list(back.columns) == ["unique_id", "ds", "y"]
        back = back.pivot(index="ds", columns="unique_id", values="y").rename_axis(index=name, columns=None)
    pd.testing.assert_frame_equal(back, expected, check_freq=False)
    assert back.index.name == name


@pytest.mark.parametrize(
    ("given_", "rule", "expected"),
    [
        ("h", "D", "D"), ("h", "6h", "6h"), ("D", "MS", "M"), ("D", "ME", "M"), ("D", "QE", "Q-DEC"),
        ("D", "W", "W-SUN"),
    ],
)  # fmt: skip
def test_periods_come_back_as_periods_of_the_new_step(given_: str, rule: str, expected: str) -> None:
    frame = make_frame(2000).set_axis(pd.period_range("2020-01-06", periods=2000, freq=given_))
    panel = load(frame, resample=rule, split=(1, 0, 0))
    back = panel.layout.frame(panel.values, panel.index, panel.columns)
    assert isinstance(back.index, pd.PeriodIndex) and back.index.freqstr == expected
    wanted = frame.set_axis(frame.index.to_timestamp()).resample(rule).mean()
    np.testing.assert_allclose(back, wanted)
    assert (back.index == wanted.index.to_period(expected)).all()


def test_steps_of_which_there_are_no_periods_come_back_as_stamps() -> None:
    frame = make_frame().set_axis(pd.period_range("2024-01-01", periods=400, freq="D"))
    panel = load(frame, resample="B")
    back = panel.layout.frame(panel.values, panel.index, panel.columns)
    assert back.index.equals(frame.to_timestamp().resample("B").mean().index)


def test_hours_that_clocks_skip_or_repeat() -> None:
    """Of local stamps without a zone one hour is missing and one holds twice as many rows; those with one have all."""
    true = pd.date_range("2024-03-25", "2024-11-05", freq="20min", tz="Europe/Berlin")
    frame = pd.DataFrame({"a": np.ones(len(true))}, true)
    hours = len(true) // 3
    panel = load(frame, resample="h:sum", split=(1, 0, 0))
    assert len(panel.values) == hours + 1 and (panel.values[:-1] == 3).all()
    local = load(frame.tz_localize(None), resample="h:sum", split=(1, 0, 0))
    values = pd.Series(local.values[:, 0], local.index)
    assert np.isnan(values["2024-03-31 02:00"]) and values["2024-10-27 02:00"] == 6
    assert (values.drop(pd.to_datetime(["2024-03-31 02:00", "2024-10-27 02:00"]))[:-1] == 3).all()


def test_numbered_rows_have_grids_too() -> None:
    numbers = pd.Index([3, 4, 10, 31, 12, 33, 34], name="time")
    frame = pd.DataFrame({"a": np.arange(7.0)}, numbers)
    panel = load(frame, resample="10:sum", split=(1, 0, 0), missing="mask")
    assert panel.index.tolist() == [0, 10, 20, 30] and panel.step == 10
    np.testing.assert_array_equal(panel.values[:, 0], [1, 6, np.nan, 14])
    assert load(frame, resample=10).columns == ("a",) and load(frame, resample="10:count").values[2, 0] == 0
    gap = make_frame(100).set_axis(pd.RangeIndex(0, 500, 5, name="time")).drop(45)
    with pytest.raises(InputError, match="irregular step at row 9: 40 to 50, elsewhere 5; with --freq 5 the absent"):
        load(gap)
    for freq in ("5", 5):
        whole = load(gap, freq=freq)
        assert whole.step == 5 and np.isnan(whole.values[9]).all() and len(whole.values) == 100
    with pytest.raises(InputError, match=r"row 1 \(5\) is on no step of 10"):
        load(gap, freq=10)


def test_series_of_a_long_table_share_a_grid_or_begin_when_they_do() -> None:
    frame, late = events(), events(800, seed=1, hours=390)
    both = pd.concat([long_of(frame)[:1600], long_of(late)[800:]])
    panel = load(both, resample="h", split=(1, 0, 0))
    assert panel.starts is None and panel.columns == ("load", "wind") and len(panel.values) == 400
    expected = frame["load"].resample("h").mean()
    np.testing.assert_allclose(panel.values[:, 0], expected)
    np.testing.assert_allclose(panel.values[:390, 1], late["wind"].resample("h").mean())
    assert np.isnan(panel.values[390:, 1]).all()
    short = both[(both["unique_id"] == "load") | (both["ds"] < "2024-01-10 12:00")]
    apart = load(short, resample="h", split=(0.5, 0.2, 0.3))
    assert apart.starts is not None and apart.starts.tolist() == [0, 400 - 228]
    np.testing.assert_allclose(apart.values[:, 0], expected)
    np.testing.assert_allclose(apart.values[172:, 1], late["wind"].resample("h").mean()[:228])


@pytest.mark.parametrize("spoil", ["irregular", "repeated", "unsorted", "long, repeated", "long, unsorted", "numbers"])
def test_the_hint_works_as_printed(spoil: str) -> None:
    frame = events().sort_index()
    unique = frame[~frame.index.duplicated()]
    table = {
        "irregular": unique,
        "repeated": frame,
        "unsorted": unique.iloc[[1, 0, *range(2, len(unique))]],
        "long, repeated": long_of(frame),
        "long, unsorted": long_of(unique.iloc[[1, 0, *range(2, len(unique))]]),
        "numbers": unique.set_axis(pd.Index((unique.index - unique.index[0]).total_seconds().astype(int), name="time")),
    }[spoil]
    with pytest.raises(InputError, match=r"aggregate rows with --resample") as caught:
        load(table)
    hint = re.search(r"--resample (\S+) \(their means; (\S+) adds them up\)", str(caught.value))
    assert hint is not None and "\n" not in str(caught.value)
    panel = load(table, resample=hint[1])
    assert hint[1] == ("10min" if spoil != "numbers" else hint[1]) and 400 <= len(panel.values) <= 4800
    assert load(table, resample=hint[2]).notices[0].split(";")[0].endswith(", by sum")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("often", "resample='often': 'often' is no frequency of pandas, such as h, 15min, D"),
        (":sum", "'' is no frequency of pandas"),
        ("h:average", "after the colon comes one of mean, sum, min, max, median, first, last, count"),
        ("h:", "after the colon comes one of"),
        ("s", "resample='s' is far too fine for 1600 rows from 2024-01-01"),
        ("0h", "far too fine"),
        ("-1h", "far too fine"),
        ("bh", "pandas cannot resample these stamps"),
        (True, "'True' is no frequency"),
    ],
)
def test_rules_that_make_no_grid_are_refused(rule: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(events(), resample=rule)
    assert "\n" not in str(caught.value)


def test_other_mistakes_are_refused() -> None:
    with pytest.raises(InputError, match="--freq and --resample are two ways"):
        load(events(), resample="h", freq="h")
    with pytest.raises(InputError, match="'h' is for stamps, not for numbered rows; give a whole number such as 5"):
        load(make_frame().set_axis(pd.RangeIndex(400, name="time")), resample="h")
    with pytest.raises(InputError, match=r"column 'note' is not numeric.*row 0: 'a'"):
        load(events().assign(note="a"), resample="h")
    with pytest.raises(InputError, match=r"column 'y' is not numeric"):
        load(long_of(events()).assign(y="a"), resample="h")


def test_validation_and_test_change_no_byte() -> None:
    frame = events()
    border = load(frame, resample="h").index[280]
    poisoned = frame.mask(np.broadcast_to((frame.index >= border)[:, None], frame.shape))
    given_ = {"length": 48, "context": 12, "horizon": 6, "iterations": 3, "method": "wiener", "features": 8}
    one, other = (hdt.distill(each, resample="h", **given_) for each in (frame, poisoned))
    assert one.values.tobytes() == other.values.tobytes() and one.info.scaler_mean == other.info.scaler_mean


def test_a_run_keeps_its_rule_for_all_that_reads_its_table(run: Run) -> None:
    frame = events().sort_index()
    early, late = frame[:"2024-01-14"], frame["2024-01-15":]
    early.to_csv("a.csv")
    late.sample(frac=1, random_state=0).to_csv("b.csv")
    pd.concat([late, early]).to_csv("all.csv")
    words = ["distill", "a.csv", *QUICK, "--split", "0.7,0.1,0.2"]
    refused(run(*words, "--out", "r"), "--resample 10min")
    done = run(*words, "--resample", "h", "--out", "r")
    assert done.code == 0 and "rows resampled to 336 steps of h, by mean" in done.err
    assert hdt.Distilled.load("r").info.data.load_options["resample"] == "h"
    assert run("evaluate", "r", "--seeds", "1", "--json").code == 0
    early.iloc[::-1].to_csv("copy.csv")
    assert run("evaluate", "r", "--seeds", "1", "--data", "copy.csv").code == 0
    first = Path("r/recipe.yaml").read_text().splitlines()[0]
    assert first.endswith("--resample h --split 0.7,0.1,0.2")
    for again in (["distill", "--recipe", "r/recipe.yaml"], shlex.split(first.removeprefix("# hdt"))):
        assert run(*again, "--out", "again", "--force").code == 0
        assert Path("r/params.safetensors").read_bytes() == Path("again/params.safetensors").read_bytes()
    whole = ["distill", "a.csv", *QUICK, "--resample", "h", "--split", "1,0,0", "--state", "--out", "s"]
    assert run(*whole).code == 0 and run("update", "s", "b.csv", "--out", "u").code == 0
    assert run("evaluate", "u", "--seeds", "1", "--data", "all.csv").code == 2  # no rows follow those it has seen
    told = json.loads(run("data", "info", "a.csv", "--resample", "h:max", "--json").out)
    assert told["rows"] == 336 and "by max" in told["notices"][0]
    compared = ["compare", "a.csv", "--length", 48, "--context", 12, "--horizon", 6, "--method", "random"]
    found = run(*compared, "--student", "dlinear", "--seeds", 1, "--resample", "h", "--json")
    assert found.code == 0, found.err
    stamps = hdt.Distilled.load("r").to_frame()["date"]
    assert stamps.tolist() == pd.date_range("2024-01-01", periods=48, freq="h").tolist()


def test_files_too_large_for_memory_are_read_whole_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "IN_MEMORY", 0)
    events().to_parquet(tmp_path / "a.parquet")
    assert not load(tmp_path / "a.parquet", resample="h").stored
    monkeypatch.setattr(datasets, "memory_mb", lambda: 0.01)
    with pytest.raises(
        InputError, match="--freq, --resample and --transform need all of its values at once, about 0 MB, and the"
    ):
        load(tmp_path / "a.parquet", resample="h")
