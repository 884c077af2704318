from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import Ready
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, Ridge

from hdt.maths import moments
from hdt.maths.moments import Moments
from hdt.maths.windows import windows
from hdt.objective import Problem
from hdt.objective.wiener import Wiener
from hdt.system import machine
from hdt.system.errors import InputError
from hdt.training.features import Relu

L, H = 6, 3


def walk(rows: int, channels: int = 2, seed: int = 0) -> torch.Tensor:
    """A random walk: large edges, so that a wrong edge correction shows."""
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(rows, channels, dtype=torch.float64, generator=draws).cumsum(0) + 5


def noise(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def flat(series: torch.Tensor, context: int = L, horizon: int = H) -> torch.Tensor:
    return windows(series, context, horizon).transpose(1, 2).flatten(0, 1)


def by_hand(features: torch.Tensor, target: torch.Tensor) -> Moments:
    d, h = features.shape[1], target.shape[1]
    a = torch.tensor([[sum(features[:, i] * features[:, j]) for j in range(d)] for i in range(d)])
    b = torch.tensor([[sum(features[:, i] * target[:, j]) for j in range(h)] for i in range(d)])
    return Moments(a, b, sum(target[:, j] @ target[:, j] for j in range(h)), len(features))


def assert_same(first: Moments, second: Moments, tolerance: float = 1e-10) -> None:
    assert first.count == second.count
    for name in ("features", "cross", "target"):
        a, b = getattr(first, name), getattr(second, name)
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * float(b.abs().max()))


@pytest.mark.parametrize("rows", [9, 10, 17, 18, 40])
def test_lag_moments_equal_brute_force_over_windows(rows: int) -> None:
    series = walk(rows)
    every = flat(series)
    biased = torch.cat([every[:, :L], torch.ones(len(every), 1, dtype=every.dtype)], dim=1)
    assert_same(moments.lag_moments(moments.gram(series, L + H), L), by_hand(biased, every[:, L:]))


@given(st.integers(20, 200), st.integers(1, 4), st.integers(0, 5))
def test_fft_and_window_paths_agree(rows: int, channels: int, seed: int) -> None:
    series = walk(rows, channels, seed)

    def features(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([part[:, :L], torch.ones_like(part[:, :1])], dim=1), part[:, L:]

    fast = moments.lag_moments(moments.gram(series, L + H), L)
    assert_same(fast, moments.stream(series, L, H, features))


def test_centred_gram_is_that_of_centred_windows() -> None:
    series = walk(60)
    every = flat(series)
    every = every - every[:, :L].mean(dim=1, keepdim=True)
    found = moments.centred_gram(moments.gram(series, L + H), L)[:-1, :-1]
    torch.testing.assert_close(found, every.T @ every)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 9))
def test_moments_add_over_channels_and_chunks(first: int, second: int, seed: int) -> None:
    series = walk(50, first + second, seed)
    whole = moments.gram(series, L + H)
    parts = moments.gram(series[:, :first], L + H) + moments.gram(series[:, first:], L + H)
    torch.testing.assert_close(whole, parts)
    cut = 20  # chunks overlap by a window less one step, so that each window is in exactly one
    chunks = [series[: cut + L + H - 1], series[cut:]]
    lag = [moments.lag_moments(moments.gram(chunk, L + H), L) for chunk in chunks]
    assert_same(lag[0] + lag[1], moments.lag_moments(whole, L))


def test_few_channels_at_a_time_are_transformed_and_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    series, rfft, seen = walk(60, 5), torch.fft.rfft, []
    whole = moments.gram(series, L + H)
    monkeypatch.setattr(machine, "CHANNELS", 2)
    monkeypatch.setattr(torch.fft, "rfft", lambda x, *given: seen.append(len(x)) or rfft(x, *given))
    torch.testing.assert_close(moments.gram(series, L + H), whole, rtol=1e-12, atol=0)
    assert seen == [2, 2, 2, 2, 1, 1]


