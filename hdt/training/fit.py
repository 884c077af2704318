"""Train a student on a series, choosing the epoch on a real validation part; measure its errors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hdt.maths.windows import Seen, parted, spread, windows
from hdt.students import Student, Training
from hdt.students.lags import Lags
from hdt.system.errors import InputError, first_line, require
from hdt.system.fingerprint import fingerprint
from hdt.training.loop import Course, Diverged, Task, WatchStep, check_precision, train

CHECKS = 20  # a run looks at the validation part at most this often
VALIDATION_WINDOWS = 1024  # of the validation part, spread over it, enough to choose an epoch
BATCH_ELEMENTS = 2**23  # window cells per evaluation batch: 32 MB in float32


class Errors(NamedTuple):
    """Mean squared and mean absolute error over every window, step and channel, in scaled units."""

    mse: float
    mae: float


@dataclass(frozen=True)
class Running:
    """How a training runs on the machine; with the defaults it is that of the evaluation protocol.

    ``precision``, ``clip`` and ``last`` are those of :class:`hdt.training.loop.Course`, ``watch`` that of
    :func:`hdt.training.loop.train`. ``compile``: training steps through ``torch.compile``. ``steps``: end after so
    many optimiser steps, with the schedule stretched to them. ``checkpoint``: the ``file`` of
    :func:`hdt.training.loop.train`, removed when the training is done, unless ``keep``.
    """

    precision: str = "float32"
    clip: float | None = None
    compile: bool = False
    steps: int | None = None
    last: bool = False
    checkpoint: Path | None = None
    keep: bool = False
    watch: WatchStep | None = None

    def __post_init__(self) -> None:
        check_precision(self.precision, self.clip)
        require(self.steps is None or self.steps >= 1, f"steps={self.steps}: at least one is needed")


@dataclass(frozen=True)
class Fit:
    """What a training run did; the student holds the weights of ``best_step``. ``samples``: windows seen."""

    validation_mse: float
    best_step: int
    steps: int
    seconds: float
    samples: int


@torch.no_grad()
def errors(student: Student, series: Seen, most: int | None = None) -> Errors:
    """Errors over all windows of one or several series, or over ``most`` of them (:func:`hdt.maths.windows.spread`).

    The last incomplete batch is counted; targets that were not observed are not.
    """
    squared, absolute = errors_by_series(student, series, most)
    return Errors(squared.mean().item(), absolute.mean().item())


@torch.no_grad()
def errors_by_series(
    student: Student, series: Seen, most: int | None = None
) -> tuple[Float[Tensor, "... C"], Float[Tensor, "... C"]]:
    """Mean squared and mean absolute errors of :func:`errors` for every series and channel, float64; zero for one of
    which these windows hold no target."""
    context, horizon = student.context, student.horizon
    values, targets = parted(series)
    every = windows(values, context, horizon)  # [(N,) n, L+H, C]
    count = every.shape[-3]
    several = every[None] if every.ndim == 3 else every
    truth = several if targets is values else windows(targets, context, horizon).reshape(several.shape)
    places = spread(count, max(1, most // len(several)) if most else count)
    batch = max(1, BATCH_ELEMENTS // (every.shape[-2] * every.shape[-1]))
    scored = student.scored(values.shape[-1])
    squared, absolute, seen = (several.new_zeros(len(several), scored, dtype=torch.float64) for _ in range(3))
    student.eval()
    chosen = torch.cartesian_prod(torch.arange(len(several)), places).to(values.device)
    for some in chosen.split(batch):
        part = several[some[:, 0], some[:, 1]]
        target = part if truth is several else truth[some[:, 0], some[:, 1]]
        target = target[:, context:, :scored]
        gap = student.of(part) - target
        if truth is not several:
            there = ~target.isnan()
            gap = torch.where(there, gap, 0.0)
            seen.index_add_(0, some[:, 0], there.double().mean(dim=1))
        squared.index_add_(0, some[:, 0], gap.square().mean(dim=1, dtype=torch.float64))
        absolute.index_add_(0, some[:, 0], gap.abs().mean(dim=1, dtype=torch.float64))
    shape = (*values.shape[:-2], scored)
    share = len(places) if truth is several else torch.where(seen > 0, seen, 1.0)
    return (squared / share).reshape(shape), (absolute / share).reshape(shape)


def fit(
    student: Student,
    series: Float[Tensor, "N M C"],
    validation: Seen,
    seed: int,
    training: Training | None = None,
    running: Running | None = None,
) -> Fit:
    """Train ``student`` in place on the windows of ``series``; keep the weights best on ``validation``.

    The device is that of ``series``, which may have fewer channels than ``validation`` [..., T, C_real], and rows of
    NaN before a series begins. The learning rate halves ``training.epochs`` times over the run; validation
    (``VALIDATION_WINDOWS`` of it, of gaps what was observed) is measured at most ``CHECKS`` times, every so many epochs
    and after the last; the run ends early once ``training.patience`` halvings went by without a better one. A
    regressor on lags is fitted instead, in no steps.
    """
    if isinstance(student, Lags):
        return _fitted(student, series, validation, seed)
    running, training = running or Running(), training or student.training_settings
    task = _Students(student, series, validation, seed, training, running)
    outcome, best = train(task, task.course(), file=running.checkpoint, watch=running.watch)
    if running.checkpoint is not None and not running.keep:
        running.checkpoint.unlink(missing_ok=True)
    if best is None:
        raise Diverged("training diverged: the validation error was never finite; lower the learning rate")
    student.load_state_dict(best)
    seconds = outcome.seconds + outcome.looking
    return Fit(outcome.validation, outcome.best_step, outcome.steps, seconds, task.samples(outcome.steps))


def _fitted(student: Lags, series: Tensor, validation: Seen, seed: int) -> Fit:
    begun = time.perf_counter()
    rows = student.learn(series, seed)
    error = errors(student, validation, VALIDATION_WINDOWS).mse
    if not math.isfinite(error):
        raise Diverged(f"student {student.name!r}: its forecasts are not finite")
    return Fit(error, 0, 0, time.perf_counter() - begun, rows)


class _Students(Task[Tensor]):
    """Windows [B, L+H, C] in passes of random order, the squared error, the published optimiser and schedule."""

    def __init__(
        self,
        student: Student,
        series: Float[Tensor, "N M C"],
        validation: Seen,
        seed: int,
        training: Training,
        running: Running,
    ) -> None:
        optimizer = torch.optim.AdamW(student.parameters(), lr=training.lr, weight_decay=training.weight_decay)
        super().__init__(student, optimizer, series.device, seed, torch.Generator().manual_seed(seed))
        self.student, self.series, self.validation = student, series, validation
        self.training, self.running = training, running
        self.forecast = _compiled(student) if running.compile else student
        self.every = windows(series, student.context, student.horizon)  # [N, n, L+H, C]
        self.places = (~self.every[..., 0, 0].isnan()).flatten().nonzero().flatten()  # of windows that have begun
        self.count = len(self.places)
        self.epoch = math.ceil(self.count / training.batch)  # steps
        epochs = max(training.epochs, math.ceil(training.min_steps / self.epoch))
        self.total = running.steps or epochs * self.epoch

    def course(self) -> Course:
        running, halving = self.running, self.total / self.training.epochs
        look_every = self.epoch * math.ceil(math.ceil(self.total / self.epoch) / CHECKS)
        return Course(
            self.total, look_every, self.training.patience * halving, last=running.last, precision=running.precision,
            clip=running.clip,
        )  # fmt: skip

    def samples(self, steps: int) -> int:
        """Windows seen in so many steps; the last batch of an epoch may be smaller."""
        epochs, more = divmod(steps, self.epoch)
        return epochs * self.count + more * self.training.batch

    def batches(self, step: int) -> Iterator[Tensor]:
        mix = self.generator if self.training.shuffle_channels else None
        while True:
            order = torch.randperm(self.count, generator=self.generator).to(self.device)
            for chosen in order.split(self.training.batch):
                yield _batch(self.every, self.places[chosen], mix)

    def rate(self, step: int) -> float:
        return self.training.lr * 0.5 ** math.floor(self.training.epochs * step / self.total)

    def loss(self, batch: Tensor) -> Tensor:
        context, student = self.student.context, self.student
        forecast = self.forecast(batch[:, :context]) if student.roles is None else student.of(batch)
        return functional.mse_loss(forecast.to(batch.dtype), batch[:, context:, : student.scored(batch.shape[2])])

    def measure(self) -> float:
        return errors(self.student, self.validation, VALIDATION_WINDOWS).mse

    def key(self) -> str:
        student, running = self.student, self.running
        facts = [type(student).__name__, student.context, student.horizon, self.seed, asdict(self.training)]
        facts += [running.precision, running.clip, running.compile, running.steps, running.last, self.device.type]
        tensors = [self.series, *parted(self.validation), *student.state_dict().values()]
        return fingerprint(facts, tensors, [type(student), __name__])


def _compiled(student: Student) -> Callable[[Tensor], Tensor]:
    """The student through ``torch.compile``, which needs a compiler; raises :class:`InputError` when it fails."""
    network = torch.compile(student)

    def call(context: Tensor) -> Tensor:
        try:
            return network(context)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = first_line(error)
            raise InputError(f"torch.compile failed ({reason}); leave --compile out") from error

    return call


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
