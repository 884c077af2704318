"""The interactive page of a run: series, spectra, autocovariances and test errors, one file that needs no network."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hdt.maths import spectrum
from hdt.run import timeaxis
from hdt.run.pictures import MARK, REAL, SYNTHETIC, middle, powers
from hdt.run.records import EvaluationRow, read_evaluation
from hdt.system import folders
from hdt.system.errors import InputError

if TYPE_CHECKING:
    from hdt.run.synthetic import Synthetic

MOST_CHANNELS = 64
SEQUENCES = [SYNTHETIC, "#e67e22", "#8e44ad", "#16a085"]  # colours of several, in turn
SERIES, SPECTRUM, ACF, ERRORS = [{"row": row, "col": col} for row, col in ((1, 1), (2, 1), (2, 2), (3, 1))]


def write(distilled: Synthetic, folder: Path, file: Path) -> Path:
    """Write the page of the run in ``folder`` to ``file``.

    Without the real data (``distilled.panel`` is None) only the synthetic side is shown; the errors are those of the
    last ``hdt evaluate``. Raises :class:`hdt.system.errors.InputError`.
    """
    try:
        from plotly.io import to_html
    except ImportError as error:
        raise InputError("plotly is not installed; pip install 'hdt-ts[view]'") from error
    figure = draw(distilled, read_evaluation(folder))
    config = {"displaylogo": False, "responsive": True}
    folders.write(file, to_html(figure, config=config, include_plotlyjs=True, full_html=True))
    return file


def draw(distilled: Synthetic, rows: list[EvaluationRow]) -> Any:
    """The plotly figure: a menu of channels (the first ``MOST_CHANNELS``), legends that switch real and synthetic."""
    from plotly.subplots import make_subplots

    info, length = distilled.info, distilled.info.settings.length
    names = [html.escape(name) for name in distilled.columns[:MOST_CHANNELS]]
    time, lag = (timeaxis.unit(info.data.step, steps)[1] for steps in (length, length // 2))
    titles = ["Series", "Amplitudes", "Autocovariances", *(["Test errors"] if rows else [])]
    figure = make_subplots(
        rows=3 if rows else 2, cols=2, subplot_titles=titles, vertical_spacing=0.12 if rows else 0.15,
        specs=[[{"colspan": 2}, None], [{}, {}], *([[{"colspan": 2}, None]] if rows else [])],
    )  # fmt: skip
    of_channel = []
    for c, traces in enumerate(_channels(distilled, len(names))):
        for place, trace in traces:
            figure.add_trace({"mode": "lines", **trace, "visible": c == 0}, **place)
            of_channel.append(c)
    for trace in _errors(rows):
        figure.add_trace(trace, **ERRORS)
        of_channel.append(-1)
    buttons = [
        {"label": name, "method": "update", "args": [{"visible": [own in (c, -1) for own in of_channel]}]}
        for c, name in enumerate(names)
    ]
    figure.update_layout(
        title=html.escape(f"{info.data.name} distilled by {info.settings.method}, {info.floats:,} numbers"),
        height=1000 if rows else 760, template="plotly_white", hovermode="x unified", barmode="group",
        updatemenus=[{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.08, "yanchor": "bottom"}],
        legend={"orientation": "h", "y": 1.03, "yanchor": "bottom"}, margin={"t": 130},
    )  # fmt: skip
    units = "scaled units" if info.settings.channels is not None else "original units"
    figure.update_xaxes(title=time, **SERIES).update_yaxes(title=units, **SERIES)
    figure.update_xaxes(title="frequency bin (cycles per M steps)", **SPECTRUM).update_yaxes(type="log", **SPECTRUM)
    figure.update_xaxes(title=f"lag in {lag}", **ACF)
    if rows:
        figure.update_yaxes(title="test MSE, scaled units", rangemode="tozero", **ERRORS)
    return figure


def _channels(distilled: Synthetic, count: int) -> list[list[tuple[dict[str, int], dict[str, Any]]]]:
    """The traces of every channel, each with its place."""
    info, length = distilled.info, distilled.info.settings.length
    steps, lags = np.arange(length), np.arange(length // 2 + 1)
    time, lag = (timeaxis.unit(info.data.step, n)[0] * own for n, own in ((length, steps), (length // 2, lags)))
    synthetic, real = powers(distilled, count)
    segment = middle(distilled, count)
    covariances = [None if p is None else spectrum.autocovariance(p, length).numpy()[lags] for p in (synthetic, real)]
    found = []
    for c in range(count):
        own: list[tuple[dict[str, int], dict[str, Any]]] = []
        if segment is not None:
            own.append((SERIES, _line(time, segment[:, c], "real", "a real sub-series")))
        for n, sequence in enumerate(distilled.original):
            name = "synthetic" if len(distilled.values) == 1 else f"synthetic {n + 1}"
            own.append((SERIES, _line(time, sequence[:, c], name, color=SEQUENCES[n % len(SEQUENCES)])))
        both = ((real, covariances[1], "real"), (synthetic, covariances[0], "synthetic"))
        for power, covariance, name in both:
            if power is not None and covariance is not None:
                amplitude = power[:, c].sqrt().numpy()
                shown = "synthetic, their mean" if name == "synthetic" and len(distilled.values) > 1 else None
                own.append((SPECTRUM, _line(np.arange(len(amplitude)), amplitude, name, shown, legend=bool(shown))))
                own.append((ACF, _line(lag, covariance[:, c], name, legend=False)))
        found.append(own)
    return found


def _line(
    x: np.ndarray, y: np.ndarray, group: str, name: str | None = None, *, color: str | None = None, legend: bool = True
) -> dict[str, Any]:
    color = color or (REAL if group == "real" else SYNTHETIC)
    return {
        "type": "scatter", "x": [float(f"{v:.6g}") for v in x], "y": [float(f"{v:.6g}") for v in y],
        "name": name or group, "legendgroup": group, "showlegend": legend, "line": {"color": color, "width": 1.2},
    }  # fmt: skip


def _errors(rows: list[EvaluationRow]) -> list[dict[str, Any]]:
    """Bars of every training set, a group for each student."""
    colors = {"distilled": SYNTHETIC, "full": MARK}
    found = []
    for n, name in enumerate(dict.fromkeys(row.trained_on for row in rows)):
        own = [row for row in rows if row.trained_on == name]
        found.append(
            {
                "type": "bar", "x": [html.escape(row.student) for row in own], "y": [row.mse for row in own],
                "error_y": {"type": "data", "array": [row.mse_std for row in own], "thickness": 1},
                "name": f"trained on: {html.escape(name)}" if name in ("distilled", "random", "full") else name,
                "marker": {"color": colors.get(name, REAL), "opacity": 1 - 0.15 * (n if name not in colors else 0)},
            }
        )  # fmt: skip
    return found
