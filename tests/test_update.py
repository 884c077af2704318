"""Rows that follow are added to what a run knows, and nothing of the old ones is read."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_frame, refused
from safetensors.torch import load_file, save_file

import hdt
from hdt.maths.moments import half, whole
from hdt.objective import OBJECTIVES, Problem
from hdt.objective.wiener import Wiener
from hdt.run.records import STATE, RunInfo

TINY = {"length": 48, "context": 12, "horizon": 6, "iterations": 3, "features": 8, "draws": 2, "split": [1.0, 0.0, 0.0]}
WORDS = [
    "--length=48", "--context=12", "--horizon=6", "--iterations=3", "--option=features=8", "--option=draws=2",
    "--split=1,0,0",
]  # fmt: skip
FIRST = 300


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Files with rows 0 to 299, 300 to 379 and 380 to 399 of one table."""
    frame, paths = make_frame().rename_axis("date"), []
    for name, some in {"a": slice(FIRST), "b": slice(FIRST, 380), "c": slice(380, None)}.items():
        paths.append(tmp_path / f"{name}.csv")
        frame.iloc[some].to_csv(paths[-1])
    return paths


def by_hand(x: np.ndarray, objective: Wiener) -> list[Any]:
    """Σ φφᵀ, Σ φyᵀ, Σ ‖y‖² and the number of windows of (x, 1), window by window, channel by channel."""
    context, size = objective.problem.context, objective.problem.context + objective.problem.horizon
    found = [0.0, 0.0, 0.0, 0]
    for column in x.T:
        for start in range(len(column) - size + 1):
            phi = np.append(column[start : start + context], 1.0)
            y = column[start + context : start + size]
            found = [found[0] + np.outer(phi, phi), found[1] + np.outer(phi, y), found[2] + y @ y, found[3] + 1]
    return found


def objective(**options: Any) -> Wiener:
    own = Wiener.Options(**{"features": 8, "draws": 3, "level": 0, **options})
    return Wiener(own, Problem(context=6, horizon=4, length=20))


def test_a_symmetric_matrix_comes_back_from_its_half() -> None:
    matrix = torch.arange(9.0).reshape(3, 3)
    matrix = matrix + matrix.T
    assert half(matrix).tolist() == [0, 4, 8, 8, 12, 16]
    assert torch.equal(whole(half(matrix)), matrix)


@pytest.mark.parametrize("cuts", [(60, 61, 90), (45, 47, 52, 90)])
def test_linear_moments_after_updates_are_those_of_every_window(cuts: tuple[int, ...]) -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(90, 2))).float()
    wiener = objective()
    known = wiener.prepare(x[: cuts[0]])
    for begin, end in pairwise(cuts):
        assert known.sums is not None
        known = wiener.extend(known.sums, x[begin - 9 : end])
    product, cross, target, count = by_hand(x.double().numpy(), wiener)
    real = next(view.real for view in known.linear if view.name == "raw")
    np.testing.assert_allclose(real.features, product / count, atol=1e-10)
    np.testing.assert_allclose(real.cross, cross / count, atol=1e-10)
    np.testing.assert_allclose(float(real.target), target / count, atol=1e-10)
    assert known.sums is not None and known.sums.windows == 81


