"""The table of methods: what parts and starts bring, each a parameterization, an objective, a start and a citation."""

from __future__ import annotations

from dataclasses import replace

from hdt.objective import OBJECTIVES
from hdt.parameterization import PARAMETERIZATIONS
from hdt.start import SUBSETS
from hdt.system.errors import require
from hdt.system.parts import Method, Named


def _found() -> dict[str, Method]:
    found: dict[str, Method] = {}
    for part in (*OBJECTIVES.values(), *PARAMETERIZATIONS.values()):
        for name, method in part.methods.items():
            require(name not in found, f"two parts declare the method {name!r}; uninstall one of their packages")
            found[name] = replace(method, citation=method.citation or part.citation)
    return {**dict(sorted(found.items())), **SUBSETS}  # real subsets last


METHODS = Named("method", _found)
AUTO, CHOICE = "auto", "fred-wiener"  # for whoever does not want to choose: measured in docs/results.md
AUTO_OPTIONS = {"individual": AUTO}  # and where every channel is kept


def named(method: str) -> str:
    """The name of a method; that of the one we would take for ``auto``."""
    return CHOICE if method == AUTO else method
