"""Covariates: roles of columns, stamps that are true to the values, students that see what is known ahead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, Result, make_frame, refused
from torch import nn

import hdt
from hdt.data.covariates import calendar
from hdt.evaluation.protocol import Evaluator
from hdt.maths import joint
from hdt.maths.roles import Roles
from hdt.maths.windows import windows
from hdt.students import STUDENTS, Training, build

Run = Callable[..., Result]
TINY = {"length": 72, "context": 12, "horizon": 6, "features": 8, "draws": 2}
DAILY = np.sin(2 * np.pi * np.arange(24) / 24) + np.sin(2 * np.pi * (np.arange(24) - 3) / 12)  # no shift is another


def wide(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Two targets around a price, and a temperature, hourly."""
    rng, stamps = np.random.default_rng(seed), pd.date_range("2024-01-01", periods=rows, freq="h")
    table = pd.DataFrame(rng.normal(size=(rows, 4)), columns=["load", "price", "wind", "temp"], index=stamps)
    return table.rename_axis("date")


def long(rows: int = 400) -> pd.DataFrame:
    """Two series, each with a price and a temperature of its own, and where they are sold."""
    table = (
        wide(rows).rename_axis("ds").reset_index().melt("ds", ["load", "wind"], var_name="unique_id", value_name="y")
    )
    rng = np.random.default_rng(1)
    table[["price", "temp"]] = rng.normal(size=(len(table), 2))
    return table.assign(shop=table["unique_id"].map({"load": "north", "wind": "south"}), size=2.5)


def by_hour(rows: int = 24 * 20, noise: float = 0.3, columns: int = 2) -> pd.DataFrame:
    """Values that are a function of the hour, and noise."""
    stamps = pd.date_range("2024-03-05 05:00", periods=rows, freq="h")
    values = DAILY[stamps.hour][:, None] + noise * np.random.default_rng(0).normal(size=(rows, columns))
    return pd.DataFrame(values, index=stamps, columns=[f"c{n}" for n in range(columns)])


def test_roles_of_a_wide_table_are_shared_by_its_targets() -> None:
    panel = hdt.load(wide(), known="price", past=["temp"], calendar="hour")
    own = panel.covariates
    assert panel.columns == ("load", "wind", "temp") and own.targets == 2 and own.past == ("temp",)
    assert own.names[-1] == "price" and own.values.shape == (400, 1, 5) and own.given == 1
    np.testing.assert_array_equal(own.values[:, 0, -1], wide()["price"])
    np.testing.assert_array_equal(panel.values, wide()[["load", "wind", "temp"]])
    assert hdt.load(wide()).covariates is None


def test_roles_of_a_long_table_belong_to_each_series_unless_they_are_equal() -> None:
    table = long()
    panel = hdt.load(table, known=["price"], past="temp", static=["shop", "size"])
    assert panel.columns == ("load", "wind", "load/temp", "wind/temp") and panel.notices == ()
    assert panel.covariates.static == {"shop": ["north", "south"], "size": [2.5, 2.5]}
    own = table.pivot(index="ds", columns="unique_id", values="price").to_numpy()
    np.testing.assert_array_equal(panel.covariates.values[:, :, 0], own)
    temp = table.pivot(index="ds", columns="unique_id", values="temp").to_numpy()
    np.testing.assert_array_equal(panel.values[:, 2:], temp)
    equal = hdt.load(table.assign(price=table["ds"].dt.day), known="price", past="temp", static=["shop", "size"])
    assert equal.covariates.values.shape == (400, 1, 1)