@pytest.mark.parametrize("most", [20_000, 40])
def test_random_features_after_updates_are_those_of_all_rows_at_the_same_stride(most: int) -> None:
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(90, 2))).float()
    wiener = objective(most_windows=most)
    known = wiener.prepare(x[:50])
    assert known.sums is not None
    stride = known.sums.stride
    assert stride == (1 if most == 20_000 else 3)
    for begin, end in [(50, 52), (52, 53), (53, 90)]:
        known = wiener.extend(known.sums, x[begin - 9 : end])
        assert known.sums is not None
    for n, view in enumerate(known.random):
        starts = range(n * stride // 3, 81, stride)
        flat = torch.stack([x[start : start + 10, c] for start in starts for c in range(2)]).double()
        phi, y = view.features(flat)
        torch.testing.assert_close(view.real.features, phi.T @ phi / len(flat), rtol=0, atol=1e-10)
        torch.testing.assert_close(view.real.cross, phi.T @ y / len(flat), rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", ["wiener", "fred-wiener", "nsd-wiener"])
def test_old_rows_are_not_read_and_a_run_goes_on_through_files(
    run, method: str, parts: list[Path], tmp_path: Path
) -> None:
    assert run("distill", parts[0], "--method", method, *WORDS, "--state", "--out", "run").code == 0
    frame, sha256 = pd.read_csv(parts[0]), hdt.load(parts[0], split=[1.0, 0.0, 0.0]).train_sha256
    frame.iloc[:, 1:] = np.nan
    frame.to_csv(parts[0])  # nothing of it may be read again
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    first = run("update", "run", parts[1], "--iterations", "2", "--json")
    assert first.code == 0, first
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before
    assert json.loads(first.out)["rows"] == 380
    second = run("update", "run-u1", parts[2], "--iterations", "0", "--no-state")
    assert second.code == 0, second
    assert not Path("run-u2", STATE).exists()
    info = RunInfo.model_validate_json(Path("run-u2/run.json").read_text())
    assert [part.rows for part in info.data.parts] == [FIRST, 80, 20]
    assert info.data.borders == (400, 400, 400) and info.data.rows == 400
    later = [hdt.load(path, split=[1.0, 0.0, 0.0]).train_sha256 for path in parts[1:]]
    assert [part.sha256 for part in info.data.parts] == [sha256, *later]
    again = hdt.Distilled.load("run-u2")
    np.testing.assert_array_equal(again.values, hdt.Distilled.load("run-u1").values)  # where it stood
    refused(run("update", "run-u2", parts[2]), "no state; distil it again with --state")


def test_an_update_looks_at_all_rows_as_one_distillation_does(tmp_path: Path) -> None:
    frame = make_frame()
    first = hdt.distill(frame.iloc[:FIRST], method="wiener", **TINY)
    updated = hdt.update(first, frame.iloc[FIRST:], iterations=1)
    panel = replace(hdt.load(frame, split=[1.0, 0.0, 0.0]), fixed=first.scaler)
    assert updated.panel is None and updated.kept is not None
    together = hdt.distill(panel, method="wiener", **{name: TINY[name] for name in TINY if name != "split"})
    assert together.kept is not None
    for one, other in zip(updated.kept.sums.tensors, together.kept.sums.tensors, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(updated.kept.tail, together.kept.tail, rtol=0, atol=0)
    assert updated.info.scaler_mean == first.info.scaler_mean
    assert updated.info.compression == pytest.approx(800 / updated.info.floats)
    # Sub-series lie six rows apart, 43 of the first part and 17 more whose first is six after the last of these.
    assert updated.kept.sub_series == 43 + 17
    starts = [*range(0, 253, 6), *range(258, 353, 6), 352]
    x = panel.part("train").astype(np.float32)
    power = np.mean([np.abs(np.fft.rfft(x[s : s + 48], axis=0)) ** 2 / 48 for s in starts], axis=0)
    np.testing.assert_allclose(updated.kept.power, power, rtol=1e-4)
    few = hdt.update(first, frame.iloc[FIRST : FIRST + 4], iterations=0)  # fewer rows than sub-series lie apart
    assert first.kept is not None and few.kept is not None and few.kept.sub_series == 44
    last = np.abs(np.fft.rfft(x[256:304], axis=0)) ** 2 / 48
    np.testing.assert_allclose(few.kept.power, (43 * first.kept.power.numpy() + last) / 44, rtol=1e-4)


def test_an_updated_run_is_evaluated_on_one_table_with_all_its_rows(run, parts: list[Path], tmp_path: Path) -> None:
    frame = make_frame(520).rename_axis("date")
    frame.to_csv("all.csv")
    run("distill", parts[0], "--method", "wiener", *WORDS, "--state", "--out", "run")
    frame.iloc[FIRST:400].to_csv("new.csv")
    assert run("update", "run", "new.csv", "--iterations", "1").code == 0
    refused(run("evaluate", "run-u1"), "has seen 400 rows in 2 parts; give one table")
    done = run("evaluate", "run-u1", "--data", "all.csv", "--seeds", "1", "--json")
    assert done.code == 0, done
    other = frame.copy()
    other.iloc[FIRST + 3, 0] += 1
    other.to_csv("other.csv")
    refused(run("evaluate", "run-u1", "--data", "other.csv"), "training part differs")
    refused(run("evaluate", "run-u1", "--data", "new.csv"), "fewer than the 400")
    panel = replace(hdt.load(frame, split=[400, 460, 520]), fixed=hdt.Distilled.load("run").scaler)
    assert panel.part("val").mean() == pytest.approx(
        ((frame.iloc[400:460] - frame.iloc[:FIRST].mean()) / frame.iloc[:FIRST].std(ddof=0)).to_numpy().mean()
    )
    assert panel.sha256 != replace(panel, fixed=None).sha256


def moved(frame: pd.DataFrame, hours: int) -> pd.DataFrame:
    return frame.set_axis(frame.index + pd.Timedelta(hours=hours))


WRONG = {
    "overlap": (
        lambda new: moved(new, -5),
        r"until 2024-01-13 11:00:00: 5 rows overlap; give those from 2024-01-13 12",
    ),
    "gap": (lambda new: moved(new, 2), r"begins at 2024-01-13 14:00:00.*rows are missing between"),
    "half a step": (lambda new: moved(new, 0).set_axis(new.index + pd.Timedelta("30min")), "rows are missing between"),
    "step": (lambda new: new.set_axis(pd.date_range(new.index[0], periods=100, freq="2h")), "row 1 is .* by the run's"),
    "zone": (lambda new: new.tz_localize("UTC"), "another kind of stamp"),
    "numbers": (lambda new: new.set_axis(pd.Index(range(100), name="time")), "another kind of stamp"),
    "fewer": (lambda new: new[["load"]], "lacks 'wind'; give the 2 columns"),
    "others": (lambda new: new.rename(columns={"wind": "sun"}), "lacks 'wind' and has 'sun', which is new"),
    "short": (lambda new: new.iloc[:2], "2 rows are too few"),
    "empty": (lambda new: new.assign(wind=np.nan), "misses 100.0%"),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    first = hdt.distill(make_frame().iloc[:FIRST], method="wiener", **TINY)
    return first.save(tmp_path_factory.mktemp("kept") / "run", state=True)


@pytest.mark.parametrize("wrong", WRONG)
def test_rows_that_do_not_follow_are_refused(run, wrong: str, kept: Path, tmp_path: Path) -> None:
    change, message = WRONG[wrong]
    change(make_frame().iloc[FIRST:]).rename_axis("time" if wrong == "numbers" else "date").to_csv("new.csv")
    refused(run("update", kept, "new.csv", "--out", "next"), message)
    assert not Path("next").exists()


def test_columns_in_another_order_are_those_of_the_run(kept: Path) -> None:
    new = make_frame().iloc[FIRST:]
    one, other = (hdt.update(kept, table, iterations=1) for table in (new, new[["wind", "load"]]))
    np.testing.assert_array_equal(one.values, other.values)
    assert one.info.data.train_sha256 == other.info.data.train_sha256


def test_an_update_finds_the_noise_of_its_new_rows(kept: Path, parts: list[Path]) -> None:
    old, new = hdt.Distilled.load(kept).info, hdt.update(kept, parts[1]).info
    assert new.noise != old.noise and new.noise_floats == old.noise_floats > 0


def test_columns_that_left_the_scale_are_told(kept: Path) -> None:
    new = make_frame().iloc[FIRST:]
    new["wind"] += 9
    notices = hdt.update(kept, new, iterations=0).info.data.notices
    assert [notice for notice in notices if "1 of 2 columns left the scale of the first rows (first 'wind')" in notice]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["update", "nowhere", "new.csv"], "no such run folder"),
        (["update", "RUN", "nowhere.csv"], "nowhere.csv"),
        (["update", "RUN", "new.csv", "--iterations", "-1"], "iterations=-1"),
        (["update", "RUN", "new.csv", "--learning-rate", "0"], "learning_rate=0"),
        (["update", "RUN", "new.csv", "--device", "tpu"], "device='tpu'"),
        (["update", "RUN", "new.csv", "--out", "new.csv"], "exists"),
    ],
)
def test_bad_words_are_refused(run, words: list[str], message: str, kept: Path) -> None:
    make_frame().iloc[FIRST:].to_csv("new.csv")
    refused(run(*[kept if word == "RUN" else word for word in words]), message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--method", "hdt", "--k", "6"],
            "objective 'harmonic' needs all of the data at once.*distil old and new rows together",
        ),
        (["--method", "wiener", "--option", "feature_steps=2"], "feature_steps=2 learns features from all of the data"),
    ],
)
def test_methods_that_cannot_go_on_say_why_before_the_work(
    run, words: list[str], message: str, parts: list[Path]
) -> None:
    length = ["--length", "48", "--context", "12", "--horizon", "6"]
    refused(run("distill", parts[0], *words, *length, "--state", "--out", "run"), message)
    assert run("distill", parts[0], *words, *length, "--iterations", "1", "--out", "run").code == 0
    refused(run("update", "run", parts[1]), message)


