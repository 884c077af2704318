"""Shape and type checks of the maths modules run in the tests only; no test writes outside its own folder."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import install_import_hook

MATHS = (
    "maths", "start", "parameterization", "objective", "students", "training", "distillation.loop",
    "distillation.groups", "evaluation", "selection", "tuning.crps", "tuning.tokens",
)  # fmt: skip
install_import_hook([f"hdt.{name}" for name in MATHS], "beartype.beartype")

# Ray writes a token into the home folder unless it is given one, and a process knows only the first.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from hdt.students import STUDENTS  # noqa: E402
from hdt.system.errors import InputError  # noqa: E402

DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)  # a PNG

settings.register_profile("hdt", deadline=None, max_examples=50, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=500)  # pytest --hypothesis-profile explore
settings.load_profile("hdt")
torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches and relative paths of a test end in its own folder."""
    monkeypatch.setenv("HDT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def short_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Students take some tens of steps in place of 700, whatever is tested beside them."""
    for student in STUDENTS.values():
        monkeypatch.setattr(student, "training_settings", replace(student.training_settings, epochs=2, min_steps=20))


@pytest.fixture(autouse=True)
def quick_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are a single dot, but in tests marked ``draws``: to draw four for each run takes most of the time."""

    def savefig(figure: Figure, file: Any, **_: Any) -> None:
        (Path(file).write_bytes if isinstance(file, str | Path) else file.write)(DOT)

    if request.node.get_closest_marker("draws") is None:
        monkeypatch.setattr(Figure, "savefig", savefig)


@pytest.fixture
def frame() -> pd.DataFrame:
    """A wide hourly frame of two noisy daily cycles, 400 rows."""
    return make_frame()


def make_frame(rows: int = 400, columns: tuple[str, ...] = ("load", "wind"), seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    steps = np.arange(rows)[:, None]
    values = (
        5 + np.sin(2 * np.pi * (steps / 24 + np.arange(len(columns)) / 7)) + 0.3 * rng.normal(size=(rows, len(columns)))
    )
    return pd.DataFrame(values, index=pd.date_range("2024-01-01", periods=rows, freq="h"), columns=list(columns))


SMALL = {"length": 48, "context": 12, "horizon": 6, "k": 6, "iterations": 5}


@pytest.fixture
def data_dir() -> Path:
    """The folder of real benchmark files; tests that need it run wherever HDT_DATA_DIR is set."""
    folder = os.environ.get("HDT_DATA_DIR")
    if not folder:
        pytest.skip("HDT_DATA_DIR is not set: no real benchmark files here")
    return Path(folder)


class Result(NamedTuple):
    """Exit code and both streams of one command."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    from hdt.cli import main

    def command(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["hdt", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main.main()
        streams = capsys.readouterr()
        return Result(code=caught.value.code or 0, out=streams.out, err=streams.err)

    return command


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "plant.csv"
    make_frame().rename_axis("date").to_csv(path)
    return path


def refused(result: Result, message: str) -> None:
    assert result.code == 2, result
    assert result.out == ""
    assert result.err.startswith("error: ") and result.err.count("\n") == 1, result.err
    assert re.search(message, result.err), result.err


def refused_network(
    load: Callable[[Path], Any], tiny: Path, folder: Path, change: dict[str, object], message: str
) -> None:
    """A checkpoint like ``tiny`` with that change of its configuration is refused in one line, and so are its weights
    when they cannot be read."""
    config = json.loads((tiny / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    (folder / "model.safetensors").write_bytes((tiny / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"\x10" * 400)
    with pytest.raises(InputError, match=r"model\.safetensors: cannot be read"):
        load(folder)


def goes_on(tune: Callable[..., Any], point: Path) -> None:
    """A tuning that is interrupted at its second step goes on at the third and ends as one that was not."""

    def interrupt(step: int, *_: object) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(checkpoint=point, watch=interrupt)
    seen: list[int] = []
    resumed = tune(checkpoint=point, watch=lambda step, *_: seen.append(step))
    whole = tune().network.state_dict()
    assert seen[0] == 3 and all(torch.equal(w, whole[name]) for name, w in resumed.network.state_dict().items())


class Ready:
    """An objective with what it knows of ``series``; its state goes on from call to call."""

    def __init__(self, objective: Any, series: torch.Tensor, **known: Any) -> None:
        self.objective, self.known, self.state = objective, replace(objective.prepare(series), **known), None

    def loss(self, synthetic: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        state = self.objective.initial(self.known, synthetic) if self.state is None else self.state
        loss, terms, self.state = self.objective.loss(self.known, synthetic, state, generator)
        return loss, terms

    def __getattr__(self, name: str) -> Any:
        return getattr(self.known if hasattr(self.known, name) else self.objective, name)
