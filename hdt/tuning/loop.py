"""Fine-tune a pre-trained network on windows with its own loss; keep the weights best on validation.

Moirai's loss and optimiser are those of uni2ts, the loss its negative log-likelihood. Validation is the CRPS: a
distilled series teaches the course of the forecast before its spread, and likelihood would stop long before forecasts
are best (recipes/LOG.md). So the noise that its horizons lack (:mod:`hdt.maths.residuals`) comes in slowly, from none
at the first step to all at the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from hdt.maths.rows import Rows
from hdt.system.errors import require
from hdt.system.fingerprint import fingerprint
from hdt.system.machine import package_version
from hdt.training.loop import Course, Diverged, Outcome, Task, WatchStep, check_precision, train
from hdt.tuning.base import import_moirai
from hdt.tuning.crps import crps, is_divergence
from hdt.tuning.tokens import tokens

if TYPE_CHECKING:
    from uni2ts.model.moirai import MoiraiModule

PATTERNS = ("full", "freeze_ffn", "head_only")
EVERY = (*PATTERNS, "lora")  # that some base can be tuned in
JUDGED = ("target", "prediction_mask", "observed_mask", "sample_id", "variate_id")  # the tokens that the loss reads


@dataclass(frozen=True)
class Plan:
    """How to fine-tune: every number that decides the weights, beside the data and the base.

    Validation is measured every ``check_every`` steps; the run ends after ``steps``, or once ``patience``
    measurements went by without a better one. ``clip``: the largest norm of a gradient. ``mix``: how many windows
    a sample combines, see :class:`Batches`.
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
        require(self.pattern in EVERY, f"unknown pattern {self.pattern!r}; known: {', '.join(EVERY)}")
        check_precision(self.precision, self.clip)
        for name in ("lr", "steps", "check_every", "batch", "mix", "patience"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"{name}={value}: expected a positive number")


class Batches:
    """Full batches of windows [B, L+H] by step: every window once per pass, in an order that the seed fixes.

    With ``plan.mix`` K > 1 a sample is Σ a_k·w_k of K windows, one of them from the pass and the others drawn at
    random, each less the mean of its context, a_k ~ N(0, 1). Where horizons are linear in contexts, as those of a
    distilled series nearly are, every combination is as true as the windows, so a few of them never run out.

    ``noise`` is the standard deviation of what is added to the horizons at the last step, for contexts of unit
    variance.
    """

    def __init__(self, windows: Rows, plan: Plan, noise: Float[Tensor, " H"] | None = None) -> None:
        self.windows, self.plan, self.noise = windows, plan, noise
        self.orders: dict[int, Tensor] = {}

    def rows(self, step: int) -> Tensor:
        """The windows of a step: ``batch`` of them from position ``step · batch`` of the endless shuffled passes."""
        count, batch = len(self.windows), self.plan.batch
        first = step * batch
        passes = range(first // count, (first + batch - 1) // count + 1)
        self.orders = {p: self.orders[p] if p in self.orders else self._order(p) for p in passes}
        return torch.cat([self.orders[p][max(first - p * count, 0) : first + batch - p * count] for p in passes])

    def _generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed((1_000_003 * self.plan.seed + number) % 2**63)

    def _order(self, passage: int) -> Tensor:
        generator = self._generator(passage)
        return torch.randperm(len(self.windows), generator=generator)

    def __getitem__(self, step: int) -> Float[Tensor, "B window"]:
        context = self.plan.context
        rows, generator = self.rows(step), self._generator(step)
        chosen = self.windows[rows]
        if self.plan.mix > 1:
            others = torch.randint(len(self.windows), (self.plan.mix - 1, len(rows)), generator=generator)
            parts = torch.stack([chosen, *(self.windows[other] for other in others)])  # [K, B, L+H]
            parts = parts - parts[:, :, :context].mean(dim=2, keepdim=True)
            chosen = (torch.randn(parts.shape[:2], generator=generator)[:, :, None] * parts).sum(dim=0)
        if self.noise is not None:
            drawn = torch.randn(len(chosen), len(self.noise), generator=generator) * self.noise * step / self.plan.steps
            scale = chosen[:, :context].std(dim=1, keepdim=True, correction=0)
            chosen = torch.cat([chosen[:, :context], chosen[:, context:] + scale * drawn], dim=1)
        return chosen


class Tuning(Task[Tensor]):
    """A network on batches of windows; ``validation`` are windows [m, L+H]. ``package``: whose version decides it.

    ``patterns``: what of the network can be tuned.
    """

    package: ClassVar[str]
    patterns: ClassVar[tuple[str, ...]] = PATTERNS

    @classmethod
    def check_pattern(cls, pattern: str) -> None:
        """Refuse an unknown pattern, and one whose library is missing."""
        require(pattern in cls.patterns, f"unknown pattern {pattern!r}; known: {', '.join(cls.patterns)}")

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Batches,
        validation: Float[Tensor, "m window"],
        device: torch.device,
    ) -> None:
        super().__init__(network, optimizer, device, batches.plan.seed)
        self.ordered, self.validation, self.plan = batches, validation, batches.plan

    def batches(self, step: int) -> Iterator[Tensor]:
        for each in range(step, self.plan.steps):
            yield self.ordered[each].to(self.device)

    def check(self) -> None:
        # Weights that are not finite must not be used again: on CUDA that would be the end of the process.
        if not torch.stack([weight.isfinite().all() for weight in self.network.parameters()]).all():
            raise Diverged("weights are no longer finite")

    def settle(self) -> None:
        """Make of the network, which has its best weights, one of the base's kind again."""

    def key(self) -> str:
        noise = [] if self.ordered.noise is None else [self.ordered.noise]
        tensors = [*self.network.state_dict().values(), self.ordered.windows.series, self.validation, *noise]
        facts = [asdict(self.plan), self.device.type, package_version(self.package)]
        return fingerprint(facts, tensors, [type(self).__module__])


