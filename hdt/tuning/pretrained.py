"""Fine-tuning of networks that were pre-trained, on distilled or real windows, and their forecasts.

Each channel is a univariate series. Chosen on the real validation part by CRPS, never on test: the patch size (of
those the base knows, before any step), the learning rate and the step.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hdt.data.frames import format_step
from hdt.data.series import Panel
from hdt.maths.residuals import lacking_noise
from hdt.maths.rows import Rows
from hdt.run.distilled import Distilled
from hdt.run.source import real_data, same_data
from hdt.system import machine
from hdt.system.errors import require
from hdt.system.machine import device_of
from hdt.training.fit import CHECKS
from hdt.training.loop import Outcome, WatchStep, seeded, several
from hdt.tuning import base as bases
from hdt.tuning.forecaster import Forecaster, check_window, class_of
from hdt.tuning.loop import Plan, Tuning, tune
from hdt.tuning.record import RECORD, ForecasterRecord
from hdt.tuning.score import entries, score

VALIDATION_WINDOWS = 256  # evenly spaced over time and channels
PASSES = 4  # over the training windows at most, and
STEPS = (400, 4000)  # within these
MIX, FEW = 2, 20_000  # windows per sample where there are so few of them
SMALL = 5_000_000  # parameters; larger networks are tuned with smaller steps
RATES = {True: (1e-3, 1e-4), False: (1e-4, 1e-5, 1e-6)}


class Pretrained(Forecaster):
    """A pre-trained network; forecasts any column, which it scales by itself, with quantiles.

    ``task``: its loss and its validation error. ``packages``: whose versions decide its weights and forecasts.
    """

    any_column = True
    files = bases.FILES
    name: ClassVar[str]
    task: ClassVar[type[Tuning]]
    packages: ClassVar[tuple[str, ...]]

    def __init__(self, record: ForecasterRecord, network: nn.Module) -> None:
        super().__init__(record)
        self.network = network.eval()

    @property
    def patch(self) -> int:
        """Steps per token."""
        return int(self.training["patch"])

    @classmethod
    @abstractmethod
    def load_network(cls, base: str | Path) -> Any:
        """The network in ``base``, in float32 on the CPU; raises :class:`InputError` for what is none."""

    @classmethod
    @abstractmethod
    def patches(cls, network: Any) -> tuple[int, ...]:
        """The patch sizes that the network knows."""

    @classmethod
    @abstractmethod
    def check_window(cls, network: Any, context: int, horizon: int, patch: int) -> None:
        """Refuse a window that the network cannot hold."""

    @classmethod
    @abstractmethod
    def predictor(cls, network: Any, context: int, horizon: int, patch: int, device: torch.device) -> Any:
        """Its gluonts predictor for univariate series."""

    @classmethod
    def choose_patch(cls, network: Any, validation: Float[Tensor, "n window"], context: int) -> int:
        """The patch size that serves the network best on the real validation part, before any tuning."""
        return cls.patches(network)[0]

    def test_errors(self, panel: Panel, device: torch.device) -> list[dict[str, Any]]:
        """Errors of ``zero-shot`` and ``fine-tuned``, see :func:`hdt.tuning.score.score`."""
        networks = {"zero-shot": self.load_network(self.training["base"]), "fine-tuned": self.network}
        window = (self.context, self.horizon, self.patch)
        return [
            {"weights": name, **score(self.predictor(network, *window, device), panel, self.horizon, device)}
            for name, network in networks.items()
        ]

    def _predict(
        self, values: np.ndarray, columns: Sequence[str], quantiles: Sequence[float] | None
    ) -> Mapping[float | None, np.ndarray]:
        device = next(self.network.parameters()).device
        # float32 would lose a small swing on a high level; the network is indifferent to both.
        mean, std = values.mean(axis=0), values.std(axis=0)
        scale = np.where(std > 0, std, 1.0)
        model = self.predictor(self.network, self.context, self.horizon, self.patch, device)
        with seeded(0, device):
            forecasts = list(model.predict(entries((values - mean) / scale)))
        levels: Sequence[float | None] = [None] if quantiles is None else quantiles
        return {
            level: np.stack([f.quantile(0.5 if level is None else level) for f in forecasts], axis=1) * scale + mean
            for level in levels
        }

    @classmethod
    def _read(cls, folder: Path, record: ForecasterRecord) -> Pretrained:
        patch, network = record.training.get("patch"), cls.load_network(folder)
        known = patch in cls.patches(network)
        require(known, f"{folder / RECORD}: training.patch {patch!r} is none of the network's")
        return cls(record, network)


def kind_of(base: str | Path) -> type[Pretrained]:
    """The class of what ``base`` holds; raises :class:`InputError`."""
    return class_of(bases.kind_of(base))


def tune_pretrained(
    kind: type[Pretrained],
    distilled: Distilled,
    *,
    real: bool = False,
    panel: Panel | None = None,
    context: int | None = None,
    horizon: int | None = None,
    **settings: Any,
) -> Pretrained:
    """Fine-tune the network in ``base`` on a distilled series, or with ``real`` on the real training part.

    Context and horizon are those of the run unless given; ``settings`` are those of :func:`tune_values`.
    """
    panel = real_data(distilled, panel)
    same_data(distilled, panel)
    run = distilled.info.settings
    context = run.context if context is None else context
    horizon = run.horizon if horizon is None else horizon
    values = panel.part("train")[None] if real else distilled.values
    check_window(values.shape[1], context, horizon, "training part" if real else "synthetic series")
    facts = {"trained_on": "real" if real else "distilled", "method": None if real else run.method}
    stored = distilled.info.noise if not real and (context, horizon) == (run.context, run.horizon) else None
    return tune_values(
        kind,
        values,
        panel,
        context=context,
        horizon=horizon,
        facts=facts,
        lacking=None if stored is None else stored.levels,
        **settings,
    )


def tune_values(
    kind: type[Pretrained],
    values: np.ndarray,
    panel: Panel,
    *,
    base: str | Path,
    context: int,
    horizon: int,
    patch: int | None = None,
    pattern: str = "full",
    steps: int | None = None,
    lr: float | None = None,
    batch: int = 32,
    seed: int = 0,
    device: str = "auto",
    precision: str = "float32",
    clip: float | None = 1.0,
    noise: bool = True,
    lacking: Sequence[float] | None = None,
    mix: int | None = None,
    checkpoint: Path | None = None,
    watch: WatchStep | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Pretrained:
    """Fine-tune the network in ``base`` on scaled values [N, M, C] of ``panel``, real or synthetic.

    ``pattern``: ``full``, ``freeze_ffn`` or ``head_only`` (the projection to the forecast), or ``lora``,
    except with Moirai. ``clip``: the largest norm of a gradient. ``noise``: add what the series' horizons lack of the
    real ones' noise (:mod:`hdt.maths.residuals`): ``lacking``, as a run has stored it, or what is found here. ``mix``:
    how many windows each sample combines, by default ``MIX`` on sets of at most ``FEW`` windows. ``watch`` is called
    with (step, steps, validation CRPS), counted over all learning rates. The test part is not read.

    The forecaster's ``training`` facts: ``samples`` (univariate windows seen) and ``seconds`` of all trainings;
    ``steps`` of the kept one; ``steps_to_best``, ``samples_to_best`` and ``seconds_to_best`` of it until its best step,
    which is 0 when the base was better on validation throughout; ``validation_crps`` and ``_before``.
    Raises :class:`hdt.system.errors.InputError` for bad input and lack of memory.
    """
    kind.task.check_pattern(pattern)
    on = device_of(device)
    bases.check_size(base, None, device)
    network = kind.load_network(base)
    bases.check_size(base, bases.parameters(network), device)
    sizes = kind.patches(network)
    require(patch is None or patch in sizes, f"patch {patch}: the base knows {', '.join(map(str, sizes))}")
    kind.check_window(network, context, horizon, max(sizes) if patch is None else patch)
    require(batch >= 1, f"batch={batch}: at least one window is needed")
    train = Rows(values, context, horizon)
    most = PASSES * -(-len(train) // batch)
    steps = min(max(most, STEPS[0]), STEPS[1]) if steps is None else steps
    outcomes: list[tuple[Plan, Outcome, nn.Module]] = []
    with (
        machine.memory_refusal(f"lower --batch (now {batch}) or --context (now {context})"),
        machine.peak_memory(on) as peak,
    ):
        network.to(on).eval()
        validation = validation_windows(panel, context, horizon)
        patch = kind.choose_patch(network, validation, context) if patch is None else patch
        network.cpu()  # the candidates go where it was
        added = None if not noise or lacking is None else torch.tensor(lacking)
        if noise and lacking is None:
            added = lacking_noise(train, Rows(panel.part("train")[None], context, horizon), context)
        mix = (MIX if len(train) <= FEW else 1) if mix is None else mix
        plan = Plan(
            context, horizon, patch, lr=1.0, steps=steps, check_every=max(1, steps // CHECKS), pattern=pattern,
            batch=batch, mix=mix, clip=clip, precision=precision, seed=seed,
        )  # fmt: skip
        rates = RATES[bases.parameters(network) < SMALL] if lr is None else (lr,)
        with several(len(rates), checkpoint, watch) as each:
            for rate, (file, told) in zip(rates, each, strict=True):
                candidate, this = copy.deepcopy(network), replace(plan, lr=rate)
                outcome = tune(
                    candidate, train, validation, this, on, task=kind.task, noise=added, watch=told, file=file
                )
                outcomes.append((this, outcome, candidate.cpu()))
    best, outcome, network = min(outcomes, key=lambda each: each[1].validation)
    seconds = sum(each.seconds for _, each, _ in outcomes)
    count = sum(each.steps for _, each, _ in outcomes)
    training = {
        **(facts or {}),
        "data": panel.name,
        "train_sha256": panel.train_sha256,
        "base": str(base),
        "licence": bases.licence(base),
        "parameters": bases.parameters(network),
        "windows": len(train),
        "steps": outcome.steps,
        "samples": count * batch,
        "seconds": seconds,
        "seconds_per_step": seconds / count,
        "steps_to_best": outcome.best_step,
        "samples_to_best": outcome.best_step * batch,
        "seconds_to_best": outcome.seconds_to_best,
        "learning_rates": list(rates),
        **{name: value for name, value in asdict(best).items() if name not in ("context", "horizon", "steps")},
        "noise": None if added is None else [round(level, 6) for level in added.tolist()],
        "validation_crps_before": outcome.history[0][2],
        "validation_crps": outcome.validation,
        "device": machine.device_name(on.type),
        "peak_memory_mb": peak(),
        "versions": machine.versions() | {name: machine.package_version(name) for name in kind.packages},
    }
    record = ForecasterRecord(
        model=kind.name, context=context, horizon=horizon, columns=list(panel.columns), channels=None,
        step=format_step(panel.step), training=training,
    )  # fmt: skip
    return kind(record, network)


def validation_windows(panel: Panel, context: int, horizon: int) -> Float[Tensor, "n window"]:
    """Windows of the real validation part, evenly spaced over time and channels."""
    return Rows(panel.part("val", context)[None], context, horizon).evenly(VALIDATION_WINDOWS)
