from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL
from scipy import stats

import hdt
from hdt.evaluation import paired
from hdt.students import DLinear, Training


def cells(errors: dict[str, list[float]], student: str = "dlinear") -> pd.DataFrame:
    rows = [
        {"method": method, "student": student, "seed": seed, "mse": mse}
        for method, values in errors.items()
        for seed, mse in enumerate(values)
    ]
    return pd.DataFrame(rows)


ERRORS = {"full": [0.4, 0.6], "good": [0.50, 0.60, 0.55], "bad": [0.61, 0.72, 0.65], "even": [0.48, 0.63, 0.55]}


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    table = paired.behind_best(cells(ERRORS)).set_index("method")
    oracle = stats.ttest_rel(ERRORS["bad"], ERRORS["good"]).confidence_interval(0.95)
    assert table.loc["bad", ["low", "high"]].tolist() == pytest.approx([oracle.low / 0.5, oracle.high / 0.5])
    assert table.loc["bad", "ratio"] == pytest.approx(np.mean(ERRORS["bad"]) / 0.5)


def test_the_best_comes_first_and_what_chance_explains_is_not_behind() -> None:
    """`near` scatters by .002 about `good`; `even` by .06, which three seeds cannot tell from anything."""
    near = [0.501, 0.601, 0.551 - 0.001]
    table = paired.behind_best(cells({**ERRORS, "near": near}))
    assert table["method"].tolist() == ["good", "near", "even", "bad"]  # full data is no method
    assert table["verdict"].tolist() == ["best", "tie", "undecided", "behind"]
    headings, lines = paired.readable(table)
    assert [line[3] for line in lines] == table["verdict"].tolist() and len(headings) == len(lines[0])


def test_students_weigh_alike_and_seeds_that_lack_one_are_left_out() -> None:
    both = pd.concat([cells(ERRORS), cells({"full": [2.0], "good": [2.2, 2.0], "bad": [3.0, 3.0]}, "xpatch")])
    found = paired.ratios(both)
    assert found["good"].tolist()[:2] == pytest.approx([(1.0 + 1.1) / 2, (1.2 + 1.0) / 2])
    assert np.isnan(found["good"][2]) and "even" not in found


def test_one_seed_decides_nothing() -> None:
    table = paired.behind_best(cells({name: values[:1] for name, values in ERRORS.items()}))
    assert paired.readable(table)[1][-1][3] == "one seed"


def test_a_comparison_keeps_every_seed(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DLinear, "training_settings", Training(lr=5e-3, epochs=2, min_steps=20))
    table = hdt.compare(frame, methods=["hdt"], students=["dlinear"], seeds=2, out="out", **SMALL).set_index("method")
    kept = pd.read_csv("out/cells.csv")
    assert len(kept) == 6 and set(kept["seed"]) == {0, 1} and (kept["length"] == 48).all()
    for method in ("full", "hdt", "random"):
        assert kept.loc[kept["method"] == method, "mse"].mean() == pytest.approx(table.loc[method, "mse"])
