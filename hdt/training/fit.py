"""Train a student on a series, choosing the epoch on a real validation part; measure its errors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hdt.maths.windows import windows
from hdt.students import Student, Training
from hdt.system.errors import InputError, require
from hdt.system.fingerprint import fingerprint
from hdt.training import checkpoint

CHECKS = 20  # a run looks at the validation part at most this often
VALIDATION_WINDOWS = 1024  # evenly spaced ones of the validation part, enough to choose an epoch
BATCH_ELEMENTS = 2**23  # window cells per evaluation batch: 32 MB in float32
PRECISIONS = ("float32", "bf16")


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
class Running:
    """How a training runs on the machine; with the defaults it is that of the evaluation protocol.

    ``precision`` bf16: the forward pass of training steps in bfloat16 where autocast allows it; weights and
    validation stay in float32. ``clip``: the largest norm of a gradient. ``compile``: training steps through
    ``torch.compile``. ``steps``: end after so many optimiser steps, with the schedule stretched to them.
    ``last``: keep the weights of the last step, whatever the validation part says.

    ``checkpoint``: a file in which everything needed to go on is kept after every look at the validation part.
    A training of the same data, weights and settings on the same kind of device goes on from it and ends with the
    weights of one that was never interrupted; any other ignores and replaces it. It is removed when the training
    is done, unless ``keep``: then the same training, run again, ends at once. ``watch`` is called after every look
    with (step, steps, validation error).
    """

    precision: str = "float32"
    clip: float | None = None
    compile: bool = False
    steps: int | None = None
    last: bool = False
    checkpoint: Path | None = None
    keep: bool = False
    watch: Callable[[int, int, float], None] | None = None

    def __post_init__(self) -> None:
        known = ", ".join(PRECISIONS)
        require(self.precision in PRECISIONS, f"unknown precision {self.precision!r}; choose one of {known}")
        require(self.clip is None or 0 < self.clip < math.inf, f"clip={self.clip}: expected a positive number")
        require(self.steps is None or self.steps >= 1, f"steps={self.steps}: at least one is needed")


@dataclass(frozen=True)
class Fit:
    """What a training run did; the student holds the weights of ``best_step``. ``samples``: windows seen."""

    validation_mse: float
    best_step: int
    steps: int
    seconds: float
    samples: int


@dataclass
class Progress:
    """Where a training is; ``done`` after the last step, or when patience ran out."""

    epoch: int = 0
    step: int = 0
    samples: int = 0
    best: float = math.inf
    best_step: int = 0
    seconds: float = 0.0
    done: bool = False


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
    running: Running | None = None,
) -> Fit:
    """Train ``student`` in place on the windows of ``series``; keep the weights best on ``validation``.

    The device is that of ``series``, which may have fewer channels than ``validation``. The learning rate
    halves ``training.epochs`` times over the run; validation (evenly spaced windows of it) is measured at most
    ``CHECKS`` times, every so many epochs and after the last; the run ends early once
    ``training.patience`` halvings went by without a better one.
    """
    running, training = running or Running(), training or student.training_settings
    generator = torch.Generator().manual_seed(seed)
    every = windows(series, student.context, student.horizon)  # [N, n, L+H, C]
    count = every.shape[0] * every.shape[1]
    steps_per_epoch = math.ceil(count / training.batch)
    epochs = max(training.epochs, math.ceil(training.min_steps / steps_per_epoch))
    total = running.steps or epochs * steps_per_epoch
    check_every = math.ceil(math.ceil(total / steps_per_epoch) / CHECKS)
    patience = training.patience * total / training.epochs
    optimizer = torch.optim.AdamW(student.parameters(), lr=training.lr, weight_decay=training.weight_decay)
    step = _stepper(student, optimizer, running)
    keeper = _Keeper(student, optimizer, generator, series.device)
    progress, best_state = Progress(), None
    key = "" if running.checkpoint is None else _key(student, series, validation, seed, training, running)
    with seeded(seed, series.device):
        if running.checkpoint is not None:
            progress, best_state = keeper.resumed(running.checkpoint, key)
        start = time.perf_counter() - progress.seconds
        while not progress.done:
            student.train()
            order = torch.randperm(count, generator=generator).to(series.device)
            for chosen in order.split(training.batch)[: total - progress.step]:
                for group in optimizer.param_groups:
                    group["lr"] = training.lr * 0.5 ** math.floor(training.epochs * progress.step / total)
                step(_batch(every, chosen, generator if training.shuffle_channels else None))
                progress.step += 1
                progress.samples += len(chosen)
            progress.epoch += 1
            if progress.epoch % check_every and progress.step < total:
                continue
            mse = errors(student, validation, VALIDATION_WINDOWS).mse
            progress.done = progress.step == total
            if mse < progress.best or running.last:
                progress.best, progress.best_step = mse, progress.step
                best_state = {name: tensor.clone() for name, tensor in student.state_dict().items()}
            elif progress.step - progress.best_step >= patience:
                progress.done = True
            progress.seconds = time.perf_counter() - start
            if running.checkpoint is not None:
                keeper.keep(running.checkpoint, key, progress, best_state)
            if running.watch is not None:
                running.watch(progress.step, total, mse)
    if running.checkpoint is not None and not running.keep:
        running.checkpoint.unlink(missing_ok=True)
    if best_state is None:
        raise Diverged("training diverged: the validation error was never finite; lower the learning rate")
    student.load_state_dict(best_state)
    return Fit(progress.best, progress.best_step, progress.step, progress.seconds, progress.samples)


def _stepper(student: Student, optimizer: torch.optim.Optimizer, running: Running) -> Callable[[Tensor], None]:
    """One optimiser step on a batch of windows [B, L+H, C]."""
    network = _compiled(student) if running.compile else student
    bf16, context = running.precision == "bf16", student.context

    def step(batch: Tensor) -> None:
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=bf16):
            forecast = network(batch[:, :context])
        loss = functional.mse_loss(forecast.to(batch.dtype), batch[:, context:])
        optimizer.zero_grad()
        loss.backward()
        if running.clip is not None:
            torch.nn.utils.clip_grad_norm_(student.parameters(), running.clip)
        optimizer.step()

    return step


def _compiled(student: Student) -> Callable[[Tensor], Tensor]:
    """The student through ``torch.compile``, which needs a compiler; raises :class:`InputError` when it fails."""
    network = torch.compile(student)

    def call(context: Tensor) -> Tensor:
        try:
            return network(context)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"torch.compile failed ({reason}); leave --compile out") from error

    return call


class _Keeper:
    """Writes and reads the checkpoints of one training."""

    def __init__(
        self, student: Student, optimizer: torch.optim.Optimizer, generator: torch.Generator, device: torch.device
    ) -> None:
        self.student, self.optimizer, self.generator, self.device = student, optimizer, generator, device

    def keep(self, path: Path, key: str, progress: Progress, best: dict[str, Tensor] | None) -> None:
        tensors, packed = checkpoint.pack(
            {
                "weights": self.student.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "generator": self.generator.get_state(),
                "random": checkpoint.random_state(self.device),
                "progress": asdict(progress),
                "best": best,
            },
            "state",
        )
        checkpoint.save(path, tensors, {"key": key, "state": packed})

    def resumed(self, path: Path, key: str) -> tuple[Progress, dict[str, Tensor] | None]:
        """Where the training of that key was, with everything put back; the beginning when it is another's."""
        found = checkpoint.load(path)
        if found is None or found.facts.get("key") != key:
            return Progress(), None
        state: dict[str, Any] = checkpoint.unpack(found.facts["state"], found.tensors)
        self.student.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        checkpoint.restore_random_state(state["random"], self.device)
        return Progress(**state["progress"]), state["best"]


def _key(student: Student, series: Tensor, validation: Tensor, seed: int, training: Training, running: Running) -> str:
    """Identifies everything that decides the weights a training ends with."""
    facts = [type(student).__name__, student.context, student.horizon, seed, asdict(training), series.device.type]
    facts += [running.precision, running.clip, running.compile, running.steps, running.last]
    return fingerprint(facts, [series, validation, *student.state_dict().values()], [type(student), __name__])


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
