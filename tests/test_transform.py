"""Tables that drift, differenced or freed of their line: there and back, and errors in the units of the table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Result, make_frame, refused
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import detrend

import hdt
from hdt.data.transform import Transform
from hdt.evaluation.protocol import Evaluator
from hdt.maths.windows import windows
from hdt.training.fit import errors

Run = Callable[..., Result]
KINDS = ("difference", "detrend")
QUICK = {"length": 48, "context": 12, "horizon": 6, "iterations": 3, "method": "wiener", "features": 8}


def drifting() -> pd.DataFrame:
    frame = make_frame().rename_axis("date")
    return frame + np.arange(400)[:, None] * [0.05, -0.2]


@given(
    st.sampled_from(KINDS), arrays(np.float64, st.tuples(st.integers(2, 40), st.integers(1, 3)),
                                   elements=st.floats(-1e6, 1e6)), st.integers(1, 40),
)  # fmt: skip
def test_what_is_taken_comes_back(kind: str, values: np.ndarray, cut: int) -> None:
    taken = Transform.fit(kind, values)
    halves = [values[:cut], values[cut:]]
    left = np.concatenate([taken.forward(halves[0], values[:0]), taken.forward(halves[1], halves[0])])
    np.testing.assert_allclose(taken.inverse(left[None])[0], values, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(left, taken.forward(values, values[:0]), rtol=1e-9, atol=1e-6)


def test_parts_are_what_numpy_and_scipy_make_of_the_table() -> None:
    frame, context = drifting(), 12
    frame.iloc[3] = np.nan
    whole = frame.interpolate().to_numpy()
    panel = hdt.load(frame, transform="difference")
    train, test = panel.original("train"), panel.original("test")
    np.testing.assert_allclose(train[1:], np.diff(whole[:280], axis=0))
    np.testing.assert_allclose(train[0], train[1])
    np.testing.assert_allclose(test, np.diff(whole[319:], axis=0))
    early = panel.scaler.inverse(panel.part("test", context))
    np.testing.assert_allclose(early, np.diff(whole[319 - context :], axis=0))
    np.testing.assert_allclose(panel.scaler.std, train.std(axis=0))
    line = hdt.load(frame, transform="detrend")
    np.testing.assert_allclose(line.original("train"), detrend(whole[:280], axis=0), atol=1e-9)
    fit = [np.polyfit(np.arange(280), own, 1) for own in whole[:280].T]
    expected = whole - np.stack([np.polyval(own, np.arange(400)) for own in fit], axis=1)
    np.testing.assert_allclose(line.original("val"), expected[280:320], atol=1e-9)
    plain = hdt.load(frame)
    assert len({each.train_sha256 for each in (panel, line, plain)}) == 3
    assert len({each.sha256 for each in (panel, line, plain)}) == 3
    assert plain.plain is plain and panel.plain.train_sha256 == plain.train_sha256


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_those_of_forecasts_of_the_table(kind: str, masked: bool) -> None:
    frame = drifting()
    if masked:
        frame.iloc[330:350, 0] = np.nan
    plain, panel = hdt.load(frame), hdt.load(frame, transform=kind)
    evaluator = Evaluator(panel, 12, 6)
    student, _ = evaluator.trained("dlinear", evaluator.train[None], 0, evaluator.trainings("dlinear")[0])
    scaled = panel.part("test", 12)
    every = windows(torch.tensor(scaled, dtype=torch.float32), 12, 6)
    with torch.no_grad():
        forecast = panel.scaler.inverse(student(every[:, :12]).double().numpy())
    first = np.arange(len(forecast)) + 320
    filled = np.concatenate([plain.original(part) for part in ("train", "val", "test")])
    if kind == "difference":
        forecast = filled[first - 1][:, None] + forecast.cumsum(axis=1)
    else:
        line = panel.fitted.state
        forecast = forecast + line[0] + line[1] * (first[:, None] + np.arange(6))[..., None]
    true = np.stack([frame.to_numpy()[first + h] for h in range(6)], axis=1)
    gap = (forecast - true) / plain.scaler.std
    assert errors(student, evaluator.test).mse == pytest.approx(
        np.mean([np.nanmean(np.square(gap[..., c])) for c in range(2)]), rel=1e-3
    )
    score = evaluator.test_errors(student)
    reference = Evaluator(plain, 12, 6)
    assert evaluator.score_naive("last value") == reference.score_naive("last value")
    assert np.array_equal(evaluator.scale, reference.scale) and score["mase"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_validation_and_test_change_no_byte(kind: str) -> None:
    frame, poisoned = drifting(), drifting()
    poisoned.iloc[280:] = np.nan
    one, other = (hdt.distill(each, transform=kind, **QUICK) for each in (frame, poisoned))
    assert one.values.tobytes() == other.values.tobytes()
    assert one.info.data.transform == other.info.data.transform is not None


def test_a_run_comes_back_in_the_units_of_the_table(run: Run) -> None:
    frame = drifting()
    frame.to_csv("a.csv")
    words = ["distill", "a.csv", *(f"--{name}={QUICK[name]}" for name in QUICK if name != "features")]
    words += ["--option", "features=8"]
    refused(run(*words, "--transform", "log"), "transform='log': choose one of none, difference, detrend")
    for kind in KINDS:
        assert run(*words, "--transform", kind, "--out", kind).code == 0
        made = hdt.Distilled.load(kind)
        assert made.info.data.load_options == {"transform": kind}
        state, values = np.array(made.info.data.transform.state), made.values[0] * made.info.scaler_std
        values = values + made.info.scaler_mean
        expected = {
            "difference": lambda v, s: s + v.cumsum(axis=0),
            "detrend": lambda v, s: v + s[0] + s[1] * np.arange(48)[:, None],
        }[kind](values, state)
        np.testing.assert_allclose(made.to_wide(), expected)
        found = run("evaluate", kind, "--seeds", "1", "--json")
        assert found.code == 0, found.err
        rows = {row["trained_on"]: row for row in json.loads(found.out)["rows"]}
        assert rows["last value"]["mse"] == pytest.approx(
            Evaluator(hdt.load(frame.set_axis(frame.index)), 12, 6).score_naive("last value")["mse"]
        )
        val = made.real_validation(hdt.load("a.csv", transform=kind))
        np.testing.assert_allclose(val.pivot(index="ds", columns="unique_id", values="y"), frame.iloc[280:320])
        refused(run("finetune", kind, "--model", "dlinear", "--out", "f"), f"its table was transformed .{kind}.")
        recipe = run("distill", "--recipe", f"{kind}/recipe.yaml", "--out", "again", "--force")
        assert recipe.code == 0
        assert Path(kind, "params.safetensors").read_bytes() == Path("again/params.safetensors").read_bytes()
    refused(run(*words, "--transform", "detrend", "--state", "--out", "s"), "its table was transformed, detrend")
    info = json.loads(Path("detrend/run.json").read_text())
    info["data"]["transform"]["state"].pop()
    Path("detrend/run.json").write_text(json.dumps(info))
    refused(run("evaluate", "detrend"), "transform: its state does not fit 2 columns")


def test_series_that_share_no_stamps_are_refused() -> None:
    long = drifting().reset_index().melt("date", var_name="unique_id", value_name="y").rename(columns={"date": "ds"})
    with pytest.raises(hdt.InputError, match="--transform is for series that share their stamps"):
        hdt.load(long.iloc[:700], transform="difference")