@pytest.mark.parametrize(
    ("table", "roles", "message"),
    [
        (wide(), {"known": "prcie"}, "no column 'prcie' .* did you mean 'price'"),
        (long(), {"past": "tmep"}, "no column 'tmep' .* did you mean 'temp'"),
        (long(), {"known": "y"}, "'y' holds the target; it cannot be a covariate, too"),
        (long(), {"static": "unique_id"}, "'unique_id' holds the series; it cannot be a covariate"),
        (wide(), {"known": "price", "past": "price"}, "'price' has two roles; give it one"),
        (wide(), {"known": ["price", "price"]}, "'price' is there twice; name it once"),
        (wide(), {"known": ["load", "price", "wind", "temp"]}, "no target is left"),
        (wide().assign(flat=1.0), {"known": "flat"}, "'flat' never changes in the training part"),
        (wide().assign(flat=1.0), {"past": "flat"}, "'flat' never changes in the training part"),
        (wide().resample("D").mean().iloc[:16], {"calendar": "hour"}, "'hour_sin1' never changes"),
        (wide().mask(wide() > 1), {"known": "price"}, r"'price' is to be known ahead and has \d+ missing values"),
        (wide(), {"static": "price"}, "--static is for long tables"),
        (long(), {"static": "temp"}, "'temp' is not static, it changes within series 'load'"),
        (long().assign(shop=None), {"static": "shop"}, "static column 'shop' has missing values"),
        (long().iloc[50:], {"known": "price"}, "series differ in length; covariates need"),
        (wide(), {"calendar": "days"}, "unknown calendar 'days'; choose among hour, weekday, year"),
        (wide().reset_index(drop=True).rename_axis("time"), {"calendar": "hour"}, "numbered rows have no calendar"),
        (wide().assign(hour_sin1=1.0), {"calendar": "hour"}, "hour_sin1 are called as those of the calendar"),
        (wide(), {"known": 3}, "known=3: expected names of columns"),
    ],
)
def test_what_cannot_be_a_covariate_is_refused(table: pd.DataFrame, roles: dict[str, Any], message: str) -> None:
    with pytest.raises(hdt.InputError, match=message):
        hdt.load(table, **roles)


def test_the_calendar_tells_hour_weekday_and_day_of_the_year_by_the_clock_of_its_zone() -> None:
    stamps = pd.date_range("2024-01-01", periods=9000, freq="h", tz="UTC").tz_convert("Europe/Berlin")
    for cycle, length, truth in (("hour", 24, stamps.hour), ("weekday", 7, stamps.day_of_week)):
        sine, cosine = calendar(stamps, [cycle])[:, :2].T
        turned = np.arctan2(sine, cosine) * length / (2 * np.pi)
        np.testing.assert_allclose((turned - truth + length / 2) % length - length / 2, 0, atol=1e-9)
    week = calendar(stamps, ["weekday"])
    seven = np.unique(week.round(9), axis=0)
    assert seven.shape == (7, 6) and np.linalg.matrix_rank(np.c_[seven, np.ones(7)]) == 7  # any profile of a week
    year = calendar(pd.DatetimeIndex(["2023-01-01", "2024-01-01", "2023-12-31"]), ["year"])
    np.testing.assert_allclose(year[0], year[1], atol=1e-12)
    np.testing.assert_allclose(year[0], year[2], atol=0.04)


@pytest.mark.parametrize("hour", [0, 7, 18])
def test_the_hour_of_a_series_that_is_a_function_of_the_hour_is_found(hour: int) -> None:
    table = by_hour()
    panel = hdt.load(table, calendar="hour")
    real = torch.tensor(np.concatenate([table, panel.covariates.values[:, 0]], axis=1), dtype=torch.float32)
    made = torch.tensor(DAILY[(hour + np.arange(60)) % 24], dtype=torch.float32)[None, :, None].expand(3, -1, 2)
    row = joint.stretch(made, real, Roles(2, 0, 4), pooled=False)
    assert table.index[row].hour == hour
    assert table.index[joint.stretch(made[..., :1], real, Roles(2, 0, 4), pooled=True)].hour == hour


def test_the_stretch_of_a_price_is_found_to_the_row() -> None:
    price = np.random.default_rng(0).normal(size=(300, 2))  # of each series its own
    real = torch.tensor(np.concatenate([price[:, ::-1] * [2, -1], price[:, ::-1]], axis=1), dtype=torch.float32)
    roles = Roles(2, 0, 1, groups=2)
    assert joint.stretch(real[None, 133:183, :2], real, roles, pooled=False) == 133


