"""Students with quantiles, the noise that they train with, and what is measured of them."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, Result, make_frame, refused
from hypothesis import given
from hypothesis import strategies as st

import hdt
from hdt.evaluation import protocol
from hdt.maths import residuals
from hdt.maths.residuals import Scatter
from hdt.maths.rows import Rows
from hdt.maths.windows import Gappy
from hdt.students import STUDENTS, DLinear, Training, build
from hdt.students.quantiles import LEVELS, Quantiles, build_quantiles, pinball
from hdt.training.errors import errors, mean_size, spread_errors
from hdt.training.fit import Running, fit

Run = Callable[..., Result]
SETTING = ["--length", "48", "--context", "12", "--horizon", "6", "--k", "4", "--option", "iterations=3"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DLinear, "training_settings", Training(lr=5e-3, epochs=2, min_steps=16))
    monkeypatch.setattr(DLinear, "rates", (1.0,))


class Fixed(Quantiles):
    """Forecasts the last value of the context, shifted by given numbers."""

    def __init__(self, context: int, horizon: int, channels: int, shifts: list[float]) -> None:
        super().__init__(build("dlinear", context, horizon, channels, 0), horizon)
        self.shifts = torch.tensor(shifts)

    def outputs(self, context: torch.Tensor) -> torch.Tensor:
        last = context[:, None, -1:].expand(-1, len(LEVELS), self.horizon, -1)
        return last + self.shifts[:, None, None]


@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100))
def test_the_pinball_loss_is_that_of_scikit_learn(seed: int, scale: float) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = torch.Generator().manual_seed(seed)
    truth, found = (
        scale * torch.randn(shape, generator=rng, dtype=torch.float64) for shape in ((5, 3, 2), (5, 9, 3, 2))
    )
    loss = pinball(found, truth)
    for n, level in enumerate(LEVELS):
        expected = metrics.mean_pinball_loss(truth.flatten(), found[:, n].flatten(), alpha=level)
        assert loss[:, n].mean().item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", list(STUDENTS))
def test_every_student_gets_quantiles_that_do_not_cross(name: str) -> None:
    student = build_quantiles(name, 24, 8, 3, seed=0).eval()
    context = torch.randn(4, 24, 3, generator=torch.Generator().manual_seed(0))
    outputs, found = student.outputs(context), student.quantiles(context)
    assert found.shape == (4, 9, 8, 3)
    plain = build(name, 24, 72, 3, seed=0).eval()(context)
    for n in range(9):  # one course of eight steps per level
        assert torch.equal(outputs[:, n], plain[:, 8 * n : 8 * n + 8])
    assert bool((found.diff(dim=1) >= 0).all()) and not bool((outputs.diff(dim=1) >= 0).all())
    assert torch.equal(found.sum(dim=1), outputs.sort(dim=1).values.sum(dim=1))
    assert torch.equal(student(context), found[:, 4])


@given(seed=st.integers(0, 1000))
def test_sorting_never_raises_the_loss(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    truth, found = torch.randn(20, 2, 1, generator=rng), torch.randn(20, 9, 2, 1, generator=rng)
    assert pinball(found.sort(dim=1).values, truth).mean() <= pinball(found, truth).mean() + 1e-6


def test_errors_of_quantiles_are_those_counted_by_hand() -> None:
    series = torch.tensor(make_frame(40).to_numpy(), dtype=torch.float32)
    shifts = [0.4, -0.4, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, -0.3]  # not in order
    student = Fixed(12, 6, 2, shifts)
    loss, inside, size, squared = [], [], [], []
    for start in range(40 - 18 + 1):
        last, target = series[start + 11], series[start + 12 : start + 18]
        found = last + torch.tensor(sorted(shifts))[:, None, None]
        for level, quantile in zip(LEVELS, found, strict=True):
            loss.append(torch.where(target > quantile, level * (target - quantile), (1 - level) * (quantile - target)))
        inside.append(((target >= last - 0.4) & (target <= last + 0.4)).float())
        size.append(target.abs())
        squared.append((target - last).square())
    crps, width, coverage = (torch.stack(each).mean().item() for each in (loss, size, inside))
    told = spread_errors(student, series)
    assert told.crps == pytest.approx(2 * crps, rel=1e-5)
    assert told.wql == pytest.approx(2 * crps / width, rel=1e-5)
    assert told.coverage_80 == pytest.approx(coverage, rel=1e-5) and 0.2 < coverage < 0.95
    assert mean_size(series, 12, 6) == pytest.approx(width, rel=1e-5)
    assert errors(student, series).mse == pytest.approx(torch.stack(squared).mean().item(), rel=1e-5)


def test_targets_that_were_not_observed_do_not_count() -> None:
    values = torch.tensor(make_frame(40).to_numpy(), dtype=torch.float32)
    targets = values.clone()
    targets[30:] = torch.nan
    student = Fixed(12, 6, 2, [-0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4])
    gappy = spread_errors(student, Gappy(values, targets))
    found, seen = torch.zeros(2), 0
    for start in range(23):
        last, target = values[start + 11], targets[start + 12 : start + 18]
        there = ~target.isnan().any(dim=1)
        found += ((target[there] - last).abs() <= 0.4).sum(dim=0)
        seen += int(there.sum())
    assert gappy.coverage_80 == pytest.approx((found / seen).mean().item(), rel=1e-5)


def test_noise_has_the_stored_quantiles_in_units_of_its_steps() -> None:
    scale, shape = torch.tensor([1.0, 0.0, 3.0]), torch.tensor([-2.0, -0.5, 0.0, 0.2, 4.0])
    drawn = Scatter(scale, shape).draw(torch.zeros(20_000, 3, 2), torch.Generator().manual_seed(0))
    for step in range(3):
        found = np.quantile(drawn[:, step].numpy(), [0, 0.25, 0.5, 0.75, 1])
        np.testing.assert_allclose(found, scale[step] * shape, atol=0.15)
    again = Scatter(scale, shape).draw(torch.zeros(20_000, 3, 2), torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again) and not torch.equal(drawn[:, 0, 0], drawn[:, 0, 1])


@pytest.mark.parametrize(("seed", "level"), [(0, 0.1), (1, 0.5), (2, 1.0)])
def test_the_shape_is_that_of_real_errors_whatever_their_size(seed: int, level: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(3000, 12, generator=rng)
    course = x.mean(dim=1, keepdim=True) + (x - x.mean(dim=1, keepdim=True)) @ torch.randn(12, 5, generator=rng) / 4
    error = level * torch.linspace(0.2, 1.0, 5) * (torch.rand(3000, 5, generator=rng) * 2 - 1)
    own, real = (Rows(torch.cat([x, y], dim=1)[:, :, None], 12, 5) for y in (course, course + error))
    expected = ((np.arange(21) + 0.5) / 21 * 2 - 1) * np.sqrt(3)  # of a uniform distribution of variance one
    np.testing.assert_allclose(residuals.shape(own, real, 12), expected, atol=0.1)
    lacking = error.square().mean(dim=0).sum() / residuals.lacking_noise(own, real, 12).square().sum()
    assert residuals.unit(own, real, 12) == pytest.approx(lacking.sqrt().item(), rel=1e-2)
    assert residuals.unit(real, own, 12) == 0


def test_windows_that_have_not_begun_tell_nothing_of_noise() -> None:
    series = torch.randn(1, 80, 3, generator=torch.Generator().manual_seed(0))
    late = series.clone()
    late[:, :40, 2] = torch.nan
    own, real = Rows(series[..., :1], 12, 5), Rows(late, 12, 5)
    found = residuals.lacking_noise(own, real, 12), residuals.shape(own, real, 12), residuals.unit(own, real, 12)
    assert all(bool(torch.as_tensor(each).isfinite().all()) for each in found)


def test_noise_widens_what_is_learned_from_a_course_without_any() -> None:
    """A sine alone; Gaussian noise of deviation .5 is told."""
    clean = (torch.arange(400) * 2 * torch.pi / 24).sin()[:, None]
    way, found = Training(lr=2e-2, epochs=4, min_steps=400), {}
    gauss = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(21) + 0.5) / 21)
    scatter = Scatter(torch.full((6,), 0.5), gauss)
    for name, added in (("none", None), ("noise", scatter)):
        student = build_quantiles("dlinear", 24, 6, 1, seed=0)
        fit(student, clean[None, :96], clean, 0, way, noise=added)
        width = student.quantiles(clean[None, :24]).detach()
        found[name] = (width[0, -1] - width[0, 0]).mean().item()
    assert found["none"] < 0.3 < 0.9 < found["noise"] < 1.7  # 1.28 by 0.5 Gaussian deviations


def test_rows_of_quantiles_beside_naive_forecasts(frame: pd.DataFrame) -> None:
    table = hdt.evaluate(hdt.distill(frame, **SMALL), seeds=2, quantiles=True)
    assert table["trained_on"].tolist() == ["distilled", "random", "full", "last value", "last season"]
    assert "validation_mse" not in table and np.isfinite(table.select_dtypes("number")).all().all()
    full = table.set_index("trained_on").loc["full"]
    np.testing.assert_allclose(table["wql_to_full"], table["wql"] / full["wql"])
    np.testing.assert_allclose(table["crps"] / table["wql"], full["crps"] / full["wql"])  # the same targets
    naive = table[table["trained_on"].str.startswith("last")]
    assert (naive["crps"] == naive["mae"]).all() and (naive["coverage_80"] == 0).all()
    trained = table.iloc[:3]
    assert ((trained["coverage_80"] > 0) & (trained["coverage_80"] < 1)).all() and (trained["wql_std"] > 0).all()


def test_validation_chooses_by_crps(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, tiny = protocol.Evaluator(hdt.load(frame), 12, 6, quantiles=True), np.asarray(make_frame(60))[None]
    single = []
    for rates in [(1.0,), (20.0,)]:
        monkeypatch.setattr(DLinear, "rates", rates)
        single.append(evaluator.score("dlinear", tiny, 0))
    monkeypatch.setattr(DLinear, "rates", (1.0, 20.0))
    best = min(single, key=lambda score: score["validation_crps"])
    assert evaluator.score("dlinear", tiny, 0)["crps"] == best["crps"]
    plain = protocol.Evaluator(hdt.load(frame), 12, 6)
    assert plain.key("dlinear", 0) != evaluator.key("dlinear", 0)


def test_the_noise_of_a_set_is_stored_counted_apart_and_read_from_the_training_part_alone(tmp_path: Path) -> None:
    frame, changed = make_frame(), make_frame()
    changed.iloc[280:] = np.nan
    changed.iloc[300:] = 1e6
    one, other = hdt.distill(frame, **SMALL), hdt.distill(changed, **SMALL, split=[0.7, 0.1, 0.2])
    noise = one.info.noise
    assert noise == other.info.noise and len(noise.levels) == 6 and max(noise.levels) > 0
    assert (one.info.floats, one.info.noise_floats) == (96, 6 + 1 + 21)
    assert hdt.Distilled.load(one.save(tmp_path / "run")).info.noise == noise
    rows = Rows(one.values, 12, 6), Rows(one.panel.part("train")[None], 12, 6)
    assert noise.levels == residuals.lacking_noise(*rows, 12).tolist()
    assert "28 numbers" in (tmp_path / "run" / "README.md").read_text()


def test_students_train_with_the_noise_in_scaled_units(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Scatter | None] = []

    def told(student: Quantiles, series: torch.Tensor, *rest: object) -> object:
        seen.append(rest[-1])
        return fit(student, series, *rest)

    monkeypatch.setattr(protocol, "fit", told)
    distilled = hdt.distill(frame, **SMALL)
    hdt.evaluate(distilled, seeds=1, quantiles=True)
    scatter, noise = seen[0], distilled.info.noise
    np.testing.assert_allclose(scatter.scale, np.array(noise.levels) * noise.unit, rtol=1e-6)
    assert seen[1:] == [None, None]  # random segments and full data have noise of their own
    seen.clear()
    segment = hdt.distill(frame, method="random", length=48, context=12, horizon=6)
    hdt.evaluate(segment, seeds=1, quantiles=True)
    assert seen == [None, None] and segment.info.noise is None  # full data are kept


def older(folder: Path) -> Path:
    """The run as a version wrote it that stored no noise."""
    record = json.loads((folder / "run.json").read_text())
    del record["noise"]
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_runs_that_stored_no_noise_work_but_for_quantiles(run: Run, csv: Path) -> None:
    assert run("distill", csv, *SETTING, "--out", "r").code == 0
    older(Path("r"))
    assert run("evaluate", "r", "--seeds", 1).code == 0
    refused(run("evaluate", "r", "--seeds", 1, "--quantiles"), "older hdt.*stored no noise.*distil it again")


def test_quantiles_are_asked_for_by_a_flag(run: Run, csv: Path) -> None:
    made = json.loads(run("distill", csv, *SETTING, "--out", "r", "--json").out)
    assert made["floats"] == 96
    told = run("evaluate", "r", "--seeds", 1, "--quantiles")
    assert told.code == 0 and "WQL" in told.out and "80% interval" in told.out
    record = json.loads(Path("r/evaluation.json").read_text())
    assert {"crps", "wql", "coverage_80", "wql_to_full"} < set(record[0]) and "validation_mse" not in record[0]
    found = json.loads(run("evaluate", "r", "--seeds", 1, "--quantiles", "--json").out)
    assert {"crps", "wql", "coverage_80"} < set(found["results"][0])
    assert run("report", "r").code == 0 and "in the 80% interval" in Path("r/report.html").read_text(encoding="utf-8")
    assert run("evaluate", "r", "--seeds", 1).code == 0
    assert "wql" not in Path("r/evaluation.json").read_text()


def test_a_comparison_of_quantiles_is_by_wql_and_counts_the_noise(run: Run, csv: Path) -> None:
    words = ["compare", csv, *SETTING, "--method", "hdt", "--student", "dlinear", "--seeds", 1, "--quantiles"]
    rows = {row["method"]: row for row in json.loads(run(*words, "--json").out)["rows"]}
    assert "published" not in rows["hdt"] and rows["full"]["wql_to_full"] == 1
    assert (rows["hdt"]["floats"], rows["random"]["floats"]) == (96 + 28, 96)
    told = run(*words)
    assert f"{rows['hdt']['wql']:.3f} ± 0.000, {rows['hdt']['coverage_80']:.0%}" in told.out and "test WQL" in told.out
    plain = json.loads(run(*[word for word in words if word != "--quantiles"], "--json").out)["rows"]
    assert "wql" not in plain[0] and {row["method"]: row["floats"] for row in plain}["hdt"] == 96


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_regressors_are_refused(run: Run, csv: Path, command: str) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    where = csv
    if command == "evaluate":
        assert run("distill", csv, *SETTING, "--out", "r").code == 0
        where = Path("r")
    result = run(command, where, "--student", "sklearn:Ridge", "--quantiles", "--seeds", 1)
    refused(result, "'sklearn:Ridge' is fitted at once and knows no pinball loss")


def test_an_interrupted_training_with_noise_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    series = torch.tensor(make_frame(60).to_numpy(), dtype=torch.float32)
    scatter, file = Scatter(torch.ones(6), torch.tensor([-1.0, 0.0, 1.0])), tmp_path / "c"
    whole = build_quantiles("dlinear", 12, 6, 2, seed=0)
    fit(whole, series[None], series, 0, noise=scatter)

    def stop(step: int, *_: object) -> None:
        if step >= 8:
            raise KeyboardInterrupt

    for watch in (stop, None):
        again = build_quantiles("dlinear", 12, 6, 2, seed=0)
        running = replace(Running(checkpoint=file), watch=watch)
        if watch is None:
            fit(again, series[None], series, 0, running=running, noise=scatter)
        else:
            with pytest.raises(KeyboardInterrupt):
                fit(again, series[None], series, 0, running=running, noise=scatter)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_the_recipe_of_intervals_goes_on_where_it_was(csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).parents[1] / "recipes" / "intervals.py"
    hdt.distill(csv, length=64, context=24, horizon=16, k=6, iterations=2).save("r")
    monkeypatch.setattr("sys.argv", ["intervals.py", "out", "r"])
    recipe = runpy.run_path(str(path))
    recipe["main"]()
    table = pd.read_csv("out/intervals.csv")
    assert table["trained_on"].tolist() == ["hdt", "hdt, without noise", "random", "full"]
    below = table[[f"below_{level}" for level in LEVELS]]
    assert (below.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None) and Path("out/intervals.png").exists()
    np.testing.assert_allclose(below["below_0.9"] - below["below_0.1"], table["coverage_80"], atol=1e-3)
    before = Path("out/intervals.csv").read_bytes()
    monkeypatch.setitem(recipe["main"].__globals__, "measured", lambda *_: pytest.fail("computed again"))
    recipe["main"]()
    assert Path("out/intervals.csv").read_bytes() == before


def test_quantiles_of_a_transformed_table_are_refused(frame: pd.DataFrame) -> None:
    distilled = hdt.distill(frame, **SMALL, transform="difference")
    with pytest.raises(
        hdt.InputError, match=r"^--quantiles: frame was transformed \(--transform difference\), .*without$"
    ):
        hdt.evaluate(distilled, quantiles=True, seeds=1)