def test_streaming_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    series = walk(60)

    def features(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.relu(part[:, :L]), part[:, L:]

    whole = moments.stream(series, L, H, features)
    monkeypatch.setattr(moments, "CHUNK_ELEMENTS", 7 * (L + H) * 2)
    assert_same(moments.stream(series, L, H, features), whole, 1e-13)


@pytest.mark.parametrize("elements", [1, 2**20])
def test_streams_begin_at_an_offset_in_every_series_that_has_a_window_there(
    elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 30, 11 and 10 rows: windows of 9 rows from row 2 on, every third, one at a time; the last series has none."""
    series = walk(30, 3)
    series[:19, 1] = series[:20, 2] = torch.nan
    monkeypatch.setattr(moments, "CHUNK_ELEMENTS", elements)
    found = moments.stream(series.float(), L, H, lambda part: (part[:, :L], part[:, L:]), stride=3, offset=2)
    starts = [(start, 0) for start in range(2, 22, 3)] + [(21, 1)]
    chosen = torch.stack([series[start : start + L + H, c].float() for start, c in starts]).double()
    assert_same(found, by_hand(chosen[:, :L], chosen[:, L:]))


def test_there_are_no_moments_of_no_windows() -> None:
    with pytest.raises(AssertionError, match=r"^no windows$"):
        moments.window_moments([])


def test_the_loss_is_the_error_on_the_windows() -> None:
    every, weights = flat(walk(40)), torch.randn(L, H, dtype=torch.float64)
    x, y = every[:, :L], every[:, L:]
    found = moments.window_moments([(x, y)])
    torch.testing.assert_close(found.loss(weights), (y - x @ weights).square().sum())
    torch.testing.assert_close(found.means().loss(weights), (y - x @ weights).square().sum(dim=1).mean())


def wiener(series: torch.Tensor, length: int = 20, **options: float) -> Ready:
    objective = Wiener(Wiener.Options(**{"features": 8, "draws": 1, "noise": 0, **options}), Problem(L, H, length))
    return Ready(objective, series)


def means(window: tuple[torch.Tensor, torch.Tensor]) -> Moments:
    return moments.window_moments([window]).means()


def one(view: str) -> dict[str, float]:
    return {name: float(name == view) for name in ("raw", "centred", "relu")}


@pytest.mark.parametrize("view", ["raw", "centred", "relu"])
def test_the_loss_is_that_of_scikit_learns_ridge_on_the_real_windows(view: str) -> None:
    real, synthetic = walk(80), walk(20, seed=1)[None]
    objective = wiener(real, ridge=0.03, level=0, **one(view))
    phi, y = features_by_hand(flat(synthetic[0]).numpy(), view, *numbers(objective))
    # scikit-learn minimises a sum where W(S) minimises a mean with the penalty ρ·tr(a)/D.
    penalty = 0.03 * np.trace(phi.T @ phi) / phi.shape[1]
    model = Ridge(alpha=penalty, fit_intercept=False).fit(phi, y)
    np.testing.assert_allclose(
        objective.student(means((torch.tensor(phi), torch.tensor(y)))).numpy().T, model.coef_, rtol=1e-8
    )
    real_phi, real_y = features_by_hand(flat(real).numpy(), view, *numbers(objective))
    mse = ((model.predict(real_phi) - real_y) ** 2).sum() / (real_y**2).sum()
    loss, terms = objective.loss(synthetic, torch.Generator())
    assert loss.item() == pytest.approx(mse, rel=1e-8)
    assert set(terms) == {view}
    residual = 0.0 if view == "raw" else ((model.predict(phi) - y) ** 2).sum() / (y**2).sum()
    weighed, _ = wiener(real, ridge=0.03, level=0, noise=0.7, **one(view)).loss(synthetic, torch.Generator())
    assert weighed.item() == pytest.approx(mse + 0.7 * residual, rel=1e-8)


def test_views_are_weighed_and_named() -> None:
    """Each against the objective that has it alone with weight one."""
    real, synthetic = walk(80), walk(20, seed=1)[None]
    weights = {"raw": 2.0, "centred": 0.5, "relu": 3.0}
    loss, terms = wiener(real, noise=0.2, **weights).loss(synthetic, torch.Generator())
    expected = 0.0
    for view, weight in weights.items():
        alone, found = wiener(real, noise=0.2, **one(view)).loss(synthetic, torch.Generator())
        expected += weight * alone.item()
        assert alone.item() == pytest.approx(
            terms[view].item() + 0.2 * (terms[f"{view}_noise"].item() if view != "raw" else 0)
        )
        assert all(found[name] == terms[name] and not terms[name].requires_grad for name in found)
    assert loss.item() == pytest.approx(expected)
    assert list(terms) == ["raw", "centred", "centred_noise", "relu", "relu_noise"]


def numbers(objective: Ready) -> list[np.ndarray]:
    """R and b of the first random features, if there are any."""
    return [part.numpy() for view in objective.random[:1] for part in (view.features.mix, view.features.bias)]


def features_by_hand(
    windows: np.ndarray, view: str, mix: np.ndarray | None = None, bias: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """φ and the target of every view, written out window by window, as the docstring of the objective has them."""
    phi, target = [], []
    for window in windows:
        x, y = window[:L], window[L:]
        if view == "raw":
            phi.append([*x, 1.0])
            target.append(y)
            continue
        x, y = x - x.mean(), y - x.mean()
        sigma = np.sqrt((x**2).mean() + 1e-5)
        phi.append(x if view == "centred" else sigma * np.maximum(x @ mix / sigma + bias, 0))
        target.append(y)
    return np.array(phi), np.array(target)


def test_relu_features_by_hand() -> None:
    """Levels far from zero and scales far from one: what is not centred or not scaled shows."""
    windows = 7 + 30 * flat(walk(60)).numpy()
    mix, bias = np.random.default_rng(1).normal(size=(L, 9)), np.linspace(-1, 1, 9)
    found = Relu(L, torch.tensor(mix), torch.tensor(bias))(torch.tensor(windows))
    for one_of, expected in zip(found, features_by_hand(windows, "relu", mix, bias), strict=True):
        np.testing.assert_allclose(one_of.numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("view", ["raw", "centred"])
def test_moments_of_the_linear_views_by_hand(view: str) -> None:
    """From the Gram matrix of windows and a 1, levels far from zero and scales far from one."""
    windows = 7 + 30 * flat(walk(60)).numpy()
    one_more = np.hstack([windows, np.ones((len(windows), 1))])
    phi, y = features_by_hand(windows, view)
    (linear,) = wiener(walk(60), **one(view)).linear
    found = linear.of(torch.tensor(one_more.T @ one_more)).means()
    np.testing.assert_allclose(found.features.numpy(), phi.T @ phi / len(phi), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(found.cross.numpy(), phi.T @ y / len(phi), rtol=1e-7, atol=1e-7)
    assert found.target.item() == pytest.approx(np.square(y).sum() / len(y), rel=1e-9) and found.count == 1


def test_every_draw_has_features_and_windows_of_its_own() -> None:
    """392 windows of two channels, at most 100 per draw: every 8th; four draws begin 0, 2, 4 and 6 rows in."""
    real, drawn = walk(400), torch.Generator().manual_seed(0)
    objective = wiener(real, draws=4, most_windows=100, feature_steps=0, **one("relu"))
    every = real.unfold(0, L + H, 1).transpose(0, 1).numpy()  # [channel, window, step]
    assert every.shape[1] == 392 and len(objective.random) == 4
    for draw, view in enumerate(objective.random):
        mix = torch.randn(L, 8, generator=drawn, dtype=torch.float64).numpy() / np.sqrt(L)
        bias = torch.rand(8, generator=drawn, dtype=torch.float64).numpy() * 2 - 1
        windows = every[:, 2 * draw :: 8].reshape(-1, L + H)
        phi, target = features_by_hand(windows, "relu", mix, bias)
        np.testing.assert_allclose(view.real.features.numpy(), phi.T @ phi / len(phi), rtol=1e-9)
        np.testing.assert_allclose(view.real.cross.numpy(), phi.T @ target / len(phi), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("most", [1, 3, 50])
def test_every_draw_finds_windows_however_few_are_asked_for(most: int) -> None:
    """60 rows of 40 channels: the stride over all windows would pass the end of the series."""
    objective = wiener(walk(60, channels=40), draws=4, most_windows=most, **one("relu"))
    assert len(objective.random) == 4
    assert all(view.real.features.isfinite().all() for view in objective.random)


def test_each_iteration_takes_one_of_the_draws_of_features() -> None:
    real, synthetic = walk(80), walk(20, seed=1)[None]
    objective = wiener(real, draws=5, **one("relu"))
    generator = torch.Generator().manual_seed(0)
    seen = {round(objective.loss(synthetic, generator)[0].item(), 9) for _ in range(60)}
    expected = {
        round((v.real.loss(objective.student(means(v.features(flat(synthetic[0]))))) / v.real.target).item(), 9)
        for v in objective.random
    }
    assert len(expected) == 5 and seen == expected


def test_nonlinear_students_of_a_group_of_channels_see_one_synthetic_window_in_four() -> None:
    """And every real one of all channels, by scikit-learn's ridge: four first windows, four losses. The linear ones see
    all: one loss."""
    real, synthetic = walk(80, 3), walk(20, seed=1)[None]
    for view, firsts in (("relu", [slice(n, None, 4) for n in range(4)]), ("raw", [slice(None)])):
        objective = wiener(real, ridge=0.1, level=0, **one(view))
        near = objective.objective.restrict(objective.known, torch.tensor([0, 2]))
        real_phi, every = features_by_hand(flat(real).numpy(), view, *numbers(objective))
        expected = set()
        for some in firsts:
            own = windows(synthetic[0], L, H)[some].transpose(1, 2).flatten(0, 1).numpy()
            phi, y = features_by_hand(own, view, *numbers(objective))
            model = Ridge(alpha=0.1 * np.trace(phi.T @ phi) / phi.shape[1], fit_intercept=False).fit(phi, y)
            expected.add(round(np.square(model.predict(real_phi) - every).sum() / np.square(every).sum(), 8))
        generator = torch.Generator().manual_seed(0)
        losses = [objective.objective.loss(near, synthetic, {}, generator).loss.item() for _ in range(30)]
        assert {round(loss, 8) for loss in losses} == expected and len(expected) == len(firsts)


def test_random_features_are_read_from_evenly_spaced_windows() -> None:
    real = walk(400)
    few, every = wiener(real, most_windows=50, **one("relu")), wiener(real, most_windows=10**6, **one("relu"))
    assert few.random[0].real.target != every.random[0].real.target
    chosen = flat(real)[: 392 * 2].reshape(392, 2, L + H)[::16].flatten(0, 1)  # 784 windows, at most 50
    expected = moments.window_moments([few.random[0].features(chosen)]).means()
    assert_same(few.random[0].real, expected)


@pytest.mark.parametrize(("most", "stride"), [(74, 1), (73, 2), (37, 2), (36, 3)])
def test_windows_are_counted_in_every_series_that_has_one(most: int, stride: int) -> None:
    """Of 60, 30 and 8 rows the first two have 52 + 22 windows of 9 rows."""
    real = walk(60, 3)
    real[:30, 1] = real[:52, 2] = torch.nan
    objective = wiener(real, most_windows=most, **one("relu"))
    chosen = [real[s : s + L + H, c].numpy() for c, first in ((0, 0), (1, 30)) for s in range(first, 52, stride)]
    errors = [np.square(window[L:] - window[:L].mean()).sum() for window in chosen]
    assert objective.random[0].real.target.item() == pytest.approx(np.mean(errors), rel=1e-9)
    assert len(objective.random) == 1 and objective.linear == []


def test_level_shifts_are_their_expectation() -> None:
    """Monte Carlo: shifting context and horizon of every real window alike by N(0, s²)."""
    real, synthetic = walk(200), walk(20, seed=1)[None]
    objective = wiener(real, level=2.0, **one("raw"))
    phi, y = (torch.tensor(part) for part in features_by_hand(flat(synthetic[0]).numpy(), "raw"))
    weights = objective.student(means((phi, y)))
    every = flat(real).repeat(400, 1)
    shifted = every + 2.0 * torch.randn(len(every), 1, dtype=every.dtype, generator=torch.Generator().manual_seed(0))
    phi, y = torch.cat([shifted[:, :L], torch.ones_like(shifted[:, :1])], dim=1), shifted[:, L:]
    sampled = (y - phi @ weights).square().sum() / y.square().sum()
    assert objective.loss(synthetic, torch.Generator())[0].item() == pytest.approx(sampled.item(), rel=0.01)


def test_white_noise_is_best_forecast_by_its_mean_and_a_sinusoid_perfectly() -> None:
    noise = torch.randn(4000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3
    objective = wiener(noise, level=0, ridge=1e-6, **one("raw"))
    # Nothing can be forecast but the mean 3: the best loss is var/(var + mean²) = 0.1.
    assert objective.loss(noise[None], torch.Generator())[0].item() == pytest.approx(0.1, abs=0.01)
    wave = torch.sin(torch.arange(200, dtype=torch.float64) * 2 * torch.pi / 7)[:, None]
    other = 0.3 * torch.sin(torch.arange(20, dtype=torch.float64) * 2 * torch.pi / 7 + 1)[None, :, None]
    for view in ("raw", "centred"):
        objective = wiener(wave, level=0, ridge=1e-9, **one(view))
        assert objective.loss(other, torch.Generator())[0].item() == pytest.approx(0, abs=1e-8)


def test_no_synthetic_series_beats_the_regression_on_all_data() -> None:
    """W(S) is one linear map among all; the least-squares one of the real windows is a lower bound."""
    real = walk(200)
    phi, y = features_by_hand(flat(real).numpy(), "raw")
    model = LinearRegression(fit_intercept=False).fit(phi, y)
    best = ((model.predict(phi) - y) ** 2).sum() / (y**2).sum()
    for seed in range(5):
        objective = wiener(real, level=0, ridge=1e-4, **one("raw"))
        assert objective.loss(walk(20, seed=seed)[None], torch.Generator())[0].item() >= best
    same = objective.loss(real[None], torch.Generator())[0].item()
    assert same == pytest.approx(best, rel=1e-3)


def test_the_loss_has_the_gradient_it_claims() -> None:
    objective = wiener(walk(80), noise=0.5)
    synthetic = walk(20, seed=3)[None].requires_grad_()
    assert torch.autograd.gradcheck(lambda s: objective.loss(s, torch.Generator())[0], (synthetic,))


@pytest.mark.parametrize("batch", [(), (2,)])
def test_products_of_windows_have_the_gradient_they_claim(batch: tuple[int, ...]) -> None:
    """Of a sum that is not symmetric in φᵀφ, so that both halves of its gradient count."""
    phi, y, weights = (noise(*batch, *size, seed=n) for n, size in enumerate([(7, 4), (7, 3), (4, 7)]))

    def of(phi: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        square, cross, power = moments.products(phi, y)
        return (weights * torch.cat([square, cross], dim=-1)).sum() + 3 * power.sum()

    assert torch.autograd.gradcheck(of, (phi.requires_grad_(), y.requires_grad_()))


def test_singular_synthetic_moments_are_an_error_that_says_what_to_raise() -> None:
    objective = wiener(walk(80), **one("centred"))
    with pytest.raises(
        InputError, match=r"^the synthetic moments became singular; raise --option ridge or lower --learning-rate$"
    ):
        objective.loss(torch.ones(1, 20, 2, dtype=torch.float64), torch.Generator())
