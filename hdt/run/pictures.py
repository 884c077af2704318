"""Pictures of a run: series, spectra with the kept harmonics, autocovariances with their bound, losses, test errors."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hdt.maths import spectrum
from hdt.run import glyphs, timeaxis
from hdt.run.records import RunInfo, read_evaluation
from hdt.system.machine import sample

if TYPE_CHECKING:
    from torch import Tensor

    from hdt.run.synthetic import Synthetic

REAL, SYNTHETIC, MARK = "#7f8c8d", "#c0392b", "#2c3e50"
MOST_CHANNELS = 6


def draw(distilled: Synthetic) -> dict[str, Figure]:
    """The figures by name: series, spectrum, acf, loss and, for image methods, learned."""
    step, length = distilled.info.data.step, distilled.info.settings.length
    time, lag = (timeaxis.unit(step, steps)[1] for steps in (length, length // 2))
    both = powers(distilled)
    figures = {
        "series": _grid(distilled, _series_axes(distilled), f"{time} ({length} steps)"),
        "spectrum": _grid(
            distilled, _spectrum_axes(distilled.info, *both), "frequency bin (cycles per M steps); above: periods"
        ),
        "acf": _grid(distilled, _acf_axes(distilled.info, *both), f"lag in {lag} ({length // 2} steps)"),
    }
    if distilled.history:
        figures["loss"] = _loss(distilled.history)
    picture = _learned(distilled)
    if picture is not None:
        figures["learned"] = picture
    return figures


def _learned(distilled: Synthetic) -> Figure | None:
    """The picture that the run's parameterization has of what was learned, or else its objective."""
    from hdt.objective import OBJECTIVES
    from hdt.parameterization import PARAMETERIZATIONS

    settings = distilled.info.settings
    options = {**settings.options, **distilled.info.chosen}
    for part in (PARAMETERIZATIONS[settings.parameterization], OBJECTIVES[settings.objective]):
        picture = part.picture(options, distilled.params, distilled.history, settings.length)
        if picture is not None:
            return picture
    return None


