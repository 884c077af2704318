"""hdt: distil a long time series into a few hundred synthetic steps on which forecasters train as well."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hdt.api import distill, evaluate
    from hdt.benchmark import compare
    from hdt.datasets import load
    from hdt.distilled import Distilled
    from hdt.errors import InputError
    from hdt.tuning import Forecaster, finetune

__all__ = ["Distilled", "Forecaster", "InputError", "compare", "distill", "evaluate", "finetune", "load"]

_HOME = {
    "Distilled": "hdt.distilled",
    "Forecaster": "hdt.tuning.forecaster",
    "InputError": "hdt.errors",
    "compare": "hdt.benchmark",
    "distill": "hdt.api",
    "evaluate": "hdt.api",
    "finetune": "hdt.tuning",
    "load": "hdt.datasets",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that ``import hdt`` and ``hdt --help`` do not wait for torch and pandas.
    if name not in _HOME:
        raise AttributeError(f"module 'hdt' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
