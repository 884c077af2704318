"""How far a synthetic series is from the real one, so that almost-real data cannot pass for distillation."""

from __future__ import annotations

import numpy as np
from scipy.signal import fftconvolve


def nearest_distance(synthetic: np.ndarray, series: np.ndarray) -> float:
    """Root mean square distance from [N, M, C] to the nearest sub-series of [T, C].

    All T−M+1 sub-series at once: ‖x − s‖² = ‖x‖² − 2 x·s + ‖s‖², the products by FFT correlation. When there
    are fewer synthetic channels than real ones, the nearest pair of single channels counts.
    """
    if synthetic.shape[2] != series.shape[1]:
        pairs = (
            (synthetic[:, :, [s]], series[:, [c]]) for s in range(synthetic.shape[2]) for c in range(series.shape[1])
        )
        return min(nearest_distance(*pair) for pair in pairs)
    length = synthetic.shape[1]
    series = series.astype(np.float64)
    energy = np.concatenate([[0.0], np.square(series).sum(axis=1).cumsum()])
    energy = energy[length:] - energy[:-length]
    nearest = np.inf
    for sequence in synthetic.astype(np.float64):
        products = sum(fftconvolve(x, s[::-1], mode="valid") for x, s in zip(series.T, sequence.T, strict=True))
        nearest = min(nearest, float((energy - 2 * products + np.square(sequence).sum()).min()))
    return float(np.sqrt(max(nearest, 0.0) / synthetic[0].size))
