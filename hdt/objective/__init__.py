"""What is matched. An objective reads the real training series once and then scores synthetic series.

To add one: a file here with a subclass of :class:`Objective`, and its name in ``OBJECTIVES``.
"""

from __future__ import annotations

from hdt.objective.base import Objective, Problem, Unmatched
from hdt.objective.cfm import CFM
from hdt.objective.condtsf import CondTSF
from hdt.objective.dc import GradientCosine
from hdt.objective.gradient import GradientMatching
from hdt.objective.harmonic import HarmonicMatching
from hdt.objective.trajectory import TrajectoryMatching
from hdt.objective.wiener import Wiener

OBJECTIVES: dict[str, type[Objective]] = {
    "wiener": Wiener,
    "harmonic": HarmonicMatching,
    "gradient": GradientMatching,
    "dc": GradientCosine,
    "mtt": TrajectoryMatching,
    "condtsf": CondTSF,
    "cfm": CFM,
    "none": Unmatched,
}

__all__ = [
    "CFM",
    "OBJECTIVES",
    "CondTSF",
    "GradientCosine",
    "GradientMatching",
    "HarmonicMatching",
    "Objective",
    "Problem",
    "TrajectoryMatching",
    "Unmatched",
    "Wiener",
]
