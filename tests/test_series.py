from __future__ import annotations

import itertools
import re
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
from hdt.data.stamps import read_times
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
    assert load(many).gappy("train") and not load(one).gappy("train")
    assert np.isfinite(load(many, missing="interpolate").part("train")).all()
    with pytest.raises(InputError, match="choose one of auto, error, interpolate, mask"):
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
        return as_long(f).iloc[[*range(400), *range(400, 800, 2)]]

    return {
        "empty": (lambda f: f.iloc[:0], "empty"),
        "no columns": (lambda f: f[[]], "empty"),
        "text column": (lambda f: f.assign(note="a"), r"column 'note' is not numeric.*row 0: 'a'"),
        "numbers as text": (lambda f: f.assign(n=["1"] * 399 + ["x"]), r"column 'n' is not numeric.*row 399: 'x'"),
        "flags": (lambda f: f.assign(on=True), "column 'on' is not numeric"),
        "complex": (lambda f: f.assign(z=1j), "column 'z' is complex"),
        "no stamps": (lambda f: f.reset_index(drop=True), r"no timestamps found \(columns: load, wind\)"),
        "fractions as stamps": (lambda f: f.set_axis(f["load"]).rename_axis("date").reset_index(), "not whole"),
        "durations": (lambda f: f.set_axis(f.index - f.index[0]).rename_axis("date"), "'date' holds durations"),
        "flags as stamps": (lambda f: f.set_axis([True] * 400).rename_axis("date"), "holds True and False"),
        "an hour as number": (
            lambda f: f.set_axis([*range(399), None]).rename_axis("time"),
            "'time' holds no value in row 399",
        ),
        "dates as numbers": (
            lambda f: f.set_axis(pd.date_range("2024-01-01", periods=400).strftime("%Y%m%d").astype(int)).rename_axis(
                "date"
            ),
            r"irregular step at row 31: 20240131 to 20240201, elsewhere 1; if these are dates written as numbers",
        ),
        "stamps of several kinds": (lambda f: f.set_axis(["2024-01-01", 5] * 200).rename_axis("date"), "several kinds"),
        "unparsable": (
            lambda f: (
                f.rename_axis("date").reset_index().astype({"date": str}).replace({"date": {str(f.index[7]): "?"}})
            ),
            r"column 'date': unparsable timestamp '\?' in row 7",
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
        "long, another step": (unequal, "series 'wind' has a step of 0 days 02:00:00, series 'load' one of 0 days 01"),
        "long, no time": (lambda f: as_long(f).drop(columns="ds"), "no timestamps found"),
    }


def long_and_broken() -> dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]]:
    def nameless(f: pd.DataFrame) -> pd.DataFrame:
        return as_long(f).assign(unique_id=lambda x: x["unique_id"].mask(x.index.isin([3, 5])))

    return {
        "no id": (nameless, r"'unique_id' has no value in 2 of 800 rows \(first at row 3\); fill them"),
        "no values": (lambda f: as_long(f).rename(columns={"y": "kwh"}), r"no column y or target \(columns: .*kwh"),
        "levels without names": (
            lambda f: as_long(f).set_index(["unique_id", "ds"]).rename_axis([None, None]),
            "2 levels without names",
        ),
        "levels of a wide table": (lambda f: f.assign(a=1).set_index("a", append=True), "levels without names"),
        "named levels of a wide table": (
            lambda f: f.rename_axis("date").assign(a=1).set_index("a", append=True),
            "for long tables only",
        ),
        "both": (lambda f: as_long(f).set_index("unique_id", drop=False), "both a column and a level"),
        "numbers and text": (
            lambda f: f.set_axis([1, "1"], axis=1),
            "columns 1 and '1' would both be called '1'; rename one",
        ),
        "ids of numbers and text": (lambda f: as_long(f.set_axis([1, "1"], axis=1)), "columns 1 and '1'"),
        "a column without a name": (
            lambda f: f.assign(**{"Unnamed: 3": 0.5}),
            "'Unnamed: 3' has no name in the header; name it, or drop it",
        ),
    }


