"""Private sets: the sensitivity by brute force, the accountant by an exact formula, and that nothing else is read."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, Result, make_frame, refused
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

import hdt
from hdt.data.series import Panel
from hdt.distillation import config
from hdt.maths.spectrum import mean_spectrum
from hdt.run import private, produce
from hdt.run.reading import train_blocks
from hdt.run.records import EVALUATION, RunInfo
from hdt.system.errors import InputError

Run = Callable[..., Result]
needs_opacus = pytest.mark.skipif(find_spec("opacus") is None, reason="opacus is not installed: hdt-ts[privacy]")
NAMES = tuple(f"client {n}" for n in range(40))
OWN = {k: v for k, v in SMALL.items() if k != "k"} | {"method": "wiener", "channels": 3, "features": 8, "draws": 1}


def silent(count: int) -> np.ndarray:
    return np.zeros(count)


@pytest.fixture
def many() -> pd.DataFrame:
    return make_frame(300, NAMES)


def sums(values: np.ndarray, length: int) -> torch.Tensor:
    """The sum of the mechanism over the series of a table, of which all rows are training rows."""
    frame = pd.DataFrame(values, index=pd.date_range("2024", periods=len(values), freq="h"))
    panel = replace(Panel.from_frame(frame), borders=(len(values),) * 3)
    return private.shares(train_blocks(panel), length).sum(dim=1)


KINDS = {
    "noise": lambda rng, t: rng.normal(size=len(t)) * 10 ** rng.uniform(-3, 5),
    "cycle": lambda rng, t: np.cos(2 * np.pi * t * rng.integers(0, 9) / 16 + rng.uniform(0, 6)),
    "constant": lambda rng, t: np.full(len(t), rng.normal()),
    "outlier": lambda rng, t: 1e9 * (t == rng.integers(len(t))),
    "trend": lambda rng, t: t * 1e6,
}


@given(
    st.integers(0, 2**31), st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(KINDS)), st.integers(3, 17),
    st.integers(1, 4),
)  # fmt: skip
def test_replacing_a_series_moves_the_sums_by_no_more_than_the_sensitivity(
    seed: int, before: str, after: str, length: int, others: int
) -> None:
    rng, t = np.random.default_rng(seed), np.arange(40)
    table = np.stack([KINDS[kind](rng, t) for kind in [before, *(["noise"] * others)]], axis=1)
    moved = table.copy()
    moved[:, 0] = KINDS[after](rng, t)
    gap = torch.linalg.vector_norm(sums(table, length) - sums(moved, length))
    assert gap <= private.SENSITIVITY * (1 + 1e-12)


def test_two_cycles_reach_the_sensitivity() -> None:
    t = np.arange(64)
    table, moved = (np.stack([np.cos(np.pi * t / n), np.sin(t)], axis=1) for n in (2, 4))
    gap = torch.linalg.vector_norm(sums(table, 16) - sums(moved, 16))
    assert gap == pytest.approx(math.sqrt(2), rel=1e-6)


def test_a_constant_series_adds_nothing() -> None:
    table = np.stack([np.ones(40), np.random.default_rng(0).normal(size=40)], axis=1)
    assert sums(table, 8).sum() == pytest.approx(1)


@needs_opacus
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("delta", [1e-8, 1e-5, 1e-3])
def test_the_noise_suffices_by_the_exact_formula_and_not_by_far(epsilon: float, delta: float) -> None:
    def exact(sigma: float) -> float:
        """The smallest δ of a Gaussian mechanism (Balle & Wang 2018, Theorem 8)."""
        a, b = 1 / (2 * sigma), epsilon * sigma
        return float(norm.cdf(a - b) - math.exp(epsilon + norm.logcdf(-a - b)))

    sigma = private.multiplier(epsilon, delta)
    assert exact(sigma) <= delta < exact(sigma / 1.25)


@needs_opacus
def test_noise_that_is_out_of_reach_is_refused() -> None:
    with pytest.raises(InputError, match="no noise suffices; raise --epsilon"):
        private.multiplier(1e-9, 1e-9)


def test_the_noise_has_the_size_that_is_told_and_is_never_the_same() -> None:
    drawn = private.secret(4000)
    assert drawn.std() == pytest.approx(1, abs=0.06) and abs(drawn.mean()) < 0.08
    assert not np.array_equal(drawn, private.secret(4000))
    parts = torch.zeros(4000, 10, dtype=torch.float64)
    found = private.released(parts, 3.0)
    assert found.std().item() == pytest.approx(math.sqrt(2) * 3 / 10, rel=0.06)


def test_peaks_stay_and_the_rest_is_averaged() -> None:
    found = torch.full((40,), 0.01, dtype=torch.float64)
    found[1::2] = -0.004
    found[5] = 0.5
    kept = private.smoothed(found, 0.01)
    assert kept.sum() == pytest.approx(1) and (kept > 0).all()
    rest = kept[torch.arange(40) != 5] / kept[5] * 0.5
    assert rest.max() < 0.006 and rest[20].item() == pytest.approx(0.01 / math.sqrt(17), rel=0.5)
    assert private.smoothed(torch.zeros(9, dtype=torch.float64), 0.1).tolist() == pytest.approx([1 / 9] * 9, rel=0.2)


def prepared(frame: pd.DataFrame, **more: Any) -> tuple[Panel, config.Settings]:
    return produce.prepare(frame, **{**OWN, "epsilon": 4.0, **more})


@needs_opacus
def test_the_stand_in_has_the_spectrum_that_was_released_and_no_more(many: pd.DataFrame) -> None:
    panel, plan = prepared(many)
    made, told = private.stand_in(panel, plan, silent)
    sigma = told.multiplier
    wanted = private.smoothed(private.released(private.shares(train_blocks(panel), 48), sigma, silent),
                              math.sqrt(2) * sigma / 40)  # fmt: skip
    for start in (0, 7):
        own = mean_spectrum(torch.tensor(made.values[start : start + 48]), 48).power
        found = own * torch.tensor([1.0, *[2.0] * 23, 1.0])[:, None] / 48
        torch.testing.assert_close(found, wanted[:, None].expand(-1, 40), rtol=1e-4, atol=1e-7)
    assert (told.series, told.numbers, told.epsilon, told.delta) == (40, 25, 4.0, 1e-5)
    assert not {*made.columns} & {*NAMES} and made.scaler.std.tolist() == [1.0] * 40 and made.borders == panel.borders
    again, _ = private.stand_in(panel, plan, silent)
    other, _ = private.stand_in(panel, plan.model_copy(update={"seed": 1}), silent)
    assert made.values.tobytes() == again.values.tobytes() != other.values.tobytes()
    assert private.stand_in(panel, plan)[0].values.tobytes() != private.stand_in(panel, plan)[0].values.tobytes()


@needs_opacus
def test_two_tables_that_release_the_same_leave_the_same_folder(
    many: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything but the noised numbers is made without the values: with these replaced, any table gives the run."""
    answer = torch.linspace(1, 0, 25, dtype=torch.float64) / 10
    monkeypatch.setattr(private, "released", lambda *_: answer)
    other = pd.DataFrame(np.random.default_rng(5).gamma(1, 1e4, many.shape).cumsum(axis=0), many.index, many.columns)
    folders = []
    for n, frame in enumerate((many, other)):
        run = hdt.distill(frame, **OWN, epsilon=4.0)
        assert run.panel is None and run.kept is None
        facts = {"seconds": 0.0, "peak_rss_mb": None}
        run = replace(run, info=run.info.model_copy(update=facts))
        folders.append(run.save(tmp_path / f"run{n}" / "r"))
    files = [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders]
    pages = [file.pop("report.html").replace(b"run1", b"run0") for file in files]
    assert files[0] == files[1] and pages[0] == pages[1]
    assert not any(b"client" in content for content in files[0].values())


