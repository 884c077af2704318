from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL, make_frame
from safetensors.numpy import load_file, save_file

import hdt
import hdt.run.produce
import hdt.run.report
from hdt.maths import spectrum
from hdt.run import glyphs, report
from hdt.run.records import FILES, record_evaluation


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hdt.distill(make_frame(), **SMALL).save(tmp_path_factory.mktemp("saved") / "run")


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Path:
    """A run folder to spoil."""
    return shutil.copytree(saved, tmp_path / "run")


def test_a_frame_in_gives_a_frame_out(frame: pd.DataFrame) -> None:
    distilled = hdt.distill(frame, **SMALL)
    back = distilled.to_frame()
    assert list(back.columns) == list(frame.columns)
    assert back.index.equals(frame.index[:48])
    np.testing.assert_allclose(distilled.panel.scaler.transform(back.to_numpy()), distilled.values[0], atol=1e-6)
    # In original units: the mean level of both channels is near five.
    assert np.abs(back.mean() - 5).max() < 1


def test_what_is_known_of_the_training_part_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = make_frame(columns=tuple("abcdefgh"))
    wide.iloc[5, 0] = np.nan
    calls: dict[str, list[Any]] = {"interpolate": [], "mean_spectrum": []}

    def counted(home: Any, name: str) -> None:
        own = getattr(home, name)
        monkeypatch.setattr(home, name, lambda x, *a, **k: calls[name].append(x.shape[1]) or own(x, *a, **k))

    counted(pd.DataFrame, "interpolate")
    counted(spectrum, "mean_spectrum")
    hdt.distill(wide, **SMALL).save(tmp_path / "run")
    # What is matched is what the start takes its amplitudes from; pictures need no more channels than they draw.
    assert calls == {"interpolate": [8], "mean_spectrum": [8, 6]}


def test_a_long_frame_in_gives_a_long_frame_out(frame: pd.DataFrame) -> None:
    long = frame.rename_axis("ds").reset_index().melt("ds", var_name="unique_id", value_name="y")
    back = hdt.distill(long, **SMALL).to_frame()
    assert list(back.columns) == ["unique_id", "ds", "y"]
    assert len(back) == 48 * 2
    wide = hdt.distill(frame, **SMALL).to_frame()
    np.testing.assert_allclose(back.pivot(index="ds", columns="unique_id", values="y"), wide)


def test_a_single_channel_gives_two_sequences_named_plainly(frame: pd.DataFrame, tmp_path: Path) -> None:
    distilled = hdt.distill(frame[["load"]], **SMALL)
    assert distilled.values.shape == (2, 48, 1)
    assert distilled.info.floats == 96
    back = distilled.to_frame()
    assert list(back.columns) == ["load/1", "load/2"]
    np.testing.assert_allclose(
        distilled.panel.scaler.transform(back[["load/2"]].to_numpy()), distilled.values[1], atol=1e-6
    )
    assert hdt.Distilled.load(distilled.save(tmp_path / "two")).values.shape == (2, 48, 1)
    assert "sequences" not in (tmp_path / "two" / "recipe.yaml").read_text().splitlines()[0]
    assert hdt.distill(frame[["load"]], sequences=1, **SMALL).to_frame().columns.tolist() == ["load"]


POOLED = {
    **{name: value for name, value in SMALL.items() if name != "k"},
    "method": "wiener",
    "features": 8,
    "draws": 2,
}


