"""Pictures of a run: series, spectra with the kept harmonics, autocovariances with their bound, loss.

One self-contained HTML page, and PNG files.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hdt import config, folders, glyphs, learned, spectrum, timeaxis
from hdt.errors import readable
from hdt.series import Panel

if TYPE_CHECKING:
    from torch import Tensor

    from hdt.distilled import Distilled

REAL, SYNTHETIC, MARK = "#7f8c8d", "#c0392b", "#2c3e50"
MOST_CHANNELS = 6
PAGE = "report.html"


def write(distilled: Distilled, folder: Path) -> Path:
    """Write ``report.html`` and its pictures as PNG files into ``folder``; the path of the page.

    Without the real data (``distilled.panel`` is None) only the synthetic side is drawn. Raises
    :class:`hdt.errors.InputError` when the folder cannot be written.
    """
    images = _images(distilled, folder)
    for name, image in images.items():
        folders.write(folder / f"{name}.png", image)
    folders.write(folder / PAGE, _page(distilled, images, folder, folder))
    return folder / PAGE


def page(distilled: Distilled, folder: Path, target: Path) -> str:
    """The text of ``report.html`` in ``folder``, which the page calls ``target``."""
    return _page(distilled, _images(distilled, folder), folder, target)


def _images(distilled: Distilled, folder: Path) -> dict[str, bytes]:
    return {name: png(figure) for name, figure in {**_evaluated(folder), **draw(distilled)}.items()}


def draw(distilled: Distilled) -> dict[str, Figure]:
    """The figures by name: series, spectrum, acf, loss and, for image methods, learned."""
    step, length = distilled.info.data.step, distilled.info.settings.length
    time, lag = (timeaxis.unit(step, steps)[1] for steps in (length, length // 2))
    figures = {
        "series": _grid(distilled, _series_axes(distilled), f"{time} ({length} steps)", sharey=False),
        "spectrum": _grid(distilled, _spectrum_axes(distilled), "frequency bin (cycles per M steps); above: periods"),
        "acf": _grid(distilled, _acf_axes(distilled), f"lag in {lag} ({length // 2} steps)"),
    }
    if distilled.history:
        figures["loss"] = _loss(distilled.history)
    picture = learned.draw(distilled)
    if picture is not None:
        figures["learned"] = picture
    return figures


def _grid(distilled: Distilled, paint: Callable[[Axes, int], None], xlabel: str, sharey: bool = False) -> Figure:
    columns = distilled.columns
    shown = min(len(columns), MOST_CHANNELS)
    width = min(shown, 3)
    rows = -(-shown // width)
    figure = Figure(figsize=(4.2 * width if width > 1 else 9, 2.5 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, width, squeeze=False, sharex=True, sharey=sharey).flatten()
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


def _series_axes(distilled: Distilled) -> Callable[[Axes, int], None]:
    info, panel = distilled.info, distilled.panel
    synthetic = distilled.original
    time = timeaxis.unit(info.data.step, info.settings.length)[0] * np.arange(info.settings.length)
    real = (
        None
        if panel is None or info.settings.channels is not None
        else panel.scaler.inverse(_typical_segment(panel, info.settings.length))
    )

    def paint(ax: Axes, c: int) -> None:
        if real is not None:
            ax.plot(time, real[:, c], color=REAL, lw=0.9, label="a real sub-series")
        for n, sequence in enumerate(synthetic):
            ax.plot(time, sequence[:, c], color=SYNTHETIC, lw=0.9, label=None if n else "synthetic")

    return paint


def _typical_segment(panel: Panel, length: int) -> np.ndarray:
    """The middle sub-series of the training part: no choice that could flatter."""
    train = panel.part("train")
    start = (len(train) - length) // 2
    return train[start : start + length]


def _real_power(distilled: Distilled, panel: Panel) -> Tensor:
    """Mean PSD of the real channels [F, C]; for fewer synthetic channels, of what each stands for."""
    import torch

    settings = distilled.info.settings
    power = spectrum.mean_spectrum(torch.tensor(panel.part("train")), settings.length).power
    return spectrum.pooled(power, settings.channels)


def _spectrum_axes(distilled: Distilled) -> Callable[[Axes, int], None]:
    import torch

    info = distilled.info
    synthetic = spectrum.psd(torch.tensor(distilled.values).double()).mean(0).sqrt().numpy()
    real = None
    if distilled.panel is not None:
        real = _real_power(distilled, distilled.panel).sqrt().numpy()

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


def _acf_axes(distilled: Distilled) -> Callable[[Axes, int], None]:
    import torch

    info = distilled.info
    length = info.settings.length
    power = spectrum.psd(torch.tensor(distilled.values).double()).mean(0)
    synthetic = spectrum.autocovariance(power, length).numpy()
    real = None
    if distilled.panel is not None:
        real = spectrum.autocovariance(_real_power(distilled, distilled.panel), length).numpy()

    def paint(ax: Axes, c: int) -> None:
        lags = np.arange(length // 2 + 1)
        time = timeaxis.unit(info.data.step, length // 2)[0] * lags
        if real is not None:
            centre, gap = real[lags, c], info.psd_gaps[c]
            ax.fill_between(time, centre - gap, centre + gap, color=REAL, alpha=0.2, lw=0, label="Theorem 1 bound")
            ax.plot(time, centre, color=REAL, lw=1.4, label="real")
        ax.plot(time, synthetic[lags, c], color=SYNTHETIC, lw=0.9, label="synthetic")

    return paint


def _evaluated(folder: Path) -> dict[str, Figure]:
    """Test errors of every student on every training set; none before an evaluation."""
    from hdt.distilled import read_evaluation

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


CAPTIONS = {
    "evaluation": "Trained on the distilled series, on random real segments of as many numbers, on all data; naive "
    "forecasts train nothing. Lines: standard deviation over trainings.",
    "series": "The synthetic series beside the middle real sub-series of the same length, in original units.",
    "spectrum": "Amplitudes per frequency bin, orthonormal scale, log axis. Dots: the harmonics the objective keeps.",
    "acf": "Circular autocovariances, scaled units. By Theorem 1 the synthetic one stays inside the grey band.",
    "loss": "The objective and its terms at each iteration.",
    "learned": "What is learned besides values: the coefficients kept, the kernels, or the curriculum of β.",
}
POOLED_CAPTIONS = {
    "series": "The synthetic series, in scaled units: each stands for all real channels.",
    "spectrum": "Amplitudes per frequency bin, orthonormal scale, log axis; real: root mean PSD of all channels.",
    "acf": "Circular autocovariances, scaled units; real: mean of all channels. By Theorem 1 the synthetic one stays "
    "inside the grey band.",
}
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
img{max-width:100%}figure{margin:1.5rem 0}figcaption{color:#555;font-size:.9em}
table{border-collapse:collapse}td,th{padding:.15rem .8rem .15rem 0;text-align:left;vertical-align:top}
code{background:#f4f4f4;padding:.1em .3em}"""


