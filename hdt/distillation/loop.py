"""The one optimisation loop: any parameterization, any objective."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hdt.distillation.config import Settings
from hdt.distillation.groups import Group, gathered, partition
from hdt.maths.blocks import Blocks, Real, dense, evenly, long_enough, select
from hdt.maths.joint import stretch
from hdt.maths.roles import Roles
from hdt.objective import OBJECTIVES, Known, Objective, Problem, Scored, Sums
from hdt.parameterization import Parameterization, Params, Size, build
from hdt.start import some_channels, starting_series
from hdt.system import checkpoint as checkpoints
from hdt.system.errors import InputError, require
from hdt.system.fingerprint import fingerprint
from hdt.system.machine import device_of

KEEP_SECONDS = 10.0  # between two checkpoints
WatchIteration = Callable[[int, int, dict[str, float]], None]


class Outcome(NamedTuple):
    """Learned parameters, the series they decode to, where it started, kept harmonics, and the loss log.

    All tensors are on the CPU; ``mask`` is None for objectives that do not choose harmonics; ``chosen`` holds
    what was read from the data: hyperparameters given as ``auto`` or left open; ``sums`` are those of
    :class:`hdt.objective.Known`, ``row`` is the real one from which on the columns known ahead are its own.
    """

    params: Params
    series: Float[Tensor, "N M C"]
    started: Float[Tensor, "N M C"]
    mask: Bool[Tensor, "F C"] | None
    history: list[dict[str, float]]
    seconds: float
    chosen: dict[str, int | float]
    sums: Sums | None = None
    row: int | None = None


class Beside(NamedTuple):
    """What the real training part [T, C] holds beside targets: the columns known ahead [T, G·K], scaled, and roles."""

    known: Float[Tensor, "T GK"]
    roles: Roles


class Since(NamedTuple):
    """Where a distillation stood: what it had learned, what it had read from the data, its sums."""

    params: Params
    chosen: Mapping[str, int | float]
    sums: Sums


class Begun(NamedTuple):
    """All that an optimisation needs: what it knows, and the parameters and series that it goes on from."""

    parameterization: Parameterization
    known: Known
    params: Params
    started: Float[Tensor, "N M C"]
    row: int | None = None


def objective_of(settings: Settings) -> Objective:
    """The objective, with its own of the settings' options."""
    problem = Problem(settings.context, settings.horizon, settings.length, settings.backbone)
    kind = OBJECTIVES[settings.objective]
    return kind(kind.Options.of(settings.options), problem)


def typical(series: Real, settings: Settings) -> Float[Tensor, "T_common C_p"]:
    """What a parameterization reads: all channels, or, where a few stand for all, a sample of those long enough."""
    long = long_enough(series, settings.length)
    return select(series, long if settings.channels is None else evenly(long))


def _identified(series: Real, settings: Settings, beside: Beside | None) -> tuple[Any, list[Tensor]]:
    """The facts and arrays that decide a distillation."""
    facts: Any = settings.model_dump(mode="json")
    facts, more = (facts, []) if beside is None else ([facts, beside.roles], [beside.known])
    return ([facts, series.key()], more) if isinstance(series, Blocks) else (facts, [series, *more])


def _check_shape(parameterization: Parameterization, params: Params, started: Float[Tensor, "N M C"]) -> None:
    """Refuse a parameterization, of somebody else most likely, that decodes to another shape than it was given."""
    with torch.no_grad():
        found = tuple(parameterization.decode(params).shape)
    require(
        found == started.shape,
        f"parameterization {parameterization.name!r}: decodes to {found}, not {tuple(started.shape)}",
    )


def _checked(objective: Objective, scored: Any) -> Scored:
    """Refuse what an objective, of somebody else most likely, returns in place of a loss to minimise."""
    fits = isinstance(scored, Scored) and isinstance(scored.loss, Tensor) and scored.loss.ndim == 0
    fits = fits and scored.loss.requires_grad
    fits = fits and all(isinstance(term, Tensor) and term.numel() == 1 for term in scored.terms.values())
    require(
        fits,
        f"objective {objective.name!r}: loss must return Scored(loss, terms, state) with a scalar loss that depends on "
        "the synthetic series, and tensors of one number as terms",
    )
    return scored


def _stretch(made: Float[Tensor, "N M C"], series: Real, settings: Settings, beside: Beside) -> tuple[int, Tensor]:
    """The row from which on the real columns known ahead are those of a synthetic series; and all real channels."""
    every = torch.cat([dense(series), beside.known.to(series.device)], dim=1)
    return stretch(made, every, beside.roles, settings.channels is not None), every


def _begin(
    series: Real, settings: Settings, objective: Objective, generator: torch.Generator, beside: Beside | None
) -> Begun:
    size = Size(settings.sequences, settings.length, settings.channels or series.shape[1])
    parameterization = build(settings.parameterization, size, settings.options)
    parameterization.prepare(typical(series, settings), generator)
    known = objective.prepare(series if objective.by_blocks else dense(series))
    drawn = some_channels(series, settings.channels, settings.length, generator)
    power = known.power if settings.channels is None else None
    started = starting_series(settings.start, drawn, parameterization.instances(), settings.length, generator, power)
    params = parameterization.encode(started)
    _check_shape(parameterization, params, started)
    if beside is None or not objective.joins:
        return Begun(parameterization, known, params, started)
    row, every = _stretch(started, series, settings, beside) if beside.roles.known else (None, dense(series))
    own = every[:, series.shape[1] :][row or 0 :][: settings.length]
    return Begun(parameterization, objective.join(known, every, beside.roles, own), params, started, row)


