from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import welch
from statsmodels.tsa.stattools import acf

from hdt.maths import spectrum
from hdt.system import machine
from hdt.system.errors import InputError

finite = st.floats(-1e3, 1e3, allow_nan=False, width=32)
series = st.tuples(st.integers(2, 40), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=finite)
)
pairs = st.tuples(st.integers(2, 40), st.integers(1, 3)).flatmap(
    lambda shape: st.tuples(arrays(np.float64, shape, elements=finite), arrays(np.float64, shape, elements=finite))
)


@given(series)
def test_irfft_inverts_rfft_for_even_and_odd_lengths(x: np.ndarray) -> None:
    back = spectrum.irfft(spectrum.rfft(torch.tensor(x)), len(x))
    np.testing.assert_allclose(back.numpy(), x, atol=1e-9)


@given(series)
def test_parseval_the_weighted_psd_sums_to_the_energy(x: np.ndarray) -> None:
    power = spectrum.psd(torch.tensor(x)) * spectrum.bin_weights(len(x))
    np.testing.assert_allclose(power.sum(0).numpy(), np.square(x).sum(0), rtol=1e-9, atol=1e-6)


@given(pairs)
def test_theorem_1_bounds_every_autocovariance_gap(pair: tuple[np.ndarray, np.ndarray]) -> None:
    real, synthetic = (spectrum.psd(torch.tensor(x)) for x in pair)
    bound = spectrum.autocovariance_bound(synthetic, real, len(pair[0]))
    assert (bound.acf_gap <= bound.psd_gap * (1 + 1e-9) + 1e-9).all()


def test_theorem_1_is_tight_when_one_series_dominates_at_every_bin() -> None:
    x = torch.randn(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bound = spectrum.autocovariance_bound(spectrum.psd(1.5 * x), spectrum.psd(x), 30)
    torch.testing.assert_close(bound.acf_gap, bound.psd_gap)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [4, 5])
def test_autocovariance_equals_the_circular_sum_by_hand(length: int, dtype: torch.dtype) -> None:
    x = torch.tensor([[1.0], [2.0], [-3.0], [0.5], [1.5]], dtype=dtype)[:length]
    expected = [sum(x[t] * x[(t + lag) % length] for t in range(length)) / length for lag in range(length)]
    torch.testing.assert_close(spectrum.autocovariance(spectrum.psd(x), length), torch.stack(expected))


def test_autocovariance_of_a_zero_padded_series_equals_statsmodels() -> None:
    x = np.random.default_rng(0).normal(size=60)
    x -= x.mean()
    padded = torch.tensor(np.concatenate([x, np.zeros(60)]))[:, None]
    circular = spectrum.autocovariance(spectrum.psd(padded), 120).numpy()[:21, 0]
    np.testing.assert_allclose(circular / circular[0], acf(x, nlags=20, fft=False), atol=1e-12)


def test_mean_power_equals_welch_without_taper() -> None:
    x = np.random.default_rng(1).normal(size=(64 + 8 * 9, 2))
    ours = spectrum.mean_spectrum(torch.tensor(x), 64, chunk=3).power.numpy()
    _, theirs = welch(x, window="boxcar", nperseg=64, noverlap=56, detrend=False, axis=0, return_onesided=False)
    np.testing.assert_allclose(ours, theirs[:33], rtol=1e-12)


