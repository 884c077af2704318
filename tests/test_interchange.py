from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, make_frame

import hdt


def distil(frame: pd.DataFrame, **settings: object) -> hdt.Distilled:
    return hdt.distill(frame, **{**SMALL, "iterations": 1, **settings})


def frames() -> dict[str, pd.DataFrame]:
    """The same series in three layouts."""
    wide = make_frame()
    long = wide.rename_axis("hour").reset_index().melt("hour", var_name="plant", value_name="power")
    return {"wide": wide, "column": wide.rename_axis("date").reset_index(), "long": long}


@pytest.mark.parametrize("layout", ["wide", "column", "long"])
def test_long_and_wide_are_the_same_whatever_the_callers_layout(layout: str) -> None:
    names = {"id_column": "plant", "target_column": "power"} if layout == "long" else {}
    distilled = hdt.distill(hdt.load(frames()[layout], **names), **SMALL)
    usual = hdt.distill(make_frame(), **SMALL)
    wide, long = distilled.to_wide(), distilled.to_long()
    assert isinstance(wide.index, pd.DatetimeIndex)
    pd.testing.assert_frame_equal(wide, usual.to_frame())
    assert list(long.columns) == ["unique_id", "ds", "y"] and len(long) == 2 * 48
    assert long["unique_id"].tolist() == ["load"] * 48 + ["wind"] * 48
    np.testing.assert_array_equal(long["y"], wide.to_numpy().T.ravel())
    assert (long["ds"].to_numpy() == np.tile(wide.index, 2)).all()
    if layout == "long":
        pd.testing.assert_frame_equal(
            distilled.to_frame(), long.set_axis(["plant", "hour", "power"], axis=1), check_dtype=False
        )


def kinds() -> dict[str, pd.DataFrame]:
    """Frames whose stamps or labels are of a kind that is easily lost."""
    frame = make_frame()
    pairs = pd.MultiIndex.from_tuples([("north", 1), ("south", 2)], names=["place", "meter"])
    long = frame.set_axis([7, 3], axis=1).rename_axis("ds").reset_index().melt("ds", None, "unique_id", "y")
    long = long[["unique_id", "ds", "y"]].astype({"unique_id": "int64"})
    return {
        "Berlin": frame.tz_localize("Europe/Berlin"),
        "Berlin, where clocks change": frame.set_axis(
            pd.date_range("2024-03-30", periods=400, freq="h", tz="Europe/Berlin")
        ),
        "days in Berlin": frame.set_axis(pd.date_range("2024-03-20", periods=400, tz="Europe/Berlin")),
        "24 hours in Berlin": frame.set_axis(
            pd.date_range("2024-03-20", periods=400, tz="UTC").tz_convert("Europe/Berlin")
        ),
        "a fixed offset": frame.tz_localize("UTC+05:30"),
        "ms": frame.set_axis(frame.index.as_unit("ms")),
        "us": frame.set_axis(frame.index.as_unit("us")),
        "year 3000": frame.set_axis(pd.date_range("3000-01-01", periods=400, freq="MS", unit="ms")),
        "periods": frame.set_axis(pd.period_range("2000-01", periods=400, freq="M")),
        "whole numbers": frame.set_axis(pd.RangeIndex(10, 2010, 5, name="time")),
        "numbers in a column": frame.set_axis(pd.RangeIndex(10, 2010, 5, name="time")).reset_index(),
        "numbered columns": frame.set_axis([7, 3], axis=1),
        "numbered columns, named": frame.set_axis(pd.Index([7, 3], name="meter"), axis=1),
        "numbered columns beside the time": frame.set_axis([7, 3], axis=1).rename_axis("date").reset_index(),
        "levels": frame.set_axis(pairs, axis=1),
        "levels beside the time": frame.set_axis(pairs, axis=1).rename_axis("date").reset_index(),
        "numbered ids": long,
        "short ids": long.astype({"unique_id": "int32"}),
        "categories": long.astype({"unique_id": str}).astype({"unique_id": "category"}),
        "long in the index": long.set_index(["unique_id", "ds"]),
    }


