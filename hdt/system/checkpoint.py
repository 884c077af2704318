"""Checkpoints of a training: tensors and facts in one safetensors file, replaced in one move.

Everything that a training goes on from is a tree of dicts, lists, tuples, tensors and JSON values, an
optimiser's ``state_dict`` for one; :func:`pack` takes the tensors out of it and :func:`unpack` puts them back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hdt.system.errors import InputError
from hdt.system.folders import replacing


class Checkpoint(NamedTuple):
    """What a file holds: tensors by name, and JSON facts."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint, or leave the one in ``path`` as it was; raises :class:`InputError` when it cannot."""
    # Copies: safetensors takes neither strided tensors nor two that share memory.
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            save_file(copies, part, metadata={"facts": json.dumps(dict(facts))})
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot write the checkpoint ({reason}); choose another place for it") from error


def load(path: Path) -> Checkpoint | None:
    """The checkpoint in ``path``; None when there is none or it is damaged, so that the training starts over."""
    try:
        with safe_open(path, framework="pt") as stored:
            facts = json.loads(stored.metadata()["facts"])
            return Checkpoint({name: stored.get_tensor(name) for name in stored.keys()}, facts)  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def keep(path: Path, key: str, tree: Any) -> None:
    """Keep all that the training of that key goes on from (see :func:`pack`); raises :class:`InputError`."""
    tensors, packed = pack(tree, "training")
    save(path, tensors, {"key": key, "training": packed})


def kept(path: Path | None, key: str) -> Any:
    """What :func:`keep` wrote for the training of that key, on the CPU; None when there is nothing, or another's."""
    found = None if path is None else load(path)
    if found is None or found.facts.get("key") != key:
        return None
    return unpack(found.facts["training"], found.tensors)


def pack(tree: Any, name: str) -> tuple[dict[str, Tensor], Any]:
    """The tensors of a tree under names that begin with ``name``, and the rest of it as JSON.

    Inverse of :func:`unpack`, types of keys and containers included. Raises TypeError for values that JSON
    does not know.
    """
    tensors: dict[str, Tensor] = {}

    def walk(node: Any, path: str) -> Any:
        if isinstance(node, Tensor):
            tensors[path] = node
            return {"tensor": path}
        if isinstance(node, Mapping):
            return {"dict": [[key, walk(value, f"{path}.{key}")] for key, value in node.items()]}
        if isinstance(node, list | tuple):
            kind = "list" if isinstance(node, list) else "tuple"
            return {kind: [walk(value, f"{path}.{position}") for position, value in enumerate(node)]}
        if node is None or isinstance(node, bool | int | float | str):
            return node
        raise TypeError(f"{path}: a {type(node).__name__} cannot be kept in a checkpoint")

    return tensors, walk(tree, name)


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The tree that :func:`pack` took apart."""
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: unpack(value, tensors) for key, value in content}
    items = [unpack(value, tensors) for value in content]
    return items if kind == "list" else tuple(items)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of the global generators that a training on ``device`` draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Put the global generators where :func:`random_state` found them."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
