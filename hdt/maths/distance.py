"""How far a synthetic series is from the real one, so that almost-real data cannot pass for distillation."""

from __future__ import annotations

import numpy as np
from scipy import fft

CHANNELS = 64  # transformed at a time


def nearest_distance(synthetic: np.ndarray, series: np.ndarray) -> float:
    """Root mean square distance from [N, M, C] to the nearest sub-series of [T, C].

    All T−M+1 sub-series at once: ‖x − s‖² = ‖x‖² − 2 x·s + ‖s‖², the products by FFT, whose spectra add
    over channels. When there are fewer synthetic channels than real ones, the nearest pair of single channels counts;
    real ones may be of unequal length then, NaN before they begin.
    """
    length, rows = synthetic.shape[1], len(series)
    if synthetic.shape[2] != series.shape[1]:
        each = synthetic.transpose(0, 2, 1).reshape(-1, length, 1)
        real = [own[np.isnan(own).sum() :, None] for own in series.T]
        return min(nearest_distance(each, own) for own in real if len(own) >= length)
    size = fft.next_fast_len(rows, real=True)
    energy, products = np.zeros(rows + 1), np.zeros((len(synthetic), size // 2 + 1), complex)
    for first in range(0, series.shape[1], CHANNELS):
        x = series[:, first : first + CHANNELS].T.astype(np.float64)
        spectrum = fft.rfft(x, size)
        energy[1:] += np.square(x).sum(axis=0).cumsum()
        for n, s in enumerate(synthetic[:, :, first : first + CHANNELS].astype(np.float64)):
            products[n] += (spectrum * fft.rfft(s.T, size).conj()).sum(axis=0)
    energy = energy[length:] - energy[:-length]
    own = np.square(synthetic.astype(np.float64)).sum(axis=(1, 2))[:, None]
    squared = energy - 2 * fft.irfft(products, size)[:, : rows - length + 1] + own
    return float(np.sqrt(max(squared.min(), 0.0) / synthetic[0].size))