@needs_opacus
def test_a_run_says_what_it_grants(run: Run, many: pd.DataFrame, tmp_path: Path) -> None:
    many.to_csv("clients.csv")
    words = [f"--{name}={OWN[name]}" for name in ("length", "context", "horizon", "iterations", "method", "channels")]
    words += ["--option=features=8", "--option=draws=1"]
    shown = run("distill", "clients.csv", *words, "--epsilon", 4, "--delta", 1e-6, "--out", "r")
    assert shown.code == 0 and "private: (4, 1e-06)-differentially" in shown.err, shown
    assert "nearest stand-in sub-series" in shown.out
    told = json.loads((tmp_path / "r" / "run.json").read_text())
    own = told["privacy"]
    assert (own["epsilon"], own["delta"], own["series"], own["numbers"]) == (4, 1e-6, 40, 25)
    assert own["multiplier"] == pytest.approx(private.multiplier(4, 1e-6)) and own["accountant"].startswith("Opacus")
    assert set(told["scaler_mean"]) == {0} and set(told["scaler_std"]) == {1}
    assert (told["settings"]["epsilon"], told["settings"]["delta"]) == (4, 1e-6)
    card = (tmp_path / "r" / "README.md").read_text()
    assert "(ε, δ) = (4, 1e-06)" in card and "nearest stand-in segment" in card and "nearest real" not in card
    assert "--epsilon 4.0 --delta 1e-06" in card and "Not\ncovered are" in card
    assert hdt.Distilled.load("r").info.privacy is not None
    again = run("distill", "--recipe", "r/recipe.yaml", "--out", "again")
    assert again.code == 0 and json.loads(Path("again/run.json").read_text())["privacy"] == own
    assert (tmp_path / "again/synthetic.parquet").read_bytes() != (tmp_path / "r/synthetic.parquet").read_bytes()
    shown = run("evaluate", "r", "--seeds", 1)
    assert shown.code == 0 and "errors on real data are not" in shown.err
    assert not (tmp_path / "r" / EVALUATION).exists()
    assert run("report", "r").code == 0
    refused(run("report", "r", "--data", "clients.csv"), "this run is private")
    if find_spec("sklearn"):
        refused(run("audit", "r"), "this run is private")
    refused(run("update", "r", "clients.csv"), r"no state for updates \(it is private\)")
    make_frame(200, NAMES).to_csv("shorter.csv")
    refused(run("evaluate", "r", "--data", "shorter.csv"), "its shape is not that of the data")
    refused(run("distill", "clients.csv", *words, "--epsilon", 4, "--state", "--out", "s"), "no state for updates")


