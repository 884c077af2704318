"""The one optimisation loop: any parameterization, any objective."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hdt.distillation.config import Settings
from hdt.distillation.groups import Group, gathered, partition
from hdt.objective import OBJECTIVES, Objective, Problem
from hdt.parameterization import Params, Size, build
from hdt.start import some_channels, start
from hdt.system.errors import InputError, require
from hdt.training.fit import device_of

Watcher = Callable[[int, int, dict[str, float]], None]


class Outcome(NamedTuple):
    """Learned parameters, the series they decode to, where it started, kept harmonics, and the loss log.

    All tensors are on the CPU; ``kept`` is None for objectives that do not choose harmonics; ``chosen`` holds
    what was read from the data: hyperparameters given as ``auto`` or left open.
    """

    params: Params
    series: Float[Tensor, "N M C"]
    started: Float[Tensor, "N M C"]
    kept: Bool[Tensor, "F C"] | None
    history: list[dict[str, float]]
    seconds: float
    chosen: dict[str, float]


def objective_of(settings: Settings) -> Objective:
    """The objective, with its own of the settings' options."""
    problem = Problem(settings.context, settings.horizon, settings.length, settings.backbone)
    kind = OBJECTIVES[settings.objective]
    return kind(kind.Options.of(settings.options), problem)


def optimise(series: Float[Tensor, "T C"], settings: Settings, *, watch: Watcher | None = None) -> Outcome:
    """Distil the scaled training part ``series`` as ``settings`` say.

    Adam on the parameters with a cosine learning rate. ``watch`` is called after every iteration with
    (iteration, iterations, terms). ``seconds`` counts everything, expert trainings included even when
    they came from the cache. Equal settings and data give equal bytes on one machine with an equal number of
    threads. Raises :class:`hdt.system.errors.InputError` when the loss stops being finite.
    """
    begun = time.perf_counter()
    series = series.to(device_of(settings.device))
    generator = torch.Generator().manual_seed(settings.seed)
    size = Size(settings.sequences, settings.length, settings.channels or series.shape[1])
    parameterization = build(settings.parameterization, size, settings.options)
    objective = objective_of(settings)
    parameterization.prepare(series, generator)
    known = objective.prepare(series)
    drawn = some_channels(series, settings.channels, generator)
    started = start(settings.start, drawn, parameterization.instances(), settings.length, generator)
    params = parameterization.encode(started)
    channels = partition(size.channels, settings.channel_batch, generator)
    groups = [Group(parameterization, params, index) for index in channels]
    learned = list({id(tensor): tensor for group in groups for tensor in group.learned()}.values())
    with torch.no_grad():
        state = objective.start(known, started)
    rates = [(learned, settings.learning_rate)]
    rates += [([state[name].requires_grad_()], rate) for name, rate in objective.rates().items()]
    optimizer = torch.optim.Adam([{"params": tensors, "lr": rate} for tensors, rate in rates])
    waiting: list[int] = []
    history: list[dict[str, float]] = []
    for iteration in range(1, settings.iterations + 1):
        decay = (1 + math.cos(math.pi * (iteration - 1) / settings.iterations)) / 2
        for part, (_, rate) in zip(optimizer.param_groups, rates, strict=True):
            part["lr"] = rate * decay
        if len(groups) > 1 and not waiting:
            waiting = torch.randperm(len(groups), generator=generator).tolist()
        group = groups[waiting.pop() if waiting else 0]
        near = known if group.channels is None else objective.restrict(known, group.channels)
        loss, terms, state = objective.loss(near, group.decode(), state, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            revised = objective.revise(near, group.decode(), iteration, generator)
            if revised is not None:
                group.replace(revised)
        entry: dict[str, Any] = {"iteration": iteration, "loss": loss.item()}
        entry |= {name: term.item() for name, term in terms.items()}
        history.append(entry)
        if not math.isfinite(entry["loss"]):
            raise InputError(
                f"the loss became {entry['loss']} at iteration {iteration}; "
                f"lower --learning-rate (now {settings.learning_rate:g}) or the step sizes among the --option settings"
            )
        if watch is not None:
            watch(iteration, settings.iterations, entry)
    stored = gathered(groups)
    decoded = parameterization.decode(stored)
    require(
        bool(decoded.isfinite().all()),
        f"the last step left values that are not finite; lower --learning-rate (now {settings.learning_rate:g})",
    )
    kept = None if known.kept is None else known.kept.cpu()
    seconds = time.perf_counter() - begun + known.saved_seconds
    chosen = {**parameterization.chosen, **objective.chosen(known, state)}
    return Outcome(stored, decoded, started.cpu(), kept, history, seconds, chosen)
