"""Spectra, harmonics and autocovariances of series, and the bound that ties them together.

Pure, differentiable functions of real tensors ``[..., M, C]`` (time before channels); F = M//2+1
bins. Coefficients are orthonormal (``norm="ortho"``): ‖coefficients over all M bins‖ = ‖series‖, and
white noise of unit variance has unit mean power in every bin, so losses do not grow with M.

Source: Wiener (1930) and Khinchin (1934); Theorem 1 of HDT, arXiv 2603.03760.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from hdt.maths.blocks import Real, blocks
from hdt.system.errors import require
from hdt.system.machine import channels_at_once

# Sub-series overlap by 7/8, as in Welch's method: neighbours one step apart add cost, not information.
OVERLAP = 8


def rfft(series: Float[Tensor, "... M C"]) -> Complex[Tensor, "... F C"]:
    """Orthonormal Fourier coefficients of each channel."""
    return torch.fft.rfft(series, dim=-2, norm="ortho")


def irfft(coefficients: Complex[Tensor, "... F C"], length: int) -> Float[Tensor, "... M C"]:
    """The series of ``length`` steps with these coefficients; inverse of :func:`rfft`."""
    return torch.fft.irfft(coefficients, n=length, dim=-2, norm="ortho")


def top_harmonics(amplitude: Float[Tensor, "F C"], k: int) -> Bool[Tensor, "F C"]:
    """Mark the ``k`` largest bins of each channel; bin 0 is eligible (arXiv 2603.03760, Hk).

    Raises :class:`hdt.system.errors.InputError` unless 1 ≤ k ≤ F.
    """
    bins = amplitude.shape[0]
    require(1 <= k <= bins, f"k={k} harmonics of {bins} bins; k must be from 1 to M//2+1 = {bins}")
    kept = torch.zeros_like(amplitude, dtype=torch.bool)
    return kept.scatter_(0, amplitude.topk(k, dim=0).indices, True)


def check_harmonics(k: int, length: int) -> None:
    """Refuse more harmonics than a series of ``length`` steps has."""
    bins = length // 2 + 1
    require(k <= bins, f"k={k} harmonics, but a series of M = {length} steps has M//2+1 = {bins}; lower --k")


def harmonics_for(amplitude: Float[Tensor, "F C"], length: int, share: float) -> int:
    """The smallest k whose k largest harmonics hold ``share`` of the energy, averaged over channels."""
    energy = (amplitude.square() * bin_weights(length).to(amplitude)).sort(dim=0, descending=True).values
    held = (energy.cumsum(dim=0) / energy.sum(dim=0).clamp(min=torch.finfo(energy.dtype).tiny)).mean(dim=1)
    return min(int((held < share).sum()) + 1, len(held))


def keep_harmonics(series: Float[Tensor, "... M C"], kept: Bool[Tensor, "F C"]) -> Float[Tensor, "... M C"]:
    """The part of the series made of the marked harmonics: all other bins are set to zero."""
    return irfft(rfft(series) * kept, series.shape[-2])


def psd(series: Float[Tensor, "... M C"]) -> Float[Tensor, "... F C"]:
    """Periodogram ``|FFT|²/M`` at bins 0..M//2; the other bins mirror these."""
    coefficients = rfft(series)
    return coefficients.real.square() + coefficients.imag.square()


def pooled(power: Float[Tensor, "F C"], channels: int | None) -> Float[Tensor, "F C_s"]:
    """The PSD of each channel; for ``channels`` synthetic ones that stand for all, their mean."""
    return power if channels is None else power.mean(dim=1, keepdim=True).expand(-1, channels)


