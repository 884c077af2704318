from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import Result, refused

from hdt.students import STUDENTS, Training

SETTING = ["--length", "48", "--context", "12", "--horizon", "6", "--option", "iterations=3"]
ROW = {
    "method", "student", "mse", "mse_std", "mae", "mae_std", "mase", "validation_mse", "seeds", "ratio_to_full",
    "published", "floats", "distill_seconds", "train_seconds", "train_speedup", "distance_start", "distance_nearest",
}  # fmt: skip
Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for student in STUDENTS.values():
        monkeypatch.setattr(student, "training_settings", Training(lr=5e-3, epochs=1, min_steps=2))
        monkeypatch.setattr(student, "rates", (1.0,))


def test_compare_prints_a_table_and_writes_it_in_four_ways(run: Run, csv: Path) -> None:
    result = run("compare", csv, *SETTING, "--method", "hdt", "--student", "dlinear", "--student", "itransformer",
                 "--seeds", 1, "--k", 4)  # fmt: skip
    assert result.code == 0
    assert [word in result.out for word in ("dlinear", "itransformer", "random", "full", "hdt")] == [True] * 5
    folder = Path("runs/compare-plant")
    assert {path.name for path in folder.iterdir()} == {
        "cells", "cells.csv", "runs", "table.csv", "table.json", "table.md", "table.png",
    }  # fmt: skip
    assert "written: " in result.err


def test_auto_and_its_method_are_two_rows_and_drawn(run: Run, csv: Path) -> None:
    result = run("compare", csv, *SETTING, "--method", "auto", "--method", "fred-wiener", "--student", "dlinear",
                 "--seeds", 1, "--option", "iterations=2")  # fmt: skip
    assert result.code == 0, result.err
    table = pd.read_csv("runs/compare-plant/table.csv").set_index("method")
    assert {"auto", "fred-wiener"} <= set(table.index)
    assert Path("runs/compare-plant/table.png").exists()


def test_compare_json_has_the_agreed_fields_and_nothing_else_on_stdout(run: Run, csv: Path) -> None:
    words = ["compare", csv, *SETTING, "--method", "random", "--student", "dlinear", "--seeds", 1, "--json"]
    fields = json.loads(run(*words).out)
    assert set(fields) == {"schema_version", "rows", "paired"}
    assert [(row["method"], row["behind"], row["seeds"]) for row in fields["paired"]] == [("random", 0.0, 1)]
    assert [set(row) for row in fields["rows"]] == [ROW] * 4
    assert [row["method"] for row in fields["rows"]] == ["full", "random", "last value", "last season"]
    varied = json.loads(run(*words, "--vary", "length=24,48").out)["rows"]
    assert [row["length"] for row in varied] == [None, 24, 48, None, None]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "magic"], "unknown method 'magic'"),
        (["--student", "lstm"], "unknown student 'lstm'"),
        (["--vary", "length"], "--vary length: expected a setting and its values"),
        (["--vary", "horizon=6"], "would change the question"),
        (["--option", "depth=3"], "no setting 'depth'"),
        (["--length", "10"], "length M = 10 is below context"),
    ],
)
def test_bad_requests_end_with_2_and_one_line(run: Run, csv: Path, words: list[str], message: str) -> None:
    refused(run("compare", csv, "--context", 12, "--horizon", 6, "--method", "random", *words), message)


def test_a_comparison_reads_its_table_as_a_distillation_does(run: Run, tmp_path: Path) -> None:
    stamps = pd.date_range("2024-01-01", periods=300, freq="h")
    parts = [pd.DataFrame({"zone": name, "at": stamps, "load": range(300), "other": 1.0}) for name in "ab"]
    pd.concat(parts).to_csv(tmp_path / "long.csv", index=False)
    words = [tmp_path / "long.csv", *SETTING, "--method", "random", "--student", "dlinear", "--seeds", 1, "--json"]
    named = ["--id-column", "zone", "--time-column", "at", "--target-column", "load", "--split", "0.5,0.2,0.3"]
    refused(run("compare", *words), "sort by time first")
    found = run("compare", *words, *named)
    assert found.code == 0, found.err
    by_name = {row["method"]: row for row in json.loads(found.out)["rows"]}
    assert by_name["full"]["floats"] == 150 * 2
    again = [*words, *named[:4], "--option", "target_column=load", "--out", tmp_path / "again"]
    assert run("compare", *again).code == 0


def test_training_without_validation_can_be_asked_for(run: Run, csv: Path) -> None:
    words = ["compare", csv, *SETTING, "--method", "random", "--student", "dlinear", "--seeds", 1, "--json"]
    assert run(*words, "--no-validation").code == 0
    assert run("distill", csv, *SETTING, "--k", 4, "--out", "r").code == 0
    assert run("evaluate", "r", "--seeds", 1, "--no-validation").code == 0


def test_recipes_are_listed_shown_and_refused(run: Run) -> None:
    listed = json.loads(run("recipes", "ls", "--json").out)["recipes"]
    assert {"etth1-hdt", "etth1-mtt", "etth1-condtsf", "electricity-hdt"} <= {row["name"] for row in listed}
    assert "etth1-hdt" in run("recipes", "ls").out
    shown = run("recipes", "show", "etth1-hdt").out
    assert shown.startswith("# hdt recipes run etth1-hdt\n") and "method: hdt" in shown
    refused(run("recipes", "show", "nothing"), "unknown recipe 'nothing'; known: electricity-condtsf")
