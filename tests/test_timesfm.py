"""TimesFM 2.5 through the door of Chronos-2, on a tiny network with random weights; skipped without transformers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, Result, goes_on, make_frame, refused, refused_network

import hdt
from hdt.system.errors import InputError
from hdt.tuning import base as bases

Run = Callable[..., Result]
needs_transformers = pytest.mark.skipif(
    find_spec("transformers") is None, reason="transformers is not installed: pip install 'hdt-ts[chronos]'"
)
needs_peft = pytest.mark.skipif(
    find_spec("transformers") is None or find_spec("peft") is None,
    reason="transformers or peft is not installed: pip install 'hdt-ts[chronos]'",
)
SETTINGS: dict[str, Any] = {"steps": 4, "lr": 1e-2}


@pytest.fixture(scope="module")
def distilled() -> hdt.Distilled:
    return hdt.distill(make_frame(), **SMALL)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as transformers itself writes it: 4 steps a patch, at most 64 in and 16 out."""
    from transformers import TimesFm2_5Config, TimesFm2_5ModelForPrediction

    folder = tmp_path_factory.mktemp("timesfm") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = TimesFm2_5Config(
            patch_length=4, context_length=64, horizon_length=16, num_hidden_layers=1, hidden_size=8,
            intermediate_size=8, head_dim=4, num_attention_heads=2, num_key_value_heads=2, output_quantile_len=16,
        )  # fmt: skip
        TimesFm2_5ModelForPrediction(config).save_pretrained(folder)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 40_000
    return folder


