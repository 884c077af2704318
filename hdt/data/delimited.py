"""Tables of text: which separator, decimal mark and encoding a file has, and whether its first row names columns."""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path
from typing import Any

import pandas as pd

from hdt.system.errors import InputError, require

SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
SEPARATORS = ("\t", ";", ",", "|")  # a table of commas hardly holds as many tabs or semicolons in every row
SPELLED = {"tab": "\t", "\\t": "\t"}
CALLED = {"\t": "tabs", ";": "semicolons", "|": "bars"}
HEAD = 1 << 16  # bytes that are looked at
LINES = 50  # that a separator must cut alike
DECIMAL_COMMA, DECIMAL_POINT = re.compile(r"[+-]?\d*,\d+"), re.compile(r"[+-]?\d*\.\d+")
THOUSANDS = re.compile(r"[+-]?\d{1,3},\d{3}")
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?|nan", re.IGNORECASE)
STAMP = re.compile(r"\d{4}-\d{1,2}(-\d{1,2})?([T ].*)?|\d{1,4}[./-]\d{1,2}[./-]\d{1,4}([T ].*)?")


def is_text_table(path: Path) -> bool:
    """Whether a file is called like a table of text, packed or not."""
    return path.name.lower().removesuffix(".gz").endswith(SUFFIXES)


def read(
    path: Path, sep: str | None = None, decimal: str | None = None, time_column: str | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """The table of a text file and what was found out about it; ``sep`` and ``decimal`` are not guessed if given.

    Raises :class:`InputError` for a first row that holds data, or the same name twice, and pandas' own errors for what
    is no table.
    """
    encoding, lines = _head(path)
    sep = SPELLED.get(sep, sep) if sep is not None else None
    found = sep or _separator(lines)
    rows = _rows(lines, found)
    mark = decimal or _decimal(rows[1:], found)
    if rows:
        _check_names(path, rows[0], time_column)
    notices = []
    usual = "\t" if path.name.lower().removesuffix(".gz").endswith((".tsv", ".tab")) else ","
    if (sep is None and found != usual) or (decimal is None and mark != "."):
        marks = " and decimal commas" if mark == "," else ""
        notices.append(
            f"read with {CALLED.get(found, 'commas')} between columns{marks}; --sep and --decimal overrule it"
        )
    how: dict[str, Any] = {"sep": found, "decimal": mark, "low_memory": False}
    try:
        return pd.read_csv(path, encoding=encoding, **how), notices
    except UnicodeDecodeError:
        return pd.read_csv(path, encoding="latin-1", **how), notices


def check_options(sep: Any, decimal: Any) -> None:
    """Refuse separators and decimal marks that no table has."""
    mark = SPELLED.get(sep, sep) if isinstance(sep, str) else sep
    one = mark is None or (isinstance(mark, str) and len(mark) == 1 and not mark.isalnum() and mark not in '"\n\r.-+')
    require(one, f"--sep {sep}: expected one character such as ; or tab")
    require(decimal in (None, ".", ","), f"--decimal {decimal}: expected . or ,")
    require(sep is None or sep != decimal, f"--sep and --decimal are both {sep!r}; give different ones")


def _head(path: Path) -> tuple[str, list[str]]:
    """The encoding of a file, and its first lines (but for one that was cut)."""
    packed = path.name.lower().endswith(".gz")
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        content = stream.read(HEAD)
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    lines = content.decode(encoding, errors="replace").lstrip("\ufeff").splitlines()
    lines = lines[:-1] if len(content) == HEAD and len(lines) > 1 else lines
    return encoding, [line for line in lines if line.strip()]


def _rows(lines: list[str], sep: str) -> list[list[str]]:
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=sep)]
    except csv.Error:
        return []


def _separator(lines: list[str]) -> str:
    """The separator that cuts all first lines into as many cells, or else most often occurs in the first of them."""
    for sep in SEPARATORS:
        counts = {len(row) for row in _rows(lines[:LINES], sep)}
        if len(counts) == 1 and counts != {1}:
            return sep
    return max((",", "\t", ";", "|"), key=lines[0].count) if lines else ","


def _decimal(rows: list[list[str]], sep: str) -> str:
    cells = [cell for row in rows for cell in row]
    commas = [cell for cell in cells if DECIMAL_COMMA.fullmatch(cell)]
    # 1,234 may be a thousand in English: only semicolons tell that it is not.
    certain = sep == ";" or any(not THOUSANDS.fullmatch(cell) for cell in commas)
    return "," if commas and certain and not any(DECIMAL_POINT.fullmatch(cell) for cell in cells) else "."


def _check_names(path: Path, names: list[str], time_column: str | None) -> None:
    filled = [name for name in names if name]
    for name in filled:
        require(filled.count(name) == 1, f"{path}: column {name!r} appears twice in the header; rename one")
    stamps = [name for name in filled if STAMP.fullmatch(name)]
    numbers = [name for name in filled if NUMBER.fullmatch(name)]
    data = (stamps and numbers) or (len(numbers) == len(names) > 1 and time_column not in names)
    if data:
        shown = ", ".join(filled[:4]) + (", …" if len(filled) > 4 else "")
        raise InputError(
            f"{path}: the first row holds data ({shown}), not the names of columns; add a row of names above it, "
            "such as date and load"
        )
