"""Fine-tune Moirai on windows with uni2ts' own module and Lightning's loop; keep the weights best on validation.

The loss is uni2ts' negative log-likelihood. Validation is the CRPS: a distilled series teaches the course of the
forecast before its spread, and likelihood would stop long before forecasts are best (recipes/LOG.md). So the noise
that its horizons lack (:mod:`hdt.tuning.residuals`) comes in slowly, from none at the first step to all at the last.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from hdt.training.fit import seeded
from hdt.tuning.base import import_moirai
from hdt.tuning.crps import is_divergence
from hdt.tuning.progress import PRECISIONS, Outcome, Plan, Progress, Watcher
from hdt.tuning.rows import Rows
from hdt.tuning.tokens import Tokens, tokens

if TYPE_CHECKING:
    from uni2ts.model.moirai import MoiraiModule


class Batches(torch.utils.data.Dataset[Tokens]):
    """Full batches from step ``start`` on: every window once per pass, in an order that the seed fixes.

    With ``plan.mix`` K > 1 a sample is Σ a_k·w_k of K windows, one of them from the pass and the others drawn at
    random, each less the mean of its context, a_k ~ N(0, 1). Where horizons are linear in contexts, as those of a
    distilled series nearly are, every combination is as true as the windows, so a few of them never run out.

    ``noise`` is the standard deviation of what is added to the horizons at the last step, for contexts of unit
    variance.
    """

    def __init__(
        self,
        windows: Rows,
        plan: Plan,
        largest: int,
        start: int = 0,
        noise: Float[Tensor, " H"] | None = None,
    ) -> None:
        self.windows, self.plan, self.largest, self.start, self.noise = windows, plan, largest, start, noise
        self.orders: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return self.plan.steps - self.start

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

    def __getitem__(self, index: int) -> Tokens:
        if index >= len(self):
            raise IndexError(index)
        step, context = self.start + index, self.plan.context
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
        return tokens(chosen, context, self.plan.patch, self.largest)


def tune(
    module: MoiraiModule,
    train: Rows,
    validation: Float[Tensor, "m window"],
    plan: Plan,
    device: torch.device,
    *,
    noise: Float[Tensor, " H"] | None = None,
    watch: Watcher | None = None,
    file: Path | None = None,
) -> Outcome:
    """Fine-tune ``module`` in place; it ends with the weights of the best step, which may be step 0.

    ``noise``: see :class:`Batches`. ``file`` is a checkpoint, written whenever validation is measured: the same
    training, run again, goes on from it and ends with the weights of one that was never interrupted; any other
    ignores it. ``watch`` is called then with (step, steps, validation).
    """
    import lightning

    module.to(device).eval()
    data = [train.series, validation] if noise is None else [train.series, validation, noise]
    run = Progress(module, data, plan, device, watch, file)
    run.begin()
    if not run.outcome.done:
        tuner = import_moirai().MoiraiFinetune(
            min_patches=2, min_mask_ratio=0.0, max_mask_ratio=1.0, max_dim=1, num_training_steps=plan.steps,
            num_warmup_steps=0, module=module, lr=plan.lr, weight_decay=plan.weight_decay,
            finetune_pattern=plan.pattern,
        )  # fmt: skip
        start = run.outcome.steps
        ordered = Batches(train, plan, max(module.patch_sizes), start, noise)
        batches = torch.utils.data.DataLoader(ordered, batch_size=None)

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
            try:
                trainer.fit(tuner, batches)
            except SystemExit as error:  # what Lightning makes of Ctrl-C
                raise KeyboardInterrupt from error
            except (RuntimeError, ValueError) as error:
                if not is_divergence(error):
                    raise
                run.diverged()
    module.to(device).load_state_dict(run.best)
    module.requires_grad_(True).eval()
    return run.outcome


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
