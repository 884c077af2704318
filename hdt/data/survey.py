"""One pass over the training part, block by block: scaler, what was filled, constant channels, a fingerprint."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hdt.data.frames import in_range
from hdt.data.scaler import Scaler, channel_blocks
from hdt.system.folders import replacing

Read = Callable[[slice], tuple[np.ndarray, dict[str, str]]]  # values [T, g] of some channels, what was filled by column
KEEP_SECONDS = 10.0  # between two times that the pass over files is kept


class Survey(NamedTuple):
    """What the pass tells of every channel; ``notes`` say what was filled, then which channels are constant."""

    scaler: Scaler
    notes: list[str]
    sha256: str


def survey(columns: Sequence[str], read: Read, name: str, file: Path | None = None) -> Survey:
    """The pass over all blocks of columns; kept in ``file``, from where an interrupted one goes on."""
    blocks = channel_blocks(len(columns))
    found: list[dict[str, Any]] = []
    if file is not None:
        try:
            found = json.loads(file.read_bytes())[: len(blocks)]
        except (OSError, ValueError, TypeError):
            found = []
    last_kept, begun = time.monotonic(), len(found)
    for n in range(begun, len(blocks)):
        found.append(_block(columns[blocks[n]], *read(blocks[n]), name))
        last = n + 1 == len(blocks)
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
    return Survey(Scaler(mean, std), notes, hashlib.sha256("".join(b["sha256"] for b in found).encode()).hexdigest())


def _block(columns: Sequence[str], values: np.ndarray, filled: dict[str, str], name: str) -> dict[str, Any]:
    in_range(columns, values, name)
    flat = (values == values[-1]).sum(axis=0) == np.isfinite(values).sum(axis=0)
    constant = [column for column, same in zip(columns, flat, strict=True) if same]
    scaler = Scaler.fit(values)
    return {
        "mean": scaler.mean.tolist(),
        "std": scaler.std.tolist(),
        "filled": list(filled.values()),
        "constant": [f"column {c!r} is constant on the training part; kept, scaled to zero" for c in constant],
        "sha256": hashlib.sha256(np.ascontiguousarray(values).data).hexdigest(),
    }
