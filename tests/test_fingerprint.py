from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hdt.students import STUDENTS
from hdt.system import fingerprint as module
from hdt.system.fingerprint import fingerprint, source


def test_equal_things_are_one_and_others_are_not() -> None:
    values = np.arange(6.0)
    same = [
        fingerprint({"a": 1, "b": [2]}, [values]),
        fingerprint({"b": [2], "a": 1}, [torch.from_numpy(values)]),
        fingerprint({"a": 1, "b": (2,)}, [np.arange(12.0)[::2] / 2]),
    ]
    assert len(set(same)) == 1 and len(same[0]) == 32 and int(same[0], 16)
    others = [
        fingerprint({"a": 1, "b": [3]}, [values]),
        fingerprint({"a": 1, "b": [2]}, [values.reshape(2, 3)]),
        fingerprint({"a": 1, "b": [2]}, [values.astype(np.float32)]),
        fingerprint({"a": 1, "b": [2]}, [values[:3], values[3:]]),
        fingerprint({"a": 1, "b": [2]}, [np.nextafter(values, 9.0)]),
        fingerprint({"a": 1, "b": [2]}, [values], ["hdt.students.contract"]),
    ]
    assert len({same[0], *others}) == 1 + len(others)


def test_every_kind_of_tensor_counts() -> None:
    kinds = [torch.tensor(1.0), torch.zeros(0), torch.ones(2, dtype=torch.bfloat16), torch.tensor([True, False])]
    grad = torch.ones(2, 3, requires_grad=True).T
    assert len({fingerprint(None, [each]) for each in (*kinds, grad)}) == 5


def test_another_torch_has_other_fingerprints(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint("x")
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert fingerprint("x") != before


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of somebody else whose part rests on a helper, handed on by the package, and on hdt."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .helper import factor\nfrom .other import unused\n")
    (folder / "helper.py").write_text("factor = 2\n")
    (folder / "late.py").write_text("late = 3\n")
    (folder / "other.py").write_text("unused = 1\nfrom . import part\n")
    (folder / "part.py").write_text(
        "import json\nfrom theirs import factor\nfrom hdt.students import Student\n\n"
        "class Part(Student):\n    def forward(self, x):\n        from .late import late\n        return x * factor\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for cached in (source, module._spec):
        cached.cache_clear()
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "theirs"]:
        del sys.modules[name]
    for cached in (source, module._spec):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("file", "counts"), [("part.py", True), ("helper.py", True), ("late.py", True), ("other.py", False)]
)
def test_code_is_a_class_with_all_that_it_imports(package: Path, file: str, counts: bool) -> None:
    from theirs.part import Part  # type: ignore[import-not-found]

    before = fingerprint(None, code=[Part])
    assert fingerprint(None, code=["theirs.part"]) == before
    (package / file).write_text((package / file).read_text() + "# edited\n")
    assert fingerprint(None, code=[Part]) == before  # what was imported is what runs
    source.cache_clear()
    assert (fingerprint(None, code=[Part]) != before) == counts


def test_imports_are_followed_to_where_things_are_written(package: Path) -> None:
    assert set(module._sources(["theirs.part"])) == {
        "theirs.part",
        "theirs.helper",
        "theirs.late",
        "hdt.students.contract",
        "hdt.maths.roles",
    }
    assert set(module._sources([STUDENTS["dlinear"]])) == {
        "hdt.students.dlinear",
        "hdt.students.contract",
        "hdt.maths.roles",
    }


def test_no_other_part_and_nothing_that_reads_or_draws_decides_a_distillation() -> None:
    found = module._sources(["hdt.objective.harmonic", "hdt.run.produce"])
    assert {"hdt.objective.gradient", "hdt.objective.contract", "hdt.maths.spectrum"} < set(found)
    assert {"hdt.distillation.loop", "hdt.start", "hdt.parameterization.contract"} < set(found)
    assert not {"hdt.objective.wiener", "hdt.students.dlinear", "hdt.run.report", "hdt.data.frames"} & set(found)
    assert all(found[name] != found["hdt.start"] for name in found if name != "hdt.start")


def test_a_fine_tuning_rests_on_the_loop_its_validation_and_what_it_reads() -> None:
    found = set(module._sources(["hdt.tuning.loop"]))
    assert {"hdt.training.loop", "hdt.tuning.crps", "hdt.tuning.tokens", "hdt.maths.rows"} < found
    assert found < set(module._sources(["hdt.tuning.moirai"])) and "hdt.tuning.student" not in found


def test_a_module_without_a_text_counts_by_its_name() -> None:
    own = type("Own", (), {"__module__": "typed.in"})
    assert fingerprint(None, code=[own]) == fingerprint(None, code=["typed.in"]) != fingerprint(None)
    assert source("sys") == source("absent") == ""
