"""The files of a forecaster folder: forecaster.json, and the weights as safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, ValidationError, field_validator, model_validator

from hdt.data.columns import listed
from hdt.data.frames import parse_step
from hdt.data.series import Scaler
from hdt.run.records import Strict, in_words
from hdt.system.errors import InputError, require

if TYPE_CHECKING:
    from torch import nn

RECORD = "forecaster.json"
WEIGHTS = "weights.safetensors"
EPOCH = pd.Timestamp(0)


class ScalerRecord(Strict, allow_inf_nan=False):
    """The z-score of every column: ``(x - mean) / std``."""

    mean: list[float]
    std: list[float]

    @classmethod
    def of(cls, scaler: Scaler) -> ScalerRecord:
        return cls(mean=scaler.mean.tolist(), std=scaler.std.tolist())

    def scaler(self) -> Scaler:
        return Scaler(np.array(self.mean), np.array(self.std))


class ForecasterRecord(Strict):
    """``forecaster.json``. ``scaler`` is null for models that scale by themselves.

    ``channels`` counts those of the series it was tuned on, and is null when they are ``columns``; ``step`` is its
    time step, as in run.json, and null when unknown; ``training`` holds facts of the training.
    """

    schema_version: Literal[1] = 1
    model: str
    context: int = Field(ge=1)
    horizon: int = Field(ge=1)
    columns: list[str] = Field(min_length=1)
    scaler: ScalerRecord | None = None
    channels: int | None = Field(default=None, ge=1)
    step: str | None = None
    training: dict[str, Any] = Field(default_factory=dict)

    @field_validator("step")
    @classmethod
    def _a_step(cls, step: str | None) -> str | None:
        if step is not None:
            try:
                known = parse_step(step)
                forward = known > 0 if isinstance(known, int) else EPOCH + known > EPOCH
            except ValueError:
                raise ValueError(f"{step!r} is no ISO duration and no pandas frequency") from None
            if not forward:
                raise ValueError(f"{step!r} does not lead forward in time")
        return step

    @model_validator(mode="after")
    def _fits(self) -> ForecasterRecord:
        if self.scaler is not None:
            count = len(self.columns)
            if not len(self.scaler.mean) == len(self.scaler.std) == count:
                raise ValueError(f"the scaler does not have one mean and one std for each of {count} columns")
            if min(self.scaler.std) <= 0:
                raise ValueError("the scaler holds a std that is not positive")
        return self


def read_record(folder: Path) -> ForecasterRecord:
    """``forecaster.json`` of a folder; raises :class:`InputError` when it is missing or damaged."""
    require(folder.is_dir(), f"{folder}: no such forecaster folder; make one with 'hdt finetune RUN --out {folder}'")
    file = folder / RECORD
    require(file.is_file(), f"{folder}: {RECORD} is missing, so this is not a forecaster folder")
    try:
        return ForecasterRecord.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise InputError(f"{file}: {in_words(error)}") from None


def write_weights(network: nn.Module, folder: Path) -> None:
    """All weights of a network as ``weights.safetensors``."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save(tensors))  # its own save_file leaves mode 600


def read_weights(network: nn.Module, folder: Path) -> None:
    """Fill a network from ``weights.safetensors``; names, shapes and finiteness are checked."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = folder / WEIGHTS
    require(file.is_file(), f"{folder}: {WEIGHTS} is missing, so this is not a complete forecaster folder")
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: cannot be read ({error}); copy it again") from error
    expected = network.state_dict()
    wrong = [
        name
        for name in expected.keys() | tensors.keys()
        if name not in expected or name not in tensors or tensors[name].shape != expected[name].shape
    ]
    require(not wrong, f"{file}: {listed(sorted(wrong))} do not fit {RECORD}")
    require(all(bool(t.isfinite().all()) for t in tensors.values()), f"{file}: holds values that are not finite")
    network.load_state_dict(tensors)
