"""The students by name."""

from __future__ import annotations

import torch

from hdt.students.contract import Student
from hdt.system.parts import Named, parts

STUDENTS: Named[type[Student]] = Named("student", lambda: parts("hdt.students", "hdt.students", Student))


def build(name: str, context: int, horizon: int, channels: int, seed: int) -> Student:
    """A freshly initialised student; equal seeds give equal weights, and the global RNG is left alone."""
    kind = STUDENTS[name]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return kind(context, horizon, channels)
