"""The records of a run folder: what run.json and evaluation.json hold. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from hdt.distillation import config
from hdt.system.errors import InputError
from hdt.system.machine import replacing

SCHEMA_VERSION = 1
EVALUATION = "evaluation.json"


class Strict(BaseModel):
    """A record of a run file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataInfo(Strict):
    """The real series behind a run; ``train_sha256`` fingerprints what the distillation read."""

    name: str
    source: str | None
    load_options: dict[str, Any]
    rows: int
    borders: tuple[int, int, int]
    columns: list[str]
    first_stamp: str
    step: str
    layout: dict[str, Any]
    train_sha256: str
    notices: list[str]


class Distance(Strict):
    """Root mean square distance, in scaled units, of the synthetic series from real sub-series.

    ``start`` is null when the optimisation did not start from one; ``nearest`` is over all of them.
    """

    start: float | None
    nearest: float


class RunInfo(Strict):
    """``run.json``: everything that identifies a run, and its measurements.

    ``chosen`` holds the values of hyperparameters that were read from the data.
    """

    schema_version: int = SCHEMA_VERSION
    settings: config.Settings
    data: DataInfo
    scaler_mean: list[float]
    scaler_std: list[float]
    floats: int
    compression: float
    seconds: float
    peak_rss_mb: float | None
    device: str
    versions: dict[str, str]
    psd_gap: float
    acf_gap: float
    psd_gaps: list[float]
    acf_gaps: list[float]
    harmonics: list[list[int]] | None
    distance: Distance
    chosen: dict[str, int | float] = {}


class EvaluationRow(Strict):
    """One row of ``evaluation.json``, see :func:`hdt.evaluation.protocol.evaluate`."""

    student: str
    trained_on: str
    mse: float
    mse_std: float
    mae: float
    mae_std: float
    validation_mse: float
    seeds: int
    train_seconds: float
    ratio_to_full: float


ROWS = TypeAdapter(list[EvaluationRow])
HISTORY = TypeAdapter(list[dict[str, float]])


def record_evaluation(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Keep evaluation rows beside a run, where the report finds them."""
    with replacing(folder / EVALUATION) as part:
        part.write_bytes(ROWS.dump_json(ROWS.validate_python(rows), indent=1))


def read_evaluation(folder: Path) -> list[EvaluationRow]:
    """The evaluation rows kept beside a run; none when it has not been evaluated."""
    file = folder / EVALUATION
    if not file.is_file():
        return []
    try:
        return ROWS.validate_json(file.read_bytes())
    except ValidationError as error:
        raise InputError(f"{file}: {error.errors()[0]['msg']}; evaluate the run again") from None
