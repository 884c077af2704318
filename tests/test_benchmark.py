from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, make_frame
from matplotlib.figure import Figure

import hdt
from hdt.evaluation import compare, figures, published
from hdt.evaluation.protocol import Evaluator
from hdt.evaluation.scores import summary
from hdt.run import produce
from hdt.students import DLinear, Training
from hdt.system import fingerprint

QUICK = SMALL
DLINEAR = {"students": ["dlinear"], "seeds": 2}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DLinear, "training_settings", Training(lr=5e-3, epochs=2, min_steps=20))


def test_random_and_full_rows_are_always_there(frame: pd.DataFrame) -> None:
    table = hdt.compare(frame, methods=["hdt"], **DLINEAR, **QUICK)
    assert list(table.columns) == list(compare.COLUMNS)
    assert sorted(table["method"]) == ["full", "hdt", "last season", "last value", "random"]
    full = table.set_index("method").loc["full"]
    assert full["ratio_to_full"] == 1 and full["train_speedup"] == 1 and full["floats"] == 280 * 2
    assert np.isnan(full["distill_seconds"]) and table["published"].isna().all()
    rest = table[table["method"].isin(["hdt", "random"])]
    assert (rest["floats"] == 48 * 2).all() and (rest["distill_seconds"] >= 0).all()
    assert (rest["distance_nearest"] >= 0).all()
    np.testing.assert_allclose(table["ratio_to_full"], table["mse"] / full["mse"])


def test_a_row_is_what_distilling_and_training_by_hand_gives(frame: pd.DataFrame) -> None:
    table = hdt.compare(frame, methods=["hdt"], **DLINEAR, **QUICK).set_index("method")
    panel = hdt.load(frame)
    evaluator = Evaluator(panel, 12, 6)
    runs = [hdt.distill(panel, seed=seed, **SMALL) for seed in range(2)]
    expected = summary([evaluator.score("dlinear", run.values, seed) for seed, run in enumerate(runs)])
    for name in ("mse", "mse_std", "mae", "mae_std", "validation_mse"):
        assert table.loc["hdt", name] == pytest.approx(expected[name])
    nearest = np.median([run.info.distance.nearest for run in runs])
    assert table.loc["hdt", "distance_nearest"] == pytest.approx(nearest)
    assert np.isnan(table.loc["hdt", "distance_start"])  # it starts from random phases
    assert table.loc["random", "distance_start"] == table.loc["random", "distance_nearest"] == 0


def test_a_stopped_comparison_goes_on_where_it_was(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    trained: list[str] = []
    distil, score = produce.distill_panel, Evaluator.score

    def distilling(panel: object, settings: object) -> object:
        made.append(f"{settings.method}-{settings.seed}")
        return distil(panel, settings)

    def scoring(self: Evaluator, student: str, series: object, seed: int, *noise: object) -> object:
        if len(trained) == 4:
            raise KeyboardInterrupt
        trained.append(f"{student}-{seed}")
        return score(self, student, series, seed, *noise)

    monkeypatch.setattr(produce, "distill_panel", distilling)
    monkeypatch.setattr(Evaluator, "score", scoring)
    with pytest.raises(KeyboardInterrupt):
        hdt.compare(frame, methods=["hdt"], out="out", **DLINEAR, **QUICK)
    assert made == ["hdt-0", "hdt-1", "random-0"] and len(trained) == 4
    monkeypatch.setattr(Evaluator, "score", score)
    first = hdt.compare(frame, methods=["hdt"], out="out", **DLINEAR, **QUICK)
    assert made == ["hdt-0", "hdt-1", "random-0", "random-1"]
    monkeypatch.setattr(Evaluator, "score", lambda *_: pytest.fail("computed again"))
    second = hdt.compare(frame, methods=["hdt"], out="out", **DLINEAR, **QUICK)
    pd.testing.assert_frame_equal(first, second)
    with pytest.raises(pytest.fail.Exception, match="computed again"):  # another setting is another cell
        hdt.compare(frame, methods=["hdt"], out="out", **DLINEAR, **{**QUICK, "iterations": 4})


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Edits a module, as far as its source is concerned."""
    usual = fingerprint.source
    return lambda module: monkeypatch.setattr(
        fingerprint, "source", lambda name: usual(name) + "\n# edited" * (name == module)
    )


def test_what_an_edit_decides_is_computed_again(
    frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, edit: Callable[[str], None]
) -> None:
    """Distillations, and trainings, of: hdt, random, full; an objective's edit used to give the old numbers."""
    made, trained = [], []
    distil, score = produce.distill_panel, Evaluator.score
    monkeypatch.setattr(produce, "distill_panel", lambda *a: made.append(a[1].method) or distil(*a))
    monkeypatch.setattr(Evaluator, "score", lambda *a: trained.append(a[1]) or score(*a))
    request = {"methods": ["hdt"], "students": ["dlinear"], "seeds": 1, "out": "out", **QUICK}
    for module, distillations, trainings in [
        ("hdt", ["hdt", "random"], 3),
        ("hdt.run.report", [], 0),
        ("hdt.students.xpatch", [], 0),
        ("hdt.objective.harmonic", ["hdt"], 1),
        ("hdt.students.dlinear", ["hdt", "random"], 3),
    ]:
        made.clear(), trained.clear()
        edit(module)
        hdt.compare(frame, **request)
        assert (made, len(trained)) == (distillations, trainings), module


def test_seconds_of_another_device_are_no_ones(frame: pd.DataFrame) -> None:
    evaluator = Evaluator(hdt.load(frame), 12, 6, device="cpu")
    key = evaluator.key("dlinear", 0)
    evaluator.device = torch.device("cuda")
    assert evaluator.key("dlinear", 0) != key
    assert Evaluator(hdt.load(frame), 12, 6, device="auto").key("dlinear", 0) == key or torch.cuda.is_available()


def test_other_data_share_no_cell(frame: pd.DataFrame) -> None:
    first = hdt.compare(frame, methods=["random"], out="out", **DLINEAR, **QUICK)
    second = hdt.compare(make_frame(seed=1), methods=["random"], out="out", **DLINEAR, **QUICK)
    assert (first["mse"] != second["mse"]).all()


def test_one_setting_can_be_varied_and_methods_without_it_stay(frame: pd.DataFrame) -> None:
    table = hdt.compare(frame, methods=["hdt"], vary={"k": [2, 6]}, **DLINEAR, **{**QUICK, "lam": 1.0})
    hdt_rows = table[table["method"] == "hdt"]
    assert table.columns[0] == "k" and hdt_rows["k"].tolist() == [2, 6]
    assert hdt_rows["mse"].nunique() == 2
    random = table[table["method"] == "random"]
    assert random["mse"].nunique() == 1
    lengths = hdt.compare(frame, methods=["random"], vary={"length": [24, 48]}, **DLINEAR, context=12, horizon=6)
    assert lengths.loc[lengths["method"] == "random", "floats"].tolist() == [48, 96]
    assert isinstance(figures.curve(lengths, "length", ""), Figure)


def test_bad_requests_are_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    for wrong, message in [
        ({"methods": ["magic"]}, "unknown method 'magic'; known: cfm, condtsf"),
        ({"students": ["lstm"]}, "unknown student 'lstm'"),
        ({"seeds": 0}, "seeds=0"),
        ({"vary": {"k": [1], "lam": [1]}}, "one setting at a time"),
        ({"vary": {"k": []}}, "no values"),
        ({"vary": {"horizon": [6]}}, "would change the question"),
        ({"colour": 3}, "colour"),
    ]:
        with pytest.raises(hdt.InputError, match=message):
            hdt.compare(frame, **{"methods": ["random"], "students": ["dlinear"], **QUICK, **wrong})
    (tmp_path / "file").write_text("")
    with pytest.raises(hdt.InputError, match="cannot write here"):
        hdt.compare(frame, methods=["random"], out=tmp_path / "file", **DLINEAR, **QUICK)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "table.csv").write_text("years of work")
    with pytest.raises(hdt.InputError, match="mine exists and holds no comparison"):
        hdt.compare(frame, methods=["random"], out=tmp_path / "mine", **DLINEAR, **QUICK)
    assert (tmp_path / "mine" / "table.csv").read_text() == "years of work"


