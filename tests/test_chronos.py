"""Chronos-2 through the door of Moirai, on a tiny network with random weights; skipped without chronos-forecasting."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, Result, goes_on, make_frame, refused, refused_network

import hdt
from hdt.system.errors import InputError
from hdt.tuning import base as bases

Run = Callable[..., Result]
needs_chronos = pytest.mark.skipif(
    find_spec("chronos") is None, reason="chronos-forecasting is not installed: pip install 'hdt-ts[chronos]'"
)
needs_peft = pytest.mark.skipif(
    find_spec("chronos") is None or find_spec("peft") is None,
    reason="chronos-forecasting or peft is not installed: pip install 'hdt-ts[chronos]'",
)
CHRONOS = {
    "context_length": 64, "input_patch_size": 4, "input_patch_stride": 4, "output_patch_size": 4,
    "max_output_patches": 4, "quantiles": [n / 10 for n in range(1, 10)], "use_reg_token": True, "use_arcsinh": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def distilled() -> hdt.Distilled:
    return hdt.distill(make_frame(), **SMALL)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as chronos-forecasting itself writes it."""
    from chronos import Chronos2Model
    from chronos.chronos2.config import Chronos2CoreConfig

    folder = tmp_path_factory.mktemp("chronos") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Chronos2CoreConfig(
            d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, chronos_config=dict(CHRONOS)
        )
        Chronos2Model(config).save_pretrained(folder)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 40_000
    return folder


def test_the_kind_of_a_base_is_told_by_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Chronos2Model"], "chronos_config": {}}))
    assert bases.kind_of(tmp_path) == "chronos"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "timesfm2_5"}))
    assert bases.kind_of(tmp_path) == "timesfm" == bases.kind_of("timesfm-2.5")
    (tmp_path / "config.json").write_text(json.dumps({"d_model": 8}))
    assert bases.kind_of(tmp_path) == "moirai" == bases.kind_of("random:small")
    assert bases.kind_of("chronos-2") == "chronos" == bases.kind_of("amazon/chronos-2")
    assert bases.kind_of("Salesforce/moirai-1.1-R-small") == "moirai"


def test_a_missing_extra_is_named(distilled: hdt.Distilled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chronos", None)
    with pytest.raises(InputError, match=r"pip install 'hdt-ts\[chronos\]' \(missing here: chronos\)") as caught:
        hdt.finetune(distilled, base="chronos-2")
    assert "\n" not in str(caught.value)


@needs_chronos
def test_saved_weights_forecast_alike_in_plain_chronos(distilled: hdt.Distilled, tiny: Path, tmp_path: Path) -> None:
    from chronos import Chronos2Pipeline

    tuned = hdt.finetune(distilled, base=tiny, steps=4, lr=1e-2)
    facts = tuned.training
    assert facts["steps_to_best"] > 0 and facts["validation_crps"] < facts["validation_crps_before"]
    folder = tuned.save(tmp_path / "tuned")
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors", "forecaster.json"}
    frame = make_frame(rows=40)
    levels = [0.1, 0.5, 0.9]
    found = tuned.forecast(frame, quantiles=levels)
    pd.testing.assert_frame_equal(hdt.Forecaster.load(folder).forecast(frame, quantiles=levels), found)
    plain = Chronos2Pipeline.from_pretrained(folder)
    inputs = [torch.tensor(column, dtype=torch.float32) for column in frame.to_numpy()[-12:].T]
    theirs = plain.predict(inputs, prediction_length=6)
    for column, values in zip(frame.columns, theirs, strict=True):
        own = found[[f"{column}/{level}" for level in levels]].to_numpy()
        np.testing.assert_allclose(own, np.sort(values[0].numpy(), axis=0)[[0, 4, 8]].T, rtol=1e-4)
    np.testing.assert_allclose(tuned.forecast(frame)["load"], found["load/0.5"])
    between = tuned.forecast(frame, quantiles=[0.35])["load/0.35"]
    assert (found["load/0.1"] <= between).all() and (between <= found["load/0.5"]).all()
    with pytest.raises(InputError, match=r"quantile 0\.05: this network knows those from 0\.1 to 0\.9"):
        tuned.forecast(frame, quantiles=[0.05])


@needs_chronos
@pytest.mark.parametrize("pattern", ["full", "freeze_ffn", "head_only"])
def test_a_step_changes_what_the_pattern_says(pattern: str, distilled: hdt.Distilled, tiny: Path) -> None:
    from hdt.tuning.chronos import load

    before = load(tiny).state_dict()
    tuned = hdt.finetune(distilled, base=tiny, steps=1, lr=1e-2, pattern=pattern)
    assert tuned.training["steps_to_best"] == 1
    changed = {name for name, tensor in tuned.network.state_dict().items() if not torch.equal(tensor, before[name])}
    heads = {name for name in before if name.startswith("output_patch_embedding")}
    ffn = {name for name in before if ".mlp." in name}
    expected = {"full": set(before), "freeze_ffn": set(before) - ffn, "head_only": heads}[pattern]
    assert heads <= changed <= expected and bool(changed & ffn) == (pattern == "full")


@needs_peft
def test_lora_ends_as_a_network_like_the_base(distilled: hdt.Distilled, tiny: Path, tmp_path: Path) -> None:
    from chronos import Chronos2Pipeline

    from hdt.tuning.chronos import load

    before = load(tiny).state_dict()
    settings = {"base": tiny, "steps": 3, "lr": 1e-2, "pattern": "lora"}
    tuned = hdt.finetune(distilled, **settings)
    facts, after = tuned.training, tuned.network.state_dict()
    assert facts["pattern"] == "lora" and facts["validation_crps"] < facts["validation_crps_before"]
    assert facts["parameters"] == sum(weight.numel() for weight in load(tiny).parameters())
    assert list(after) == list(before) and all(weight.requires_grad for weight in tuned.network.parameters())
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    adapted = {name for name in before if re.search(r"self_attention\.[qkvo]\.weight|output_layer\.weight", name)}
    assert changed and changed == adapted & changed and any("output_layer" in name for name in changed)
    gap = after["encoder.block.0.layer.0.self_attention.v.weight"]
    gap = gap - before["encoder.block.0.layer.0.self_attention.v.weight"]
    assert 0 < torch.linalg.matrix_rank(gap, rtol=1e-4) <= 8 < min(gap.shape)
    again = hdt.finetune(distilled, **settings).network.state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in after.items())
    folder = tuned.save(tmp_path / "tuned")
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors", "forecaster.json"}
    frame = make_frame(rows=40)
    pd.testing.assert_frame_equal(hdt.Forecaster.load(folder).forecast(frame), tuned.forecast(frame))
    assert isinstance(Chronos2Pipeline.from_pretrained(folder).model, type(tuned.network))
    kept = hdt.finetune(distilled, **{**settings, "lr": 1e3, "clip": None})
    assert kept.training["steps_to_best"] == 0
    assert all(torch.equal(weight, before[name]) for name, weight in kept.network.state_dict().items())


