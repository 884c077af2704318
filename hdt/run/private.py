"""A differentially private distillation: one noised spectrum is all that it knows of the data.

Let x_c be the training rows of series c = 1…C, and p_c [F] its mean power over sub-series of M steps, each frequency
with its mirror, of x_c scaled by itself and divided by its own sum: p_c ≥ 0, Σ_f p_c(f) = 1 (0 for a constant series).

    s = Σ_c p_c + N(0, (√2·σ)²·I_F)

*Sensitivity.* Replace the values of one series c by any others. p_c depends on no other series, so one term of the sum
changes, from p to q. Entries are not negative, so ⟨p, q⟩ ≥ 0, and ‖p‖₂ ≤ ‖p‖₁ ≤ 1, thus

    ‖p − q‖₂² = ‖p‖₂² + ‖q‖₂² − 2⟨p, q⟩ ≤ 2

and nothing needs to be clipped. s is one Gaussian mechanism with noise multiplier σ, the smallest for which Opacus'
accountant by Rényi divergences grants (ε, δ). C, T, the stamps and the settings are public.

*All else is made from s*, and what is made from a private result without another look at the data is as private: s/C is
smoothed where it does not stand out of the noise (whose size is public), and a stand-in takes the place of the table,
C series of T rows that repeat M steps of this spectrum with random phases. It has no more of the data than s: no level,
no scale, no names. Start, objective, pictures and every measurement of the run are those of the stand-in.

The noise comes from the operating system and is never kept: that of a seed, which a run tells, could be taken off. It
is the sum of four draws over two, against attacks on the last digits of floats (Holohan & Braghin, arXiv 2107.10138).

Why not noise on the moments A, B (:mod:`hdt.maths.moments`) of windows of D steps: a series moves their D² numbers by
up to D, and that much noise buries all but the largest of their eigenvalues, of thousands of series, too; the
F ≈ M/2 numbers of a spectrum hold nearly all that these tell of stationary series (recipes/LOG.md).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from random import SystemRandom

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hdt.data.layout import Layout
from hdt.data.scaler import Scaler
from hdt.data.series import Panel
from hdt.distillation.config import Settings
from hdt.maths.blocks import Real
from hdt.maths.spectrum import bin_weights, mean_spectrum
from hdt.objective import OBJECTIVES
from hdt.run.reading import train_blocks
from hdt.run.records import Privacy
from hdt.start import random_phases
from hdt.system.errors import InputError, require

SENSITIVITY = math.sqrt(2)
PEAK, BESIDE = 3.0, 8  # deviations of the noise that a peak exceeds; bins on each side that others are averaged with
ORDERS = [1 + n / 10 for n in range(1, 100)] + [float(n) for n in (*range(11, 64), 80, 128, 256, 512, 1024)]
Draw = Callable[[int], Float[np.ndarray, " n"]]


def check(panel: Panel, settings: Settings) -> None:
    """Refuse, before any look at values, what cannot be private as the module says."""
    if settings.epsilon is None:
        return
    name, count = panel.name, panel.channels
    assert settings.delta is not None
    require(
        settings.channels is not None,
        f"{name}: a private set tells of all series together, and here every channel would stand for its own; "
        + (
            f"give fewer --channels than {count}"
            if OBJECTIVES[settings.objective].pools_channels
            else "take --method wiener with few --channels"
        ),
    )
    require(
        settings.delta * count < 1,
        f"delta={settings.delta:g}: below 1/{count}, one over the number of series, it promises something; lower it",
    )
    why = "its series differ in length" if panel.unequal else ""
    why = "its values stay in their files" if panel.stored else why
    why = f"its table is transformed, {panel.transform}" if panel.transform != "none" else why
    why = "it has covariates" if panel.covariates is not None else why
    if not why and np.isnan(np.asarray(panel.values)).any():
        why = "it has missing values"
    require(not why, f"{name}: --epsilon is for tables of equally long series without missing values, and {why}")
    require(find_spec("opacus") is not None, "opacus is not installed; pip install 'hdt-ts[privacy]'")


def multiplier(epsilon: float, delta: float) -> float:
    """σ, the noise of a Gaussian mechanism in units of its sensitivity that grants (ε, δ), by Opacus' accountant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an order at the end of those that it tries
        from opacus.accountants.utils import get_noise_multiplier

        try:
            found: float = get_noise_multiplier(
                target_epsilon=epsilon, target_delta=delta, sample_rate=1.0, steps=1, accountant="rdp",
                epsilon_tolerance=epsilon / 1000, alphas=ORDERS,
            )  # fmt: skip
        except ValueError:
            raise InputError(f"epsilon={epsilon:g}, delta={delta:g}: no noise suffices; raise --epsilon") from None
    return found


