"""The table of methods: what parts and starts bring, each a parameterization, an objective, a start and a citation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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
MADE_FOR = 384  # steps that the weight of its noise term was chosen for


def named(method: str) -> str:
    """The name of a method; that of the one we would take for ``auto``."""
    return CHOICE if method == AUTO else method


def automatic(length: int, each: bool) -> dict[str, Any]:
    """The options of ``auto`` beside those of the method it takes, for so many steps.

    What W(S) leaves unexplained of synthetic horizons grows with them, and a weight against it that is made for few
    holds back longer series, so it falls as they grow (recipes/LOG.md, how many steps networks need). Where ``each`` of
    the real channels is kept, and they are not too many, the data say whether students of single ones are looked at.
    """
    noise = METHODS[CHOICE].options["noise"] * min(1.0, MADE_FOR / length)
    return {"noise": noise, **({"individual": AUTO} if each else {})}