@pytest.mark.parametrize("case", long_and_broken())
def test_bad_ids_and_names_are_refused(frame: pd.DataFrame, case: str) -> None:
    spoil, message = long_and_broken()[case]
    with pytest.raises(InputError, match=message):
        load(spoil(frame))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"id_column": "unqiue_id"}, "no column 'unqiue_id' .*; did you mean 'unique_id'"),
        ({"time_column": "dss"}, "no column 'dss' .*; did you mean 'ds'"),
        ({"target_column": "z"}, r"no column 'z' \(columns: unique_id, ds, y\)$"),
        ({"target_column": "unique_id"}, "cannot hold both"),
    ],
)
def test_a_mistyped_column_names_the_nearest(frame: pd.DataFrame, names: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(as_long(frame), **names)


def test_a_value_column_without_series_is_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="'load' is for long tables, but there is no column unique_id or item_id"):
        load(frame, target_column="load")


def test_columns_of_a_long_table_that_are_not_read_are_told(frame: pd.DataFrame) -> None:
    (notice,) = load(as_long(frame).assign(price=1.0, holiday="no")).notices
    assert "not read: price, holiday (values come from 'y'" in notice
    assert load(as_long(frame)).notices == ()


@pytest.mark.parametrize("names", [("item_id", "timestamp", "target"), ("unique_id", "ds", "y")])
@pytest.mark.parametrize("levels", [0, 1, 2])
def test_the_names_of_forecasting_libraries_are_known(
    frame: pd.DataFrame, names: tuple[str, str, str], levels: int
) -> None:
    """Columns, or ids in the index, or ids and stamps in the index: they come back as they came."""
    given = as_long(frame, names)
    given = given.set_index(list(names[:levels])) if levels else given
    panel = load(given)
    assert panel.columns == ("load", "wind")
    np.testing.assert_array_equal(panel.values, frame)
    pd.testing.assert_frame_equal(panel.layout.frame(panel.values, panel.index, panel.columns), given)


def test_stamps_of_a_long_table_may_be_its_index(frame: pd.DataFrame) -> None:
    given = as_long(frame).set_index("ds")
    panel = load(given)
    pd.testing.assert_frame_equal(panel.layout.frame(panel.values, panel.index, panel.columns), given)


def test_a_column_that_counts_the_rows_is_dropped_and_told(frame: pd.DataFrame) -> None:
    given = frame.rename_axis("date").reset_index()
    panel = load(given.rename_axis("Unnamed: 0").reset_index())
    assert panel.columns == ("load", "wind") and panel.layout.time_column == "date"
    assert panel.notices == ("column 'Unnamed: 0' only counts the rows; dropped",)
    empty = load(frame.assign(**{"Unnamed: 3": np.nan}))
    assert empty.columns == ("load", "wind") and "'Unnamed: 3' has no name and no values" in empty.notices[0]


def test_stamps_that_lost_their_name_in_a_file_are_an_index(frame: pd.DataFrame) -> None:
    panel = load(frame.rename_axis("Unnamed: 0").reset_index().astype({"Unnamed: 0": str}))
    assert panel.columns == ("load", "wind") and panel.index.equals(frame.index)
    pd.testing.assert_frame_equal(panel.layout.frame(panel.values, panel.index, panel.columns), frame, check_freq=False)