def spectrum_by_hand(x: np.ndarray, length: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean amplitude and mean power of the sub-series that begin every ``step`` rows, and of the last."""
    starts = sorted({*range(0, len(x) - length + 1, step), len(x) - length})
    found = np.abs(np.stack([np.fft.rfft(x[s : s + length], axis=0) for s in starts])) / length**0.5
    return found.mean(axis=0), (found**2).mean(axis=0)


@pytest.mark.parametrize("chunk", [2, 64])
@pytest.mark.parametrize(("length", "step"), [(4, 1), (9, 1), (17, 2), (20, 2)])
def test_mean_spectra_are_those_of_sub_series_an_eighth_apart(length: int, step: int, chunk: int) -> None:
    x = np.random.default_rng(2).normal(size=(20, 3))
    found = spectrum.mean_spectrum(torch.tensor(x), length, chunk)
    for name, expected in zip(("amplitude", "power"), spectrum_by_hand(x, length, step), strict=True):
        np.testing.assert_allclose(getattr(found, name).numpy(), expected, rtol=1e-12)


def test_mean_spectra_of_series_that_begin_at_different_rows() -> None:
    x = np.random.default_rng(2).normal(size=(12, 4))
    x[:4, 0] = x[:6, 2] = x[:7, 3] = np.nan  # 8, 12, 6 and 5 rows
    found = spectrum.mean_spectrum(torch.tensor(x), 6)
    expected = [spectrum_by_hand(x[first:, [c]], 6, 1) for first, c in [(0, 1), (4, 0), (6, 2)]]
    for part, both in zip(found, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(part.numpy(), np.concatenate(both, axis=1), rtol=1e-12)


def test_sums_over_sub_series_of_float32_are_float64() -> None:
    """Of one step: amplitudes 2²⁴, 1, 1, … and squares 2²⁴, 1, 1, …; in float32 2²⁴ + 1 is 2²⁴."""
    x = torch.ones(9, 2)
    x[0] = torch.tensor([2.0**24, 2.0**12])
    amplitude, power = spectrum.mean_spectrum(x, 1, chunk=1)
    assert amplitude.dtype == power.dtype == torch.float32
    assert amplitude[0, 0].item() == power[0, 1].item() == (2**24 + 8) / 9


def test_too_short_series_have_no_mean_spectrum() -> None:
    short = torch.zeros(7, 2)
    for first in (0.0, torch.nan):
        short[0, 0] = first
        with pytest.raises(InputError, match=r"^no series has length M = 8 training rows; lower --length$"):
            spectrum.mean_spectrum(short, 8)


def test_few_channels_that_stand_for_all_have_their_mean_power() -> None:
    power = torch.tensor([[1.0, 3.0], [2.0, 6.0]])
    assert spectrum.pooled(power, None) is power
    assert torch.equal(spectrum.pooled(power, 3), torch.tensor([[2.0] * 3, [4.0] * 3]))


def test_mean_spectrum_uses_the_last_rows_too() -> None:
    x = torch.zeros(69, 1, dtype=torch.float64)
    x[-1] = 8.0
    assert spectrum.mean_spectrum(x, 64).power.sum() > 0


@given(st.integers(16, 60), st.integers(1, 4), st.integers(0, 2**31))
def test_top_harmonics_recover_planted_sinusoids(length: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bins = rng.choice(np.arange(1, (length + 1) // 2), size=count, replace=False)
    steps = np.arange(length)
    x = sum(rng.uniform(2, 5) * np.cos(2 * np.pi * f * steps / length + rng.uniform(0, 6)) for f in bins)
    x = torch.tensor(x + 0.01 * rng.normal(size=length))[:, None]
    kept = spectrum.top_harmonics(spectrum.rfft(x).abs(), count)
    assert set(kept.nonzero()[:, 0].tolist()) == set(bins.tolist())


def test_the_mean_is_a_harmonic_like_any_other() -> None:
    x = torch.full((10, 1), 7.0) + torch.tensor([1.0, -1.0] * 5)[:, None]
    assert spectrum.top_harmonics(spectrum.rfft(x).abs(), 1).nonzero()[:, 0].tolist() == [0]


@given(series, st.integers(0, 2**31))
def test_keeping_harmonics_is_a_projection(x: np.ndarray, seed: int) -> None:
    x = torch.tensor(x)
    bins = len(x) // 2 + 1
    kept = torch.rand(bins, x.shape[1], generator=torch.Generator().manual_seed(seed)) < 0.5
    once = spectrum.keep_harmonics(x, kept)
    torch.testing.assert_close(spectrum.keep_harmonics(once, kept), once, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(once + spectrum.keep_harmonics(x, ~kept), x, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("k", [0, 14])
def test_an_impossible_k_is_refused(k: int) -> None:
    with pytest.raises(InputError, match=rf"^k={k} harmonics of 13 bins; k must be from 1 to M//2\+1 = 13$"):
        spectrum.top_harmonics(torch.ones(13, 1), k)
    assert spectrum.top_harmonics(torch.ones(13, 1), 13).all()


def test_as_many_harmonics_as_the_energy_needs() -> None:
    amplitude = torch.tensor([[1.0, 3.0], [2.0, 0.0], [3.0, 0.0], [0.1, 0.0]])  # bins 0 … 3 of M = 7
    # First channel, both sides counted: 18, 8, 1 and .02 of 27.02; second: all in bin 0.
    shares = {0.5: 1, 0.84: 2, 0.95: 2, 0.985: 3, 0.9999: 4, 1.0: 4}
    assert {share: spectrum.harmonics_for(amplitude, 7, share) for share in shares} == shares
    # A channel of zeros holds nothing: with 2, 2 and 1 of 5 in the other, .2, .4 and .5 are held.
    flat = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert [spectrum.harmonics_for(flat, 7, share) for share in (0.1, 0.3, 0.45, 0.9)] == [1, 2, 3, 4]
    assert spectrum.harmonics_for(torch.zeros(4, 2), 7, 0.9) == 4


def test_few_channels_at_a_time_are_transformed(monkeypatch: pytest.MonkeyPatch) -> None:
    series, psd, seen = (
        torch.randn(90, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
        spectrum.psd,
        [],
    )
    whole = spectrum.mean_spectrum(series, 24)
    monkeypatch.setattr(machine, "CHANNELS", 2)
    monkeypatch.setattr(spectrum, "psd", lambda batch: seen.append(batch.shape[-1]) or psd(batch))
    for found, expected in zip(spectrum.mean_spectrum(series, 24), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert seen == [2, 2, 1]
