"""Missing cells of one part: filled where that is allowed, else refused by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hdt.system.errors import require

LIMIT = 0.05  # of a column: more is not filled unless asked for


def fill(
    values: np.ndarray, starts: np.ndarray | None, columns: Sequence[str], first: int, part: str, policy: str, name: str
) -> tuple[np.ndarray, dict[str, str]]:
    """Values [T, g] of some columns of a part that begins at row ``first``, holes interpolated; what was filled, by
    column.

    Rows before a series begins, at row ``starts`` [g], stay NaN. ``policy`` is ``missing`` of :func:`hdt.load`. Raises
    :class:`hdt.system.errors.InputError` naming the column and row.
    """
    before = np.zeros((1, 1), bool) if starts is None else np.arange(len(values))[:, None] + first < starts
    holes = np.isnan(values) & ~before
    if not holes.any():
        return values, {}
    notes = {}
    for c, share in enumerate(holes.sum(axis=0) / np.maximum(1, len(values) - before.sum(axis=0))):
        if share == 0:
            continue
        column, row = columns[c], first + int(holes[:, c].argmax())
        what = f"{name}: column {column!r} misses {share:.1%} of its {part} values (first at row {row})"
        require(share < 1, f"{what}; drop the column, or choose another --split")
        require(policy != "error", f"{what}; fill them, or pass --missing interpolate")
        require(
            share <= LIMIT or policy == "interpolate",
            f"{what}, more than {LIMIT:.0%}; fill them, or pass --missing interpolate",
        )
        count = int(holes[:, c].sum())
        notes[column] = f"column {column!r}: {count} missing {part} values ({share:.1%}) linearly interpolated"
    filled = pd.DataFrame(values).interpolate("linear", limit_direction="both").to_numpy()
    return filled if starts is None else np.where(before, np.nan, filled), notes
