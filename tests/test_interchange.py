from __future__ import annotations

import sys
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
