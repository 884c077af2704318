"""The ablation of covariates: students trained on a distilled set and on all data, with the calendar and without it.

    python recipes/covariates.py ercot co2 electricity --seeds 3 --out covariates.csv

``ercot`` and ``electricity`` are files of recipes/panels.py. Rate and epoch by validation; the test part is read once
per row. A set that was distilled without covariates trains the students that do without.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

import hdt
from hdt.data.series import Panel
from hdt.evaluation.protocol import Evaluator
from hdt.students import STUDENTS, ITransformer, Training

QUICK = Training(lr=1e-3, epochs=10, min_steps=300)
CASES: dict[str, tuple[int, int, int, list[str]]] = {  # context, horizon, length, calendar
    "ercot": (96, 24, 192, ["hour", "weekday"]),
    "electricity": (24, 24, 96, ["hour", "weekday"]),
    "co2": (13, 26, 208, ["year"]),
    "co2-52": (52, 26, 208, ["year"]),
}


class SmallTransformer(ITransformer):
    """iTransformer with tokens of 64 numbers."""

    name = "itransformer-64"
    training_settings = QUICK

    def __init__(self, context: int, horizon: int, channels: int) -> None:
        super().__init__(context, horizon, channels, width=64)


def tide(context: int, horizon: int, channels: int, **lists: Any) -> nn.Module:
    """A small TiDE of neuralforecast.

    Its ``layernorm``, on by default, normalises the one number of every step, which is then its bias, whatever is
    known ahead (3.3.0): what is left of the model is its linear skip.
    """
    from neuralforecast.models import TiDE

    size = {"hidden_size": 64, "decoder_output_dim": 8, "temporal_decoder_dim": 32, "dropout": 0.1, "layernorm": False}
    return TiDE(h=horizon, input_size=context, scaler_type="standard", **size, **lists)


def known_tide(known: int) -> Any:
    """The same with so many columns known ahead."""

    def make(context: int, horizon: int, channels: int) -> nn.Module:
        return tide(context, horizon, channels, futr_exog_list=[f"known_{n}" for n in range(known)])

    make.takes_known = True  # type: ignore[attr-defined]
    return make


def panel_of(case: str, calendar: Sequence[str] | None) -> Panel:
    """The data of a case, with the calendar or without."""
    folder = Path(os.environ.get("HDT_DATA_DIR", "data"))
    if case.startswith("co2"):
        return hdt.load("co2", calendar=calendar)
    if case == "ercot":
        return hdt.load(folder / "ercot_multiple_ts.csv", target_column="value", calendar=calendar)
    values = np.load(folder / "electricity_321x840.npy").T[:, ::10]
    stamps = pd.date_range("2014-01-01", periods=len(values), freq="h")  # of which only the cycles count
    table = pd.DataFrame(values, index=stamps, columns=[f"client {n}" for n in range(values.shape[1])])
    return hdt.load(table, calendar=calendar)


@cache
def distilled_set(case: str, cycles: tuple[str, ...] | None, seed: int, method: str) -> hdt.Distilled:
    """A set of that case."""
    context, horizon, length, _ = CASES[case]
    return hdt.distill(
        panel_of(case, cycles), method=method, length=length, context=context, horizon=horizon, seed=seed
    )


def by_month(series: pd.DataFrame) -> pd.Series:
    """Mean by month of what is left of series beside their mean over a year around it."""
    season = series - series.rolling(53, center=True, min_periods=27).mean()
    return season.mean(axis=1).groupby(season.index.month).mean()


def draw(place: Path, method: str) -> None:
    """The season of co2 and of sets with the calendar and without it."""
    import matplotlib.pyplot as plt

    panel = panel_of("co2", None)
    truth = by_month(pd.DataFrame(panel.part("train"), index=panel.index[: panel.borders[0]]))
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    axes.plot(truth, color="0.6", lw=4, label="real")
    for cycles, style, label in ((("year",), "C3-", "distilled with the calendar"), (None, "C3:", "without it")):
        made = distilled_set("co2", cycles, 0, method)
        own = by_month(pd.DataFrame(made.values[..., 0].T, index=pd.DatetimeIndex(made.to_long()["ds"].unique())))
        axes.plot(own, style, label=label)
        print(label, "correlates with the real season by", np.corrcoef(own, truth)[0, 1].round(2))
    axes.set(xlabel="month", ylabel="season, scaled units", xticks=range(1, 13))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(place, dpi=110)


def rows(case: str, seeds: int, method: str, only: Sequence[str]) -> list[dict[str, Any]]:
    """The errors of a case."""
    context, horizon, _, calendar = CASES[case]
    found = []
    for cycles in (None, tuple(calendar)):
        panel = panel_of(case, cycles)
        known = 0 if panel.covariates is None else len(panel.covariates.names)
        own = hdt.wrap(known_tide(known) if known else tide, f"tide-{known}-{case}", QUICK)
        names = STUDENTS.names([own, SmallTransformer])
        evaluator = Evaluator(panel, context, horizon)
        for seed in range(seeds):
            made = distilled_set(case, cycles, seed, method)
            for student in [name for name in names if name.partition("-")[0] in only]:
                for trained_on, series in (("distilled", made.seen), ("full", evaluator.train[None])):
                    score = evaluator.score(student, series, seed)
                    row = {"case": case, "calendar": bool(cycles), "student": student.partition("-")[0]}
                    row |= {"trained_on": trained_on, "seed": seed, "validation": score["validation_mse"]}
                    found.append({**row, "mse": score["mse"], "seconds": score["train_seconds"]})
                    print(found[-1], flush=True)
    return found


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=", ".join(CASES))
    parser.add_argument("--students", nargs="+", default=["tide", "itransformer"])
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--method", default="wiener")
    parser.add_argument("--out", type=Path, default=Path("covariates.csv"))
    given = parser.parse_args()
    every: list[dict[str, Any]] = []
    for case in given.cases:
        every += rows(case, given.seeds, given.method, given.students)
        pd.DataFrame(every).to_csv(given.out, index=False)
    if given.figure:
        draw(given.figure, given.method)
    if not every:
        return
    if given.figure:
        draw(given.figure, given.method)
    if not every:
        return
    table = pd.DataFrame(every).groupby(["case", "student", "trained_on", "calendar"])[["validation", "mse"]].mean()
    print(table.round(4).to_string())


if __name__ == "__main__":
    main()
