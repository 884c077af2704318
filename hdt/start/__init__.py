"""Where the optimisation begins: real segments, or the real spectrum with random phases.

Both draw from the generator alone. [N, M, C] in scaled units.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.maths import spectrum
from hdt.maths.blocks import Real, long_enough, select
from hdt.start import subsets
from hdt.start.subsets import SUBSETS
from hdt.system.errors import InputError, require

__all__ = ["STARTS", "SUBSETS", "random_phases", "random_set", "real_segments", "some_channels", "starting_series"]

STARTS = ("phase", "real", "herding", "kcenter")

SELECTIONS = {"herding": subsets.herding, "kcenter": subsets.k_center}


def starting_series(
    kind: str,
    series: Float[Tensor, "T C"],
    sequences: int,
    length: int,
    generator: torch.Generator,
    power: Float[Tensor, "F C"] | None = None,
) -> Float[Tensor, "N M C"]:
    """``phase`` or ``real`` (this file), ``herding`` or ``kcenter`` (:mod:`hdt.start.subsets`).

    ``power`` is the mean PSD of the series where it is known already.
    """
    if kind == "phase":
        power = spectrum.mean_spectrum(series, length).power if power is None else power
        return random_phases(power, sequences, length, generator)
    if kind == "real":
        return real_segments(series, sequences, length, generator)
    if kind in SELECTIONS:
        rows = subsets.candidates(series, length)
        require(sequences <= len(rows), f"sequences={sequences}, but only {len(rows)} segments to choose from")
        chosen = SELECTIONS[kind](subsets.features(series, rows, length), sequences)
        return torch.stack([series[rows[i] : rows[i] + length] for i in chosen])
    raise InputError(f"unknown start {kind!r}; known: {', '.join(STARTS)}")


def some_channels(
    series: Real, channels: int | None, length: int, generator: torch.Generator
) -> Float[Tensor, "T_common C_s"]:
    """``channels`` random ones of at least ``length`` rows, from the row on that they all have; all when None."""
    long = long_enough(series, length, channels or 1)
    if channels is not None:
        long = long[torch.randperm(len(long), generator=generator)[:channels]]
    return select(series, long)


def random_set(
    train: Float[Tensor, "T C"], sequences: int, length: int, channels: int | None, seed: int, beside: int = 0
) -> Float[Tensor, "N M C_s"]:
    """Real segments in the shape of a synthetic set: what every distillation has to beat. The last ``beside`` channels
    are covariates, which all segments have."""
    draw, count = torch.Generator().manual_seed(seed), train.shape[1] - beside
    drawn = some_channels(train[:, :count], channels, length, draw)
    return real_segments(torch.cat([drawn, train[len(train) - len(drawn) :, count:]], dim=1), sequences, length, draw)


def real_segments(
    series: Float[Tensor, "T C"], sequences: int, length: int, generator: torch.Generator
) -> Float[Tensor, "N M C"]:
    """Real sub-series at random positions."""
    starts = torch.randint(0, len(series) - length + 1, (sequences,), generator=generator)
    return torch.stack([series[s : s + length] for s in starts.tolist()])


def random_phases(
    power: Float[Tensor, "F C"], sequences: int, length: int, generator: torch.Generator
) -> Float[Tensor, "N M C"]:
    """A stationary surrogate: the amplitudes of ``power``, an independent phase per bin and channel.

    Theiler et al. (1992), "Testing for nonlinearity in time series", Physica D 58. The Nyquist bin is
    real and gets a random sign; so does bin 0, the level, but with as many levels above zero as below
    (over sequences and channels), for a student's bias absorbs a level they share. Independent phases
    make C channels C independent samples of the window statistics: channels that share their phases
    trained DLinear worse.
    """
    channels = power.shape[1]
    phase = 2 * math.pi * torch.rand((sequences, *power.shape), generator=generator)
    balanced = torch.randperm(sequences * channels, generator=generator) % 2
    phase[:, 0] = math.pi * balanced.reshape(sequences, channels)
    if length % 2 == 0:
        phase[:, -1] = math.pi * torch.randint(0, 2, (sequences, channels), generator=generator)
    return spectrum.irfft(torch.polar(power.sqrt(), phase.to(power)), length)
