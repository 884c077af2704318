"""Series drawn from Gaussian processes whose kernels are put together at random.

The idea is KernelSynth's of Chronos (arXiv 2403.07815, algorithm 2); bank, code and numbers are ours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Kernel = Callable[[np.ndarray], np.ndarray]  # steps between two points, [T, T] → covariance [T, T]
PERIODS = (7, 12, 24, 48, 96, 144, 168, 288)  # a week of days, a year of months, days and weeks of finer steps
JITTER = 1e-6


def _periodic(rng: np.random.Generator, length: int) -> Kernel:
    period = float(rng.choice([p for p in PERIODS if 2 * p <= length]))
    smooth = rng.uniform(0.4, 2.0)
    return lambda gap: np.exp(-2 * (np.sin(np.pi * gap / period) / smooth) ** 2)


def _smooth(rng: np.random.Generator, length: int) -> Kernel:
    scale = length * np.exp(rng.uniform(np.log(0.01), np.log(1.0)))
    return lambda gap: np.exp(-((gap / scale) ** 2) / 2)


def _rough(rng: np.random.Generator, length: int) -> Kernel:
    scale = length * np.exp(rng.uniform(np.log(0.005), np.log(1.0)))
    return lambda gap: np.exp(-np.abs(gap) / scale)


def _noise(rng: np.random.Generator, length: int) -> Kernel:
    level = rng.uniform(0.02, 0.5)
    return lambda gap: level * (gap == 0)


def _linear(length: int) -> np.ndarray:
    line = np.linspace(-1, 1, length)
    return np.outer(line, line)


def covariance(rng: np.random.Generator, length: int, most: int = 5) -> np.ndarray:
    """A covariance [length, length]: one to ``most`` kernels of the bank, added or multiplied in turn."""
    gap = np.arange(length)[:, None] - np.arange(length)[None, :]
    bank = (_periodic, _periodic, _smooth, _rough, _noise)
    total = None
    for _ in range(rng.integers(1, most + 1)):
        kind = rng.integers(len(bank) + 1)
        part = _linear(length) if kind == len(bank) else bank[kind](rng, length)(gap)
        total = part if total is None else total * part if rng.random() < 0.5 else total + part
    return total


def generate(rng: np.random.Generator, count: int, length: int, each: int = 4) -> np.ndarray:
    """``count`` series [count, length], ``each`` drawn from every kernel; mean and scale are random too."""
    series = []
    while len(series) < count:
        kernel = covariance(rng, length)
        factor = np.linalg.cholesky(kernel + JITTER * (1 + np.trace(kernel) / length) * np.eye(length))
        for _ in range(each):
            series.append(factor @ rng.standard_normal(length) * np.exp(rng.normal()) + rng.normal() * 3)
    return np.stack(series[:count]).astype(np.float32)
