from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import SMALL, make_frame, refused
from pydantic import BaseModel, ConfigDict

import hdt
import hdt.evaluation.protocol
from hdt.distillation.config import resolve
from hdt.students import DLinear, Training
from hdt.system.machine import memory_refusal

QUICK = ["--length", "48", "--context", "12", "--horizon", "6", "--k", "6", "--iterations", "3"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class DistillJson(Strict):
    schema_version: int
    method: str
    dataset: str
    length: int
    channels: int
    floats: int
    compression: float
    seconds: float
    peak_rss_mb: float | None
    out: str
    psd_gap: float
    acf_gap: float


class EvaluationJson(Strict):
    student: str
    mse: float
    mse_std: float
    mae: float
    mae_std: float
    seeds: int
    train_seconds: float


@pytest.mark.draws
def test_distil_then_evaluate_then_report(run, csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DLinear, "training_settings", Training(lr=5e-3, epochs=2, min_steps=20))
    first = run("distill", csv, *QUICK)
    assert first.code == 0
    out = Path("runs/plant-hdt-48")
    assert f"next: hdt evaluate {out}" in first.out and len(first.out.splitlines()) < 20
    second = run("evaluate", out, "--seeds", 2)
    assert second.code == 0
    assert [word in second.out for word in ("distilled", "random", "full")] == [True] * 3
    third = run("report", out)
    assert third.out.strip() == str(out / "report.html")
    assert "<h2>Evaluation</h2>" in (out / "report.html").read_text()
    assert {path.stem for path in out.glob("*.png")} == {"acf", "evaluation", "loss", "series", "spectrum"}
    page = (out / "report.html").read_text()
    assert page.index('alt="evaluation"') < page.index('alt="series"')  # what it is worth comes first


def test_json_has_the_agreed_fields_and_nothing_else_on_stdout(run, csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DLinear, "training_settings", Training(lr=5e-3, epochs=2, min_steps=20))
    result = run("distill", csv, *QUICK, "--json", "--out", "r")
    fields = DistillJson.model_validate_json(result.out)
    assert (fields.method, fields.dataset, fields.length, fields.channels, fields.floats) == (
        "hdt",
        "plant.csv",
        48,
        2,
        96,
    )
    assert fields.out == "r" and fields.compression == pytest.approx(280 / 48)
    evaluated = json.loads(run("evaluate", "r", "--seeds", 1, "--json").out)
    assert set(evaluated) == {"schema_version", "results", "rows"}
    assert [EvaluationJson.model_validate(row).student for row in evaluated["results"]] == ["dlinear"]
    assert [row["trained_on"] for row in evaluated["rows"]] == [
        "distilled", "random", "full", "last value", "last season",
    ]  # fmt: skip


class Full:
    """A disk that has no room, or may only be read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, readonly: bool = False) -> None:
        usual, error = Path.write_bytes, OSError(number, os.strerror(number))

        def failing(self: Path, content: bytes) -> int:
            usual(self, content[: len(content) // 2])  # the first half has room
            raise error

        def refusing(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(Path, "mkdir" if readonly else "write_bytes", refusing if readonly else failing)
        if readonly:
            monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("json_", [[], ["--json"]])
def test_results_are_printed_though_they_cannot_be_kept(
    readonly: bool, json_: list[str], run, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DLinear, "training_settings", Training(lr=5e-3, epochs=1, min_steps=2))
    assert run("distill", csv, *QUICK, "--out", "r").code == 0
    before = sorted(Path("r").iterdir())
    Full(monkeypatch, 30 if readonly else 28, readonly)
    result = run("evaluate", "r", "--seeds", 1, *json_)
    assert result.code == 2
    assert json.loads(result.out)["rows"] if json_ else "distilled" in result.out
    lines = result.err.splitlines()
    if readonly:
        assert lines.pop(0) == "note: r: cannot write here; the results are printed, but not kept for the report"
    reason = "Read-only file system" if readonly else "No space left on device"
    assert lines == [f"error: r/evaluation.json: cannot be written ({reason}); make room there or copy the folder"]
    assert sorted(Path("r").iterdir()) == before


def test_a_full_disk_leaves_no_half_a_picture(run, csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("distill", csv, *QUICK, "--out", "r").code == 0
    run("report", "r")
    before = {path: path.read_bytes() for path in Path("r").iterdir()}
    Path("r/acf.png").unlink()
    Full(monkeypatch, 28)
    refused(run("report", "r"), r"r/series.png: cannot be written \(No space left on device\)")
    assert {path: path.read_bytes() for path in Path("r").iterdir()} == {
        path: content for path, content in before.items() if path.name != "acf.png"
    }


def test_a_save_on_a_full_disk_leaves_nothing_and_says_so(run, csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Full(monkeypatch, 28)
    result = run("distill", csv, *QUICK, "--out", "runs/r")
    assert result.code == 2 and "error: runs/r: cannot write the run (No space left on device)" in result.err
    assert list(Path("runs").iterdir()) == []


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_a_locale_that_knows_ascii_only_loses_nothing(locale: str, tmp_path: Path) -> None:
    make_frame(columns=("Höhe", "高")).rename_axis("date").to_csv(tmp_path / "plänt.csv")
    place = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-W", "ignore", "-m", "hdt", "distill", "plänt.csv", *QUICK, "--out", "rün"]
    done = subprocess.run([os.fsencode(word) for word in command], cwd=tmp_path, env={**os.environ, **place},
                          capture_output=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii() and b"training values" in done.stdout
    assert done.stderr.isascii() and b"little compression" in done.stderr
    loaded = hdt.Distilled.load(tmp_path / "rün")
    assert loaded.columns == ["Höhe", "高"] and loaded.info.data.source == "plänt.csv"
    assert hdt.evaluation.protocol.real_data(loaded).columns == ("Höhe", "高")
    assert "plänt.csv" in (tmp_path / "rün" / "recipe.yaml").read_text(encoding="utf-8").splitlines()[0]


def test_a_dry_run_tells_all_and_writes_nothing(run, csv: Path) -> None:
    before = sorted(Path().rglob("*"))
    text = run("distill", csv, *QUICK, "--dry-run")
    plan = yaml.safe_load(text.out)
    assert plan["floats"] == 96 and plan["settings"]["options"]["k"] == 6
    assert 100 < plan["estimated_memory_mb"] < 2000
    assert {**json.loads(run("distill", csv, *QUICK, "--dry-run", "--json").out), "schema_version": 1} == {
        "schema_version": 1, **plan,
    }  # fmt: skip
    assert sorted(Path().rglob("*")) == before


def test_a_period_is_taken_and_written_into_the_recipe(run, csv: Path) -> None:
    small = ["--length", 48, "--context", 12, "--horizon", 6, "--iterations", 2]
    text = run("distill", csv, "--method", "fred-wiener", *small, "--period", 7, "--out", "folded").out
    assert "training values → 48 × 2 × 4\n" in text
    assert (Path("folded") / "recipe.yaml").read_text().splitlines()[0].endswith("--iterations 2 --seed 0 --period 7")
    run("distill", "--recipe", "folded/recipe.yaml", "--out", "again")
    params = [(Path(name) / "params.safetensors").read_bytes() for name in ("folded", "again")]
    assert params[0] == params[1]
    assert run("evaluate", "folded", "--seeds", 1, "--json").out
    refused = run("distill", csv, *QUICK, "--period", 7)
    assert refused.code == 2 and "has no setting 'period'" in refused.err


def test_a_recipe_repeats_a_run_and_flags_win(run, csv: Path) -> None:
    run("distill", csv, *QUICK, "--out", "a", "--split", "0.5,0.25,0.25")
    run("distill", "--recipe", "a/recipe.yaml", "--out", "b")
    run("distill", "--recipe", "a/recipe.yaml", "--out", "c", "--seed", 1)
    params = [(Path(name) / "params.safetensors").read_bytes() for name in "abc"]
    assert params[0] == params[1] != params[2]
    assert hdt.Distilled.load("b").info.data.borders == (200, 300, 400)


def test_flags_reach_the_objective(run, csv: Path) -> None:
    run("distill", csv, *QUICK, "--lam", 0.25, "--acf-weight", 2, "--option", "steps_real=3", "--out", "r")
    options = hdt.Distilled.load("r").info.settings.options
    assert (options["lam"], options["acf_weight"], options["steps_real"], options["k"]) == (0.25, 2.0, 3, 6)


def test_auto_is_recorded_with_what_it_became_and_repeats(run, csv: Path) -> None:
    run("distill", csv, *QUICK, "--k", "auto", "--lam", "auto", "--out", "a")
    run("distill", "--recipe", "a/recipe.yaml", "--out", "b")
    loaded = hdt.Distilled.load("a")
    assert loaded.info.settings.options["k"] == loaded.info.settings.options["lam"] == "auto"
    assert loaded.info.chosen["k"] == len(loaded.info.harmonics[0]) and loaded.info.chosen["lam"] > 0
    assert Path("a/params.safetensors").read_bytes() == Path("b/params.safetensors").read_bytes()


def test_a_budget_is_kept_on_the_command_line(run, csv: Path) -> None:
    sizes = ["--context", 12, "--horizon", 6, "--option", "features=8", "--option", "draws=2"]
    result = run(
        "distill", csv, "--method", "wiener", "--iterations", 2, *sizes, "--budget", 60, "--out", "r", "--json"
    )
    facts = json.loads(result.out)
    assert facts["floats"] <= 60 and (facts["length"], facts["channels"]) == (30, 1)


def test_options_of_a_table_are_kept_and_repeat(run, tmp_path: Path) -> None:
    frame = make_frame().set_axis(pd.date_range("2024-01-01", periods=400, freq="30s"))  # within one day
    frame = frame.drop(frame.index[[40, 41]]).rename_axis("Zeit")
    frame.to_csv(tmp_path / "a.csv", sep="#", decimal=",", date_format="%d/%m/%Y %H:%M:%S")
    words = ["distill", "a.csv", *QUICK, "--sep", "#", "--decimal", ",", "--out", "a"]
    refused(run(*words), "'01/01/2024 00:00:00' may have the day or the month first.*give --dayfirst or --monthfirst")
    missing = run(*words, "--monthfirst")
    refused(missing, "irregular step at row 40")
    hint = re.search(r"with (--freq \S+)", missing.err)
    assert hint is not None
    done = run(*words, "--monthfirst", *hint[1].split())
    assert done.code == 0 and "note: rows absent from steps of 30s: 2;" in done.err
    options = {"sep": "#", "decimal": ",", "dayfirst": False, "freq": "30s"}
    assert hdt.Distilled.load("a").info.data.load_options == options
    first, *_ = Path("a/recipe.yaml").read_text().splitlines()
    assert first.endswith("--sep '#' --decimal , --monthfirst --freq 30s")
    for again in (["distill", "--recipe", "a/recipe.yaml"], shlex.split(first.removeprefix("# hdt"))):
        assert run(*again, "--out", "b", "--force").code == 0
        assert Path("a/params.safetensors").read_bytes() == Path("b/params.safetensors").read_bytes()
    info = json.loads(run("data", "info", "a.csv", *words[-6:-2], "--monthfirst", *hint[1].split(), "--json").out)
    assert (info["rows"], info["step"], info["columns"]) == (400, "0 days 00:00:30", ["load", "wind"])


def test_business_days_with_a_holiday_are_read_with_the_hint_as_printed(run, tmp_path: Path) -> None:
    frame = make_frame().set_axis(pd.date_range("2023-01-02", periods=400, freq="B")).rename_axis("date")
    frame.drop(pd.Timestamp("2023-05-01")).to_csv("a.csv")
    result = run("data", "info", "a.csv")
    refused(result, "irregular step at row 5: .* with --freq B .* the absent rows count as missing values")
    hint = re.search(r"--freq \S+", result.err)
    assert hint is not None
    info = json.loads(run("data", "info", "a.csv", *hint[0].split(), "--json").out)
    assert info["rows"] == 400 and "rows absent from steps of B: 1;" in info["notices"][0]


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("2024-01-01,1\n2024-01-02,2\n", [], "the first row holds data"),
        ("unique_id,ds,y\na,2024-01-01,1\n,2024-01-01,2\n", [], "'unique_id' has no value in 1 of 2 rows"),
        ("unique_id,ds,y\na,2024-01-01,1\n", ["--id-column", "uniqueid"], "did you mean 'unique_id'"),
        ("date,a\n2024-01-01,1e308\n2024-01-02,-1e308\n2024-01-03,1\n", [], "reach at most 1e\\+308"),
        ("date,a\n2024-01-01,1\n", ["--sep", "both"], "--sep both: expected one character"),
        ("date,a\n2024-01-01,1\n", ["--freq", "often"], "'often' is no frequency"),
    ],
)
def test_tables_that_would_be_misread_are_refused(run, text: str, words: list[str], message: str) -> None:
    Path("a.csv").write_text(text)
    refused(run("distill", "a.csv", *QUICK, *words), message)
    assert [path.name for path in Path().iterdir()] == ["a.csv"]


def test_holes_are_noted_on_stderr_and_kept_in_the_run(run, tmp_path: Path) -> None:
    frame = make_frame()
    frame.iloc[4, 0] = np.nan
    frame.to_parquet(tmp_path / "a.parquet")
    result = run("distill", tmp_path / "a.parquet", *QUICK, "--out", "r")
    note = "column 'load': 1 missing train values (0.4%) linearly interpolated"
    assert f"note: {note}" in result.err
    assert json.loads(Path("r/run.json").read_text(encoding="utf-8"))["data"]["notices"][0] == note
    refused(run("distill", tmp_path / "a.parquet", *QUICK, "--out", "s", "--missing", "error"), "'load' misses 0.4%")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["distill", "Nowhere"], "unknown data set 'Nowhere'; known: co2, ETTh1"),
        (["distill", "absent.csv"], "absent.csv: no such file"),
        (["distill"], "no data given"),
        (["distill", "co2", "--lam", "-1"], "lam=-1: Input should be greater than or equal to 0"),
        (["distill", "co2", "--lam", "nan"], "--lam nan: expected a number or auto"),
        (["distill", "co2", "--lam", "big"], "--lam big: expected a number or auto"),
        (["distill", "co2", "--k", "106"], r"k=106 harmonics, but .* M//2\+1 = 105"),
        (["distill", "co2", "--length", "77"], r"length M = 77 is below context 52 \+ horizon 26 = 78"),
        (["distill", "co2", "--length", "1600"], "1598 training rows are fewer than length M = 1600"),
        (["distill", "co2", "--split", "a,b"], "--split a,b: expected three numbers"),
        (["distill", "co2", "--option", "batch"], "--option batch: expected name=value"),
        (["distill", "co2", "--option", "depth=3"], "no setting 'depth'"),
        (["distill", "co2", "--method", "dm"], "unknown method 'dm'"),
        (["distill", "co2", "--recipe", "none.yaml"], "none.yaml: no such recipe"),
        (["distill", "co2", "--frequency", "3"], "No such option: --frequency"),
        (["evaluate", "nowhere"], "nowhere: no such run folder"),
        (["report", "nowhere"], "nowhere: no such run folder"),
        (["cite", "dm"], "unknown method 'dm'; known: cfm, condtsf"),
        (["data", "get", "Nowhere"], "unknown data set 'Nowhere'"),
        (["fly"], "No such command 'fly'"),
        (["distill", "co2", "--k", "'"], "--k ': cannot be read as YAML"),
        (["distill", "co2", "--option", "k=["], r"--option k=\[: cannot be read as YAML"),
        (["distill", "co2", "--option", "="], "--option =: expected name=value"),
        (["distill", "co2", "--option", "=3"], "--option =3: expected name=value"),
        (["distill", "co2", "--option", "k="], "--option k=: expected name=value"),
        (["distill", "co2", "--option", "data=x"], "no setting 'data'"),
        (["distill", "co2", "--option", "progress=1"], "no setting 'progress'"),
        (["distill", "co2", "--option", "real_channels=5"], "no setting 'real_channels'"),
        (["distill", "co2", "--option", "k=true"], "k=True: Input should not be true or false"),
        (["distill", "co2", "--option", "split=3"], "split=3: expected three numbers"),
        (["distill", "co2", "--option", "split=[a, b, c]"], r"split=\['a', 'b', 'c'\]: expected three numbers"),
        (["distill", "co2", "--option", "time_column=[1]"], r"time_column=\[1\]: expected the name of a column"),
        (["distill", "co2", "--seed", "99999999999999999999"], "seed=99999999999999999999: .* at most 9,223"),
        (["distill", "co2", "--sequences", "1000000"], "distils nothing"),
        (["distill", "x" * 300], "File name too long"),
        (["distill", "co2", "--out", "x" * 300], "File name too long"),
        (["distill", "co2", "--recipe", "x" * 300], "File name too long"),
        (["report", "x" * 300], "File name too long"),
        (["distill", "https://example.org/a.csv"], "https://example.org/a.csv: addresses are not read; download"),
        (["evaluate", "https://example.org/run"], "https://example.org/run: expected a path on this machine"),
        (["finetune", "https://example.org/run"], "https://example.org/run: expected a path on this machine"),
        (["distill", "--recipe", "https://example.org/r.yaml"], "https://example.org/r.yaml: expected a path"),
        (["compare", "https://example.org/a.csv"], "https://example.org/a.csv: addresses are not read; download"),
        (["compare", "co2", "--option", "data=3"], "--option data: not a setting of a comparison"),
        (["compare", "co2", "--option", "seed=3"], "--option seed: not a setting of a comparison"),
        (["compare", "co2", "--option", "k=["], r"--option k=\[: cannot be read as YAML"),
        (["compare", "co2", "--vary", "k=["], r"--vary k=\[: cannot be read as YAML"),
        (["compare", "co2", "--vary", "=1"], "--vary =1: expected a setting"),
    ],
)
def test_bad_input_ends_with_2_and_one_line_and_writes_nothing(run, words: list[str], message: str) -> None:
    refused(run(*words), message)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: 5", "recipe.yaml: data=5: expected a name or a path"),
        ("data: co2\nmethod: [hdt]", r"unknown method \['hdt'\]"),
        ("data: co2\nload: {split: abc}", "split='abc': expected three numbers"),
        ("data: co2\nload: {id_column: {a: 1}}", r"id_column=\{'a': 1\}: expected the name of a column"),
    ],
)
def test_recipes_that_hold_something_else_are_refused(run, text: str, message: str) -> None:
    Path("recipe.yaml").write_text(text)
    refused(run("distill", "--recipe", "recipe.yaml", "--out", "r"), message)


def test_bad_places_are_refused_before_the_work(run, csv: Path, tmp_path: Path) -> None:
    Path("taken").mkdir()
    Path("taken/file").touch()
    refused(run("distill", csv, *QUICK, "--out", "taken"), "taken exists; choose another --out")
    refused(run("distill", csv, *QUICK, "--out", "taken", "--force"), "not a run folder")
    refused(run("distill", csv, *QUICK, "--out", "plant.csv/run"), "cannot write here")
    assert sorted(p.name for p in Path().iterdir()) == ["plant.csv", "taken"]


def test_an_unwritable_folder_is_refused(run, csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("locked").mkdir(mode=0o500)
    if os.geteuid() == 0:  # root may write everywhere, so pretend
        monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "locked")
    refused(run("distill", csv, *QUICK, "--out", "locked/run"), "locked: cannot write here; choose another --out")


def test_a_bug_ends_with_1_and_asks_for_debug(run, csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdt.run.produce.distill_panel", lambda *_, **__: 1 / 0)
    result = run("distill", csv, *QUICK)
    assert result.code == 1 and "unexpected ZeroDivisionError" in result.err and "Traceback" not in result.err
    for words in (["--debug", "distill", csv, *QUICK], ["distill", csv, *QUICK, "--debug"]):
        result = run(*words)
        assert result.code == 1 and "Traceback" in result.err


LACKS = (
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("Storage size calculation overflowed with sizes=[1000000000000, 12]"),
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
)


def test_warnings_of_libraries_are_notes_without_a_path(run, csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdt.run.plan.plan", lambda *_: warnings.warn("two\n  lines", UserWarning, stacklevel=1) or {})
    result = run("distill", csv, *QUICK, "--dry-run")
    assert result.code == 0 and result.err == "note: two lines\n"


def long_table() -> Path:
    """One that is distilled without a note on little compression."""
    make_frame(1500).rename_axis("date").to_csv("long.csv")
    return Path("long.csv")


@pytest.mark.parametrize("lack", LACKS, ids=lambda lack: type(lack).__name__)
def test_every_lack_of_memory_is_known(lack: Exception) -> None:
    with pytest.raises(hdt.InputError, match=r"out of (CUDA )?memory; buy some"), memory_refusal("buy some"):
        raise lack


def test_running_out_of_memory_says_what_to_lower(run, monkeypatch: pytest.MonkeyPatch) -> None:
    csv = long_table()

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    smaller = "--length, --option batch, --option segments or --option steps_synthetic"
    hdt.distill(csv, **SMALL).save("r")
    with monkeypatch.context() as patch:
        patch.setattr("hdt.run.produce.optimise", full)
        message = rf"^error: out of memory; lower {smaller}$"
        refused(run("distill", csv, *QUICK, "--out", "s"), message)
        refused(run("compare", csv, "--method", "hdt", "--seeds", 1, *QUICK[:8], "--student", "dlinear"), message)
    with monkeypatch.context() as patch:
        patch.setattr("hdt.evaluation.protocol.fit", full)
        refused(run("evaluate", "r"), "out of memory; choose a smaller --student or --device cpu")
        refused(run("compare", csv, "--seeds", 1, *QUICK[:8]), "out of memory; lower --context or --horizon")
    with monkeypatch.context() as patch:
        patch.setattr("hdt.data.datasets.load", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
        refused(run("distill", csv, *QUICK, "--out", "s"), "out of memory; take a shorter or narrower table")


def test_what_cannot_fit_into_memory_is_refused_before_the_work(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdt.run.produce.optimise", lambda *_, **__: pytest.fail("worked"))
    monkeypatch.setattr("hdt.system.machine.memory_mb", lambda _: 300.0)
    message = r"about 5\d\d MB of memory, and the machine has 300; lower --length, --option batch"
    refused(run("distill", long_table(), *QUICK, "--json"), message)


ANNOUNCED = """
import signal, sys
from hdt.run import produce
from hdt.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has its children ignore it
work = produce.distill_panel
def announced(*args, **options):
    print("started", file=sys.stderr, flush=True)
    return work(*args, **options)
produce.distill_panel = announced
main.main()
"""


def test_ctrl_c_leaves_no_half_written_run(csv: Path, tmp_path: Path) -> None:
    words = ["distill", str(csv), *QUICK[:-1], "1000000", "--out", "runs/r"]
    with subprocess.Popen(
        [sys.executable, "-c", ANNOUNCED, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr.readline().startswith(b"note: plant.csv: 96 synthetic numbers")  # said before the work
        assert process.stderr.readline() == b"started\n"
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert out == b"" and b"error: interrupted" in err and b"Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_data_commands(run, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = json.loads(run("data", "ls", "--json").out)["datasets"]
    assert {"co2", "ETTh1", "Traffic", "ILI", "Solar"} <= {row["name"] for row in listed}
    assert next(row for row in listed if row["name"] == "co2")["here"] is True
    assert "Electricity" in run("data", "ls").out
    info = json.loads(run("data", "info", "co2", "--json").out)
    assert (info["rows"], info["channels"], info["length"], info["licence"]) == (2284, 1, 208, "public domain")
    assert "co2 is embedded" in run("data", "get", "co2").out


def test_cite_version_and_doctor(run) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run("--version").out)
    assert "@article" in run("cite", "hdt").out and "2603.03760" in run("cite").out
    facts = json.loads(run("doctor", "--json").out)
    assert {"python", "torch", "device", "data sets"} <= set(facts)
    assert "torch" in run("doctor").out


def test_help_is_quick_to_import_and_complete() -> None:
    code = "import sys, hdt, hdt.cli.app; print(sorted({'torch', 'pandas', 'numpy', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    shown = subprocess.run([sys.executable, "-m", "hdt", "--help"], capture_output=True, text=True)
    assert shown.returncode == 0
    for name in ("distill", "evaluate", "compare", "finetune", "search", "recipes", "report", "data", "cite", "doctor"):
        assert name in shown.stdout


def test_channels_is_a_number_or_all(run: Any, tmp_path: Path) -> None:
    many = make_frame(columns=tuple(f"c{n}" for n in range(34)))
    many.rename_axis("date").to_csv("many.csv")
    words = ("distill", "many.csv", "--method", "wiener", "--context", 12, "--horizon", 6, "--length", 48)
    words = (*words, "--iterations", 1, "--option", "features=4", "--option", "draws=1")
    done = run(*words, "--out", "few")
    assert done.code == 0 and "8 synthetic channels stand for all 34, in scaled units; --channels all" in done.err
    assert pd.read_parquet(tmp_path / "few" / "synthetic.parquet").shape[1] == 1 + 8  # the stamps
    assert run(*words, "--channels", "all", "--out", "each").code == 0
    each = pd.read_parquet(tmp_path / "each" / "synthetic.parquet")
    assert list(each.columns) == ["date", *many.columns]
    assert "channels: all" in (tmp_path / "each" / "recipe.yaml").read_text(encoding="utf-8")
    loaded = hdt.Distilled.load("each")
    assert loaded.values.shape == (1, 48, 34) and loaded.info.settings.channels is None
    assert json.loads((tmp_path / "each" / "run.json").read_text(encoding="utf-8"))["settings"]["channels"] == "all"
    assert resolve(None, 34, **loaded.info.settings.model_dump()) == loaded.info.settings
    again = run("distill", "--recipe", tmp_path / "each" / "recipe.yaml", "--out", "again")
    assert again.code == 0
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "again" / "synthetic.parquet"), each)
    wrong = run(*words, "--channels", "some", "--out", "none")
    assert wrong.code == 2 and "--channels some: expected a number or all" in wrong.err
