"""The students by name."""

from __future__ import annotations

import torch

from hdt.students.base import Student
from hdt.students.dlinear import DLinear
from hdt.students.itransformer import ITransformer
from hdt.students.xpatch import XPatch
from hdt.system.errors import InputError

STUDENTS: dict[str, type[Student]] = {"dlinear": DLinear, "itransformer": ITransformer, "xpatch": XPatch}


def build(name: str, context: int, horizon: int, channels: int, seed: int) -> Student:
    """A freshly initialised student; equal seeds give equal weights, and the global RNG is left alone."""
    if name not in STUDENTS:
        raise InputError(f"unknown student {name!r}; known: {', '.join(STUDENTS)}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return STUDENTS[name](context, horizon, channels)
