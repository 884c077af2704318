"""Reading a run folder: each file by itself, then all of them against each other.

Whatever is damaged, edited or of another version ends in one line that names the file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from pydantic import ValidationError

from hdt.data.covariates import calendar_names
from hdt.distillation import config
from hdt.run.records import GIVEN, HISTORY, METRICS, PARAMS, RUN, SERIES, RunInfo, in_words
from hdt.system.errors import InputError, require

ROUNDED = 4  # units in the last place of float64, lost on the way to original units and back
CLOSE = 1e-4  # standard deviations between stored and decoded values: machines round differently
Content = TypeVar("Content")


def read_info(folder: Path) -> RunInfo:
    """``run.json`` of a folder, by itself; raises :class:`InputError` when it is missing or no run's."""
    file = folder / RUN
    require(file.is_file(), f"{folder}: {RUN} is missing, so this is not a complete run folder")
    return _read(file, lambda: RunInfo.model_validate_json(file.read_bytes()))


def read_settings(info: RunInfo, folder: Path) -> config.Settings:
    """The settings of ``run.json``, complete and within their ranges, as those of a distillation have to be."""
    try:
        return config.resolve(None, len(info.data.columns), **info.settings.model_dump())
    except InputError as error:
        raise InputError(f"{folder / RUN}: settings: {error}") from None


def read_history(folder: Path, iterations: int) -> list[dict[str, float]]:
    """``metrics.jsonl``: one entry per iteration, with the same terms in all of them."""
    file = folder / METRICS
    lines = _read(file, lambda: file.read_text(encoding="utf-8").splitlines())
    history = _read(file, lambda: HISTORY.validate_python([json.loads(line) for line in lines]))
    require(len(history) == iterations, f"{file}: {len(history)} entries for {iterations} iterations")
    for number, entry in enumerate(history, 1):
        require(entry.get("iteration") == number, f"{file}: line {number} is not that of iteration {number}")
        missing = [name for name in ("loss", *history[0]) if name not in entry]
        require(not missing, f"{file}: line {number} lacks {', '.join(missing)}")
    return history


def read_params(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of ``params.safetensors``; they are finite."""
    from safetensors.numpy import load

    file = folder / PARAMS
    params = _read(file, lambda: load(file.read_bytes()))
    require(all(np.isfinite(a).all() for a in params.values()), f"{file}: holds values that are not finite")
    return params


def read_given(params: dict[str, np.ndarray], info: RunInfo, folder: Path) -> np.ndarray | None:
    """The columns known ahead that are no calendar's, taken out of the ``params``; None where there are none."""
    own, given = info.data.covariates, params.pop(GIVEN, None)
    count = 0 if own is None else len(own.known) - len(calendar_names(own.calendar))
    expected = (info.settings.length, own.groups, count) if own is not None and own.first_stamp and count else None
    found = None if given is None else given.shape
    require(found == expected, f"{folder / PARAMS}: columns known ahead {found} do not fit {RUN}: {expected}")
    return given


def cells(frame: pd.DataFrame, info: RunInfo) -> int:
    """How many synthetic values a stored frame holds, covariates of the past among them."""
    numbers, own = frame.select_dtypes("float"), info.data.covariates
    if own is None:
        return numbers.size
    names = {*own.known, *own.static, *(f"{c}/{k}" for c in info.data.columns[: own.targets] for k in own.known)}
    numbers = numbers[[column for column in numbers.columns if str(column) not in names]]
    return numbers.size


def read_series(folder: Path) -> pd.DataFrame:
    """The frame of ``synthetic.parquet``."""
    file = folder / SERIES
    return _read(file, lambda: pd.read_parquet(io.BytesIO(file.read_bytes())))


def decode(params: Mapping[str, np.ndarray], info: RunInfo, cells: int, folder: Path) -> np.ndarray:
    """The series [N, M, C] of stored parameters, whose names and shapes are checked, as is their product ``cells``."""
    import torch

    from hdt.parameterization import Size, build

    settings = info.settings
    size = Size(settings.sequences, settings.length, settings.channels or len(info.data.columns))
    try:
        parameterization = build(settings.parameterization, size, {**settings.options, **info.chosen})
        shapes, count = parameterization.shapes(), parameterization.instances() * size.length * size.channels
    except (ValueError, KeyError, OverflowError) as error:
        raise InputError(f"{folder / RUN}: settings and chosen do not fit each other ({_reason(error)})") from None
    found = {name: array.shape for name, array in params.items()}
    file = folder / PARAMS
    require(found == shapes, f"{file}: arrays {found} do not fit {RUN}, which asks for {shapes}")
    require(cells == count, f"{folder / SERIES}: holds {cells} values where {RUN} describes {count}")
    try:
        return parameterization.decode({name: torch.from_numpy(array) for name, array in params.items()}).numpy()
    except (RuntimeError, IndexError, TypeError) as error:
        raise InputError(f"{file}: cannot be decoded ({_reason(error)})") from None


def check_series(found: pd.DataFrame, expected: pd.DataFrame, scale: pd.DataFrame, folder: Path) -> None:
    """Refuse a frame whose columns, stamps or values are not the expected ones; ``scale`` is one unit of each value."""
    file = folder / SERIES
    same = list(found.columns) == list(expected.columns) and found.shape == expected.shape
    require(same, f"{file}: columns or rows differ from what {RUN} describes")
    same = _equal(found.index, expected.index) and str(found.index.name) == str(expected.index.name)
    require(same, f"{file}: its stamps are not those that {RUN} describes")
    for position, (name, dtype) in enumerate(expected.dtypes.items()):
        one, other = found.iloc[:, position], expected.iloc[:, position]
        if not pd.api.types.is_float_dtype(dtype):
            require(_equal(one, other), f"{file}: column {name!r} is not what {RUN} describes")
            continue
        require(pd.api.types.is_float_dtype(one.dtype), f"{file}: column {name!r} holds no numbers")
        stored, wanted = one.to_numpy(np.float64, na_value=np.nan), other.to_numpy()
        with np.errstate(invalid="ignore"):
            away = (
                np.abs(stored - wanted)
                - CLOSE * np.abs(scale.iloc[:, position].to_numpy())
                - ROUNDED * np.spacing(np.abs(wanted))
            )
        require(bool((away <= 0).all()), f"{file}: column {name!r}: values differ from those of {PARAMS}")


def _equal(one: pd.Series | pd.Index, other: pd.Series | pd.Index) -> bool:
    try:
        return bool(np.all(np.asarray(one == pd.Index(other))))
    except (TypeError, ValueError):
        return False


def _read(file: Path, read: Callable[[], Content]) -> Content:
    """What ``read`` makes of a file; raises :class:`InputError` with its name and what is wrong."""
    try:
        return read()
    except ValidationError as error:
        raise InputError(f"{file}: {in_words(error)}") from None
    except Exception as error:  # damaged files make json, safetensors, pyarrow and pandas raise many kinds
        raise InputError(f"{file}: a file cannot be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return in_words(error)
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
