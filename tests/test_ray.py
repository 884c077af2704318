"""Comparisons and searches by Ray: a real one of two workers, started once."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from conftest import SMALL, Result, refused

import hdt
from hdt.run import report
from hdt.selection import leaderboard
from hdt.system import cluster

REQUEST: dict[str, Any] = {
    "methods": ["hdt"], "students": ["odd:Quick"], "seeds": 2, "validation": False, **SMALL,
}  # fmt: skip
ERRORS = ["method", "student", "mse", "mse_std", "mae", "mase", "validation_mse", "floats", "ratio_to_full"]
STUDENTS = """
import os, signal, time
from pathlib import Path
from torch import nn
from hdt.students import Student, Training

class Quick(Student):
    training_settings = Training(lr=5e-3, epochs=1, min_steps=2)

    def __init__(self, context, horizon, channels):
        super().__init__(context, horizon, channels)
        self.network = nn.Conv1d(context, horizon, 1)

    def forward(self, context):
        return self.network(context)

class Killed(Quick):
    def __init__(self, *size):
        super().__init__(*size)
        try:
            Path(__file__).with_name("killed").open("x").close()
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

class Ended(Quick):
    def forward(self, context):
        file = Path(__file__).with_name("ended")
        if self.training and not file.exists():
            file.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(context)

class Brittle(Quick):
    def forward(self, context):
        if self.training:
            raise RuntimeError("shapes differ\\nand more")
        return super().forward(context)

def nothing(context, horizon, channels):
    return None

