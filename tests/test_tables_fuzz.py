"""Whatever table comes: it is read, or refused in one line. Nothing else is ever raised."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hdt.data.datasets import load
from hdt.data.frames import format_step, parse_step
from hdt.data.layout import Layout
from hdt.data.series import Panel
from hdt.system.errors import InputError

QUIET = settings(max_examples=300, suppress_health_check=list(HealthCheck))
CELLS = st.one_of(
    st.sampled_from(
        [
            "", " ", "0", "1", "-1", "5,1", "5.1", "1e308", "1e-308", "1e999", "nan", "inf", "NA", "?", "x", "1,234.5",
            "1.234,5", "2024-01-01", "2024-02-30", "01/02/2024", "13/01/2024", "01/13/2024", "1.2.2024 00:00",
            "2024-01-01T00:00+01:00", "2024-01-01T01:00+02:00", "3000-01-01", "0001-01-01", "9999-12-31", "12:00",
            "20240101", "2024", "now", "true", '"', "'", "#", "\\", "\x00", "é", "－１", "99999999999999999999",
        ]
    ),
    st.text(max_size=4),
    st.floats(width=32).map(str),
    st.integers(-(10**20), 10**20).map(str),
)  # fmt: skip
NAMES = st.sampled_from(
    [
        "date",
        "ds",
        "time",
        "timestamp",
        "unique_id",
        "item_id",
        "y",
        "target",
        "load",
        "1",
        "",
        "Unnamed: 0",
        "Date",
        "é",
    ]
)
STAMPS: list[Callable[[int], Any]] = [
    lambda n: pd.date_range("2024-01-01", periods=n, freq="h"),
    lambda n: pd.date_range("2024-03-30", periods=n, freq="h", tz="Europe/Berlin"),
    lambda n: pd.date_range("2024-03-30", periods=n, tz="America/Sao_Paulo"),
    lambda n: pd.date_range("1990-01-31", periods=n, freq="ME"),
    lambda n: pd.date_range("2024-01-01", periods=n, freq="B"),
    lambda n: pd.date_range("3000-01-01", periods=n, unit="s"),
    lambda n: pd.date_range("0001-01-01", periods=n, unit="s", freq="YS"),
    lambda n: pd.DatetimeIndex(np.arange(n) * np.timedelta64(500 * 365, "D") + np.datetime64("0001-01-01", "s")),
    lambda n: pd.period_range("2024-01", periods=n, freq="M"),
    lambda n: pd.period_range("1000-01", periods=n, freq="Y"),
    lambda n: pd.RangeIndex(n),
    lambda n: pd.RangeIndex(n, name="time"),
    lambda n: pd.Index(np.arange(n) * 2**60, name="time"),
    lambda n: pd.Index(np.arange(n, dtype=np.uint64) + 2**63, name="time"),
    lambda n: pd.Index(np.arange(n) / 2, name="time"),
    lambda n: pd.timedelta_range(0, periods=n, freq="h"),
    lambda n: pd.Index([True] * n, name="time"),
    lambda n: pd.CategoricalIndex(pd.date_range("2024-01-01", periods=n).astype(str), name="date"),
    lambda n: pd.Index([None] * n, name="date"),
    lambda n: pd.Index([(1, 2)] * n, name="date", tupleize_cols=False),
    lambda n: pd.date_range("2024-01-01", periods=n).strftime("%d/%m/%Y"),
    lambda n: pd.date_range("2024-01-01", periods=n).strftime("%Y%m%d").astype(int).rename("date"),
    lambda n: pd.date_range("2024-01-01", periods=n).date,
    lambda n: pd.IntervalIndex.from_breaks(range(n + 1)),
]
LEVELS: list[Callable[[int], Any]] = [
    lambda n: pd.MultiIndex.from_product([["a"], range(n)]),
    lambda n: pd.MultiIndex.from_product([["a"], pd.date_range("2024-01-01", periods=n)], names=["item_id", "date"]),
]
COLUMNS: list[Callable[[int], Any]] = [
    lambda n: np.sin(np.arange(n)),
    lambda n: np.sin(np.arange(n)) * 1e300,
    lambda n: np.sin(np.arange(n)) * 1e-300,
    lambda n: np.sin(np.arange(n)) * 1e308,
    lambda n: np.zeros(n),
    lambda n: np.full(n, np.nan),
    lambda n: np.where(np.arange(n) % 7 == 3, np.inf, 1.5),
    lambda n: np.arange(n),
    lambda n: np.arange(n, dtype=np.float16),
    lambda n: np.arange(n) * 1j,
    lambda n: pd.array([None, *range(n - 1)], dtype="Int64"),
    lambda n: pd.array(np.arange(n) % 2 == 0),
    lambda n: pd.Categorical(["a", "b"] * n)[:n],
    lambda n: pd.date_range("2024-01-01", periods=n),
    lambda n: pd.period_range("2024-01-01", periods=n, freq="D"),
    lambda n: pd.to_timedelta(range(n), unit="h"),
    lambda n: [None, *"abc"] * n,
    lambda n: [{}, [], (1,), b"x"] * n,
    lambda n: pd.arrays.SparseArray(np.arange(n) * 1.0),
    lambda n: pd.array(np.arange(n) * 1.0, dtype="double[pyarrow]"),
    lambda n: ["a", "b"] * n,
    lambda n: [10**30] * n,
    lambda n: [np.float64(1), "2"] * n,
]
LABELS = st.one_of(
    NAMES,
    st.sampled_from([0, 1, 1.5, float("nan"), None, True, pd.Timestamp("2024-01-01"), ("a", "b"), ("date", "")]),
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "time_column": NAMES,
        "id_column": NAMES,
        "target_column": NAMES,
        "sep": st.sampled_from([",", ";", "tab", "|", " ", ";;", ""]),
        "decimal": st.sampled_from([".", ",", "x"]),
        "dayfirst": st.booleans(),
        "freq": st.sampled_from(["h", "D", "B", "MS", "ns", "0h", "-1h", "W", "often", "5", ""]),
        "resample": st.sampled_from(["h", "D:sum", "B", "MS:last", "7:count", "2h:median", "W", "ns", "0h", "x:y", ""]),
        "missing": st.sampled_from(["auto", "error", "interpolate", "mask"]),
    },
)


def read_or_refused(data: Any, options: dict[str, Any]) -> Panel | None:
    """The panel whose layout and step survive run.json; None when it was refused as it should be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # those of libraries would land on stderr
            panel = load(data, **options)
    except InputError:
        return None
    assert np.isfinite(panel.part("train")).all() and len(panel.values) == len(panel.index)
    stored = json.loads(json.dumps([vars(panel.layout), format_step(panel.step), str(panel.index[0])]))
    layout, step = Layout(**stored[0]), parse_step(stored[1])
    index = layout.stamps(stored[2], step, len(panel.index))
    assert index.equals(panel.index), (index, panel.index)
    back = layout.frame(panel.values, index, layout.own(panel.columns))
    assert back.shape[0] == panel.values.shape[0] * (panel.channels if layout.kind == "long" else 1)
    return panel


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@st.composite
def spoiled(draw: st.DrawFn) -> list[list[str]]:
    """A table of text with a few cells, names or rows that do not belong."""
    dates = draw(st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%y", "%Y-%m-%dT00:00+01:00"]))
    stamps = pd.date_range("2024-01-08", periods=draw(st.integers(2, 9)), freq=draw(st.sampled_from(["D", "MS", "B"])))
    mark = draw(st.sampled_from([".", ","]))
    rows = [["date", "load", "1"]]
    rows += [[stamp.strftime(dates), f"{n}{mark}5", str(n % 3)] for n, stamp in enumerate(stamps)]
    for _ in range(draw(st.integers(0, 3))):
        row = draw(st.sampled_from(rows))
        if row:
            row[draw(st.integers(0, len(row) - 1))] = draw(st.one_of(CELLS, NAMES))
    if draw(st.integers(0, 3)) == 0:
        rows.insert(draw(st.integers(0, len(rows))), draw(st.lists(CELLS, max_size=5)))
    return rows


@QUIET
@given(
    st.one_of(st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=8), spoiled(), spoiled()),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-16", "latin-1", "utf-8-sig"]),
    st.one_of(st.just({}), OPTIONS),
)
def test_any_text_is_read_or_refused(
    place: Path, rows: list[list[str]], sep: str, encoding: str, options: dict[str, Any]
) -> None:
    path = place / "a.csv"
    path.write_bytes("\n".join(sep.join(row) for row in rows).encode(encoding, errors="replace"))
    read_or_refused(path, options)


