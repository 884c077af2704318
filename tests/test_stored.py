"""Tables too large for memory: read column by column from parquet files, distilled block by block."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import Result, make_frame, refused

import hdt
from hdt.data import stored
from hdt.data.stored import Stored
from hdt.evaluation import cells
from hdt.evaluation.protocol import Evaluator
from hdt.maths import blocks, moments
from hdt.maths.spectrum import mean_spectrum
from hdt.run.reading import train_blocks
from hdt.system import machine

Run = Callable[..., Result]
WINDOW: dict[str, Any] = {"length": 48, "context": 12, "horizon": 6, "channels": 2}
SMALL_WIENER = {"features": 8, "draws": 2}
QUICK: dict[str, Any] = {**WINDOW, "iterations": 3, "method": "wiener", **SMALL_WIENER}
CHANNELS = 9


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every parquet table is too large for memory; four channels are read at a time."""
    monkeypatch.setattr(stored, "IN_MEMORY", 0)
    monkeypatch.setattr(machine, "CHANNELS", 4)
    monkeypatch.setattr(machine, "SAMPLE", 4)


def table(dtype: type = np.float32, rows: int = 400) -> pd.DataFrame:
    return make_frame(rows, tuple(f"s{c}" for c in range(CHANNELS))).astype(dtype).rename_axis("date")


