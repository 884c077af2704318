"""Train a student on a series, choosing the epoch on a real validation part; measure its errors."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hdt.errors import InputError
from hdt.students import Student, Training
from hdt.windows import windows

CHECKS = 20  # a run looks at the validation part at most this often
VALIDATION_WINDOWS = 1024  # evenly spaced ones of the validation part, enough to choose an epoch
BATCH_ELEMENTS = 2**23  # window cells per evaluation batch: 32 MB in float32


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds the global generators, which dropout draws from, and puts them back as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class Diverged(InputError):
    """A training whose validation error was never finite."""


class Errors(NamedTuple):
    """Mean squared and mean absolute error over every window, step and channel, in scaled units."""

    mse: float
    mae: float


@dataclass(frozen=True)
class Fit:
    """What a training run did; the student holds the weights of ``best_step``."""

    validation_mse: float
    best_step: int
    steps: int
    seconds: float


def device_of(name: str) -> torch.device:
    """``auto`` (CUDA when there is one), ``cpu`` or ``cuda``; raises when CUDA is asked for and absent."""
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"unknown device {name!r}; choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@torch.no_grad()
def errors(student: Student, series: Float[Tensor, "T C"], most: int | None = None) -> Errors:
    """Errors over all windows of ``series``, or over at most ``most`` evenly spaced ones.

    Stride 1 when all; the last incomplete batch is counted.
    """
    context, horizon = student.context, student.horizon
    count = len(series) - context - horizon + 1
    every = windows(series, context, horizon, stride=1 if most is None else max(1, -(-count // most)))
    batch = max(1, BATCH_ELEMENTS // (every.shape[1] * every.shape[2]))
    squared = absolute = 0.0
    student.eval()
    for part in every.split(batch):
        gap = student(part[:, :context]) - part[:, context:]
        squared += gap.square().sum(dtype=torch.float64).item()
        absolute += gap.abs().sum(dtype=torch.float64).item()
    cells = every.shape[0] * horizon * every.shape[2]
    return Errors(squared / cells, absolute / cells)


def fit(
    student: Student,
    series: Float[Tensor, "N M C"],
    validation: Float[Tensor, "T C_real"],
    seed: int,
    training: Training | None = None,
) -> Fit:
    """Train ``student`` in place on the windows of ``series``; keep the weights best on ``validation``.

    The device is that of ``series``, which may have fewer channels than ``validation``. The learning rate
    halves ``training.epochs`` times over the run; validation (evenly spaced windows of it) is measured at most
    ``CHECKS`` times, every so many epochs and after the last; the run ends early once
    ``training.patience`` halvings went by without a better one.
    """
    generator = torch.Generator().manual_seed(seed)
    context, horizon = student.context, student.horizon
    every = windows(series, context, horizon)  # [N, n, L+H, C]
    per_sequence = every.shape[1]
    count = every.shape[0] * per_sequence
    training = training or student.training_settings
    steps_per_epoch = math.ceil(count / training.batch)
    epochs = max(training.epochs, math.ceil(training.min_steps / steps_per_epoch))
    total, check_every = epochs * steps_per_epoch, math.ceil(epochs / CHECKS)
    patience = training.patience * total / training.epochs
    optimizer = torch.optim.AdamW(student.parameters(), lr=training.lr, weight_decay=training.weight_decay)
    best, best_step, best_state, step = math.inf, 0, None, 0
    start = time.perf_counter()
    with seeded(seed, series.device):
        for epoch in range(1, epochs + 1):
            student.train()
            order = torch.randperm(count, generator=generator).to(series.device)
            for chosen in order.split(training.batch):
                for group in optimizer.param_groups:
                    group["lr"] = training.lr * 0.5 ** math.floor(training.epochs * step / total)
                batch = _batch(every, chosen, generator if training.shuffle_channels else None)
                loss = functional.mse_loss(student(batch[:, :context]), batch[:, context:])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1
            if epoch % check_every == 0 or epoch == epochs:
                mse = errors(student, validation, VALIDATION_WINDOWS).mse
                if mse < best:
                    best, best_step = mse, step
                    best_state = {name: tensor.clone() for name, tensor in student.state_dict().items()}
                elif step - best_step >= patience:
                    break
    if best_state is None:
        raise Diverged("training diverged: the validation error was never finite; lower the learning rate")
    student.load_state_dict(best_state)
    return Fit(best, best_step, step, time.perf_counter() - start)


def _batch(
    every: Float[Tensor, "N n window C"], chosen: Tensor, mix: torch.Generator | None
) -> Float[Tensor, "B window C"]:
    """The chosen windows; with ``mix``, channels in random order and each from another of these windows."""
    count, channels = every.shape[1], every.shape[3]
    if mix is None:
        return every[chosen // count, chosen % count]
    rows = torch.stack([chosen[torch.randperm(len(chosen), generator=mix)] for _ in range(channels)], dim=1)
    columns = torch.randperm(channels, generator=mix).to(rows.device)
    return every[rows // count, rows % count, :, columns].transpose(1, 2)
