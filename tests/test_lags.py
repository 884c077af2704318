"""Regressors on lags as students: of scikit-learn, LightGBM, or one's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, Result, make_frame, refused
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hdt
from hdt.evaluation.protocol import Evaluator
from hdt.students import STUDENTS, build, wrapped
from hdt.students import lags as module
from hdt.students.lags import Lags, on_lags
from hdt.system.fingerprint import fingerprint
from hdt.training.errors import errors
from hdt.training.fit import fit
from hdt.training.loop import Diverged
from hdt.tuning.student import tune_student

Run = Callable[..., Result]
WORDS = ("--context", 12, "--horizon", 6, "--length", 48, "--k", 6)
QUICK = {**SMALL, "iterations": 1}


def series(rows: int = 90, channels: int = 2) -> torch.Tensor:
    return torch.tensor(make_frame(rows, tuple("abcd"[:channels])).to_numpy(), dtype=torch.float32)


def rows_of(values: np.ndarray) -> np.ndarray:
    """Windows of 12 + 6 steps of single channels, window by window, written out."""
    return np.stack([values[t : t + 18, c] for t in range(len(values) - 17) for c in range(values.shape[1])])


def fitted(regressor: Any, values: torch.Tensor, seed: int = 0, horizon: int = 6, **how: Any) -> Lags:
    student = on_lags(regressor, "mine", **how)(12, horizon, values.shape[1])
    student.learn(values[None], seed)
    return student


@pytest.mark.parametrize("level", ["last", "mean", "none"])
def test_a_regressor_learns_every_window_of_every_channel_relative_to_its_level(level: str) -> None:
    values = series()
    rows = rows_of(values.double().numpy())
    shift = {"last": rows[:, 11:12], "mean": rows[:, :12].mean(1, keepdims=True), "none": 0}[level]
    expected = Ridge(3.0).fit(rows[:, :12] - shift, rows[:, 12:] - shift).predict(rows[:, :12] - shift) + shift
    student = fitted(Ridge(3.0), values, level=level)
    found = student(torch.stack([values[t : t + 12] for t in range(73)]))
    assert found.dtype == torch.float32 and found.shape == (73, 6, 2)
    np.testing.assert_allclose(found.transpose(1, 2).reshape(-1, 6), expected, rtol=1e-4)


def test_levels_that_were_never_seen_are_followed() -> None:
    rising = torch.arange(100.0)[:, None]
    trees = fitted(RandomForestRegressor(5), rising[:60])
    np.testing.assert_allclose(trees(rising[None, 80:92])[0], rising[92:98], rtol=1e-5)
    assert fitted(RandomForestRegressor(5), rising[:60], level="none")(rising[None, 80:92]).max() < 60


def test_a_regressor_of_one_target_gets_a_copy_for_every_step() -> None:
    values, make = series(), HistGradientBoostingRegressor(max_iter=3, random_state=0)
    rows = rows_of(values.double().numpy())
    rows -= rows[:, 11:12].copy()
    student = fitted(make, values)
    assert len(student.fitted) == 6 and not hasattr(make, "n_iter_")  # the given one is left as it was
    for step, part in enumerate(student.fitted):
        own = HistGradientBoostingRegressor(max_iter=3, random_state=0).fit(rows[:, :12], rows[:, 12 + step])
        np.testing.assert_array_equal(part.predict(rows[:, :12]), own.predict(rows[:, :12]))
    assert student(values[None, :12]).shape == (1, 6, 2)
    assert fitted(RandomForestRegressor(2), values, horizon=1)(values[None, :12]).shape == (1, 1, 2)


def test_fit_measures_validation_once_and_seeds_what_is_random() -> None:
    values, real = series(), series(150)
    student = on_lags(RandomForestRegressor(3), "forest")(12, 6, 2)
    run = fit(student, values[None], real, seed=0)
    assert run.validation == pytest.approx(errors(student, real).mse)
    assert (run.steps, run.samples) == (0, 73 * 2) and run.seconds > 0
    again, other = fitted(RandomForestRegressor(3), values), fitted(RandomForestRegressor(3), values, seed=1)
    context = values[None, :12]
    assert torch.equal(student(context), again(context)) and not torch.equal(student(context), other(context))


def test_series_that_begin_later_give_no_rows_before() -> None:
    values = series(60)
    later = torch.cat([torch.full((5, 1), torch.nan), values[5:, :1]])
    student = on_lags(LinearRegression, "ols")(12, 6, 1)
    used = student.learn(torch.stack([values[:, :1], later]), 0)
    assert used == 43 + 38


def test_no_more_rows_than_are_asked_for_are_used_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 40)
    monkeypatch.setattr(module, "ROWS_EACH", 20)
    for regressor, count in ((Ridge, 40), (HistGradientBoostingRegressor(max_iter=1), 20)):
        student = on_lags(regressor, "mine")(12, 6, 2)
        with pytest.warns(UserWarning, match=f"mine was fitted on {count} of 146 windows of single channels"):
            assert student.learn(series()[None], 0) == count
    assert on_lags(Ridge, "mine", rows=200)(12, 6, 2).learn(series()[None], 0) == 146


@pytest.mark.filterwarnings("error", "ignore:.*little compression")
def test_evaluate_and_compare_score_them_like_others(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    distilled = hdt.distill(frame, **QUICK)
    own = hdt.wrap(make_pipeline(StandardScaler(), Ridge()), "scaled ridge")
    table = hdt.evaluate(distilled, students=["sklearn:Ridge", own], seeds=1)
    rows = table.set_index(["student", "trained_on"])["mse"]
    assert 0.05 < rows["sklearn:Ridge", "full"] < rows["sklearn:Ridge", "last value"]
    assert {"distilled", "random", "full"} <= set(table["trained_on"])
    assert rows["scaled ridge", "full"] == pytest.approx(rows["sklearn:Ridge", "full"], rel=0.1)
    blind = hdt.evaluate(distilled, students=["sklearn:Ridge"], seeds=1, validation=False)
    assert blind["mse"][0] == table["mse"][0]
    with pytest.raises(hdt.InputError, match="sklearn:Ridge is fitted, not trained step by step; hdt evaluate scores"):
        tune_student(distilled, model="sklearn:Ridge")
    monkeypatch.setattr(Lags, "learn", lambda *_: pytest.fail("full data were fitted again"))
    evaluator = Evaluator(distilled.panel, 12, 6)
    assert evaluator.score_full("sklearn:Ridge", 0)["mse"] == rows["sklearn:Ridge", "full"]


def test_other_settings_are_another_student_in_the_cache() -> None:
    def key(regressor: Any, **how: Any) -> str:
        return fingerprint([], code=[on_lags(regressor, "mine", **how)])

    keys = [key(Ridge), key(Ridge(2.0)), key(LinearRegression), key(Ridge, level="mean"), key(Ridge, rows=9)]
    assert len(set(keys)) == 5 and key(Ridge(1.0)) == keys[0]
    assert key(make_pipeline(StandardScaler(), Ridge(2.0))) != key(make_pipeline(StandardScaler(), Ridge(3.0)))


class Odd:
    """A regressor of one's own, with no settings."""

    def __init__(self, answer: float | None = 0.0) -> None:
        self.answer = answer

    def fit(self, lags: np.ndarray, targets: np.ndarray) -> None:
        if self.answer is None:
            raise ZeroDivisionError("no\nway")
        print("I talk")

    def predict(self, lags: np.ndarray) -> np.ndarray:
        return np.full(len(lags), self.answer)


