"""The records of a run folder: its files' names, and what run.json and evaluation.json hold. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from hdt.distillation import config
from hdt.system import folders
from hdt.system.errors import InputError

SERIES, PARAMS, RUN, RECIPE, METRICS, CARD = FILES = (  # that every run folder holds
    "synthetic.parquet", "params.safetensors", "run.json", "recipe.yaml", "metrics.jsonl", "README.md",
)  # fmt: skip
EVALUATION, PAGE, VIEW = "evaluation.json", "report.html", "view.html"  # once it was evaluated, and drawn
GIVEN = "given"  # among the params: columns known ahead that are no calendar's
STATE = "state.safetensors"  # where it was asked for: what an update goes on from
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Gap = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def in_words(error: ValidationError) -> str:
    """The first thing that is wrong, and where."""
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'content'}: {first['msg']}"


class Strict(BaseModel):
    """A record of a run file; unknown keys are refused, and fields ``unless_empty`` are written only where they hold
    something, so that a run without them reads as it did before they were there."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    unless_empty: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without(self, every: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = every(self)
        return {name: value for name, value in found.items() if value or name not in self.unless_empty}


class DataPart(Strict):
    """Some of the rows that an updated run has seen."""

    source: str | None
    rows: int = Field(ge=1)
    first_stamp: str
    sha256: str


class TransformRecord(Strict):
    """A :class:`hdt.data.transform.Transform` as JSON."""

    kind: Literal["difference", "detrend", "seasonal"]
    state: list[list[Finite]] = Field(min_length=1)


class CovariateInfo(Strict):
    """What a run has beside its targets, which are the first of its columns.

    Columns of the ``past`` follow them, ``past_groups`` of each. ``known`` are those known ahead, of the ``calendar``
    first, in so many ``groups``, 1 or one per target, with their ``mean`` and ``std``; of the synthetic series they are
    those of a real stretch that begins at ``first_stamp``. ``static`` has a value per target.
    """

    targets: int = Field(ge=1)
    past: list[str]
    past_groups: int = Field(ge=1)
    known: list[str]
    calendar: list[str]
    groups: int = Field(ge=1)
    first_stamp: str | None
    static: dict[str, list[str | int | float | bool]]
    mean: list[Finite]
    std: list[Positive]


class DataInfo(Strict):
    """The real series behind a run; ``train_sha256`` fingerprints what the distillation read.

    ``shortest`` is the training rows of the shortest series where they differ in length. ``parts`` are those of an
    updated run, in order of time; all its rows are training rows. ``missing`` is the share of missing values in the
    training rows by column, of those that have any. ``transform`` is what was taken from the table first. Where
    ``auto`` chose it, ``transform_auto`` has the errors of the kinds that it chose from.
    """

    name: str
    source: str | None
    load_options: dict[str, Any]
    rows: int = Field(ge=1)
    borders: tuple[int, int, int]
    columns: list[str] = Field(min_length=1)
    first_stamp: str
    step: str
    layout: dict[str, Any]
    train_sha256: str
    notices: list[str]
    shortest: int | None = Field(None, ge=1)
    parts: list[DataPart] = []
    missing: dict[str, Annotated[float, Field(gt=0, lt=1)]] = {}
    transform: TransformRecord | None = None
    transform_auto: dict[str, Finite] = {}
    covariates: CovariateInfo | None = None
    unless_empty = ("covariates", "transform_auto")

    @property
    def training(self) -> str:
        """The size of the training part in words."""
        rows, channels = f"{self.borders[0]:,}", len(self.columns)
        if self.shortest is None:
            return f"{rows} rows × {channels} channels"
        return f"{channels} series of {self.shortest:,} to {rows} rows"

    @model_validator(mode="after")
    def _fits(self) -> DataInfo:
        train, val, test = self.borders
        if not 0 < train <= val <= test <= self.rows:
            raise ValueError(f"borders {train}/{val}/{test} do not fit {self.rows} rows")
        taken = self.transform
        rows = {"difference": 1, "detrend": 2, "seasonal": max(2, len(taken.state) if taken else 0)}
        if taken and [len(row) for row in taken.state] != [len(self.columns)] * rows[taken.kind]:
            raise ValueError(f"transform: its state does not fit {len(self.columns)} columns")
        own = self.covariates
        if own is not None and own.targets + len(own.past) * own.past_groups != len(self.columns):
            raise ValueError(f"covariates leave {own.targets} targets of {len(self.columns)} columns")
        if own is not None and not len(own.known) == len(own.mean) == len(own.std):
            raise ValueError("covariates: every column known ahead has a mean and a std")
        if self.parts and sum(part.rows for part in self.parts) != train:
            raise ValueError(f"parts do not add up to {train} training rows")
        return self


class Distance(Strict):
    """Root mean square distance, in scaled units, of the synthetic series from real sub-series.

    ``start`` is null when the optimisation did not start from one; ``nearest`` is over all of them.
    """

    start: Gap | None
    nearest: Gap


