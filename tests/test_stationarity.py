from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from conftest import SMALL, make_frame
from statsmodels.tsa.stattools import adfuller, kpss

import hdt
from hdt.maths.stationarity import drifts, notice
from hdt.objective import OBJECTIVES


def walk(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=rows).cumsum()


def test_a_random_walk_drifts_and_a_noisy_daily_cycle_does_not() -> None:
    steps = np.arange(20_000)
    cycle = np.sin(2 * np.pi * steps / 24) + np.random.default_rng(0).normal(size=len(steps))
    assert [drifts(walk(20_000, seed)) for seed in range(5)] == [True] * 5
    assert not drifts(cycle)
    assert drifts(cycle + walk(20_000) / 30)


def autoregression(rows: int, coefficient: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=rows)
    values = np.zeros(rows)
    for t in range(1, rows):
        values[t] = coefficient * values[t - 1] + noise[t]
    return values


@pytest.mark.parametrize(
    ("rows", "coefficient", "seed", "unit_root", "stationary"),
    [(100, 0.9, 4, True, True), (1000, 0.95, 10, False, False)],
)
def test_one_of_both_tests_is_not_enough(
    rows: int, coefficient: float, seed: int, unit_root: bool, stationary: bool
) -> None:
    """Stationary by construction. Short: ADF cannot tell it from a walk. Long and slow: KPSS takes it for one."""
    series = autoregression(rows, coefficient, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adf, trend = adfuller(series, maxlag=10, autolag=None), kpss(series, nlags="auto")
    found = [test.pvalue if hasattr(test, "pvalue") else test[1] for test in (adf, trend)]
    assert (found[0] > 0.05, found[1] > 0.05) == (unit_root, stationary)  # the two disagree
    assert not drifts(series)


@pytest.mark.parametrize("series", [np.zeros(500), np.ones(5), np.arange(20.0)])
def test_constant_and_very_short_series_are_left_alone(series: np.ndarray) -> None:
    assert not drifts(series)


@pytest.mark.parametrize("shape", [lambda t: t, lambda t: t**2, lambda t: t % 2, lambda t: 1.0 * (t > 1500)])
@pytest.mark.filterwarnings("error")
def test_the_tests_say_nothing_of_their_own(shape: Callable[[np.ndarray], np.ndarray]) -> None:
    drifts(shape(np.arange(3000.0)))


@pytest.mark.parametrize(
    ("objective", "options", "remedy"),
    [
        ("wiener", {"level": 0.5}, r"the level term \(level=0.5\) trains"),
        ("wiener", {"level": 0}, "try --option level=1"),
        ("mtt", {}, "objective 'mtt' assumes they do not; --method wiener has a level term, --transform difference"),
    ],
)
def test_the_notice_names_the_channels_and_what_helps(objective: str, options: dict[str, object], remedy: str) -> None:
    train = np.stack([np.random.default_rng(1).normal(size=3000), walk(3000), walk(3000, 1)], axis=1)
    said = OBJECTIVES[objective].remedy(options)
    text = notice(train, ["calm", "price", "other"], said)
    assert text is not None and text.startswith("2 of 3 tested channels drift (ADF and KPSS, first 'price')")
    assert re.search(remedy, text)
    assert notice(train[:, :1], ["calm"], said) is None


def test_wide_data_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of five channels at most: every third."""
    monkeypatch.setattr("hdt.system.machine.SAMPLE", 2)
    frame = make_frame(columns=tuple("abcde"))
    frame[["a", "b", "c", "e"]] += 2 * walk(400)[:, None]
    notices = hdt.distill(frame, **SMALL).info.data.notices
    assert any(text.startswith("1 of 2 tested channels drift (ADF and KPSS, first 'a')") for text in notices)


def test_a_run_keeps_the_notice() -> None:
    frame = make_frame()
    frame["load"] += walk(400) * 2
    notices = hdt.distill(frame, **SMALL).info.data.notices
    assert any("tested channels drift (ADF and KPSS, first 'load')" in text for text in notices)
    assert not any("drift" in text for text in hdt.distill(make_frame(), **SMALL).info.data.notices)
