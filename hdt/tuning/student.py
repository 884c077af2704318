"""Fine-tuning of the students of :mod:`hdt.students`: trained on distilled or real windows, or trained further."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hdt.data.frames import format_step
from hdt.data.series import Panel
from hdt.evaluation.channels import scaled_part
from hdt.run.distilled import Distilled
from hdt.run.source import real_data, same_data
from hdt.students import STUDENTS, Student, Training, Ways, build, shuffles
from hdt.system import machine
from hdt.system.errors import InputError, require
from hdt.system.machine import device_of
from hdt.system.options import LARGEST
from hdt.training.errors import errors
from hdt.training.fit import VALIDATION_WINDOWS, Fit, Running, fit
from hdt.training.loop import Diverged, WatchStep, several
from hdt.tuning.forecaster import Forecaster, check_window
from hdt.tuning.record import RECORD, WEIGHTS, ForecasterRecord, ScalerRecord, read_weights, write_weights


class StudentForecaster(Forecaster):
    """A student with the scaler of its data; forecasts on the CPU, in float32."""

    files = (WEIGHTS,)

    def __init__(self, record: ForecasterRecord, network: Student) -> None:
        require(record.scaler is not None, f"a {record.model} forecaster needs the scaler of its data")
        super().__init__(record)
        self.network = network.cpu().eval()

    def test_errors(self, panel: Panel, device: torch.device) -> list[dict[str, Any]]:
        """``mse`` and ``mae`` over every test window, of ``base``, where it went on from one, and ``trained``."""
        base = self.training["base"]
        own = {} if base is None else {"base": _base(base, self.model, self.context, self.horizon)}
        test = scaled_part(panel, "test", self.context, self.horizon).to(device)
        rows = []
        for name, each in {**own, "trained": self}.items():
            rows.append({"weights": name, **errors(each.network.to(device), test)._asdict()})
            each.network.cpu()
        return rows

    @torch.no_grad()
    def _predict(
        self, values: np.ndarray, columns: Sequence[str], quantiles: Sequence[float] | None
    ) -> Mapping[float | None, np.ndarray]:
        require(
            quantiles is None,
            f"{self.model} forecasts one value per step and no quantiles; leave them out, or fine-tune moirai",
        )
        assert self.record.scaler is not None
        scaler, own = self.record.scaler.scaler(), [self.columns.index(column) for column in columns]
        # Students that treat channels alike get every column they know, absent ones as zeros: the forecast of a
        # column then does not depend on which others the caller has. Others get those that are there.
        every = np.tile(scaler.mean, (len(values), 1))
        every[:, own] = values
        context = torch.tensor(scaler.transform(every), dtype=torch.float32)[None]
        if self.network.mixes_channels:
            scaled = self.network(context[..., own])[0].double().numpy()
        else:
            scaled = self.network(context)[0, :, own].double().numpy()
        return {None: scaled * scaler.std[own] + scaler.mean[own]}

    def _write(self, folder: Path) -> None:
        write_weights(self.network, folder)

    @classmethod
    def _read(cls, folder: Path, record: ForecasterRecord) -> StudentForecaster:
        require(record.scaler is not None, f"{folder / RECORD}: scaler: a {record.model} needs one")
        network = build(record.model, record.context, record.horizon, record.channels or len(record.columns), seed=0)
        read_weights(network, folder)
        return cls(record, network)


@dataclass(frozen=True)
class _Task:
    """What to train on: scaled values [N, M, C], the real data to validate on, and the window."""

    values: np.ndarray
    panel: Panel
    context: int
    horizon: int
    trained_on: str
    method: str | None

    @property
    def windows(self) -> int:
        return self.values.shape[0] * (self.values.shape[1] - self.context - self.horizon + 1)


@dataclass(frozen=True)
class _Candidate:
    """A training and the network it left."""

    network: Student
    training: Training
    run: Fit

    def facts(self) -> dict[str, Any]:
        way, run = self.training, asdict(self.run)
        facts = {"learning_rate": way.lr, "batch": way.batch, "shuffle_channels": way.shuffle_channels}
        return {**facts, "validation_mse": run.pop("validation"), **run}


def tune_student(
    source: Distilled | np.ndarray,
    *,
    model: str = "dlinear",
    base: str | Path | None = None,
    real: bool = False,
    panel: Panel | None = None,
    context: int | None = None,
    horizon: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "float32",
    compile: bool = False,
    clip: float | None = None,
    steps: int | None = None,
    lr: float | None = None,
    batch: int | None = None,
    checkpoint: str | Path | None = None,
    watch: WatchStep | None = None,
) -> StudentForecaster:
    """Train a student on a distilled series, or with ``real`` on the real training part it was made from.

    ``source`` may also be scaled values [N, M, C] of ``panel``, which else is the real data behind the run.
    Epoch, and on tiny sets the learning rate, are chosen on the real validation part as in
    :func:`hdt.evaluate`; the test part is not read. ``base`` is the folder of a saved forecaster to train
    further; where nothing does better on validation it is returned as it is. Context and horizon are those of
    ``base``, else of the run, unless given. ``precision``, ``compile``, ``clip``, ``steps`` and ``checkpoint`` are
    those of :class:`hdt.training.fit.Running`; ``lr`` and ``batch`` those of training. ``watch`` is called
    with (step, steps, validation error), counted over all trainings that validation chooses from.

    The forecaster's ``training`` facts: ``steps`` of the best of these trainings, ``samples`` (windows seen) and
    ``seconds`` of all, each of them in ``trainings``; ``learning_rate`` and ``steps_to_best`` of the one that was kept
    (null and 0 when the base was); ``validation_mse``, and of the base ``validation_mse_before``. Raises
    :class:`hdt.system.errors.InputError` for bad input, a diverging training and lack of memory.
    """
    require(model in STUDENTS, f"unknown student {model!r}; known: {', '.join(STUDENTS)}")
    require(STUDENTS[model].by_gradient, f"{model} is fitted, not trained step by step; hdt evaluate scores it")
    require(lr is None or 0 < lr < LARGEST, f"lr={lr}: expected a positive number")
    require(batch is None or batch >= 1, f"batch={batch}: at least one window is needed")
    origin = None if base is None else _base(base, model, context, horizon)
    if origin is not None:
        context, horizon = origin.context, origin.horizon
    task = _task(source, panel, context, horizon, real)
    on, before = device_of(device), None
    ways = Ways(_trainings(model, lr, batch), shuffles(model, torch.from_numpy(task.values)))
    running = Running(precision=precision, clip=clip, compile=compile, steps=steps, keep=True)
    tried: list[_Candidate] = []
    advice = f"lower --batch (now {ways.first[0].batch}), --context or --horizon"
    point = None if checkpoint is None else Path(checkpoint)
    with (
        machine.memory_refusal(advice),
        machine.peak_memory(on) as peak,
        several(len(ways), point, watch) as each,
    ):
        series = torch.tensor(task.values, dtype=torch.float32, device=on)
        validation = scaled_part(task.panel, "val", task.context, task.horizon).to(on)
        if origin is not None:
            before = errors(origin.network.to(on), validation, VALIDATION_WINDOWS).mse
        for way, (file, told) in zip(ways, each, strict=False):
            if origin is None:
                network = build(model, task.context, task.horizon, series.shape[2], seed).to(on)
            else:
                network = copy.deepcopy(origin.network)
            this = replace(running, checkpoint=file, watch=told)
            try:
                tried.append(_Candidate(network, way, fit(network, series, validation, seed, way, this)))
            except Diverged:
                continue
            ways.best = min(tried, key=_error).training
    if not tried:
        raise Diverged(
            f"{model}: every training diverged; lower --lr (tried {', '.join(f'{w.lr:g}' for w in ways.first)})"
        )
    best = min(tried, key=_error)
    kept = origin is not None and before is not None and before <= best.run.validation
    network = origin.network if origin is not None and kept else best.network
    facts = {
        "trained_on": task.trained_on,
        "data": task.panel.name,
        "train_sha256": task.panel.train_sha256,
        "method": task.method,
        "base": None if base is None else str(base),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "windows": task.windows,
        "steps": best.run.steps,
        **{name: sum(getattr(each.run, name) for each in tried) for name in ("samples", "seconds")},
        "learning_rate": None if kept else best.training.lr,
        "steps_to_best": 0 if kept else best.run.best_step,
        "trainings": [each.facts() for each in tried],
        "validation_mse_before": before,
        "validation_mse": before if kept else best.run.validation,
        "seed": seed,
        "device": machine.device_name(on.type),
        "precision": precision,
        "compile": compile,
        "clip": clip,
        "peak_memory_mb": peak(),
        "versions": machine.versions(),
    }
    columns = list(task.panel.columns)
    record = ForecasterRecord(
        model=model, context=task.context, horizon=task.horizon, columns=columns, training=facts,
        scaler=ScalerRecord.of(task.panel.scaler),
        channels=None if network.channels == len(columns) else network.channels, step=format_step(task.panel.step),
    )  # fmt: skip
    return StudentForecaster(record, network)


def _base(folder: str | Path, model: str, context: int | None, horizon: int | None) -> StudentForecaster:
    found = Forecaster.load(folder)
    if not isinstance(found, StudentForecaster) or found.model != model:
        raise InputError(f"{folder}: holds a {found.model}, not a {model}; give --model {found.model}")
    for name, asked, own in (("context", context, found.context), ("horizon", horizon, found.horizon)):
        require(asked in (None, own), f"{folder}: was trained with {name} {own}, not {asked}; leave --{name} out")
    return found


def _task(
    source: Distilled | np.ndarray, panel: Panel | None, context: int | None, horizon: int | None, real: bool
) -> _Task:
    method, trained_on, values = None, "series", source
    if isinstance(source, Distilled):
        settings, values, trained_on = source.info.settings, source.values, "distilled"
        panel = real_data(source, panel)
        same_data(source, panel)
        context = settings.context if context is None else context
        horizon = settings.horizon if horizon is None else horizon
        method = None if real else settings.method
    if panel is None or context is None or horizon is None:
        raise InputError("values alone do not tell their panel, context and horizon; give all three")
    if real:
        values, trained_on = panel.part("train")[None], "real"
    array = np.asarray(values)
    require(array.ndim == 3, f"values of shape {array.shape}: expected [sequences, steps, channels]")
    check_window(array.shape[1], context, horizon, "training part" if real else "synthetic series")
    return _Task(array, panel, context, horizon, trained_on, method)


def _trainings(model: str, lr: float | None, batch: int | None) -> list[Training]:
    """The published ways to train it; a learning rate that is given leaves one."""
    ways = list(STUDENTS[model].trainings())
    if lr is not None:
        ways = [replace(ways[0], lr=lr)]
    return ways if batch is None else [replace(way, batch=batch) for way in ways]


def _error(candidate: _Candidate) -> float:
    return candidate.run.validation
