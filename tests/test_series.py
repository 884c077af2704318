from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from conftest import make_frame
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hdt.data.datasets import load
from hdt.data.frames import format_step, parse_step
from hdt.data.series import Panel, Scaler
from hdt.system.errors import InputError


def as_long(frame: pd.DataFrame, names: tuple[str, str, str] = ("unique_id", "ds", "y")) -> pd.DataFrame:
    id_column, time, target = names
    wide = frame.rename_axis(time).reset_index()
    return wide.melt(time, var_name=id_column, value_name=target)[[id_column, time, target]]


@given(arrays(np.float64, st.tuples(st.integers(3, 30), st.integers(1, 4)), elements=st.floats(-1e6, 1e6)))
def test_scaling_and_back_loses_nothing(values: np.ndarray) -> None:
    scaler = Scaler.fit(values)
    np.testing.assert_allclose(scaler.inverse(scaler.transform(values)), values, rtol=1e-9, atol=1e-6)


def test_the_scaler_sees_the_training_part_only(frame: pd.DataFrame) -> None:
    panel = load(frame, split=(0.5, 0.25, 0.25))
    np.testing.assert_allclose(panel.scaler.mean, frame.iloc[:200].mean())
    np.testing.assert_allclose(panel.scaler.std, frame.iloc[:200].std(ddof=0))


def test_parts_follow_the_borders_and_start_a_context_early(frame: pd.DataFrame) -> None:
    panel = load(frame, split=(0.7, 0.1, 0.2))
    assert panel.borders == (280, 320, 400)
    whole = panel.scaler.transform(frame.to_numpy())
    np.testing.assert_array_equal(panel.part("train"), whole[:280])
    np.testing.assert_array_equal(panel.part("val", context=12), whole[268:320])
    np.testing.assert_array_equal(panel.part("test", context=12), whole[308:])


def test_end_rows_are_borders_too(frame: pd.DataFrame) -> None:
    assert load(frame, split=(200, 300, 350)).borders == (200, 300, 350)


@pytest.mark.parametrize(
    "split", [(0.5, 0.5, 0.5), (0.0, 0.5, 0.5), (300, 200, 400), (100, 200, 401), (1, 2), (1.5, -1, 0.5)]
)
def test_impossible_splits_are_refused(frame: pd.DataFrame, split: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"split|borders"):
        load(frame, split=split)


def layouts() -> dict[str, Callable[[pd.DataFrame], pd.DataFrame]]:
    return {
        "wide": lambda f: f.rename_axis("when"),
        "wide without a name": lambda f: f,
        "wide, timezone": lambda f: f.tz_localize("UTC"),
        "time column": lambda f: f.rename_axis("date").reset_index(),
        "text stamps": lambda f: f.rename_axis("date").reset_index().astype({"date": str}),
        "long": as_long,
    }


@pytest.mark.parametrize("layout", layouts())
def test_values_come_back_in_the_callers_layout(frame: pd.DataFrame, layout: str) -> None:
    given = layouts()[layout](frame)
    panel = load(given)
    back = panel.layout.frame(panel.values, panel.index, panel.columns)
    expected = given
    if layout == "text stamps":
        expected = given.assign(date=pd.to_datetime(given["date"]))
    pd.testing.assert_frame_equal(back, expected, check_freq=False, check_index_type=False, check_column_type=False)


def test_long_frames_may_use_other_names(frame: pd.DataFrame) -> None:
    long = as_long(frame, ("meter", "hour", "kwh"))
    panel = load(long, id_column="meter", time_column="hour", target_column="kwh")
    assert panel.columns == ("load", "wind")
    back = panel.layout.frame(panel.values, panel.index, panel.columns)
    assert list(back.columns) == ["meter", "hour", "kwh"]
    np.testing.assert_allclose(back["kwh"], long["kwh"])


@pytest.mark.parametrize("freq", ["h", "15min", "D", "7D", "MS", "QS-OCT", "B"])
def test_steps_survive_the_run_file(freq: str) -> None:
    index = pd.date_range("2024-01-01", periods=40, freq=freq)
    panel = Panel.from_frame(pd.DataFrame({"a": np.arange(40.0)}, index=index))
    step = parse_step(format_step(panel.step))
    assert (pd.date_range(index[0], periods=40, freq=step) == index).all()


def test_few_holes_are_interpolated_and_noted(frame: pd.DataFrame) -> None:
    frame.iloc[[3, 4], 0] = np.nan
    frame.iloc[7, 1] = np.inf
    panel = load(frame)
    train = panel.scaler.inverse(panel.part("train"))
    np.testing.assert_allclose(train[[3, 4], 0], np.interp([3, 4], [2, 5], frame["load"].iloc[[2, 5]]))
    np.testing.assert_allclose(train[7, 1], frame["wind"].iloc[[6, 8]].mean())
    assert [n for n in panel.notices if "'load'" in n and "2 missing" in n]
    assert [n for n in panel.notices if "'wind'" in n and "1 missing" in n]


