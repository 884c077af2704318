"""What is stored and learned. A parameterization maps named tensors to series and back.

To add one: a file here, or in a package with the entry point ``hdt.parameterizations``, with a subclass of
:class:`Parameterization` that has a ``name``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hdt.parameterization.contract import Parameterization, Params, Size
from hdt.system.parts import Named, parts

PARAMETERIZATIONS: Named[type[Parameterization]] = Named(
    "parameterization",
    lambda: parts("hdt.parameterization", "hdt.parameterizations", Parameterization),
)

__all__ = ["PARAMETERIZATIONS", "Parameterization", "Params", "Size", "build"]


def build(name: str, size: Size, options: Mapping[str, Any]) -> Parameterization:
    """The parameterization of that name; of ``options``, those that are its own count."""
    kind = PARAMETERIZATIONS[name]
    return kind(size, kind.Options.of(options))
