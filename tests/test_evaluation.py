from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, Result, make_frame, refused

import hdt
from hdt.evaluation import protocol
from hdt.start import real_segments
from hdt.students import STUDENTS, DLinear, Training, build
from hdt.training.errors import errors
from hdt.training.fit import Fit, fit


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DLinear, "training_settings", Training(lr=5e-3, epochs=2, min_steps=16))


def test_rows_of_distilled_random_and_full_data_are_always_there(frame: pd.DataFrame) -> None:
    table = hdt.evaluate(hdt.distill(frame, **SMALL), seeds=2)
    assert table["trained_on"].tolist() == ["distilled", "random", "full", "last value", "last season"]
    assert (table["seeds"].iloc[:3] == 2).all() and (table["student"] == "dlinear").all()
    full = table.set_index("trained_on").loc["full"]
    assert full["ratio_to_full"] == 1
    np.testing.assert_allclose(table["ratio_to_full"], table["mse"] / full["mse"])
    assert np.isfinite(table.select_dtypes("number")).all().all()


def test_the_numbers_are_those_of_the_protocol_done_by_hand(frame: pd.DataFrame) -> None:
    distilled = hdt.distill(frame, **SMALL)
    panel = distilled.panel
    train, val, test = (
        torch.tensor(panel.part(part, context=12 * (part != "train")), dtype=torch.float32)
        for part in ("train", "val", "test")
    )
    assert len(val) == 40 + 12 and len(test) == 80 + 12
    table = hdt.evaluate(distilled, seeds=2).set_index("trained_on")
    expected: dict[str, list[float]] = {"distilled": [], "random": [], "full": []}
    for seed in range(2):
        random = real_segments(train, 1, 48, torch.Generator().manual_seed(seed))
        for name, series in [("distilled", torch.tensor(distilled.values)), ("random", random), ("full", train[None])]:
            runs = []
            for rate in (1e-3, 5e-3, 2.5e-2):
                student = build("dlinear", 12, 6, 2, seed)
                run = fit(student, series, val, seed, Training(lr=rate, epochs=2, min_steps=16))
                runs.append((run.validation, errors(student, test).mse))
            expected[name].append(min(runs)[1])
    for name, values in expected.items():
        assert table.loc[name, "mse"] == pytest.approx(np.mean(values), rel=1e-6)
        assert table.loc[name, "mse_std"] == pytest.approx(np.std(values, ddof=1), rel=1e-6)