def test_holes_are_filled_within_their_part_only(frame: pd.DataFrame) -> None:
    frame.iloc[279, 0] = np.nan  # last training row: no peek at the next part
    panel = load(frame)
    assert panel.scaler.inverse(panel.part("train"))[-1, 0] == pytest.approx(frame["load"].iloc[278])


def test_missing_policies(frame: pd.DataFrame) -> None:
    one, many = frame.copy(), frame.copy()
    one.iloc[5, 0] = np.nan
    many.iloc[:60, 0] = np.nan
    with pytest.raises(InputError, match=r"'load' misses 0.4% of its train values \(first at row 5\)"):
        load(one, missing="error")
    with pytest.raises(InputError, match=r"'load' misses 21.4%.*more than 5%"):
        load(many)
    assert np.isfinite(load(many, missing="interpolate").part("train")).all()
    with pytest.raises(InputError, match="choose auto, error or interpolate"):
        load(one, missing="drop")  # type: ignore[arg-type]


def test_a_column_without_any_training_value_is_refused(frame: pd.DataFrame) -> None:
    frame.iloc[:280, 1] = np.nan
    with pytest.raises(InputError, match=r"'wind' misses 100.0% of its train values"):
        load(frame, missing="interpolate")


def test_a_constant_column_is_kept_and_noted(frame: pd.DataFrame) -> None:
    frame["flat"] = 0.1
    panel = load(frame)
    assert "column 'flat' is constant on the training part; kept, scaled to zero" in panel.notices
    assert (panel.part("train")[:, 2] == 0).all()
    np.testing.assert_array_equal(panel.scaler.inverse(np.zeros((3, 3)))[:, 2], 0.1)


def broken() -> dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]]:
    def repeat(f: pd.DataFrame) -> pd.DataFrame:
        return f.iloc[[0, 1, 2, 2, *range(3, 50)]]

    def shuffle(f: pd.DataFrame) -> pd.DataFrame:
        return f.iloc[[0, 1, 3, 2, *range(4, 50)]]

    def unequal(f: pd.DataFrame) -> pd.DataFrame:
        return as_long(f).iloc[:-3]

    return {
        "empty": (lambda f: f.iloc[:0], "empty"),
        "no columns": (lambda f: f[[]], "empty"),
        "text column": (lambda f: f.assign(note="a"), r"column 'note' is not numeric.*row 0: 'a'"),
        "numbers as text": (lambda f: f.assign(n=["1"] * 399 + ["x"]), r"column 'n' is not numeric.*row 399: 'x'"),
        "flags": (lambda f: f.assign(on=True), "column 'on' is not numeric"),
        "complex": (lambda f: f.assign(z=1j), "column 'z' is complex"),
        "no stamps": (lambda f: f.reset_index(drop=True), r"no timestamps found \(columns: load, wind\)"),
        "integer stamps": (lambda f: f.reset_index(drop=True).rename_axis("date").reset_index(), "holds numbers"),
        "unparsable": (
            lambda f: (
                f.rename_axis("date").reset_index().astype({"date": str}).replace({"date": {str(f.index[7]): "?"}})
            ),
            r"unparsable timestamp '\?' in column 'date', row 7",
        ),
        "repeated stamp": (repeat, "rows 2 and 3 carry the same stamp 2024-01-01 02:00:00"),
        "unsorted": (shuffle, r"row 3 \(2024-01-01 02:00:00\) comes before row 2"),
        "irregular": (
            lambda f: f.drop(f.index[9]),
            r"irregular step at row 9: 2024-01-01 08:00:00 to 2024-01-01 10:00",
        ),
        "two rows": (lambda f: f.iloc[:2], "2 rows are too few"),
        "same name": (lambda f: f.rename(columns={"wind": "load"}), "column 'load' appears twice"),
        "all missing": (lambda f: f * np.nan, "no finite value"),
        "long, repeated": (
            lambda f: as_long(f).iloc[[0, 0, *range(1, 800)]],
            "row 1 repeats stamp 2024-01-01 00:00:00",
        ),
        "long, unequal": (unequal, r"series 'wind' has 397 rows .* series 'load' has 400"),
        "long, no time": (lambda f: as_long(f).drop(columns="ds"), "no timestamps found"),
    }


@pytest.mark.parametrize("case", broken())
def test_bad_frames_are_refused_with_the_place(frame: pd.DataFrame, case: str) -> None:
    spoil, message = broken()[case]
    with pytest.raises(InputError, match=message) as caught:
        load(spoil(frame))
    assert "\n" not in str(caught.value)


def test_something_else_than_a_frame_is_refused() -> None:
    with pytest.raises(InputError, match="expected a pandas DataFrame, got list"):
        Panel.from_frame([1, 2, 3])  # type: ignore[arg-type]


def test_the_fingerprint_depends_on_the_training_part_only() -> None:
    first, second, third = make_frame(), make_frame(), make_frame()
    second.iloc[300:] = np.nan
    third.iloc[10, 0] += 1
    prints = [Panel.from_frame(f).train_sha256() for f in (first, second, third)]
    assert prints[0] == prints[1] != prints[2]
