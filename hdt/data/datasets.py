"""Every way to turn what a user names into a :class:`Panel`.

A name is looked for in ``HDT_DATA_DIR``, in ``data/`` of a checkout and in the user cache, then
downloaded; whatever is found must match a known checksum. Paths and frames are read as they are.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pandas as pd

from hdt.data import delimited
from hdt.data.registry import REGISTRY, Dataset, Source, find
from hdt.data.roles import ROLES, names_of, with_roles
from hdt.data.series import Missing, Panel
from hdt.data.stored import stored
from hdt.system.errors import InputError, first_line, require
from hdt.system.machine import memory_mb

LOAD_DEFAULTS: dict[str, Any] = {
    "time_column": None, "id_column": None, "target_column": None, "sep": None, "decimal": None, "dayfirst": None,
    "freq": None, "resample": None, "missing": "auto", "split": None, "transform": "none",
    "known": None, "past": None, "static": None, "calendar": None,
}  # fmt: skip

# of Panel.from_frame, the rest is of read_frame
PANEL = ("split", "missing", "transform", "notices", "source", "load_options")
Read = TypeVar("Read")


class DownloadProgress(Protocol):
    """What pooch asks of a progress display; ``total`` is set before the first update."""

    total: int

    def update(self, amount: int) -> None: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...


def load(
    data: Any,
    *,
    time_column: str | None = None,
    id_column: str | None = None,
    target_column: str | None = None,
    sep: str | None = None,
    decimal: str | None = None,
    dayfirst: bool | None = None,
    freq: str | int | None = None,
    resample: str | int | None = None,
    split: Sequence[float] | Sequence[int] | None = None,
    missing: Missing = "auto",
    transform: str = "none",
    known: str | Sequence[str] | None = None,
    past: str | Sequence[str] | None = None,
    static: str | Sequence[str] | None = None,
    calendar: str | Sequence[str] | None = None,
    progress: DownloadProgress | None = None,
) -> Panel:
    """A registry name, a path, or a frame → Panel.

    Paths are those of text tables (``.csv``, ``.tsv``, ``.tab``, ``.txt``, also with ``.gz``), of ``.parquet``
    files, or of directories of these. Wide parquet tables of over 256 MiB stay in their files
    (:mod:`hdt.data.stored`). A frame may also be a Series or a table of polars or pyarrow.

    Frames are wide with a DatetimeIndex (or PeriodIndex, or a time column of stamps or whole numbers), or long
    with ``id_column``, time and ``target_column``; by default ``unique_id`` or ``item_id``, and ``y`` or
    ``target``. ``sep`` and ``decimal`` of text tables are found out unless given. ``dayfirst`` decides how
    01/02/2024 is read; without it a table in which no row tells is refused. ``freq``, a frequency of pandas or
    a number of rows, makes absent rows missing values. ``resample``, ``"15min"`` or ``"h:sum"``, aggregates irregular,
    repeated or unsorted rows to one step (:mod:`hdt.data.resample`). ``split`` is three fractions or three end rows; by
    default the registry's borders, else 70/10/20, or, where series of a long frame differ in length, the last windows
    of each. ``missing`` is ``auto`` (interpolate up to 5% of a column of a part, mask more), ``mask``, ``interpolate``
    or ``error``; masked cells are filled where a window needs them and never counted in an error
    (:mod:`hdt.data.missing`). ``transform`` is ``none``, ``difference``, ``detrend`` or ``seasonal``
    (:mod:`hdt.data.transform`), or ``auto``, of which a distillation or a comparison makes one of these.
    Columns named in ``known`` are known ahead, those in ``past`` are not, and ``static`` ones of a long table are
    constant in each series: none of them is a target (docs/tasks/covariates.md); ``calendar`` adds columns made from
    the stamps, ``hour``, ``weekday`` and ``year``. Raises :class:`hdt.system.errors.InputError` with the offending
    place.
    """
    _check(split, time_column=time_column, id_column=id_column, target_column=target_column)
    given: dict[str, Any] = {
        "time_column": time_column, "id_column": id_column, "target_column": target_column, "sep": sep,
        "decimal": decimal, "dayfirst": dayfirst, "freq": freq, "resample": resample,
        "missing": missing, "split": None if split is None else list(split), "transform": transform,
    }  # fmt: skip
    delimited.check_options(sep, decimal)
    require(dayfirst in (None, True, False), f"dayfirst={dayfirst!r}: expected true or false")
    options = {name: value for name, value in given.items() if value is not None and value != LOAD_DEFAULTS[name]}
    wanted = zip(ROLES, (known, past, static, calendar), strict=True)
    roles = {role: names_of(role, names) for role, names in wanted if names}
    reading = {name: value for name, value in options.items() if name not in ("sep", "decimal")}
    options |= roles
    if not isinstance(data, str | Path):
        return _panel(data, "frame", roles, load_options=options, **reading)
    name = str(data)
    require("://" not in name, f"{name}: addresses are not read; download the file and give its path")
    entry, path = find(name), Path(data)
    if entry is not None:
        frame, notices = _registry_frame(entry, progress)
        name = source = entry.name
        reading = {**({"split": entry.borders} if entry.borders else {}), **reading}
    elif not path.exists() and path.suffix == "" and len(path.parts) == 1:
        raise InputError(f"unknown data set {name!r}; known: {', '.join(REGISTRY)}; or give a .csv or .parquet path")
    else:
        files = None if {"id_column", "target_column", *roles} & options.keys() else stored(path)
        if files is not None and not {"freq", "resample", "transform"} & reading.keys():
            return Panel.from_files(files, source=name, load_options=options, **reading)
        have, need = memory_mb(), 0 if files is None else 3 * 8 * len(files) * len(files.numbers) / 2**20
        require(
            have is None or need <= have,
            f"{name}: --freq, --resample and --transform need all of its values at once, about {need:,.0f} MB, and the "
            f"machine has {have or 0:,.0f}; give it in parts, or with one step",
        )
        frame, notices = read_table(path, sep, decimal, time_column)
        name, source = path.name, name
    return _panel(frame, name, roles, notices=notices, source=source, load_options=options, **reading)


def _panel(frame: Any, name: str, roles: dict[str, list[str]], **given: Any) -> Panel:
    """The panel of a frame, with columns in their roles, if there are any."""
    if not roles:
        return Panel.from_frame(frame, name=name, **given)
    alike = given.get("transform", "none") == "none"
    require(alike, f"{name}: --transform is for tables without covariates; leave one of the two out")
    how = {key: value for key, value in given.items() if key not in PANEL}
    return with_roles(frame, name, lambda table: Panel.from_frame(table, name=name, **given), roles, **how)


def _check(split: Any, **columns: Any) -> None:
    """Refuse loading options of another kind than they are, as a recipe may hold them."""
    for option, column in columns.items():
        named = column is None or (isinstance(column, str | int) and not isinstance(column, bool))
        require(named, f"{option}={column!r}: expected the name of a column")
    parts = list(split) if isinstance(split, Iterable) and not isinstance(split, str) else [split]
    numeric = all(isinstance(part, Real) and not isinstance(part, bool) for part in parts)
    require(
        split is None or (numeric and len(parts) == 3), f"split={split!r}: expected three numbers such as 0.7, 0.1, 0.2"
    )


def read_table(
    path: Path, sep: str | None = None, decimal: str | None = None, time_column: str | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Read a text table or ``.parquet`` file, or a directory of parquet files in name order; and notices."""
    require(path.exists(), f"{path}: no such file or directory")
    if path.is_dir():
        parts = sorted(path.glob("*.parquet"))
        require(len(parts) > 0, f"{path}: no .parquet files in this directory")
        tables = [_read(part, pd.read_parquet) for part in parts]
        for part, table in zip(parts, tables, strict=True):
            same = list(table.columns) == list(tables[0].columns)
            require(same, f"{part}: columns differ from those of {parts[0].name}")
        keep_index = isinstance(tables[0].index, pd.DatetimeIndex)
        return pd.concat(tables, ignore_index=not keep_index), []
    if path.suffix.lower() == ".parquet":
        return _read(path, pd.read_parquet), []
    if delimited.is_text_table(path):
        return _read(path, lambda p: delimited.read(p, sep, decimal, time_column))
    raise InputError(
        f"{path}: expected {', '.join(delimited.SUFFIXES)}, .parquet or a directory of parquet files, "
        f"not {path.suffix or 'this'!r}"
    )