def test_lora_without_peft_is_one_line(distilled: hdt.Distilled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"lora needs peft: pip install 'hdt-ts\[chronos\]' .*here: peft") as caught:
        hdt.finetune(distilled, base="chronos-2", pattern="lora")
    assert "\n" not in str(caught.value)


def test_lora_is_a_pattern_of_chronos_alone(distilled: hdt.Distilled) -> None:
    with pytest.raises(InputError, match=r"unknown pattern 'lora'; known: full, freeze_ffn, head_only$"):
        hdt.finetune(distilled, base="random:small", pattern="lora")


@needs_chronos
def test_the_base_is_kept_where_no_step_is_better(distilled: hdt.Distilled, tiny: Path) -> None:
    from hdt.tuning.chronos import load

    tuned = hdt.finetune(distilled, base=tiny, steps=2, lr=1e3, clip=None)
    assert tuned.training["steps_to_best"] == 0
    assert all(torch.equal(w, load(tiny).state_dict()[name]) for name, w in tuned.network.state_dict().items())


@needs_chronos
@pytest.mark.parametrize("pattern", ["full", pytest.param("lora", marks=needs_peft)])
def test_an_interrupted_tuning_ends_as_an_uninterrupted_one(
    pattern: str, distilled: hdt.Distilled, tiny: Path, tmp_path: Path
) -> None:
    goes_on(partial(hdt.finetune, distilled, base=tiny, steps=6, lr=1e-2, pattern=pattern), tmp_path / "point")


@needs_chronos
def test_the_crps_is_twice_the_pinball_loss(tiny: Path) -> None:
    from hdt.tuning.chronos import ChronosTuning, load

    network, windows = load(tiny).eval(), torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    found = ChronosTuning.quantiles(network, windows[:, :12], 8).numpy()
    losses = [
        (level - (y < q)) * (y - q)
        for window, row in zip(windows.numpy(), found, strict=True)
        for level, line in zip(CHRONOS["quantiles"], row, strict=True)
        for y, q in zip(window[12:], line, strict=True)
    ]
    assert ChronosTuning.crps(network, windows, 12) == pytest.approx(2 * float(np.mean(losses)), rel=1e-5)
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    assert ChronosTuning.crps(network, windows, 12) == np.inf


@needs_chronos
def test_the_command_tells_the_kind_and_prints_zero_shot(run: Run, tiny: Path, tmp_path: Path, csv: Path) -> None:
    flags = [f"--{name}={value}" for name, value in SMALL.items()]
    assert run("distill", csv, *flags, "--out", "r").code == 0
    words = ("finetune", "r", "--base", tiny, "--steps", 2, "--lr", "1e-2")
    shown = run(*words)
    assert shown.code == 0 and "zero-shot" in shown.out and "fine-tuned" in shown.out, shown
    assert "MASE" in shown.out and (tmp_path / "r-chronos" / "forecaster.json").is_file()
    refused(run(*words, "--patch", 8, "--out", "x"), "patch 8: the base knows 4")
    refused(run(*words, "--context", 22, "--horizon", 18, "--out", "x"), "the base takes at most 64 and 16")
    refused(run(*words, "--model", "moirai", "--out", "x"), "not a Moirai 1 network")
    rows = json.loads(run(*words, "--compare", "--method", "hdt", "--seeds", 1, "--json").out)["rows"]
    assert [row["trained_on"] for row in rows] == ["zero-shot", "full", "random", "hdt"]


@needs_chronos
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["ChronosBoltModelForForecasting"]}, "not a Chronos-2 network .*Bolt"),
        ({"d_model": 8}, "weights and configuration do not fit"),
        ({"chronos_config": {**CHRONOS, "surprise": 1}}, "weights and configuration do not fit"),
        ({"d_ff": "many"}, "weights and configuration do not fit"),
    ],
)
def test_other_networks_are_refused(tiny: Path, tmp_path: Path, change: dict[str, object], message: str) -> None:
    from hdt.tuning.chronos import load

    refused_network(load, tiny, tmp_path, change, message)
