"""A wide table in parquet files that is too large for memory: columns are read when asked for.

One file, or the files of a folder in name order, whose rows follow one another. pyarrow reads the columns of a block
from the row groups of every file; nothing else is held.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hdt.data.columns import ID_NAMES
from hdt.data.stamps import TIME_NAMES
from hdt.data.survey import Mapped
from hdt.system.errors import InputError, first_line, require

CHUNK_BYTES = 2800  # of memory, for every column of every row group
IN_MEMORY = 2**28  # bytes of values: larger tables stay in their files


class Stored:
    """Values [T, C] in parquet files, float32 where all columns are, else float64; NaN where missing or not finite.

    Raises :class:`hdt.system.errors.InputError`, naming the file, for one that is damaged, has other columns than the
    first, or is not what it was when it was opened.
    """

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self.name, self.paths = name, list(paths)
        self.states = [_state(path) for path in paths]
        self.files = [_opened(path, *state) for path, state in zip(self.paths, self.states, strict=True)]
        self.names = self.files[0].schema_arrow.names
        for path, file in zip(paths, self.files, strict=True):
            same = file.schema_arrow.names == self.names
            require(same, f"{path}: columns differ from those of {paths[0].name}")
        kinds = zip(*(file.schema_arrow.types for file in self.files), strict=True)
        self.kinds = [set(kind) for kind in kinds]
        self.rows = [file.metadata.num_rows for file in self.files]
        self.columns: list[str] = []
        self.watch: Callable[[int, int], None] | None = None  # told, of each reading, the last column and how many
        self.mapped: Mapped | None = None  # how blocks are shared among processes
        self.dtype: np.dtype[Any] = np.dtype(np.float64)

    @property
    def wide(self) -> bool:
        """Whether there is no column of series, which would make it long."""
        return not any(name in ID_NAMES for name in self.names)

    @property
    def shape(self) -> tuple[int, int]:
        """T and C."""
        return sum(self.rows), len(self.columns)

    def __len__(self) -> int:
        return sum(self.rows)

    @property
    def nbytes(self) -> int:
        """What the values would take in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def footers(self) -> int:
        """What the descriptions of the files take in memory, roughly."""
        return CHUNK_BYTES * sum(file.metadata.num_row_groups for file in self.files) * len(self.names)

    @property
    def identity(self) -> list[Any]:
        """Names, sizes and times of the files."""
        return [[path.name, *state] for path, state in zip(self.paths, self.states, strict=True)]

    def head(self, time_column: str | None) -> pd.DataFrame:
        """All rows of the stamps and of one value column, and of every column that is neither number nor stamp.

        What is checked on it holds for the table; all value columns become :attr:`columns`.
        """
        metadata = self.files[0].schema_arrow.pandas_metadata or {}
        apart = {time_column, *(name for name in metadata.get("index_columns", []) if isinstance(name, str))}
        self.columns = [name for name in self.numbers if name not in apart and name.lower() not in TIME_NAMES]
        require(len(self.columns) > 0, f"{self.name}: no value columns beside the timestamps")
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        require(not twice, f"{self.name}: column {twice[0] if twice else ''!r} appears twice; rename one")
        values, narrow = set(self.columns), {pa.float16(), pa.float32()}
        kinds = [kind for name, kind in zip(self.names, self.kinds, strict=True) if name in values]
        self.dtype = np.dtype(np.float32 if all(kind <= narrow for kind in kinds) else np.float64)
        others = set(self.columns[1:])
        wanted = [name for name in self.names if name not in others]
        return pa.concat_tables([self._table(n, wanted) for n in range(len(self.files))]).to_pandas()

    def read(self, rows: slice, channels: Sequence[int]) -> np.ndarray:
        """The values [rows, g] of some channels."""
        start, stop, _ = rows.indices(len(self))
        names = [self.columns[c] for c in channels]
        found = np.empty((len(names), max(0, stop - start)), self.dtype)
        first = 0
        for n, count in enumerate(self.rows):
            low, high = max(start, first), min(stop, first + count)
            if low < high:
                table = self._table(n, names)
                for c, name in enumerate(names):
                    values = table.column(name).to_numpy()[low - first : high - first]
                    found[c, low - start : high - start] = values
            first += count
        found[~np.isfinite(found)] = np.nan
        if self.watch is not None:
            self.watch(channels[-1] + 1, len(self.columns))
        return found.T

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "files": [], "watch": None, "mapped": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.files = [_opened(path, *known) for path, known in zip(self.paths, self.states, strict=True)]

    def _table(self, n: int, names: Sequence[str]) -> pa.Table:
        path = self.paths[n]
        try:
            require(_state(path) == self.states[n], f"{path}: changed while it was read; run the command again")
            return self.files[n].read(columns=list(names), use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: cannot be read any more ({first_line(error)}); what was read is kept") from error

    @property
    def numbers(self) -> list[str]:
        """The columns of numbers."""
        number = [all(pa.types.is_floating(k) or pa.types.is_integer(k) for k in kind) for kind in self.kinds]
        return [name for name, kept in zip(self.names, number, strict=True) if kept]


def stored(path: Path) -> Stored | None:
    """The table in a parquet file, or in those of a folder, when it is wide and too large to be held at once."""
    paths = sorted(path.glob("*.parquet")) if path.is_dir() else [path] * (path.suffix.lower() == ".parquet")
    if not paths or not path.exists():
        return None
    found = Stored(paths, path.name)
    return found if found.wide and len(found) * len(found.numbers) * 4 > IN_MEMORY else None


@lru_cache(maxsize=1024)  # a process of Ray gets the table again with every task
def _opened(path: Path, size: int, changed: int) -> pq.ParquetFile:
    require(size > 0, f"{path}: the file is empty")
    try:
        return pq.ParquetFile(path)
    except PermissionError:
        raise InputError(f"{path}: not readable; check its permissions") from None
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable parquet table ({first_line(error)})") from error


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"{path}: vanished while it was read ({error.strerror}); what was read is kept") from None
    return found.st_size, found.st_mtime_ns
