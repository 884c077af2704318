"""The students by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.maths.roles import Roles
from hdt.students import wrapped
from hdt.students.contract import Student
from hdt.system.errors import require
from hdt.system.parts import Named, parts


class Students(Named[type[Student]]):
    """Those of hdt and of installed packages, and any network at ``package.module:Name``, imported when asked for."""

    @cached_property
    def _foreign(self) -> dict[str, type[Student]]:
        return {}

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str) and ":" in name and name not in self._foreign:
            self._foreign[name] = wrapped.load(name)
        return name in self._foreign or super().__contains__(name)

    def __getitem__(self, name: str) -> type[Student]:
        require(name in self, f"unknown student {name!r}; known: {', '.join(self)}, or package.module:Name")
        return self._foreign[name] if name in self._foreign else super().__getitem__(name)

    def names(self, students: Sequence[Any]) -> list[str]:
        """The names of students given by name or as classes, which are known by theirs from then on."""
        given: dict[str, Any] = {}
        for student in students:
            if isinstance(student, str):
                continue
            kind = isinstance(student, type) and issubclass(student, Student) and hasattr(student, "name")
            require(kind, f"{student!r} is neither the name of a student nor one; hdt.wrap(network, name) makes one")
            require(student.name not in self._found, f"student {student.name!r}: the name is taken; choose another")
            twice = given.setdefault(student.name, student) is not student
            require(not twice, f"two students are named {student.name!r}; give one of them another name")
            self._foreign[student.name] = student
        return [student if isinstance(student, str) else student.name for student in students]


STUDENTS = Students("student", lambda: parts("hdt.students", "hdt.students", Student))


def build(
    name: str, context: int, horizon: int, channels: int, seed: int, *, roles: Roles | None = None, **keywords: Any
) -> Student:
    """A freshly initialised student; equal seeds give equal weights, and the global RNG is left alone.

    ``keywords`` are those of its constructor (:meth:`Student.keywords`), ``roles`` those of the channels it will see.
    """
    kind = STUDENTS[name]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        student = kind(context, horizon, channels, **keywords)
        if roles is not None:
            student.take(roles)
        return student


def shuffles(name: str, series: Float[Tensor, "N M C"]) -> bool:
    """Whether shuffled channels of this series would be other training windows for that student."""
    return STUDENTS[name].mixes_channels and series.shape[-1] > 1
