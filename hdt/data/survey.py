"""One pass over the training part, block by block: scaler, what was filled, constant channels, a fingerprint."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic wants it before Python 3.12

from hdt.data.missing import Filled, Hole
from hdt.data.scaler import Scaler, channel_blocks
from hdt.system.cluster import Mapped
from hdt.system.folders import replacing

Read = Callable[[slice], Filled]  # of some channels
KEEP_SECONDS = 10.0  # between two times that the pass over files is kept


class Survey(NamedTuple):
    """What the pass tells of every channel; ``notes`` say what was filled, then which channels are constant.

    ``missing`` is the share of missing values by column, of those that have any.
    """

    scaler: Scaler
    notes: list[str]
    sha256: str
    missing: dict[str, float]


class Block(TypedDict):
    """What a block of columns tells; ``sha256`` is of each column, so that it does not depend on the block."""

    mean: list[float]
    std: list[float]
    filled: list[str]
    missing: dict[str, float]
    constant: list[str]
    sha256: list[str]


def survey(
    columns: Sequence[str], read: Read, rows: int, file: Path | None = None, mapped: Mapped | None = None
) -> Survey:
    """The pass over all blocks of columns; kept in ``file``, from where an interrupted one goes on.

    ``mapped`` calls a function with numbers and yields what it returns, in their order, by other processes.
    """
    blocks = channel_blocks(len(columns), rows)
    found: list[Block] = []
    if file is not None:
        try:
            told = TypeAdapter(list[Block]).validate_json(file.read_bytes())
        except (OSError, ValueError):
            told = []
        fits = all(len(block["mean"]) == some.stop - some.start for block, some in zip(told, blocks, strict=False))
        found = told if fits and len(told) <= len(blocks) else []
    last_kept, begun = time.monotonic(), len(found)

    def one(n: int) -> Block:
        filled = read(blocks[n])
        return _block(columns[blocks[n]], filled.values, filled.holes)

    for told in (mapped or map)(one, range(begun, len(blocks))):
        found.append(told)
        last = len(found) == len(blocks)
        if file is not None and (last or time.monotonic() - last_kept >= KEEP_SECONDS):
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                with replacing(file) as part:
                    part.write_text(json.dumps(found), encoding="utf-8")
            except OSError:
                pass  # costs a second pass at most
            last_kept = time.monotonic()
    mean, std = (np.array([x for block in found for x in block[name]], np.float64) for name in ("mean", "std"))
    notes = [note for name in ("filled", "constant") for block in found for note in block[name]]
    missing = {column: share for block in found for column, share in block["missing"].items()}
    return Survey(Scaler(mean, std), notes, _joined([sha for block in found for sha in block["sha256"]]), missing)


def sha256(values: np.ndarray) -> str:
    """The fingerprint that :func:`survey` gives a table of these values [T, C]."""
    return _joined(_by_column(values))


def digest(facts: Any) -> str:
    """The sha256 of what JSON knows."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _by_column(values: np.ndarray) -> list[str]:
    return [hashlib.sha256(np.ascontiguousarray(own).data).hexdigest() for own in values.T]


def _joined(columns: Sequence[str]) -> str:
    return hashlib.sha256("".join(columns).encode()).hexdigest()


def _block(columns: Sequence[str], values: np.ndarray, holes: dict[str, Hole]) -> Block:
    flat = (values == values[-1]).sum(axis=0) == np.isfinite(values).sum(axis=0)
    constant = [column for column, same in zip(columns, flat, strict=True) if same]
    scaler = Scaler.fit(values)
    return {
        "mean": scaler.mean.tolist(),
        "std": scaler.std.tolist(),
        "filled": [hole.note for hole in holes.values()],
        "missing": {column: hole.share for column, hole in holes.items()},
        "constant": [f"column {c!r} is constant on the training part; kept, scaled to zero" for c in constant],
        "sha256": _by_column(values),
    }
