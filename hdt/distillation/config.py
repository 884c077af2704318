"""Settings of a distillation: the recipe a run writes and can be repeated from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from hdt.data import registry
from hdt.distillation.methods import AUTO, METHODS, automatic, named
from hdt.objective import OBJECTIVES
from hdt.parameterization import PARAMETERIZATIONS
from hdt.start import STARTS
from hdt.students import STUDENTS
from hdt.system.errors import InputError, require
from hdt.system.options import Options
from hdt.system.parts import Shape

Model = TypeVar("Model", bound=BaseModel)
DEFAULT_LENGTH, DEFAULT_CONTEXT, DEFAULT_HORIZON = 384, 96, 96
ALL = "all"  # synthetic channels: one for each real one
SEVERAL_CHANNELS, PROTOTYPES = 32, 8  # beyond so many channels, so many stand for all, where the objective pools them
MANY_CHANNELS, CHANNEL_BATCH = 64, 32  # beyond so many channels, an iteration works on a group of so many
DELTA = 1e-5  # of a private set
SHOWN = 80  # characters of a wrong value in an error


def _all_as_none(value: Any) -> Any:
    return None if value == ALL else value


def _none_as_all(value: int | None) -> int | str:
    return ALL if value is None else value


class Settings(Options):
    """Everything that determines a distillation besides the data; unknown keys are refused.

    ``channels`` None is written as ``all``, in recipes and run.json, where none means that a default is to be found.
    """

    method: str = "hdt"
    parameterization: str = Field(description="what is stored and learned")
    objective: str = Field(description="what is matched")
    backbone: str = Field(description="student whose gradients, trajectories or features are matched")
    start: str = Field(description="where the optimisation begins")
    length: int = Field(ge=2, description="M, synthetic steps")
    sequences: int = Field(1, ge=1, description="N, synthetic sequences")
    channels: Annotated[int | None, BeforeValidator(_all_as_none), PlainSerializer(_none_as_all)] = Field(
        None, ge=1, description="synthetic channels; all: as many as real ones"
    )
    channel_batch: int | None = Field(None, ge=1, description="channels per iteration; None: all")
    context: int = Field(ge=1, description="L, steps that a student sees")
    horizon: int = Field(ge=1, description="H, steps that a student forecasts")
    iterations: int = Field(ge=0, description="optimiser steps")
    learning_rate: float = Field(gt=0, description="of Adam at the start, cosine to zero")
    seed: int = Field(0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    epsilon: float | None = Field(None, gt=0, description="ε, for which the set is private; see the card")
    delta: float | None = Field(None, gt=0, lt=1, description="δ of this ε")
    options: dict[str, Any] = Field(
        default_factory=dict, description="hyperparameters of objective and parameterization"
    )

    @model_serializer(mode="wrap")
    def _without(self, every: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings that are not private say nothing of it, as before any were."""
        found: dict[str, Any] = every(self)
        return {name: value for name, value in found.items() if value is not None or name not in ("epsilon", "delta")}


def resolve(data: object, real_channels: int | None = None, /, **given: Any) -> Settings:
    """Complete settings: what is given, else the method's and the data set's defaults.

    A single channel is distilled to two sequences, others to one: with one, its constant level would be
    absorbed by a student's bias and teach nothing (recipes/LOG.md). Names that are not settings are
    hyperparameters of the objective or the parameterization, such as ``k`` and ``lam``; ``None`` means "not
    given". ``budget``, stored floats at most, sets length and channels. Of more than ``SEVERAL_CHANNELS`` real ones,
    ``PROTOTYPES`` stand for all where the objective pools them; ``channels="all"`` keeps each. Raises
    :class:`InputError` naming the first setting that is unknown or out of range.
    """
    given = {name: value for name, value in given.items() if value is not None}
    asked = given.get("method", "hdt")
    given["method"] = named(asked)
    method = METHODS[given["method"]]
    entry = registry.find(data) if isinstance(data, str) else None
    if real_channels is None and entry is not None:
        real_channels = entry.shape[1]
    defaults: dict[str, Any] = {
        "parameterization": method.parameterization,
        "objective": method.objective,
        "backbone": OBJECTIVES[given.get("objective", method.objective)].backbone,
        "start": method.start,
        "iterations": method.iterations,
        "learning_rate": method.learning_rate,
        "length": entry.length if entry else DEFAULT_LENGTH,
        "sequences": 1,
        "context": entry.context if entry else DEFAULT_CONTEXT,
        "horizon": entry.horizon if entry else DEFAULT_HORIZON,
    }
    budget, listed = given.pop("budget", None), given.pop("options", {})
    require(isinstance(listed, Mapping), f"options={listed!r}: expected names with their values")
    own = {name: value for name, value in given.items() if name in Settings.model_fields}
    require("epsilon" in own or "delta" not in own, "delta belongs to --epsilon; give both, or none")
    private = {"delta": DELTA} if "epsilon" in own else {}
    settings = validated(Settings, {**defaults, **private, **own})
    if real_channels is not None:
        settings = _sized(settings, budget, set(own), real_channels)
    hyper = {name: value for name, value in given.items() if name not in Settings.model_fields}
    elsewhere = settings.objective != method.objective
    inherited = {} if elsewhere else method.options
    few = real_channels is None or 1 < real_channels <= MANY_CHANNELS  # each has a student, whose moments take memory
    if asked == AUTO and not elsewhere:
        each = few and settings.channels is None and settings.epsilon is None
        inherited = {**inherited, **automatic(settings.length, each)}
    if settings.parameterization == method.parameterization:
        inherited = {**inherited, **method.parameterization_options}
    options = {**inherited, **listed, **hyper}
    size = settings.context + settings.horizon
    require(
        settings.length >= size,
        f"length M = {settings.length} is below context {settings.context} + horizon {settings.horizon} = {size}; "
        "raise --length or lower --context/--horizon",
    )
    complete = checked_options(settings, options)
    shape = Shape(settings.context, settings.horizon, settings.length, settings.channels is not None)
    for part in (OBJECTIVES[settings.objective], PARAMETERIZATIONS[settings.parameterization]):
        part.check(complete, shape)
    return settings.model_copy(update={"options": complete})


