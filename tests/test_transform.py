"""Tables differenced, freed of their line or season: there and back, errors in the units of the table, the choice."""

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
from hdt.run.choice import decided
from hdt.training.fit import errors

Run = Callable[..., Result]
KINDS = ("difference", "detrend", "seasonal")
QUICK = {"length": 48, "context": 12, "horizon": 6, "iterations": 3, "method": "wiener", "features": 8}


def drifting() -> pd.DataFrame:
    frame = make_frame().rename_axis("date")
    return frame + np.arange(400)[:, None] * [0.05, -0.2]


@given(
    st.sampled_from(KINDS[:2]), arrays(np.float64, st.tuples(st.integers(2, 40), st.integers(1, 3)),
                                   elements=st.floats(-1e6, 1e6)), st.integers(1, 40),
)  # fmt: skip
def test_what_is_taken_comes_back(kind: str, values: np.ndarray, cut: int) -> None:
    taken = Transform.fit(kind, values)
    halves = [values[:cut], values[cut:]]
    left = np.concatenate([taken.forward(halves[0], values[:0]), taken.forward(halves[1], halves[0])])
    np.testing.assert_allclose(taken.inverse(left[None])[0], values, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(left, taken.forward(values, values[:0]), rtol=1e-9, atol=1e-6)


@given(
    st.integers(3, 12), st.integers(5, 9), st.integers(1, 60), st.floats(-1e3, 1e3), st.floats(-1, 1), st.data(),
)  # fmt: skip
def test_seasonal_levels_come_back(
    period: int, cycles: int, cut: int, level: float, slope: float, data: st.DataObject
) -> None:
    rows = np.arange(period * cycles)
    noise = data.draw(arrays(np.float64, (len(rows), 2), elements=st.floats(-0.02, 0.02)))
    wave = np.sin(2 * np.pi * rows / period + 1)
    values = noise + np.stack([level + slope * rows + wave, 1e3 * wave], axis=1)
    taken = Transform.fit("seasonal", values)
    assert taken.state.shape == (period, 2)
    halves = [values[:cut], values[cut:]]
    left = np.concatenate([taken.forward(halves[0], values[:0]), taken.forward(halves[1], halves[0])])
    np.testing.assert_allclose(taken.inverse(left[None])[0], values, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(left, values - np.tile(taken.state, (cycles, 1)), atol=0)


def test_seasonal_levels_are_mean_deviations_from_a_mean_over_one_season() -> None:
    """The slope stays, columns without that season keep their values, and phases go by row number."""
    rows = np.arange(400)
    noise = np.random.default_rng(0).normal(size=(400, 2))
    wave = np.cos(2 * np.pi * rows / 24)
    frame = pd.DataFrame(
        {"a": 3 * wave + 0.1 * rows + noise[:, 0], "b": 5 * wave + 9, "none": noise[:, 1], "other": rows % 7},
        index=pd.date_range("2024", periods=400, freq="h", name="date"), dtype=float,
    )  # fmt: skip
    panel = hdt.load(frame, transform="seasonal")
    whole, state = frame.to_numpy(), panel.fitted.state
    expected = np.zeros((24, 4))
    for c in range(2):
        gaps = [whole[t, c] - whole[max(0, t - 12) : min(280, t + 12), c].mean() for t in range(280)]
        expected[:, c] = [np.mean(gaps[phase::24]) for phase in range(24)]
    np.testing.assert_allclose(state, expected, atol=1e-9)
    assert np.abs(state[:, 1] - 5 * wave[:24]).max() < 0.5
    phase = np.arange(400) % 24
    found = np.concatenate([panel.original(part) for part in ("train", "val", "test")])
    np.testing.assert_allclose(found, whole - state[phase], atol=1e-12)
    flat = frame[["none"]]
    with pytest.raises(hdt.InputError, match=r"^frame: --transform seasonal .* no column has one; leave it out$"):
        hdt.load(flat, transform="seasonal")


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
    elif kind == "seasonal":
        forecast = forecast + panel.fitted.state[(first[:, None] + np.arange(6)) % 24]
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


@pytest.mark.parametrize("kind", [*KINDS, "auto"])
def test_validation_and_test_change_no_byte(kind: str) -> None:
    frame, poisoned = drifting(), drifting()
    poisoned.iloc[280:] = np.nan
    one, other = (hdt.distill(each, transform=kind, **QUICK) for each in (frame, poisoned))
    assert one.values.tobytes() == other.values.tobytes()
    assert one.info.data.transform == other.info.data.transform is not None
    assert one.info.data.transform_auto == other.info.data.transform_auto
    assert (set(one.info.data.transform_auto) == {"none", *KINDS}) == (kind == "auto")


NOISE = np.random.default_rng(0).normal(size=(400, 2))
WALK = NOISE.cumsum(axis=0)
TABLES = {
    "none": NOISE + np.roll(NOISE, 1), "difference": WALK,
    "detrend": NOISE + np.arange(400)[:, None], "seasonal": np.tile(NOISE[:25], (16, 1)) + WALK[::-1] / 30,
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_auto_takes_the_least_error_of_a_ridge_regression_by_hand(kind: str) -> None:
    """Its windows one by one, differences added up from the last row that is seen."""
    table, (context, horizon, rows, cut) = TABLES[kind], (4, 3, 280, 224)
    frame = pd.DataFrame(table, index=pd.date_range("2024", periods=400, freq="h"), columns=["a", "b"])
    panel = hdt.load(frame, transform="auto")
    with pytest.raises(hdt.InputError, match=r"^frame: transform='auto': a distillation or a comparison chooses"):
        panel.part("train")
    found = decided(panel, context, horizon)
    std, errors = table[:rows].std(axis=0), {}
    for name in found.tried:
        left = table[:rows].copy()
        if name != "none":
            left = Transform.fit(name, left[:cut]).forward(left, left[:0])
        left, scaled = left / std, table / std
        windows = [(t, c) for t in range(context, rows - horizon + 1) for c in range(2)]
        x = {(t, c): np.append(left[t - context : t, c] - left[:cut, c].mean(), 1) for t, c in windows}
        fit = [(t, c) for t, c in windows if t + horizon <= cut]
        a = np.stack([x[w] for w in fit])
        b = np.stack([left[t : t + horizon, c] - left[:cut, c].mean() for t, c in fit])
        gram, least = a.T @ a / len(a), np.inf
        for power in range(-7, 1):
            ridge = 10.0**power * gram.diagonal()[:-1].mean() * np.diag([1.0] * context + [0.0])
            weights, gaps = np.linalg.solve(gram + ridge, a.T @ b / len(a)), []
            for t, c in windows:
                if t >= cut:
                    step = x[t, c] @ weights + left[:cut, c].mean()
                    given = scaled[t : t + horizon, c] - left[t : t + horizon, c]  # what was taken
                    forecast = scaled[t - 1, c] + step.cumsum() if name == "difference" else step + given
                    gaps.append(forecast - scaled[t : t + horizon, c])
            least = min(least, np.mean(np.square(gaps)))
        errors[name] = least
    assert found.tried == pytest.approx(errors, rel=1e-5) and min(errors, key=errors.get) == kind
    assert found.transform == kind and found.load_options["transform"] == kind
    assert (None if found.fitted is None else found.fitted.kind) == (None if kind == "none" else kind)
    told = f"--transform auto took {kind}; squared errors on the last fifth of the training rows: none "
    assert found.read[-1].startswith(told) and f"{kind} {errors[kind]:.3g}" in found.read[-1]
    assert decided(found, context, horizon) is found


def test_what_auto_chose_is_in_the_run(run: Run) -> None:
    drifting().to_csv("a.csv")
    words = ["a.csv", *(f"--{name}={QUICK[name]}" for name in ("length", "context", "horizon")), "--transform", "auto"]
    words += [f"--option={name}={QUICK[name]}" for name in ("iterations", "features")]
    made = run("distill", *words, "--method", "wiener", "--out", "r")
    assert made.code == 0, made.err
    assert made.err.count("--transform auto took ") == 1
    info = json.loads(Path("r/run.json").read_text())["data"]
    assert set(info["transform_auto"]) == {"none", *KINDS}
    kind = min(info["transform_auto"], key=info["transform_auto"].get)
    assert info["transform"]["kind"] == kind == info["load_options"]["transform"]
    assert f"note: --transform auto took {kind}; " in made.err
    assert run("evaluate", "r", "--seeds", "1", "--json").code == 0
    assert run("distill", "--recipe", "r/recipe.yaml", "--out", "again").code == 0
    assert Path("r/params.safetensors").read_bytes() == Path("again/params.safetensors").read_bytes()
    assert "transform_auto" not in json.loads(Path("again/run.json").read_text())["data"]
    compared = run("compare", *words, "--method", "wiener", "--student", "dlinear", "--seeds", "1", "--json")
    assert compared.code == 0 and compared.err.count(f"note: a.csv: --transform auto took {kind}; ") == 1, compared.err
    short = ["distill", *words, "--method", "wiener", "--out", "s"]
    few = [*short, "--split", "50,80,400", "--horizon", "12"]
    refused(run(*few), "50 are too few for context 12 and horizon 12; choose one of none, difference")
    refused(run(*short, "--channels", "1", "--epsilon", "1"), "its table is transformed, auto")


def test_a_run_comes_back_in_the_units_of_the_table(run: Run) -> None:
    frame = drifting()
    frame.to_csv("a.csv")
    words = ["distill", "a.csv", *(f"--{name}={QUICK[name]}" for name in QUICK if name != "features")]
    words += ["--option", "features=8"]
    refused(
        run(*words, "--transform", "log"), "transform='log': choose one of none, difference, detrend, seasonal, auto"
    )
    for kind in KINDS:
        assert run(*words, "--transform", kind, "--out", kind).code == 0
        made = hdt.Distilled.load(kind)
        assert made.info.data.load_options == {"transform": kind}
        state, values = np.array(made.info.data.transform.state), made.values[0] * made.info.scaler_std
        values = values + made.info.scaler_mean
        expected = {
            "difference": lambda v, s: s + v.cumsum(axis=0),
            "detrend": lambda v, s: v + s[0] + s[1] * np.arange(48)[:, None],
            "seasonal": lambda v, s: v + np.tile(s, (2, 1)),
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