def test_published_figures_are_found_for_their_setting_only() -> None:
    setting = {"length": 384, "context": 96, "horizon": 96}
    assert published.mse("ETTh1", "hdt", "dlinear", **setting) == 0.430
    assert published.mse("ETTh1", "full", "xpatch", **{**setting, "length": 240}) == 0.384
    assert published.mse("ETTh1", "hdt", "dlinear", **{**setting, "length": 240}) is None
    assert published.mse("ETTh1", "hdt", "dlinear", **{**setting, "horizon": 192}) is None
    assert published.mse("co2", "hdt", "dlinear", **setting) is None


def table() -> pd.DataFrame:
    rows = [
        {"method": m, "student": s, "mse": mse, "mse_std": 0.01, "ratio_to_full": mse / 0.4, "floats": 1000,
         "distill_seconds": None if m == "full" else 2.0, "train_seconds": 1.0, "train_speedup": 30.4,
         "published": 0.43 if m == "hdt" else None}
        for m, mse in [("random", 0.9), ("full", 0.4), ("hdt", 0.5), ("last value", 0.7)]
        for s in ("dlinear", "xpatch")
    ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=list(compare.COLUMNS))


def test_the_markdown_table_lists_the_best_first() -> None:
    lines = figures.markdown(table()).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["full", "hdt", "last value", "random"]
    assert lines[3] == "| hdt | 0.500 ± 0.010 (0.430) | 0.500 ± 0.010 (0.430) | 1.250× | 1,000 | 2.0 s | 30× |"
    assert lines[5].startswith("| random | 0.900 ± 0.010 |")


def test_bars_stand_for_the_table() -> None:
    axes = figures.bars(table(), "title").axes[0]
    assert sorted(bar.get_height() for bar in axes.patches) == [0.5, 0.5, 0.9, 0.9]
    lines = [line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 2][-4:]
    assert lines == [0.4, 0.7, 0.4, 0.7]  # full data and the last value, for either student


def test_bars_that_are_cut_say_how_high_they_are() -> None:
    axes = figures.bars(table(), "title").axes[0]
    assert axes.get_ylim()[1] == pytest.approx(0.8)
    assert [text.get_text() for text in axes.texts] == ["0.90", "0.90"]


def test_a_full_disk_leaves_the_tables_that_were_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = figures.write(table(), "title", tmp_path)
    before = [path.read_bytes() for path in paths]

    def failing(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(hdt.InputError, match=r"table.csv: cannot be written \(No space left on device\)"):
        figures.write(table(), "other", tmp_path)
    assert [path.read_bytes() for path in paths] == before and len(list(tmp_path.iterdir())) == 4


@pytest.mark.draws
def test_all_files_are_written(tmp_path: Path) -> None:
    paths = figures.write(table(), "title", tmp_path)
    assert [path.name for path in paths] == ["table.csv", "table.json", "table.md", "table.png"]
    assert json.loads(paths[1].read_text())[0]["method"] == "random"
    pd.testing.assert_frame_equal(pd.read_csv(paths[0]), table(), check_dtype=False)
    assert paths[2].read_text().startswith("# title\n\n| method |")
    assert paths[3].read_bytes().startswith(b"\x89PNG")
