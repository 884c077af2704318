"""The one training loop: steps, looks at the validation part, the best weights, and a checkpoint to go on from.

:class:`Task` is what differs between trainings, of students and of Moirai; :func:`train` is what they share.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from hdt.system import checkpoint
from hdt.system.errors import InputError, require

PRECISIONS = ("float32", "bf16")
B = TypeVar("B")
WatchStep = Callable[[int, int, float], None]
Weights = dict[str, Tensor]


class Diverged(InputError):
    """A training whose validation error was never finite, or whose weights no longer are."""


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds the global generators, which dropout draws from, and puts them back as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True)
class Course:
    """How long a training goes on, and which weights are kept.

    It looks at the validation part every ``look_every`` steps and after the last of ``steps``, and ends once
    ``patience`` steps went by without a better look, or when one is not finite. ``from_base``: the weights that it
    starts with are looked at, too, and kept unless a step is better. ``last``: the last weights are kept, whatever
    validation says. ``precision`` bf16: the loss of training steps in bfloat16 where autocast allows it; weights
    and validation stay in float32. ``clip``: the largest norm of a gradient.
    """

    steps: int
    look_every: int
    patience: float
    from_base: bool = False
    last: bool = False
    precision: str = "float32"
    clip: float | None = None


@dataclass
class Outcome:
    """Where a training stands, and what it did in the end; ``best_step`` 0 means that no step was better than the base.

    ``seconds`` count training steps only, ``looking`` holds those of validation; ``history`` has an entry (step,
    seconds, validation) per look.
    """

    steps: int = 0
    validation: float = math.inf
    best_step: int = 0
    seconds: float = 0.0
    seconds_to_best: float = 0.0
    looking: float = 0.0
    history: list[tuple[int, float, float]] = field(default_factory=list)
    done: bool = False


class Task(ABC, Generic[B]):
    """What is trained: a network on its device, the optimiser of its weights, and what batches are drawn with."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        seed: int,
        generator: torch.Generator | None = None,
    ) -> None:
        self.network, self.optimizer, self.device, self.seed = network, optimizer, device, seed
        self.generator = generator

    @abstractmethod
    def batches(self, step: int) -> Iterator[B]:
        """Batches from that step on, which is the first one or follows a look."""

    @abstractmethod
    def loss(self, batch: B) -> Tensor:
        """What a step lowers; may raise :class:`Diverged`."""

    @abstractmethod
    def measure(self) -> float:
        """The validation error."""

    @abstractmethod
    def key(self) -> str:
        """Identifies everything that decides the weights, before the first step."""

    def rate(self, step: int) -> float | None:
        """The learning rate of a step; None: that of the optimiser."""
        return None

    def check(self) -> None:
        """Raise :class:`Diverged` after a step whose weights must not be used again."""


def check_precision(precision: str, clip: float | None) -> None:
    """Refuse an unknown precision and a clip that is no positive number."""
    require(precision in PRECISIONS, f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    require(clip is None or 0 < clip < math.inf, f"clip={clip}: expected a positive number")


@contextmanager
def several(
    count: int, file: Path | None, watch: WatchStep | None
) -> Iterator[list[tuple[Path | None, WatchStep | None]]]:
    """Checkpoint and watcher for each of ``count`` trainings in a row; the checkpoints go when all are done."""

    def counted(number: int) -> WatchStep | None:
        if watch is None:
            return None
        return lambda step, steps, value: watch(number * steps + step, count * steps, value)

    files = [None if file is None else Path(f"{file}.{number}") for number in range(count)]
    yield [(each, counted(number)) for number, each in enumerate(files)]
    for each in files:
        if each is not None:
            each.unlink(missing_ok=True)


def train(
    task: Task[B], course: Course, *, file: Path | None = None, watch: WatchStep | None = None
) -> tuple[Outcome, Weights | None]:
    """Train the network of ``task`` in place; what came of it, and the best weights, on the CPU (None: no finite look).

    ``file`` is a checkpoint, written after every look: the same training, run again on the same kind of device, goes
    on from it and ends with the weights of one that was never interrupted; any other ignores and replaces it. It is
    left where it is: then the same training, run again, ends at once. ``watch`` is called after every look with (step,
    steps, validation error).
    """
    key = "" if file is None else task.key()
    with seeded(task.seed, task.device):
        outcome, best = _resumed(task, file, key)
        if course.from_base and not outcome.history:
            outcome.validation, best = task.measure(), _copied(task.network)
            outcome.history.append((0, 0.0, outcome.validation))
        batches = task.batches(outcome.steps)
        task.network.train()
        clock = time.perf_counter()
        while not outcome.done:
            try:
                _step(task, course, next(batches), outcome.steps)
            except Diverged:
                outcome.history.append((outcome.steps + 1, outcome.seconds, math.inf))
                outcome.done = True
            outcome.steps += 1
            if outcome.done:
                break
            if outcome.steps % course.look_every and outcome.steps != course.steps:
                continue
            if task.device.type == "cuda":
                torch.cuda.synchronize()
            begun = time.perf_counter()
            outcome.seconds += begun - clock
            value = task.measure()
            outcome.looking += time.perf_counter() - begun
            outcome.history.append((outcome.steps, outcome.seconds, value))
            outcome.done = outcome.steps == course.steps or not math.isfinite(value)
            if value < outcome.validation or course.last:
                outcome.validation, outcome.best_step, outcome.seconds_to_best = value, outcome.steps, outcome.seconds
                best = _copied(task.network)
            elif outcome.steps - outcome.best_step >= course.patience:
                outcome.done = True
            if file is not None:
                _keep(task, file, key, outcome, best)
            if watch is not None:
                watch(outcome.steps, course.steps, value)
            task.network.train()
            clock = time.perf_counter()
    return outcome, best


def _step(task: Task[B], course: Course, batch: B, number: int) -> None:
    rate, optimizer = task.rate(number), task.optimizer
    if rate is not None:
        for group in optimizer.param_groups:
            group["lr"] = rate
    with torch.autocast(task.device.type, torch.bfloat16, enabled=course.precision == "bf16"):
        loss = task.loss(batch)
    optimizer.zero_grad()
    loss.backward()
    if course.clip is not None:
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], course.clip)
    optimizer.step()
    task.check()


def _copied(network: nn.Module) -> Weights:
    return {name: tensor.to("cpu", copy=True) for name, tensor in network.state_dict().items()}


def _keep(task: Task[B], file: Path, key: str, outcome: Outcome, best: Weights | None) -> None:
    tree = {
        "outcome": asdict(outcome),
        "best": best,
        "weights": task.network.state_dict(),
        "optimizer": task.optimizer.state_dict(),
        "generator": None if task.generator is None else task.generator.get_state(),
        "random": checkpoint.random_state(task.device),
    }
    checkpoint.keep(file, key, tree)


def _resumed(task: Task[B], file: Path | None, key: str) -> tuple[Outcome, Weights | None]:
    """Where the training of that key was, with everything put back; the beginning when there is none."""
    tree = checkpoint.kept(file, key)
    if tree is None:
        return Outcome(), None
    task.network.load_state_dict(tree["weights"])
    task.optimizer.load_state_dict(tree["optimizer"])
    if task.generator is not None:
        task.generator.set_state(tree["generator"])
    checkpoint.restore_random_state(tree["random"], task.device)
    return Outcome(**tree["outcome"]), tree["best"]