@pytest.mark.parametrize("layout", ["wide", "long"])
def test_fewer_channels_are_named_plainly_and_stay_in_scaled_units(layout: str, tmp_path: Path) -> None:
    frame = make_frame(columns=("load", "wind", "sun"))
    given = (
        frame
        if layout == "wide"
        else frame.rename_axis("ds").reset_index().melt("ds", var_name="unique_id", value_name="y")
    )
    distilled = hdt.distill(given, channels=2, **POOLED)
    assert distilled.values.shape == (1, 48, 2) and distilled.info.floats == 96
    assert len(distilled.info.psd_gaps) == 2 and distilled.info.acf_gap <= distilled.info.psd_gap
    back = distilled.to_frame()
    if layout == "long":
        assert set(back["unique_id"]) == {"synthetic_1", "synthetic_2"}
        back = back.pivot(index="ds", columns="unique_id", values="y")
    assert list(back.columns) == ["synthetic_1", "synthetic_2"]
    np.testing.assert_allclose(back, distilled.values[0])
    folder = distilled.save(tmp_path / "run")
    loaded = hdt.Distilled.load(folder)
    np.testing.assert_array_equal(loaded.values, distilled.values)
    assert "--channels 2" in (folder / "recipe.yaml").read_text().splitlines()[0]
    assert "scaled (each channel stands for all real ones) units" in (folder / "README.md").read_text()
    assert "in scaled units: each stands for all real channels" in (folder / "report.html").read_text()


