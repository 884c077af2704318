from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import make_frame
from hypothesis import given
from hypothesis import strategies as st

import hdt
from hdt.evaluation import naive


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 20), st.integers(1, 3), st.integers(0, 99))
def test_errors_are_those_of_every_window_by_hand(
    season: int, horizon: int, more: int, channels: int, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(season + horizon + more, channels))
    gaps = []
    for start in range(more + 1):
        past, future = values[start : start + season], values[start + season : start + season + horizon]
        forecast = np.concatenate([past] * 9)[:horizon]  # the last season, again and again
        gaps.append(future - forecast)
    squared, absolute = naive.errors(values, season, horizon)
    np.testing.assert_allclose(squared, np.square(gaps).mean(axis=(0, 1)), rtol=1e-9)
    np.testing.assert_allclose(absolute, np.abs(gaps).mean(axis=(0, 1)), rtol=1e-9)


def test_forecasts_begin_at_the_border_and_read_the_season_before_it() -> None:
    """A student's test windows begin at the border too: as many of them, of the same steps."""
    panel = hdt.load(make_frame(), split=[280, 320, 400])
    assert naive.season_of(panel) == 24
    values = panel.scaler.transform(panel.values)
    for kind, season in (("last value", 1), ("last season", 24)):
        gaps = [values[t : t + 6] - values[t - season + np.arange(6) % season] for t in range(320, 400 - 6 + 1)]
        found = naive.score(panel, kind, 6)
        assert found is not None
        assert found["mse"] == pytest.approx(np.square(gaps).mean()) and found["mae"] == pytest.approx(
            np.abs(gaps).mean()
        )
        assert found["train_seconds"] == 0


def test_without_a_season_there_is_no_last_season() -> None:
    walk = np.random.default_rng(0).normal(size=(600, 2)).cumsum(axis=0)
    frame = pd.DataFrame(walk, index=pd.date_range("2024-01-01", periods=600, freq="D"), columns=["a", "b"])
    panel = hdt.load(frame)
    assert naive.season_of(panel) is None and naive.score(panel, "last season", 6) is None
    assert naive.score(panel, "last value", 6) is not None


def test_a_season_may_reach_into_the_part_before_the_last() -> None:
    panel = hdt.load(make_frame(), split=[340, 360, 400])  # 20 validation rows, seasons of 24
    values = panel.scaler.transform(panel.values)
    gaps = [values[t : t + 6] - values[t - 24 + np.arange(6)] for t in range(360, 400 - 6 + 1)]
    found = naive.score(panel, "last season", 6)
    assert naive.season_of(panel) == 24 and found is not None
    assert found["mse"] == pytest.approx(np.square(gaps).mean())


def test_the_last_value_is_hard_to_beat_on_exchange(data_dir: object) -> None:
    """The figure an audit found by other means: .0811 for 96 steps."""
    panel = hdt.load("Exchange")
    assert naive.score(panel, "last value", 96)["mse"] == pytest.approx(0.0811, abs=1e-4)
    for name, season, error in (("ETTh1", 24, 0.512), ("ETTm1", 96, 0.423)):
        panel = hdt.load(name)
        assert naive.season_of(panel) == season
        assert naive.score(panel, "last season", 96)["mse"] == pytest.approx(error, abs=1e-3)