def test_a_run_that_is_not_private_says_nothing_of_it(frame: pd.DataFrame) -> None:
    run = hdt.distill(frame, **SMALL)
    told = run.info.model_dump(mode="json")
    assert "privacy" not in told and not {"epsilon", "delta"} & told["settings"].keys()
    assert RunInfo.model_validate(told).privacy is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 0}, "epsilon=0: .*greater than 0"),
        ({"epsilon": -1.0}, "epsilon=-1.0"),
        ({"epsilon": math.inf}, "epsilon=inf"),
        ({"delta": 1.0}, "delta=1.0"),
        ({"delta": 0.03}, r"delta=0\.03: below 1/40"),
        ({"epsilon": None, "delta": 1e-6}, "delta belongs to --epsilon"),
        ({"channels": "all"}, "give fewer --channels than 40"),
        ({"method": "hdt", "channels": None, "features": None, "draws": None, "k": 6}, "take --method wiener"),
        ({"transform": "difference"}, "its table is transformed, difference"),
        ({"calendar": ["hour"]}, "it has covariates"),
    ],
)
def test_what_cannot_be_private_is_refused(many: pd.DataFrame, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        prepared(many, **change)
    assert "\n" not in str(caught.value)


def test_gaps_and_unequal_lengths_are_refused(many: pd.DataFrame) -> None:
    gaps = many.copy()
    gaps.iloc[20, 3] = np.nan
    with pytest.raises(InputError, match="it has missing values"):
        prepared(gaps)
    long = many.melt(ignore_index=False, var_name="unique_id", value_name="y").rename_axis("ds").reset_index()
    with pytest.raises(InputError, match="its series differ in length"):
        prepared(long.iloc[30:])


def test_a_missing_extra_is_named(many: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus", None)
    monkeypatch.setattr(private, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'hdt-ts\[privacy\]'"):
        prepared(many)


@needs_opacus
def test_a_long_table_and_a_comparison_take_it(many: pd.DataFrame) -> None:
    many.columns.name = "meter"
    long = many.melt(ignore_index=False, value_name="y").rename_axis("ds").reset_index()
    run = hdt.distill(long, id_column="meter", epsilon=4.0, **OWN)
    assert sorted(run.to_frame()["meter"].unique()) == ["synthetic_1", "synthetic_2", "synthetic_3"]
    own = {name: value for name, value in OWN.items() if name != "method"}
    table = hdt.compare(many, methods=["wiener"], students=["dlinear"], seeds=1, vary={"epsilon": [1.0, 8.0]}, **own)
    assert set(table.dropna(subset="epsilon").method) == {"wiener", "random"}