def test_the_learning_rate_is_the_one_best_on_validation(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, tiny = protocol.Evaluator(hdt.load(frame), 12, 6), np.asarray(make_frame(60))[None]
    single = []
    for rates in [(1.0,), (1e4,), (1e-6,)]:
        monkeypatch.setattr(DLinear, "rates", rates)
        single.append(evaluator.score("dlinear", tiny, 0))
    monkeypatch.setattr(DLinear, "rates", (1e4, 1.0, 1e-6))
    chosen = evaluator.score("dlinear", tiny, 0)
    best = min(single, key=lambda score: score["validation_mse"])
    assert {k: chosen[k] for k in ("mse", "mae", "validation_mse")} == {
        k: best[k] for k in ("mse", "mae", "validation_mse")
    }
    assert len({score["validation_mse"] for score in single}) == 3


def test_without_validation_the_published_rate_and_the_last_weights_are_kept(frame: pd.DataFrame) -> None:
    """By hand: AdamW at 5e-3, halved once, sixteen steps of one batch of all windows, in the order of the seed."""
    panel, tiny = hdt.load(frame), np.asarray(make_frame(60))[None].astype(np.float32)
    evaluator = protocol.Evaluator(panel, 12, 6, validation=False)
    student = build("dlinear", 12, 6, 2, 0)
    every = torch.tensor(tiny)[0].unfold(0, 18, 1).transpose(1, 2)
    optimizer, draw = (
        torch.optim.AdamW(student.parameters(), lr=5e-3, weight_decay=0.0),
        torch.Generator().manual_seed(0),
    )
    for step in range(16):
        if step % 2 == 0:
            order = torch.randperm(43, generator=draw).split(32)
        optimizer.param_groups[0]["lr"] = 5e-3 * 0.5 ** (2 * step // 16)
        batch = every[order[step % 2]]
        optimizer.zero_grad()
        (student(batch[:, :12]) - batch[:, 12:]).square().mean().backward()
        optimizer.step()
    found = evaluator.score("dlinear", tiny, 0)
    assert found["mse"] == pytest.approx(errors(student, evaluator.test).mse, rel=1e-5)
    assert found["validation_mse"] == pytest.approx(errors(student, evaluator.val).mse, rel=1e-5)
    changed = make_frame()
    changed.iloc[280:320] += 1.0  # the validation part changes nothing
    other = protocol.Evaluator(hdt.load(changed), 12, 6, validation=False)
    assert other.score("dlinear", tiny, 0)["mse"] == pytest.approx(errors(student, other.test).mse, rel=1e-5)
    assert other.key("dlinear", 0) != protocol.Evaluator(hdt.load(changed), 12, 6).key("dlinear", 0)


def test_a_learning_rate_that_diverges_is_passed_over(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, tiny = protocol.Evaluator(hdt.load(frame), 12, 6), np.asarray(make_frame(60))[None]
    monkeypatch.setattr(DLinear, "rates", (1.0,))
    expected = evaluator.score("dlinear", tiny, 0)["mse"]
    monkeypatch.setattr(DLinear, "rates", (1e36, 1.0))
    assert evaluator.score("dlinear", tiny, 0)["mse"] == expected
    monkeypatch.setattr(DLinear, "rates", (1e36, 1e37))
    with pytest.raises(hdt.InputError, match="dlinear: every training diverged"):
        evaluator.score("dlinear", tiny, 0)


def test_the_test_part_changes_only_the_test_errors() -> None:
    one, other = make_frame(), make_frame()
    other.iloc[320:] += 1.0
    first, second = (hdt.evaluate(hdt.distill(f, **SMALL), seeds=1) for f in (one, other))
    assert (first["validation_mse"] == second["validation_mse"]).all()
    assert (first["mse"] != second["mse"]).all()


def test_full_data_is_trained_once(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []

    def counting(student: torch.nn.Module, series: torch.Tensor, *rest: object) -> object:
        trained.append(series.shape[1])
        return fit(student, series, *rest)

    monkeypatch.setattr(protocol, "fit", counting)
    distilled = hdt.distill(frame, **SMALL)
    first, second = hdt.evaluate(distilled, seeds=1), hdt.evaluate(distilled, seeds=1)
    assert trained == [48] * 6 + [280] * 3 + [48] * 6  # three learning rates each
    assert first["mse"].tolist() == second["mse"].tolist()
    changed = make_frame()
    changed.iloc[350, 0] += 1
    hdt.evaluate(hdt.distill(changed, **SMALL), seeds=1)
    assert trained[-1] == 280


def test_students_of_fewer_channels_are_scored_on_all_beside_as_many_random_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = make_frame(columns=("load", "wind", "sun"))
    for student in STUDENTS.values():
        monkeypatch.setattr(student, "training_settings", Training(lr=5e-3, epochs=1, min_steps=2))
    trained: list[int] = []

    def counting(student: torch.nn.Module, series: torch.Tensor, *rest: object) -> object:
        trained.append(series.shape[2])
        return fit(student, series, *rest)

    monkeypatch.setattr(protocol, "fit", counting)
    small = {**SMALL, "method": "wiener", "features": 8, "draws": 2, "channels": 2}
    del small["k"]
    table = hdt.evaluate(hdt.distill(frame, **small), students=list(STUDENTS), seeds=1)
    assert len(table) == 5 * len(STUDENTS) and np.isfinite(table["mse"]).all()
    assert sorted(set(trained)) == [2, 3]
    assert trained.count(3) == sum(3 + student.mixes_channels for student in STUDENTS.values())


@pytest.mark.parametrize("better", [True, False])
def test_validation_decides_whether_channels_come_from_different_windows(
    frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, better: bool
) -> None:
    """Of three rates the second is best; then it is tried on shuffled channels, which are better or not."""
    tried: list[tuple[float, bool]] = []

    def scripted(
        student: torch.nn.Module, series: torch.Tensor, val: object, seed: int, way: Training, *_: object
    ) -> Fit:
        tried.append((way.lr, way.shuffle_channels))
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.fill_(float(way.shuffle_channels))
        error = (0.1 if better else 0.3) if way.shuffle_channels else {1e-4: 0.2}.get(way.lr, 0.5)
        return Fit(error, 1, 1, 1.0, 1)

    monkeypatch.setattr(protocol, "fit", scripted)
    evaluator = protocol.Evaluator(hdt.load(frame), 12, 6)
    tiny = np.asarray(make_frame(60))[None]
    found = evaluator.score("itransformer", tiny, 0)
    assert tried == [(2e-5, False), (1e-4, False), (5e-4, False), (1e-4, True)]
    assert (found["validation_mse"], found["train_seconds"]) == (0.1 if better else 0.2, 4.0)
    zeros = protocol.Evaluator(hdt.load(frame), 12, 6, validation=False).score("itransformer", tiny, 0)["mse"]
    assert (found["mse"] != zeros) == better and tried[4:] == [(1e-4, False)]
    evaluator.score("xpatch", tiny, 0)
    evaluator.score("itransformer", tiny[..., :1], 0)  # one channel is nothing to shuffle
    assert not any(shuffled for _, shuffled in tried[5:]) and len(tried) == 11


def test_a_loaded_run_finds_its_data_again(tmp_path: pd.DataFrame) -> None:
    path = tmp_path / "data.csv"
    make_frame().rename_axis("date").to_csv(path)
    run = hdt.distill(path, **SMALL).save(tmp_path / "run")
    table = hdt.evaluate(hdt.Distilled.load(run), seeds=1)
    assert len(table) == 5
    path.rename(tmp_path / "moved.csv")
    with pytest.raises(hdt.InputError, match=r"data.csv: not found from this folder, .* give it with --data"):
        hdt.evaluate(hdt.Distilled.load(run), seeds=1)
    moved = hdt.evaluate(hdt.Distilled.load(run), tmp_path / "moved.csv", seeds=1)
    assert moved["mse"].tolist() == table["mse"].tolist()


def test_a_relative_source_is_asked_for_from_another_folder(
    run: Callable[..., Result], csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hdt.distill("plant.csv", **SMALL).save("run")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    message = "plant.csv: not found from this folder, and this run was made from it; give it with --data"
    for command in ("evaluate", "finetune"):
        refused(run(command, "../run", *["--model", "dlinear"] * (command == "finetune")), message)
    assert f"note: drawn without the real series ({message})" in run("report", "../run").err
    assert run("report", "../run", "--data", "../plant.csv").err == ""


def test_other_data_and_bad_arguments_are_refused(frame: pd.DataFrame, tmp_path: pd.DataFrame) -> None:
    distilled = hdt.distill(frame, **SMALL)
    with pytest.raises(hdt.InputError, match="its training part differs"):
        hdt.evaluate(distilled, make_frame(seed=1))
    with pytest.raises(hdt.InputError, match="unknown student 'x'; known: dlinear"):
        hdt.evaluate(distilled, students=["x"])
    with pytest.raises(hdt.InputError, match="no student given"):
        hdt.evaluate(distilled, students=[])
    with pytest.raises(hdt.InputError, match="seeds=0"):
        hdt.evaluate(distilled, seeds=0)
    run = distilled.save(tmp_path / "run")
    with pytest.raises(hdt.InputError, match="distilled from a frame in memory; give the data with --data"):
        hdt.evaluate(hdt.Distilled.load(run))


def test_parts_too_short_to_evaluate_are_refused(frame: pd.DataFrame) -> None:
    whole = hdt.distill(frame, split=(1.0, 0.0, 0.0), **SMALL)
    assert whole.info.data.borders == (400, 400, 400)
    with pytest.raises(hdt.InputError, match=r"val part has 12 rows \(context included\).*choose another --split"):
        hdt.evaluate(whole)


def test_a_cache_that_cannot_be_written_or_is_damaged_only_costs_time(
    frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    distilled = hdt.distill(frame, **SMALL)
    first = hdt.evaluate(distilled, seeds=1)
    for file in (protocol.cache_folder() / "evaluations").iterdir():
        file.write_text("{broken")
    assert hdt.evaluate(distilled, seeds=1)["mse"].tolist() == first["mse"].tolist()
    monkeypatch.setenv("HDT_CACHE_DIR", "/dev/null")
    assert hdt.evaluate(distilled, seeds=1)["mse"].tolist() == first["mse"].tolist()