def test_a_missing_extra_is_named(distilled: hdt.Distilled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'hdt-ts\[chronos\]' \(missing here: transformers\)") as caught:
        hdt.finetune(distilled, base="timesfm-2.5")
    assert "\n" not in str(caught.value)


def test_the_alias_is_the_hubs_checkpoint_of_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(bases, "_download", lambda name: asked.append(name) or Path("nowhere"))
    with pytest.raises(InputError):
        bases.checkpoint("timesfm-2.5")
    assert asked == ["google/timesfm-2.5-200m-transformers"]
    assert bases.kind_of(asked[0]) == "timesfm"


@needs_transformers
def test_saved_weights_forecast_alike_in_plain_transformers(
    distilled: hdt.Distilled, tiny: Path, tmp_path: Path
) -> None:
    from transformers import TimesFm2_5ModelForPrediction

    tuned = hdt.finetune(distilled, base=tiny, **SETTINGS)
    facts = tuned.training
    assert facts["steps_to_best"] > 0 and facts["validation_crps"] < facts["validation_crps_before"]
    folder = tuned.save(tmp_path / "tuned")
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors", "forecaster.json"}
    frame = make_frame(rows=40)
    levels = [0.1, 0.5, 0.9]
    found = tuned.forecast(frame, quantiles=levels)
    pd.testing.assert_frame_equal(hdt.Forecaster.load(folder).forecast(frame, quantiles=levels), found)
    plain = TimesFm2_5ModelForPrediction.from_pretrained(folder).eval()
    inputs = [torch.tensor(column, dtype=torch.float32) for column in frame.to_numpy()[-12:].T]
    with torch.no_grad():
        theirs = plain(inputs, forecast_context_len=12, truncate_negative=False).full_predictions
    for column, values in zip(frame.columns, theirs, strict=True):
        own = found[[f"{column}/{level}" for level in levels]].to_numpy()
        deciles = np.sort(values[:6, 1:].numpy(), axis=1)  # the first is the mean
        np.testing.assert_allclose(own, deciles[:, [0, 4, 8]], rtol=1e-4)
    with pytest.raises(InputError, match=r"quantile 0\.95: this network knows those from 0\.1 to 0\.9"):
        tuned.forecast(frame, quantiles=[0.95])


@needs_transformers
@pytest.mark.parametrize("pattern", ["full", "freeze_ffn", "head_only", pytest.param("lora", marks=needs_peft)])
def test_a_step_changes_what_the_pattern_says(pattern: str, distilled: hdt.Distilled, tiny: Path) -> None:
    from hdt.tuning.timesfm import load

    before = load(tiny).state_dict()
    tuned = hdt.finetune(distilled, base=tiny, steps=4, lr=5e-2, pattern=pattern)
    assert tuned.training["steps_to_best"] > 0
    after = tuned.network.state_dict()
    assert list(after) == list(before) and all(weight.requires_grad for weight in tuned.network.parameters())
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    heads = {name for name in before if name.startswith("output_projection_")}
    ffn = {name for name in before if ".mlp." in name}
    adapted = {name for name in before if "_proj.weight" in name}
    adapted |= {name for name in heads if name.endswith("output_layer.weight")}
    expected = {"full": set(before), "freeze_ffn": set(before) - ffn, "head_only": heads, "lora": adapted}[pattern]
    assert heads & expected <= changed <= expected and bool(changed & ffn) == (pattern == "full")


@needs_transformers
@pytest.mark.parametrize("context", [12, 10])
def test_the_loss_is_that_of_the_columns_of_its_forecasts(context: int, tiny: Path) -> None:
    """By hand from the forecasts of plain transformers; a context of 10 steps is no whole number of patches."""
    from hdt.maths.rows import Rows
    from hdt.tuning.loop import Batches, Plan
    from hdt.tuning.timesfm import TimesFmTuning, load

    values = np.random.default_rng(0).normal(3.0, 2.0, (1, 40, 1)).astype(np.float32)
    values[:, :20] = 5.0  # contexts without any spread
    batches = Batches(Rows(values, context, 6), Plan(context, 6, 4, lr=1.0, steps=2, check_every=1, batch=8))
    network = load(tiny)
    with torch.no_grad():  # the columns apart
        for head in (network.output_projection_point, network.output_projection_quantiles):
            head.residual_layer.weight *= 100
    task = TimesFmTuning(network, batches, torch.zeros(1, context + 6), torch.device("cpu"))
    windows = torch.cat([batches[0], torch.cat([torch.full((1, context), 5.0), torch.ones(1, 6)], dim=1)])
    with torch.no_grad():
        found = network(list(windows[:, :context]), forecast_context_len=12, truncate_negative=False)
        loss = float(task.loss(windows))
    losses = []
    for window, columns in zip(windows.numpy(), found.full_predictions[:, :6].numpy(), strict=True):
        scale = window[:context].std() or 1.0
        gap = (window[context:, None] - columns) / scale
        pinballs = [np.maximum(q * y, (q - 1) * y) for q, y in zip(np.arange(1, 10) / 10, gap[:, 1:].T, strict=True)]
        losses.append((gap[:, 0] ** 2).mean() + np.mean(pinballs))
    assert loss == pytest.approx(float(np.mean(losses)), rel=1e-4)


@needs_transformers
def test_forecasts_after_positive_contexts_may_be_negative(tiny: Path) -> None:
    from hdt.tuning.timesfm import TimesFmTuning, load

    network = load(tiny).eval()
    assert network.config.infer_is_positive
    with torch.no_grad():
        network.output_projection_point.residual_layer.weight *= 100
    contexts = torch.arange(8.0).repeat(3, 1)
    found = TimesFmTuning.quantiles(network, contexts, 6)
    assert found.min() < 0
    torch.testing.assert_close(TimesFmTuning.quantiles(network, contexts - 3, 6), found - 3)


@needs_transformers
def test_an_interrupted_tuning_ends_as_an_uninterrupted_one(
    distilled: hdt.Distilled, tiny: Path, tmp_path: Path
) -> None:
    goes_on(partial(hdt.finetune, distilled, base=tiny, **SETTINGS), tmp_path / "point")


@needs_transformers
def test_the_command_tells_the_kind_and_prints_zero_shot(run: Run, tiny: Path, tmp_path: Path, csv: Path) -> None:
    flags = [f"--{name}={value}" for name, value in SMALL.items()]
    assert run("distill", csv, *flags, "--out", "r").code == 0
    words = ("finetune", "r", "--base", tiny, "--steps", 2, "--lr", "1e-2")
    shown = run(*words)
    assert shown.code == 0 and "zero-shot" in shown.out and "fine-tuned" in shown.out, shown
    assert len(hdt.Forecaster.load(tmp_path / "r-timesfm").forecast(make_frame())) == SMALL["horizon"]
    refused(run(*words, "--patch", 8, "--out", "x"), "patch 8: the base knows 4")
    refused(run(*words, "--context", 20, "--horizon", 17, "--out", "x"), "the base takes at most 64 and 16")
    refused(run(*words, "--pattern", "tail", "--out", "x"), "unknown pattern 'tail'")
    refused(run(*words, "--model", "chronos", "--out", "x"), "not a Chronos-2 network")
    refused(run(*words, "--model", "moirai", "--out", "x"), "not a Moirai 1 network")


@needs_transformers
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["TimesFmModelForPrediction"]}, "not a TimesFM 2.5 network of transformers"),
        ({"hidden_size": 16}, r"do not fit \(missing, unknown or of another shape: model\.input_ff"),
        ({"num_hidden_layers": 2}, r"do not fit \(missing, unknown or of another shape: model\.layers\.1"),
        ({"hidden_size": "many"}, "weights and configuration do not fit"),
        ({"activation": "surprise"}, "weights and configuration do not fit"),
    ],
)
def test_other_networks_are_refused(tiny: Path, tmp_path: Path, change: dict[str, object], message: str) -> None:
    from hdt.tuning.timesfm import load

    refused_network(load, tiny, tmp_path, change, message)


@needs_transformers
def test_weights_that_are_not_finite_are_refused(tiny: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from hdt.tuning.timesfm import load

    tensors = load_file(tiny / "model.safetensors")
    next(iter(tensors.values())).fill_(torch.nan)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((tiny / "config.json").read_bytes())
    with pytest.raises(InputError, match="weights that are not finite"):
        load(tmp_path)
