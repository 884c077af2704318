"""What is stored and learned. A parameterization maps named tensors to series and back.

To add one: a file here with a subclass of :class:`Parameterization`, and its name in ``PARAMETERIZATIONS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hdt.parameterization.base import Parameterization, Params, Size
from hdt.parameterization.fred import FreD
from hdt.parameterization.harmonic import Harmonic
from hdt.parameterization.nsd import NSD
from hdt.parameterization.raw import Raw

PARAMETERIZATIONS: dict[str, type[Parameterization]] = {"raw": Raw, "harmonic": Harmonic, "fred": FreD, "nsd": NSD}

__all__ = ["NSD", "PARAMETERIZATIONS", "FreD", "Harmonic", "Parameterization", "Params", "Raw", "Size", "build"]


def build(name: str, size: Size, options: Mapping[str, Any]) -> Parameterization:
    """The parameterization of that name; of ``options``, those that are its own count."""
    kind = PARAMETERIZATIONS[name]
    own = {key: value for key, value in options.items() if key in kind.Options.model_fields}
    return kind(size, kind.Options(**own))
