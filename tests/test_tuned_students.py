from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, make_frame
from safetensors.torch import load_file, save_file

import hdt
from hdt.evaluation.protocol import Evaluator
from hdt.students import STUDENTS, Training
from hdt.system import machine
from hdt.system.errors import InputError
from hdt.tuning import student as tuning
from hdt.tuning.forecaster import Forecaster, check_window
from hdt.tuning.student import StudentForecaster, tune_student

POOLED = {
    **{name: value for name, value in SMALL.items() if name != "k"},
    "method": "wiener",
    "features": 8,
    "draws": 2,
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """31 windows of 48 steps are one batch an epoch: 16 epochs to 16 steps, at three learning rates."""
    for kind in STUDENTS.values():
        monkeypatch.setattr(kind, "training_settings", Training(lr=5e-3, epochs=2, min_steps=16))


@pytest.fixture(scope="module")
def distilled() -> hdt.Distilled:
    return hdt.distill(make_frame(), **SMALL)


def weights(model: StudentForecaster) -> dict[str, torch.Tensor]:
    return model.network.state_dict()


def alike(one: StudentForecaster, other: StudentForecaster) -> bool:
    return all(torch.equal(weights(one)[name], weights(other)[name]) for name in weights(one) | weights(other))


@pytest.mark.parametrize("model", STUDENTS)
def test_a_student_is_trained_as_in_the_evaluation(distilled: hdt.Distilled, model: str) -> None:
    facts = tune_student(distilled, model=model).training
    score = Evaluator(distilled.panel, 12, 6).score(model, distilled.values, 0)
    assert facts["validation_mse"] == score["validation_mse"]
    assert facts["validation_mse"] == min(run["validation_mse"] for run in facts["trainings"])
    rates = [run["learning_rate"] for run in facts["trainings"]]
    assert rates[:3] == pytest.approx([1e-3, 5e-3, 2.5e-2])
    assert [run["shuffle_channels"] for run in facts["trainings"]] == [False] * 3 + [True] * (len(rates) - 3)
    assert facts["trained_on"] == "distilled" and facts["method"] == "hdt" and facts["seed"] == 0
    assert facts["steps_to_best"] in [run["best_step"] for run in facts["trainings"]]
    assert facts["validation_mse_before"] is None and facts["versions"]["torch"] == version("torch")


def test_windows_seen_are_counted(distilled: hdt.Distilled) -> None:
    """Distilled: 31 windows, 16 epochs of one step. Real: 263 windows, 9 steps an epoch, 2 epochs."""
    synthetic, real = tune_student(distilled).training, tune_student(distilled, real=True).training
    assert (synthetic["windows"], synthetic["steps"], synthetic["samples"]) == (31, 16, 3 * 16 * 31)
    assert (real["windows"], real["steps"], real["samples"]) == (263, 18, 3 * 2 * 263)
    assert real["trained_on"] == "real" and real["method"] is None
    assert real["seconds"] == sum(run["seconds"] for run in real["trainings"])


def test_real_and_distilled_give_other_students_and_seeds_too(distilled: hdt.Distilled) -> None:
    one = tune_student(distilled)
    assert alike(one, tune_student(distilled))
    assert not alike(one, tune_student(distilled, real=True))
    assert not alike(one, tune_student(distilled, seed=1))


def test_values_may_be_given_with_their_panel(distilled: hdt.Distilled) -> None:
    given = tune_student(distilled.values, panel=distilled.panel, context=12, horizon=6)
    assert alike(given, tune_student(distilled)) and given.training["trained_on"] == "series"
    with pytest.raises(InputError, match="give all three"):
        tune_student(distilled.values, panel=distilled.panel, context=12)
    with pytest.raises(InputError, match=r"values of shape \(48, 2\): expected \[sequences, steps, channels\]"):
        tune_student(distilled.values[0], panel=distilled.panel, context=12, horizon=6)


@pytest.mark.parametrize("model", STUDENTS)
def test_forecasts_are_those_of_the_network_in_original_units(distilled: hdt.Distilled, model: str) -> None:
    tuned, frame = tune_student(distilled, model=model, steps=4), make_frame(60, seed=3)
    scaler = distilled.panel.scaler
    context = torch.tensor(scaler.transform(frame.to_numpy()[-12:]), dtype=torch.float32)
    with torch.no_grad():
        expected = scaler.inverse(tuned.network(context[None])[0].double().numpy())
    forecast = tuned.forecast(frame)
    np.testing.assert_allclose(forecast, expected, rtol=1e-6)
    assert forecast.shape == (6, 2) and abs(forecast.to_numpy().mean() - 5) < 2


@pytest.mark.parametrize("model", STUDENTS)
def test_save_and_load_keep_every_forecast(distilled: hdt.Distilled, model: str, tmp_path: Path) -> None:
    tuned = tune_student(distilled, model=model, steps=4)
    loaded = Forecaster.load(tuned.save(tmp_path / "model"))
    assert isinstance(loaded, StudentForecaster) and loaded.record == tuned.record
    pd.testing.assert_frame_equal(loaded.forecast(make_frame(60)), tuned.forecast(make_frame(60)))
    with pytest.raises(InputError, match="its step is P0DT2H0M0S, this forecaster was tuned on steps of P0DT1H0M0S"):
        loaded.forecast(make_frame(60).iloc[::2])


@pytest.mark.parametrize("model", ["dlinear", "xpatch"])
def test_the_forecast_of_a_column_does_not_depend_on_the_others_given(distilled: hdt.Distilled, model: str) -> None:
    tuned, frame = tune_student(distilled, model=model, steps=8), make_frame(60)
    if model == "xpatch":
        assert not torch.equal(*tuned.network.scale.detach())  # so that a mix-up of channels would be seen
    every = tuned.forecast(frame)
    pd.testing.assert_frame_equal(tuned.forecast(frame[["wind", "load"]]), every[["wind", "load"]])
    pd.testing.assert_frame_equal(tuned.forecast(frame[["wind"]]), every[["wind"]])
    with pytest.raises(InputError, match="column 'sun' is unknown to this"):
        tuned.forecast(frame.assign(sun=1.0))


def test_a_student_that_mixes_channels_takes_them_in_any_order(distilled: hdt.Distilled) -> None:
    tuned, frame = tune_student(distilled, model="itransformer", steps=4), make_frame(60)
    turned = tuned.forecast(frame[["wind", "load"]])[["load", "wind"]]
    np.testing.assert_allclose(turned, tuned.forecast(frame), rtol=1e-5)
    assert tuned.forecast(frame[["wind"]]).shape == (6, 1)


@pytest.mark.parametrize("model", STUDENTS)
def test_fewer_synthetic_channels_teach_all_real_ones(model: str, tmp_path: Path) -> None:
    frame = make_frame(columns=("load", "wind", "sun"))
    pooled = hdt.distill(frame, channels=2, **POOLED)
    tuned = tune_student(pooled, model=model, steps=4)
    assert tuned.columns == ["load", "wind", "sun"] and tuned.record.channels == 2
    forecast = tuned.forecast(frame)
    assert list(forecast.columns) == ["load", "wind", "sun"]
    loaded = Forecaster.load(tuned.save(tmp_path / "model"))
    pd.testing.assert_frame_equal(loaded.forecast(frame), forecast)
    if model != "itransformer":
        pd.testing.assert_frame_equal(loaded.forecast(frame[["sun", "load"]]), forecast[["sun", "load"]])


@pytest.mark.parametrize("model", STUDENTS)
def test_training_goes_on_from_a_saved_student(distilled: hdt.Distilled, model: str, tmp_path: Path) -> None:
    first = tune_student(distilled, model=model, steps=2)
    folder = first.save(tmp_path / "first")
    second = tune_student(distilled, model=model, base=folder)
    facts = second.training
    assert facts["validation_mse_before"] == pytest.approx(first.training["validation_mse"])
    assert facts["validation_mse"] < facts["validation_mse_before"] and facts["base"] == str(folder)
    assert not alike(first, second)


def test_a_training_that_only_makes_things_worse_returns_the_base(distilled: hdt.Distilled, tmp_path: Path) -> None:
    first = tune_student(distilled)
    second = tune_student(distilled, base=first.save(tmp_path / "first"), lr=1e3, steps=3)
    facts = second.training
    assert alike(first, second)
    assert facts["validation_mse"] == facts["validation_mse_before"] < facts["trainings"][0]["validation_mse"]
    assert facts["learning_rate"] is None and facts["steps_to_best"] == 0 and facts["steps"] == 3


def test_a_base_of_another_kind_or_window_is_refused(distilled: hdt.Distilled, tmp_path: Path) -> None:
    folder = tune_student(distilled, steps=1).save(tmp_path / "first")
    with pytest.raises(InputError, match="holds a dlinear, not a xpatch; give --model dlinear"):
        tune_student(distilled, model="xpatch", base=folder)
    with pytest.raises(InputError, match="was trained with horizon 6, not 5; leave --horizon out"):
        tune_student(distilled, base=folder, horizon=5)
    (folder / "weights.safetensors").write_bytes(b"none")
    with pytest.raises(InputError, match=r"weights.safetensors: cannot be read"):
        tune_student(distilled, base=folder)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "weights.safetensors is missing"),
        ("other name", "level.bias, trend.bias do not fit forecaster.json"),
        ("other shape", "trend.bias do not fit forecaster.json"),
        ("not finite", "values that are not finite"),
    ],
)
def test_damaged_weights_are_refused(distilled: hdt.Distilled, how: str, message: str, tmp_path: Path) -> None:
    file = tune_student(distilled, steps=1).save(tmp_path / "model") / "weights.safetensors"
    tensors = load_file(file)
    if how == "missing":
        file.unlink()
    else:
        bias = tensors.pop("trend.bias")
        change = {"other name": {"level.bias": bias}, "other shape": {"trend.bias": bias[1:].clone()}}
        save_file({**tensors, **change.get(how, {"trend.bias": bias * torch.nan})}, file)
    with pytest.raises(InputError, match=message):
        Forecaster.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "lstm"}, "unknown student 'lstm'; known: dlinear"),
        ({"horizon": 40}, r"context 12 \+ horizon 40 = 52 steps are longer than the synthetic series of 48; with a "
         "context of 12 the horizon can be at most 36, with a horizon of 40 the context can be at most 8"),
        ({"context": 48}, "with a horizon of 6 the context can be at most 42$"),
        ({"context": 100, "horizon": 100}, "together they can be at most 48$"),
        ({"context": 280, "real": True}, "longer than the training part of 280; with a horizon of 6 .* at most 274$"),
        ({"horizon": 0}, "context 12 and horizon 0 must be at least 1"),
        ({"lr": 0.0}, "lr=0.0: expected a positive number"),
        ({"batch": 0}, "batch=0: at least one window"),
        ({"steps": 0}, "steps=0: at least one"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"lr": 1e36, "steps": 3}, r"dlinear: every training diverged; lower --lr \(tried 1e\+36\)"),
        ({"base": "absent"}, "absent: no such forecaster folder"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line(distilled: hdt.Distilled, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        tune_student(distilled, **given)
    assert "\n" not in str(caught.value)


def test_the_largest_window_fits() -> None:
    check_window(48, 42, 6, "synthetic series")
    with pytest.raises(InputError, match="43"):
        check_window(48, 43, 6, "synthetic series")


def test_other_data_than_the_runs_is_refused(distilled: hdt.Distilled) -> None:
    with pytest.raises(InputError, match="training part differs"):
        tune_student(distilled, panel=hdt.load(make_frame(seed=1)))


def test_the_test_part_is_not_read(distilled: hdt.Distilled) -> None:
    frame = make_frame()
    frame.iloc[320:] = np.nan
    blind = hdt.distill(frame, **SMALL)
    assert alike(tune_student(blind), tune_student(distilled))
    assert alike(tune_student(blind, real=True), tune_student(distilled, real=True))


def test_students_forecast_no_quantiles(distilled: hdt.Distilled) -> None:
    with pytest.raises(InputError, match="dlinear forecasts one value per step and no quantiles; leave them out"):
        tune_student(distilled, steps=1).forecast(make_frame(), [0.5])


def test_overrides_leave_one_training(distilled: hdt.Distilled) -> None:
    (run,) = tune_student(distilled, lr=1e-3, batch=4, steps=11).training["trainings"]
    assert (run["learning_rate"], run["batch"], run["steps"]) == (1e-3, 4, 11)
    assert run["samples"] == 31 + 3 * 4  # an epoch is 7 · 4 + 3


@pytest.mark.parametrize("model", ["dlinear", "itransformer"])
def test_an_interrupted_tuning_goes_on_and_ends_alike(
    distilled: hdt.Distilled, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the second of three trainings, or four with shuffled channels: the first is not done again."""
    all_steps = 16 * (3 + STUDENTS[model].mixes_channels)
    watched: list[tuple[int, int]] = []
    expected = tune_student(distilled, model=model, watch=lambda step, steps, _: watched.append((step, steps)))
    assert watched == [(step, all_steps) for step in range(1, all_steps + 1)]
    usual, done = torch.optim.AdamW.step, []

    def stepping(self: torch.optim.AdamW, *args: Any) -> Any:
        done.append(1)
        if len(done) == 20:
            raise KeyboardInterrupt
        return usual(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", stepping)
    point = tmp_path / "point" / "tuning"
    with pytest.raises(KeyboardInterrupt):
        tune_student(distilled, model=model, checkpoint=point)
    done.extend([1] * 20)
    before = len(done)
    resumed = tune_student(distilled, model=model, checkpoint=point)
    assert len(done) - before == all_steps - 19
    assert alike(resumed, expected)
    for name in ("steps", "samples", "validation_mse", "steps_to_best"):
        assert resumed.training[name] == expected.training[name]
    assert list(point.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "^out of CUDA memory; lower --batch"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't"), "^out of memory; lower"),
        (MemoryError(), r"^out of memory; lower --batch \(now 32\), --context or --horizon$"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
    ],
)
def test_running_out_of_memory_says_what_to_lower(
    distilled: hdt.Distilled, error: Exception, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "fit", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(InputError if message else RuntimeError, match=message or "mat1"):
        tune_student(distilled)


def test_torchs_own_lack_of_memory_is_recognised() -> None:
    with pytest.raises(InputError, match="out of memory; buy some"), machine.memory_refusal("buy some"):
        torch.empty(2**58)


@pytest.mark.gpu
@pytest.mark.parametrize("given", [SMALL, POOLED, {**SMALL, "method": "dc", "k": None}], ids=["hdt", "wiener", "dc"])
def test_distillation_on_cuda_equals_that_on_the_cpu(given: dict[str, Any]) -> None:
    """But for rounding, which shows where Adam divides a small gradient by its size."""
    one, other = (hdt.distill(make_frame(), device=device, **given) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(other.values, one.values, rtol=0, atol=0.03)
    assert other.info.device == torch.cuda.get_device_name()


@pytest.mark.gpu
@pytest.mark.parametrize("model", STUDENTS)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_students_tune_on_cuda(distilled: hdt.Distilled, model: str, precision: str, tmp_path: Path) -> None:
    here = tune_student(distilled, model=model, device="cpu", lr=1e-3)
    there = tune_student(distilled, model=model, device="cuda", lr=1e-3, precision=precision)
    assert there.training["device"] == torch.cuda.get_device_name()
    assert there.training["validation_mse"] == pytest.approx(here.training["validation_mse"], rel=0.1)
    forecast = there.forecast(make_frame())
    pd.testing.assert_frame_equal(Forecaster.load(there.save(tmp_path / "m")).forecast(make_frame()), forecast)
