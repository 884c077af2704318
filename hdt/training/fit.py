"""Train a student on a series, choosing the epoch on a real validation part."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hdt.maths.residuals import Scatter
from hdt.maths.windows import Seen, parted, windows
from hdt.students import Student, Training
from hdt.students.lags import Lags
from hdt.students.quantiles import Quantiles, pinball
from hdt.system.errors import InputError, first_line, require
from hdt.system.fingerprint import fingerprint
from hdt.training.errors import errors, spread_errors
from hdt.training.loop import Course, Diverged, Task, WatchStep, check_precision, train

CHECKS = 20  # a run looks at the validation part at most this often
VALIDATION_WINDOWS = 1024  # of the validation part, spread over it, enough to choose an epoch


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
    """What a training run did; the student holds the weights of ``best_step``. ``samples``: windows seen.

    ``validation`` is the error that it was chosen by: the mean squared one, or of a student with quantiles the CRPS.
    """

    validation: float
    best_step: int
    steps: int
    seconds: float
    samples: int


def fit(
    student: Student,
    series: Float[Tensor, "N M C"],
    validation: Seen,
    seed: int,
    training: Training | None = None,
    running: Running | None = None,
    noise: Scatter | None = None,
) -> Fit:
    """Train ``student`` in place on the windows of ``series``; keep the weights best on ``validation``.

    The device is that of ``series``, which may have fewer channels than ``validation`` [..., T, C_real], and rows of
    NaN before a series begins. The learning rate halves ``training.epochs`` times over the run; validation
    (``VALIDATION_WINDOWS`` of it, of gaps what was observed) is measured at most ``CHECKS`` times, every so many epochs
    and after the last; the run ends early once ``training.patience`` halvings went by without a better one. A
    regressor on lags is fitted instead, in no steps. A student with quantiles trains by the pinball loss and is
    measured by its CRPS; ``noise`` is what its horizons lack, drawn anew for every batch.
    """
    if isinstance(student, Lags):
        return _fitted(student, series, validation, seed)
    running = running or Running()
    if isinstance(student, Quantiles):
        training = training or student.network.training_settings
        task: _Students = _Quantiles(student, series, validation, seed, training, running, noise)
    else:
        task = _Students(student, series, validation, seed, training or student.training_settings, running)
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
        values, targets, unit, summed = parted(self.validation)
        facts += [] if unit is None else [unit.tolist(), summed]
        tensors = [self.series, values, targets, *student.state_dict().values()]
        return fingerprint(facts, tensors, [type(student), __name__])


class _Quantiles(_Students):
    """The same with the pinball loss, measured by CRPS."""

    def __init__(
        self,
        student: Quantiles,
        series: Float[Tensor, "N M C"],
        validation: Seen,
        seed: int,
        training: Training,
        running: Running,
        noise: Scatter | None,
    ) -> None:
        super().__init__(student, series, validation, seed, training, running)
        self.quantiles, self.noise = student, noise

    def loss(self, batch: Tensor) -> Tensor:
        found = self.quantiles.outputs(batch[:, : self.student.context])
        return pinball(found.to(batch.dtype), self.target(batch)).mean()

    def measure(self) -> float:
        return spread_errors(self.quantiles, self.validation, VALIDATION_WINDOWS).crps

    def target(self, batch: Tensor) -> Tensor:
        """The horizons of a batch [B, H, C], with noise where they lack it."""
        horizons = batch[:, self.student.context :]
        if self.noise is None:
            return horizons
        return horizons + self.noise.draw(horizons, self.generator)

    def key(self) -> str:
        return fingerprint(super().key(), self.noise or [])


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