def test_the_page_names_its_folder_and_all_files_have_one_mode(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert re.search("hdt evaluate .*/saved[^/]*/run</code>", page)  # not the folder it was staged in
    assert len({path.stat().st_mode for path in run.iterdir()}) == 1


def test_every_setting_stands_in_the_card_and_on_the_page(run: Path) -> None:
    """Defaults may change: what made this run is said in it."""
    card, page = (run / "README.md").read_text(), (run / "report.html").read_text()
    settings = json.loads((run / "run.json").read_text())["settings"]
    for name, value in {**settings, **settings["options"]}.items():
        if name != "options" and value is not None:
            assert f"| {name} | {value} |" in card
            assert f"<tr><th>{name}</th><td>{value}</td>" in page


def test_little_compression_is_said_before_the_work_and_none_is_refused(
    frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """280 training rows of two columns: 48 steps are 5.8 times fewer, 24 steps 11.7 times, 280 none."""
    small = {"context": 12, "horizon": 6, "iterations": 1, "k": 4}
    with pytest.warns(
        hdt.run.plan.LittleCompression, match=r"96 synthetic numbers for 560 real ones, 5.8× fewer.*--length"
    ):
        distilled = hdt.distill(frame, length=48, **small)
    assert any("little compression" in notice for notice in distilled.info.data.notices)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hdt.distill(frame, length=24, **small)
    monkeypatch.setattr(hdt.run.produce, "distill_panel", lambda *_, **__: pytest.fail("worked first"))
    with pytest.raises(hdt.InputError, match=r"1.0× fewer: that distils nothing; lower --length"):
        hdt.distill(frame, length=280, **small)


def test_a_run_folder_is_complete_and_reads_back_equal(frame: pd.DataFrame, run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {*FILES, "report.html"}
    distilled, loaded = hdt.distill(frame, **SMALL), hdt.Distilled.load(run)
    np.testing.assert_array_equal(loaded.values, distilled.values)
    pd.testing.assert_frame_equal(loaded.to_frame(), distilled.to_frame())
    assert loaded.info.settings == distilled.info.settings
    assert loaded.history == distilled.history
    pd.testing.assert_frame_equal(pd.read_parquet(run / "synthetic.parquet"), loaded.to_frame(), check_freq=False)


def test_the_run_file_holds_both_sides_of_theorem_1(frame: pd.DataFrame) -> None:
    import torch

    distilled = hdt.distill(frame, **SMALL)
    info = distilled.info
    train = torch.tensor(distilled.panel.part("train"))
    real = spectrum.mean_spectrum(train, 48).power
    synthetic = spectrum.psd(torch.tensor(distilled.values).double())[0]
    bound = spectrum.autocovariance_bound(synthetic, real, 48)
    np.testing.assert_allclose(info.psd_gaps, bound.psd_gap, rtol=1e-4)
    np.testing.assert_allclose(info.acf_gaps, bound.acf_gap, rtol=1e-4)
    assert info.acf_gap <= info.psd_gap
    assert [len(bins) for bins in info.harmonics] == [6, 6]
    assert 2 in info.harmonics[0]  # the daily cycle: 48 hours hold two


def test_an_existing_folder_is_refused_and_only_runs_are_replaced(frame: pd.DataFrame, tmp_path: Path) -> None:
    distilled = hdt.distill(frame, **SMALL)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(hdt.InputError, match="exists"):
            distilled.save(mine, force=force)
    assert (mine / "thesis.tex").read_text() == "years of work"
    distilled.save(tmp_path / "run")
    with pytest.raises(hdt.InputError, match="choose another --out, or replace it with --force"):
        distilled.save(tmp_path / "run")
    hdt.distill(frame, **{**SMALL, "seed": 1}).save(tmp_path / "run", force=True)
    assert hdt.Distilled.load(tmp_path / "run").info.settings.seed == 1


def test_what_a_user_put_into_a_run_is_never_replaced(frame: pd.DataFrame, run: Path) -> None:
    distilled = hdt.distill(frame, **SMALL)
    for name in ("NOTES.md", "models", "z1", "z2", "z3"):
        (run / name).mkdir()
    held = r"run holds what is not hdt's: NOTES.md, models, z1 and 2 more; move it away"
    with pytest.raises(hdt.InputError, match=held):
        distilled.save(run, force=True)
    for name in ("NOTES.md", "models", "z1", "z2", "z3"):
        assert (run / name).is_dir()
        (run / name).rmdir()
    (run / "loss.png").mkdir()  # one of our names, but not our file
    with pytest.raises(hdt.InputError, match=r"not hdt's: loss.png"):
        distilled.save(run, force=True)
    (run / "loss.png").rmdir()
    record_evaluation(run, hdt.evaluate(distilled, seeds=1).to_dict("records"))
    hdt.run.report.write(distilled, run)
    (run / ".evaluation.json.0123abcd").mkdir()  # what a killed evaluation leaves
    assert len(list(run.iterdir())) == len(FILES) + 8
    distilled.save(run, force=True)
    assert {path.name for path in run.iterdir()} == {*FILES, "report.html"}


@pytest.mark.parametrize("content", ['{"a": 1}', "", "[]", '{"schema_version": 1, "settings": {}}'])
def test_a_folder_with_a_foreign_run_file_is_no_run(frame: pd.DataFrame, tmp_path: Path, content: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.json").write_text(content)
    with pytest.raises(hdt.InputError, match=r"mine exists and is not a run folder \(.*run.json: .*\); --force repl"):
        hdt.distill(frame, **SMALL).save(tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "run.json").read_text() == content


def test_a_save_that_fails_leaves_nothing(frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distilled = hdt.distill(frame, **SMALL)
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        monkeypatch.setattr("hdt.run.report.page", lambda *_, e=error, **__: (_ for _ in ()).throw(e))
        with pytest.raises((hdt.InputError, KeyboardInterrupt)):
            distilled.save(tmp_path / "out" / "run")
        assert list((tmp_path / "out").iterdir()) == []


def spoil(run: Path, how: str) -> None:
    if how.startswith("missing"):
        (run / how.split()[1]).unlink()
    elif how == "truncated parquet":
        (run / "synthetic.parquet").write_bytes((run / "synthetic.parquet").read_bytes()[:100])
    elif how == "truncated safetensors":
        (run / "params.safetensors").write_bytes((run / "params.safetensors").read_bytes()[:-8])
    elif how == "json syntax":
        (run / "run.json").write_text("{")
    elif how == "broken log":
        (run / "metrics.jsonl").write_text('{"loss": "low"}')
    elif how == "unknown key":
        info = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**info, "surprise": 1}))
    elif how == "wrong type":
        info = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**info, "floats": "many"}))
    elif how in ("other shape", "other name", "not finite", "other values"):
        params = load_file(run / "params.safetensors")
        if how == "other shape":
            params["real"] = params["real"][:, :-1].copy()
        elif how == "other name":
            params["imag"] = params.pop("imaginary")
        elif how == "not finite":
            params["real"][0, 0, 0] = np.nan
        else:
            params["real"][0, 1, 0] += 1.0
        save_file(params, run / "params.safetensors")
    elif how == "text column":
        frame = pd.read_parquet(run / "synthetic.parquet")
        frame.assign(load=frame["load"].astype(str)).to_parquet(run / "synthetic.parquet")
    elif how == "shifted stamps":
        frame = pd.read_parquet(run / "synthetic.parquet")
        frame.index += pd.Timedelta("1h")
        frame.to_parquet(run / "synthetic.parquet")
    elif how == "small column":
        frame = make_frame(columns=("load", "small")) * [1e6, 1e-3]
        hdt.distill(frame, **SMALL).save(run, force=True)
        assert hdt.Distilled.load(run)
        frame = pd.read_parquet(run / "synthetic.parquet")
        frame.iloc[7, 1] *= 1.01
        frame.to_parquet(run / "synthetic.parquet")
    elif how in ("less history", "no iteration", "no loss", "empty log", "binary log"):
        lines = (run / "metrics.jsonl").read_text().splitlines()
        entry = json.loads(lines[1])
        del entry[{"no iteration": "iteration"}.get(how, "loss")]
        lines[1] = json.dumps(entry)
        written = {"less history": "\n".join(lines[:-1]), "empty log": "\n\n"}.get(how, "\n".join(lines))
        (run / "metrics.jsonl").write_bytes(b"\xff\xfe" if how == "binary log" else written.encode())
    elif how == "other columns":
        frame = pd.read_parquet(run / "synthetic.parquet")
        frame.rename(columns={"load": "lode"}).to_parquet(run / "synthetic.parquet")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing run.json", "run.json is missing"),
        ("missing params.safetensors", "params.safetensors is missing"),
        ("missing synthetic.parquet", "synthetic.parquet is missing"),
        ("truncated parquet", "a file cannot be read"),
        ("truncated safetensors", "a file cannot be read"),
        ("json syntax", "run.json"),
        ("broken log", "metrics.jsonl: 0.loss: Input should be a valid number"),
        ("unknown key", "run.json: surprise: Extra inputs are not permitted"),
        ("wrong type", "run.json: floats: Input should be a valid integer"),
        ("other shape", "arrays .* do not fit run.json"),
        ("other name", "arrays .* do not fit run.json"),
        ("not finite", "values that are not finite"),
        ("other values", "values differ from those of params.safetensors"),
        ("other columns", "columns or rows differ"),
        ("text column", r"columns or rows differ|holds \d+ values where run.json describes 96"),
        ("shifted stamps", "its stamps are not those that run.json describes"),
        ("small column", "column 'small': values differ from those of params.safetensors"),
        ("less history", "metrics.jsonl: 4 entries for 5 iterations"),
        ("no iteration", "metrics.jsonl: line 2 is not that of iteration 2"),
        ("no loss", "metrics.jsonl: line 2 lacks loss"),
        ("empty log", r"metrics.jsonl: a file cannot be read \(Expecting value"),
        ("binary log", r"metrics.jsonl: a file cannot be read"),
    ],
)
def test_damaged_runs_are_refused(run: Path, how: str, message: str) -> None:
    spoil(run, how)
    with pytest.raises(hdt.InputError, match=message) as caught:
        hdt.Distilled.load(run)
    assert "\n" not in str(caught.value)


