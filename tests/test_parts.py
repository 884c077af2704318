"""A package of somebody else adds an objective, a parameterization and a student, a file each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from conftest import make_frame

import hdt
from hdt.distillation.methods import METHODS
from hdt.objective import OBJECTIVES
from hdt.parameterization import PARAMETERIZATIONS
from hdt.students import STUDENTS, Student
from hdt.system.parts import parts

FILES = {
    "mean.py": '''
        import torch
        from pydantic import Field
        from hdt.objective import Known, Objective, Scored
        from hdt.system.options import Options
        from hdt.system.parts import Method

        class MeanOptions(Options):
            strength: float = Field(1.0, gt=0, description="of the pull")

        class MeanMatching(Objective[Known]):
            """Pulls the level of every channel to that of the real one, which is zero in scaled units."""
            name = "mean"
            Options = MeanOptions
            citation = "@misc{mean}"
            methods = {"mean": Method("Levels", "halved", "mean", "real", iterations=4, learning_rate=0.1)}

            def prepare(self, series):
                return Known()

            def loss(self, known, synthetic, state, generator):
                loss = self.options.strength * synthetic.mean(dim=1).square().sum()
                return Scored(loss, {"level": loss.detach()}, state)
    ''',
    "halved.py": '''
        from hdt.parameterization import Parameterization

        class Halved(Parameterization):
            """Every second step; the others repeat it."""
            name = "halved"

            def shapes(self):
                n, length, channels = self.size
                return {"even": (n, length // 2, channels)}

            def encode(self, series, near=None):
                return {"even": series[:, ::2].clone()}

            def decode(self, params):
                return params["even"].repeat_interleave(2, dim=1)
    ''',
    "linear.py": '''
        from torch import nn
        from hdt.students import Student, Training

        class Linear(Student):
            """One linear map."""
            name = "linear"
            training_settings = Training(lr=1e-3, epochs=2, min_steps=10)

            def __init__(self, context, horizon, channels):
                super().__init__(context, horizon, channels)
                self.map = nn.Linear(context, horizon)

            def forward(self, context):
                return self.map(context.transpose(1, 2)).transpose(1, 2)
    ''',
    "ridge.py": """
        from sklearn.linear_model import Ridge
        import hdt

        Soft = hdt.wrap(Ridge(alpha=10), "soft")
    """,
}
WINDOW = ("--context", "12", "--horizon", "6", "--length", "48")
ENTRY_POINTS = """
    [hdt.objectives]
    mean = theirs.mean:MeanMatching
    [hdt.parameterizations]
    halved = theirs.halved:Halved
    [hdt.students]
    linear = theirs.linear:Linear
    soft = theirs.ridge:Soft
"""


def package(folder: Path, entry_points: str) -> dict[str, str]:
    """An installed distribution ``theirs`` in ``folder``; the environment that sees it."""
    (folder / "theirs").mkdir(parents=True)
    for name, text in {"__init__.py": "", **FILES}.items():
        (folder / "theirs" / name).write_text(dedent(text), encoding="utf-8")
    info = folder / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(dedent(entry_points), encoding="utf-8")
    paths = [str(folder), str(Path(hdt.__file__).parents[1])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}


def hdt_command(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hdt", *words], env=environment, capture_output=True, text=True)


def test_parts_of_other_packages_distil_evaluate_and_compare(tmp_path: Path) -> None:
    environment = package(tmp_path / "site", ENTRY_POINTS)
    make_frame().rename_axis("date").to_csv("frame.csv")
    done = hdt_command(environment, "distill", "frame.csv", "--method", "mean", *WINDOW, "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["floats"] == 24 * 2
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["settings"]["options"] == {"strength": 1.0}
    students = ("--student", "linear", "--student", "soft")
    done = hdt_command(environment, "evaluate", "run", *students, "--seeds", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert {row["student"] for row in json.loads(done.stdout)["rows"]} == {"linear", "soft"}
    done = hdt_command(
        environment, "compare", "frame.csv", "--method", "mean", "--student", "linear", "--seeds", "1", *WINDOW,
        "--option", "iterations=2", "--out", "cells",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "mean" in done.stdout and Path("cells/cells.csv").is_file()
    assert hdt_command(environment, "cite", "mean").stdout == "@misc{mean}\n"
    done = hdt_command(environment, "finetune", "run", "--model", "linear", "--steps", "3", "--out", "forecaster")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("entry", "code", "message"),
    [
        ("[hdt.objectives]\nmean = theirs.absent:Nothing\n", 0, "mean of theirs is left out, it cannot be loaded"),
        ("[hdt.objectives]\nmean = theirs.linear:Linear\n", 2, "mean of theirs is no Objective with a name of its own"),
        ("[hdt.students]\nx = hdt.students.xpatch:XPatch\n", 2, "the name 'xpatch' is taken; uninstall one of the two"),
    ],
)
def test_broken_offers_are_told_in_one_line(entry: str, code: int, message: str, tmp_path: Path) -> None:
    environment = {**package(tmp_path / "site", entry), "PYTHONWARNINGS": "default"}
    make_frame().rename_axis("date").to_csv("frame.csv")
    done = hdt_command(environment, "distill", "frame.csv", "--method", "wiener", *WINDOW, "--dry-run")
    assert done.returncode == code and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_every_part_and_method_of_hdt_is_found() -> None:
    assert set(OBJECTIVES) >= {"cfm", "condtsf", "dc", "gradient", "harmonic", "mtt", "none", "wiener"}
    assert set(PARAMETERIZATIONS) >= {"fred", "harmonic", "nsd", "raw"}
    assert set(STUDENTS) >= {"dlinear", "itransformer", "mlp", "xpatch"}
    assert list(METHODS)[-3:] == ["kcenter", "herding", "random"]
    for name, method in METHODS.items():
        assert method.objective in OBJECTIVES and method.parameterization in PARAMETERIZATIONS
        assert method.citation or name == "random"
    assert parts("hdt.students", "no.such.group", Student).keys() == set(STUDENTS)


def test_unknown_names_list_what_is_known() -> None:
    with pytest.raises(hdt.InputError, match="unknown student 'lstm'; known: dlinear, itransformer, "):
        STUDENTS["lstm"]