def _page(distilled: Distilled, images: dict[str, bytes], folder: Path, target: Path) -> str:
    info = distilled.info
    settings, data = info.settings, info.data
    start = "" if info.distance.start is None else f"; {info.distance.start:.2f} from its starting segment"
    facts = {
        "training data": f"{data.borders[0]:,} rows × {len(data.columns)} channels",
        "synthetic": f"{len(distilled.values)} × {settings.length} steps × {len(distilled.columns)} channels = "
        f"{info.floats:,} floats ({info.compression:.0f}× fewer)",
        "made in": f"{info.seconds:.1f} s on {info.device}",
        "autocovariance gap": f"{info.acf_gap:.3f} ≤ PSD gap {info.psd_gap:.3f} (Theorem 1, mean over channels)",
        "distance": f"{info.distance.nearest:.2f} standard deviations from the nearest real sub-series{start}",
        **{f"note {n}": notice for n, notice in enumerate(data.notices, 1)},
    }
    table = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
    settings_table = _rows(config.described(settings, info.chosen))
    captions = CAPTIONS if settings.channels is None else {**CAPTIONS, **POOLED_CAPTIONS}
    figures = "".join(
        f'<figure><img alt="{name}" src="data:image/png;base64,{base64.b64encode(image).decode()}">'
        f"<figcaption>{html.escape(captions[name])}</figcaption></figure>"
        for name, image in images.items()
    )
    more = len(distilled.columns) - MOST_CHANNELS
    hidden = f"<p>The first {MOST_CHANNELS} of {len(distilled.columns)} channels are drawn.</p>" if more > 0 else ""
    title = html.escape(f"{data.name} distilled by {settings.method}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>{_evaluation(folder, target)}<table>{table}</table>"
        f"{hidden}{figures}<h2>Settings</h2><table>{settings_table}</table></body></html>\n"
    )


def _rows(rows: list[tuple[str, str, str]]) -> str:
    """Lines of an HTML table, the first cell a heading."""
    return "".join(
        f"<tr><th>{html.escape(first)}</th>{''.join(f'<td>{html.escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )


def _evaluation(folder: Path, target: Path) -> str:
    from hdt.distilled import read_evaluation

    rows = read_evaluation(folder)
    if not rows:
        return f"<p>Not evaluated yet: <code>hdt evaluate {html.escape(readable(str(target)))}</code></p>"
    names = ("student", "trained on", "test MSE", "test MAE", "vs full", "training")
    head = "<tr>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"
    body = "".join(
        f"<tr><td>{html.escape(row.student)}</td><td>{html.escape(row.trained_on)}</td>"
        f"<td>{row.mse:.3f} ± {row.mse_std:.3f}</td><td>{row.mae:.3f} ± {row.mae_std:.3f}</td>"
        f"<td>{row.ratio_to_full:.2f}×</td><td>{row.train_seconds:.1f} s</td></tr>"
        for row in rows
    )
    return f"<h2>Evaluation</h2><table>{head}{body}</table>"