PLACES = {
    "schema_version": [0, 99, "1", None],
    "psd_gap": [float("nan"), float("inf"), -1, None],
    "acf_gaps": [[float("nan"), 0.1], [0.1], []],
    "scaler_mean": [[], [5.0], [5.0, float("nan")]],
    "scaler_std": [[], [1.0, 0.0], [1.0, -1.0]],
    "harmonics": [[[0], [99]], [[0]], [[-1], [0]], "all"],
    "floats": [0, -96],
    "noise.levels": [[], [0.1], [0.1] * 5 + [-0.1], [float("nan")] * 6],
    "noise.unit": [-1, float("inf"), None],
    "noise.shape": [[], [0.1], [float("nan")] * 21],
    "settings.method": ["magic", "", 3],
    "settings.objective": ["magic"],
    "settings.parameterization": ["magic", "fred", "nsd"],
    "settings.backbone": ["magic"],
    "settings.start": ["magic"],
    "settings.length": [47, 2, 10**9, 10**18],
    "settings.sequences": [2, 10**9],
    "settings.channels": [1, 3],
    "settings.context": [0, 43],
    "settings.iterations": [6, 0],
    "settings.options": [{"k": 99}, {"k": 6, "magic": 1}, {"k": "many"}],
    "data.borders": [[-280, 320, 400], [280, 270, 400], [280, 320, 401], [0, 0, 0], [280, 320]],
    "data.columns": [[], ["load"], ["load", "lode"], ["wind", "load"], ["load", "load"], ["load", "wind", "sun"]],
    "data.first_stamp": ["2024-01-02", "yesterday", "", "NaT", "9999-12-31", "2024-01-01 00:00:00+00:00"],
    "data.step": ["P0DT2H0M0S", "P0D", "-1h", "fortnight", "", "PNaT", "P99999D", "MS"],
    "data.layout": [{"kind": "tall"}, {"kind": "long"}, {"colour": 1}, {"time_column": 3}, {"time_in_column": True}],
}