def _sized(settings: Settings, budget: int | None, fixed: set[str], real_channels: int) -> Settings:
    """Settings whose channels fit the data and, given a ``budget``, whose N·M·C numbers fit that.

    More than the usual length needs goes into a longer series; less than it needs costs channels where the
    objective pools them, then length. ``fixed`` names what the caller decided.
    """
    channels, sequences, length = settings.channels or real_channels, settings.sequences, settings.length
    pools = OBJECTIVES[settings.objective].pools_channels
    require(channels <= real_channels, f"channels={channels}, but the data has {real_channels}; lower --channels")
    if budget is not None:
        require(isinstance(budget, int) and budget >= 1, f"budget={budget}: expected a positive number of floats")
        require("length" not in fixed, "budget and length both decide how many steps; give one of them")
        if "channels" not in fixed and pools:
            channels = max(1, min(channels, budget // (sequences * length)))
    elif "channels" not in fixed and pools and channels > SEVERAL_CHANNELS:
        channels = PROTOTYPES
    if channels == 1 and "sequences" not in fixed:
        sequences = 2
    if budget is not None:
        length, size = budget // (sequences * channels), settings.context + settings.horizon
        require(
            length >= size,
            f"budget={budget} leaves {length} steps ({sequences} × {channels} channels), fewer than "
            f"context + horizon = {size}; give at least {sequences * channels * size}",
        )
    wanted: dict[str, int | None] = {"sequences": sequences, "length": length}
    wanted["channels"] = None if channels == real_channels else channels
    wanted["channel_batch"] = settings.channel_batch or (CHANNEL_BATCH if channels > MANY_CHANNELS else None)
    return settings.model_copy(update=wanted)


def checked_options(settings: Settings, options: dict[str, Any]) -> dict[str, Any]:
    """The hyperparameters of objective and parameterization, complete; also checks the names of the parts."""
    for what, name, known in (
        ("parameterization", settings.parameterization, PARAMETERIZATIONS),
        ("objective", settings.objective, OBJECTIVES),
        ("start", settings.start, STARTS),
        ("backbone", settings.backbone, STUDENTS),
    ):
        require(name in known, f"unknown {what} {name!r}; known: {', '.join(known)}")
    backbone = settings.backbone
    require(STUDENTS[backbone].by_gradient, f"backbone {backbone!r} has no gradients; choose a network, such as mlp")
    require(
        settings.channels is None or OBJECTIVES[settings.objective].pools_channels,
        f"objective {settings.objective!r} matches every channel with its own; leave --channels out, or choose another "
        "--method, such as wiener",
    )
    models = (OBJECTIVES[settings.objective].Options, PARAMETERIZATIONS[settings.parameterization].Options)
    fields = [field for model in models for field in model.model_fields]
    for option in options:
        require(
            option in fields,
            f"objective {settings.objective!r} with parameterization {settings.parameterization!r} has no setting "
            f"{option!r}; they have {', '.join(fields) or 'none'}",
        )
    complete: dict[str, Any] = {}
    for model in models:
        complete |= validated(model, model.own(options)).model_dump(exclude_none=True)
    return complete


def marked(settings: Settings, mark: dict[str, Any]) -> set[str]:
    """The hyperparameters of objective and parameterization with a mark of :mod:`hdt.system.options`."""
    kinds = (OBJECTIVES[settings.objective], PARAMETERIZATIONS[settings.parameterization])
    return {name for kind in kinds for name in kind.Options.marked(mark)}


def described(settings: Settings, chosen: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Every setting of a run as name, value and meaning; ``chosen`` are values that were read from the data."""
    models = (Settings, OBJECTIVES[settings.objective].Options, PARAMETERIZATIONS[settings.parameterization].Options)
    meanings = {name: field.description or "" for model in models for name, field in model.model_fields.items()}
    values = {**settings.model_dump(exclude={"options"}), **settings.options, **chosen}
    known = {name: value for name, value in values.items() if value is not None}
    return [(name, str(value), meanings.get(name, "")) for name, value in known.items()]


def validated(model: type[Model], values: dict[str, Any]) -> Model:
    """Pydantic validation with a one-line error."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{first['loc'][0]}={shortened(first['input'])}: {first['msg']}") from None


def shortened(value: object) -> str:
    """A value as an error shows it."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