def _read(path: Path, reader: Callable[[Path], Read]) -> Read:
    require(path.stat().st_size > 0, f"{path}: the file is empty")
    try:
        return reader(path)
    except InputError:
        raise
    except PermissionError:
        raise InputError(f"{path}: not readable; check its permissions") from None
    except Exception as error:  # pandas and pyarrow raise many kinds for a file that is not a table
        raise InputError(f"{path}: not a readable {path.suffix[1:]} table ({first_line(error)})") from error


def _registry_frame(entry: Dataset, progress: DownloadProgress | None) -> tuple[pd.DataFrame, list[str]]:
    if entry.name == "co2":
        from statsmodels.datasets import co2

        return co2.load_pandas().data, []
    path, source = locate(entry) or fetch(entry, progress)
    if source.series_in_rows:
        rows = pd.read_csv(path, index_col=0).rename_axis("unique_id")
        require(rows.shape == (entry.shape[1], entry.shape[0]), f"{path}: {rows.shape} cells, expected {entry.shape}")
        long = rows.set_axis(range(rows.shape[1]), axis=1).stack().dropna().reset_index()
        return long.set_axis(["unique_id", "ds", "y"], axis=1), []
    if source.headerless:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            frame = pd.read_csv(stream, header=None)
        frame.columns = [str(c) for c in frame.columns]
        frame.index = pd.date_range(entry.start, periods=len(frame), freq=pd.Timedelta(entry.step))
        return frame, [f"{path.name} has no stamps; they were rebuilt from {entry.start}, step {entry.step}"]
    frame, _ = read_table(path)
    time = frame.columns[0]
    frame.index = pd.DatetimeIndex(pd.to_datetime(frame.pop(time)), name=time)
    require(frame.shape == entry.shape, f"{path}: {frame.shape} cells, expected {entry.shape}")
    notices = []
    if entry.sentinel is not None:
        count = int((frame == entry.sentinel).to_numpy().sum())
        frame = frame.mask(frame == entry.sentinel)
        notices.append(f"{count} cells of {entry.sentinel:g} are missing values")
    if entry.rebuild_index:
        frame.index = pd.date_range(entry.start, periods=len(frame), freq=pd.Timedelta(entry.step), name=time)
        notices.append("stamps rebuilt from the first row: the source repeats one and skips some")
    return frame, notices


