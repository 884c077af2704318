"""The forecasters that train on synthetic series and, as backbones, shape them.

Every student maps a context [B, L, C] to a forecast [B, H, C]. To add one: a file here with a subclass
of :class:`Student` that has a ``name``, or one in a package with the entry point ``hdt.students``.
"""

from __future__ import annotations

from hdt.students.contract import Student, Training, Ways
from hdt.students.dlinear import DLinear
from hdt.students.functional import backbone, flatten, forecast_error, forecast_gradient, unflatten
from hdt.students.itransformer import ITransformer
from hdt.students.table import STUDENTS, build, shuffles
from hdt.students.xpatch import XPatch

__all__ = [
    "STUDENTS",
    "DLinear",
    "ITransformer",
    "Student",
    "Training",
    "Ways",
    "XPatch",
    "backbone",
    "build",
    "flatten",
    "forecast_error",
    "forecast_gradient",
    "shuffles",
    "unflatten",
]
