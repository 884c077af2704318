"""Parts: objectives, parameterizations and students, each one file that declares all there is to know of it.

A part is a class with a ``name``. Those of hdt are found in the modules of their package; those of other
distributions through the entry points ``hdt.objectives``, ``hdt.parameterizations`` and ``hdt.students``.
"""

from __future__ import annotations

import inspect
import pkgutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from matplotlib.figure import Figure

from hdt.system.errors import require
from hdt.system.options import Options

T = TypeVar("T")
History = Sequence[Mapping[str, float | int]]  # the terms of the loss, by iteration


@dataclass(frozen=True)
class Method:
    """A parameterization and an objective under one name, with defaults that differ from the parts' own.

    ``options`` hold while the objective is the method's own, ``parameterization_options`` while the parameterization
    is. ``citation`` is BibTeX; empty: that of the part which declares the method.
    """

    title: str
    parameterization: str
    objective: str
    start: str
    iterations: int
    learning_rate: float
    citation: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    parameterization_options: dict[str, Any] = field(default_factory=dict)


class Shape(NamedTuple):
    """What hyperparameters have to fit: context L, horizon H and length M, in steps; whether few channels stand for
    all."""

    context: int
    horizon: int
    length: int
    pooled: bool = False


class Part:
    """What objectives and parameterizations declare of themselves.

    ``name`` in settings, ``Options`` (hyperparameters with defaults, ranges and meanings), ``citation`` (BibTeX) and
    ``methods``, the named methods that it brings.
    """

    name: ClassVar[str]
    Options: ClassVar[type[Options]] = Options
    citation: ClassVar[str] = ""
    methods: ClassVar[Mapping[str, Method]] = {}

    @classmethod
    def check(cls, options: Mapping[str, Any], shape: Shape) -> None:
        """Raise :class:`hdt.system.errors.InputError` when its hyperparameters do not fit the window or the length."""

    @classmethod
    def picture(
        cls, options: Mapping[str, Any], params: Mapping[str, np.ndarray], history: History, length: int
    ) -> Figure | None:
        """What was learned, for the report, or None.

        ``options`` hold what was chosen from the data too, ``params`` the stored arrays, ``history`` the terms of
        the loss; ``length`` M, steps.
        """
        return None


class Named(Mapping[str, T]):
    """Things of one ``kind`` by name, found when first asked for; an unknown name is refused, and all are listed."""

    def __init__(self, kind: str, find: Callable[[], dict[str, T]]) -> None:
        self.kind, self.find = kind, find

    @cached_property
    def _found(self) -> dict[str, T]:
        return self.find()

    def __getitem__(self, name: str) -> T:
        require(name in self, f"unknown {self.kind} {name!r}; known: {', '.join(self)}")
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def parts(package: str, group: str, base: type) -> dict[str, Any]:
    """Subclasses of ``base`` by name: those in the modules of ``package``, and those that installed distributions offer
    under the entry point group ``group``.

    Somebody else's part that cannot be loaded is left out with a warning. Raises :class:`hdt.system.errors.InputError`
    for one that is no such class, or whose name is taken.
    """
    found = {}
    for _, module, _ in pkgutil.iter_modules(import_module(package).__path__, package + "."):
        for part in vars(import_module(module)).values():
            if _is_part(part, base) and part.__module__ == module:
                found[part.name] = part
    for point in entry_points(group=group):
        offer = f"{group}: {point.name} of {point.dist.name if point.dist else 'an unknown distribution'}"
        try:
            part = point.load()
        except Exception as error:  # a broken package of somebody else must not break hdt
            warnings.warn(f"{offer} is left out, it cannot be loaded ({error})", stacklevel=2)
            continue
        require(_is_part(part, base), f"{offer} is no {base.__name__} with a name of its own")
        require(part.name not in found, f"{offer}: the name {part.name!r} is taken; uninstall one of the two")
        found[part.name] = part
    return found


def _is_part(part: Any, base: type) -> bool:
    # Python 3.10 takes dict[str, int] for a class, but issubclass does not
    return inspect.isclass(part) and base in part.__mro__ and "name" in vars(part)
