"""What a distilled set gives away: how near it lies to real windows, and whether an attack tells what it was made from.

*Distances.* Of every synthetic window of L+H steps, the root mean square distance to the nearest real one of the
training part, beside the same of real windows to the nearest real one that does not overlap them. A set that copies
lies nearer than real windows do to each other.

*Membership.* The training part is cut into blocks of L+H steps. Shadow sets are distilled with the run's settings from
it without a random half of them, which are masked (:mod:`hdt.data.missing`). An attacker who has a shadow set, and
others of which he knows what they were made from, asks of every block whether the set has seen it. He looks at the
error of a ridge regression trained on the set, and at the distance to the nearest synthetic window, both relative to
what other sets give for that block (as LiRA does, Carlini et al., arXiv 2112.03570), and a logistic regression trained
on the other shadows decides (Shokri et al., arXiv 1610.05820). The area under his ROC curve is .5 where he only
guesses. It is that of the method with these settings on this data, not of the run alone.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from hdt.data.series import Panel
from hdt.evaluation.paired import interval
from hdt.evaluation.protocol import WatchTraining
from hdt.maths.windows import spread, windows
from hdt.run import produce
from hdt.run.distilled import Distilled
from hdt.run.plan import LittleCompression
from hdt.run.source import real_data, same_data
from hdt.system.errors import require
from hdt.system.machine import sample
from hdt.system.options import LARGEST_SEED

ASKED, MOST_REAL = 256, 20_000  # windows whose nearest one is sought, and real ones among which it is
FEWEST_BLOCKS = 8
RIDGE = 1e-2  # relative to the mean square of the attacker's features


@dataclass(frozen=True)
class Nearness:
    """Quantiles of distances to the nearest real window, in standard deviations; ``closest`` is the smallest."""

    closest: float
    five_percent: float
    median: float


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    ``synthetic`` and ``real``: distances of windows to the nearest real ones; ``nearer``: the share of synthetic
    windows that lie nearer to a real one than 95% of the real windows do to another, .05 where both are alike.
    ``auc`` of the attack, mean over ``shadows`` with a 95% t-interval ``auc_low`` to ``auc_high``, on ``blocks`` each.
    """

    synthetic: Nearness
    real: Nearness
    nearer: float
    auc: float
    auc_low: float
    auc_high: float
    shadows: int
    blocks: int


def audit(
    distilled: Distilled | str | Path, data: Any = None, *, shadows: int = 8, seed: int = 0,
    watch: WatchTraining | None = None,
) -> Audit:  # fmt: skip
    """How near a distilled set lies to the data, and how well an attack tells members (see the module).

    ``distilled`` may be the folder of a run, ``data`` as in :func:`hdt.evaluate`. ``shadows`` sets are distilled, two
    at least; ``watch`` is called before each with (label, done, total). Needs scikit-learn, ``hdt-ts[audit]``. Raises
    :class:`hdt.system.errors.InputError`, for series of unequal length, tables that stay in their files, and updated
    and private runs, too.
    """
    require(find_spec("sklearn") is not None, "scikit-learn is not installed; pip install 'hdt-ts[audit]'")
    require(shadows >= 2, f"shadows={shadows}: two at least, for one is attacked with what is known of others")
    require(0 <= seed <= LARGEST_SEED, f"seed={seed}: expected 0 to {LARGEST_SEED:,}")
    if not isinstance(distilled, Distilled):
        distilled = Distilled.load(distilled)
    require(
        distilled.info.privacy is None,
        "this run is private, which bounds every attack on one of its series; audit one that is not",
    )
    panel = real_data(distilled, data)
    same_data(distilled, panel)
    require(
        not panel.unequal, f"{panel.name}: its series differ in length; an audit needs such that share their stamps"
    )
    require(not panel.stored, f"{panel.name}: its values stay in their files; an audit needs them in memory")
    require(not distilled.info.data.parts, "this run was updated; audit one that was distilled at once")
    size = distilled.info.settings.context + distilled.info.settings.horizon
    blocks = panel.borders[0] // size
    require(
        blocks >= FEWEST_BLOCKS,
        f"{panel.name}: {panel.borders[0]} training rows are {blocks} blocks of context + horizon = {size} steps; "
        f"{FEWEST_BLOCKS} at least are needed",
    )
    synthetic, real, nearer = nearness(distilled, panel)
    member = np.stack([_half(blocks, np.random.default_rng([seed, n])) for n in range(shadows)])
    scores = np.empty((shadows, blocks, 2))
    for n in range(shadows):
        if watch is not None:
            watch(f"shadow {n + 1}", n, shadows)
        made = shadow(distilled, panel, member[n], seed + n)
        scores[n] = evidence(made, panel, blocks)
    if watch is not None:
        watch("done", shadows, shadows)
    return Audit(synthetic, real, nearer, *interval(attack(scores, member)), shadows, blocks)


