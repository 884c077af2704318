"""What is stored and learned. A parameterization maps named tensors to series and back.

To add one: a file here with a subclass of :class:`Parameterization`, and its name in ``PARAMETERIZATIONS``.
"""

from __future__ import annotations

from hdt.parameterization.base import Parameterization, Params
from hdt.parameterization.harmonic import Harmonic
from hdt.parameterization.raw import Raw

PARAMETERIZATIONS: dict[str, type[Parameterization]] = {"raw": Raw, "harmonic": Harmonic}

__all__ = ["PARAMETERIZATIONS", "Harmonic", "Parameterization", "Params", "Raw"]