def test_what_goes_wrong_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    values = series()
    with pytest.raises(hdt.InputError, match=r"student 'mine' cannot be fitted \(no\)$"):
        fitted(Odd(None), values)
    with pytest.raises(hdt.InputError, match=r"of lags \(2, 12\) it made \(2,\), not the forecast \(2, 6\)"):
        fitted(Odd, values)(values[None, :12])
    assert fitted(Odd, values, horizon=1)(values[None, :12])[0, 0].tolist() == values[11].tolist()
    assert capsys.readouterr().out == ""
    with pytest.raises(Diverged, match="student 'mine': its forecasts are not finite"):
        fit(on_lags(Odd(np.nan), "mine")(12, 1, 2), values[None], values, seed=0)
    with pytest.raises(hdt.InputError, match="unknown level 'first'; choose one of last, mean, none"):
        on_lags(Ridge, "mine", level="first")
    with pytest.raises(hdt.InputError, match="rows=0: at least one is needed"):
        on_lags(Ridge, "mine", rows=0)
    with pytest.raises(hdt.InputError, match="a regressor is fitted, not trained; leave training out"):
        hdt.wrap(Ridge, "ridge", training=STUDENTS["dlinear"].training_settings)
    with pytest.raises(hdt.InputError, match="student 'sklearn:Ridge' is not fitted yet"):
        build("sklearn:Ridge", 12, 6, 2, seed=0)(values[None, :12])


