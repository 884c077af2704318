"""The interactive page, and the lines of blocks in a terminal."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL, make_frame, refused

import hdt
from hdt.cli import terminal
from hdt.run import view
from hdt.run.records import EvaluationRow, record_evaluation

ROW = {"mse": 0.4, "mse_std": 0.01, "mae": 0.3, "mae_std": 0.0, "validation_mse": 0.5, "seeds": 3, "train_seconds": 1.0}


def rows() -> list[dict[str, Any]]:
    each = [(s, t) for s in ("dlinear", "mlp") for t in ("distilled", "random", "full", "last value")]
    return [{**ROW, "student": s, "trained_on": t, "ratio_to_full": 1.0} for s, t in each]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make_frame(columns=("load", "<b>$x$</script>")).rename_axis("date").to_csv("plant.csv")
    return hdt.distill("plant.csv", **SMALL).save(tmp_path / "run")


def test_the_page_is_one_file_without_addresses(saved: Path, run: Any) -> None:
    pytest.importorskip("plotly")
    record_evaluation(saved, rows())
    result = run("view", saved)
    assert result.code == 0 and result.out.strip() == str(saved / "view.html") and result.err == ""
    page = (saved / "view.html").read_text(encoding="utf-8")
    assert not re.search(r"""<(script|link|img)[^>]*(src|href)=["']?(https?:)?//""", page)
    own = page[page.rindex("Plotly.newPlot(") :]
    assert own.count("</script>") == 1  # that which ends it
    hdt.distill("plant.csv", **SMALL).save(saved, force=True)  # one of hdt's own files
    assert not (saved / "view.html").exists()
    assert run("view", saved, "--out", "elsewhere.html").code == 0 and Path("elsewhere.html").exists()


def test_every_channel_has_its_lines_and_only_one_is_shown(saved: Path) -> None:
    pytest.importorskip("plotly")
    frame = make_frame(columns=("load", "wind"))
    distilled = hdt.distill(frame, **SMALL)
    told = json.loads(view.draw(distilled, [EvaluationRow(**row) for row in rows()]).to_json())
    lines = [trace for trace in told["data"] if trace["type"] == "scatter"]
    assert [t["visible"] for t in lines] == [True] * (len(lines) // 2) + [False] * (len(lines) // 2)
    real, synthetic = lines[len(lines) // 2 :][:2]
    assert (real["legendgroup"], synthetic["legendgroup"]) == ("real", "synthetic")
    np.testing.assert_allclose(synthetic["y"], distilled.to_frame()["wind"], rtol=1e-5)
    start = (280 - 48) // 2
    np.testing.assert_allclose(real["y"], frame["wind"][start : start + 48], rtol=1e-5)
    menu = told["layout"]["updatemenus"][0]["buttons"]
    assert [button["label"] for button in menu] == ["load", "wind"]
    bars = [trace for trace in told["data"] if trace["type"] == "bar"]
    assert len(bars) == 4 and bars[0]["x"] == ["dlinear", "mlp"] and bars[0]["error_y"]["array"] == [0.01, 0.01]
    shown = menu[1]["args"][0]["visible"]
    assert shown == [False] * (len(lines) // 2) + [True] * (len(lines) // 2 + len(bars))
    alone = json.loads(view.draw(hdt.Distilled.load(saved), []).to_json())
    assert {trace["legendgroup"] for trace in alone["data"]} == {"synthetic"}


def test_without_plotly_it_is_named(saved: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.io", None)
    refused(run("view", saved), r"plotly is not installed; pip install 'hdt-ts\[view\]'")


def test_a_series_is_a_line_of_blocks() -> None:
    assert terminal.sparkline(np.array([0.0, 1, 2, 3, 4, 5, 6, 7])) == "▁▂▃▄▅▆▇█"
    assert terminal.sparkline(np.zeros(3)) == "▁▁▁"
    wave = terminal.sparkline(np.repeat([5.0, 9.0], 96))
    assert wave == "▁" * 32 + "█" * 32


@pytest.mark.parametrize(("encoding", "blocks"), [("utf-8", True), ("ascii", False)])
def test_a_distillation_ends_with_a_sketch_where_the_terminal_knows_blocks(
    saved: Path, encoding: str, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace")
    monkeypatch.setattr(out, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", out)
    terminal.print_summary(hdt.Distilled.load(saved), saved)
    out.flush()
    assert ("█" in out.buffer.getvalue().decode(encoding)) is blocks
