"""Pictures and Markdown of a comparison."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hdt.distillation.methods import AUTO, METHODS
from hdt.evaluation.naive import NAIVE
from hdt.evaluation.paired import REFERENCES
from hdt.run import glyphs
from hdt.run.pictures import MARK, REAL, png
from hdt.system import folders

PALETTE = (
    "#c0392b", "#2980b9", "#8e44ad", "#27ae60", "#e67e22", "#f1948a", "#7fb3d5", "#d7bde2", "#76d7c4", "#1b4f72",
    "#6e2c00", "#16a085", "#b7950b", "#5d6d7e",
)  # fmt: skip
HIGHEST = 2.0  # bars and lines above this many times full data are cut
COLOURED = (  # first, in this order, as in the pictures that stand in recipes/
    "wiener", "hdt", "condtsf", "mtt", "dc", "fred-wiener", "fred-mtt", "nsd-wiener", "nsd-mtt", "cfm", "hdt-cfm",
    "kcenter", "herding", "random",
)  # fmt: skip


def write(table: pd.DataFrame, title: str, folder: Path) -> list[Path]:
    """Write ``table.csv``, ``table.json``, ``table.md`` and ``table.png`` into ``folder``; return their paths."""
    vary = varied(table)
    short = title.removesuffix(" (published)")  # which only the tables show
    figure = bars(table, short) if vary is None else curve(table, vary, short)
    contents: dict[str, str | bytes] = {
        "csv": table.to_csv(index=False),
        "json": table.to_json(orient="records", indent=1),
        "md": f"# {title}\n\n{markdown(table)}",
        "png": png(figure, 130),
    }
    for kind, content in contents.items():
        folders.write(folder / f"table.{kind}", content)
    return [folder / f"table.{kind}" for kind in contents]


def _shown(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The table with the error that is shown as its ``mse``, and what that is called: quantiles are judged by WQL."""
    if "wql" not in table:
        return table, "MSE"
    return table.assign(mse=table["wql"], mse_std=table["wql_std"], ratio_to_full=table["wql_to_full"]), "WQL"


def varied(table: pd.DataFrame) -> str | None:
    """The setting that was varied: the first column, unless that is the method."""
    first = str(table.columns[0])
    return None if first == "method" else first


def pivot(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table people read: a line per method, a column per student, best methods first."""
    vary, (table, _) = varied(table), _shown(table)
    keys = ["method"] if vary is None else ["method", vary]
    students = list(dict.fromkeys(table["student"]))
    lines = []
    for key, rows in table.groupby(keys, sort=False, dropna=False):
        own = rows.set_index("student")
        cells = [_cell(own.loc[student]) if student in own.index else "" for student in students]
        mean = rows["ratio_to_full"].mean()
        first = rows.iloc[0]
        names = [f"{first[name]:g}" if isinstance(first[name], float) else str(first[name]) for name in keys]
        spent = "" if pd.isna(first["distill_seconds"]) else f"{first['distill_seconds']:.1f} s"
        speedup = "" if key[0] in REFERENCES else f"{rows['train_speedup'].median():.0f}×"
        floats = f"{first['floats']:,}" if first["floats"] else ""
        lines.append((mean, [*names, *cells, f"{mean:.3f}×", floats, spent, speedup]))
    lines.sort(key=lambda line: line[0])
    headings = [*keys, *students, "to full", "floats", "distilling", "training speed-up"]
    return headings, [["" if cell == "nan" else cell for cell in cells] for _, cells in lines]


def _cell(row: pd.Series) -> str:
    if "coverage_80" in row:
        return f"{row['mse']:.3f} ± {row['mse_std']:.3f}, {row['coverage_80']:.0%}"
    known = "" if pd.isna(row["published"]) else f" ({row['published']:.3f})"
    return f"{row['mse']:.3f} ± {row['mse_std']:.3f}{known}"


def markdown(table: pd.DataFrame) -> str:
    """The table people read, in Markdown."""
    headings, cells = pivot(table)
    lines = [headings, ["---"] * len(headings), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _color(method: str) -> str:
    """The same for a method in every picture."""
    order = list(dict.fromkeys([*COLOURED, *METHODS, AUTO]))
    return PALETTE[order.index(method) % len(PALETTE)]


def bars(table: pd.DataFrame, title: str) -> Figure:
    """Test MSE: a group of bars per student, a bar per method; full data and naive forecasts as lines across."""
    table, error = _shown(table)
    students = list(dict.fromkeys(table["student"]))
    distilled = table[~table["method"].isin(REFERENCES)]
    order = distilled.groupby("method")["ratio_to_full"].mean().sort_values().index
    figure = Figure(figsize=(3.2 + 2.4 * len(students), 4), layout="constrained")
    ax = figure.subplots()
    width = 0.8 / len(order)
    full, *naives = [table[table["method"] == name].set_index("student")["mse"] for name in REFERENCES]
    for m, method in enumerate(order):
        own = table[table["method"] == method].set_index("student")
        where = [s - 0.4 + (m + 0.5) * width for s, student in enumerate(students) if student in own.index]
        mse = own["mse"].reindex(students).dropna()
        ax.bar(where, mse, width * 0.92, yerr=own["mse_std"].reindex(mse.index), color=_color(method), label=method,
               error_kw={"elinewidth": 0.8, "ecolor": MARK})  # fmt: skip
    top = min(HIGHEST * full.max(), 1.15 * (distilled["mse"] + distilled["mse_std"]).max())
    for s, student in enumerate(students):
        ax.plot([s - 0.44, s + 0.44], [full[student]] * 2, color="black", lw=1.4, label=None if s else "full data")
        for name, style, mse in zip(NAIVE, ("--", ":"), naives, strict=True):
            if student in mse.index and mse[student] <= top:
                ax.plot([s - 0.44, s + 0.44], [mse[student]] * 2, style, color=MARK, label=None if s else name)
    ax.set_ylim(0, top)
    for bar in ax.patches:
        if isinstance(bar, Rectangle) and bar.get_height() > top:  # cut: say how high it is
            ax.text(bar.get_x() + bar.get_width() / 2, 0.98 * top, f"{bar.get_height():.2f}",
                    rotation=90, ha="center", va="top", color="white", fontsize=8)  # fmt: skip
    ax.set_xticks(range(len(students)), students)
    ax.set_ylabel(f"test {error} (scaled units)")
    return _finished(figure, ax, title)


def curve(table: pd.DataFrame, vary: str, title: str) -> Figure:
    """MSE over that of full data, mean over students, against the varied setting; a line per method."""
    table, error = _shown(table)
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    ax = figure.subplots()
    rest = table[~table["method"].isin(REFERENCES)]
    means = rest.groupby(["method", vary], sort=False)["ratio_to_full"].mean().reset_index()
    order = means.groupby("method")["ratio_to_full"].mean().sort_values().index
    for method in order:
        own = means[means["method"] == method].sort_values(vary)
        ax.plot(own[vary], own["ratio_to_full"], "o-", ms=4, color=_color(method), label=method)
    ax.axhline(1, color=REAL, lw=1.2)
    ax.annotate("full data", (1, 1), xycoords=("axes fraction", "data"), ha="right", va="top", fontsize=8)
    ax.set_ylim(0.95, min(HIGHEST, 1.05 * means["ratio_to_full"].max()))
    ax.set_xlabel(vary)
    ax.set_ylabel(f"test {error} / that of full data, mean over students")
    return _finished(figure, ax, title)


def _finished(figure: Figure, ax: Axes, title: str) -> Figure:
    text, font = glyphs.name(title)
    ax.set_title(text, fontsize=10, **font)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure
