"""Does tuning on a small set find what tuning on all data finds? Fixed configurations, trained on each, and compared.

Every configuration is trained alike on the distilled set, on a random segment of as many floats, on a random tenth of
the real windows, on all data for a single epoch, and on all data; the epoch is chosen on the real validation part. How
well a small set orders the configurations: Kendall's τ and Spearman's ρ of the errors there and on all data, and the
regret of taking the one that is best there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from hdt.data.series import Panel
from hdt.evaluation.protocol import Evaluator, WatchTraining
from hdt.evaluation.scores import Score
from hdt.maths.windows import windows
from hdt.run.distilled import Distilled
from hdt.run.source import real_data, same_data
from hdt.selection.space import Configuration
from hdt.system import folders
from hdt.system.errors import InputError, require
from hdt.system.fingerprint import fingerprint
from hdt.system.machine import memory_refusal
from hdt.training.fit import Running
from hdt.training.loop import Diverged

SETS = ("distilled", "segment", "tenth", "epoch", "full")
SHARE = 10  # one window in so many
FAILED: Score = dict.fromkeys(("mse", "mae", "mase", "validation_mse", "train_seconds"), math.nan)


@dataclass(frozen=True)
class Agreement:
    """How far errors on a small set order ``count`` configurations as those on all data do.

    ``low`` and ``high`` bound a 95% bootstrap interval over configurations, NaN where none was asked for. ``regret``:
    how much higher, relative, the error on all data is of the configuration that is best on the small set than of the
    best one.
    """

    count: int
    kendall: float
    kendall_low: float
    kendall_high: float
    spearman: float
    spearman_low: float
    spearman_high: float
    regret: float


def agreement(
    small: Float[np.ndarray, " n"], full: Float[np.ndarray, " n"], *, draws: int = 1000, seed: int = 0
) -> Agreement:
    """Compare errors of the same configurations on a small set and on all data; NaN, a training that diverged, is
    worse than any number. ``draws`` of the bootstrap, 0 for none. Two configurations at least."""
    small, full = (np.where(np.isnan(each), np.inf, each) for each in (small, full))
    count = len(small)
    require(count >= 2, f"{count} configuration(s): two at least can be put in order")
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    bounds = [_bounds(found) for found in correlations(small, full, drawn)]
    kendall, spearman = (float(found[0]) for found in correlations(small, full, np.ones((1, count))))
    chosen, best = full[small.argmin()], full.min()
    regret = float(chosen / best - 1) if np.isfinite(chosen) else math.inf
    return Agreement(count, kendall, *bounds[0], spearman, *bounds[1], regret)


def correlations(
    a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"], weights: np.ndarray
) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
    """Kendall's τ-b and Spearman's ρ of samples in which each pair stands as often as a row of ``weights`` [draws, n]
    says; NaN where ``a`` or ``b`` is the same for all."""
    from scipy.stats import rankdata

    over_a, over_b = (np.sign(np.subtract.outer(ranks, ranks)) for ranks in (rankdata(a), rankdata(b)))

    def pairs(signs: np.ndarray) -> np.ndarray:
        return (weights @ signs * weights).sum(axis=1)

    centred = [weights @ signs.T for signs in (over_a, over_b)]  # twice the ranks, whose weighted mean is zero
    with np.errstate(invalid="ignore"):
        kendall = pairs(over_a * over_b) / np.sqrt(pairs(over_a**2) * pairs(over_b**2))
        first, second = ((weights * own**2).sum(axis=1) for own in centred)
        spearman = (weights * centred[0] * centred[1]).sum(axis=1) / np.sqrt(first * second)
    return kendall, spearman


def _bounds(drawn: np.ndarray) -> tuple[float, float]:
    told = drawn[np.isfinite(drawn)]
    low, high = np.quantile(told, [0.025, 0.975]) if len(told) else (math.nan, math.nan)
    return float(low), float(high)


def training_set(
    name: str, distilled: Distilled, evaluator: Evaluator, seed: int, stride: int = 1
) -> Float[Tensor, "N M C"]:
    """One of ``SETS``; ``segment`` and ``tenth`` are drawn by ``seed``. The tenth is a sequence per window, ``epoch``
    all data, to be seen once (:func:`running`). All data are every ``stride``-th window of them, a sequence each."""
    settings = distilled.info.settings
    if name == "distilled":
        return torch.as_tensor(distilled.seen, dtype=torch.float32)
    if name == "segment":
        return evaluator.segments(settings.sequences, settings.length, settings.channels, seed)
    require(name in SETS, f"unknown training set {name!r}; known: {', '.join(SETS)}")
    every = windows(evaluator.train, evaluator.context, evaluator.horizon)
    if name != "tenth":
        return evaluator.train[None] if stride == 1 else every[::stride]
    chosen = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))
    return every[chosen[: max(1, len(every) // SHARE)].to(every.device)]


def running(name: str, evaluator: Evaluator, configuration: Configuration, stride: int = 1) -> Running:
    """How long one trains there: ``epoch`` is a single pass, over which the rate falls as it does else over all."""
    if name != "epoch":
        return Running()
    count = math.prod(windows(evaluator.train, evaluator.context, evaluator.horizon).shape[:-2])
    return Running(steps=math.ceil(math.ceil(count / stride) / configuration.training.batch))


def score(
    evaluator: Evaluator, configuration: Configuration, series: Any, seed: int, running: Running | None = None
) -> Score:
    """Errors of one training of a configuration on a series: the fields of :meth:`Evaluator.score`.

    Raises :class:`hdt.training.loop.Diverged`.
    """
    own = configuration
    network, run = evaluator.trained(own.student, series, seed, own.training, running, own.keywords)
    return {**evaluator.test_errors(network), "validation_mse": run.validation, "train_seconds": run.seconds}


def key(evaluator: Evaluator, configuration: Configuration, seed: int) -> str:
    """Identifies everything but the training series that decides the score of a configuration."""
    facts = [evaluator.key(configuration.student, seed), asdict(configuration.training), configuration.keywords]
    return fingerprint(facts)


@memory_refusal("lower the context or the horizon, leave out the largest students, or take device cpu")
def rank(
    distilled: Distilled,
    configurations: Sequence[Configuration],
    *,
    sets: Sequence[str] = SETS,
    seeds: int = 1,
    stride: int = 1,
    data: str | Path | pd.DataFrame | Panel | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    watch: WatchTraining | None = None,
) -> pd.DataFrame:
    """Train every configuration on every training set with every seed; a row for each, NaN where one diverged.

    ``stride``: all data are every so many-th window of them, which spares time where windows overlap by nearly all.

    ``out`` is a CSV file, written after every training: rows that are in it already are not computed again.
    Columns: ``student``, ``values`` (JSON), ``trained_on``, ``seed``, ``mse``, ``mae``, ``mase`` (test part),
    ``validation_mse``, ``train_seconds``, ``key``. Raises :class:`hdt.system.errors.InputError`.
    """
    require(stride >= 1, f"stride={stride}: expected 1, for every window, or more")
    panel = real_data(distilled, data)
    same_data(distilled, panel)
    settings = distilled.info.settings
    evaluator = Evaluator(panel, settings.context, settings.horizon, device=device)
    file = None if out is None else Path(out)
    rows = {} if file is None else _known(file)
    cells = [(c, name, seed) for seed in range(seeds) for c in configurations for name in sets]
    asked = []
    for done, (own, name, seed) in enumerate(cells):
        if watch is not None:
            watch(f"{own.student} on {name}, seed {seed}", done, len(cells))
        series = training_set(name, distilled, evaluator, seed, stride)
        identity = fingerprint([key(evaluator, own, seed), name], [series])
        asked.append(identity)
        if identity in rows:
            continue
        try:
            found = score(evaluator, own, series, seed, running(name, evaluator, own, stride))
        except Diverged:
            found = FAILED
        told = {"student": own.student, "values": json.dumps(own.values), "trained_on": name, "seed": seed}
        rows[identity] = {**told, **found, "key": identity}
        if file is not None:
            folders.write(file, pd.DataFrame(list(rows.values())).to_csv(index=False))
    if watch is not None:
        watch("done", len(cells), len(cells))
    return pd.DataFrame([rows[identity] for identity in asked])


def _known(file: Path) -> dict[str, dict[Any, Any]]:
    if not file.exists():
        return {}
    try:
        table = pd.read_csv(file)
        return {row["key"]: row for row in table.to_dict("records")}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{file}: cannot be read as a ranking ({error}); choose another file") from None


def agreements(table: pd.DataFrame, truth: str = "mse", chosen_by: str = "validation_mse") -> pd.DataFrame:
    """For every small set and seed of :func:`rank`: how the errors that one would choose by there order what
    ``truth`` says on all data, mean over seeds of that; a row of :class:`Agreement` each."""
    errors = table.set_index(["student", "values", "trained_on", "seed"])[list({truth, chosen_by})]
    wide = errors.unstack(["trained_on", "seed"])
    full = wide[truth]["full"].mean(axis=1, skipna=False)
    rows = []
    for name, seed in sorted({(n, s) for n, s in wide[chosen_by].columns if n != "full"}):
        small = wide[chosen_by][name][seed]
        found = agreement(small.to_numpy(float), full.to_numpy(float))
        rows.append({"trained_on": name, "seed": seed, **asdict(found)})
    return pd.DataFrame(rows)
