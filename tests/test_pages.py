"""Every block of Python and every command of README.md and docs/ runs, on quick settings.

The blocks of a page share a folder, which holds the table of docs/start.md and the tiny Moirai, and the names of
Python. A block with a title is a file and is written there; a pyproject.toml makes a distribution of it. Before a block
may stand ``<!-- not run: REASON -->``, or ``<!-- needs: PACKAGE -->``: then it runs where that is installed.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from conftest import Result

from hdt.distillation import config
from hdt.distillation.methods import METHODS
from hdt.evaluation import figures
from hdt.objective import OBJECTIVES
from hdt.parameterization import PARAMETERIZATIONS
from hdt.run import report
from hdt.selection import leaderboard
from hdt.students import STUDENTS, Training

ROOT = Path(__file__).parent.parent
PAGES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))}
FENCE = re.compile(r"(?:<!-- (not run|needs): ([^>]+?) -->\n)?^```(\w*)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SMALL = {"features": 16, "draws": 2}
REGISTRIES = (OBJECTIVES, PARAMETERIZATIONS, STUDENTS, METHODS)


class Block(NamedTuple):
    """A block of a page: what stands before it, its language, its title and its text."""

    mark: str
    reason: str
    language: str
    title: str | None
    code: str


def blocks(text: str) -> list[Block]:
    found = []
    for mark, reason, language, more, code in FENCE.findall(text):
        title = re.search(r'title="([^"]+)"', more)
        found.append(Block(mark, reason, language, title and title[1], code))
    return found


BLOCKS = {name: blocks(path.read_text(encoding="utf-8")) for name, path in PAGES.items()}
TABLE = next(block.code for block in BLOCKS["docs/start.md"] if block.language == "python")


def quicken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two iterations, short windows and few features for every method, one epoch for students, empty pictures."""
    quick = {}
    for name, method in METHODS.items():
        fields = OBJECTIVES[method.objective].Options.model_fields
        small = {option: value for option, value in SMALL.items() if option in fields}
        quick[name] = replace(method, iterations=min(method.iterations, 2), options={**method.options, **small})
    monkeypatch.setitem(METHODS.__dict__, "_found", quick)
    monkeypatch.setattr(config, "DEFAULT_CONTEXT", 24)
    monkeypatch.setattr(config, "DEFAULT_HORIZON", 12)
    for constant, value in {"score.WINDOWS": 4, "score.SAMPLES": 10, "pretrained.VALIDATION_WINDOWS": 8}.items():
        monkeypatch.setattr(f"hdt.tuning.{constant}", value)
    for module in (report, figures, leaderboard):
        monkeypatch.setattr(module, "png", lambda *_: b"")
    for student in STUDENTS.values():
        monkeypatch.setattr(student, "training_settings", Training(lr=5e-3, epochs=1, min_steps=5))


def offer(pyproject: str) -> None:
    """Make the folder look like an installed distribution with the entry points of its pyproject.toml."""
    folder = Path("theirs-1.0.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n", encoding="utf-8")
    groups = re.sub(r'\[project\.entry-points\."(.+)"\]', r"[\1]", pyproject[pyproject.index("[project.entry") :])
    (folder / "entry_points.txt").write_text(groups.replace('"', ""), encoding="utf-8")


def follow(page: list[Block], run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Do what a page says, one block after the other, in the present folder; the names of Python in the end."""
    Path("recipes").symlink_to(ROOT / "recipes")
    exec(TABLE, {})
    for block in page:
        if block.title is not None:
            Path(block.title).write_text(block.code, encoding="utf-8")
            if block.title == "pyproject.toml":
                offer(block.code)
    if any(block.title == "pyproject.toml" for block in page):
        monkeypatch.syspath_prepend(Path.cwd())
        for registry in REGISTRIES:
            len(registry)
            monkeypatch.delitem(registry.__dict__, "_found")
    quicken(monkeypatch)
    names: dict[str, Any] = {}
    for block in page:
        if block.mark == "not run" or block.title is not None:
            continue
        if block.mark == "needs" and find_spec(block.reason) is None:
            continue
        if block.language == "python":
            exec(block.code, names)
        elif block.language == "sh":
            for line in block.code.splitlines():
                command, *words = shlex.split(line, comments=True)
                assert command == "hdt", f"{line}: mark what is no command of hdt"
                done = run(*words)
                assert done.code == 0, f"{line}: {done.err}"
    return names


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name, page in BLOCKS.items() if page])
def test_what_a_page_says_works(
    name: str, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        follow(BLOCKS[name], run, monkeypatch)
    finally:
        sys.modules.pop("theirs", None)
    assert "nan" not in capsys.readouterr().out.lower().split()


def test_a_page_that_is_wrong_is_noticed(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="no such"):
        follow(blocks("```sh\nhdt evaluate runs/absent\n```\n"), run, monkeypatch)


def test_few_blocks_are_left_out_and_say_why() -> None:
    every = [block for page in BLOCKS.values() for block in page]
    left = [block for block in every if block.mark == "not run"]
    assert len(left) <= 8 and all(block.language == "sh" and len(block.reason) > 20 for block in left)
    assert {block.language for block in every} <= {"python", "sh", "yaml", "toml"}
    assert sum(text.count("```") for text in map(Path.read_text, PAGES.values())) == 2 * len(every)


def test_a_page_shows_how_every_kind_of_model_is_trained() -> None:
    page = [block for block in BLOCKS["docs/tasks/models.md"] if block.language == "python"]
    assert len(page) == 9 and all(len(block.code.splitlines()) <= 10 for block in page[1:])
    assert {block.reason for block in page} >= {"lightgbm", "neuralforecast", "gluonts"}


def test_the_site_builds_without_a_warning_and_draws_formulas(tmp_path: Path) -> None:
    if find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed; make setup does it")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "methods" / "wiener.html").read_text(encoding="utf-8")
    assert "<math" in page and "arithmatex" not in page
    assert ":func:" not in (tmp_path / "api.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "tag", ['<script src="https://example.org/a.js">', "<link rel=stylesheet href=//example.org/a.css>"]
)
def test_a_page_that_loads_from_elsewhere_is_refused(tag: str) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    hook = runpy.run_path(str(ROOT / "docs" / "hooks.py"))["on_post_page"]
    page = SimpleNamespace(file=SimpleNamespace(src_uri="start.md"))
    with pytest.raises(Exception, match=r"start\.md loads from elsewhere"):
        hook(f"<p>{tag}</p>", page=page)
    link = '<a href="https://example.org">'
    assert hook(link, page=page) == link
