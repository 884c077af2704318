"""A wide table in parquet files that is too large for memory: columns are read when asked for.

One file, or the files of a folder in name order, whose rows follow one another. pyarrow reads the columns of a block
from the row groups of every file; nothing else is held.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hdt.data.columns import ID_NAMES
from hdt.data.frames import UNNAMED
from hdt.data.stamps import TIME_NAMES
from hdt.system.cluster import Mapped
from hdt.system.errors import InputError, first_line, require

CHUNK_BYTES = 2800  # of memory, for every column of every row group
IN_MEMORY = 2**28  # bytes of values: larger tables stay in their files


class Stored:
    """Values [T, C] in parquet files, float32 where all columns are, else float64; NaN where missing or not finite.

    Raises :class:`hdt.system.errors.InputError`, naming the file, for one that is damaged, has other columns than the
    first, or is not what it was when it was opened.
    """

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self.name, self.paths = name, [path.absolute() for path in paths]
        self.states = [_state(path) for path in self.paths]
        schemas = [_schema(path, *state) for path, state in zip(self.paths, self.states, strict=True)]
        self.names = schemas[0].names
        for path, schema in zip(paths, schemas, strict=True):
            require(schema.names == self.names, f"{path}: columns differ from those of {paths[0].name}")
        self.kinds = [set(kind) for kind in zip(*(schema.types for schema in schemas), strict=True)]
        described = (schemas[0].pandas_metadata or {}).get("index_columns", [])
        self.index_columns = [column for column in described if isinstance(column, str)]
        self.rows = [self._metadata(n).num_rows for n in range(len(self.paths))]
        self.columns: list[str] = []
        self.watch: Callable[[int, int], None] | None = None  # told, of each reading, the last column and how many
        self.mapped: Mapped | None = None  # how blocks are shared among processes
        self.dtype: np.dtype[Any] = np.dtype(np.float64)

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
        groups = sum(self._metadata(n).num_row_groups for n in range(len(self.paths)))
        return CHUNK_BYTES * groups * len(self.names)

    @property
    def identity(self) -> list[Any]:
        """Paths, sizes and times of the files."""
        return [[str(path), *state] for path, state in zip(self.paths, self.states, strict=True)]

    def head(self, time_column: str | None) -> pd.DataFrame:
        """All rows of the stamps, of one value column, and of every column that may be something else.

        What is checked on it holds for the table; :meth:`keep` says afterwards which columns are values.
        """
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        require(not twice, f"{self.name}: column {twice[0] if twice else ''!r} appears twice; rename one")
        apart = {time_column, *self.index_columns}
        plain = [
            name for name in self.numbers
            if name not in apart and name.lower() not in TIME_NAMES and not UNNAMED.fullmatch(name)
        ]  # fmt: skip
        self.columns = plain[1:]
        left = set(self.columns)
        wanted = [name for name in self.names if name not in left]
        tables = [self._table(n, wanted).to_pandas() for n in range(len(self.paths))]
        return pd.concat(tables, ignore_index=isinstance(tables[0].index, pd.RangeIndex))

    def keep(self, checked: Collection[str]) -> None:
        """Take as values these columns of the head, and those that were not in it."""
        values = {*checked, *self.columns}
        self.columns = [name for name in self.names if name in values]
        narrow = {pa.float16(), pa.float32(), pa.null()}
        kinds = [kind for name, kind in zip(self.names, self.kinds, strict=True) if name in values]
        self.dtype = np.dtype(np.float32 if all(kind <= narrow for kind in kinds) else np.float64)

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
                    column = table.column(name)
                    empty = pa.types.is_null(column.type)
                    values = np.nan if empty else column.to_numpy()[low - first : high - first]
                    found[c, low - start : high - start] = values
            first += count
        found[~np.isfinite(found)] = np.nan
        if self.watch is not None:
            self.watch(channels[-1] + 1, len(self.columns))
        return found.T

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "watch": None, "mapped": None}

    def _metadata(self, n: int) -> pq.FileMetaData:
        return _metadata(self.paths[n], *self.states[n])

    def _table(self, n: int, names: Sequence[str]) -> pa.Table:
        path = self.paths[n]
        try:
            require(_state(path) == self.states[n], f"{path}: changed while it was read; run the command again")
            return _open(path, *self.states[n]).read(columns=list(names), use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: cannot be read any more ({first_line(error)}); what was read is kept") from error

    @property
    def numbers(self) -> list[str]:
        """The columns of numbers."""
        return [name for name, kinds in zip(self.names, self.kinds, strict=True) if all(map(_number, kinds))]


def stored(path: Path) -> Stored | None:
    """The table in a parquet file, or in those of a folder, when it is wide and too large to be held at once."""
    paths = sorted(path.glob("*.parquet")) if path.is_dir() else [path] * (path.suffix.lower() == ".parquet")
    if not paths or not path.exists():
        return None
    absolute = [one.absolute() for one in paths]
    rows = sum(_metadata(one, *_state(one)).num_rows for one in absolute)
    schema = _schema(absolute[0], *_state(absolute[0]))
    long = any(name in ID_NAMES for name in schema.names)
    small = rows * sum(map(_number, schema.types)) * 4 <= IN_MEMORY
    return None if long or small else Stored(paths, path.name)


def _number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)


def _of_file(read: Callable[[Path], Any], path: Path, size: int) -> Any:
    require(size > 0, f"{path}: the file is empty")
    try:
        return read(path)
    except PermissionError:
        raise InputError(f"{path}: not readable; check its permissions") from None
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable parquet table ({first_line(error)})") from error


@lru_cache(maxsize=1024)  # what describes a file: parsing it takes its time
def _metadata(path: Path, size: int, changed: int) -> pq.FileMetaData:
    return _of_file(pq.read_metadata, path, size)


@lru_cache(maxsize=64)  # files that stay open: with thousands of columns, opening one takes longer than reading a block
def _open(path: Path, size: int, changed: int) -> pq.ParquetFile:
    return pq.ParquetFile(path, metadata=_metadata(path, size, changed))


@lru_cache(maxsize=1024)
def _schema(path: Path, size: int, changed: int) -> pa.Schema:
    return _of_file(pq.read_schema, path, size)


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"{path}: vanished while it was read ({error.strerror}); what was read is kept") from None
    return found.st_size, found.st_mtime_ns
