"""How far a synthetic series is from the real one, so that almost-real data cannot pass for distillation."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float
from scipy import fft
from torch import Tensor

from hdt.maths.blocks import Real, blocks, evenly, long_enough, starts, take

CHANNELS = 64  # transformed at a time


def nearest_distance(synthetic: Float[Tensor, "N M C_s"], series: Real) -> float:
    """Root mean square distance from [N, M, C] to the nearest sub-series of [T, C].

    All T−M+1 sub-series at once: ‖x − s‖² = ‖x‖² − 2 x·s + ‖s‖², the products by FFT, whose spectra add
    over channels. When there are fewer synthetic channels than real ones, the nearest pair of single channels counts,
    of a sample (:func:`hdt.maths.blocks.evenly`) of the real ones that are long enough.
    """
    length, made = synthetic.shape[1], synthetic.numpy().astype(np.float64)
    if synthetic.shape[2] != series.shape[1]:
        made = made.transpose(0, 2, 1).reshape(-1, length, 1)
        sample = evenly(long_enough(series, length))
        real, first = take(series, sample).cpu().numpy(), starts(series)[sample].tolist()
        squared = min(_squared(made, [own[start:, None]]) for own, start in zip(real.T, first, strict=True))
    else:
        whole = (own.cpu().numpy() for _, own in blocks(series))
        squared = _squared(made, (own[:, c : c + CHANNELS] for own in whole for c in range(0, own.shape[1], CHANNELS)))
    return float(np.sqrt(max(squared, 0.0) / made[0].size))


def _squared(synthetic: Float[np.ndarray, "N M C"], parts: Iterable[Float[np.ndarray, "T g"]]) -> float:
    """The smallest squared distance, from real channels part by part, in order."""
    length, first = synthetic.shape[1], 0
    energy: np.ndarray
    for part in parts:
        x, stop = part.T.astype(np.float64), first + part.shape[1]
        if first == 0:
            rows = len(part)
            size = fft.next_fast_len(rows, real=True)
            energy, products = np.zeros(rows + 1), np.zeros((len(synthetic), size // 2 + 1), complex)
        spectrum = fft.rfft(x, size)
        energy[1:] += np.square(x).sum(axis=0).cumsum()
        for n, s in enumerate(synthetic[:, :, first:stop]):
            products[n] += (spectrum * fft.rfft(s.T, size).conj()).sum(axis=0)
        first = stop
    energy = energy[length:] - energy[:-length]
    own = np.square(synthetic).sum(axis=(1, 2))[:, None]
    return float((energy - 2 * fft.irfft(products, size)[:, : rows - length + 1] + own).min())
