"""Two files of others as tables that hdt reads: python recipes/panels.py FOLDER OUT

FOLDER holds ``electricity_321x840.npy`` (clients × hours) and ``tourism.csv`` (quarterly trips by region, state and
purpose); OUT gets ``electricity-840.parquet``, wide, and ``tourism.parquet``, long. The other panels of
recipes/README.md are read as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd


def electricity(folder: Path) -> pd.DataFrame:
    """840 hours of 321 clients; the stamps are made up, since the file has none."""
    values = np.load(folder / "electricity_321x840.npy").T
    hours = pd.date_range("2014-01-01", periods=len(values), freq="h", name="date")
    return pd.DataFrame(values, index=hours, columns=[f"client_{c}" for c in range(values.shape[1])])


def tourism(folder: Path) -> pd.DataFrame:
    """A series per region, state and purpose, by quarters."""
    trips = pd.read_csv(folder / "tourism.csv")
    stamps = pd.PeriodIndex(trips["Quarter"].str.replace(" ", ""), freq="Q").to_timestamp()
    names = trips["Region"] + "/" + trips["State"] + "/" + trips["Purpose"]
    return pd.DataFrame({"unique_id": names, "ds": stamps, "y": trips["Trips"]})


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    target.mkdir(parents=True, exist_ok=True)
    electricity(source).to_parquet(target / "electricity-840.parquet")
    tourism(source).to_parquet(target / "tourism.parquet")
