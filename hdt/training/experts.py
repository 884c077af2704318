"""Expert trajectories: students trained on real windows, a checkpoint after every epoch, kept on disk.

For trajectory matching (arXiv 2203.11932) and CondTSF (arXiv 2406.02131). The cache key covers the data
and every setting; the training time is stored with the weights and counted as distillation time.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hdt.maths.windows import windows
from hdt.students import STUDENTS, build, flatten
from hdt.system import checkpoint
from hdt.system.errors import InputError
from hdt.system.fingerprint import fingerprint
from hdt.training.loop import seeded


class Training(NamedTuple):
    """SGD with momentum, as the experts of both papers are trained; ``trajectories`` of them."""

    trajectories: int
    epochs: int
    lr: float
    momentum: float
    batch: int


class Experts(NamedTuple):
    """Checkpoints [experts, epochs + 1, P]: flat weights, epoch 0 is the initialisation.

    ``saved_seconds`` is the training time that reading them from the cache has saved, 0 when just trained.
    """

    checkpoints: Float[Tensor, "E epochs P"]
    saved_seconds: float


def experts(
    backbone: str, context: int, horizon: int, series: Float[Tensor, "T C"], training: Training, folder: Path
) -> Experts:
    """Train the experts, or read them from ``folder`` when they were trained before."""
    facts = [backbone, context, horizon, training._asdict(), series.device.type]
    key = fingerprint(facts, [series], [STUDENTS[backbone], __name__])
    file = folder / f"experts-{key}.safetensors"
    found = checkpoint.kept(file, key)
    if found is not None:
        return Experts(found["checkpoints"].to(series.device), found["seconds"])
    begun = time.perf_counter()
    every = [train(backbone, context, horizon, series, training, seed) for seed in range(training.trajectories)]
    checkpoints, seconds = torch.stack(every), time.perf_counter() - begun
    with suppress(InputError):  # a cache that cannot be written only costs time
        checkpoint.keep(file, key, {"checkpoints": checkpoints, "seconds": seconds})
    return Experts(checkpoints, 0.0)


def train(
    backbone: str, context: int, horizon: int, series: Float[Tensor, "T C"], training: Training, seed: int
) -> Float[Tensor, "epochs P"]:
    """One expert: its flat weights before training and after every epoch."""
    student = build(backbone, context, horizon, series.shape[1], seed).to(series)
    optimizer = torch.optim.SGD(student.parameters(), lr=training.lr, momentum=training.momentum)
    generator = torch.Generator().manual_seed(seed)
    every = windows(series, context, horizon)
    checkpoints = [flatten(student)]
    with seeded(seed, series.device):
        for _ in range(training.epochs):
            for chosen in torch.randperm(len(every), generator=generator).split(training.batch):
                batch = every[chosen.to(series.device)]
                loss = functional.mse_loss(student(batch[:, :context]), batch[:, context:])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            checkpoints.append(flatten(student))
    return torch.stack(checkpoints)
