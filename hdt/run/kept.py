"""What an update goes on from in place of the rows that a run has seen, and the file it is kept in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from hdt.data.series import Panel
from hdt.distillation.config import Settings
from hdt.objective import OBJECTIVES
from hdt.run.records import RunInfo, Strict, in_words
from hdt.system import checkpoint
from hdt.system.errors import InputError, require

if TYPE_CHECKING:
    from torch import Tensor

    from hdt.objective import Sums

SUM, TAIL, POWER = "sum", "tail", "power"  # names of tensors


class Facts(Strict):
    """What the file holds beside tensors; ``train_sha256`` is that of its run."""

    train_sha256: str
    stride: int = Field(ge=1)
    windows: int = Field(ge=1)
    features: str
    sub_series: int = Field(ge=1)


@dataclass(frozen=True)
class Kept:
    """The objective's sums; the last M rows [M, C], scaled, for windows that cross the border; and the mean PSD [F, C]
    over so many sub-series, of the channels that the bound is computed on."""

    sums: Sums
    tail: Tensor
    power: Tensor
    sub_series: int


def refusal(panel: Panel, settings: Settings) -> str | None:
    """Why a run of these data cannot be updated, and what to do; None where it can."""
    why = OBJECTIVES[settings.objective].fixed(settings.options)
    if panel.unequal:
        why = "its series differ in length"
    elif panel.stored:
        why = "its values stay in their files"
    elif panel.transform != "none":
        why = f"its table was transformed, {panel.transform}"
    elif panel.covariates is not None:
        why = "it has covariates"
    elif settings.epsilon is not None:
        why = "its sums would be those of a stand-in"
    return _sentence(panel.name, why)


def missing(info: RunInfo) -> str:
    """Why a run without a state cannot be updated, and what to do."""
    why = OBJECTIVES[info.settings.objective].fixed(info.settings.options)
    if info.data.shortest is not None:
        why = "its series differ in length"
    elif info.data.transform is not None:
        why = f"its table was transformed, {info.data.transform.kind}"
    elif info.data.covariates is not None:
        why = "it has covariates"
    elif info.privacy is not None:
        why = "it is private"
    name = info.data.name
    return _sentence(name, why) or f"{name}: this run kept no state; distil it again with --state (save(state=True))"


def _sentence(name: str, why: str | None) -> str | None:
    return why and f"{name}: no state for updates ({why}); distil old and new rows together"


def write(kept: Kept, info: RunInfo, file: Path) -> None:
    """Keep it; raises :class:`hdt.system.errors.InputError` when it cannot be written."""
    facts = Facts(
        train_sha256=info.data.train_sha256, stride=kept.sums.stride, windows=kept.sums.windows,
        features=kept.sums.features, sub_series=kept.sub_series,
    )  # fmt: skip
    tensors = {f"{SUM}{n}": tensor for n, tensor in enumerate(kept.sums.tensors)}
    checkpoint.save(file, {**tensors, TAIL: kept.tail, POWER: kept.power}, facts.model_dump())


def read(file: Path, info: RunInfo) -> Kept | None:
    """What :func:`write` kept beside that run; None where nothing is. Raises :class:`hdt.system.errors.InputError`."""
    from hdt.objective import Sums

    if not file.exists():
        return None
    again = "remove it, or distil again with --state"
    stored = checkpoint.load(file)
    if stored is None:
        raise InputError(f"{file}: the state cannot be read; {again}")
    try:
        facts = Facts.model_validate(stored.facts)
    except ValidationError as error:
        raise InputError(f"{file}: {in_words(error)}; {again}") from None
    require(facts.train_sha256 == info.data.train_sha256, f"{file}: the state is that of another run; {again}")
    tensors = dict(stored.tensors)
    tail, power = tensors.pop(TAIL, None), tensors.pop(POWER, None)
    names = [f"{SUM}{n}" for n in range(len(tensors))]
    whole = tail is not None and power is not None and set(names) == set(tensors)
    require(whole, f"{file}: tensors are missing; {again}")
    assert tail is not None and power is not None
    finite = all(bool(tensor.isfinite().all()) for tensor in (tail, power, *tensors.values()))
    shape = (info.settings.length, len(info.data.columns))
    fits = tuple(tail.shape) == shape and power.ndim == 2 and len(power) == shape[0] // 2 + 1
    require(finite and fits, f"{file}: the state does not fit run.json; {again}")
    sums = Sums([tensors[name] for name in names], facts.stride, facts.windows, facts.features)
    return Kept(sums, tail, power, facts.sub_series)