@pytest.mark.parametrize(("method", "least"), [("wiener", 0.8), ("fred-wiener", 0.7), ("hdt", 0.4)])
def test_hours_of_a_distilled_set_are_true_to_its_values(method: str, least: float) -> None:
    # Two sequences of hdt have phases of their own, and one stretch for both.
    more = {"iterations": 60, "learning_rate": 0.1} if "wiener" in method else {"iterations": 5, "k": 8}
    tiny = TINY if "wiener" in method else {name: TINY[name] for name in ("length", "context", "horizon")}
    table = by_hour(columns=1)
    made = hdt.distill(table, method=method, calendar="hour", **{**tiny, **more}).to_long()
    truth = table.groupby(table.index.hour).mean()["c0"]
    profile = made.groupby(made["ds"].dt.hour)["y"].mean()
    assert np.corrcoef(profile, truth)[0, 1] > least
    np.testing.assert_allclose(made["hour_sin1"], np.sin(2 * np.pi * made["ds"].dt.hour / 24), atol=1e-12)
    assert made["ds"].isin(table.index).all()


def test_moments_with_covariates_are_those_of_windows() -> None:
    table = torch.tensor(wide(120)[["load", "wind", "temp", "price"]].to_numpy(), dtype=torch.float32)
    roles, context, horizon = Roles(2, 1, 1), 5, 3
    found = joint.joint(table, roles, context, horizon, table[20:80, 3:], most=10_000)
    phi, y = [], []
    for n in range(120 - 8 + 1):
        window = table[n : n + 8].double()
        beside = torch.cat([window[:, 3], window[:5, 2]]) / 8**0.5
        for c in range(2):
            level = window[:5, c].mean()
            phi.append(torch.cat([window[:5, c] - level, beside @ found.axes.double(), torch.ones(1).double()]))
            y.append(window[5:, c] - level)
    phi, y = torch.stack(phi), torch.stack(y)
    assert found.axes.shape == (13, 13)  # all of 8 prices and 5 temperatures
    torch.testing.assert_close(found.axes.T @ found.axes, torch.eye(13), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.real.features, phi.T @ phi / len(phi), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.real.cross, phi.T @ y / len(phi), rtol=1e-4, atol=1e-5)
    weights = torch.linalg.lstsq(phi, y).solution
    assert found.real.loss(weights).item() == pytest.approx(
        (y - phi @ weights).square().sum().item() / len(y), rel=1e-4
    )
    own = found.of(table[None, 20:80, :3])
    alone = joint.joint(table[20:80], roles, context, horizon, table[20:80, 3:], most=10_000)
    assert own.target.item() == pytest.approx(alone.real.target.item(), rel=1e-5)


def test_a_calendar_has_few_axes() -> None:
    panel = hdt.load(by_hour(), calendar=["hour", "weekday"])
    real = torch.tensor(np.concatenate([panel.values, panel.covariates.values[:, 0]], axis=1), dtype=torch.float32)
    axes = joint.joint(real, Roles(2, 0, 10), 12, 6, real[:72, 2:], most=1000).axes
    assert axes.shape[0] == 180 and 4 <= axes.shape[1] <= joint.MOST


def ahead(context: int, horizon: int, channels: int) -> nn.Module:
    """Forecasts from what is known ahead alone."""
    return Ahead(horizon)


ahead.takes_known = True


