"""hdt: distil a long time series into a few hundred synthetic steps on which forecasters train as well."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hdt.data.datasets import load
    from hdt.evaluation.compare import compare
    from hdt.evaluation.protocol import evaluate
    from hdt.run.distilled import Distilled
    from hdt.run.produce import distill
    from hdt.run.update import update
    from hdt.selection.search import search
    from hdt.students.wrapped import wrap
    from hdt.system.errors import InputError
    from hdt.tuning import Forecaster, finetune

__all__ = [
    "Distilled",
    "Forecaster",
    "InputError",
    "compare",
    "distill",
    "evaluate",
    "finetune",
    "load",
    "search",
    "update",
    "wrap",
]

_HOME = {
    "Distilled": "hdt.run.distilled",
    "Forecaster": "hdt.tuning.forecaster",
    "InputError": "hdt.system.errors",
    "compare": "hdt.evaluation.compare",
    "distill": "hdt.run.produce",
    "evaluate": "hdt.evaluation.protocol",
    "finetune": "hdt.tuning",
    "load": "hdt.data.datasets",
    "search": "hdt.selection.search",
    "update": "hdt.run.update",
    "wrap": "hdt.students.wrapped",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that ``import hdt`` and ``hdt --help`` do not wait for torch and pandas.
    if name not in _HOME:
        raise AttributeError(f"module 'hdt' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
