"""Any options, recipes and flags end well or in one line and exit 2; the work itself is left out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from conftest import SMALL, Result, make_frame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hdt
from hdt.cli import app
from hdt.data import datasets
from hdt.distillation import config
from hdt.distillation.methods import METHODS
from hdt.objective import OBJECTIVES
from hdt.parameterization import PARAMETERIZATIONS
from hdt.selection.space import Space
from hdt.system.errors import InputError

Run = Callable[..., Result]
DISTILL = ["distill", "plant.csv", "--dry-run", "--length", 48, "--context", 12, "--horizon", 6]
NASTY = [
    "", " ", "'", "[", "{", "]", "%", "=", "a=b", "-", "?", ":", "!!python/name:os.system", "&a [*a]", "*a", "@", "`",
    "|", "1e-3", "010", "0x10", "1_0", "12:30:00", "2020-01-01", "true", "no", "null", "~", "nan", ".nan", "inf",
    "-1", "0", "1", "2", "6", "1e400", "1e300", "1e-300", "9" * 20, "9" * 5000, "-" + "9" * 20, "auto", "0.7,0.1,0.2",
    "[0.7, 0.1, 0.2]", "[a, b, c]", "{k: 3}", "[" * 2000, "x" * 300, "x" * 5000, "https://example.org/a", "é", "负",
    "..", "/", "cpu", "cuda", "phase", "date", "load", "error",
]  # fmt: skip
EXAMPLES = 40
KINDS = [*OBJECTIVES.values(), *PARAMETERIZATIONS.values()]
OPTIONS = {name for kind in KINDS for name in kind.Options.model_fields}
RESERVED = {"data", "progress", "real_channels", "watch", "options", "budget", "load", "self", "given", "settings"}
KNOWN = sorted({*OPTIONS, *config.Settings.model_fields, *datasets.LOAD_DEFAULTS, *RESERVED})
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(NASTY)
texts = st.sampled_from(NASTY) | st.integers().map(str) | st.floats().map(str) | st.text(max_size=6)
texts = texts.map(lambda text: text.replace("\0", ""))  # which no argument can hold
names = st.sampled_from(KNOWN) | st.text(max_size=4).map(lambda text: text.replace("\0", ""))
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
examples = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])


def flags(command: str) -> st.SearchStrategy[list[str]]:
    """A few flags of a command, with values where they take one."""
    found = [
        parameter
        for parameter in typer.main.get_command(app.app).commands[command].params  # type: ignore[attr-defined]
        if parameter.param_type_name == "option" and parameter.name not in ("out", "help", "force")
    ]
    parts = [
        st.just([parameter.opts[0]]) if parameter.is_flag else texts.map(lambda text, o=parameter.opts[0]: [o, text])
        for parameter in found
    ]
    return st.lists(st.one_of(parts), max_size=3).map(lambda groups: [word for group in groups for word in group])


def well(result: Result) -> None:
    assert result.code in (0, 2), result
    assert "Traceback" not in result.err
    if result.code == 2:
        assert result.out == "" and result.err.splitlines()[-1].startswith("error: "), result


@pytest.fixture(autouse=True)
def table(tmp_path: Path) -> None:
    make_frame(600).rename_axis("date").to_csv(tmp_path / "plant.csv")


@examples
@given(method=st.sampled_from(sorted(METHODS)), pairs=st.lists(st.tuples(names, texts), min_size=1, max_size=3))
def test_options(run: Run, method: str, pairs: list[tuple[str, str]]) -> None:
    words = [word for name, text in pairs for word in ("--option", f"{name}={text}")]
    well(run(*DISTILL, "--method", method, *words))


@examples
@given(words=flags("distill"))
def test_flags_of_distill(run: Run, words: list[str]) -> None:
    well(run(*DISTILL, *words))


@examples
@given(
    content=st.dictionaries(st.sampled_from([*config.Settings.model_fields]), values, max_size=2),
    place=st.sampled_from(["options", "load"]),
    nested=st.dictionaries(names, values, max_size=2),
)
def test_recipes(run: Run, content: dict[str, Any], place: str, nested: dict[str, Any]) -> None:
    size = {name: SMALL[name] for name in ("length", "context", "horizon")}
    recipe = yaml.safe_dump({"data": "plant.csv", **size, place: nested, **content}, allow_unicode=True)
    Path("recipe.yaml").write_text(recipe, encoding="utf-8", errors="replace")
    well(run("distill", "--recipe", "recipe.yaml", "--dry-run"))


@examples
@given(text=st.text(max_size=30) | st.sampled_from(NASTY) | st.binary(max_size=30))
def test_files_that_are_no_recipes(run: Run, text: str | bytes) -> None:
    content = text if isinstance(text, bytes) else text.encode(errors="replace")
    Path("recipe.yaml").write_bytes(content)
    well(run("distill", "--recipe", "recipe.yaml", "--dry-run"))


def stop(*_: Any, **__: Any) -> None:
    raise InputError("the work begins")


@examples
@given(words=flags("compare"))
def test_flags_of_compare(run: Run, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdt.evaluation.compare.Evaluator.__init__", stop)
    well(run("compare", "plant.csv", "--length", 48, "--context", 12, "--horizon", 6, *words))


@settings(examples, max_examples=15)
@given(words=flags("finetune"))
def test_flags_of_finetune(run: Run, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdt.tuning.student.fit", stop)
    if not Path("run").exists():
        hdt.distill("plant.csv", **{**SMALL, "iterations": 0}).save("run")
    well(run("finetune", "run", "--model", "dlinear", *words))


@settings(examples, max_examples=15)
@given(words=flags("search"))
def test_flags_of_search(run: Run, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdt.selection.study.explore", stop)
    if not Path("run").exists():
        hdt.distill("plant.csv", **{**SMALL, "iterations": 0}).save("run")
    well(run("search", "run", *words))


@examples
@given(
    content=values
    | st.dictionaries(
        st.sampled_from(["dlinear", "mlp"]) | texts,
        values | st.dictionaries(st.sampled_from(["lr", "batch", "kernel"]) | names, values),
        max_size=2,
    )
)
def test_search_spaces(content: Any) -> None:
    Path("space.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8", errors="replace")
    with suppress(InputError):
        space = Space.read("space.yaml")
        for student in space.students:
            space.draw(student, np.random.default_rng(0))