def nearness(distilled: Distilled, panel: Panel) -> tuple[Nearness, Nearness, float]:
    """Distances of synthetic and of real windows to the nearest real ones, and the share of :class:`Audit`."""
    settings = distilled.info.settings
    size, pooled = settings.context + settings.horizon, settings.channels is not None
    drawn = sample(panel.channels)
    series = panel.block("train", drawn)
    own = _windows(distilled.values if pooled else distilled.values[..., list(drawn)], size)
    places = len(series) - size + 1
    if pooled:  # single channels
        own = own.transpose(0, 2, 1)[..., None].reshape(-1, size, 1)
    own = own.reshape(len(own), -1)
    among, asked = (spread(places * (len(drawn) if pooled else 1), most).numpy() for most in (MOST_REAL, ASKED))

    def real_windows(which: np.ndarray) -> np.ndarray:
        rows = (which % places)[:, None] + np.arange(size)
        found = series[rows, (which // places)[:, None]] if pooled else series[rows]
        return found.reshape(len(which), -1)

    every = real_windows(among)
    made = nearest(own[spread(len(own), ASKED).numpy()], every)
    apart = np.abs((asked % places)[:, None] - among % places) >= size
    real = nearest(real_windows(asked), every, apart)
    real = real[np.isfinite(real)]
    require(len(real) > 0, f"{panel.name}: no two training windows of {size} steps are apart")
    return _told(made), _told(real), float((made < np.quantile(real, 0.05)).mean())


def nearest(
    asked: Float[np.ndarray, "a d"], among: Float[np.ndarray, "b d"], allowed: Bool[np.ndarray, "a b"] | None = None
) -> Float[np.ndarray, " a"]:
    """Root mean square distance of each row to the nearest row of ``among`` that is allowed, infinite without one."""
    squared = (asked**2).sum(axis=1)[:, None] - 2 * asked @ among.T + (among**2).sum(axis=1)
    squared = squared if allowed is None else np.where(allowed, squared, np.inf)
    return np.sqrt(np.maximum(squared.min(axis=1), 0) / asked.shape[1])


def shadow(distilled: Distilled, panel: Panel, member: Bool[np.ndarray, " blocks"], seed: int) -> Distilled:
    """A set distilled with the run's settings from the training part without the blocks that are no members."""
    settings = distilled.info.settings
    size = settings.context + settings.horizon
    values = np.array(panel.values, dtype=np.float64)
    values[: len(member) * size][np.repeat(~member, size)] = np.nan
    fewer = replace(panel, values=values, missing="mask")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LittleCompression)
        return produce.distill_panel(fewer, settings.model_copy(update={"seed": seed})).with_panel(fewer)


def evidence(made: Distilled, panel: Panel, blocks: int) -> Float[np.ndarray, "blocks 2"]:
    """What the attacker sees of every block: log error of a ridge regression that was trained on the set, and log
    distance to the nearest synthetic window, both means over channels, in the units of the set."""
    from sklearn.linear_model import Ridge

    settings = made.info.settings
    context, size = settings.context, settings.context + settings.horizon
    scaled = made.scaler.transform(panel.original("train")[: blocks * size].astype(np.float64))
    real = scaled.reshape(blocks, size, -1).transpose(0, 2, 1)  # [blocks, C, size]
    own = _windows(made.values, size).transpose(2, 0, 1)  # [C_s, n, size]
    every = own.reshape(-1, size)
    level = every[:, :context].mean(axis=1, keepdims=True)
    past = every[:, :context] - level
    model = Ridge(RIDGE * len(past) * float((past**2).mean()) + 1e-12, fit_intercept=False)
    model.fit(past, every[:, context:] - level)
    flat = real.reshape(-1, size)
    level = flat[:, :context].mean(axis=1, keepdims=True)
    gap = flat[:, context:] - level - model.predict(flat[:, :context] - level)
    error = (gap**2).mean(axis=1).reshape(blocks, -1).mean(axis=1)
    if settings.channels is None:
        near = np.stack([nearest(real[:, c], own[c]) for c in range(len(own))]).mean(axis=0)
    else:
        near = nearest(flat, every).reshape(blocks, -1).mean(axis=1)
    return np.log(np.stack([error, near], axis=1) + 1e-12)


def attack(
    scores: Float[np.ndarray, "shadows blocks 2"], member: Bool[np.ndarray, "shadows blocks"]
) -> Float[np.ndarray, " shadows"]:
    """Area under the ROC curve for every shadow, attacked with what is known of the others."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    areas = []
    for target in range(len(scores)):
        others = np.arange(len(scores)) != target
        usual = scores[others].mean(axis=0)
        relative = scores - usual
        unit = relative[others].std(axis=(0, 1)) + 1e-12
        model = LogisticRegression().fit((relative[others] / unit).reshape(-1, 2), member[others].ravel())
        areas.append(roc_auc_score(member[target], model.decision_function(relative[target] / unit)))
    return np.array(areas)


def _half(blocks: int, generator: np.random.Generator) -> Bool[np.ndarray, " blocks"]:
    """Which blocks are members: a random half."""
    member = np.zeros(blocks, dtype=bool)
    member[generator.permutation(blocks)[: blocks // 2]] = True
    return member


def _windows(series: Float[np.ndarray, "N M C"], size: int) -> Float[np.ndarray, "n size C"]:
    return windows(torch.as_tensor(series), size, 0).flatten(0, 1).numpy()


def _told(distances: Float[np.ndarray, " n"]) -> Nearness:
    return Nearness(*(float(q) for q in np.quantile(distances, [0, 0.05, 0.5])))