class Moirai(Tuning):
    """Moirai, by uni2ts."""

    package = "uni2ts"

    def __init__(
        self, module: MoiraiModule, batches: Batches, validation: Float[Tensor, "m window"], device: torch.device
    ) -> None:
        plan, self.module = batches.plan, module
        tuner = import_moirai().MoiraiFinetune(
            min_patches=2, min_mask_ratio=0.0, max_mask_ratio=1.0, max_dim=1, num_training_steps=plan.steps,
            num_warmup_steps=0, module=module, lr=plan.lr, weight_decay=plan.weight_decay,
            finetune_pattern=plan.pattern,
        )  # fmt: skip
        self.likelihood = tuner.hparams.loss_func
        super().__init__(module, tuner.configure_optimizers()["optimizer"], batches, validation, device)

    def loss(self, batch: Tensor) -> Tensor:
        read = tokens(batch, self.plan.context, self.plan.patch, max(self.module.patch_sizes))
        try:
            return self.likelihood(pred=self.module(**read), **{name: read[name] for name in JUDGED})
        except (RuntimeError, ValueError) as error:
            if is_divergence(error):
                raise Diverged(str(error)) from error
            raise

    def measure(self) -> float:
        self.module.eval()
        return crps(self.module, self.validation, self.plan.context, self.plan.patch)


def tune(
    network: nn.Module,
    train_on: Rows,
    validation: Float[Tensor, "m window"],
    plan: Plan,
    device: torch.device,
    *,
    task: Callable[..., Tuning] = Moirai,
    noise: Float[Tensor, " H"] | None = None,
    watch: WatchStep | None = None,
    file: Path | None = None,
) -> Outcome:
    """Fine-tune ``network`` in place; it ends with the weights of the best step, which may be step 0.

    ``noise``: see :class:`Batches`. ``file`` and ``watch`` are those of :func:`hdt.training.loop.train`.
    """
    work = task(network.to(device), Batches(train_on, plan, noise), validation, device)
    course = Course(
        plan.steps, plan.check_every, float(plan.patience * plan.check_every), from_base=True, precision=plan.precision,
        clip=plan.clip,
    )  # fmt: skip
    with unchecked():
        outcome, best = train(work, course, file=file, watch=watch)
    assert best is not None
    network.load_state_dict(best)
    work.settle()
    network.requires_grad_(True).eval()
    return outcome


@contextmanager
def unchecked() -> Iterator[None]:
    """Without torch's checks of distributions: a training that diverges ends by its validation error."""
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(__debug__)
