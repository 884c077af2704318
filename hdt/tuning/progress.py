"""A fine-tuning under way: its plan, where it stands, when it is measured, and its checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hdt.system import machine
from hdt.system.errors import require
from hdt.system.fingerprint import fingerprint
from hdt.training import checkpoint
from hdt.tuning.crps import crps

if TYPE_CHECKING:
    from uni2ts.model.moirai import MoiraiModule

PATTERNS = ("full", "freeze_ffn", "head_only")
PRECISIONS: dict[str, Any] = {"float32": "32-true", "bf16": "bf16-mixed"}
Watcher = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Plan:
    """How to fine-tune: every number that decides the weights, beside the data and the base.

    Validation is measured every ``check_every`` steps; the run ends after ``steps``, or once ``patience``
    measurements went by without a better one. ``clip``: the largest norm of a gradient. ``mix``: how many windows
    a sample combines, see :class:`hdt.tuning.loop.Batches`.
    """

    context: int
    horizon: int
    patch: int
    lr: float
    steps: int
    check_every: int
    pattern: str = "full"
    batch: int = 32
    mix: int = 1
    patience: int = 5
    weight_decay: float = 0.01
    clip: float | None = 1.0
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.pattern in PATTERNS, f"unknown pattern {self.pattern!r}; known: {', '.join(PATTERNS)}")
        known = ", ".join(PRECISIONS)
        require(self.precision in PRECISIONS, f"unknown precision {self.precision!r}; choose one of {known}")
        require(self.clip is None or self.clip > 0, f"clip={self.clip}: expected a positive number")
        for name in ("lr", "steps", "check_every", "batch", "mix", "patience"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"{name}={value}: expected a positive number")


@dataclass
class Outcome:
    """What a fine-tuning did; ``best_step`` 0 means that no step was better than the base.

    ``seconds`` count training steps only, not validation; ``history`` holds (step, seconds, validation).
    """

    validation_before: float
    validation: float
    best_step: int = 0
    steps: int = 0
    seconds: float = 0.0
    seconds_to_best: float = 0.0
    history: list[tuple[int, float, float]] = field(default_factory=list)
    since_best: int = 0
    done: bool = False


class Progress:
    """Where a training is: the outcome so far, the best weights, and what a checkpoint needs to go on.

    ``data``: the training series, validation windows, and whatever else decides the weights.
    """

    def __init__(
        self,
        module: MoiraiModule,
        data: list[Tensor],
        plan: Plan,
        device: torch.device,
        watch: Watcher | None,
        file: Path | None,
    ) -> None:
        self.module, self.validation, self.plan, self.device = module, data[1], plan, device
        self.watch, self.file = watch, file
        facts = [asdict(plan), device.type, machine.package_version("uni2ts")]
        weights = module.state_dict().values()
        self.key = "" if file is None else fingerprint(facts, [*weights, *data], ["hdt.tuning.loop"])
        self.restored: tuple[Any, dict[str, Tensor]] | None = None
        self.clock: float | None = None

    def measure(self) -> float:
        self.module.eval()
        return crps(self.module, self.validation, self.plan.context, self.plan.patch)

    def begin(self) -> None:
        """Take up the checkpoint, or measure the base."""
        stored = None if self.file is None else checkpoint.load(self.file)
        if stored is not None and stored.facts.get("key") == self.key:
            tree = checkpoint.unpack(stored.facts["tree"], stored.tensors)
            history = [tuple(entry) for entry in tree["outcome"].pop("history")]
            self.outcome, self.best = Outcome(**tree["outcome"], history=history), tree["best"]
            self.module.load_state_dict(tree["weights"])
            self.restored = tree["optimizer"], tree["random"]
            return
        before = self.measure()
        self.outcome = Outcome(before, before, history=[(0, 0.0, before)])
        self.best = self._weights()

    def before(self, optimizer: torch.optim.Optimizer) -> None:
        """At the start of a step: the state of the optimiser and of dropout, once, when resumed."""
        if self.restored is not None:
            state, random = self.restored
            optimizer.load_state_dict(state)
            checkpoint.restore_random_state(random, self.device)
            self.restored = None
        if self.clock is None:
            self.clock = time.perf_counter() - self.outcome.seconds
        self.module.train()

    def after(self, step: int, optimizer: torch.optim.Optimizer) -> bool:
        """At the end of a step: measure and keep when it is time; whether to stop."""
        plan, outcome = self.plan, self.outcome
        # Weights that are not finite must not be used again: on CUDA that would be the end of the process.
        if not torch.stack([weight.isfinite().all() for weight in self.module.parameters()]).all():
            self.diverged(step)
            return True
        if step % plan.check_every and step != plan.steps:
            return False
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        assert self.clock is not None
        outcome.steps, outcome.seconds = step, time.perf_counter() - self.clock
        value = self.measure()
        outcome.history.append((step, outcome.seconds, value))
        if value < outcome.validation:
            outcome.validation, outcome.best_step, outcome.since_best = value, step, 0
            outcome.seconds_to_best, self.best = outcome.seconds, self._weights()
        else:
            outcome.since_best += 1
        outcome.done = outcome.since_best >= plan.patience or not math.isfinite(value) or step == plan.steps
        if self.file is not None:
            self._keep(self.file, optimizer)
        if self.watch is not None:
            self.watch(step, plan.steps, value)
        self.clock = time.perf_counter() - outcome.seconds
        return outcome.done

    def diverged(self, step: int | None = None) -> None:
        """End the training where it broke down, with the best weights until then."""
        self.outcome.done = True
        self.outcome.steps = self.outcome.steps + 1 if step is None else step
        self.outcome.history.append((self.outcome.steps, self.outcome.seconds, math.inf))

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.to("cpu", copy=True) for name, tensor in self.module.state_dict().items()}

    def _keep(self, file: Path, optimizer: torch.optim.Optimizer) -> None:
        tree = {
            "outcome": asdict(self.outcome),
            "weights": self.module.state_dict(),
            "best": self.best,
            "optimizer": optimizer.state_dict(),
            "random": checkpoint.random_state(self.device),
        }
        tensors, packed = checkpoint.pack(tree, "run")
        checkpoint.save(file, tensors, {"key": self.key, "tree": packed})