@QUIET
@given(st.binary(max_size=200), st.sampled_from(["a.csv", "a.csv.gz", "a.tsv", "a.parquet"]), OPTIONS)
def test_any_bytes_are_read_or_refused(place: Path, content: bytes, name: str, options: dict[str, Any]) -> None:
    (place / name).write_bytes(content)
    read_or_refused(place / name, options)


@QUIET
@given(
    st.integers(0, 30),
    st.one_of(st.sampled_from(STAMPS[:6]), st.sampled_from([*STAMPS, *LEVELS])),
    st.lists(
        st.tuples(LABELS, st.one_of(st.sampled_from(COLUMNS[:3]), st.sampled_from([*COLUMNS, *STAMPS]))), max_size=3
    ),
    st.booleans(),
    st.lists(st.integers(0, 30), max_size=2),
    st.one_of(st.just({}), OPTIONS),
)
def test_any_frame_is_read_or_refused(
    rows: int,
    stamps: Callable[[int], Any],
    columns: list[tuple[Any, Any]],
    usual: bool,
    absent: list[int],
    options: dict[str, Any],
) -> None:
    columns = [("load", COLUMNS[0]), *columns] if usual else columns
    made = [pd.Series(column(rows + 1)[:rows]) for _, column in columns]
    frame = pd.concat(made, axis=1) if made else pd.DataFrame(index=range(rows))
    frame.columns = pd.Index([label for label, _ in columns], tupleize_cols=False)
    frame.index = stamps(rows)
    read_or_refused(frame.drop(frame.index[[row for row in absent if row < rows]]), options)


@pytest.mark.parametrize("make", STAMPS[:6])
def test_what_fuzzing_builds_on_is_read(make: Callable[[int], Any]) -> None:
    """Else the tests above would only see refusals."""
    frame = pd.DataFrame({"a": np.sin(np.arange(12.0)), 2: np.cos(np.arange(12.0))}, index=make(12))
    assert read_or_refused(frame, {}) is not None
