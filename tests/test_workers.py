"""A comparison by several processes."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import SMALL

import hdt

REQUEST: dict[str, Any] = {
    "methods": ["herding"], "students": ["dlinear"], "seeds": 2, "validation": False, "length": SMALL["length"],
    "context": SMALL["context"], "horizon": SMALL["horizon"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def short_trainings() -> None:
    """Not here: other processes would not see it."""


def test_several_processes_compute_what_one_does_and_a_killed_one_loses_nothing(frame: pd.DataFrame) -> None:
    def kill(label: str, done: int, total: int) -> None:
        if done:
            for process in multiprocessing.active_children():
                process.kill()

    with pytest.raises(hdt.InputError, match=r"a worker process was killed, .* again with fewer --workers"):
        hdt.compare(frame, out="several", workers=2, watch=kill, **REQUEST)
    seen: list[int] = []
    several = hdt.compare(
        frame, out="several", workers=2, watch=lambda label, done, total: seen.append(done), **REQUEST
    )
    alone = hdt.compare(frame, out="alone", **REQUEST)
    errors = ["method", "student", "mse", "mse_std", "mae", "mase", "validation_mse", "floats", "ratio_to_full"]
    pd.testing.assert_frame_equal(several[errors], alone[errors])
    names = [sorted(path.name for path in Path(folder, "cells").iterdir()) for folder in ("several", "alone")]
    assert names[0] == names[1] and len(names[0]) == 4  # random and herding
    assert seen == sorted(seen) and seen[-1] == 6


def test_an_interruption_does_not_wait_for_what_is_running(frame: pd.DataFrame, tmp_path: Path) -> None:
    """A student that never ends; the alarm ends the test where it is waited for."""
    (tmp_path / "never.py").write_text(
        "import time\nfrom torch import nn\n\ndef ends(context, horizon, channels):\n    time.sleep(3600)\n"
        "    return nn.Linear(context, horizon)\n"
    )

    def stop(label: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    def late(*_: Any) -> None:
        raise TimeoutError("the worker was waited for")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    try:
        with pytest.raises(KeyboardInterrupt):
            hdt.compare(frame, workers=2, watch=stop, **{**REQUEST, "students": ["dlinear", "never:ends"], "seeds": 1})
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert not multiprocessing.active_children()


def test_less_than_one_process_is_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(hdt.InputError, match="workers=0: at least one is needed"):
        hdt.compare(frame, workers=0, **REQUEST)
