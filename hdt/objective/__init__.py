"""What is matched. An objective reads the real training series once and then scores synthetic series.

To add one: a file here with a subclass of :class:`Objective`, and its name in ``OBJECTIVES``.
"""

from __future__ import annotations

from hdt.objective.base import Objective, Options, Problem
from hdt.objective.gradient import GradientMatching
from hdt.objective.harmonic import HarmonicMatching

OBJECTIVES: dict[str, type[Objective]] = {"gradient": GradientMatching, "harmonic": HarmonicMatching}

__all__ = ["OBJECTIVES", "GradientMatching", "HarmonicMatching", "Objective", "Options", "Problem"]