@pytest.mark.parametrize("place", PLACES)
def test_a_run_file_that_was_edited_is_refused(
    place: str, run: Path, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = (run / "run.json").read_text()
    recwarn.clear()
    for value in PLACES[place]:
        info = json.loads(good)
        *path, last = place.split(".")
        inner = info
        for name in path:
            inner = inner[name]
        if inner[last] == value:
            continue
        inner[last] = value
        (run / "run.json").write_text(json.dumps(info))
        with pytest.raises(hdt.InputError) as caught:
            hdt.Distilled.load(run)
        message = str(caught.value)
        assert "\n" not in message and str(run) in message, message
    assert not recwarn.list
    (run / "run.json").write_text(good)
    hdt.Distilled.load(run)


def test_a_period_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    run = hdt.distill(make_frame(), **{**SMALL, "parameterization": "fred", "iterations": 1}).save(tmp_path / "run")
    info = json.loads((run / "run.json").read_text())
    assert info["chosen"] == {"period": 24}
    for chosen in ({"period": 0}, {"period": 49}, {"period": "day"}, {}):
        (run / "run.json").write_text(json.dumps({**info, "chosen": chosen}))
        with pytest.raises(hdt.InputError, match=r"run.json: (settings and )?chosen"):
            hdt.Distilled.load(run)
    (run / "run.json").write_text(json.dumps({**info, "chosen": {"period": 12}}))
    with pytest.raises(hdt.InputError):
        hdt.Distilled.load(run)


def test_options_that_a_run_does_not_name_get_their_defaults(run: Path) -> None:
    """As for runs of a version that had fewer of them."""
    info = json.loads((run / "run.json").read_text())
    del info["settings"]["options"]["acf_weight"]
    (run / "run.json").write_text(json.dumps(info))
    assert hdt.Distilled.load(run).info.settings.options["acf_weight"] == 0


def test_no_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(hdt.InputError, match="no such run folder"):
        hdt.Distilled.load(tmp_path / "absent")


def test_strided_arrays_are_written_as_they_are_seen(frame: pd.DataFrame, tmp_path: Path) -> None:
    from dataclasses import replace

    distilled = hdt.distill(frame, **SMALL)
    strided = {name: np.asfortranarray(array) for name, array in distilled.params.items()}
    assert not strided["real"].flags["C_CONTIGUOUS"]
    loaded = hdt.Distilled.load(replace(distilled, params=strided).save(tmp_path / "run"))
    np.testing.assert_allclose(loaded.values, distilled.values, atol=1e-6)


@pytest.mark.draws
def test_the_report_stands_alone_and_shows_everything(frame: pd.DataFrame, run: Path) -> None:
    from hdt.run import report

    page = (run / "report.html").read_text()
    assert page.count("<img") == 4 and "://" not in page  # base64 may spell http by chance
    assert "Not evaluated yet" in page
    report.write(hdt.distill(frame, **SMALL), run)
    for name in ("series", "spectrum", "acf", "loss"):
        assert (run / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    record_evaluation(run, hdt.evaluate(hdt.distill(frame, **SMALL), seeds=1).to_dict("records"))
    report.write(hdt.Distilled.load(run), run)  # without the real data, with the evaluation
    page = (run / "report.html").read_text()
    assert "<h2>Evaluation</h2>" in page and "random" in page and "full" in page
    (run / "evaluation.json").write_text('[{"student": 3}]')
    with pytest.raises(hdt.InputError, match=r"evaluation.json: .*evaluate the run again"):
        report.write(hdt.Distilled.load(run), run)


@pytest.mark.filterwarnings("error:Glyph")
@pytest.mark.draws
def test_any_letters_are_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    columns = ("负荷", "нагрузка", "cost in $ or \\$\\frac$")
    distilled = hdt.distill(make_frame(columns=columns), **{**SMALL, "iterations": 0})
    with monkeypatch.context() as patch:
        patch.setattr(glyphs, "OTHERS", ())
        titles = [ax.get_title() for ax in report.draw(distilled)["series"].axes]
        assert titles[:3] == [r"\u8d1f\u8377", *columns[1:]]
        report.write(distilled, tmp_path)
    monkeypatch.setattr(glyphs, "_letters", lambda family: frozenset(map(ord, "负荷" if "CJK" in family else "$a")))
    assert glyphs.name("a$ 负é") == (
        r"a$ 负\u00e9", {"fontfamily": ["DejaVu Sans", "Noto Sans CJK SC"], "parse_math": False},
    )  # fmt: skip


@pytest.mark.draws
def test_names_of_columns_are_escaped_in_the_report(tmp_path: Path) -> None:
    frame = make_frame(columns=("<b>load</b>", "wind"))
    frame["<b>load</b>"] = frame["<b>load</b>"].mask(np.arange(400) == 3)
    page = (hdt.distill(frame, **SMALL).save(tmp_path / "run") / "report.html").read_text()
    assert "<b>load" not in page and "&lt;b&gt;load" in page


@pytest.mark.draws
def test_names_of_columns_are_no_mathematics(tmp_path: Path) -> None:
    """Between two dollars matplotlib would read a formula, and stop at a bad one."""
    distilled = hdt.distill(make_frame(columns=("cost_$_per_$", "wind")), **SMALL)
    assert distilled.save(tmp_path / "run").is_dir()
    assert hdt.run.report.draw(distilled)["series"].axes[0].get_title() == "cost_$_per_$"


@pytest.mark.parametrize(
    ("given", "titles"),
    [
        ({"parameterization": "fred"}, ["cosine coefficients: 10 of 50 kept per channel"]),
        ({"parameterization": "nsd", "group": 2, "instance_rank": 1, "cycle_rank": 1}, ["instance kernel, 1 × 2"]),
        ({"parameterization": "nsd", "kernels": "dct", "learn_kernels": False, "group": 2, "instance_rank": 1}, None),
        ({"objective": "cfm", "teacher_epochs": 1}, [""]),
        ({}, None),
    ],
)
@pytest.mark.draws
def test_what_image_methods_learned_is_drawn(given: dict[str, Any], titles: list[str] | None, tmp_path: Path) -> None:
    small = {**SMALL, "iterations": 2, **given}
    if "parameterization" in given:
        small |= {"period": 5}
    if "objective" in given:
        del small["k"]
    distilled = hdt.distill(make_frame(), **small)
    again = hdt.Distilled.load(distilled.save(tmp_path / "run"))
    np.testing.assert_allclose(again.values, distilled.values, rtol=1e-5)
    from hdt.run import report

    figure = report.draw(again).get("learned")
    assert (figure is None) == (titles is None)
    assert figure is None or figure.axes[0].get_title() == (titles or [""])[0]
    page = (tmp_path / "run" / "report.html").read_text()
    assert ("What is learned besides values" in page) == (titles is not None)
