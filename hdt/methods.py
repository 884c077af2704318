"""The table of methods: a parameterization, an objective, a start and a citation each. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hdt.errors import InputError


@dataclass(frozen=True)
class Method:
    """A named pair with its defaults; ``options`` override the objective's own."""

    title: str
    parameterization: str
    objective: str
    start: str
    iterations: int
    learning_rate: float
    citation: str
    options: dict[str, Any] = field(default_factory=dict)


METHODS: dict[str, Method] = {
    "hdt": Method(
        title="Harmonic dataset distillation for time series forecasting",
        parameterization="harmonic",
        objective="harmonic",
        start="phase",
        iterations=400,
        learning_rate=0.02,
        citation="""@article{hong2026hdt,
  author  = {Hong, Seungha and Jang, Sanghwan and Kweon, Wonbin and Kim, Suyeon and Lee, Gyuseok and Yu, Hwanjo},
  title   = {Harmonic Dataset Distillation for Time Series Forecasting},
  journal = {arXiv preprint arXiv:2603.03760},
  year    = {2026},
  note    = {AAAI 2026}
}""",
    ),
}


def find(name: str) -> Method:
    """The method of that name, or a one-line error that lists them."""
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]
