"""Moirai: what it reads, what a step changes, what is kept, and every base that is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, Result, make_frame
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import hdt
from hdt.maths.residuals import lacking_noise
from hdt.maths.rows import Rows
from hdt.system.errors import InputError
from hdt.tuning import base as bases
from hdt.tuning import loop, pretrained, score
from hdt.tuning.crps import crps
from hdt.tuning.loop import Batches, Plan
from hdt.tuning.tokens import tokens

TINY = Path(__file__).parents[1] / "recipes" / "moirai" / "tiny"
PLAN = Plan(context=24, horizon=8, patch=8, lr=1e-3, steps=6, check_every=2, batch=4)
CPU = torch.device("cpu")
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def distilled() -> hdt.Distilled:
    return hdt.distill(make_frame(), **SMALL)


@pytest.fixture
def rows() -> Rows:
    return Rows(make_frame().to_numpy()[None], 24, 8)


@pytest.fixture
def few(rows: Rows) -> torch.Tensor:
    return rows.evenly(16)


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def alike(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first | second)


@pytest.mark.parametrize(("context", "horizon", "patch"), [(48, 16, 8), (50, 20, 16), (33, 1, 32)])
def test_tokens_are_those_of_uni2ts(context: int, horizon: int, patch: int) -> None:
    module = bases.load_base(TINY)
    tuner = bases.import_moirai().MoiraiFinetune(
        min_patches=2, min_mask_ratio=0.0, max_mask_ratio=1.0, max_dim=1, num_training_steps=1, num_warmup_steps=0,
        module=module,
    )  # fmt: skip
    transform = tuner.train_transform_map["any"](
        distance=1, prediction_length=horizon, context_length=context, patch_size=patch
    )
    series = np.random.default_rng(0).normal(size=120).astype(np.float32)
    theirs = transform({"target": [series], "freq": "h", "window": 3, "item_id": 0})
    window = torch.from_numpy(series[3 : 3 + context + horizon])[None]
    ours = tokens(window, context, patch, max(module.patch_sizes))
    for name, value in theirs.items():
        assert np.array_equal(ours[name][0].numpy(), value), name
    assert set(ours) - set(theirs) == {"sample_id"} and bool((ours["sample_id"] == 1).all())


@given(count=st.integers(1, 40), batch=st.integers(1, 50), steps=st.integers(1, 12), start=st.integers(0, 11))
def test_batches_show_every_window_once_per_pass(count: int, batch: int, steps: int, start: int) -> None:
    plan = replace(PLAN, batch=batch, steps=steps)
    windows = Rows(np.zeros((1, count + 31, 1)), 24, 8)
    seen = torch.cat([Batches(windows, plan).rows(step) for step in range(steps)])
    assert len(seen) == steps * batch
    for first in range(0, len(seen) - count + 1, count):
        assert sorted(seen[first : first + count].tolist()) == list(range(count))
    if start < steps:  # a resumed training sees what it would have seen
        resumed = Batches(windows, plan)
        assert resumed.rows(start).tolist() == seen[start * batch : (start + 1) * batch].tolist()


def test_a_batch_is_cut_out_of_its_passes_not_out_of_their_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = Batches(Rows(np.zeros((1, 1031, 1)), 24, 8), replace(PLAN, batch=300, steps=9))
    passes = torch.cat([batches._order(p) for p in range(3)])
    usual, joined = torch.cat, []
    monkeypatch.setattr(torch, "cat", lambda parts: joined.append(sum(map(len, parts))) or usual(parts))
    for step in range(9):
        assert batches.rows(step).tolist() == passes[step * 300 : (step + 1) * 300].tolist()
    assert joined == [300] * 9


def test_rows_are_all_windows_of_all_channels() -> None:
    values = np.random.default_rng(0).normal(size=(2, 9, 3)).astype(np.float32)
    rows = Rows(values, 3, 2)
    expected = [values[n, t : t + 5, c] for n in range(2) for t in range(5) for c in range(3)]
    assert len(rows) == len(expected)
    assert np.array_equal(rows[torch.arange(30)].numpy(), np.stack(expected))
    assert np.array_equal(rows.evenly(2).numpy(), np.stack([expected[0], expected[-1]]))
    assert np.array_equal(rows.evenly(99).numpy(), np.stack(expected))
    assert np.array_equal(rows.evenly(1).numpy(), np.stack(expected[:1]))


@pytest.mark.parametrize("windows", [7 * 2785, 7 * 11425])  # ETTh1's and ETTm1's validation parts, 96 → 96
def test_evenly_spaced_rows_are_those_of_published_tables(windows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rows, "__getitem__", lambda _, chosen: chosen[:, None].double())
    found = Rows(torch.zeros(1, windows + 31, 1), 24, 8).evenly(256)
    assert torch.equal(found[:, 0].long(), torch.linspace(0, windows - 1, 256).long())


def test_evenly_spaced_rows_exist_beyond_what_float32_counts() -> None:
    count = 2**24 + 4  # float32 would round the last one up
    series = torch.zeros(1, 1, 1).expand(1, count + 31, 1)
    assert Rows(series, 24, 8).evenly(3).shape == (3, 32)


def test_noise_comes_in_slowly_and_only_into_horizons() -> None:
    window = torch.cat([torch.arange(24.0), torch.zeros(8)])
    windows = Rows(window.expand(4096, 32)[:, :, None], 24, 8)
    plan = replace(PLAN, batch=4096, steps=4)
    level = torch.linspace(0.0, 1.4, 8)
    batches = Batches(windows, plan, level)
    scale = float(torch.arange(24.0).std(correction=0))
    for step in range(4):
        drawn = batches[step]
        assert torch.equal(drawn[:, :24], window[:24].expand(4096, 24))
        expected = scale * level * step / 4
        torch.testing.assert_close(drawn[:, 24:].std(dim=0), expected, rtol=0.05, atol=1e-6)
    assert torch.equal(Batches(windows, plan, level)[2], batches[2])


@given(mix=st.integers(2, 5), seed=st.integers(0, 100))
def test_mixed_windows_keep_what_is_linear_in_their_context(mix: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    weights = torch.randn(24, 8, generator=rng)
    x = torch.randn(40, 24, generator=rng) + 100 * torch.randn(40, 1, generator=rng)
    mean = x.mean(dim=1, keepdim=True)
    windows = Rows(torch.cat([x, mean + (x - mean) @ weights], dim=1)[:, :, None], 24, 8)
    batches = Batches(windows, replace(PLAN, mix=mix, seed=seed))
    found = batches[3]
    assert not any(torch.allclose(row, window) for row in found for window in windows.evenly(99))
    torch.testing.assert_close(found[:, 24:], found[:, :24] @ weights, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(found, Batches(windows, replace(PLAN, mix=mix, seed=seed))[3])


@given(seed=st.integers(0, 1000), level=st.floats(0.1, 1.0))
def test_lacking_noise_is_what_was_taken_away(seed: int, level: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(4000, 12, generator=rng)
    mean, scale = x.mean(dim=1, keepdim=True), x.std(dim=1, keepdim=True, correction=0)
    course = mean + (x - mean) @ torch.randn(12, 5, generator=rng) / 4
    lacking = level * torch.linspace(0.2, 1.0, 5)
    signs = torch.randint(2, (4000, 5), generator=rng) * 2 - 1
    noisy = course + scale * lacking * signs

    def rows(horizons: torch.Tensor, factor: float = 1.0, shift: float = 0.0) -> Rows:
        return Rows((torch.cat([x, horizons], dim=1) * factor + shift)[:, :, None], 12, 5)

    torch.testing.assert_close(lacking_noise(rows(course), rows(noisy), 12), lacking, rtol=1e-3, atol=1e-3)
    assert torch.equal(lacking_noise(rows(noisy), rows(course), 12), torch.zeros(5))
    found = lacking_noise(rows(course, 100, 7), rows(noisy, 100, 7), 12)
    torch.testing.assert_close(found, lacking, rtol=1e-3, atol=1e-3)


def test_crps_is_the_mean_over_the_horizon(rows: Rows, few: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    module = bases.load_base(TINY).eval()
    few = few[:3]
    drawn: list[torch.Tensor] = []
    forward = type(module).forward

    def spied(self: Any, **inputs: torch.Tensor) -> Any:
        distribution = forward(self, **inputs)
        sample = distribution.sample

        class Spy:
            def sample(self, shape: tuple[int, ...]) -> torch.Tensor:
                drawn.append(sample(shape))
                return drawn[-1]

        return Spy()

    monkeypatch.setattr(type(module), "forward", spied)
    found = crps(module, few, 20, 8)  # 4 steps of padding before, and after
    x = drawn[0][:, :, 3:, :8].flatten(2)[..., :12].double()
    y = few[:, 20:].double()
    n = len(x)
    pairs = sum((x[i] - x[j]).abs() for i in range(n) for j in range(n)) / (n * (n - 1))
    assert found == pytest.approx(float(((x - y).abs().mean(0) - pairs / 2).mean()), rel=1e-5)
    again = crps(module, few, 20, 8)
    assert again == found and torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("pattern", loop.PATTERNS)
def test_a_step_changes_what_the_pattern_says(pattern: str, rows: Rows, few: torch.Tensor) -> None:
    module = bases.load_base(TINY)
    before = weights(module)
    plan = replace(PLAN, pattern=pattern, steps=1, check_every=1, lr=1e-2, weight_decay=0.0)
    seen: list[int] = []
    # The weights of step 1 must stay, whatever validation says: it is the training series.
    outcome = loop.tune(module, rows, few, plan, CPU, watch=lambda step, *_: seen.append(step))
    assert seen == [1] and outcome.best_step == 1
    changed = {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}
    named = dict(module.named_parameters())
    allowed = {
        "full": set(named),
        "freeze_ffn": {name for name in named if "ffn" not in name},
        "head_only": {name for name in named if "param_proj" in name},
    }[pattern]
    # Nothing but what may change; and all of that, but the projections of patch sizes and forecasts not in use.
    assert changed <= allowed
    used = {name for name in allowed if "in_proj" not in name and "param_proj" not in name}
    assert used <= changed and any("param_proj" in name for name in changed)
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_no_trainer_of_lightning_is_needed(
    rows: Rows, few: torch.Tensor, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import lightning

    monkeypatch.setattr(lightning, "Trainer", None)
    outcome = loop.tune(bases.load_base(TINY), rows, few, PLAN, CPU)
    assert [step for step, _, _ in outcome.history] == [0, 2, 4, 6]
    assert capfd.readouterr() == ("", "")


def test_seconds_are_those_of_steps_alone(rows: Rows, few: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that only looks move on: 5 seconds each."""
    now = [0.0]

    def looking(*_: Any) -> float:
        now[0] += 5
        return now[0]

    monkeypatch.setattr("hdt.training.loop.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(loop, "crps", looking)
    outcome = loop.tune(bases.load_base(TINY), rows, few, PLAN, CPU)
    assert outcome.history == [(step, 0.0, value) for step, value in [(0, 5.0), (2, 10.0), (4, 15.0), (6, 20.0)]]
    assert (outcome.seconds, outcome.looking) == (0.0, 15.0)


@pytest.mark.parametrize("lr", [1.0, 1e8])
def test_a_training_that_diverges_ends_with_its_best_weights(lr: float, rows: Rows, few: torch.Tensor) -> None:
    module = bases.load_base(TINY)
    outcome = loop.tune(module, rows, few, replace(PLAN, lr=lr, steps=60, check_every=30, clip=None), CPU)
    assert outcome.done and np.isfinite(outcome.validation) and 0 <= outcome.validation <= outcome.history[0][2]
    assert all(bool(weight.isfinite().all()) for weight in module.parameters())


def test_wild_draws_are_no_score(few: torch.Tensor) -> None:
    module = bases.load_base(TINY).eval()
    with torch.no_grad():
        for parameter in module.param_proj.parameters():
            parameter.mul_(1e4)
    found = crps(module, few, 24, 8)
    assert found == np.inf or found > 0
    with torch.no_grad():
        next(module.parameters()).fill_(torch.nan)
    assert crps(module, few, 24, 8) == np.inf


def test_bf16_steps_end_close_to_float32(rows: Rows, few: torch.Tensor) -> None:
    ends = []
    for precision in ("float32", "bf16"):
        module = bases.load_base(TINY)
        ends.append(loop.tune(module, rows, few, replace(PLAN, steps=4, precision=precision), CPU).validation)
        assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    assert ends[0] != ends[1] and ends[1] == pytest.approx(ends[0], rel=0.05)


def test_the_test_part_is_not_read(distilled: hdt.Distilled) -> None:
    frame = make_frame()
    frame.iloc[distilled.info.data.borders[1] :] = np.nan
    poisoned = hdt.finetune(distilled, data=hdt.load(frame, missing="interpolate"), base=TINY, steps=4, lr=1e-3)
    assert alike(poisoned.network, hdt.finetune(distilled, base=TINY, steps=4, lr=1e-3).network)


def test_the_base_stays_where_no_step_is_better(rows: Rows, few: torch.Tensor) -> None:
    module = bases.load_base(TINY)
    unrelated = torch.randn(1, 95, 1, generator=torch.Generator().manual_seed(0))
    outcome = loop.tune(module, Rows(unrelated, 24, 8), few, replace(PLAN, lr=0.3), CPU)
    assert outcome.best_step == 0 and outcome.validation == outcome.history[0][2]
    assert alike(module, bases.load_base(TINY))


def test_an_interrupted_training_ends_as_an_uninterrupted_one(rows: Rows, few: torch.Tensor, tmp_path: Path) -> None:
    def interrupt(step: int, *_: Any) -> None:
        if step == 4:
            raise KeyboardInterrupt

    plan = replace(PLAN, steps=10)
    whole, resumed, other = (bases.load_base(TINY) for _ in range(3))
    for module in (whole, resumed, other):
        for part in module.modules():  # dropout, so that the state of its generator counts
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.2
    expected = loop.tune(whole, rows, few, plan, CPU)
    file = tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        loop.tune(resumed, rows, few, plan, CPU, watch=interrupt, file=file)
    steps: list[int] = []
    fresh = bases.load_base(TINY)
    for part in fresh.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.2
    found = loop.tune(fresh, rows, few, plan, CPU, watch=lambda step, *_: steps.append(step), file=file)
    assert steps == [6, 8, 10] and alike(fresh, whole)
    assert [(s, v) for s, _, v in found.history] == [(s, v) for s, _, v in expected.history]
    # Another plan does not take it up.
    steps.clear()
    loop.tune(other, rows, few, replace(plan, seed=1), CPU, watch=lambda step, *_: steps.append(step), file=file)
    assert steps[0] == 2


def test_training_on_synthetic_and_real_windows_counts_them(distilled: hdt.Distilled) -> None:
    synthetic = hdt.finetune(distilled, base=TINY, steps=3, lr=1e-4, batch=5).training
    real = hdt.finetune(distilled, base=TINY, steps=3, lr=1e-4, batch=7, real=True).training
    channels, size = 2, SMALL["context"] + SMALL["horizon"]
    assert synthetic["windows"] == channels * (SMALL["length"] - size + 1)
    assert real["windows"] == channels * (distilled.panel.borders[0] - size + 1)
    assert (synthetic["samples"], real["samples"]) == (15, 21)
    assert (synthetic["mix"], real["mix"]) == (2, 2)  # both are small sets
    assert synthetic["trained_on"] == "distilled" and real["trained_on"] == "real"
    both = hdt.finetune(distilled, base=TINY, steps=2).training
    assert both["learning_rates"] == [1e-3, 1e-4] and both["steps"] == 2  # of either, as asked for
    assert both["samples"] == 2 * 2 * 32


def test_a_run_tunes_with_the_noise_that_it_stored(distilled: hdt.Distilled) -> None:
    given = {"base": TINY, "steps": 1, "lr": 1e-3, "patch": 8}
    found = hdt.finetune(distilled, **given).training["noise"]
    assert found == pytest.approx(distilled.info.noise.levels, abs=1e-6)
    stored = distilled.info.noise.model_copy(update={"levels": [0.5] * 6})
    changed = replace(distilled, info=distilled.info.model_copy(update={"noise": stored}))
    assert hdt.finetune(changed, **given).training["noise"] == [0.5] * 6
    older = replace(distilled, info=distilled.info.model_copy(update={"noise": None}))
    assert hdt.finetune(older, **given).training["noise"] == found
    assert hdt.finetune(changed, horizon=5, **given).training["noise"] != [0.5] * 5  # no stored one for that window


def test_saved_weights_forecast_alike_in_plain_uni2ts(distilled: hdt.Distilled, tmp_path: Path) -> None:
    from uni2ts.model.moirai import MoiraiForecast, MoiraiModule

    tuned = hdt.finetune(distilled, base=TINY, steps=2, lr=1e-3)
    folder = tuned.save(tmp_path / "tuned")
    assert {file.stat().st_mode for file in folder.iterdir()} == {(folder / "config.json").stat().st_mode}
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors", "forecaster.json"}
    frame = make_frame(rows=40)
    expected = tuned.forecast(frame, quantiles=[0.1, 0.5])
    pd.testing.assert_frame_equal(hdt.Forecaster.load(folder).forecast(frame, quantiles=[0.1, 0.5]), expected)
    with pytest.raises(hdt.InputError, match="this forecaster was tuned on steps of P0DT1H0M0S; resample it"):
        tuned.forecast(frame.iloc[::2])
    plain = MoiraiForecast(
        prediction_length=6, target_dim=1, feat_dynamic_real_dim=0, past_feat_dynamic_real_dim=0, context_length=12,
        module=MoiraiModule.from_pretrained(str(folder)), patch_size=tuned.patch, num_samples=score.SAMPLES,
    )  # fmt: skip
    recent = frame.to_numpy()[-12:]
    entries = [{"start": pd.Period("2024-01-01", "h"), "target": (c - c.mean()) / c.std()} for c in recent.T]
    torch.manual_seed(0)
    forecasts = list(plain.create_predictor(batch_size=64, device="cpu").predict(entries))
    for column, forecast, values in zip(frame.columns, forecasts, recent.T, strict=True):
        for q in (0.1, 0.5):
            own = forecast.quantile(q) * values.std() + values.mean()
            np.testing.assert_allclose(expected[f"{column}/{q}"], own, rtol=1e-5)


def test_forecasts_keep_index_ids_and_units(distilled: hdt.Distilled) -> None:
    tuned = hdt.finetune(distilled, base=TINY, steps=1, lr=1e-4)
    frame = make_frame(rows=30)
    plain = tuned.forecast(frame)
    assert list(plain.columns) == list(frame.columns) and len(plain) == 6
    assert plain.index[0] == frame.index[-1] + pd.Timedelta("1h")
    scaled = tuned.forecast(frame * 1e6 + 1e9)
    np.testing.assert_allclose((scaled - 1e9) / 1e6, plain, rtol=1e-3)
    quantiles = tuned.forecast(frame, quantiles=[0.1, 0.9])
    assert (quantiles["load/0.1"] < plain["load"]).all() and (plain["load"] < quantiles["load/0.9"]).all()
    long = frame.rename_axis("when").reset_index().melt("when", var_name="sensor", value_name="kW")
    names = {"time_column": "when", "id_column": "sensor", "target_column": "kW"}
    found = tuned.forecast(long, **names)
    assert list(found.columns) == ["sensor", "when", "kW"]
    np.testing.assert_allclose(found["kW"], plain.to_numpy().T.ravel())
    other = tuned.forecast(frame.rename(columns={"load": "never seen"}))  # it scales by itself
    np.testing.assert_allclose(other["never seen"], plain["load"])


def test_zero_shot_scores_are_those_of_the_forecasts() -> None:
    panel = hdt.load(make_frame(rows=700))
    module = bases.load_base(TINY).eval()
    found = score.score(score.predictor(module, 24, 8, 8, CPU), panel, 8, CPU)
    values = np.concatenate([panel.part("train"), panel.part("val"), panel.part("test")]).astype(np.float32)
    first, last = panel.borders[1], panel.borders[2]
    distance = score.spacing(last - first, 8, score.season_of(panel))
    starts = list(range(first, last - 8 + 1, distance))
    inputs = [{"start": score.START, "target": values[:s, c]} for c in range(2) for s in starts]
    labels = np.stack([values[s : s + 8, c] for c in range(2) for s in starts])
    torch.manual_seed(0)
    forecasts = list(score.predictor(module, 24, 8, 8, CPU).predict(inputs))
    median = np.stack([f.quantile(0.5) for f in forecasts])
    assert found["forecasts"] == len(labels) and score.season_of(panel) == 24
    assert found["mse"] == pytest.approx(float(np.mean((median - labels) ** 2)), rel=1e-5)
    assert found["mae"] == pytest.approx(float(np.mean(np.abs(median - labels))), rel=1e-5)
    seasonal = [np.abs(i["target"][24:] - i["target"][:-24]).mean() for i in inputs]
    assert found["mase"] == pytest.approx(float(np.mean(np.abs(median - labels).mean(1) / seasonal)), rel=1e-4)
    levels = np.arange(1, 10) / 10
    losses = []
    for q in levels:
        gap = labels - np.stack([f.quantile(float(round(q, 1))) for f in forecasts])
        losses.append(2 * np.maximum(q * gap, (q - 1) * gap).sum())
    assert found["crps"] == pytest.approx(float(np.mean(losses) / np.abs(labels).sum()), rel=1e-4)


@given(rows=st.integers(200, 20_000), horizon=st.integers(1, 100), season=st.integers(1, 200))
def test_test_windows_are_few_and_visit_every_phase(rows: int, horizon: int, season: int) -> None:
    distance = score.spacing(rows, horizon, season)
    assert np.gcd(distance, season) == 1 and -(-(rows - horizon + 1) // distance) <= score.WINDOWS


def test_published_shapes_have_the_published_sizes() -> None:
    for shape, millions in (("small", 14), ("base", 91), ("large", 311)):
        with torch.device("meta"):
            assert round(bases.parameters(bases.load_base(f"random:{shape}")) / 1e6) == millions
    with pytest.raises(InputError, match="unknown shape; known: small, base, large"):
        bases.load_base("random:huge")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_large_network_is_refused_on_a_cpu_that_was_not_asked_for(distilled: hdt.Distilled) -> None:
    with pytest.raises(InputError, match=r"311 million parameters wants a CUDA device with at least 4\.6 GB"):
        hdt.finetune(distilled, base="random:large")
    with pytest.raises(InputError, match="no CUDA device here"):
        hdt.finetune(distilled, base=TINY, device="cuda")


def broken(folder: Path, how: str) -> Path:
    shutil.copytree(TINY, folder)
    config = json.loads((folder / "config.json").read_text())
    if how == "config":
        (folder / "config.json").unlink()
    elif how == "weights":
        (folder / "model.safetensors").unlink()
    elif how == "json":
        (folder / "config.json").write_text("{")
    elif how == "corrupt":
        (folder / "model.safetensors").write_bytes(b"\x10" * 400)
    elif how == "cut":
        (folder / "model.safetensors").write_bytes((TINY / "model.safetensors").read_bytes()[:-1000])
    elif how == "moirai 2":
        (folder / "config.json").write_text(json.dumps({"d_ff": 1024, **config}))
    elif how == "nan":
        weights = load_file(folder / "model.safetensors")
        save_file({name: w * torch.nan for name, w in weights.items()}, folder / "model.safetensors")
    elif how == "other":
        (folder / "config.json").write_text(json.dumps({"model_type": "t5", "d_model": 64}))
    elif how == "unsafe":
        config["distr_output"]["components"][0]["_target_"] = "os.system"
        (folder / "config.json").write_text(json.dumps(config))
    else:
        (folder / "config.json").write_text(json.dumps({**config, "d_model": 64}))
    return folder


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("config", "config.json is missing"),
        ("weights", "model.safetensors is missing"),
        ("json", "cannot be read as JSON"),
        ("corrupt", "model.safetensors: cannot be read"),
        ("cut", "model.safetensors: cannot be read"),
        ("moirai 2", r"not a Moirai 1 network \(has d_ff\)"),
        ("other", r"not a Moirai 1 network \(lacks .*distr_output.*; has model_type\)"),
        ("unsafe", "do not fit"),
        ("nan", "holds weights that are not finite"),
        ("width", "do not fit"),
    ],
)
def test_broken_bases_are_refused(tmp_path: Path, how: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bases.load_base(broken(tmp_path / "base", how))


def test_bases_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no such folder"):
        bases.load_base("absent")
    import huggingface_hub

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(InputError, match=r"no route to host.*into a folder and give it with --base FOLDER"):
        bases.load_base("Salesforce/moirai-1.1-R-small")
    assert "cc-by-nc-4.0" in (bases.licence("Salesforce/moirai-1.1-R-small") or "")
    assert bases.licence(TINY) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pattern": "some"}, "unknown pattern 'some'; known: full, freeze_ffn, head_only"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"lr": -1.0}, "lr=-1.0: expected a positive number"),
        ({"patch": 7}, "patch 7: the base knows 8, 16, 32"),
        ({"horizon": 40}, "with a context of 12 the horizon can be at most 36"),
        ({"context": 47}, "with a horizon of 6 the context can be at most 42"),
        ({"base": None}, "no base given"),
        ({"steps": 0}, "steps=0: expected a positive number"),
        ({"seed": -1}, "seed=-1: expected 0 to 9,223,372,036,854,775,807"),
        ({"seed": 2**64}, "seed=18446744073709551616: expected 0 to 9,223,372,036,854,775,807"),
        ({"model": "dlinear", "base": None, "seed": -1}, "seed=-1: expected 0 to"),
        ({"batch": 0}, "batch=0: at least one window"),
        ({"compile": True}, "compile: no setting of moirai"),
        ({"model": "dlinear", "pattern": "full"}, "pattern: no setting of dlinear"),
        ({"model": "gpt"}, "unknown model 'gpt'; known: dlinear, itransformer, mlp, xpatch, moirai"),
    ],
)
def test_bad_settings_are_refused(distilled: hdt.Distilled, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        hdt.finetune(distilled, **{"base": TINY, "steps": 1, **settings})


def test_out_of_memory_says_what_to_lower(distilled: hdt.Distilled, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(pretrained, "tune", full)
    with pytest.raises(InputError, match=r"out of CUDA memory; lower --batch \(now 32\) or --context"):
        hdt.finetune(distilled, base=TINY, steps=1, patch=8)


@pytest.mark.gpu
def test_moirai_large_takes_a_step_on_a_gpu(distilled: hdt.Distilled) -> None:
    facts = hdt.finetune(
        distilled, base="random:large", steps=2, lr=1e-4, precision="bf16", device="cuda", context=24, horizon=8
    ).training
    assert facts["parameters"] > 300e6 and facts["peak_memory_mb"] > 2000 and facts["seconds_per_step"] > 0