class Noise(Strict):
    """What the horizons of a set lack of the real ones' noise (:mod:`hdt.maths.residuals`), by which forecasters learn
    how uncertain they are.

    ``levels``: its standard deviation per step of the horizon, for contexts of unit variance; ``unit``: what brings
    these into scaled units; ``shape``: quantiles of real errors in units of theirs.
    """

    levels: list[Gap] = Field(min_length=1)
    unit: Gap
    shape: list[Finite] = Field(min_length=2)

    @property
    def floats(self) -> int:
        """How many numbers these are."""
        return len(self.levels) + 1 + len(self.shape)


class Privacy(Strict):
    """What a set grants to the values of any one of its ``series`` (:mod:`hdt.run.private`).

    ``numbers`` of their mean spectrum got noise ``multiplier`` times what one series can change, which by the
    ``accountant`` is (``epsilon``, ``delta``)-differentially private.
    """

    epsilon: Positive
    delta: Annotated[float, Field(gt=0, lt=1)]
    multiplier: Positive
    series: int = Field(ge=1)
    numbers: int = Field(ge=1)
    accountant: str

    @property
    def notice(self) -> str:
        """One line of it."""
        return (
            f"private: ({self.epsilon:g}, {self.delta:g})-differentially, for the values of any one of {self.series:,} "
            f"series; made from {self.numbers} noised numbers and no other look at the values, to which its distances "
            "and pictures do not refer either"
        )


class RunInfo(Strict):
    """``run.json``: everything that identifies a run, and its measurements.

    ``floats`` are the stored numbers of the series, which is all that a forecaster of single numbers trains on; those
    of ``noise`` are counted apart. ``noise`` is null for real segments, whose horizons lack none, and absent from runs
    of versions that did not store it. ``chosen`` holds the values of hyperparameters that were read from the data.
    With ``privacy`` the data were not read but a stand-in was, which ``data`` describes and measurements are of.
    """

    schema_version: Literal[1] = 1
    settings: config.Settings
    data: DataInfo
    scaler_mean: list[Finite]
    scaler_std: list[Positive]
    floats: int = Field(ge=1)
    compression: Positive
    seconds: Gap
    peak_rss_mb: Gap | None
    device: str
    versions: dict[str, str]
    psd_gap: Gap
    acf_gap: Gap
    psd_gaps: list[Gap]
    acf_gaps: list[Gap]
    harmonics: list[list[int]] | None
    distance: Distance
    chosen: dict[str, int | Finite] = {}
    noise: Noise | None = None
    privacy: Privacy | None = None
    unless_empty = ("privacy",)

    @property
    def nearest_of(self) -> str:
        """Whose segments the set is compared with."""
        return "real" if self.privacy is None else "stand-in"

    @property
    def noise_floats(self) -> int:
        """How many numbers of noise are stored beside the series."""
        return 0 if self.noise is None else self.noise.floats

    @model_validator(mode="after")
    def _fits(self) -> RunInfo:
        real = len(self.data.columns)
        synthetic, bins = self.settings.channels or real, self.settings.length // 2 + 1
        lists = {"scaler_mean": real, "scaler_std": real, "psd_gaps": synthetic, "acf_gaps": synthetic}
        lists |= {} if self.harmonics is None else {"harmonics": synthetic}
        for name, count in lists.items():
            if len(getattr(self, name)) != count:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries for {count} channels")
        if self.noise is not None and len(self.noise.levels) != self.settings.horizon:
            raise ValueError(f"noise has {len(self.noise.levels)} levels for a horizon of {self.settings.horizon}")
        if any(not 0 <= bin < bins for kept in self.harmonics or [] for bin in kept):
            raise ValueError(f"harmonics are not among the {bins} bins of {self.settings.length} steps")
        return self


class EvaluationRow(Strict):
    """One row of ``evaluation.json``, see :func:`hdt.evaluation.protocol.evaluate`."""

    student: str
    trained_on: str
    mse: float
    mse_std: float
    mae: float
    mae_std: float
    mase: float | None = None
    validation_mse: float | None = None
    seeds: int
    train_seconds: float
    ratio_to_full: float
    crps: float | None = None
    wql: float | None = None
    wql_std: float | None = None
    coverage_80: float | None = None
    coverage_80_std: float | None = None
    wql_to_full: float | None = None
    validation_crps: float | None = None


ROWS = TypeAdapter(list[EvaluationRow])
HISTORY = TypeAdapter(list[dict[str, float]])


def record_evaluation(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Keep evaluation rows beside a run, where the report finds them; raises :class:`InputError` when it cannot."""
    folders.write(folder / EVALUATION, ROWS.dump_json(ROWS.validate_python(rows), indent=1, exclude_none=True))


def read_evaluation(folder: Path) -> list[EvaluationRow]:
    """The evaluation rows kept beside a run; none when it has not been evaluated."""
    file = folder / EVALUATION
    if not file.is_file():
        return []
    try:
        return ROWS.validate_json(file.read_bytes())
    except ValidationError as error:
        raise InputError(f"{file}: {in_words(error)}; evaluate the run again") from None
