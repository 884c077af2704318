"""The whole way on a GPU: every method, and every kind of data, beside the same on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, Result, make_frame
from test_covariates import by_hour
from test_loop import FITTING, QUICK
from test_missing import gappy_frame
from test_unequal import long_frame

import hdt
from hdt.distillation.methods import METHODS
from hdt.students import STUDENTS
from hdt.system import machine

pytestmark = pytest.mark.gpu
WINDOW: dict[str, Any] = {"length": 48, "context": 12, "horizon": 6}
WIENER: dict[str, Any] = {**WINDOW, "method": "wiener", "features": 8, "draws": 2, "iterations": 20}
KINDS: dict[str, tuple[Callable[[], pd.DataFrame], dict[str, Any]]] = {
    "complete": (make_frame, {**SMALL, "method": "hdt"}),
    "trained features": (make_frame, {**WIENER, "feature_steps": 5}),
    "gaps": (gappy_frame, {**WIENER, "missing": "mask"}),
    "prototypes": (lambda: make_frame(columns=tuple("abcdef")), {**WIENER, "channels": 2}),
    "unequal": (long_frame, {**WIENER, "channels": 2}),
    "covariates": (lambda: by_hour(columns=3), {**WIENER, "known": ["c2"], "calendar": "hour", "length": 96}),
    "differences": (make_frame, {**WIENER, "transform": "difference"}),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_distils_on_cuda_much_as_on_the_cpu(method: str) -> None:
    given = {**WINDOW, **QUICK[METHODS[method].objective]}
    given["iterations"] = min(given["iterations"], 5)
    given |= FITTING.get(METHODS[method].parameterization, {})
    here, there = (hdt.distill(make_frame(), method=method, device=device, **given) for device in ("cpu", "cuda"))
    assert there.info.device == torch.cuda.get_device_name()
    assert there.values.shape == here.values.shape and np.isfinite(there.values).all()
    assert np.sqrt(np.mean((there.values - here.values) ** 2)) < 0.2 * here.values.std()


@pytest.mark.parametrize("quantiles", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_is_distilled_and_evaluated(kind: str, quantiles: bool, tmp_path: Path) -> None:
    if quantiles and kind in ("covariates", "differences"):
        pytest.skip("refused: see the tests of quantiles")
    make, given = KINDS[kind]
    tables = []
    for device in ("cpu", "cuda"):
        run = hdt.distill(make(), device=device, **given).save(tmp_path / device)
        students = ["dlinear", "itransformer"] if quantiles else list(STUDENTS)
        how: dict[str, Any] = {"students": students, "seeds": 1, "device": device, "quantiles": quantiles}
        tables.append(hdt.evaluate(hdt.Distilled.load(run), make(), **how))
    here, there = (table.set_index(["student", "trained_on"]) for table in tables)
    np.testing.assert_allclose(there["mse"], here["mse"], rtol=0.15)


def test_commands_run_on_cuda(csv: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    words = ["--length", 48, "--context", 12, "--horizon", 6]
    cuda, made = ["--device", "cuda"], tmp_path / "made"
    table = pd.read_csv(csv)
    table.iloc[:300].to_csv(csv, index=False)
    table.iloc[210:].to_csv(tmp_path / "new.csv", index=False)
    space = tmp_path / "space.yaml"
    space.write_text("dlinear: {kernel: [3, 5], epochs: 2}\nmlp: {width: [4, 8], epochs: 2}\n")
    for command in (
        ["distill", csv, "--method", "fred-wiener", "--state", "--out", made, "--iterations", 4, *words, *cuda],
        ["evaluate", made, "--student", "dlinear", "--seeds", 1, *cuda],
        ["finetune", made, "--model", "xpatch", "--out", tmp_path / "tuned", *cuda],
        ["update", made, tmp_path / "new.csv", "--out", tmp_path / "updated", *cuda],
        [
            "compare",
            csv,
            "--method",
            "wiener",
            "--student",
            "dlinear",
            "--seeds",
            1,
            "--workers",
            2,
            *words,
            *cuda,
            "--option",
            "iterations=4",
        ],
        ["search", made, "--space", space, "--trials", 4, "--out", tmp_path / "found", *cuda],
        ["audit", made],
    ):
        result = run(*command)
        assert result.code == 0, (command, result.err)


def test_too_large_a_set_is_refused_with_what_to_lower() -> None:
    with pytest.raises(hdt.InputError, match="out of"), machine.memory_refusal("buy some"):
        torch.empty(2**44, device="cuda")