def bin_weights(length: int) -> Float[Tensor, "F 1"]:
    """How often each rfft bin occurs among the M bins of the full FFT: 1 at bin 0 and Nyquist, else 2."""
    weights = torch.full((length // 2 + 1, 1), 2.0)
    weights[0] = 1.0
    if length % 2 == 0:
        weights[-1] = 1.0
    return weights


def autocovariance(power: Float[Tensor, "... F C"], length: int) -> Float[Tensor, "... M C"]:
    """Circular autocovariance at lags 0..M−1: the inverse FFT of the PSD (Wiener–Khinchin).

    ``r(τ) = (1/M) Σ_t x_t x_{t+τ mod M}``, not centred: bin 0 of the PSD carries the mean.
    """
    return torch.fft.irfft(power.to(torch.promote_types(power.dtype, torch.complex64)), n=length, dim=-2)


class Spectrum(NamedTuple):
    """Averages over the real sub-series of length M."""

    amplitude: Float[Tensor, "F C"]
    power: Float[Tensor, "F C"]


def apart(length: int) -> int:
    """Steps between sub-series."""
    return max(1, length // OVERLAP)


def sub_series(steps: int, length: int) -> list[int]:
    """The first rows of the sub-series of so many steps; the last one is always among them."""
    return sorted({*range(0, steps - length + 1, apart(length)), steps - length})


def mean_spectrum(series: Real, length: int, chunk: int = 64) -> Spectrum:
    """Mean amplitude and mean PSD over sub-series of ``length`` steps, one every ``length // 8`` steps.

    Streams in chunks and blocks of channels, so memory does not grow with T and C; sums are float64. The last
    sub-series is always used. Of channels that begin at different rows (:mod:`hdt.maths.blocks`), those of at least M
    rows are there, in blocks. Raises :class:`hdt.system.errors.InputError` when none has M rows.
    """
    own = [_mean_spectrum(part, length, chunk) for _, part in blocks(series, length)]
    require(len(own) > 0, f"no series has length M = {length} training rows; lower --length")
    return Spectrum(*(torch.cat(parts, dim=1) for parts in zip(*own, strict=True))) if len(own) > 1 else own[0]


def _mean_spectrum(series: Float[Tensor, "T C"], length: int, chunk: int) -> Spectrum:
    steps = series.shape[0]
    starts = sub_series(steps, length)
    shape = (length // 2 + 1, series.shape[1])
    amplitude, power = (torch.zeros(shape, dtype=torch.float64, device=series.device) for _ in range(2))
    for block in torch.arange(series.shape[1]).split(channels_at_once(steps)):
        some = slice(int(block[0]), int(block[-1]) + 1)
        for first in range(0, len(starts), chunk):
            batch = torch.stack([series[s : s + length, some] for s in starts[first : first + chunk]])
            periodogram = psd(batch).double()
            amplitude[:, some] += periodogram.sqrt().sum(0)
            power[:, some] += periodogram.sum(0)
    return Spectrum((amplitude / len(starts)).to(series.dtype), (power / len(starts)).to(series.dtype))


class AutocovarianceBound(NamedTuple):
    """Both sides of Theorem 1 per channel: ``acf_gap ≤ psd_gap``."""

    acf_gap: Float[Tensor, " C"]
    psd_gap: Float[Tensor, " C"]


def autocovariance_bound(
    synthetic: Float[Tensor, "F C"], real: Float[Tensor, "F C"], length: int
) -> AutocovarianceBound:
    """Theorem 1 of arXiv 2603.03760: ``max_τ |r_S(τ) − r_X(τ)| ≤ (1/M) Σ_f |P_S(f) − P_X(f)|``.

    The autocovariances are circular, as if a series of M steps repeated itself. Takes the two PSDs at bins 0..M//2 (for
    real data the mean over sub-series, to which the linear inequality applies as well); sums run over all M bins.
    """
    difference = synthetic - real
    acf_gap = autocovariance(difference, length).abs().amax(dim=-2)
    return AutocovarianceBound(acf_gap, psd_distance(synthetic, real, length))


def psd_distance(
    synthetic: Float[Tensor, "... F C"], real: Float[Tensor, "... F C"], length: int
) -> Float[Tensor, "... C"]:
    """Right side of Theorem 1, ``(1/M) Σ_f |P_S(f) − P_X(f)|`` over all M bins, per channel."""
    weights = bin_weights(length).to(real)
    return (weights * (synthetic - real).abs()).sum(dim=-2) / length