def ends(context, horizon, channels):
    Path(__file__).with_name("pids").open("a").write(f"{os.getpid()}\\n")
    time.sleep(3600)
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Ray, with the folder of the students that its workers find; nothing of it is left afterwards."""
    folder = tmp_path_factory.mktemp("students")
    (folder / "odd.py").write_text(STUDENTS)
    place = tempfile.mkdtemp(dir="/tmp", prefix="r")  # Ray's sockets take short names only
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.chdir(folder)  # whose modules its workers find
        patch.setenv("RAY_TMPDIR", place)
        before = {*psutil.Process().children(recursive=True)}
        with cluster.joined(2, None):
            yield folder
            own = {*psutil.Process().children(recursive=True)} - before
    shutil.rmtree(place)
    assert own and not psutil.wait_procs(own, timeout=30)[1]


def kept(folder: str) -> dict[str, Any]:
    """What a comparison keeps, but for times."""
    cells = {path.name: json.loads(path.read_text()) for path in Path(folder, "cells").iterdir()}
    errors = {name: {k: v for k, v in score.items() if "seconds" not in k} for name, score in cells.items()}
    return errors | {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*.safetensors")}


def test_ray_computes_what_one_process_does_though_a_worker_is_killed(
    started: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "page", lambda *_: "")  # which takes its time
    request = {**REQUEST, "students": ["odd:Quick", "odd:Killed"]}
    seen: list[int] = []

    def watch(label: str, done: int, total: int) -> None:
        seen.append(done)
        assert total == 12

    by_ray = hdt.compare(frame, out="ray", engine="ray", watch=watch, **request)
    assert (started / "killed").exists()
    assert seen == [*range(13), 12]
    alone = hdt.compare(frame, out="alone", **request)
    pd.testing.assert_frame_equal(by_ray[ERRORS], alone[ERRORS], check_exact=True)
    assert kept("ray") == kept("alone")
    assert capfd.readouterr() == ("", "")
    lost = sorted(Path("ray/cells").iterdir())[:3]
    for path in lost:
        path.unlink()
    seen.clear()
    again = hdt.compare(frame, out="ray", engine="ray", watch=watch, **request)
    assert seen == [9, 10, 11, 12, 12] and all(path.exists() for path in lost)
    pd.testing.assert_frame_equal(again[ERRORS], alone[ERRORS], check_exact=True)
    finished = hdt.compare(frame, out="ray", engine="ray", address="127.0.0.1:1", **request)  # asks no Ray
    pd.testing.assert_frame_equal(finished, again)


def test_what_tasks_refuse_is_refused_in_the_same_words(
    started: Path, frame: pd.DataFrame, capfd: pytest.CaptureFixture[str]
) -> None:
    words = []
    for engine in cluster.ENGINES:
        with pytest.raises(hdt.InputError) as caught:
            hdt.compare(frame, engine=engine, **{**REQUEST, "students": ["odd:nothing"]})
        words.append(str(caught.value))
    assert words[0] == words[1] and "expected a torch.nn.Module" in words[0]
    assert capfd.readouterr() == ("", "")


def test_a_search_finds_what_one_process_does_though_a_worker_is_killed_and_it_is_interrupted(
    started: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(leaderboard, "png", lambda figure, dpi: b"")  # which takes its time
    distilled = hdt.distill(frame, method="random", length=48, context=12, horizon=6)
    space = {"odd:Quick": {"lr": {"log": [1e-3, 1e-1]}}, "odd:Ended": {"lr": [1e-3, 1e-2]}}
    seen: list[int] = []

    def watch(label: str, done: int, total: int) -> None:
        seen.append(done)
        if seen == [0, 1, 2, 3]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hdt.search(distilled, space, trials=12, top=2, out="s", engine="ray", watch=watch)
    by_ray = hdt.search(distilled, space, trials=12, top=2, out="s", engine="ray", watch=watch)
    assert seen[4] == 3 and seen[-1] == 14 and (started / "ended").exists()
    assert capfd.readouterr() == ("", "")
    again = hdt.search(distilled, space, trials=12, top=2, out="s", engine="ray", address="127.0.0.1:1")  # asks no Ray
    pd.testing.assert_frame_equal(again.table, by_ray.table)
    monkeypatch.setenv("HDT_CACHE_DIR", "another")
    alone = hdt.search(distilled, space, trials=12, top=2)
    seconds = ["train_seconds", "full_train_seconds"]
    pd.testing.assert_frame_equal(
        by_ray.table.drop(columns=seconds), alone.table.drop(columns=seconds), check_exact=True
    )
    told = [
        [(t.params, t.value, t.state, t.intermediate_values) for t in found.study.trials] for found in (again, alone)
    ]
    assert told[0] == told[1]


def test_a_network_that_fails_in_a_task_is_named_with_its_configuration(started: Path, frame: pd.DataFrame) -> None:
    distilled, words = hdt.distill(frame, method="random", length=48, context=12, horizon=6), []
    for engine in cluster.ENGINES:
        with pytest.raises(hdt.InputError) as caught:
            hdt.search(distilled, {"odd:Brittle": {"batch": 16}}, trials=1, engine=engine)
        words.append(str(caught.value))
    failed = r"student 'odd:Brittle' fails on a context \(16, 12, 2\) \(RuntimeError: shapes differ\)"
    assert words[0] == words[1] and re.fullmatch(rf"odd:Brittle \(batch 16\): {failed}", words[0])


def test_an_interruption_ends_the_tasks(started: Path, frame: pd.DataFrame) -> None:
    def stop(label: str, done: int, total: int) -> None:
        if done:
            while not (started / "pids").exists():
                threading.Event().wait(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hdt.compare(frame, engine="ray", watch=stop, **{**REQUEST, "students": ["odd:Quick", "odd:ends"], "seeds": 1})
    pids = map(int, (started / "pids").read_text().split())
    assert not psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=30)[1]


def test_a_task_that_is_lost_every_time_is_given_up_in_one_line(started: Path) -> None:
    import ray

    ends, after = ray.remote(max_retries=0)(lambda code: os._exit(code)), ray.remote(lambda result: result)
    with pytest.raises(hdt.InputError, match=r"lost the process of a task .* again with fewer workers"):
        cluster.each(ray, [after.remote(ends.remote(1))], print)


def test_a_command_joins_a_ray_and_says_nothing_of_it(
    started: Path, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(report, "page", lambda *_: "")
    request = {**SMALL, "methods": ["herding"], "students": ["odd:Quick"], "seeds": 1}
    table = hdt.compare(csv, out="runs/compare-plant", **request)
    for path in Path("runs/compare-plant/cells").iterdir():  # the distillations stay
        path.unlink()
    setting = [word for name, value in SMALL.items() for word in ("--option", f"{name}={value}")]
    words = ["compare", csv, *setting, "--method", "herding", "--student", "odd:Quick", "--seeds", 1, "--json"]
    where = ["--engine", "ray", "--address", ray.get_runtime_context().gcs_address]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(started), *sys.path])}
    command = [sys.executable, "-m", "hdt", *map(str, [*words, *where])]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert (found.returncode, found.stderr) == (0, "")
    assert [row["mse"] for row in json.loads(found.stdout)["rows"]] == pytest.approx(table["mse"].tolist(), rel=1e-9)


def test_a_ray_that_wants_another_token_says_so(
    started: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setenv("RAY_AUTH_TOKEN", "1" * 64)
    with pytest.raises(hdt.InputError, match="wants its token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to"):
        hdt.compare(frame, engine="ray", address=ray.get_runtime_context().gcs_address, **REQUEST)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "spark"], "unknown engine 'spark'; choose local or ray"),
        (["--address", "127.0.0.1:1"], "address=127.0.0.1:1: only engine ray has one; add --engine ray"),
        (["--engine", "ray", "--address", "127.0.0.1"], "address 127.0.0.1: not HOST:PORT"),
        (["--engine", "ray", "--address", "a..b:80"], "no Ray answers at a..b:80"),
        (["--engine", "ray", "--address", "127.0.0.1:http"], "address 127.0.0.1:http: not HOST:PORT"),
        (
            ["--engine", "ray", "--address", "127.0.0.1:1"],
            "no Ray answers at 127.0.0.1:1; start one there with 'ray st",
        ),
        (
            ["--engine", "ray", "--address", "127.0.0.1:1", "--workers", "2"],
            "workers=2: the Ray at .* decides how many",
        ),
    ],
)
def test_where_no_ray_can_be_is_refused(run: Callable[..., Result], csv: Path, words: list[str], message: str) -> None:
    refused(run("compare", csv, "--length", 48, "--context", 12, "--horizon", 6, "--k", 6, *words), message)


def test_somebody_else_at_the_address_is_no_ray(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ANSWER", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(hdt.InputError, match="no Ray answers at"):
        hdt.compare(frame, engine="ray", address=f"127.0.0.1:{silent.getsockname()[1]}", **SMALL)


def test_without_ray_one_line_says_how_to_get_it(
    run: Callable[..., Result], csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(run("compare", csv, "--engine", "ray"), r"Ray is not installed; pip install 'hdt-ts\[ray\]'")
