"""kill -9 at any moment of a save or a comparison: the old or the new result is whole, and the next run puts all right.

A forked process is killed at the n-th file operation that Python announces (``sys.addaudithook``) within a folder.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL, make_frame

import hdt
from hdt.evaluation import figures
from hdt.students import DLinear, Training

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
OPERATIONS = ("open", "os.", "shutil.", "pathlib.")


def killed(work: Callable[[], object], folder: Path, moment: int) -> bool:
    """Whether ``work``, in a process of its own, was killed before its ``moment``-th file operation in ``folder``."""
    child = os.fork()
    if child == 0:
        left = itertools.count(moment, -1)

        def hook(event: str, args: tuple[object, ...]) -> None:
            if event.startswith(OPERATIONS) and any(str(folder) in str(arg) for arg in args) and next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("force", [False, True])
def test_a_save_that_is_killed_leaves_the_old_or_the_new_run(
    force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hdt.run.report.draw", lambda _: {})  # pictures take most of the time
    old, new, last = (hdt.distill(make_frame(), **SMALL, seed=seed) for seed in range(3))
    place = tmp_path / "runs" / "r"
    found = set()
    for moment in itertools.count():
        if force:
            old.save(place, force=True)
        if not killed(lambda: new.save(place, force=force), place.parent, moment):
            break
        try:
            found.add(hdt.Distilled.load(place).info.settings.seed)  # puts back what was set aside
        except hdt.InputError:
            assert not force and not place.exists()
        last.save(place, force=True)
        assert hdt.Distilled.load(place).info.settings.seed == 2
        assert os.listdir(place.parent) == ["r"]
        if not force:
            for file in place.iterdir():
                file.unlink()
            place.rmdir()
    assert moment >= (20 if force else 15)
    assert found == ({0, 1} if force else {1})


def test_an_evaluation_that_is_killed_leaves_the_old_or_the_new_rows(tmp_path: Path) -> None:
    from hdt.run.records import read_evaluation, record_evaluation

    row = {"student": "dlinear", "trained_on": "full", "mse": 1.0, "mse_std": 0.0, "mae": 1.0, "mae_std": 0.0,
           "validation_mse": 1.0, "seeds": 1, "train_seconds": 1.0, "ratio_to_full": 1.0}  # fmt: skip
    found = set()
    for moment in itertools.count():
        record_evaluation(tmp_path, [row])
        if not killed(lambda: record_evaluation(tmp_path, [{**row, "seeds": 2}]), tmp_path, moment):
            break
        found.add(read_evaluation(tmp_path)[0].seeds)
    record_evaluation(tmp_path, [row])
    assert moment >= 5 and found == {1, 2} and os.listdir(tmp_path) == ["evaluation.json"]


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_a_comparison_that_is_killed_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At twenty moments spread over it; the clock stands still, so that seconds are equal too."""
    monkeypatch.setattr(DLinear, "training_settings", Training(lr=5e-3, epochs=1, min_steps=2))
    monkeypatch.setattr(DLinear, "rates", (1.0,))
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    monkeypatch.setattr("hdt.run.report.draw", lambda _: {})
    monkeypatch.setattr("hdt.evaluation.figures.png", lambda *_: b"picture")
    panel = hdt.load(make_frame())

    def compare(out: Path) -> None:
        monkeypatch.setenv("HDT_CACHE_DIR", str(out / "cache"))
        small = {**SMALL, "iterations": 1}
        table = hdt.compare(panel, methods=["hdt"], students=["dlinear"], seeds=1, out=out, **small)
        figures.write(table.fillna({"train_speedup": 1.0}), "title", out)

    def bytes_of(out: Path) -> dict[str, bytes]:
        return {
            str(file.relative_to(out)): file.read_bytes()
            for file in sorted(out.rglob("*"))
            if file.is_file() and "runs" not in file.parts
        }

    compare(tmp_path / "whole")
    whole = bytes_of(tmp_path / "whole")
    assert {"cells.csv", "table.csv", "table.json", "table.md", "table.png"} < set(whole)
    resumed = 0
    for moment in range(0, 200, 10):
        out = tmp_path / f"killed-{moment}"
        resumed += killed(lambda out=out: compare(out), out, moment)
        compare(out)
        assert bytes_of(out) == whole, moment
        assert not list(out.rglob(".*"))
    assert resumed >= 10