class Ahead(nn.Module):
    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.horizon, self.scale = horizon, nn.Parameter(torch.zeros(1))

    def forward(self, context: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        return (self.scale * known[:, -self.horizon :, :, 0]).expand(-1, -1, context.shape[2])


def test_a_set_teaches_what_only_the_price_tells_and_no_other_column_is_scored() -> None:
    table = wide(600)
    table["load"], table["wind"] = 3 * table["price"] + 0.1 * table["load"], table["price"] + 0.1 * table["wind"]
    distilled = hdt.distill(table, method="wiener", known="price", past="temp", iterations=60, **TINY)
    quick = Training(lr=0.05, epochs=4, min_steps=60)
    rows = hdt.evaluate(distilled, table, students=[hdt.wrap(ahead, "ahead", quick), "dlinear"], seeds=1)
    mse = rows.set_index(["student", "trained_on"])["mse"]
    assert mse["ahead", "full"] < 0.1 and mse["ahead", "random"] < 0.1 and mse["ahead", "distilled"] < 0.3
    assert mse["dlinear", "full"] > 0.8  # the past tells nothing
    alone = Evaluator(hdt.load(table.drop(columns=["price", "temp"])), 12, 6)
    beside = Evaluator(hdt.load(table, known="price", past="temp"), 12, 6)
    both = [each.score("dlinear", each.train[None], 0) for each in (alone, beside)]
    assert {**both[0], "train_seconds": 0} == pytest.approx({**both[1], "train_seconds": 0}, rel=1e-12)
    assert alone.score_naive("last value") == pytest.approx(beside.score_naive("last value"), rel=1e-12)
    assert alone.key("dlinear", 0) != beside.key("dlinear", 0)


def test_random_segments_keep_their_own_covariates() -> None:
    evaluator = Evaluator(hdt.load(wide(), known="price", calendar="hour"), 12, 6)
    for segment in evaluator.segments(2, 48, 1, seed=3):
        rows = [n for n in range(len(evaluator.train)) if torch.equal(evaluator.train[n, -1], segment[0, -1])]
        torch.testing.assert_close(segment[:, 1:], evaluator.train[rows[0] : rows[0] + 48, -5:], rtol=0, atol=0)
        assert segment.shape == (48, 6)


def test_itransformer_takes_columns_known_ahead_as_tokens() -> None:
    roles = Roles(2, 1, 3)
    student = build("itransformer", 12, 6, 3, 0, roles=roles).eval()
    plain = build("itransformer", 12, 6, 3, 0).eval()
    both = windows(torch.randn(1, 30, 6), 12, 6)[0]
    forecast = student.of(both)
    assert forecast.shape == (13, 6, 2) and student.scored(6) == 2
    other = both.clone()
    other[:, -1, -1] += 3  # the last step of the horizon of a known column
    assert not torch.allclose(student.of(other), forecast)
    other[:, 12:, :3] += 5  # targets and temperatures of the horizon are not seen
    torch.testing.assert_close(student.of(other), student.of(torch.cat([both[..., :3], other[..., 3:]], dim=2)))
    same = {name: tensor for name, tensor in student.state_dict().items() if not name.startswith("ahead")}
    assert same.keys() == plain.state_dict().keys()
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in same.items())


@pytest.mark.parametrize("kind", ["wide", "long"])
def test_frames_and_folders_carry_them(kind: str, tmp_path: Path) -> None:
    table = wide() if kind == "wide" else long()
    static = {} if kind == "wide" else {"static": ["shop", "size"]}
    roles = {"known": ["price"], "past": ["temp"], "calendar": ["hour"], **static}
    made = hdt.distill(table, method="fred-wiener", iterations=2, **roles, **TINY)
    frame, rows = made.to_long(), len(made.values) * 2 * 72
    columns = [*(f"hour_{part}{n}" for n in (1, 2) for part in ("sin", "cos")), "price", "temp"]
    assert len(frame) == rows and set(columns) <= set(frame.columns)
    series = sorted(frame["unique_id"].unique())
    assert len(series) == 2 * len(made.values)
    source = table.set_index(table.index if kind == "wide" else "ds")
    for label, own in frame.groupby("unique_id"):
        truth = source if kind == "wide" else source[source["unique_id"] == label.partition("/")[0]]
        np.testing.assert_allclose(own["price"], truth["price"].loc[own["ds"]], rtol=1e-12)
    assert made.exogenous["futr_exog_list"] == [*columns[:-1]] and made.exogenous["hist_exog_list"] == ["temp"]
    joined, validation = made.to_long(joined=True), made.real_validation()
    assert set(joined) == {*frame, "available_mask"} and set(validation) == set(frame)
    np.testing.assert_array_equal(
        validation[validation["unique_id"] == series[0]]["price"],
        (source if kind == "wide" else source[source["unique_id"] == "load"])["price"].iloc[280:320],
    )
    if static:
        assert made.to_static()["shop"].value_counts().to_dict() == dict.fromkeys(("north", "south"), len(made.values))
    else:
        with pytest.raises(hdt.InputError, match="no static columns"):
            made.to_static()
    numbers = sum(array.size for array in made.params.values())
    assert made.info.floats == numbers + 72 * (1 if kind == "wide" else 2)
    made.save(tmp_path / "r")
    again = hdt.Distilled.load(tmp_path / "r")
    pd.testing.assert_frame_equal(made.to_frame(), again.to_frame())
    np.testing.assert_array_equal(made.seen, again.seen)
    facts = json.loads((tmp_path / "r/run.json").read_text())
    facts["data"]["covariates"]["calendar"] = []
    (tmp_path / "r/run.json").write_text(json.dumps(facts))
    with pytest.raises(hdt.InputError, match="columns known ahead"):
        hdt.Distilled.load(tmp_path / "r")