def first_rows(frame: pd.DataFrame, rows: int) -> pd.DataFrame:
    """The first rows of every series."""
    if "y" in frame.columns:
        kept = frame.groupby("unique_id", sort=False, observed=True).head(rows)
        return kept if "unique_id" not in frame.columns else kept.reset_index(drop=True)
    return frame.head(rows)


@pytest.mark.parametrize("kind", kinds())
def test_to_frame_gives_back_what_came_and_so_does_a_loaded_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the values: zone, unit and kind of the stamps, dtype and names of labels and ids."""
    monkeypatch.setattr("hdt.run.report.write", lambda *_, **__: None)  # drawing takes long
    given = kinds()[kind]
    distilled = distil(given)
    expected = first_rows(given, 48)
    loaded = hdt.Distilled.load(distilled.save(tmp_path / "run"))
    for back in (distilled.to_frame(), loaded.to_frame()):
        numbers = [column for column in back.columns if pd.api.types.is_float_dtype(back[column])]
        pd.testing.assert_frame_equal(back.drop(columns=numbers), expected.drop(columns=numbers), check_freq=False)
        pd.testing.assert_index_equal(back.columns, expected.columns)
    pd.testing.assert_frame_equal(loaded.to_long(), distilled.to_long())
    assert len(distilled.to_long()) == 96 and list(distilled.to_long().columns) == ["unique_id", "ds", "y"]
    assert distilled.to_wide().shape == (48, 2)


def test_labels_of_several_sequences_and_of_pooled_channels_are_told_apart() -> None:
    pairs = pd.MultiIndex.from_tuples([("north", 1), ("south", 2)], names=["place", "meter"])
    several = distil(make_frame().set_axis(pairs, axis=1), sequences=2).to_frame()
    assert several.columns.tolist() == [("north", "1/1"), ("south", "2/1"), ("north", "1/2"), ("south", "2/2")]
    assert distil(make_frame().set_axis([7, 3], axis=1), sequences=2).to_frame().columns.tolist() == [
        "7/1", "3/1", "7/2", "3/2",
    ]  # fmt: skip
    pooled = {"method": "wiener", "channels": 1, "features": 8, "draws": 2, "k": None}
    assert distil(make_frame().set_axis(pairs, axis=1), **pooled).to_frame().columns.tolist() == [
        "synthetic_1/1", "synthetic_1/2",
    ]  # fmt: skip


@pytest.mark.parametrize("unit", [1e-300, 1e300])
def test_very_large_and_small_values_come_back_at_their_size(unit: float, tmp_path: Path) -> None:
    distilled, usual = distil(make_frame() * unit), distil(make_frame())
    np.testing.assert_allclose(distilled.to_frame() / unit, usual.to_frame(), rtol=1e-5)
    loaded = hdt.Distilled.load(distilled.save(tmp_path / "run"))
    pd.testing.assert_frame_equal(loaded.to_frame(), distilled.to_frame())


def test_a_record_without_zone_and_unit_is_read_as_before() -> None:
    distilled = distil(make_frame())
    old = {name: distilled.info.data.layout[name] for name in ("kind", "time_column", "id_column", "target_column")}
    data = distilled.info.data.model_copy(update={"layout": {**old, "time_in_column": False}})
    before = replace(distilled, info=distilled.info.model_copy(update={"data": data}))
    pd.testing.assert_frame_equal(before.to_frame(), distilled.to_frame())


def test_numbered_rows_have_no_periods_for_gluonts() -> None:
    pytest.importorskip("gluonts")
    frame = make_frame().set_axis(pd.RangeIndex(400, name="time"))
    with pytest.raises(hdt.InputError, match=r"no period for numbered rows; use to_long\(\) instead"):
        distil(frame).to_gluonts()


def test_torch_windows_are_every_window_of_every_sequence_in_scaled_units() -> None:
    distilled = distil(make_frame(), sequences=2)
    pairs = distilled.to_torch(20, 5)
    assert len(pairs) == 2 * (48 - 20 - 5 + 1)
    for number, (context, horizon) in enumerate(pairs):
        sequence, start = divmod(number, 24)
        values = distilled.values[sequence]
        assert context.shape == (20, 2) and horizon.shape == (5, 2) and context.dtype == torch.float32
        np.testing.assert_array_equal(context, values[start : start + 20])
        np.testing.assert_array_equal(horizon, values[start + 20 : start + 25])
    assert number == len(pairs) - 1
    np.testing.assert_array_equal(pairs[-1][1], distilled.values[1, -5:])
    with pytest.raises(IndexError):
        pairs[len(pairs)]


def test_torch_windows_are_batched_by_a_data_loader_and_default_to_the_runs_own() -> None:
    pairs = distil(make_frame()).to_torch()
    batches = list(torch.utils.data.DataLoader(pairs, batch_size=16))
    assert [(tuple(c.shape), tuple(h.shape)) for c, h in batches] == [
        ((16, 12, 2), (16, 6, 2)),
        ((15, 12, 2), (15, 6, 2)),
    ]


def test_torch_windows_longer_than_the_series_are_refused() -> None:
    distilled = distil(make_frame())
    with pytest.raises(hdt.InputError, match=r"48 steps are fewer than context 40 \+ horizon 9 = 49"):
        distilled.to_torch(40, 9)
    assert len(distilled.to_torch(40, 8)) == 1
    for window in [(0, 6), (12, 0), (-1, 6)]:
        with pytest.raises(hdt.InputError, match="must be at least 1"):
            distilled.to_torch(*window)


@pytest.mark.filterwarnings("ignore:Period with BDay")
@pytest.mark.parametrize("step", ["h", "37min", "MS", "W-WED", "B", "D"])
def test_gluonts_gets_one_series_per_channel(step: str) -> None:
    pytest.importorskip("gluonts")
    frame = make_frame().set_axis(pd.date_range("2024-01-03", periods=400, freq=step))
    distilled = distil(frame)
    entries, wide = list(distilled.to_gluonts()), distilled.to_wide()
    assert [entry["item_id"] for entry in entries] == ["load", "wind"]
    for entry in entries:
        assert entry["target"].dtype == np.float32  # the weights of its estimators are
        np.testing.assert_allclose(entry["target"], wide[entry["item_id"]], rtol=1e-6)
        assert entry["start"].start_time <= wide.index[0] <= entry["start"].end_time


def test_gluonts_takes_sequences_and_time_zones() -> None:
    pytest.importorskip("gluonts")
    frame = make_frame(columns=("load",)).tz_localize("Europe/Paris", ambiguous="NaT", nonexistent="shift_forward")
    distilled = distil(frame)
    entries = list(distilled.to_gluonts())
    assert [entry["item_id"] for entry in entries] == ["load/1", "load/2"]
    assert entries[0]["start"] == pd.Period("2024-01-01", "h")


def test_gluonts_windows_can_be_split_for_evaluation() -> None:
    """What a user of gluonts does next: the last steps as test windows."""
    pytest.importorskip("gluonts")
    from gluonts.dataset.split import split

    distilled = distil(make_frame())
    _, template = split(distilled.to_gluonts(), offset=-6)
    pairs = list(template.generate_instances(prediction_length=6))
    assert len(pairs) == 2
    np.testing.assert_allclose(pairs[1][1]["target"], distilled.to_wide()["wind"].iloc[-6:], rtol=1e-6)


def test_a_step_that_gluonts_does_not_know_is_refused() -> None:
    pytest.importorskip("gluonts")
    frame = make_frame().set_axis(pd.date_range("2024-01-01", periods=400, freq="WOM-2TUE"))
    with pytest.raises(
        hdt.InputError, match=r"gluonts has no period for the time step WOM-2TUE.*; use to_long\(\) instead"
    ):
        distil(frame).to_gluonts()


def test_without_gluonts_the_install_line_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "gluonts"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gluonts", None)
    with pytest.raises(hdt.InputError, match=r"pip install 'hdt-ts\[moirai\]'"):
        distil(make_frame()).to_gluonts()


@pytest.mark.parametrize("layout", ["wide", "column", "long"])
def test_hugging_face_datasets_reads_the_parquet_of_a_run(layout: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    names = {"id_column": "plant", "target_column": "power"} if layout == "long" else {}
    distilled = hdt.distill(hdt.load(frames()[layout], **names), **{**SMALL, "iterations": 1})
    folder = distilled.save(tmp_path / "run")
    table = datasets.load_dataset(
        "parquet", data_files=str(folder / "synthetic.parquet"), cache_dir=str(tmp_path / "cache"), split="train"
    ).to_pandas()
    expected = distilled.to_frame()
    assert len(table) == len(expected)
    for column in expected.select_dtypes("number"):
        np.testing.assert_array_equal(table[column], expected[column])
    stamps = {"wide": expected.index, "column": expected.get("date"), "long": expected.get("hour")}[layout]
    times = table.select_dtypes("datetime")
    assert times.shape[1] == 1 and (times.iloc[:, 0].to_numpy() == stamps.to_numpy()).all()


def test_validation_has_the_ids_of_the_synthetic_series_and_the_real_values() -> None:
    frame = make_frame()
    one, several = distil(frame), distil(frame, sequences=2)
    real = frame.iloc[280:320].rename_axis("ds").reset_index().melt("ds", var_name="unique_id", value_name="y")
    pd.testing.assert_frame_equal(one.real_validation(), real[["unique_id", "ds", "y"]], check_dtype=False)
    repeated = several.real_validation()
    assert repeated["unique_id"].unique().tolist() == several.to_long()["unique_id"].unique().tolist()
    for name, values in repeated.groupby("unique_id")["y"]:
        np.testing.assert_array_equal(values, frame[name.split("/")[0]].iloc[280:320])
    pd.testing.assert_frame_equal(several.real_validation(joined=True), one.real_validation())
    pooled = {"method": "wiener", "channels": 2, "features": 8, "draws": 2, "k": None}
    few = distil(make_frame(columns=("a", "b", "c", "d")), **pooled)
    scaled = few.panel.part("val")
    shown = few.real_validation()
    assert shown["unique_id"].unique().tolist() == ["synthetic_1", "synthetic_2"]
    np.testing.assert_allclose(shown["y"], scaled[:, [0, 2]].T.ravel())
    with pytest.raises(hdt.InputError, match="its training part differs"):
        one.real_validation(frame * 2)
    with pytest.raises(hdt.InputError, match="the val part has no rows; choose another --split"):
        distil(hdt.load(frame, split=(0.8, 0.0, 0.2))).real_validation()


def test_joined_sequences_have_one_id_per_channel_and_no_window_goes_from_one_to_another() -> None:
    distilled = distil(make_frame(), sequences=3)
    long = distilled.to_long(joined=True)
    assert long["unique_id"].unique().tolist() == ["load", "wind"] and len(long) == 2 * (3 * 48 + 2 * 18)
    assert long["ds"].iloc[:180].equals(pd.Series(pd.date_range("2024-01-01", periods=180, freq="h")))
    for c, (_, series) in enumerate(long.groupby("unique_id")):
        known, values = series["available_mask"].to_numpy(), series["y"].to_numpy()
        np.testing.assert_array_equal(values[known == 1], distilled.original[..., c].ravel())
        np.testing.assert_allclose(values[known == 0], distilled.original[..., c].mean())
        owner = np.where(known, np.arange(180) // 66, -1)
        for start in range(180 - 18 + 1):
            seen, asked = (set(part) - {-1} for part in np.split(owner[start : start + 18], [12]))
            assert not seen or not asked or seen == asked
    single = distil(make_frame())
    pd.testing.assert_frame_equal(single.to_long(joined=True).drop(columns="available_mask"), single.to_long())
    assert single.to_long(joined=True)["available_mask"].eq(1).all()


@pytest.mark.parametrize(("step", "freq"), [("h", "h"), ("15min", "15min"), ("MS", "MS"), ("W-WED", "W-WED")])
def test_the_frequency_is_that_of_pandas(step: str, freq: str) -> None:
    stamps = pd.date_range("2024-01-03", periods=400, freq=step)
    found = distil(make_frame().set_axis(stamps)).freq
    assert (pd.date_range("2024-01-03", periods=400, freq=found) == stamps).all() and (found == freq or step == "W-WED")
    assert distil(make_frame().set_axis(pd.RangeIndex(0, 2000, 5, name="time"))).freq == 5