def _grid(distilled: Synthetic, paint: Callable[[Axes, int], None], xlabel: str) -> Figure:
    columns = distilled.columns
    shown = min(len(columns), MOST_CHANNELS)
    width = min(shown, 3)
    rows = -(-shown // width)
    figure = Figure(figsize=(4.2 * width if width > 1 else 9, 2.5 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, width, squeeze=False, sharex=True).flatten()
    for c, ax in enumerate(axes):
        if c >= shown:
            ax.axis("off")
            continue
        paint(ax, c)
        title, font = glyphs.name(columns[c])
        ax.set_title(title, fontsize=9, **font)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[max(0, shown - width) : shown]:
        ax.set_xlabel(xlabel, fontsize=8)
        ax.tick_params(labelbottom=True)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=8, frameon=False)
    return figure


def _series_axes(distilled: Synthetic) -> Callable[[Axes, int], None]:
    info, real = distilled.info, middle(distilled)
    synthetic = distilled.original
    time = timeaxis.unit(info.data.step, info.settings.length)[0] * np.arange(info.settings.length)

    def paint(ax: Axes, c: int) -> None:
        if real is not None:
            ax.plot(time, real[:, c], color=REAL, lw=0.9, label="a real sub-series")
        for n, sequence in enumerate(synthetic):
            ax.plot(time, sequence[:, c], color=SYNTHETIC, lw=0.9, label=None if n else "synthetic")

    return paint


def middle(distilled: Synthetic, most: int = MOST_CHANNELS) -> np.ndarray | None:
    """The middle real sub-series [M, C] of the first channels, a choice that cannot flatter, in original units.

    None without the real data, or where synthetic channels stand for several.
    """
    panel, settings = distilled.panel, distilled.info.settings
    if panel is None or settings.channels is not None:
        return None
    train = panel.plain.original("train", slice(most))
    start = (len(train) - settings.length) // 2
    return train[start : start + settings.length]


def powers(distilled: Synthetic, most: int = MOST_CHANNELS) -> tuple[Tensor, Tensor | None]:
    """Mean PSD [F, C] of the first channels, synthetic and, where the real data is at hand, real.

    For fewer synthetic channels than real ones, the real one is that of what each stands for, by a sample of them.
    """
    import torch

    settings, panel = distilled.info.settings, distilled.panel
    synthetic = spectrum.psd(torch.tensor(distilled.values[:, :, :most]).double()).mean(0)
    if panel is None:
        return synthetic, None
    drawn = range(panel.channels)[:most] if settings.channels is None else sample(panel.channels)
    power = spectrum.mean_spectrum(torch.tensor(panel.block("train", drawn)), settings.length).power
    return synthetic, spectrum.pooled(power, settings.channels)


def _spectrum_axes(info: RunInfo, synthetic_power: Tensor, real_power: Tensor | None) -> Callable[[Axes, int], None]:
    synthetic = synthetic_power.sqrt().numpy()
    real = None if real_power is None else real_power.sqrt().numpy()

    def paint(ax: Axes, c: int) -> None:
        bins = np.arange(len(synthetic))
        if real is not None:
            ax.plot(bins, real[:, c], color=REAL, lw=1.4, label="real (root mean PSD)")
        ax.plot(bins, synthetic[:, c], color=SYNTHETIC, lw=0.8, label="synthetic")
        if info.harmonics is not None:
            kept = info.harmonics[c]
            ax.plot(kept, synthetic[kept, c], ".", color=MARK, ms=3.5, label=f"kept harmonics (k = {len(kept)})")
        ax.set_yscale("log")
        periods = ax.secondary_xaxis("top")
        periods.set_xticks(*timeaxis.period_ticks(info.data.step, info.settings.length))
        periods.tick_params(labelsize=7)
        periods.spines["top"].set_visible(False)

    return paint


def _acf_axes(info: RunInfo, synthetic_power: Tensor, real_power: Tensor | None) -> Callable[[Axes, int], None]:
    length = info.settings.length
    synthetic = spectrum.autocovariance(synthetic_power, length).numpy()
    real = None if real_power is None else spectrum.autocovariance(real_power, length).numpy()

    def paint(ax: Axes, c: int) -> None:
        lags = np.arange(length // 2 + 1)
        time = timeaxis.unit(info.data.step, length // 2)[0] * lags
        if real is not None:
            centre, gap = real[lags, c], info.psd_gaps[c]
            ax.fill_between(time, centre - gap, centre + gap, color=REAL, alpha=0.2, lw=0, label="Theorem 1 bound")
            ax.plot(time, centre, color=REAL, lw=1.4, label="real")
        ax.plot(time, synthetic[lags, c], color=SYNTHETIC, lw=0.9, label="synthetic")

    return paint


def evaluated(folder: Path) -> dict[str, Figure]:
    """Test errors of every student on every training set; none before an evaluation."""
    rows = read_evaluation(folder)
    if not rows:
        return {}
    students = list(dict.fromkeys(row.student for row in rows))
    figure = Figure(figsize=(9, 0.5 + 1.9 * len(students)), layout="constrained")
    colors = {"distilled": SYNTHETIC, "full": MARK}
    for ax, student in zip(figure.subplots(len(students), 1, squeeze=False)[:, 0], students, strict=True):
        own = sorted((row for row in rows if row.student == student), key=lambda row: -row.mse)
        names = [row.trained_on for row in own]
        ax.barh(names, [row.mse for row in own], xerr=[row.mse_std for row in own],
                color=[colors.get(name, REAL) for name in names], error_kw={"elinewidth": 0.8})  # fmt: skip
        for n, row in enumerate(own):
            text = f"  {row.mse:.3f} ({row.ratio_to_full:.2f}×)"
            ax.text(row.mse + row.mse_std, n, text, va="center", fontsize=8)
        ax.margins(x=0.18)
        ax.set_title(f"{student}: test MSE, in brackets over that of full data", fontsize=9, loc="left")
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    return {"evaluation": figure}


def _loss(history: list[dict[str, float]]) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    ax = figure.subplots()
    steps = [entry["iteration"] for entry in history]
    for name in [name for name in history[0] if name != "iteration"]:
        ax.plot(steps, [entry[name] for entry in history], lw=1.6 if name == "loss" else 0.9, label=name)
    ax.set_yscale("log")
    ax.set_xlabel("iteration", fontsize=8)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False)
    return figure


def png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as the content of a PNG file."""
    buffer = io.BytesIO()
    with np.errstate(over="ignore"):  # a logarithmic axis may reach past the largest number
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