def test_the_command_line_takes_them_by_name(run: Run, csv: Path, tmp_path: Path) -> None:
    assert run("distill", csv, *WORDS, "--iterations", 1, "--out", "r").code == 0
    name = f"own_{tmp_path.name.replace('-', '_')}"
    Path(f"{name}.py").write_text("from sklearn.linear_model import Ridge\nsoft = Ridge(alpha=9)\n", encoding="utf-8")
    students = ["sklearn:Ridge", "sklearn.linear_model:LinearRegression", f"{name}:soft"]
    done = run("evaluate", "r", *(w for s in students for w in ("--student", s)), "--seeds", 1, "--json")
    assert done.code == 0 and list(dict.fromkeys(row["student"] for row in json.loads(done.out)["rows"])) == students
    words = ("--method", "random", "--student", students[0], "--seeds", 1, *WORDS[:6], "--json", "--out", "c")
    compared = run("compare", csv, *words)
    assert compared.code == 0, compared.err
    for path, message in [
        ("sklearn:Rigde", r"cannot be imported \(AttributeError: scikit-learn has no regressor 'Rigde'\)"),
        ("sklearn:MultiOutputRegressor", r"cannot be made without arguments \(.*estimator.*\); name an instance"),
        ("sklearn:PoissonRegressor", r"cannot be fitted \(Some value\(s\) of y are out of the valid range"),
    ]:
        refused(run("evaluate", "r", "--student", path, "--seeds", 1, "--json"), message)
    refused(run("distill", csv, "--method", "dc", "--backbone", "sklearn:Ridge", "--out", "b"), "has no gradients")


@pytest.mark.parametrize(
    ("path", "package"),
    [
        ("sklearn:Ridge", "scikit-learn"),
        ("lightgbm:LGBMRegressor", "lightgbm"),
        ("neuralforecast:NHITS", "'hdt-ts[neuralforecast]'"),
    ],
)
def test_what_is_not_installed_is_named(path: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    top = path.partition(":")[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == top]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, top, None)
    with pytest.raises(hdt.InputError) as caught:
        wrapped.load(path)
    assert str(caught.value) == f"student {path!r}: {top} is not installed; pip install {package}"


def test_lightgbm_is_a_student(frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")
    table = hdt.evaluate(
        hdt.distill(frame, **QUICK),
        students=[hdt.wrap(lightgbm.LGBMRegressor(n_estimators=20, min_child_samples=5), "lgbm")], seeds=1,
    ).set_index("trained_on")["mse"]  # fmt: skip
    assert table["full"] < table["last value"] and capsys.readouterr().out == ""
    assert STUDENTS["lightgbm:LGBMRegressor"].by_gradient is False


def test_a_regressor_of_ones_own_is_known_by_its_text_and_named_when_it_fails() -> None:
    distilled = hdt.distill(make_frame(), **SMALL)

    class Own:
        """Fits anything and predicts nothing."""

        def fit(self, lags: np.ndarray, targets: np.ndarray) -> Own:
            return self

        def predict(self, lags: np.ndarray) -> np.ndarray:
            raise ValueError("not today")

    kind = hdt.wrap(Own, "own")
    assert "not today" in kind.identity
    with pytest.raises(hdt.InputError, match=r"student 'own' cannot forecast \(not today\)"):
        hdt.evaluate(distilled, students=[kind], seeds=1)
    with pytest.raises(hdt.InputError, match="two students are named 'own'"):
        hdt.evaluate(distilled, students=[kind, hdt.wrap(Own, "own")], seeds=1)


def test_steps_of_a_pipeline_start_from_the_seed() -> None:
    from sklearn.linear_model import SGDRegressor

    distilled = hdt.distill(make_frame(), **SMALL)
    kind = hdt.wrap(make_pipeline(StandardScaler(), SGDRegressor(max_iter=5, tol=None)), "pipe")
    first, second = (hdt.evaluate(distilled, students=[kind], seeds=1)["mse"].iloc[0] for _ in range(2))
    assert first == second
