"""What every fine-tuned model shares, on a model that repeats the last value; students are in test_tuned_students."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import make_frame

from hdt.system.errors import InputError
from hdt.tuning import forecaster
from hdt.tuning.forecaster import Forecaster
from hdt.tuning.record import ForecasterRecord


class Last(Forecaster):
    """Forecasts the last value plus the step into the future; quantile q lies q above it."""

    files = ("last.txt",)

    def test_errors(self, panel: object, device: object) -> list[dict[str, Any]]:
        return []

    def _predict(
        self, values: np.ndarray, columns: Sequence[str], quantiles: Sequence[float] | None
    ) -> Mapping[float | None, np.ndarray]:
        assert values.shape == (self.context, len(columns)) and values.dtype == np.float64
        ahead = values[-1] + np.arange(1, self.horizon + 1)[:, None]
        return {level: ahead + (level or 0) for level in [None] if quantiles is None} or {
            q: ahead + q for q in quantiles
        }

    def _write(self, folder: Path) -> None:
        (folder / "last.txt").write_text("nothing to learn")

    @classmethod
    def _read(cls, folder: Path, record: ForecasterRecord) -> Last:
        return cls(record)


class Broad(Last):
    """A model that forecasts whatever it is given."""

    any_column = True


@pytest.fixture
def last(monkeypatch: pytest.MonkeyPatch) -> Last:
    monkeypatch.setattr(forecaster, "MODELS", {**forecaster.MODELS, "last": "test_forecaster:Last"})
    return Last(ForecasterRecord(model="last", context=4, horizon=3, columns=["load", "wind"], training={"steps": 7}))


def long_of(frame: pd.DataFrame, time: str = "ds", ids: str = "unique_id", target: str = "y") -> pd.DataFrame:
    return frame.rename_axis(time).reset_index().melt(time, var_name=ids, value_name=target)


def test_a_wide_frame_gets_its_next_steps_in_its_own_index(last: Last) -> None:
    frame = make_frame(50).rename_axis("when")
    forecast = last.forecast(frame)
    assert list(forecast.columns) == ["load", "wind"]
    expected = pd.date_range("2024-01-03 02:00", periods=3, freq="h", name="when", unit=frame.index.unit)
    pd.testing.assert_index_equal(forecast.index, expected)
    np.testing.assert_allclose(forecast, frame.to_numpy()[-1] + np.arange(1, 4)[:, None])


def test_time_in_a_column_stays_in_a_column(last: Last) -> None:
    frame = make_frame(50)
    forecast = last.forecast(frame.rename_axis("date").reset_index())
    assert list(forecast.columns) == ["date", "load", "wind"]
    pd.testing.assert_frame_equal(
        forecast.set_index("date"), last.forecast(frame.rename_axis("date")), check_freq=False
    )


@pytest.mark.parametrize("names", [("ds", "unique_id", "y"), ("hour", "plant", "power")])
def test_a_long_frame_comes_back_long_under_its_own_names(last: Last, names: tuple[str, str, str]) -> None:
    time, ids, target = names
    frame = make_frame(50)
    given = long_of(frame, *names).sample(frac=1, random_state=0).sort_values(time, kind="stable")
    forecast = last.forecast(given, time_column=time, id_column=ids, target_column=target)
    assert list(forecast.columns) == [ids, time, target] and len(forecast) == 6
    wide = forecast.pivot(index=time, columns=ids, values=target)[["load", "wind"]]
    np.testing.assert_allclose(wide, last.forecast(frame))
    assert (wide.index == last.forecast(frame).index).all()


def test_ids_and_labels_that_are_numbers_stay_numbers() -> None:
    model = Last(ForecasterRecord(model="last", context=4, horizon=3, columns=["7", "3"]))
    frame = make_frame(50).set_axis([7, 3], axis=1)
    forecast = model.forecast(frame)
    assert forecast.columns.tolist() == [7, 3]
    long = model.forecast(long_of(frame))
    assert long["unique_id"].tolist() == [7, 7, 7, 3, 3, 3]
    np.testing.assert_allclose(long["y"], forecast.to_numpy().T.ravel())


@pytest.mark.parametrize(
    ("start", "step", "expected"),
    [
        ("2024-01-01", "MS", ["2026-06-01", "2026-07-01", "2026-08-01"]),
        ("2024-01-31", "ME", ["2026-06-30", "2026-07-31", "2026-08-31"]),
        ("2024-01-01", "37min", ["2024-01-01 17:53", "2024-01-01 18:30", "2024-01-01 19:07"]),
        ("2024-01-01", "B", ["2024-02-09", "2024-02-12", "2024-02-13"]),
    ],
)
def test_stamps_go_on_in_the_callers_step(last: Last, start: str, step: str, expected: list[str]) -> None:
    frame = make_frame(29).set_axis(pd.date_range(start, periods=29, freq=step))
    assert last.forecast(frame).index.tolist() == [pd.Timestamp(stamp) for stamp in expected]


@pytest.mark.parametrize(
    ("tuned", "given", "fits"),
    [
        ("P0DT1H0M0S", "h", True),
        ("P0DT1H0M0S", "37min", False),
        ("P31DT0H0M0S", "MS", False),
        ("MS", "MS", True),
        ("MS", "ME", False),
        ("MS", "h", False),
    ],
)
def test_a_frame_has_the_step_of_the_training_data(last: Last, tuned: str, given: str, fits: bool) -> None:
    record = last.record.model_copy(update={"step": tuned})
    frame = make_frame(29).set_axis(pd.date_range("2024-07-01", periods=29, freq=given))
    if fits:
        pd.testing.assert_frame_equal(Last(record).forecast(frame), last.forecast(frame))
    else:
        with pytest.raises(
            InputError, match=f"its step is .*, this forecaster was tuned on steps of {tuned}; resample"
        ):
            Last(record).forecast(frame)


def test_rows_at_any_times_are_resampled_first(last: Last) -> None:
    frame = make_frame(29)
    late = frame.set_axis(frame.index + pd.to_timedelta(np.arange(29) * 2, unit="min"))
    with pytest.raises(InputError, match="tuned on steps of"):
        Last(last.record.model_copy(update={"step": "P0DT1H0M0S"})).forecast(late)
    found = Last(last.record.model_copy(update={"step": "P0DT1H0M0S"})).forecast(late[::-1], resample="h")
    pd.testing.assert_frame_equal(found, last.forecast(frame))


def test_time_zones_and_resolutions_are_kept(last: Last) -> None:
    index = pd.date_range("2024-03-29", periods=40, freq="h", tz="Europe/Paris").as_unit("s")
    forecast = last.forecast(make_frame(40).set_axis(index))
    assert forecast.index.dtype == index.dtype
    assert forecast.index[0] - index[-1] == pd.Timedelta("1h")


def test_numbered_rows_periods_and_levels_go_on_as_they_are(last: Last) -> None:
    frame = make_frame(50)
    numbered = last.forecast(frame.set_axis(pd.RangeIndex(0, 250, 5, name="time")))
    assert numbered.index.tolist() == [250, 255, 260] and numbered.index.name == "time"
    periods = last.forecast(frame.set_axis(pd.period_range("2020-01", periods=50, freq="M")))
    assert periods.index.equals(pd.period_range("2024-03", periods=3, freq="M"))
    days = frame.set_axis(pd.date_range("2024-02-12", periods=50, tz="Europe/Berlin"))
    assert last.forecast(days).index[0] == pd.Timestamp("2024-04-02", tz="Europe/Berlin")  # clocks changed
    pairs = pd.MultiIndex.from_tuples([("north", 1), ("south", 2)])
    model = Broad(last.record)
    assert model.forecast(frame.set_axis(pairs, axis=1)).columns.equals(pairs)
    assert model.forecast(frame.set_axis(pairs, axis=1), [0.5]).columns.tolist() == [
        ("north", "1/0.5"),
        ("south", "2/0.5"),
    ]
    indexed = long_of(frame, "timestamp", "item_id", "target").set_index(["item_id", "timestamp"])
    assert last.forecast(indexed).index.names == ["item_id", "timestamp"]


def test_a_model_of_numbered_rows_takes_no_stamps(last: Last, tmp_path: Path) -> None:
    model = Last(last.record.model_copy(update={"step": "5"}))
    frame = make_frame(50)
    numbered = frame.set_axis(pd.RangeIndex(0, 250, 5, name="time"))
    assert len(Forecaster.load(model.save(tmp_path / "model")).forecast(numbered)) == 3
    for other in (frame, frame.set_axis(pd.RangeIndex(50, name="time"))):
        with pytest.raises(InputError, match="tuned on steps of 5; resample"):
            model.forecast(other)
    with pytest.raises(InputError, match="its step is 5, this forecaster was tuned on steps of MS"):
        Last(last.record.model_copy(update={"step": "MS"})).forecast(numbered)


def test_quantiles_are_columns_beside_each_other(last: Last) -> None:
    frame = make_frame(50)
    point = last.forecast(frame)
    wide = last.forecast(frame, [0.1, 0.9])
    assert list(wide.columns) == ["load/0.1", "load/0.9", "wind/0.1", "wind/0.9"]
    for column in point:
        np.testing.assert_allclose(wide[f"{column}/0.9"], point[column] + 0.9)
    long = last.forecast(long_of(frame), quantiles=[0.1, np.float64(0.5)])
    assert list(long.columns) == ["unique_id", "ds", "y/0.1", "y/0.5"]
    np.testing.assert_allclose(long["y/0.5"], last.forecast(long_of(frame))["y"] + 0.5)
    assert (long["unique_id"] == ["load"] * 3 + ["wind"] * 3).all()


def test_only_the_context_must_be_complete(last: Last) -> None:
    frame = make_frame(50)
    frame.iloc[:46, 0] = np.nan
    np.testing.assert_allclose(last.forecast(frame), last.forecast(make_frame(50)))
    frame.iloc[47, 1] = np.inf
    with pytest.raises(
        InputError, match=r"column 'wind' misses 1 of its last 4 values \(first at 2024-01-02 23:00:00\)"
    ):
        last.forecast(frame)


@pytest.mark.parametrize(
    ("frame", "quantiles", "message"),
    [
        (make_frame(3), None, "3 rows are fewer than the context of 4 steps"),
        (
            make_frame(50, ("load", "sun")),
            None,
            "column 'sun' is unknown to this last, .* tuned on load, wind; drop it",
        ),
        (make_frame(50), [0.5, 1.0], "quantile 1.0: expected a number between 0 and 1"),
        (make_frame(50), [0.0], "quantile 0.0: expected a number between 0 and 1"),
        (make_frame(50), ["0.1"], "quantile '0.1': expected a number between 0 and 1"),
        (make_frame(50), [float("nan")], "quantile nan: expected a number"),
        (make_frame(50), [0.5, 0.1, 0.5], "quantile 0.5 is given twice"),
        (make_frame(50), [], "no quantile given"),
        ([1, 2, 3], None, "expected a pandas DataFrame, got list"),
    ],
)
def test_bad_input_is_refused_in_one_line(last: Last, frame: Any, quantiles: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        last.forecast(frame, quantiles)
    assert "\n" not in str(caught.value)


def test_models_that_know_no_columns_take_any(last: Last) -> None:
    frame = make_frame(50, ("load", "sun", "tide"))
    assert list(Broad(last.record).forecast(frame).columns) == ["load", "sun", "tide"]


def test_a_saved_forecaster_reads_back_equal(last: Last, tmp_path: Path) -> None:
    folder = last.save(tmp_path / "deep" / "model")
    assert {path.name for path in folder.iterdir()} == {"forecaster.json", "last.txt"}
    loaded = Forecaster.load(str(folder))
    assert isinstance(loaded, Last) and loaded.record == last.record
    assert (loaded.model, loaded.context, loaded.horizon, loaded.columns) == ("last", 4, 3, ["load", "wind"])
    assert loaded.training == {"steps": 7}
    assert repr(loaded) == "Last(last: 4 steps in, 3 steps out)"


def test_only_forecasters_and_empty_folders_are_replaced(last: Last, tmp_path: Path) -> None:
    thesis = tmp_path / "mine" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").touch()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "forecaster.json").write_text('{"model": "last"}')
    for place in (thesis.parent, run, foreign):
        with pytest.raises(InputError, match="exists; choose another --out, or replace it with --force"):
            last.save(place)
        with pytest.raises(
            InputError, match=r"is not a forecaster folder \(.*forecaster.json.*; --force replaces fore"
        ):
            last.save(place, force=True)
    assert thesis.read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    assert (last.save(tmp_path / "empty", force=True) / "forecaster.json").is_file()
    last.save(tmp_path / "empty", force=True)
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"holds what is not hdt's: notes\.txt"):
        last.save(tmp_path / "empty", force=True)
    assert (tmp_path / "empty" / "notes.txt").exists()
    with pytest.raises(InputError, match="cannot write here"):
        last.save(thesis / "model")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_what_was_there(
    last: Last, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Last, folder: Path) -> None:
        (folder / "half").touch()
        raise error

    folder = last.save(tmp_path / "model")
    monkeypatch.setattr(Last, "_write", failing)
    for place, force in [(folder, True), (tmp_path / "other", False)]:
        with pytest.raises((InputError, KeyboardInterrupt)):
            last.save(place, force=force)
    assert list(tmp_path.iterdir()) == [folder]
    assert (folder / "last.txt").is_file() and not (folder / "half").exists()


SCALER = {"mean": [0.0, 1.0], "std": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 1}, "forecaster.json: surprise: Extra inputs are not permitted"),
        ({"schema_version": 2}, "forecaster.json: schema_version: Input should be 1"),
        ({"horizon": 0}, "forecaster.json: horizon: Input should be greater than or equal to 1"),
        ({"columns": []}, "forecaster.json: columns: List should have at least 1 item"),
        ({"step": "never"}, "forecaster.json: step: .*'never' is no ISO duration"),
        ({"step": "P0DT0H0M0S"}, "forecaster.json: step: .*'P0DT0H0M0S' does not lead forward"),
        ({"step": "0"}, "forecaster.json: step: .*'0' does not lead forward"),
        ({"step": "-1h"}, "forecaster.json: step: .*'-1h' does not lead forward"),
        ({"scaler": {**SCALER, "mean": [0.0]}}, "does not have one mean and one std for each of 2 columns"),
        ({"scaler": {**SCALER, "std": [1.0, 0.0]}}, "std that is not positive"),
        ({"scaler": {**SCALER, "std": [1.0, float("inf")]}}, r"forecaster.json: scaler.std.1: .*finite"),
        ({"model": "prophet"}, "unknown model 'prophet'; known: dlinear, itransformer, mlp, xpatch, moirai"),
    ],
)
def test_damaged_records_are_refused(last: Last, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = last.save(tmp_path / "model") / "forecaster.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(InputError, match=message) as caught:
        Forecaster.load(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_what_is_no_forecaster_folder_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent: no such forecaster folder; make one with 'hdt finetune"):
        Forecaster.load(tmp_path / "absent")
    with pytest.raises(InputError, match=r"forecaster.json is missing, so this is not a forecaster folder"):
        Forecaster.load(tmp_path)
    (tmp_path / "forecaster.json").write_text("{")
    with pytest.raises(InputError, match=r"forecaster.json: content: Invalid JSON"):
        Forecaster.load(tmp_path)
