"""Fine-tune Moirai on windows with uni2ts' own module and Lightning's loop; keep the weights best on validation.

The loss is uni2ts' negative log-likelihood. Validation is the CRPS: a distilled series teaches the course of the
forecast at once but has another noise than the real one, so likelihood alone would stop long before the forecasts
are best (recipes/LOG.md).
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from hdt import checkpoint
from hdt.errors import require
from hdt.train import seeded
from hdt.tuning.base import import_moirai
from hdt.tuning.tokens import Tokens, tokens

if TYPE_CHECKING:
    from uni2ts.model.moirai import MoiraiModule

PATTERNS = ("full", "freeze_ffn", "head_only")
PRECISIONS: dict[str, Any] = {"float32": "32-true", "bf16": "bf16-mixed"}
DRAWS = 20  # samples per forecast when validation is measured
VALIDATION_BATCH = 64
VERSION = 1  # raise it when a change here alters the weights: older checkpoints are then ignored
Watcher = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Plan:
    """How to fine-tune: every number that decides the weights, beside the data and the base.

    Validation is measured every ``check_every`` steps; the run ends after ``steps``, or once ``patience``
    measurements went by without a better one. ``clip``: the largest norm of a gradient.
    """

    context: int
    horizon: int
    patch: int
    lr: float
    steps: int
    check_every: int
    pattern: str = "full"
    batch: int = 32
    patience: int = 5
    weight_decay: float = 0.01
    clip: float | None = 1.0
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.pattern in PATTERNS, f"unknown pattern {self.pattern!r}; known: {', '.join(PATTERNS)}")
        known = ", ".join(PRECISIONS)
        require(self.precision in PRECISIONS, f"unknown precision {self.precision!r}; choose one of {known}")
        for name in ("lr", "steps", "check_every", "batch", "patience"):
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


class Batches(torch.utils.data.Dataset[Tokens]):
    """Full batches from step ``start`` on: every window once per pass, in an order that the seed fixes."""

    def __init__(self, windows: Float[Tensor, "n window"], plan: Plan, largest: int, start: int = 0) -> None:
        self.windows, self.plan, self.largest, self.start = windows, plan, largest, start
        self.orders: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return self.plan.steps - self.start

    def rows(self, step: int) -> Tensor:
        """The windows of a step: ``batch`` of them from position ``step · batch`` of the endless shuffled passes."""
        count, batch = len(self.windows), self.plan.batch
        first = step * batch
        passes = range(first // count, (first + batch - 1) // count + 1)
        self.orders = {p: self.orders[p] if p in self.orders else self._order(p) for p in passes}
        offset = first - passes[0] * count
        return torch.cat([self.orders[p] for p in passes])[offset : offset + batch]

    def _order(self, passage: int) -> Tensor:
        generator = torch.Generator().manual_seed(1_000_003 * self.plan.seed + passage)
        return torch.randperm(len(self.windows), generator=generator)

    def __getitem__(self, index: int) -> Tokens:
        if index >= len(self):
            raise IndexError(index)
        chosen = self.windows[self.rows(self.start + index)]
        return tokens(chosen, self.plan.context, self.plan.patch, self.largest)


@torch.no_grad()
def crps(module: MoiraiModule, windows: Float[Tensor, "n window"], context: int, patch: int) -> float:
    """Continuous ranked probability score, mean over the steps of the horizons, from ``DRAWS`` samples.

    The unbiased estimate E|X − y| − E|X − X′|/2 (Gneiting and Raftery 2007, equation 21), in the units of the
    windows, whose device the module shares. Always the same draws; the global generators are put back.
    """
    device, horizon = next(module.parameters()).device, windows.shape[1] - context
    first, total = -(-context // patch), 0.0
    rank = torch.arange(1, DRAWS + 1, device=device)
    weight = (2 * rank - DRAWS - 1) / (DRAWS * (DRAWS - 1))
    with seeded(0, device):
        for part in windows.to(device).split(VALIDATION_BATCH):
            forecast = module(**tokens(part, context, patch, max(module.patch_sizes)))
            draws = forecast.sample((DRAWS,))[:, :, first:, :patch].flatten(2)[..., :horizon]  # [draws, B, H]
            gap = (draws - part[:, context:]).abs().mean(dim=0)
            spread = (draws.sort(dim=0).values * weight[:, None, None]).sum(dim=0)
            total += (gap - spread).sum(dtype=torch.float64).item()
    return total / (len(windows) * horizon)


def tune(
    module: MoiraiModule,
    train: Float[Tensor, "n window"],
    validation: Float[Tensor, "m window"],
    plan: Plan,
    device: torch.device,
    *,
    watch: Watcher | None = None,
    file: Path | None = None,
) -> Outcome:
    """Fine-tune ``module`` in place; it ends with the weights of the best step, which may be step 0.

    ``file`` is a checkpoint, written whenever validation is measured: the same training, run again, goes on
    from it and ends with the weights of one that was never interrupted; any other ignores it. ``watch`` is
    called then with (step, steps, validation).
    """
    import lightning

    module.to(device).eval()
    run = _Run(module, train, validation, plan, device, watch, file)
    run.begin()
    if not run.outcome.done:
        tuner = import_moirai().MoiraiFinetune(
            min_patches=2, min_mask_ratio=0.0, max_mask_ratio=1.0, max_dim=1, num_training_steps=plan.steps,
            num_warmup_steps=0, module=module, lr=plan.lr, weight_decay=plan.weight_decay,
            finetune_pattern=plan.pattern,
        )  # fmt: skip
        start = run.outcome.steps
        batches = torch.utils.data.DataLoader(Batches(train, plan, max(module.patch_sizes), start), batch_size=None)

        class Watch(lightning.Callback):
            """Hands Lightning's events to the run; steps count from the start of a resumed training."""

            def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
                run.before(trainer.optimizers[0])

            def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
                trainer.should_stop = run.after(start + trainer.global_step, trainer.optimizers[0])

        with quiet(), seeded(plan.seed, device):
            trainer = lightning.Trainer(
                accelerator="gpu" if device.type == "cuda" else "cpu", devices=1, max_steps=plan.steps - start,
                precision=PRECISIONS[plan.precision], gradient_clip_val=plan.clip, callbacks=[Watch()], logger=False,
                enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            )  # fmt: skip
            trainer.fit(tuner, batches)
    module.to(device).load_state_dict(run.best)
    module.requires_grad_(True).eval()
    return run.outcome