def download_folders() -> list[Path]:
    """Where downloads may land: ``data/`` of a checkout, then the user cache."""
    import pooch

    checkout = Path(__file__).resolve().parents[2]
    local = [checkout / "data"] if (checkout / "pyproject.toml").exists() else []
    return [*local, Path(pooch.os_cache("hdt"))]


def search_path() -> list[Path]:
    """Where data files are looked for, in order."""
    own = [Path(os.environ["HDT_DATA_DIR"])] if os.environ.get("HDT_DATA_DIR") else []
    return [*own, *download_folders()]


def locate(entry: Dataset, check: bool = True) -> tuple[Path, Source] | None:
    """The first local copy of a data set, flat or one folder down; ``check`` verifies its checksum."""
    for folder in search_path():
        for source in entry.sources:
            for path in (folder / source.filename, *sorted(folder.glob(f"*/{source.filename}"))):
                if path.is_file():
                    if check:
                        verify(path, source)
                    return path, source
    return None


def checksums(content: bytes) -> tuple[str, str]:
    """``sha256:…`` and ``git:…`` (the blob id) of a file's bytes, as the registry writes them."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return f"sha256:{hashlib.sha256(content).hexdigest()}", f"git:{blob.hexdigest()}"


def verify(path: Path, source: Source) -> None:
    """Raise when a file matches none of the source's checksums."""
    found = checksums(path.read_bytes())
    require(
        bool(set(found) & set(source.checksums)),
        f"{path}: checksum mismatch ({found[0][:23]}…, expected {source.checksums[0][:23]}…); "
        "delete the file to download it again, or pass its path to use it as it is",
    )


def fetch(entry: Dataset, progress: DownloadProgress | None = None) -> tuple[Path, Source]:
    """Download a data set into the checkout's ``data/`` or the user cache; verified, then moved into place."""
    import pooch

    folder = next((f for f in download_folders() if os.access(f, os.W_OK)), download_folders()[-1])
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for source in entry.sources:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
            part = Path(scratch) / source.filename
            try:
                pooch.HTTPDownloader(progressbar=progress or False, timeout=30)(source.url, str(part), None)
            except Exception as error:  # requests raises many kinds when there is no network
                failures.append(f"{source.url.split('/')[2]}: {type(error).__name__}")
                continue
            verify(part, source)
            target = folder / source.filename
            os.replace(part, target)
            return target, source
    names = " or ".join(source.filename for source in entry.sources)
    raise InputError(
        f"cannot download {entry.name} ({'; '.join(failures)}); "
        f"connect to the network, or put {names} in a folder and set HDT_DATA_DIR to it"
    )
