"""The forecasters that train on synthetic series and, as backbones, shape them.

Every student maps a context [B, L, C] to a forecast [B, H, C]. To add one: a file here with a subclass
of :class:`Student`, and its name in ``STUDENTS``.
"""

from __future__ import annotations

import torch

from hdt.errors import InputError
from hdt.students.base import Student, Training
from hdt.students.dlinear import DLinear

STUDENTS: dict[str, type[Student]] = {"dlinear": DLinear}

__all__ = ["STUDENTS", "DLinear", "Student", "Training", "build"]


def build(name: str, context: int, horizon: int, channels: int, seed: int) -> Student:
    """A freshly initialised student; equal seeds give equal weights, and the global RNG is left alone."""
    if name not in STUDENTS:
        raise InputError(f"unknown student {name!r}; known: {', '.join(STUDENTS)}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return STUDENTS[name](context, horizon, channels)