def test_series_of_unequal_length_cannot_go_on(run, tmp_path: Path) -> None:
    frame = make_frame(120).melt(ignore_index=False, var_name="unique_id", value_name="y").rename_axis("ds")
    frame.reset_index().iloc[7:].to_csv("long.csv", index=False)
    words = ["--method", "wiener", *WORDS[:-1], "--out", "run"]
    refused(run("distill", "long.csv", *words, "--state"), "series differ in length")
    assert run("distill", "long.csv", *words).code == 0
    refused(run("update", "run", "long.csv"), "series differ in length")


SPOILED = {
    "damaged": (lambda file: file.write_bytes(b"x" * 9), "the state cannot be read"),
    "another run's": (lambda file: spoil(file, facts={"train_sha256": "0"}), "that of another run"),
    "no stride": (lambda file: spoil(file, facts={"stride": 0}), "stride"),
    "a tensor less": (lambda file: spoil(file, drop="sum3"), "tensors are missing"),
    "no tail": (lambda file: spoil(file, drop="tail"), "tensors are missing"),
    "not finite": (lambda file: spoil(file, change={"sum0": np.nan}), "does not fit"),
}


def spoil(file: Path, facts: Any = None, drop: str | None = None, change: Any = None) -> None:
    from hdt.system.checkpoint import load

    stored = load(file)
    assert stored is not None
    tensors = {name: tensor for name, tensor in load_file(file).items() if name != drop}
    for name, value in (change or {}).items():
        tensors[name] = tensors[name] * value
    save_file(tensors, file, metadata={"facts": json.dumps({**stored.facts, **(facts or {})})})


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_state_is_refused(run, how: str, kept: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(kept, tmp_path / "run")
    make_frame().iloc[FIRST:].to_csv("new.csv")
    change, message = SPOILED[how]
    change(folder / STATE)
    refused(run("update", folder, "new.csv"), message)


def test_features_drawn_by_another_version_are_refused(run, kept: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(kept, tmp_path / "run")
    make_frame().iloc[FIRST:].to_csv("new.csv")
    spoil(folder / STATE, facts={"features": "0"})
    refused(run("update", folder, "new.csv"), "torch or numpy of other versions")


def test_only_additive_objectives_say_that_they_are() -> None:
    additive = [name for name, kind in OBJECTIVES.items() if kind.fixed(kind.Options().model_dump()) is None]
    assert additive == ["wiener"]
