"""The report of a run: one self-contained HTML page, and its pictures as PNG files beside it."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import TYPE_CHECKING

from hdt.distillation import config
from hdt.run.pictures import MOST_CHANNELS, draw, evaluated, png
from hdt.run.records import PAGE, EvaluationRow, read_evaluation
from hdt.system import folders
from hdt.system.errors import readable

if TYPE_CHECKING:
    from hdt.run.synthetic import Synthetic

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


def write(distilled: Synthetic, folder: Path) -> Path:
    """Write ``report.html`` and its pictures as PNG files into ``folder``; the path of the page.

    Without the real data (``distilled.panel`` is None) only the synthetic side is drawn. Raises
    :class:`hdt.system.errors.InputError` when the folder cannot be written.
    """
    images = _images(distilled, folder)
    for name, image in images.items():
        folders.write(folder / f"{name}.png", image)
    folders.write(folder / PAGE, _page(distilled, images, folder, folder))
    return folder / PAGE


def page(distilled: Synthetic, folder: Path, target: Path) -> str:
    """The text of ``report.html`` in ``folder``, which the page calls ``target``."""
    return _page(distilled, _images(distilled, folder), folder, target)


def _images(distilled: Synthetic, folder: Path) -> dict[str, bytes]:
    figures = {**evaluated(folder), **draw(distilled)}
    return {name: png(figure) for name, figure in figures.items()}


def _page(distilled: Synthetic, images: dict[str, bytes], folder: Path, target: Path) -> str:
    info = distilled.info
    settings, data = info.settings, info.data
    start = "" if info.distance.start is None else f"; {info.distance.start:.2f} from its starting segment"
    facts = {
        "training data": data.training,
        "synthetic": f"{len(distilled.values)} × {settings.length} steps × {len(distilled.columns)} channels = "
        f"{info.floats:,} floats ({info.compression:.0f}× fewer)",
        "made in": f"{info.seconds:.1f} s on {info.device}",
        "autocovariance gap": f"{info.acf_gap:.3f} ≤ PSD gap {info.psd_gap:.3f} (Theorem 1, mean over channels)",
        "distance": f"{info.distance.nearest:.2f} standard deviations from the nearest {info.nearest_of} "
        f"sub-series{start}",
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
    rows = read_evaluation(folder)
    if not rows:
        return f"<p>Not evaluated yet: <code>hdt evaluate {html.escape(readable(str(target)))}</code></p>"
    spread = any(row.wql is not None for row in rows)
    names = ["student", "trained on", "test MSE", "test MAE", "MASE", "vs full", "training"]
    names += ["test WQL", "vs full", "in the 80% interval"] if spread else []
    head = "<tr>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"
    body = "".join(
        f"<tr><td>{html.escape(row.student)}</td><td>{html.escape(row.trained_on)}</td>"
        f"<td>{row.mse:.3f} ± {row.mse_std:.3f}</td><td>{row.mae:.3f} ± {row.mae_std:.3f}</td>"
        f"<td>{'' if row.mase is None else f'{row.mase:.2f}'}</td>"
        f"<td>{row.ratio_to_full:.2f}×</td><td>{row.train_seconds:.1f} s</td>{_spread(row)}</tr>"
        for row in rows
    )
    return f"<h2>Evaluation</h2><table>{head}{body}</table>"


def _spread(row: EvaluationRow) -> str:
    """Cells of what an evaluation with quantiles tells more."""
    if row.wql is None or row.wql_to_full is None or row.coverage_80 is None:
        return ""
    return f"<td>{row.wql:.3f}</td><td>{row.wql_to_full:.3f}×</td><td>{row.coverage_80:.0%}</td>"
