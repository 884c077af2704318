"""Features that networks learn on real windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hdt.maths.blocks import Blocks
from hdt.objective import Problem
from hdt.objective.views import Views
from hdt.objective.wiener import Wiener
from hdt.training import features
from hdt.training.features import Relu, learned, pool, random_relu

L, H, D = 8, 4, 12


def waves(rows: int = 300, channels: int = 2, seed: int = 0) -> torch.Tensor:
    """Sawtooth waves, which no linear map of so short a context continues, with noise."""
    rng = np.random.default_rng(seed)
    steps = np.arange(rows)[:, None] / rng.uniform(5, 9, channels) + rng.uniform(0, 1, channels)
    return torch.tensor(steps % 1 + 0.05 * rng.standard_normal((rows, channels)), dtype=torch.float32)


def begun(count: int = 2) -> list[Relu]:
    generator = torch.Generator().manual_seed(0)
    return [random_relu(L, D, generator) for _ in range(count)]


def windows(series: torch.Tensor) -> np.ndarray:
    every = np.lib.stride_tricks.sliding_window_view(series.numpy(), L + H, axis=0)
    return every.reshape(-1, L + H).astype(np.float64)


def unexplained(own: Relu, series: torch.Tensor) -> float:
    """What least squares on these features leaves of the horizons, by hand."""
    every = windows(series)
    every = every - every[:, :L].mean(axis=1, keepdims=True)
    x, y = every[:, :L], every[:, L:]
    scale = np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5)
    phi = scale * np.maximum(x @ own.mix.numpy() / scale + own.bias.numpy(), 0)
    return float(((phi @ np.linalg.lstsq(phi, y, rcond=None)[0] - y) ** 2).sum() / (y**2).sum())


def test_learned_features_explain_more_of_other_windows_than_random_ones() -> None:
    found = learned(begun(), waves(), H, 300, torch.Generator().manual_seed(1))
    other = waves(seed=1)
    for before, after in zip(begun(), found, strict=True):
        assert unexplained(after, other) < 0.9 * unexplained(before, other)


def test_every_network_learns_as_one_alone_does_on_the_same_batches() -> None:
    """By a hidden layer of torch and its own optimiser for each network."""
    series = waves()
    x, y = (part.float() for part in features.centred(pool(series, L + H), L))
    scale = (x.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
    found = learned(begun(), series, H, 5, torch.Generator().manual_seed(7))
    for n, own in enumerate(begun()):
        generator = torch.Generator().manual_seed(7)
        hidden, head = torch.nn.Linear(L, D), torch.nn.Linear(D, H, bias=False)
        with torch.no_grad():
            hidden.weight.copy_(own.mix.T)
            hidden.bias.copy_(own.bias)
            head.weight.zero_()
        optimizer = torch.optim.Adam([*hidden.parameters(), *head.parameters()], lr=features.RATE)
        for _ in range(5):
            rows = torch.randint(len(x), (2, features.BATCH), generator=generator)[n]
            forecast = scale[rows] * head(torch.relu(hidden(x[rows] / scale[rows])))
            optimizer.zero_grad()
            (forecast - y[rows]).square().mean().backward()
            optimizer.step()
        np.testing.assert_allclose(found[n].mix.numpy(), hidden.weight.detach().T.numpy(), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found[n].bias.numpy(), hidden.bias.detach().numpy(), rtol=1e-3, atol=1e-4)
        assert (found[n].mix - own.mix).abs().max() > 1e-3


def test_the_pool_holds_windows_of_every_channel_from_where_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    series = waves(60, channels=3)
    series[:20, 1] = torch.nan
    series[:55, 2] = torch.nan  # shorter than a window
    real = {window.tobytes() for window in windows(series[:, :1]).astype(np.float32)}
    late = {window.tobytes() for window in windows(series[20:, 1:2]).astype(np.float32)}
    found = [window.tobytes() for window in pool(series, L + H).numpy()]
    assert len(found) == len({*found}) and {*found} == real | late
    monkeypatch.setattr(features, "POOL", 20)
    some = [window.tobytes() for window in pool(series, L + H).numpy()]
    assert len(some) == 20 and len({*some} & real) == len({*some} & late) == 10


def test_of_many_channels_a_sample_teaches(monkeypatch: pytest.MonkeyPatch) -> None:
    series = waves(30, channels=130)
    read: list[int] = []

    def channels(some: list[int]) -> torch.Tensor:
        read.extend(some)
        return series[:, some]

    starts = torch.zeros(130, dtype=torch.long)
    pool(Blocks(30, starts, lambda some: channels(list(some)), lambda: "key"), L + H)
    assert len(read) == 44 and max(read) - min(read) > 100


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_does_not_show(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        again = learned(begun(), waves(), H, 20, torch.Generator().manual_seed(3))
    finally:
        torch.set_num_threads(before)
    once = learned(begun(), waves(), H, 20, torch.Generator().manual_seed(3))
    assert all(a.mix.equal(b.mix) and a.bias.equal(b.bias) for a, b in zip(once, again, strict=True))


def test_kept_sums_are_those_of_the_same_features(tmp_path: Path) -> None:
    """Random features, then learned ones: neither is taken for the other."""
    series = waves()

    def views(steps: int, sums: Path | None) -> Views:
        options = Wiener.Options(features=D, draws=2, feature_steps=steps)
        blocks = Blocks(300, torch.zeros(2, dtype=torch.long), lambda some: series[:, some], lambda: "k" * 40)
        return Wiener(options, Problem(L, H, 40)).prepare(replace(blocks, sums=sums))

    for steps in (0, 3, 0, 4):
        kept, fresh = views(steps, tmp_path), views(steps, None)
        for one, other in zip(kept.random, fresh.random, strict=True):
            assert one.real.features.equal(other.real.features)
    assert len(list(tmp_path.glob("sums-*"))) == 3
