"""Where the training, validation and test parts end."""

from __future__ import annotations

from collections.abc import Sequence

from hdt.system.errors import require

DEFAULT_SPLIT = (0.7, 0.1, 0.2)
ROUNDING = 1e-9  # of shares: 0.7 + 0.1 + 0.2 is not 1 in floats, nor is 0.29 * 100 29


def end_rows(split: Sequence[float] | Sequence[int] | None, rows: int, name: str) -> tuple[int, int, int]:
    """Of ``split``, three fractions or end rows, for so many rows; raises :class:`InputError` for any other."""
    split = split or DEFAULT_SPLIT
    require(len(split) == 3, f"split {tuple(split)}: expected three numbers (train, validation, test)")
    if all(float(s).is_integer() for s in split) and max(split) > 1:
        train, val, test = (int(s) for s in split)
        require(0 < train <= val <= test <= rows, f"{name}: borders {train}/{val}/{test} do not fit {rows} rows")
        return train, val, test
    ok = all(0 <= s <= 1 for s in split) and abs(sum(split) - 1) < ROUNDING and split[0] > 0
    require(ok, f"split {tuple(split)}: expected three fractions from 0 to 1 that sum to 1, the first positive")
    train, test = int(rows * split[0] + ROUNDING), int(rows * split[2] + ROUNDING)
    return train, rows - test, rows