def files(folder: Path, frame: pd.DataFrame, parts: int = 3, **how: Any) -> Path:
    folder.mkdir(exist_ok=True)
    edges = [len(frame) * n // parts for n in range(parts + 1)]
    for n, (first, stop) in enumerate(pairwise(edges)):
        frame.iloc[first:stop].to_parquet(folder / f"{n}.parquet", row_group_size=50, **how)
    return folder


def in_memory(frame: pd.DataFrame) -> hdt.Panel:
    return hdt.load(frame)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("index", [True, False])
def test_the_panel_is_that_of_the_frame(tmp_path: Path, dtype: type, index: bool) -> None:
    frame = table(dtype)
    frame.iloc[7, 3] = np.nan
    frame.iloc[9, 2] = np.inf
    folder = files(tmp_path / "data", frame if index else frame.reset_index())
    panel, other = hdt.load(folder), in_memory(frame)
    assert isinstance(panel.values, Stored) and panel.values.dtype == dtype and panel.values.shape == (400, CHANNELS)
    assert panel.columns == other.columns and panel.borders == other.borders and panel.step == other.step
    assert panel.index.equals(other.index) and panel.train_sha256 == other.train_sha256
    np.testing.assert_array_equal(panel.scaler.mean, other.scaler.mean)
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(
            panel.part(part, 12 * (part != "train")), other.part(part, 12 * (part != "train"))
        )
    np.testing.assert_array_equal(panel.block("val", [5, 1], 12), other.part("val", 12)[:, [5, 1]])
    assert [n for n in panel.notices if "interpolated" in n] == [n for n in other.notices if "interpolated" in n]
    assert "values stay in 3 files" in panel.notices[0]


def test_one_file_and_whole_numbers_are_read_alike(tmp_path: Path) -> None:
    frame = (1000 * table(np.float64)).round().astype(np.int64)
    frame.to_parquet(tmp_path / "one.parquet")
    panel = hdt.load(tmp_path / "one.parquet")
    assert panel.stored and panel.values.dtype == np.float64
    np.testing.assert_array_equal(panel.original("test"), in_memory(frame).original("test"))


@pytest.mark.parametrize("method", ["wiener", "fred-wiener", "nsd-wiener", "random", "hdt"])
def test_a_distillation_is_that_of_the_frame(tmp_path: Path, method: str) -> None:
    frame = table()
    own = {"hdt": {"channels": None, "k": 6, "iterations": 3}, "random": {}}
    given = {**WINDOW, "method": method, **own.get(method, {"iterations": 3, **SMALL_WIENER})}
    alike = hdt.distill(files(tmp_path / "data", frame), **given), hdt.distill(frame, **given)
    np.testing.assert_array_equal(alike[0].values, alike[1].values)
    first, second = (made.info for made in alike)
    assert first.psd_gap == second.psd_gap and first.distance == second.distance
    assert first.scaler_mean == second.scaler_mean and first.data.train_sha256 == second.data.train_sha256


def test_statistics_of_blocks_are_those_of_the_whole(tmp_path: Path) -> None:
    panel = hdt.load(files(tmp_path / "data", table()))
    series, whole = train_blocks(panel), torch.tensor(panel.part("train"), dtype=torch.float32)
    assert [len(own) for own, _ in blocks.blocks(series)] == [4, 4, 1]
    torch.testing.assert_close(blocks.dense(series), whole)
    torch.testing.assert_close(moments.gram(series, 18), moments.gram(whole, 18), rtol=1e-10, atol=0)
    assert mean_spectrum(series, 48).power.shape == (25, CHANNELS)
    torch.testing.assert_close(mean_spectrum(series, 48).power, mean_spectrum(whole, 48).power)


def test_only_the_columns_asked_for_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    read = Stored._table
    monkeypatch.setattr(Stored, "_table", lambda self, n, names: asked.append(list(names)) or read(self, n, names))
    panel = hdt.load(files(tmp_path / "data", table()))
    assert max(map(len, asked)) == 2  # stamps and one column
    hdt.distill(panel, **QUICK)
    assert max(map(len, asked)) == 4  # of nine


def test_a_dry_run_reads_a_sample(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    read = Stored.read
    monkeypatch.setattr(Stored, "read", lambda self, rows, own: asked.extend(own) or read(self, rows, own))
    monkeypatch.setattr("hdt.distillation.loop.evenly", lambda channels: channels[::4])
    result = small_run(run, files(tmp_path / "data", table()), "--dry-run", "--json")
    assert json.loads(result.out)["floats"] == 96 and set(asked) <= {0, 4, 8}
    assert list(tmp_path.glob("cache/*")) == []


def test_validation_and_test_are_not_read(tmp_path: Path) -> None:
    frame = table()
    poisoned = frame.copy()
    poisoned.iloc[hdt.load(frame).borders[0] :] = np.nan
    whole, cut = (hdt.distill(files(tmp_path / str(n), f), **QUICK) for n, f in enumerate((frame, poisoned)))
    np.testing.assert_array_equal(whole.values, cut.values)


def test_an_interrupted_pass_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that was added up before is read again, and the sums are the same bits."""
    folder, read, count = files(tmp_path / "data", table()), Stored.read, 0
    expected = hdt.distill(table(), **QUICK)
    monkeypatch.setattr("hdt.data.survey.KEEP_SECONDS", 0.0)
    monkeypatch.setattr(blocks, "KEEP_SECONDS", 0.0)

    def limited(self: Stored, rows: slice, channels: Any) -> np.ndarray:
        nonlocal count
        count += 1
        if count == stop:
            raise KeyboardInterrupt
        return read(self, rows, channels)

    monkeypatch.setattr(Stored, "read", limited)
    reads = []
    for last in (3, 6, 10**9):  # in the survey; among the moments; never
        stop, count = last, 0
        with suppress(KeyboardInterrupt):
            found = hdt.distill(folder, **QUICK)
        reads.append(count)
    np.testing.assert_array_equal(found.values, expected.values)
    stop, count = 10**9, 0
    again = hdt.distill(folder, **{**QUICK, "seed": 1})  # moments are known by now
    assert count < reads[2] and not np.array_equal(again.values, found.values)
    passed = count
    count = 0
    hdt.distill(folder, **{**QUICK, "method": "fred-wiener"})  # whose moments are the same
    assert count <= passed


def test_evaluation_takes_a_sample_of_the_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdt.system.machine.SAMPLE", 3)
    panel = hdt.load(files(tmp_path / "data", table()))
    found, alone = (Evaluator(p, 12, 6, device="cpu") for p in (panel, in_memory(table().iloc[:, ::3])))
    for part in ("train", "val", "test"):
        torch.testing.assert_close(getattr(found, part), getattr(alone, part), rtol=0, atol=0)
    assert found.score_naive("last value") == alone.score_naive("last value")
    assert "3 of 9 channels stand for all" in found.panel.notices[0]
    updated = replace(panel, fixed=panel.scaler).sampled()  # of a run that goes on in its own scale
    np.testing.assert_array_equal(updated.scaler.mean, panel.scaler.mean[::3])
    np.testing.assert_array_equal(updated.part("train"), found.panel.part("train"))


def test_what_needs_all_at_once_is_refused_beyond_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    folder = files(tmp_path / "data", table())
    monkeypatch.setattr("hdt.data.series.memory_mb", lambda: 0.01)
    with pytest.raises(hdt.InputError, match=r"needs all of its values at once.*block by block"):
        hdt.load(folder).part("train")


def small_run(run: Run, folder: Path, *more: object) -> Result:
    flags = [word for name, value in QUICK.items() if name not in SMALL_WIENER for word in (f"--{name}", value)]
    flags += [word for name, value in SMALL_WIENER.items() for word in ("--option", f"{name}={value}")]
    return run("distill", folder, *flags, "--out", "made", *more)


def test_the_command_line_distils_a_folder(tmp_path: Path, run: Run) -> None:
    result = small_run(run, files(tmp_path / "data", table()), "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["floats"] == 96
    assert (tmp_path / "made" / "report.html").exists()


@pytest.mark.parametrize("harm", ["truncate", "vanish", "change"])
def test_a_file_that_goes_bad_in_the_middle_is_named(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    folder, read, count = files(tmp_path / "data", table()), Stored.read, 0
    victim = folder / "1.parquet"

    def spoiled(self: Stored, rows: slice, channels: Any) -> np.ndarray:
        nonlocal count
        count += 1
        if count == 2:
            if harm == "truncate":
                victim.write_bytes(victim.read_bytes()[:1000])
            elif harm == "vanish":
                victim.unlink()
            else:
                victim.touch()
        return read(self, rows, channels)

    monkeypatch.setattr(Stored, "read", spoiled)
    refused(small_run(run, folder), r"1\.parquet: (changed|vanished) while it was read")
    assert not (tmp_path / "made").exists()


def test_bad_files_are_named(tmp_path: Path, run: Run) -> None:
    folder = files(tmp_path / "data", table())
    table().rename(columns={"s1": "other"}).iloc[:9].to_parquet(folder / "3.parquet")
    refused(small_run(run, folder), r"3\.parquet: columns differ from those of 0\.parquet")
    (folder / "3.parquet").write_bytes(b"PAR1 no table")
    refused(small_run(run, folder), r"3\.parquet: not a readable parquet table")
    (folder / "3.parquet").write_bytes(b"")
    refused(small_run(run, folder), r"3\.parquet: the file is empty")
    (folder / "3.parquet").unlink()
    assert not hdt.load(folder, freq="h").stored  # needs all of it


def test_repeated_names_text_and_no_values_are_refused(tmp_path: Path, run: Run) -> None:
    stamps = pa.array(pd.date_range("2024-01-01", periods=100, freq="h"))
    ones, text = pa.array(np.ones(100)), pa.array(["a"] * 100)
    path = tmp_path / "t.parquet"
    for names, arrays, message in (
        (["date", "a", "a"], [stamps, ones, ones], "column 'a' appears twice"),
        (["date", "a", "b"], [stamps, ones, text], "column 'b' is not numeric"),
        (["date"], [stamps], "no value columns"),
        (["date", "a"], [pa.array(range(0, 300, 3))[::-1], ones], "comes before row 0"),
    ):
        pq.write_table(pa.Table.from_arrays(arrays, names=names), path)
        result = small_run(run, path)
        refused(result, message)


def test_what_is_kept_of_a_table_is_that_of_its_columns_place_and_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    wide = pd.DataFrame({"step": range(400), "hour": range(5, 405), "x": rng.normal(size=400)})
    wide.to_parquet(tmp_path / "t.parquet")
    means = [dict(zip(p.columns, p.scaler.mean, strict=True)) for time in ("step", "hour")
             for p in [hdt.load(tmp_path / "t.parquet", time_column=time)]]  # fmt: skip
    assert means[0]["hour"] == pytest.approx(144.5) and means[1]["step"] == pytest.approx(139.5)
    for name, level in (("a", 0), ("b", 9)):
        files(tmp_path / name, table() + level)
        for path in (tmp_path / name).iterdir():
            os.utime(path, (0, 0))
    first, second = hdt.load(tmp_path / "a"), hdt.load(tmp_path / "b")
    assert second.scaler.mean[0] - first.scaler.mean[0] == pytest.approx(9, abs=1e-4)
    monkeypatch.setattr(machine, "CHANNELS", 64)
    assert hdt.load(tmp_path / "a").train_sha256 == first.train_sha256 == in_memory(table()).train_sha256
    kept = max((tmp_path / "cache").glob("survey-*"), key=lambda path: path.stat().st_mtime_ns)
    for text in ("[{}]", "[1]", '"x"', "{"):
        kept.write_text(text)
        assert hdt.load(tmp_path / "a").scaler.mean.shape == (CHANNELS,)


def test_files_of_other_types_and_columns_that_are_no_values(tmp_path: Path) -> None:
    """Whole numbers here, floats there, nothing at all in between; a counter that a CSV left; a column named time."""
    frame = table(np.float64).round(2)
    frame["s0"], frame["time"], frame["Unnamed: 0"] = np.arange(400.0), np.sin(np.arange(400)), range(400)
    folder = tmp_path / "data"
    folder.mkdir()
    parts = [frame.iloc[:150].astype({"s0": int}), frame.iloc[150:160].copy(), frame.iloc[160:]]
    parts[1]["s3"] = None
    for n, part in enumerate(parts):
        part.reset_index().to_parquet(folder / f"{n}.parquet")
    panel = hdt.load(folder, time_column="date")
    assert panel.stored and panel.columns == (*(f"s{c}" for c in range(CHANNELS)), "time")
    expected = frame.drop(columns="Unnamed: 0")
    expected.iloc[150:160, 3] = np.nan
    np.testing.assert_array_equal(panel.values.read(slice(None), range(10)), expected.to_numpy())
    assert any("only counts the rows" in notice for notice in panel.notices)


def test_other_processes_distil_the_whole_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = hdt.load(files(tmp_path / "data", table()))
    work, given = cells.Work(panel, Evaluator(panel, 12, 6, device="cpu"), None), []

    def pool(workers: int, context: Any, initializer: Any, initargs: tuple[Any, ...]) -> None:
        given.extend(initargs)
        raise InterruptedError

    monkeypatch.setattr(cells, "ProcessPoolExecutor", pool)
    with pytest.raises(InterruptedError):
        cells.by_workers(work, [], 2, None)
    assert given[0].channels == CHANNELS > given[1].panel.channels


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HDT_CACHE_DIR", str(tmp_path / "file" / "cache"))
    expected = hdt.distill(table(), **QUICK)
    np.testing.assert_array_equal(hdt.distill(files(tmp_path / "data", table()), **QUICK).values, expected.values)


def test_a_long_table_is_read_as_before(tmp_path: Path) -> None:
    frame = table().reset_index().melt("date", var_name="unique_id", value_name="y")
    frame.to_parquet(tmp_path / "long.parquet")
    panel = hdt.load(tmp_path / "long.parquet")
    assert not panel.stored and panel.channels == CHANNELS and panel.values.dtype == np.float32


PEAK = """
import numpy as np, pandas as pd, torch, hdt
from hdt.maths import blocks
from hdt.system import machine
from hdt.system.machine import peak_memory

torch.set_num_threads(1)
machine.CHANNELS = machine.SAMPLE = 4
def frame(rows, channels):
    values = np.random.default_rng(0).standard_normal((rows, channels), dtype=np.float32)
    return pd.DataFrame(values, pd.date_range("2024-01-01", periods=rows, freq="h"), [f"s{c}" for c in range(channels)])
def run(data):
    hdt.distill(data, method="wiener", channels=2, length=48, context=12, horizon=6, iterations=1, features=8, draws=1)
run(frame(500, 9))
large = frame(40_000, 400)
with peak_memory(torch.device("cpu")) as peak:
    before = peak()
    run(large)
print((peak() - before) * 2**20 / large.to_numpy().nbytes)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from /proc")
def test_a_distillation_takes_less_than_twice_its_input() -> None:
    """Beside the caller's frame of 64 MB there is one copy of it, and blocks."""
    told = subprocess.run([sys.executable, "-c", PEAK], check=True, capture_output=True, text=True)
    assert 0.5 < float(told.stdout) < 1.8


def test_ray_reads_the_blocks_and_a_killed_process_changes_nothing(tmp_path: Path, run: Run) -> None:
    """The first process that reads a block kills itself, once."""
    folder, victim = files(tmp_path / "data", table()), tmp_path / "killed"
    expected = hdt.distill(table(), **QUICK)
    read = Stored.read

    def deadly(self: Stored, rows: slice, channels: Any) -> np.ndarray:
        if os.getpid() != driver and not victim.exists():
            victim.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, rows, channels)

    driver, panel = os.getpid(), hdt.load(folder)
    panel.values.__class__ = type("Deadly", (Stored,), {"read": deadly})
    found = hdt.distill(panel, engine="ray", workers=2, **QUICK)
    assert victim.exists()
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.info.data.train_sha256 == expected.info.data.train_sha256


def test_engines_are_for_tables_that_stay_in_their_files(frame: pd.DataFrame, tmp_path: Path, run: Run) -> None:
    frame.to_csv(tmp_path / "small.csv")
    refused(small_run(run, tmp_path / "small.csv", "--engine", "ray"), "fits into memory; --engine ray is for parquet")
    folder = files(tmp_path / "data", table())
    refused(small_run(run, folder, "--workers", 2), "shares its work with --engine ray")
    refused(small_run(run, folder, "--engine", "spark"), "unknown engine 'spark'")
    refused(small_run(run, folder, "--engine", "ray", "--address", "127.0.0.1:9"), "no Ray answers at 127.0.0.1:9")


def test_float32_stays_float32() -> None:
    """A panel of a float32 table holds half of what one of float64 does, and scales in float64 all the same."""
    panel, wide = in_memory(table()), in_memory(table().astype(np.float64))
    assert panel.values.dtype == np.float32 and panel.values.nbytes * 2 == wide.values.nbytes
    np.testing.assert_array_equal(panel.part("val", 12), wide.part("val", 12))
    assert panel.part("train", dtype=np.float32).dtype == np.float32
