"""What is matched. An objective reads the real training series once and then scores synthetic series.

To add one: a file here, or in a package with the entry point ``hdt.objectives``, with a subclass of
:class:`Objective` that has a ``name``.
"""

from __future__ import annotations

from hdt.objective.contract import Known, Objective, Problem, Scored, State, Sums
from hdt.system.parts import Named, parts

OBJECTIVES: Named[type[Objective]] = Named("objective", lambda: parts("hdt.objective", "hdt.objectives", Objective))

__all__ = ["OBJECTIVES", "Known", "Objective", "Problem", "Scored", "State", "Sums"]
