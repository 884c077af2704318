"""One identity for whatever is kept: facts, numbers, and the source of the code that computed them.

Every cache asks :func:`fingerprint` for its key, so an edit of what decides a number makes it computed again, and no
version has to be raised by hand. From the classes and modules that are named, imports are followed within hdt and
within the package of somebody else's part, but not into ``AROUND``: what is read there comes in as arrays and facts.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec, resolve_name
from typing import Any

import numpy as np
import torch
from torch import Tensor

AROUND = ("hdt.cli", "hdt.data", "hdt.run", "hdt.system")  # folders that decide no number of a training


def fingerprint(facts: Any, arrays: Iterable[Tensor | np.ndarray] = (), code: Iterable[type | str] = ()) -> str:
    """32 hexadecimal digits that differ when anything given does, or the version of torch or numpy.

    ``facts`` is what JSON knows; ``arrays`` count with type, shape and every byte; ``code`` holds classes and names of
    modules, whose source counts with that of all they import.
    """
    installed = [torch.__version__, np.__version__]
    digest = hashlib.sha256(json.dumps([facts, installed, _sources(code)], sort_keys=True).encode())
    for array in arrays:
        tensor = torch.as_tensor(array).detach().cpu().contiguous()
        digest.update(f"{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


@cache
def source(module: str) -> str:
    """The text of a module as it was when first asked for; empty where there is none to read."""
    spec = _spec(module)
    try:
        return spec.loader.get_source(module) or ""
    except (AttributeError, ImportError):  # no module, or one that was not read from a file
        return ""


def _sources(code: Iterable[type | str]) -> dict[str, str]:
    """Digests of the source of those modules and of all they import, by name, and of what classes call ``identity``."""
    code = list(code)
    ahead = [part if isinstance(part, str) else part.__module__ for part in code]
    found: dict[str, str] = {}
    while ahead:
        module = ahead.pop()
        if module not in found:
            text = source(module)
            found[module] = _digest(text)
            ahead += _followed(module, text)
    typed = {part.__name__: part.identity for part in code if isinstance(part, type) and hasattr(part, "identity")}
    return {**found, **{name: _digest(text) for name, text in typed.items()}}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@cache
def _followed(module: str, text: str) -> list[str]:
    """The modules that this one imports, anywhere in its text, as far as imports are followed."""
    own = (_top(module), "hdt")
    found = {_home(origin, name) for origin, name, _ in _imports(module, text) if _top(origin) in own}
    return [home for home in found if _top(home) in own and not home.startswith(AROUND)]


@cache
def _imports(module: str, text: str) -> list[tuple[str, str, str]]:
    """Module, name (empty: the module itself) and the name it gets here, of every import."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "", alias.asname or alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), getattr(_spec(module), "parent", None))
            found += [(origin, alias.name, alias.asname or alias.name) for alias in node.names]
    return found


def _home(origin: str, name: str, seen: tuple[str, ...] = ()) -> str:
    """The module that says what ``name`` of ``origin`` is: one that only hands it on does not count."""
    for further, original, bound in _imports(origin, source(origin)):
        if name and bound == name and further not in (origin, *seen):
            return _home(further, original, (origin, *seen))
    inner = f"{origin}.{name}"
    return inner if name and _spec(inner) is not None else origin


@cache
def _spec(module: str) -> Any:
    try:
        return find_spec(module)
    except (ImportError, ValueError):
        return None


def _top(module: str) -> str:
    return module.partition(".")[0]
