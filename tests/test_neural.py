"""Networks of neuralforecast as students, and distilled series in its own frames."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Result, refused
from torch import nn

import hdt
from hdt.maths.roles import Roles
from hdt.students import STUDENTS, Student, Training, build, wrapped

warnings.filterwarnings("ignore")
models = pytest.importorskip(
    "neuralforecast.models", reason="neuralforecast is not installed: pip install 'hdt-ts[neuralforecast]'"
)
Run = Callable[..., Result]
NAMES = ("PatchTST", "NHITS", "TiDE", "TSMixer", "TimesNet", "TimeMixer", "NBEATS", "iTransformer", "LSTM", "DLinear")


@pytest.mark.parametrize("name", NAMES)
def test_models_forecast_and_learn(name: str) -> None:
    kind = getattr(models, name)
    student = build(f"neuralforecast:{name}", 24, 6, 3, seed=0)
    context = torch.randn(5, 24, 3)
    forecast = student(context)
    assert forecast.shape == (5, 6, 3) and student.mixes_channels == kind.MULTIVARIATE
    if not kind.MULTIVARIATE and name != "TimesNet":  # whose periods are those of the whole batch
        student.eval()
        torch.testing.assert_close(student(context)[..., 1:2], student(context[..., 1:2]), rtol=1e-4, atol=1e-5)
    forecast.square().mean().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())
    rate = 1e-4 if name in ("PatchTST", "TimesNet", "DLinear") else 1e-3
    assert [way.lr for way in student.trainings()] == pytest.approx([rate / 5, rate, rate * 5])


def test_their_scaler_is_used() -> None:
    def scaled(context: int, horizon: int, channels: int) -> nn.Module:
        return models.NHITS(h=horizon, input_size=context, scaler_type="standard")

    student = hdt.wrap(scaled, "scaled")(24, 6, 2).eval()
    context = torch.randn(4, 24, 2)
    torch.testing.assert_close(student(7 * context + 100), 7 * student(context) + 100, rtol=1e-4, atol=1e-3)


def test_the_seed_decides_their_weights_and_nothing_else_is_seeded() -> None:
    def weights(seed: int) -> torch.Tensor:
        return torch.cat([p.flatten() for p in build("neuralforecast:NHITS", 24, 6, 1, seed).parameters()])

    before = states()
    assert torch.equal(weights(0), weights(0)) and not torch.equal(weights(0), weights(1))
    assert states() == before


def test_evaluate_takes_them(run: Run, csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrapped, "Training", lambda **given: Training(**given, epochs=1, min_steps=10))
    words = ("--context", 12, "--horizon", 6, "--length", 48, "--k", 6, "--iterations", 1)
    assert run("distill", csv, *words, "--out", "r").code == 0
    done = run("evaluate", "r", "--student", "neuralforecast:NLinear", "--seeds", 1, "--json")
    assert done.code == 0 and {row["student"] for row in json.loads(done.out)["rows"]} == {"neuralforecast:NLinear"}
    words = ("evaluate", "r", "--seeds", 1, "--json", "--student")
    refused(run(*words, "neuralforecast:DeepAR"), "DeepAR forecasts step by step; train it with NeuralForecast.fit")
    refused(run(*words, "neuralforecast:Nhits"), r"cannot be imported \(AttributeError")


@pytest.mark.parametrize("name", ["NHITS", "TFT"])
def test_they_are_told_what_is_known_ahead_and_of_the_past(name: str) -> None:
    student = build(f"neuralforecast:{name}", 24, 6, 3, seed=0, roles=Roles(2, 1, 2)).eval()
    sees_what_it_may(student)
    own = build(f"neuralforecast:{name}", 24, 6, 2, seed=0, roles=Roles(2, 0, 1, groups=2)).eval()
    both = torch.randn(1, 30, 4)
    forecast, other = own.of(both), both.clone()
    other[:, -1, 3] += 5  # of the second series alone
    torch.testing.assert_close(own.of(other)[..., 0], forecast[..., 0])
    assert not torch.equal(own.of(other)[..., 1], forecast[..., 1])
    assert not build("neuralforecast:TSMixer", 24, 6, 3, seed=0).takes_known


def test_a_function_that_makes_one_names_the_columns_itself() -> None:
    def tide(context: int, horizon: int, channels: int) -> nn.Module:
        lists = {"futr_exog_list": ["price", "hour"], "hist_exog_list": ["temp"]}
        return models.TiDE(h=horizon, input_size=context, hidden_size=16, layernorm=False, **lists)

    tide.takes_known = True
    student = hdt.wrap(tide, "told")(24, 6, 3)
    student.take(Roles(2, 1, 2))
    sees_what_it_may(student.eval())


def sees_what_it_may(student: Student) -> None:
    """Of windows of two targets, a column of the past and two known ahead."""
    both = torch.randn(1, 30, 5)
    forecast = student.of(both)
    assert student.takes_known and forecast.shape == (1, 6, 2)
    for channel, step in ((3, -1), (4, 0), (2, 3)):  # the last step known ahead, the first, the past
        other = both.clone()
        other[:, step, channel] += 5
        assert not torch.equal(student.of(other), forecast), channel
    other = both.clone()
    other[:, 24:, :3] += 5  # targets and columns of the past are not seen ahead
    assert torch.equal(student.of(other), forecast)


def test_what_they_need_is_said() -> None:
    quantiles = hdt.wrap(lambda c, h, n: models.NHITS(h=h, input_size=c, loss=losses().MQLoss()), "quantiles")
    with pytest.raises(hdt.InputError, match=r"NHITS forecasts 5 numbers a step; give it a loss such as MAE\(\)"):
        quantiles(12, 6, 2)
    with pytest.raises(hdt.InputError, match=r"cannot be made of .* \(Please install `transformers`"):
        build("neuralforecast:TimeLLM", 12, 6, 2, seed=0)
    assert "neuralforecast:NHITS" in STUDENTS


def states() -> list[Any]:
    """Of the global generators."""
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]  # noqa: NPY002


def losses() -> Any:
    from neuralforecast.losses import pytorch

    return pytorch
