"""Any network as a student: by path, or as a class."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import SMALL, Result, make_frame
from torch import nn

import hdt
from hdt.students import STUDENTS, DLinear, Student, Training, build, wrapped
from hdt.system.fingerprint import fingerprint
from hdt.training.errors import errors
from hdt.training.fit import fit

Run = Callable[..., Result]
MODELS = '''
import torch
from torch import nn
from hdt.students import DLinear, Student, Training

class Last(nn.Module):
    """The mean of the last {count} values, scaled."""

    def __init__(self, context, horizon, channels):
        super().__init__()
        self.horizon, self.weight = horizon, nn.Parameter(torch.zeros(1))

    def forward(self, context):
        return self.weight * context[:, -{count}:].mean(dim=1, keepdim=True).expand(-1, self.horizon, -1)

def fixed(context, horizon, channels):
    """A map between all channels."""
    back = nn.Unflatten(1, (horizon, channels))
    return nn.Sequential(nn.Flatten(), nn.Linear(context * channels, horizon * channels), back)

class Bare(DLinear):
    training_settings = Training(lr=1e-2, min_steps=20)

def flat(context, horizon, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(context * channels, 24))

def empty(context, horizon, channels):
    return nn.Flatten()

def text(context, horizon, channels):
    return "a network"

def none():
    return nn.Identity()

def deep(context, horizon, channels, layers=1, *, bias=True):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = nn.Sequential(*(nn.Linear(context, context) for _ in range(layers - 1)),
                                      nn.Linear(context, horizon, bias=bias))

        def forward(self, x):
            return self.maps(x.transpose(1, 2)).transpose(1, 2)

    return Net()

def open(context, horizon, channels, **more):
    return deep(context, horizon, channels, **more)

number = 3
'''


@pytest.fixture
def models(tmp_path: Path) -> Iterator[str]:
    """A module of networks in the current folder."""
    name = f"models_{tmp_path.name.replace('-', '_')}"
    Path(f"{name}.py").write_text(MODELS.replace("{count}", "2"), encoding="utf-8")
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrapped, "Training", lambda **given: Training(**given, epochs=1, min_steps=10))
    monkeypatch.setattr(DLinear, "training_settings", Training(lr=5e-3, epochs=1, min_steps=10))


def test_a_network_at_a_path_is_trained_and_scored(models: str, frame: pd.DataFrame, quick: None) -> None:
    distilled = hdt.distill(frame, **SMALL)
    paths = [f"{models}:Last", f"{models}:fixed", f"{models}:Bare"]
    table = hdt.evaluate(distilled, students=[*paths, "dlinear"], seeds=1)
    assert list(dict.fromkeys(table["student"])) == [*paths, "dlinear"] and (table["mse"] > 0).all()
    kind = STUDENTS[paths[0]]
    student = build(paths[0], 12, 6, 2, seed=0)
    context = torch.randn(3, 12, 2)
    with torch.no_grad():
        student.network.weight.fill_(2.0)
    torch.testing.assert_close(student(context), 2 * context[:, -2:].mean(dim=1, keepdim=True).expand(-1, 6, -1))
    assert kind.trainings()[1].lr == 1e-3 and not kind.mixes_channels
    assert set(STUDENTS) == {"dlinear", "itransformer", "mlp", "xpatch"}  # others are not in every comparison


def test_a_class_of_ones_own_is_a_student(frame: pd.DataFrame, quick: None) -> None:
    kind = hdt.wrap(lambda context, horizon, channels: Mean(horizon), "mean", Training(lr=0.5, min_steps=200))
    series = torch.tensor(make_frame(120).to_numpy(), dtype=torch.float32)
    student = kind(12, 6, 2)
    run = fit(student, series[None], series, seed=0)
    assert run.validation == pytest.approx(errors(student, series).mse)
    assert student.network.level.item() == pytest.approx(series[12:].mean().item(), abs=0.2)
    distilled = hdt.distill(frame, **SMALL)
    table = hdt.evaluate(distilled, students=[kind], seeds=1)
    assert set(table["student"]) == {"mean"}
    assert set(hdt.compare(frame, methods=["random"], students=[kind], seeds=1, **{**SMALL, "k": None})["student"]) == {
        "mean"
    }
    with pytest.raises(hdt.InputError, match="student mean: other processes cannot see a class; give its path"):
        hdt.compare(frame, methods=["random"], students=[kind], seeds=1, workers=2)
    with pytest.raises(hdt.InputError, match="student 'dlinear': the name is taken"):
        hdt.evaluate(distilled, students=[hdt.wrap(Mean, "dlinear")])
    with pytest.raises(hdt.InputError, match=r"is neither the name of a student nor one; hdt\.wrap"):
        STUDENTS.names([Mean])


def test_a_network_takes_keyword_arguments(models: str) -> None:
    path = f"{models}:deep"
    assert STUDENTS[path].keywords() == {"layers", "bias"} and STUDENTS[f"{models}:open"].keywords() is None
    assert STUDENTS[f"{models}:Last"].keywords() == set() and STUDENTS[f"{models}:Bare"].keywords() == {"kernel"}
    assert len(list(build(path, 12, 6, 2, seed=0).parameters())) == 2
    assert len(list(build(path, 12, 6, 2, seed=0, layers=3, bias=False).parameters())) == 5
    with pytest.raises(hdt.InputError, match=r"= \(12, 6, 2\), depth=2 \(.*unexpected keyword argument 'depth'\)"):
        build(path, 12, 6, 2, seed=0, depth=2)


class Mean(nn.Module):
    """One level for everything."""

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.horizon, self.level = horizon, nn.Parameter(torch.zeros(1))

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        return self.level.expand(len(context), self.horizon, context.shape[2])


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("flat", r"student '.*:flat': of a context \(\d+, 12, 2\) it made \(\d+, 24\), not the forecast \(\d+, 6, 2\)"),
        ("empty", "student '.*:empty': Flatten has nothing to learn"),
        ("text", "student '.*:text': expected a torch.nn.Module, got str"),
        ("none", r"student '.*:none' cannot be made of \(context, horizon, channels\) = \(12, 6, 2\)"),
        ("number", "student '.*:number': expected a class or function that makes a network, not 3"),
        ("absent", r"student '.*:absent' cannot be imported \(AttributeError: .*\); expected package.module:Name"),
    ],
)
def test_what_is_no_network_is_said_in_one_line(models: str, label: str, message: str, frame: pd.DataFrame) -> None:
    distilled = hdt.distill(frame, **SMALL)
    with pytest.raises(hdt.InputError, match=message):
        hdt.evaluate(distilled, students=[f"{models}:{label}"], seeds=1)
    with pytest.raises(hdt.InputError, match=r"cannot be imported \(ModuleNotFoundError"):
        hdt.evaluate(distilled, students=["no_such_package:Net"])


def test_a_network_of_fixed_channels_needs_as_many(models: str, quick: None) -> None:
    frame = make_frame(columns=("load", "wind", "sun"))
    few = hdt.distill(frame, method="wiener", channels=2, length=48, context=12, horizon=6, iterations=1, draws=1)
    with pytest.raises(
        hdt.InputError, match=r"was trained on 2 channels and fails on 3 \(.*\); distil with --channels all"
    ):
        hdt.evaluate(few, students=[f"{models}:fixed"], seeds=1)


def test_an_edited_network_is_another(models: str, tmp_path: Path) -> None:
    def key(kind: type[Student]) -> str:
        return fingerprint([], code=[kind])

    path, file = f"{models}:Last", Path(f"{models}.py")
    first = key(wrapped.load(path))
    sys.modules.pop(models)
    assert key(wrapped.load(path)) == first
    sys.modules.pop(models)
    file.write_text(MODELS.replace("{count}", "3"), encoding="utf-8")
    import linecache

    linecache.checkcache()
    assert key(wrapped.load(path)) != first


def test_the_command_line_takes_a_path(models: str, run: Run, csv: Path, quick: None) -> None:
    words = ("--context", 12, "--horizon", 6, "--length", 48, "--k", 6, "--iterations", 2)
    assert run("distill", csv, *words, "--out", "r").code == 0
    done = run("evaluate", "r", "--student", f"{models}:Last", "--seeds", 1, "--json")
    assert done.code == 0 and {row["student"] for row in json.loads(done.out)["rows"]} == {f"{models}:Last"}
    assert run("evaluate", "r", "--student", "lstm").code == 2
    refused = run("evaluate", "r", "--student", f"{models}:absent")
    assert refused.code == 2 and len(refused.err.strip().splitlines()) == 1
    words = ("--method", "random", "--student", f"{models}:Last", "--seeds", 1, *words[:6], "--json")
    compared = run("compare", csv, *words)
    assert compared.code == 0, compared.err