@pytest.mark.parametrize("unit", [1e-300, 1e-170, 1e-154, 1.0, 1e154, 1e200, 1e300])
def test_scaling_is_as_exact_for_very_large_and_small_values(frame: pd.DataFrame, unit: float) -> None:
    panel, usual = load(frame * unit), load(frame)
    np.testing.assert_allclose(panel.part("train"), usual.part("train"), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(panel.scaler.std / unit, usual.scaler.std, rtol=1e-12)
    np.testing.assert_allclose(panel.scaler.inverse(panel.part("train")), (frame * unit)[:280], rtol=1e-12)


def test_one_channel_may_be_tiny_and_the_next_huge(frame: pd.DataFrame) -> None:
    panel = load(frame * [1e-300, 1e300])
    np.testing.assert_allclose(panel.part("train").std(axis=0), 1, rtol=1e-12)


@pytest.mark.parametrize("unit", [1e307, 1e-308, 5e-324])
def test_values_that_cannot_be_computed_with_are_refused(frame: pd.DataFrame, unit: float) -> None:
    with pytest.raises(InputError, match=r"'wind' reach at most .*; hdt computes from 1e-305 to 1e\+305"):
        load(frame * [1.0, unit])


def test_whole_numbers_are_a_time_axis(frame: pd.DataFrame) -> None:
    given = frame.set_axis(pd.RangeIndex(100, 2100, 5, name="time"))
    panel = load(given)
    assert panel.step == 5 and parse_step(format_step(panel.step)) == 5
    pd.testing.assert_frame_equal(
        panel.layout.frame(panel.values, panel.index, panel.columns), given, check_index_type=False
    )
    column = load(given.reset_index())
    assert column.layout.time_in_column and column.index.equals(panel.index)
    assert load(given.rename_axis("n").reset_index(), time_column="n").index.equals(panel.index)
    with pytest.raises(InputError, match="no timestamps found"):
        load(given.rename_axis("n").reset_index())
    with pytest.raises(
        InputError, match="irregular step at row 9: 140 to 150, elsewhere 5; with --freq 5 the absent rows"
    ):
        load(given.drop(145))


@pytest.mark.parametrize("freq", ["h", "D", "M", "Q-NOV", "W-SUN"])
def test_periods_are_a_time_axis(frame: pd.DataFrame, freq: str) -> None:
    given = frame.set_axis(pd.period_range("1970-01-01", periods=400, freq=freq))
    panel = load(given)
    pd.testing.assert_frame_equal(panel.layout.frame(panel.values, panel.index, panel.columns), given)


def test_stamps_whose_offset_changes_are_read_as_utc(frame: pd.DataFrame) -> None:
    index = pd.date_range("2020-03-25", periods=400, freq="h", tz="Europe/Berlin")
    given = frame.set_axis(index.map(str)).rename_axis("date")
    assert {text[-6:] for text in given.index} == {"+01:00", "+02:00"}
    for how in (given, given.reset_index()):
        panel = load(how)
        assert panel.index.equals(index.tz_convert("UTC"))
        assert "stamps change their offset from UTC, as in summer; read as UTC" in panel.notices
    one = load(frame.set_axis(frame.index.tz_localize("UTC+01:00").map(str)).rename_axis("date"))
    assert not one.notices and str(one.index[0]) == "2024-01-01 00:00:00+01:00"


def test_years_beyond_those_of_nanoseconds_are_read(frame: pd.DataFrame) -> None:
    index = pd.date_range("3000-01-01", periods=400, freq="h", unit="s")
    for stamps in (index, index.map(str)):
        panel = load(frame.set_axis(stamps).rename_axis("date"))
        assert (panel.index == index).all() and panel.step == pd.Timedelta("1h")


@pytest.mark.parametrize(
    ("texts", "dayfirst", "expected"),
    [
        (["11.12.2024", "12.12.2024", "13.12.2024"], None, "2024-12-11"),
        (["01.02.2024", "02.02.2024", "03.02.2024"], None, "2024-02-01"),  # nobody writes month.day
        (["12/30/2024", "12/31/2024", "01/01/2025"], None, "2024-12-30"),
        (["12-12-2024", "13-12-2024", "14-12-2024"], None, "2024-12-12"),
        (["01/02/2024", "02/02/2024", "03/02/2024"], True, "2024-02-01"),
        (["01/02/2024", "02/02/2024", "03/02/2024"], False, "2024-01-02"),
        (["01/02/24 00:00", "01/02/24 01:00", "01/02/24 02:00"], True, "2024-02-01"),
        (["2024-02-01", "2024-02-02", "2024-02-03"], True, "2024-02-01"),
    ],
)
def test_days_and_months_are_told_apart(texts: list[str], dayfirst: bool | None, expected: str) -> None:
    times = read_times(pd.Series(texts), "t", "date", dayfirst)
    assert times.stamps[0] == pd.Timestamp(expected)
    assert bool(times.notices) == (texts[0] in ("11.12.2024", "01.02.2024", "12-12-2024") and dayfirst is None)


@pytest.mark.parametrize(
    ("texts", "dayfirst", "message"),
    [
        (["01/02/2024", "02/02/2024"], None, "may have the day or the month first, .* give --dayfirst or --monthfirst"),
        (["13/02/2024", "02/13/2024"], None, "the day first in row 0 .* the month first in row 1"),
        (["01/13/2024", "01/14/2024"], True, "'01/13/2024' in row 0 cannot be read with --dayfirst; give --monthfirst"),
        (["13.01.2024", "14.01.2024"], False, "cannot be read with --monthfirst; give --dayfirst"),
    ],
)
def test_days_and_months_that_cannot_be_told_apart_are_refused(
    texts: list[str], dayfirst: bool | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_times(pd.Series(texts), "t", "date", dayfirst)


def holed() -> dict[str, pd.DataFrame]:
    """Tables of which rows are absent, in the three layouts."""
    wide = {freq: make_frame().set_axis(pd.date_range("1990-01-01", periods=400, freq=freq)) for freq in FREQS}
    wide["D in Berlin"] = make_frame().set_axis(pd.date_range("2023-01-01", periods=400, tz="Europe/Berlin"))
    return {freq: frame.drop(frame.index[[40, 41, 200]]) for freq, frame in wide.items()}


FREQS = ("B", "h", "37min", "D", "W-WED", "MS", "ME", "QE")


@pytest.mark.parametrize(
    ("freq", "layout"),
    [*itertools.product(FREQS, ["wide", "time column", "text stamps", "long"]), ("D in Berlin", "wide")],
)
def test_the_hint_for_absent_rows_works_as_printed(freq: str, layout: str) -> None:
    given = layouts()[layout](holed()[freq])
    with pytest.raises(InputError, match="irregular step") as caught:
        load(given)
    hint = re.search(r"with --freq (\S+) \(freq='(\S+)'\) the absent rows count as missing", str(caught.value))
    assert hint is not None and hint[1] == hint[2]
    panel = load(given, freq=hint[1])
    assert len(panel.values) == 400 and np.isnan(panel.values[[40, 41, 200]]).all()
    assert any(notice.startswith(f"rows absent from steps of {hint[1]}: 3;") for notice in panel.notices)
    assert np.isfinite(panel.part("train")).all()
    assert load(make_frame(), freq="h").notices == ()


@pytest.mark.parametrize(
    ("freq", "message"),
    [
        ("often", "'often' is no frequency of pandas"),
        ("D", r"row 1 \(2024-01-01 01:00:00\) is on no step of D"),
        ("2h", r"row 1 \(2024-01-01 01:00:00\) is on no step of 2h"),
        ("ns", "far too fine for 400 rows"),
        ("0h", "far too fine"),
    ],
)
def test_a_frequency_that_does_not_fit_is_refused(frame: pd.DataFrame, freq: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(frame, freq=freq)
    with pytest.raises(InputError, match="is for stamps, not for numbered rows"):
        load(frame.set_axis(pd.RangeIndex(400, name="time")), freq="h")


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
    prints = [Panel.from_frame(f).train_sha256 for f in (first, second, third)]
    assert prints[0] == prints[1] != prints[2]
    assert len({Panel.from_frame(f).sha256 for f in (first, second, third)}) == 3


def test_the_fingerprint_of_all_parts_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    panels = [
        Panel.from_frame(make_frame(), **how) for how in ({}, {}, {"missing": "error"}, {"split": (0.6, 0.2, 0.2)})
    ]
    first, second, third, fourth = (panel.sha256 for panel in panels)
    assert first == second and len({first, third, fourth}) == 3
    monkeypatch.setattr("hashlib.sha256", None)
    assert panels[0].sha256 == first