def test_a_run_without_covariates_says_nothing_of_them() -> None:
    made = hdt.distill(wide(), **SMALL)
    assert "covariates" not in made.info.model_dump_json() and made.given is None and made.seen is made.values
    assert made.exogenous == {"futr_exog_list": [], "hist_exog_list": [], "stat_exog_list": []}
    assert "beside" not in hdt.distill(wide(), method="wiener", iterations=1, **TINY).info.settings.options


def test_what_a_distillation_would_take_apart_is_refused() -> None:
    few = {"method": "wiener", "channels": 1, "iterations": 1, **TINY}
    with pytest.raises(hdt.InputError, match="belong to each; give --channels all"):
        hdt.distill(wide(), past="temp", **few)
    with pytest.raises(hdt.InputError, match="belong to each; give --channels all"):
        hdt.distill(long(), known="price", **few)
    with pytest.raises(hdt.InputError, match="give --channel-batch 3"):
        hdt.distill(wide(), known="price", **{**few, "channels": None, "channel_batch": 1})
    shared = hdt.distill(wide(), known="price", **few)  # of all channels alike
    assert shared.seen.shape == (2, 72, 2) and "price" in shared.to_frame()
    with pytest.raises(hdt.InputError, match="fine-tuning takes no covariates"):
        hdt.finetune(shared, model="dlinear", data=wide())


def test_data_in_other_roles_are_not_those_of_the_run() -> None:
    made = hdt.distill(wide(), calendar="hour", **SMALL)
    with pytest.raises(hdt.InputError, match=r"this run has the covariates .*hour_cos1.* and these data \[\]"):
        hdt.evaluate(made, hdt.load(wide()), seeds=1)


def test_flags_reach_the_run_its_recipe_and_what_reads_it(run: Run, tmp_path: Path) -> None:
    wide().to_csv("plant.csv")
    roles = ("--known", "price", "--past", "temp", "--calendar", "hour", "--calendar", "weekday")
    told = json.loads(run("data", "info", "plant.csv", *roles, "--json").out)
    assert told["columns"] == ["load", "wind"] and told["past"] == ["temp"] and told["known"][-1] == "price"
    words = ("--length", 48, "--context", 12, "--horizon", 6, "--k", 6, "--iterations", 1)
    assert run("distill", "plant.csv", *roles, *words, "--out", "r").code == 0
    first = Path("r/recipe.yaml").read_text().splitlines()[0]
    assert "--known price --past temp --calendar hour --calendar weekday" in first
    assert run("distill", "--recipe", "r/recipe.yaml", "--out", "again").code == 0
    both = [pd.read_parquet(f"{folder}/synthetic.parquet") for folder in ("r", "again")]
    pd.testing.assert_frame_equal(*both, check_exact=True)
    done = run("evaluate", "r", "--seeds", 1, "--json")
    assert done.code == 0 and len(json.loads(done.out)["rows"]) >= 4
    refused(run("distill", "plant.csv", "--known", "prize", *words), "no column 'prize'.*did you mean 'price'")
    refused(run("distill", "plant.csv", *roles, "--method", "wiener", "--state", *words[:6]), "covariates")


def test_the_names_of_students_with_covariates_are_those_that_take_them() -> None:
    assert [name for name in STUDENTS if STUDENTS[name].takes_known] == ["itransformer"]


def test_covariates_go_with_no_transform_and_no_quantiles() -> None:
    frame = make_frame(columns=("load", "price"))
    with pytest.raises(hdt.InputError, match=r"^frame: --transform is for tables without covariates; leave one"):
        hdt.load(frame, known=["price"], transform="difference")
    distilled = hdt.distill(frame, **SMALL, known=["price"])
    with pytest.raises(hdt.InputError, match=r"^--quantiles: frame has covariates"):
        hdt.evaluate(distilled, quantiles=True, seeds=1)
