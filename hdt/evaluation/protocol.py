"""The evaluation protocol, the same for every method and for full data.

Scaler fitted on train; the student trains on one series only; its epoch and its learning rate, a fifth of the
published one, that, or five times it, are chosen on the real validation part, for full data and tiny sets alike; so
is whether a student that mixes channels sees each from another window; the test part is read once, every window of it;
several seeds. ``random`` (a real segment of equal floats), ``full``
and the naive forecasts of :mod:`hdt.evaluation.naive` are always there to compare with.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from hdt.data.series import Panel, Part
from hdt.evaluation import naive
from hdt.evaluation.channels import check_plain, cut, cut_one, roles_for, scaled_part
from hdt.evaluation.scores import Score, cached, noise_of, summary, to_full
from hdt.maths.residuals import Scatter
from hdt.maths.windows import Gappy, Seen
from hdt.run import beside
from hdt.run.distilled import Distilled
from hdt.run.source import real_data, same_data
from hdt.start import random_set
from hdt.students import STUDENTS, Student, Training, Ways, build, shuffles
from hdt.students.quantiles import Quantiles, build_quantiles, check_quantiles
from hdt.system.errors import require
from hdt.system.fingerprint import fingerprint
from hdt.system.machine import cache_folder, device_of, memory_refusal, sample
from hdt.training.errors import errors_by_series, mean_size, spread_errors
from hdt.training.fit import Fit, Running, fit
from hdt.training.loop import Diverged

PROTOCOL = 6  # written beside errors, so that tables put only those side by side that were measured alike
WatchTraining = Callable[[str, int, int], None]


class Evaluator:
    """The protocol for one panel and window: trains students on any series, scores them on the real parts.

    A student that mixes channels trains once more, at the rate that was best, on windows whose channels come from
    different windows, in random order (:class:`hdt.students.Training`, ``shuffle_channels``); validation decides which
    of the two is scored, on synthetic and on full data alike. Without ``validation`` nothing is chosen: the published
    learning rate, windows as they are, the last weights, as somebody trains who has the distilled set and no real data
    beside it.

    Series of unequal length share no time: every one, real or synthetic, is a sequence of its own with one channel.
    Columns known ahead are the last channels of ``train``, ``val`` and ``test``; a student sees those of its kind
    (:class:`hdt.students.Student`), and is scored on the targets.
    Students train on what fills masked cells, for leaving them out made full data worse (recipes/README.md), and are
    scored on what was observed. Of a panel whose values stay in files, a sample of channels
    (:func:`hdt.system.machine.sample`) trains and scores in place of all, and a warning says so.

    With ``quantiles`` students forecast nine of them (:mod:`hdt.students.quantiles`), validation chooses by their CRPS,
    and ``mse``, ``mae`` and ``mase`` are those of the median.
    """

    def __init__(
        self, panel: Panel, context: int, horizon: int, *, device: str = "auto", validation: bool = True,
        quantiles: bool = False,
    ):  # fmt: skip
        if quantiles:
            check_plain(panel)
        self.panel, self.context, self.horizon = panel.sampled(), context, horizon
        self.whole = panel.channels
        if panel.stored:
            warnings.warn(f"{panel.name}: {self.panel.read[-1]}", stacklevel=2)
        self.validation, self.quantiles = validation, quantiles
        self.device = device_of(device)
        self.roles = beside.roles(self.panel)
        parts: tuple[Part, ...] = ("train", "val", "test")
        tables = [scaled_part(self.panel, part, context, horizon).to(self.device) for part in parts]
        self.train = tables[0]
        self.val, self.test = map(self._scored, parts[1:], tables[1:])

    def _scored(self, part: Part, values: Float[Tensor, "T C"]) -> Seen:
        """A part that errors are counted on; where cells are masked, with what was observed."""
        found = [values]
        if self.panel.filled(part).gaps is not None:
            gaps = scaled_part(self.panel, part, self.context, self.horizon, gaps=True)
            found.append(gaps.to(self.device))
        found = [self._alone(table[None]) if self.panel.unequal else table for table in found]
        if self.panel.transform != "none":  # errors are those of the table itself, in its scale
            ratio = self.panel.scaler.std / self.panel.plain.scaler.std
            unit = torch.tensor(ratio, dtype=torch.float32, device=self.device)
            return Gappy(found[0], found[-1], unit, self.panel.transform == "difference")
        return Gappy(found[0], found[1]) if found[1:] else found[0]

    def _alone(self, series: Float[Tensor, "N M C"]) -> Tensor:
        """Every series as a sequence of its own, [N·C, M, 1], where lengths differ."""
        return series.transpose(1, 2).flatten(0, 1)[..., None] if self.panel.unequal else series

    @cached_property
    def scale(self) -> np.ndarray:
        """What absolute errors are divided by in ``mase``, of every real series."""
        return naive.scale(self.panel)

    def trainings(self, student: str) -> list[Training]:
        """How that student is trained here: the ways that validation chooses from."""
        ways = list(STUDENTS[student].trainings())
        published = STUDENTS[student].training_settings.lr
        return ways if self.validation else [way for way in ways if way.lr == published]

    def score(
        self, student: str, series: Float[Tensor, "N M C"] | np.ndarray, seed: int, noise: Scatter | None = None
    ) -> Score:
        """Train on ``series``, choose epoch and learning rate on validation, read the test part once.

        ``noise`` is what its horizons lack, for quantiles (:func:`noise_of`).

        ``mase`` is the mean over series of their absolute error over that of repeating the last season, or the last
        value where there is none, within the training part (Hyndman & Koehler 2006). ``train_seconds`` is the time of
        all trainings that were chosen from.
        """
        best, network, seconds = math.inf, None, 0.0
        series = self.seen(series)
        mixed = self.validation and roles_for(student, self.roles) is None and shuffles(student, series)
        ways = Ways(self.trainings(student), mixed)
        for training in ways:
            try:
                running = Running(last=not self.validation)
                candidate, run = self.trained(student, series, seed, training, running, noise=noise)
            except Diverged:
                continue
            seconds += run.seconds
            if run.validation < best:
                best, network, ways.best = run.validation, candidate, training
        if network is None:
            raise Diverged(f"{student}: every training diverged; the training series may be far from the real one")
        chosen_by = "validation_crps" if self.quantiles else "validation_mse"
        return {**self.test_errors(network), chosen_by: best, "train_seconds": seconds}

    def trained(
        self, student: str, series: Float[Tensor, "N M C"] | np.ndarray, seed: int, training: Training,
        running: Running | None = None, keywords: Mapping[str, Any] | None = None,
        noise: Scatter | None = None,
    ) -> tuple[Student, Fit]:  # fmt: skip
        """One training on ``series``, its epoch chosen on validation; ``keywords`` are of the student's constructor.

        Raises :class:`hdt.training.loop.Diverged`.
        """
        series, roles = self.seen(series), roles_for(student, self.roles)
        series = cut_one(series, student, self.roles)
        channels = series.shape[-1] if roles is None else roles.within(series.shape[-1]).learned
        make = build_quantiles if self.quantiles else partial(build, roles=roles)
        network = make(student, self.context, self.horizon, channels, seed, **(keywords or {})).to(self.device)
        return network, fit(network, series, cut(self.val, student, self.roles), seed, training, running, noise)

    def seen(self, series: Float[Tensor, "N M C"] | np.ndarray) -> Float[Tensor, "N_s M C_s"]:
        """A training series as students see it: on the device, sampled channels only, each alone if lengths differ."""
        series = torch.as_tensor(series, dtype=torch.float32, device=self.device)
        if series.shape[-1] == self.whole:  # each stands for its own
            series = series[..., list(sample(self.whole))] if self.panel.channels < self.whole else series
        return self._alone(series)

    def test_errors(self, network: Student) -> Score:
        """``mse``, ``mae`` and ``mase`` over the test part; of quantiles also :class:`hdt.training.errors.Spread`."""
        test = self.test if self.roles is None else cut(self.test, type(network).name, self.roles)
        squared, absolute = (found.cpu().numpy() for found in errors_by_series(network, test))
        mase = naive.scaled_errors(absolute.flatten(), self.scale)
        found = {"mse": float(squared.mean()), "mae": float(absolute.mean()), "mase": mase}
        return found | (spread_errors(network, self.test)._asdict() if isinstance(network, Quantiles) else {})

    def score_full(self, student: str, seed: int) -> Score:
        """The same for all training data: equal for every method, so computed once and kept in the user cache."""
        return cached(self.full_file(student, seed), lambda: self.score(student, self.train[None], seed))

    def full_file(self, student: str, seed: int) -> Path:
        """Where that is kept."""
        return cache_folder() / "evaluations" / f"full-{self.key(student, seed)}.json"

    def segments(self, sequences: int, length: int, channels: int | None, seed: int) -> Tensor:
        """Random real segments in the shape of a synthetic set, with their covariates."""
        known = 0 if self.roles is None else self.roles.known * self.roles.groups
        return random_set(self.train, sequences, length, channels, seed, known)

    def score_naive(self, kind: str) -> Score | None:
        """The same for a naive forecast, ``last value`` or ``last season``; None where there is no season.

        As quantiles they are all one: their CRPS is their mean absolute error, and their intervals hold nothing.
        """
        found = naive.score(self.panel, kind, self.horizon)
        if found is None or not self.quantiles:
            return found
        crps, size = found["mae"], mean_size(self.test, self.context, self.horizon)
        found["validation_crps"] = found.pop("validation_mae")
        return {**found, "crps": crps, "wql": crps / size if size > 0 else 0.0, "coverage_80": 0.0}

    def key(self, student: str, seed: int) -> str:
        """Identifies everything but the training series that decides a score, and the device for its seconds."""
        facts = [student, self.panel.sha256, self.context, self.horizon, self.validation, self.device.type, seed]
        facts += ["quantiles"] if self.quantiles else []
        ways = [asdict(way) for way in self.trainings(student)]
        return fingerprint([*facts, ways], code=[STUDENTS[student], __name__, Panel])


def check(students: Sequence[str], seeds: int, quantiles: bool = False) -> None:
    """Refuse unknown students, those that cannot forecast quantiles where these are asked for, and less than one
    seed."""
    require(seeds >= 1, f"seeds={seeds}: at least one is needed")
    require(len(students) > 0, f"no student given; known: {', '.join(STUDENTS)}")
    for student in students:
        STUDENTS[student]  # refuses an unknown one
        if quantiles:
            check_quantiles(student)


@memory_refusal("choose a smaller --student or --device cpu")
def evaluate(
    distilled: Distilled,
    data: str | Path | pd.DataFrame | Panel | None = None,
    *,
    students: Sequence[str | type[Student]] = ("dlinear",),
    seeds: int = 3,
    device: str = "auto",
    validation: bool = True,
    quantiles: bool = False,
    watch: WatchTraining | None = None,
) -> pd.DataFrame:
    """Test errors of students trained on the distilled series, on random real segments and on all data.

    One row per student and training set (column ``trained_on``: distilled, random, full) with ``mse``,
    ``mse_std``, ``mae``, ``mae_std`` over ``seeds``, ``mase``, ``train_seconds`` and ``ratio_to_full``; errors in
    scaled units. ``data`` is needed only when the run was loaded from a folder and its source is not where run.json
    says. For each student the naive forecasts follow (``last value``, and ``last season`` where the data
    have one), which train nothing. Rows of full data are cached by data and settings.
    ``validation``: see :class:`Evaluator`. With ``quantiles`` students forecast nine quantiles, and rows also have
    ``crps``, ``wql`` and ``coverage_80`` (:class:`hdt.training.errors.Spread`), ``wql_to_full``, and
    ``validation_crps`` in place of ``validation_mse``. Students are names, paths to networks such as
    ``my.models:PatchTST`` (:mod:`hdt.students.wrapped`), or classes (:func:`hdt.wrap`).
    ``watch`` is called before each training with (label, done, total). Raises
    :class:`hdt.system.errors.InputError` for bad input.
    """
    info = distilled.info
    students = STUDENTS.names(students)
    check(students, seeds, quantiles)
    noise = noise_of(distilled) if quantiles else None
    panel = real_data(distilled, data)
    same_data(distilled, panel)
    window = info.settings.context, info.settings.horizon
    evaluator = Evaluator(panel, *window, device=device, validation=validation, quantiles=quantiles)
    sequences, length = info.settings.sequences, info.settings.length
    rows, done, total = [], 0, 3 * len(students) * seeds
    naives = {kind: evaluator.score_naive(kind) for kind in naive.NAIVE}
    for student in students:
        table: dict[str, list[Score]] = {"distilled": [], "random": [], "full": []}
        for trained_on, scores in table.items():
            for seed in range(seeds):
                if watch is not None:
                    watch(f"{student} on {trained_on}, seed {seed}", done, total)
                if trained_on == "distilled":
                    scores.append(evaluator.score(student, distilled.seen, seed, noise))
                elif trained_on == "random":
                    segments = evaluator.segments(sequences, length, info.settings.channels, seed)
                    scores.append(evaluator.score(student, segments, seed))
                else:
                    scores.append(evaluator.score_full(student, seed))
                done += 1
        full = summary(table["full"])
        table |= {kind: [found] for kind, found in naives.items() if found is not None}
        for name, scores in table.items():
            row = {"student": student, "trained_on": name, **summary(scores)}
            rows.append({**row, **to_full(row, full)})
    if watch is not None:
        watch("done", total, total)
    return pd.DataFrame(rows)
