"""Students that each know one channel: moments, errors and gradients by NumPy, and what they are refused for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Ready, Result, make_frame
from hypothesis import given
from hypothesis import strategies as st

import hdt
from hdt.objective import Problem
from hdt.objective import individual as own
from hdt.objective.individual import individual
from hdt.objective.wiener import Wiener
from hdt.system.errors import InputError

L, H = 4, 3
SMALL: dict[str, Any] = {"length": 48, "context": 12, "horizon": 6, "features": 8, "draws": 2}


def double(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def cut(series: np.ndarray) -> np.ndarray:
    """Windows [n, L+H] of one channel, less the means of their contexts."""
    every = np.lib.stride_tricks.sliding_window_view(series, L + H)
    return every - every[:, :L].mean(axis=1, keepdims=True)


def features(every: np.ndarray, view: Any, linear: bool) -> np.ndarray:
    x = every[:, :L]
    if linear:
        return x
    scale = np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5)
    return np.maximum(x @ view.mix.numpy() + scale * view.bias.numpy(), 0)


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 4))
def test_errors_are_those_of_a_ridge_regression_for_each_channel(seed: int, sequences: int, channels: int) -> None:
    real, synthetic = double(60, channels, seed=seed), double(sequences, 16, channels, seed=seed + 1)
    known = individual(real.float().double(), L, H)
    flat = synthetic.unfold(1, L + H, 1).flatten(0, 1).flatten(0, 1)  # windows of one time follow one another
    assert len(flat) == 10 * sequences * channels
    with mock.patch.object(own, "ENOUGH", 10):
        error, noise = known.errors(flat, 0.1, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    draw = 1 + int(torch.randint(own.DRAWS, (), generator=generator))
    share = sequences
    begin = int(torch.randint(share, (), generator=generator))
    cuts = [np.concatenate([cut(one) for one in synthetic[:, :, c].numpy()])[begin::share] for c in range(channels)]
    expected = np.zeros(2)
    for place in (0, draw):
        left = np.zeros((2, 2, channels))
        for c in range(channels):
            view = known.views[place][0]
            every = cut(real.float().double()[:, c].numpy())
            made = cuts[c]
            x, y = features(made, view, place == 0), made[:, L:]
            a = x.T @ x / len(x)
            ridge = np.trace(a) / len(a)
            if channels == 1:
                ridge *= 1 + own.LEAST
            else:
                ridge += own.LEAST * np.mean([np.mean(features(each, view, place == 0) ** 2) for each in cuts])
            weights = np.linalg.solve(a + 0.1 * ridge * np.eye(len(a)), x.T @ y / len(x))
            for n, rows in enumerate((every, made)):
                gap = rows[:, L:] - features(rows, view, place == 0) @ weights
                left[:, n, c] = (gap**2).sum(axis=1).mean(), (rows[:, L:] ** 2).sum(axis=1).mean()
        expected += left[0].mean(axis=1) / left[1].mean(axis=1)
    np.testing.assert_allclose([error.item(), noise.item()], expected, rtol=1e-7)


def test_the_gradient_is_that_of_the_loss() -> None:
    known, flat = individual(double(60, 2), L, H), double(2, 12, 2, seed=1)

    def loss(series: torch.Tensor) -> torch.Tensor:
        every = series.unfold(1, L + H, 1).flatten(0, 1).flatten(0, 1)
        error, noise = known.errors(every, 0.1, torch.Generator().manual_seed(0))
        return error + 0.3 * noise

    assert torch.autograd.gradcheck(loss, (flat.requires_grad_(),))


def test_it_is_a_term_of_wiener_and_of_a_group_it_knows_the_channels() -> None:
    problem, real, synthetic = Problem(L, H, 16), double(60, 3), double(1, 16, 3, seed=1)
    with_it, without = (Ready(Wiener(Wiener.Options(individual=w, features=5, draws=1), problem), real) for w in (2, 0))
    loss, terms = with_it.loss(synthetic, torch.Generator().manual_seed(0))
    plain, others = without.loss(synthetic, torch.Generator().manual_seed(0))
    assert set(terms) - set(others) == {"individual", "individual_noise"}
    expected = plain + 2 * (terms["individual"] + 0.03 * terms["individual_noise"])
    torch.testing.assert_close(loss, expected)
    objective = Wiener(Wiener.Options(individual=2, features=5, draws=1), problem)
    some = objective.restrict(objective.prepare(real), torch.tensor([2, 0])).own
    alone = objective.prepare(real[:, [2, 0]]).own
    assert some is not None and alone is not None
    for (_, one), (_, other) in zip(some.views, alone.views, strict=True):
        torch.testing.assert_close(vars(one), vars(other))


def test_a_set_teaches_each_channel_its_own_map() -> None:
    frame, left = opposite(600), []
    for weight in (0.0, 1.0):
        made = hdt.distill(frame, method="wiener", individual=weight, iterations=100, seed=0, **SMALL)
        known = individual(torch.tensor(made.panel.part("train"), dtype=torch.float64), 12, 6)  # type: ignore[union-attr]
        flat = torch.tensor(made.values).unfold(1, 18, 1).flatten(0, 1).flatten(0, 1).double()
        left.append(known.errors(flat, 0.01, torch.Generator().manual_seed(0))[0].item())
    assert left[1] < 0.93 * left[0]


def test_where_channels_are_not_alone_it_is_refused() -> None:
    frame = make_frame(columns=tuple("abc"))
    with pytest.raises(InputError, match=r"individual=1\.0: every channel is needed; give --channels all"):
        hdt.distill(frame, method="wiener", channels=2, individual=1.0, iterations=2, **SMALL)
    made = hdt.distill(frame, method="wiener", individual=1.0, iterations=2, **SMALL)
    with pytest.raises(InputError, match=r"individual=1\.0 adds no rows to its moments"):
        hdt.update(made, make_frame(500, tuple("abc")).iloc[400:])
    whole = hdt.distill(frame, method="wiener", individual=1.0, iterations=2, channel_batch=2, **SMALL)
    assert np.isfinite(whole.values).all()


def opposite(rows: int, down: float = -0.9) -> pd.DataFrame:
    """Two channels, x_t = .9 x_{t−1} and ``down`` x_{t−1}, with noise."""
    rng, values = np.random.default_rng(0), np.zeros((rows, 2))
    for t in range(1, rows):
        values[t] = np.array([0.9, down]) * values[t - 1] + rng.normal(size=2)
    return pd.DataFrame(values, index=pd.date_range("2024-01-01", periods=rows, freq="h"), columns=["up", "down"])


def test_whether_channels_differ_is_what_ridge_regressions_say_of_rows_they_did_not_see() -> None:
    for down in (-0.9, 0.9):
        values = opposite(400, down).to_numpy()
        cut_at, left = 320, []
        inside = [np.lib.stride_tricks.sliding_window_view(values[:cut_at, c], L + H) for c in (0, 1)]
        beyond = [np.lib.stride_tricks.sliding_window_view(values[cut_at - L :, c], L + H) for c in (0, 1)]
        inside, beyond = ([w - w[:, :L].mean(axis=1, keepdims=True) for w in part] for part in (inside, beyond))
        for shared in (False, True):
            tried = []
            for power in range(-5, 1):
                squares = []
                for c in (0, 1):
                    fitted = np.concatenate(inside) if shared else inside[c]
                    x, y = fitted[:, :L], fitted[:, L:]
                    gram = x.T @ x / len(x)
                    size = np.trace(gram) / L
                    sizes = [np.mean(w[:, :L] ** 2) for w in inside]
                    least = own.LEAST * np.mean(size if shared else sizes)
                    weights = np.linalg.solve(gram + 10.0**power * (size + least) * np.eye(L), x.T @ y / len(x))
                    squares.append(((beyond[c][:, L:] - beyond[c][:, :L] @ weights) ** 2).sum(axis=1).mean())
                tried.append(np.mean(squares))
            left.append(min(tried))
        found = own.told_apart(torch.tensor(values), L, H)
        assert found == pytest.approx(left[0] / left[1], rel=1e-9)
        assert (found < own.APART) == (down < 0)


def test_auto_asks_for_them_where_channels_differ() -> None:
    small = {**SMALL, "iterations": 2}
    for frame, weight in ((opposite(500), 1), (opposite(500, 0.9), 0)):
        chosen = hdt.distill(frame, method="auto", **small)
        named = hdt.distill(frame, method="fred-wiener", individual=weight, **small)
        assert chosen.info.chosen["individual"] == weight
        assert chosen.values.tobytes() == named.values.tobytes()
        assert (chosen.info.settings.method, chosen.info.settings.options["individual"]) == ("fred-wiener", "auto")
    with pytest.raises(InputError, match="individual=auto adds no rows to its moments, individual=0 does"):
        hdt.update(chosen, opposite(600).iloc[500:])


def test_what_auto_decided_is_printed(run: Callable[..., Result]) -> None:
    opposite(500).to_csv("two.csv")
    words = [f"--{name}={SMALL[name]}" for name in ("length", "context", "horizon")]
    words += ["--option=features=8", "--option=iterations=2", "--option=draws=2"]
    for method, told in (("auto", "fred-wiener, individual 1, seed 0"), ("fred-wiener", "fred-wiener, seed 0")):
        result = run("distill", "two.csv", "--method", method, "--out", method, *words)
        assert f"two.csv by {told}\n" in result.out, result


def test_of_rows_that_are_too_few_or_do_not_vary_nothing_is_told() -> None:
    for rows in (torch.randn(20, 2), torch.full((400, 2), 3.0)):
        assert own.told_apart(rows.double(), 12, 6) == 1.0
    short = hdt.distill(
        opposite(500).iloc[:90], method="auto", iterations=2, split=[1, 0, 0], **{**SMALL, "length": 18}
    )
    assert short.info.chosen["individual"] in (0, 1)


def test_auto_asks_for_nothing_where_channels_are_not_kept() -> None:
    for frame, more in (
        (opposite(500), {"channels": 1}),
        (opposite(500)[["up"]], {}),
        (opposite(500), {"objective": "cfm"}),
    ):
        given = {name: value for name, value in SMALL.items() if name not in ("draws", "features")}
        made = hdt.distill(frame, method="auto", iterations=2, **given, **more)
        assert made.info.settings.options.get("individual", 0) == 0


def test_a_channel_without_variance_is_no_obstacle() -> None:
    frame = make_frame().assign(flat=3.0)
    made = hdt.distill(frame, method="wiener", individual=1.0, iterations=2, **SMALL)
    assert np.isfinite(made.values).all()