def _go_on(series: Float[Tensor, "T C"], settings: Settings, objective: Objective, since: Since) -> Begun:
    size = Size(settings.sequences, settings.length, settings.channels or series.shape[1])
    parameterization = build(settings.parameterization, size, {**settings.options, **since.chosen})
    known = objective.extend(since.sums, series)
    params = {name: tensor.to(series.device, copy=True) for name, tensor in since.params.items()}
    with torch.no_grad():
        return Begun(parameterization, known, params, parameterization.decode(params))


def optimise(
    series: Real,
    settings: Settings,
    *,
    watch: WatchIteration | None = None,
    checkpoint: Path | None = None,
    since: Since | None = None,
    beside: Beside | None = None,
) -> Outcome:
    """Distil the scaled training part ``series`` as ``settings`` say.

    Adam on the parameters with a cosine learning rate. ``watch`` is called after every iteration with (iteration,
    iterations, terms). Every ``KEEP_SECONDS`` all that is needed to go on is kept in the file ``checkpoint``, from
    which the same distillation goes on, to the same bytes; the caller removes it. With ``since``, where a distillation
    of the rows before stood, ``series`` is what :meth:`hdt.objective.Objective.extend` takes, and nothing else of those
    rows is needed; there is no checkpoint then. With ``beside`` the series is given the stamps of a real stretch, and
    agrees with what is known of it: where the objective joins them from the start, else chosen at the end. ``seconds``
    counts everything,
    expert trainings included even when they came from the cache, but not
    what the cache knows of a table in files. Equal settings and data give equal bytes on one
    machine with an equal number of threads. Raises :class:`hdt.system.errors.InputError` when the loss stops being
    finite.
    """
    clock = time.perf_counter()
    series = series.to(device_of(settings.device))
    generator = torch.Generator().manual_seed(settings.seed)
    objective = objective_of(settings)
    if since is None:
        begun = _begin(series, settings, objective, generator, beside)
    else:
        begun = _go_on(dense(series), settings, objective, since)
    parameterization, known, params, started, row = begun
    channels = partition(started.shape[2], settings.channel_batch, generator)
    groups = [Group(parameterization, params, index) for index in channels]
    with torch.no_grad():
        state = objective.initial(known, started)
    code: list[type | str] = [type(objective), type(parameterization), __name__]
    key = "" if checkpoint is None else fingerprint(*_identified(series, settings, beside), code)
    stored = checkpoints.kept(checkpoint, key)
    if stored is not None:
        state = {name: tensor.to(series.device) for name, tensor in stored["state"].items()}
        for group, params in zip(groups, stored["params"], strict=True):
            for name, tensor in group.params.items():
                tensor.copy_(params[name])  # memory stays laid out as it was: sums depend on it
    learned = list({id(tensor): tensor for group in groups for tensor in group.learned()}.values())
    rates = [(learned, settings.learning_rate)]
    rates += [([state[name].requires_grad_()], rate) for name, rate in objective.rates().items()]
    optimizer = torch.optim.Adam([{"params": tensors, "lr": rate} for tensors, rate in rates])
    waiting: list[int] = []
    history: list[dict[str, float]] = []
    earlier = 0.0  # seconds of runs that were interrupted
    if stored is not None:
        optimizer.load_state_dict(stored["optimizer"])
        generator.set_state(stored["generator"])
        history, earlier, waiting = stored["history"], stored["seconds"], stored["waiting"]
    last_kept = time.monotonic()
    for iteration in range(len(history) + 1, settings.iterations + 1):
        decay = (1 + math.cos(math.pi * (iteration - 1) / settings.iterations)) / 2
        for part, (_, rate) in zip(optimizer.param_groups, rates, strict=True):
            part["lr"] = rate * decay
        if len(groups) > 1 and not waiting:
            waiting = torch.randperm(len(groups), generator=generator).tolist()
        group = groups[waiting.pop() if waiting else 0]
        near = known if group.channels is None else objective.restrict(known, group.channels)
        loss, terms, state = _checked(objective, objective.loss(near, group.decode(), state, generator))
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
        if checkpoint is not None and time.monotonic() - last_kept >= KEEP_SECONDS:
            tree = {
                "params": [group.params for group in groups], "waiting": waiting, "state": state,
                "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(), "history": history,
                "seconds": earlier + time.perf_counter() - clock,
            }  # fmt: skip
            checkpoints.keep(checkpoint, key, tree)
            last_kept = time.monotonic()
        if watch is not None:
            watch(iteration, settings.iterations, entry)
    final = gathered(groups)
    decoded = parameterization.decode(final)
    require(
        bool(decoded.isfinite().all()),
        f"the last step left values that are not finite; lower --learning-rate (now {settings.learning_rate:g})",
    )
    if beside is not None and beside.roles.known and row is None:
        row = _stretch(decoded, series, settings, beside)[0]
    mask = None if known.mask is None else known.mask.cpu()
    seconds = earlier + time.perf_counter() - clock + known.saved_seconds
    chosen = {**(since.chosen if since else {}), **parameterization.chosen, **objective.chosen(known, state)}
    return Outcome(final, decoded, started.cpu(), mask, history, seconds, chosen, known.sums, row)
