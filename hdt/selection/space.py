"""Search spaces: students with the values that their settings may take, and configurations drawn from them.

A space maps students to parameters: training settings (the fields of :class:`hdt.students.Training`) and keyword
arguments of the student's constructor. A list holds choices, ``{"range": [low, high]}`` and ``{"log": [low, high]}``
(evenly over magnitudes) all numbers between, whole ones between whole ones; any other value is fixed, and what is left
out is the student's own. ``space.yaml`` beside this is the default space, and an example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from hdt.distillation.config import shortened, validated
from hdt.evaluation.protocol import Evaluator
from hdt.maths.windows import parted
from hdt.students import STUDENTS, Training, build
from hdt.system.errors import InputError, first_line, require
from hdt.system.options import LARGEST, LARGEST_WHOLE, Options
from hdt.system.yaml12 import read_yaml

TRAINING = [field.name for field in fields(Training)]
TAKEN = {"name", "seed", "rank", "trial", "status", "student"}  # by what builds a student and by the leaderboard
CHECKED = 2  # windows that every student forecasts before a search begins
EXPECTED = "expected a value, a list of choices, {range: [low, high]} or {log: [low, high]}"


class TrainingValues(Options):
    """What training settings may be."""

    lr: float = Field(1, gt=0)
    weight_decay: float = Field(0, ge=0)
    batch: int = Field(1, ge=1)
    epochs: int = Field(1, ge=1)
    patience: int = Field(1, ge=1)
    min_steps: int = Field(0, ge=0)
    shuffle_channels: bool = False


@dataclass(frozen=True)
class Choices:
    """One of several values."""

    choices: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, Any]:
        """The first and the last."""
        return self.choices[0], self.choices[-1]


@dataclass(frozen=True)
class Between:
    """Any number from ``low`` to ``high``; whole ones, where both are. ``log``: evenly over magnitudes."""

    low: int | float
    high: int | float
    log: bool

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Any, Any]:
        """Lowest and highest."""
        return self.low, self.high


Parameter = Choices | Between


@dataclass(frozen=True)
class Configuration:
    """A student and the values of its parameters."""

    student: str
    values: Mapping[str, Any]

    @property
    def training(self) -> Training:
        """How it is trained."""
        given = {name: value for name, value in self.values.items() if name in TRAINING}
        return replace(STUDENTS[self.student].training_settings, **given)

    @property
    def keywords(self) -> dict[str, Any]:
        """What its constructor is given."""
        return {name: value for name, value in self.values.items() if name not in TRAINING}

    @property
    def text(self) -> str:
        """The values in words."""
        shown = ((name, f"{v:.3g}" if isinstance(v, float) else str(v).lower()) for name, v in self.values.items())
        return ", ".join(f"{name} {value}" for name, value in shown)


@dataclass(frozen=True)
class Space:
    """Students, and of each its parameters."""

    students: Mapping[str, Mapping[str, Parameter]]
    place: str = "space"

    @classmethod
    def read(cls, file: str | Path | None) -> Space:
        """A space file, YAML or JSON; the default space without one. Raises :class:`InputError`."""
        if file is None:
            return cls.of(read_yaml((files("hdt.selection") / "space.yaml").read_text(encoding="utf-8"), "space.yaml"))
        path = Path(file)
        require(path.is_file(), f"{path}: no such search space; it is a YAML or JSON file")
        try:
            return cls.of(read_yaml(path.read_text(encoding="utf-8"), str(path)), str(path))
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not a text in UTF-8 ({error.reason})") from None

    @classmethod
    def of(cls, content: Any, place: str = "space") -> Space:
        """The space that a mapping describes, whose keys are names of students, or students."""
        named = isinstance(content, Mapping) and len(content) > 0
        require(named, f"{place}: expected students with their parameters, such as dlinear: {{lr: [0.001, 0.01]}}")
        found = {}
        for key, given in content.items():
            require(isinstance(key, str | type), f"{place}: {shortened(key)} is no name of a student")
            require(given is None or isinstance(given, Mapping), f"{place}: {key}: expected parameters by name")
            try:
                (student,) = STUDENTS.names([key])
                known = STUDENTS[student].keywords()
                training = TRAINING if STUDENTS[student].by_gradient else []
            except InputError as error:
                raise InputError(f"{place}: {error}") from None
            found[student] = {
                name: _parameter(name, value, training, known, f"{place}: {student}: ")
                for name, value in (given or {}).items()
            }
        return cls(found, place)

    def suggest(self, trial: Any) -> Configuration:
        """The configuration that a trial of Optuna is to try."""
        names = list(self.students)
        student = trial.suggest_categorical("student", names) if len(names) > 1 else names[0]
        values = {}
        for name, parameter in self.students[student].items():
            label = f"{student}.{name}"
            if isinstance(parameter, Between):
                suggest = trial.suggest_int if parameter.whole else trial.suggest_float
                values[name] = suggest(label, parameter.low, parameter.high, log=parameter.log)
            elif len(parameter.choices) == 1:
                values[name] = parameter.choices[0]
            else:
                values[name] = trial.suggest_categorical(label, parameter.choices)
        return Configuration(student, values)

    def draw(self, student: str, generator: np.random.Generator) -> Configuration:
        """A random configuration of a student."""
        return Configuration(student, {name: _drawn(p, generator) for name, p in self.students[student].items()})

    def facts(self) -> dict[str, Any]:
        """The space as JSON knows it, which equal spaces have in common."""
        return {s: {name: asdict(p) for name, p in own.items()} for s, own in self.students.items()}

    def check(self, evaluator: Evaluator, channels: int) -> None:
        """Build every student for so many channels, at both ends of its parameters, and let it forecast real windows.

        Raises :class:`hdt.system.errors.InputError` for one that cannot be built, or makes something else of them.
        """
        windows = parted(evaluator.val).values
        windows = windows if windows.ndim == 3 else windows[None]
        context = windows[:1, : evaluator.context].expand(CHECKED, -1, -1)
        size = evaluator.context, evaluator.horizon, channels
        expected = (CHECKED, evaluator.horizon, context.shape[2])
        for student, parameters in self.students.items():
            for end in (0, 1):
                corner = Configuration(student, {name: p.ends[end] for name, p in parameters.items()})
                try:
                    network = build(student, *size, 0, **corner.keywords).to(evaluator.device).eval()
                    if not network.by_gradient:  # nothing to forecast with before it is fitted
                        continue
                    with torch.no_grad():
                        found = tuple(network(context).shape)
                    require(found == expected, f"of a context {tuple(context.shape)} it made {found}, not {expected}")
                except MemoryError:
                    raise
                except Exception as error:  # whatever somebody else's network raises; InputError among them
                    raise InputError(f"{self.place}: {student} ({corner.text}): {first_line(error)}") from error


def _parameter(name: Any, value: Any, training: Sequence[str], known: frozenset[str] | None, place: str) -> Parameter:
    every = sorted({*training, *(known or ())} - TAKEN)
    require(isinstance(name, str), f"{place}{shortened(name)} is no name of a parameter")
    require(name not in TAKEN, f"{place}{name!r} is no parameter that can be searched; give it another name")
    require(known is None or name in every, f"{place}unknown parameter {name!r}; known: {', '.join(every)}")
    what = f"{place}{name}={shortened(value)}: "
    kind, listed = "choices", list(value) if isinstance(value, list | tuple) else [value]
    if isinstance(value, Mapping):
        kind, ends = next(iter(value.items()), ("", None))
        pair = isinstance(ends, list | tuple) and len(ends) == 2
        require(len(value) == 1 and kind in ("range", "log") and pair, what + EXPECTED)
        listed = list(ends)  # type: ignore[arg-type]
    require(len(listed) > 0 and all(map(_plain, listed)), what + EXPECTED)
    if name in TRAINING:
        try:
            listed = [getattr(validated(TrainingValues, {name: each}), name) for each in listed]
        except InputError as error:
            raise InputError(f"{place}{error}") from None
    if kind == "choices":
        return Choices(tuple(dict.fromkeys(listed)))
    low, high = listed
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in listed)
    require(numbers and low < high, f"{what}expected two numbers, the lower one first")
    require(kind == "range" or low > 0, f"{what}log takes positive numbers")
    return Between(low, high, kind == "log")


def _plain(value: Any) -> bool:
    if isinstance(value, int | float):  # NaN is not below anything
        return abs(value) <= (LARGEST_WHOLE if isinstance(value, int) else LARGEST)
    return isinstance(value, str)


def _drawn(parameter: Parameter, generator: np.random.Generator) -> Any:
    if isinstance(parameter, Choices):
        return parameter.choices[int(generator.integers(len(parameter.choices)))]
    low, high = parameter.ends
    if parameter.log:
        value = float(np.exp(generator.uniform(np.log(low), np.log(high))))
    elif parameter.whole:
        return int(generator.integers(low, high, endpoint=True))
    else:
        value = float(generator.uniform(low, high))
    return min(high, max(low, round(value))) if parameter.whole else value
