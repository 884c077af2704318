"""The tables of README.md, docs/results.md and recipes/README.md, written from the per-seed errors in recipes/results/.

    python recipes/tables.py                      # make tables: write them
    python recipes/tables.py keep FOLDER COMMIT   # take up FOLDER/cells.csv of a hdt compare that ran at COMMIT; a
                                                  # suffix of the file's name may follow, such as -rivals

A table stands between `<!-- table: KIND NAME… -->` and `<!-- end -->`; KIND is one of `errors` (a method per line, a
student per column), `paired` (differences to the best method), `mean` (ratio to full data, a data set per column),
`brief` (the named methods of one comparison beside what is published) and `others` (`errors` of all but those named).
The first line of a CSV is the command that makes it again.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas as pd

from hdt.data import registry
from hdt.distillation import config
from hdt.evaluation import published
from hdt.evaluation.paired import REFERENCES, behind_best, ratios, readable

HERE = Path(__file__).resolve().parent
PAGES = (HERE.parent / "README.md", HERE.parent / "docs" / "results.md", HERE / "README.md")
BLOCK = re.compile(r"(<!-- table: ([^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
SIZES = ("length", "context", "horizon")
SAME = ("data", "length", "context", "horizon", "validation", "protocol")
FLAGS = {"ercot_multiple_ts.csv": "--target-column value", "tourism.parquet": "--k 8"}  # which no cell tells
KEPT = ["data", "length", "context", "horizon", "method", "student", "seed", "mse", "mae", "mase", "validation_mse",
        "floats", "validation", "protocol", "commit"]  # fmt: skip


def cells(name: str) -> pd.DataFrame:
    """The per-seed errors of one comparison."""
    return pd.read_csv(HERE / "results" / f"{name}.csv", comment="#")


def command(found: pd.DataFrame) -> str:
    """The command that computes these cells; one for each number of seeds, where methods differ in that."""
    seeds = found[~found["method"].isin((*REFERENCES, "random"))].groupby("method", sort=False)["seed"].nunique()
    if seeds.nunique() > 1:
        parts = [found[found["method"].map(seeds) == count] for count in sorted(seeds.unique(), reverse=True)]
        return "; ".join(map(command, parts))
    words = [f"--method {method}" for method in seeds.index] or ["--method random"]
    words += [f"--student {student}" for student in found["student"].unique()]
    words += [] if found["validation"].iloc[0] else ["--no-validation"]
    data = found["data"].iloc[0]
    usual = config.resolve(data if registry.find(data) else None)
    words += [f"--{name} {found[name].iloc[0]}" for name in SIZES if found[name].iloc[0] != getattr(usual, name)]
    words += [FLAGS[data]] if data in FLAGS else []
    return " ".join(["hdt compare", data, *words, f"--seeds {found['seed'].nunique()}"])


def title(found: pd.DataFrame) -> str:
    """The name of a file of results: the data set, and what was unusual in the training, or that networks trained."""
    own = found.iloc[0]
    networks = bool(own["validation"]) and found["student"].nunique() > 1
    return (
        Path(own["data"]).stem + ("" if own["validation"] else "-no-validation") + ("-networks" if networks else "")
    )  # fmt: skip


def keep(folder: Path, commit: str, suffix: str = "") -> Path:
    """Copy the cells of a comparison into results/, with the command and the commit that made them."""
    found = pd.read_csv(folder / "cells.csv").assign(commit=commit)
    table = pd.read_csv(folder / "table.csv")
    naive = table[table["method"].isin(REFERENCES[1:])].assign(commit=commit)
    first = found.iloc[0]
    naive = naive.assign(**{name: first[name] for name in SAME})
    whole = pd.concat([found, naive.assign(seed=0)])
    whole = whole[[name for name in KEPT if name in whole]]
    target = HERE / "results" / f"{title(whole)}{suffix}.csv"
    text = whole.to_csv(index=False, float_format="%.6g")
    target.write_text(f"# {command(found)}\n{text}", encoding="utf-8")
    return target


def markdown(headings: list[str], lines: list[list[str]]) -> str:
    """A Markdown table."""
    return "".join(f"| {' | '.join(line)} |\n" for line in [headings, ["---"] * len(headings), *lines])


def errors(name: str) -> str:
    """Test MSE ± its standard deviation over seeds, published figures in brackets; best ratio first."""
    found = cells(name)
    students = list(found["student"].unique())
    full = found[found["method"] == "full"].groupby("student")["mse"].mean()
    where = {key: int(found[key].iloc[0]) for key in ("length", "context", "horizon")}
    lines = []
    for method, own in found.groupby("method", sort=False):
        by_student = own.groupby("student")["mse"]
        ratio = (by_student.mean() / full).mean()
        texts = []
        for student in students:
            errors = own.loc[own["student"] == student, "mse"]
            known = published.mse(found["data"].iloc[0], str(method), student, **where)
            spread = f" ± {errors.std():.3f}" if len(errors) > 1 else ""
            texts.append(f"{errors.mean():.3f}{spread}" + ("" if known is None else f" ({known:.3f})"))
        floats = own["floats"].max()
        stored = f"{floats:,.0f}" if floats > 0 else ""
        lines.append((ratio, [str(method), *texts, f"{ratio:.3f}×", stored, str(own["seed"].nunique())]))
    lines.sort(key=lambda line: line[0])
    return markdown(["method", *students, "to full", "floats", "seeds"], [line for _, line in lines])


def paired(name: str) -> str:
    """Differences to the best method, paired by seed."""
    return markdown(*readable(behind_best(cells(name))))


def mean(*names: str) -> str:
    """Ratio to full data on several sets, and its mean over them; methods that lack a set have none."""
    table = pd.DataFrame({name: ratios(cells(name)).mean() for name in names})
    table["mean"] = table.mean(axis=1, skipna=False)
    table = table.sort_values("mean")
    lines = [[str(method), *(f"{value:.3f}" if value == value else "" for value in row)] for method, row in
             zip(table.index, table.to_numpy(), strict=True)]  # fmt: skip
    return markdown(["method", *table.columns], lines)


def brief(name: str, *methods: str) -> str:
    """Test MSE of these methods with the first student beside what the HDT paper prints, and numbers trained on."""
    found = cells(name)
    first = found.iloc[0]
    student, where = str(first["student"]), {key: int(first[key]) for key in ("length", "context", "horizon")}
    entry = registry.entry(str(first["data"]))
    found = found[found["student"] == student]
    full = found.loc[found["method"] == "full", "mse"].mean()
    lines = []
    for method in methods:
        own = found[found["method"] == method]
        known = published.mse(entry.name, method, student, **where)
        spread = f"{own['mse'].mean():.3f} ± {own['mse'].std():.3f}"
        stored = f"{own['floats'].max():,.0f}" if own["floats"].max() > 0 else "all"
        lines.append(
            [method, spread, f"{own['mse'].mean() / full:.3f}×", "" if known is None else f"{known:.3f}", stored]
        )
    return markdown(["trained on", f"{student}, test MSE", "to full", "published", "numbers"], lines)


def others(*shown: str) -> str:
    """The errors of every comparison but those named, each under its name and command."""
    found = [path for path in sorted((HERE / "results").glob("*.csv")) if path.stem not in shown]
    commands = [path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for path in found]
    parts = [f"\n### {path.stem}\n\n`{own}`\n\n{errors(path.stem)}" for path, own in zip(found, commands, strict=True)]
    return "".join(parts) + "\n"


KINDS = {"errors": errors, "paired": paired, "mean": mean, "brief": brief, "others": others}


def rewritten(text: str) -> str:
    """A page with its tables made anew."""

    def table(match: re.Match[str]) -> str:
        kind, *names = match[2].split()
        return f"{match[1]}{KINDS[kind](*names)}{match[3]}"

    return BLOCK.sub(table, text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["keep"]:
        print(keep(Path(sys.argv[2]), *sys.argv[3:]))
    for page in PAGES:
        page.write_text(rewritten(page.read_text(encoding="utf-8")), encoding="utf-8")
