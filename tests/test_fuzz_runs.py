"""Run folders damaged in any way: ``hdt report`` draws them or ends in one line, and never in a traceback."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Result, make_frame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hdt
from hdt.run.records import FILES, record_evaluation

SIZE = {"length": 24, "context": 8, "horizon": 4, "iterations": 2}
RUNS: dict[str, dict[str, Any]] = {
    "hdt": {**SIZE, "k": 4},
    "fred": {**SIZE, "k": 4, "parameterization": "fred", "split": [300, 350, 400]},
    "nsd": {**SIZE, "k": 4, "parameterization": "nsd", "group": 2, "instance_rank": 1},
    "pooled": {**SIZE, "method": "wiener", "features": 8, "draws": 2, "channels": 1},
    "cfm": {**SIZE, "objective": "cfm", "teacher_epochs": 1},
    "subset": {"length": 24, "context": 8, "horizon": 4, "method": "random"},
}
JSON = ("run.json", "metrics.jsonl", "evaluation.json")
VALUES = [None, True, 0, 1, -1, 3, 10**9, 10**30, 0.5, -0.5, 1e-300, 1e300, float("nan"), float("inf"), "", "x",
          "1", "2024-01-01", "$x_$", "<b>", "a\x00b", "ü\n", [], [1],
          [[]], [None], {}, {"a": 1}, {"kind": "long"}]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, frame = tmp_path_factory.mktemp("runs"), make_frame()
    frame.rename_axis("date").to_csv(folder / "plant.csv")
    row = {"student": "dlinear", "trained_on": "full", "mse": 1.0, "mse_std": 0.0, "mae": 1.0, "mae_std": 0.0,
           "validation_mse": 1.0, "seeds": 1, "train_seconds": 1.0, "ratio_to_full": 1.0}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hdt.run.report.draw", lambda _: {})  # pictures take most of the time
        for name, given_ in RUNS.items():
            hdt.distill(folder / "plant.csv", **given_).save(folder / name)
            record_evaluation(folder / name, [row, {**row, "trained_on": "distilled"}])
    return {name: folder / name for name in RUNS}


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON document, with each of its keys."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, inner in list(items):
        yield node, key
        yield from places(inner)


def spoil_json(file: Path, rng: random.Random, value: Any) -> None:
    """One entry gets another value, is left out or is given twice."""
    lines = file.suffix == ".jsonl"
    text = file.read_text(encoding="utf-8")
    document = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
    everywhere = list(places(document))
    if not everywhere:
        return
    container, key = rng.choice(everywhere)
    how = rng.choice(["change", "change", "remove", "add"])
    if how == "change":
        container[key] = value
    elif how == "remove":
        del container[key]
    elif isinstance(container, list):
        container.insert(key, value)
    else:
        container["added"] = value
    file.write_text("\n".join(map(json.dumps, document)) if lines else json.dumps(document), encoding="utf-8")


def spoil_bytes(file: Path, rng: random.Random) -> None:
    """Bytes are cut off, changed, or the file is gone or a folder."""
    content = bytearray(file.read_bytes())
    how = rng.choice(["cut", "change", "change", "swap", "remove", "folder"])
    if how == "cut":
        content = content[: rng.randrange(len(content))] if content else content
    elif how == "change":
        for _ in range(rng.choice([1, 1, 8, 64])):
            if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
    elif how == "swap":
        content = bytearray(rng.choice([b"", b"\xff\xfe", b"[" * 100_000, b"PAR1" * 9, b"null", b"{}"]))
    file.unlink()
    if how == "folder":
        file.mkdir()
    elif how != "remove":
        file.write_bytes(content)


@pytest.mark.draws
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False), st.sampled_from(list(RUNS)), st.sampled_from(VALUES), st.booleans())
def test_a_damaged_run_is_drawn_or_refused_in_one_line(
    run: Callable[..., Result],
    runs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rng: random.Random,
    name: str,
    value: Any,
    structured: bool,
) -> None:
    monkeypatch.setattr("hdt.run.report.png", lambda *_: b"picture")  # drawn, but not rendered
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(runs[name], folder)
    if structured:
        spoil_json(folder / rng.choice(JSON), rng, value)
    else:
        spoil_bytes(folder / rng.choice([*FILES, "evaluation.json"]), rng)
    result = run("report", folder)
    lines = [line for line in result.err.splitlines() if not line.startswith("note: ")]
    assert result.code in (0, 2), result
    if result.code == 2:
        assert len(lines) == 1 and re.match("error: .*run", lines[0]), result
        assert result.out == ""
    else:
        assert lines == [] and result.out.strip() == str(folder / "report.html"), result
