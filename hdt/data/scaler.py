"""Scaling of every channel by itself, fitted on the training part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

SAFE_EXPONENT = 300  # of two: squares and sums of values up to here are far from the limits of float64
BLOCK = 64  # channels that are scaled, filled or read at a time

Channels: TypeAlias = slice | Sequence[int] | np.ndarray[Any, Any]


def channel_blocks(channels: int) -> list[slice]:
    """All channels, ``BLOCK`` at a time."""
    return [slice(first, min(first + BLOCK, channels)) for first in range(0, channels, BLOCK)]


@dataclass(frozen=True)
class Scaler:
    """Per-channel z-score, ``(x - mean) / std``, with the population standard deviation of the train part.

    A constant channel keeps ``std = 1`` so that it maps to zero and back without loss. Values from 1e-305 to 1e305
    are scaled as exactly as others.
    """

    mean: np.ndarray  # [C]
    std: np.ndarray  # [C]

    @classmethod
    def fit(cls, values: np.ndarray) -> Scaler:
        """Of values [T, C], finite but for the rows before a series begins, which are NaN."""
        values = values.astype(np.float64, copy=False)
        starts = np.isnan(values).sum(axis=0)
        if not starts.any():
            return cls._fit(values)
        mean, std = np.empty(len(starts)), np.empty(len(starts))
        for start in np.unique(starts):
            own = starts == start
            part = cls._fit(values[start:, own])
            mean[own], std[own] = part.mean, part.std
        return cls(mean, std)

    @classmethod
    def _fit(cls, values: np.ndarray) -> Scaler:
        # The mean of a constant such as 0.1 differs from it in the last bits.
        constant = (values == values[:1]).all(axis=0)
        # Squares and sums of very large or small values leave float64; powers of two take them back without rounding.
        _, exponents = np.frexp(np.maximum(values.max(axis=0), -values.min(axis=0)))
        exponents = np.where(np.abs(exponents) > SAFE_EXPONENT, exponents, 0)
        near = np.ldexp(values, -exponents) if exponents.any() else values
        mean = np.where(constant, values[0], np.ldexp(near.mean(axis=0), exponents))
        std = np.ldexp(near.std(axis=0), exponents)
        return cls(mean, np.where(constant | (std == 0), 1.0, std))

    def transform(self, values: np.ndarray) -> np.ndarray:
        return (values - self.mean) / self.std

    def inverse(self, values: np.ndarray) -> np.ndarray:
        return values * self.std + self.mean

    def of(self, channels: Channels) -> Scaler:
        """That of some channels."""
        return Scaler(self.mean[channels], self.std[channels])