class _Run:
    """Where a training is: the outcome so far, the best weights, and what a checkpoint needs to go on."""

    def __init__(
        self,
        module: MoiraiModule,
        train: Tensor,
        validation: Tensor,
        plan: Plan,
        device: torch.device,
        watch: Watcher | None,
        file: Path | None,
    ) -> None:
        self.module, self.validation, self.plan, self.device = module, validation, plan, device
        self.watch, self.file = watch, file
        facts = {"version": VERSION, "plan": asdict(plan), "device": device.type, "torch": torch.__version__}
        weights = module.state_dict().values()
        self.key = "" if file is None else checkpoint.fingerprint(facts, [*weights, train, validation])
        self.restored: tuple[Any, dict[str, Tensor]] | None = None
        self.clock: float | None = None

    def measure(self) -> float:
        self.module.eval()
        if not all(bool(weight.isfinite().all()) for weight in self.module.parameters()):
            return math.inf  # diverged; nothing can be drawn from it
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

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.module.state_dict().items()}

    def _keep(self, file: Path, optimizer: torch.optim.Optimizer) -> None:
        tree = {
            "outcome": asdict(self.outcome),
            "weights": self._weights(),
            "best": self.best,
            "optimizer": optimizer.state_dict(),
            "random": checkpoint.random_state(self.device),
        }
        tensors, packed = checkpoint.pack(tree, "run")
        checkpoint.save(file, tensors, {"key": self.key, "tree": packed})


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's advice on loggers, workers and devices, and without torch's checks of distributions."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        # A training that diverges ends by its validation error, not by an exception of torch's distributions.
        Distribution.set_default_validate_args(False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Distribution.set_default_validate_args(__debug__)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
