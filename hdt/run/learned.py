"""Pictures of what the image methods learned: coefficients kept, kernels, the curriculum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from hdt.run.synthetic import Synthetic


def draw(distilled: Synthetic) -> Figure | None:
    """The picture for a run's parameterization, or else for its objective; None where there is nothing to show."""
    settings = distilled.info.settings
    if settings.parameterization == "fred":
        return _coefficients(distilled)
    if settings.parameterization == "nsd" and "phase" in distilled.params:
        return _kernels(distilled)
    return _curriculum(distilled) if settings.objective == "cfm" else None


def _coefficients(distilled: Synthetic) -> Figure:
    """FreD: mean square of every kept coefficient over sequences and channels; white ones are not kept."""
    settings, params = distilled.info.settings, distilled.params
    period = settings.options.get("period") or int(distilled.info.chosen["period"])
    rows = -(-settings.length // period)
    power = np.zeros((distilled.values.shape[2], rows * period))
    power[np.arange(len(power))[:, None], params["mask"]] = np.square(params["coefficients"]).mean(axis=0)
    power = power.mean(axis=0).reshape(rows, period)
    figure = Figure(figsize=(9, min(6.0, 2 + 5 * rows / period)), layout="constrained")
    ax = figure.subplots()
    shown = np.ma.masked_equal(power, 0)
    image = ax.imshow(shown, norm=LogNorm(), aspect="auto", cmap="viridis", interpolation="nearest")
    ax.set_xlabel(f"half-waves within a period of {period} steps", fontsize=8)
    ax.set_ylabel("half-waves over the series", fontsize=8)
    kept = params["mask"].shape[1]
    ax.set_title(f"cosine coefficients: {kept} of {rows * period} kept per channel", fontsize=9)
    figure.colorbar(image, ax=ax, label="mean square")
    return figure


def _kernels(distilled: Synthetic) -> Figure:
    """NSD: the kernels of the first set, one per axis, each [rank, size]."""
    axes_names = ("instance", "channel", "cycle", "phase")
    figure = Figure(figsize=(11, 3), layout="constrained")
    widths = [max(2, distilled.params[name].shape[2]) ** 0.5 for name in axes_names]
    for ax, name in zip(figure.subplots(1, 4, width_ratios=widths), axes_names, strict=True):
        kernel = distilled.params[name][0]
        most = np.abs(kernel).max()
        ax.imshow(kernel, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
        ax.set_title(f"{name} kernel, {kernel.shape[0]} × {kernel.shape[1]}", fontsize=9)
        ax.tick_params(labelsize=8)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _curriculum(distilled: Synthetic) -> Figure:
    """CFM: β of every batch of synthetic windows, and the two terms of the loss."""
    from hdt.maths.correlations import annealed

    options, history = distilled.info.settings.options, distilled.history
    figure = Figure(figsize=(9, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    batches = range(options["batches"])
    fixed = options["filter"] != "cfm"
    betas = [options["beta"] if fixed else annealed(options["beta"], b, len(batches)) for b in batches]
    left.plot([b + 1 for b in batches], betas, "o-", color="#2c3e50")
    left.set_xlabel("batch of synthetic windows", fontsize=8)
    left.set_ylabel("β / mean eigenvalue" if not options["paper"] else "β", fontsize=8)
    left.set_ylim(0, None)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    for name, color in (("task", "#c0392b"), ("correlations", "#2980b9")):
        terms = [(entry["iteration"], entry[name]) for entry in history if name in entry]
        right.plot(*zip(*terms, strict=True) if terms else ([], []), color=color, label=name)
    right.set_yscale("log")
    right.set_xlabel("iteration", fontsize=8)
    right.legend(fontsize=8, frameon=False)
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    return figure