def shares(series: Real, length: int) -> Float[Tensor, "F C"]:
    """p_c of every series, float64: its mean power by frequency, in parts of its sum."""
    power = mean_spectrum(series, length).power.double()
    power = power * bin_weights(length).to(power)
    require(bool(power.isfinite().all()), "the spectrum of a series is not finite")
    return power / power.sum(dim=0).clamp(min=torch.finfo(power.dtype).tiny)


def secret(count: int) -> Float[np.ndarray, " n"]:
    """Standard normal numbers that nobody can draw again."""
    system = SystemRandom()
    return np.array([sum(system.gauss(0.0, 1.0) for _ in range(4)) / 2 for _ in range(count)])


def released(parts: Float[Tensor, "F C"], sigma: float, draw: Draw = secret) -> Float[Tensor, " F"]:
    """s/C: the mean over series with the noise of the mechanism."""
    noise = torch.from_numpy(draw(len(parts))) * SENSITIVITY * sigma
    return (parts.sum(dim=1).cpu() + noise) / parts.shape[1]


def smoothed(found: Float[Tensor, " F"], deviation: float) -> Float[Tensor, " F"]:
    """A spectrum, positive and of sum 1, from one with noise of this deviation: peaks stay, the rest is averaged."""
    peak = found > PEAK * deviation
    width = torch.ones(1, 1, 2 * BESIDE + 1, dtype=found.dtype)
    near = torch.stack([torch.where(peak, 0, found), (~peak).to(found)])[:, None]
    total, count = torch.nn.functional.conv1d(near, width, padding=BESIDE)[:, 0]
    count = count.clamp(min=1)
    rest = torch.maximum(total / count, deviation / count.sqrt())
    kept = torch.where(peak, found, rest)
    return kept / kept.sum()


def stand_in(panel: Panel, settings: Settings, draw: Draw = secret) -> tuple[Panel, Privacy]:
    """A table made from the noised spectrum alone, in the place of the real one, and what it grants."""
    check(panel, settings)
    assert settings.epsilon is not None and settings.delta is not None
    sigma = multiplier(settings.epsilon, settings.delta)
    parts = shares(train_blocks(panel), settings.length)
    count, length, rows = panel.channels, settings.length, len(panel.values)
    found = smoothed(released(parts, sigma, draw), SENSITIVITY * sigma / count)
    power = (found[:, None] * length / bin_weights(length)).float().expand(-1, count)
    series = random_phases(power, 1, length, torch.Generator().manual_seed(settings.seed))[0]
    told = Privacy(
        epsilon=settings.epsilon, delta=settings.delta, multiplier=sigma, series=count, numbers=len(parts),
        accountant=f"Opacus {version('opacus')}, RDP",
    )  # fmt: skip
    layout = Layout(**{**vars(panel.layout), "labels": None, "level_names": (None,), "id_dtype": None})
    made = replace(
        panel, values=series.numpy().astype(np.float64)[np.arange(rows) % length], layout=layout, read=(),
        columns=tuple(f"series_{n}" for n in range(1, count + 1)), fixed=Scaler(np.zeros(count), np.ones(count)),
    )  # fmt: skip
    return made, told
