"""Search spaces, searches on a distilled set, and how far rankings agree."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Result, make_frame, refused
from scipy import stats
from torch import nn

import hdt
from hdt.evaluation.protocol import Evaluator
from hdt.maths.windows import windows
from hdt.selection import leaderboard, ranking, study
from hdt.selection.ranking import agreement, agreements, rank, training_set
from hdt.selection.space import TRAINING, Between, Choices, Configuration, Space
from hdt.students import STUDENTS, Training, build
from hdt.system import folders
from hdt.training.errors import errors
from hdt.training.fit import Running, fit
from hdt.training.loop import Diverged

Run = Callable[..., Result]
QUICK = {"epochs": 2, "min_steps": 10}
SPACE = {
    "dlinear": {"lr": {"log": [1e-4, 1e-1]}, "kernel": [3, 5, 9], **QUICK},
    "mlp": {"lr": {"log": [1e-4, 1e-1]}, "width": {"range": [4, 32]}, **QUICK},
}


@pytest.fixture
def distilled(frame: pd.DataFrame) -> hdt.Distilled:
    return hdt.distill(frame, method="random", length=48, context=12, horizon=6)


def evaluator_of(distilled: hdt.Distilled) -> Evaluator:
    assert distilled.panel is not None
    return Evaluator(distilled.panel, 12, 6, device="cpu")


def test_a_space_is_read_from_yaml_and_json_alike(tmp_path: Path) -> None:
    text = "dlinear:\n  lr: {log: [1e-4, 1e-1]}\n  kernel: [3, 5]\n  batch: 16\nmlp:\n"
    Path("s.yaml").write_text(text, encoding="utf-8")
    content = {"dlinear": {"lr": {"log": [0.0001, 0.1]}, "kernel": [3, 5], "batch": 16}, "mlp": None}
    Path("s.json").write_text(json.dumps(content), encoding="utf-8")
    space = Space.read("s.yaml")
    expected = {"lr": Between(1e-4, 1e-1, True), "kernel": Choices((3, 5)), "batch": Choices((16,))}
    assert space.students == {"dlinear": expected, "mlp": {}}
    assert Space.read("s.json").facts() == space.facts() == Space.of(content).facts()
    own = Configuration("dlinear", {"lr": 0.5, "kernel": 5, "shuffle_channels": True})
    usual = STUDENTS["dlinear"].training_settings
    assert own.training == replace(usual, lr=0.5, shuffle_channels=True)  # the rest is the student's own
    assert own.keywords == {"kernel": 5} and own.text == "lr 0.5, kernel 5, shuffle_channels true"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected students with their parameters"),
        ("[1]", "expected students with their parameters"),
        ("lstm: {lr: 1}", "s.yaml: unknown student 'lstm'; known: dlinear"),
        ("no_such:Net: {lr: 1}", "s.yaml: student 'no_such:Net' cannot be imported"),
        ("dlinear: 3", "dlinear: expected parameters by name"),
        ("dlinear: {kernle: [3]}", "dlinear: unknown parameter 'kernle'; known: batch, epochs, kernel, lr"),
        ("dlinear: {lr: 0}", r"dlinear: lr=0: Input should be greater than 0"),
        ("dlinear: {lr: {log: [-1, 1]}}", "lr=-1: Input should be greater than 0"),
        ("dlinear: {weight_decay: {log: [0, 1]}}", "log takes positive numbers"),
        ("dlinear: {batch: [1.5]}", "batch=1.5: Input should be a valid integer"),
        ("dlinear: {shuffle_channels: [2]}", "shuffle_channels=2: Input should be a valid boolean"),
        ("dlinear: {lr: {range: [2, 1]}}", "expected two numbers, the lower one first"),
        ("dlinear: {kernel: {range: [a, b]}}", "expected two numbers, the lower one first"),
        ("dlinear: {lr: {range: [1]}}", "expected a value, a list of choices"),
        ("dlinear: {lr: {between: [1, 2]}}", "expected a value, a list of choices"),
        ("dlinear: {lr: {}}", "expected a value, a list of choices"),
        ("dlinear: {lr: []}", "expected a value, a list of choices"),
        ("dlinear: {kernel: [null]}", "expected a value, a list of choices"),
        ("dlinear: {kernel: [.nan]}", "expected a value, a list of choices"),
        ("dlinear: {kernel: {range: [3, .inf]}}", "expected a value, a list of choices"),
        ("dlinear: {3: 4}", "3 is no name of a parameter"),
        ("3: {lr: 1}", "3 is no name of a student"),
        ("a: b: c", "cannot be read as YAML"),
    ],
)
def test_a_bad_space_is_refused(content: str, message: str) -> None:
    Path("s.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(hdt.InputError, match=message):
        Space.read("s.yaml")


def test_a_space_that_is_not_there_or_not_text_is_refused() -> None:
    with pytest.raises(hdt.InputError, match=r"s\.yaml: no such search space"):
        Space.read("s.yaml")
    Path("s.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(hdt.InputError, match="not a text in UTF-8"):
        Space.read("s.yaml")


def test_draws_fill_the_space() -> None:
    space = Space.of(
        {"mlp": {"lr": {"log": [1e-4, 1.0]}, "width": {"range": [1, 3]}, "depth": [1, 2],
                 "batch": {"log": [1, 100]}, "weight_decay": {"range": [0.0, 1.0]}}}
    )  # fmt: skip
    rng = np.random.default_rng(0)
    drawn = pd.DataFrame([space.draw("mlp", rng).values for _ in range(400)])
    assert set(drawn["width"]) == {1, 2, 3} and set(drawn["depth"]) == {1, 2}
    assert drawn["lr"].between(1e-4, 1).all() and -2.3 < np.log10(drawn["lr"]).median() < -1.7
    assert drawn["batch"].dtype == int and drawn["batch"].min() == 1 and 7 < drawn["batch"].median() < 14
    assert drawn["weight_decay"].between(0, 1).all() and 0.4 < drawn["weight_decay"].mean() < 0.6


def test_the_default_space_can_be_built_at_its_ends(distilled: hdt.Distilled) -> None:
    space = Space.read(None)
    assert set(space.students) == {"dlinear", "itransformer", "mlp", "xpatch"}
    space.check(evaluator_of(distilled), 2)


def test_agreement_by_hand() -> None:
    small, full = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([2.2, 2.0, 2.5, math.nan, 2.4])
    found = agreement(small, full, draws=50)
    pairs = [np.sign((small[j] - small[i]) * (f[j] - f[i])) for f in [np.nan_to_num(full, nan=9.0)]
             for i, j in combinations(range(5), 2)]  # fmt: skip
    assert found.kendall == pytest.approx(sum(pairs) / 10)
    assert found.spearman == pytest.approx(stats.spearmanr(small, np.nan_to_num(full, nan=9.0)).statistic)
    assert found.regret == pytest.approx(0.1) and found.count == 5
    assert found.kendall_low < found.kendall < found.kendall_high
    assert found == agreement(small, full, draws=50) != agreement(small, full, draws=50, seed=1)
    same = agreement(small, 2 * small, draws=50)
    assert (same.kendall_low, same.kendall_high, same.spearman, same.regret) == pytest.approx((1, 1, 1, 0))
    assert agreement(small, -small, draws=0).kendall == pytest.approx(-1)
    assert math.isnan(agreement(small, small, draws=0).kendall_low)
    assert agreement(small, np.array([math.nan, 1, 1, 1, 1]), draws=0).regret == math.inf
    assert math.isnan(agreement(small, np.ones(5), draws=5).kendall)
    with pytest.raises(hdt.InputError, match="two at least"):
        agreement(np.ones(1), np.ones(1))


def test_correlations_of_samples_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=12).round(), rng.normal(size=12).round(1)
    b[3] = np.inf
    drawn = rng.integers(12, size=(5, 12))
    weights = np.stack([np.bincount(some, minlength=12) for some in drawn])
    kendall, spearman = ranking.correlations(a, b, weights)
    assert kendall == pytest.approx([stats.kendalltau(a[some], b[some]).statistic for some in drawn])
    ranks = [(stats.rankdata(a[some]), stats.rankdata(b[some])) for some in drawn]
    assert spearman == pytest.approx([stats.pearsonr(*both).statistic for both in ranks])


def test_small_sets_are_of_real_data(distilled: hdt.Distilled) -> None:
    evaluator = evaluator_of(distilled)
    every = windows(evaluator.train, 12, 6)
    tenth = training_set("tenth", distilled, evaluator, seed=1)
    assert tenth.shape == (len(every) // 10, 18, 2)
    places = [[n for n, own in enumerate(every) if torch.equal(own, part)] for part in tenth]
    assert all(len(found) == 1 for found in places) and len({n for (n,) in places}) == len(tenth)
    assert not torch.equal(tenth, training_set("tenth", distilled, evaluator, seed=2))
    assert training_set("segment", distilled, evaluator, seed=1).shape == (1, 48, 2)
    assert torch.equal(training_set("full", distilled, evaluator, seed=1)[0], evaluator.train)
    assert torch.equal(training_set("epoch", distilled, evaluator, seed=1)[0], evaluator.train)
    own = Configuration("dlinear", {"batch": 7})
    assert ranking.running("epoch", evaluator, own).steps == math.ceil(len(every) / 7)
    assert ranking.running("full", evaluator, own).steps is None
    for name in ("full", "epoch"):
        assert torch.equal(training_set(name, distilled, evaluator, seed=1, stride=5), every[::5])
    assert ranking.running("epoch", evaluator, own, stride=5).steps == math.ceil(len(every[::5]) / 7)
    with pytest.raises(hdt.InputError, match="stride=0: expected 1, for every window, or more"):
        rank(distilled, [own], stride=0)
    with pytest.raises(hdt.InputError, match="unknown training set 'half'"):
        training_set("half", distilled, evaluator, seed=1)


def test_a_ranking_goes_on_where_it_was(distilled: hdt.Distilled, monkeypatch: pytest.MonkeyPatch) -> None:
    some = [Configuration("dlinear", {"lr": lr, "kernel": 3, **QUICK}) for lr in (1e-3, 1e-2, 1e30)]
    trained, score = [], ranking.score

    def counted(evaluator: Evaluator, own: Configuration, series: Any, seed: int, how: Running) -> dict[str, float]:
        if len(trained) == 5:
            trained.append("stopped")
            raise KeyboardInterrupt
        trained.append(own.text)
        return score(evaluator, own, series, seed, how)

    monkeypatch.setattr(ranking, "score", counted)
    with pytest.raises(KeyboardInterrupt):
        rank(distilled, some, out="ranks.csv")
    assert len(pd.read_csv("ranks.csv")) == 5
    table = rank(distilled, some, out="ranks.csv")
    assert len(trained) == 16 and len(table) == 15
    pd.testing.assert_frame_equal(table, pd.read_csv("ranks.csv"))
    assert table["mse"].isna().tolist() == [False] * 10 + [True] * 5  # the last diverged, everywhere
    direct = score(evaluator_of(distilled), some[1], training_set("tenth", distilled, evaluator_of(distilled), 0), 0)
    assert table["mse"][7] == pytest.approx(direct["mse"]) and table["trained_on"][7] == "tenth"
    more = rank(distilled, some[:2], out="ranks.csv", seeds=2)
    assert len(trained) == 26 and set(more["seed"]) == {0, 1}
    told = agreements(table)
    assert told["trained_on"].tolist() == ["distilled", "epoch", "segment", "tenth"] and (told["count"] == 3).all()
    wide = table.pivot_table(index="values", columns="trained_on", values=["mse", "validation_mse"], dropna=False)
    expected = agreement(wide["validation_mse"]["tenth"].to_numpy(), wide["mse"]["full"].to_numpy())
    assert told.iloc[3]["kendall"] == expected.kendall and told.iloc[3]["regret"] == expected.regret
    Path("ranks.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(hdt.InputError, match=r"ranks\.csv: cannot be read as a ranking"):
        rank(distilled, some, out="ranks.csv")


@pytest.mark.draws
def test_a_search_tries_on_the_distilled_set_and_trains_the_best_on_all(distilled: hdt.Distilled) -> None:
    found = hdt.search(distilled, SPACE, trials=6, top=2, prune=False, out="s")
    table, evaluator = found.table, evaluator_of(distilled)
    assert len(table) == 6 and table["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert table["full_validation_mse"].notna().tolist() == [True] * 2 + [False] * 4
    assert sorted(table["validation_mse"][:2]) == sorted(table["validation_mse"])[:2]
    assert table["full_validation_mse"][0] <= table["full_validation_mse"][1]
    for series, column in ((distilled.values, "validation_mse"), (evaluator.train[None], "full_validation_mse")):
        student = build(found.best.student, 12, 6, 2, 0, **found.best.keywords)
        run = fit(student, torch.as_tensor(series), evaluator.val, 0, found.best.training)
        assert run.validation == pytest.approx(table[column][0])
    assert evaluator.test_errors(student)["mse"] == pytest.approx(table["full_mse"][0])
    assert found.agreement is not None and found.agreement.count == 2
    order = table["validation_mse"][0] < table["validation_mse"][1]
    assert found.agreement.kendall == (1 if order else -1)
    assert found.agreement.regret == pytest.approx(
        0 if order else table["full_validation_mse"][1] / table["full_validation_mse"][0] - 1
    )
    pd.testing.assert_frame_equal(pd.read_csv("s/leaderboard.csv")[list(table.columns[:11])], table[table.columns[:11]])
    kept = json.loads(Path("s/leaderboard.json").read_text(encoding="utf-8"))
    assert kept["best"] == {"student": found.best.student, "values": dict(found.best.values)}
    assert {path.name for path in Path("s").iterdir()} == {
        "leaderboard.csv", "leaderboard.json", "leaderboard.png", "study.db",
    }  # fmt: skip


@pytest.mark.parametrize(("stop", "look"), [(4, 1), (6, 1)])
def test_an_interrupted_search_ends_as_one_in_one_go(
    distilled: hdt.Distilled, stop: int, look: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at a look of a trial, or of the training on all data, and given more trials later."""
    whole = hdt.search(distilled, SPACE, trials=7, top=1)
    looks: list[int] = []
    trained = Evaluator.trained

    def until(self: Evaluator, student: str, series: Any, seed: int, training: Any, running: Any, more: Any) -> Any:
        looks.append(0)

        def watch(step: int, steps: int, value: float) -> None:
            looks[-1] += 1
            if len(looks) == stop and looks[-1] == look:
                raise KeyboardInterrupt
            if running.watch is not None:
                running.watch(step, steps, value)

        return trained(self, student, series, seed, training, replace(running, watch=watch), more)

    monkeypatch.setattr(Evaluator, "trained", until)
    monkeypatch.setenv("HDT_CACHE_DIR", "another")
    with pytest.raises(KeyboardInterrupt):
        hdt.search(distilled, SPACE, trials=5, top=1, out="s")
    assert len(looks) == stop
    hdt.search(distilled, SPACE, trials=5, top=1, out="s")
    assert looks[stop - 1] == look and looks[stop] < max(looks)  # it went on from there
    found = hdt.search(distilled, SPACE, trials=7, top=1, out="s")
    drop = ["train_seconds", "full_train_seconds"]
    pd.testing.assert_frame_equal(found.table.drop(columns=drop), whole.table.drop(columns=drop))
    count = len(looks)
    hdt.search(distilled, SPACE, trials=7, top=1, out="s")
    assert len(looks) == count  # nothing is trained twice, on all data neither
    hdt.search(distilled, {"dlinear": SPACE["dlinear"]}, trials=1, top=0, out="s")
    hdt.search(distilled, dict(reversed(SPACE.items())), trials=1, top=0, out="s")
    assert len(looks) == count + 2  # other studies, in the same file
    assert not list(Path("s").glob(".*"))


def looked(own: Configuration, looks: study.Looks, errors: Callable[[Configuration, int], float]) -> dict[str, float]:
    """A training with 20 looks at the validation part, with these errors."""
    for n in range(1, 21):
        looks(n, 20, errors(own, n))
    return {"validation_mse": min(errors(own, n) for n in range(1, 21))}


def trials_of(
    space: dict[str, Any],
    count: int,
    prune: bool,
    errors: Callable[[Configuration, int], float],
    backwards: bool = False,
) -> Any:
    """A study whose trainings have these errors and end in either order."""
    trained = []

    def train(attempts: Sequence[study.Attempt], done: study.Done) -> None:
        for n, (own, looks) in sorted(enumerate(attempts), reverse=backwards):
            trained.append(own)
            done(n, study.outcome(own, partial(looked, own, looks, errors)))

    with study.opened(None, "x") as found:
        study.explore(found, Space.of(space), count, train, seed=0, prune=prune, watch=lambda done: None)
    return found, trained


def test_worse_trials_are_ended_early_once_ten_are_known() -> None:
    found, trained = trials_of({"dlinear": {"lr": {"range": [1.0, 4.0]}}}, 40, True, lambda own, n: own.values["lr"])
    assert len(trained) == len(found.trials) == 40
    ended = 0
    for n, trial in enumerate(found.trials):
        known = found.trials[: n - n % study.BATCH]
        part, status = 20, "complete"
        for rung in (12, 4):
            before = sorted(t.values[0] for t in known if max(t.intermediate_values) >= rung)
            if len(before) >= 10 and trial.params["dlinear.lr"] > before[(len(before) + 1) // 3 - 1]:
                part, status, ended = rung, "pruned", ended + (rung == 4)
        assert (max(trial.intermediate_values), trial.user_attrs["status"]) == (part, status)
    assert ended > 5
    none, _ = trials_of({"dlinear": {"lr": {"range": [1.0, 4.0]}}}, 20, False, lambda own, n: own.values["lr"])
    assert {trial.user_attrs["status"] for trial in none.trials} == {"complete"}


def test_equal_trials_are_not_trained_again() -> None:
    space = {"dlinear": {"lr": [1.0, 2.0, 3.0, 4.0]}}
    found, trained = trials_of(space, 30, True, lambda own, n: own.values["lr"] + 1 / n)
    assert len(trained) == len({own.text for own in trained}) == 4 and len(found.trials) == 30
    for trial in found.trials:
        first = next(t for t in found.trials if t.params == trial.params)
        assert trial.user_attrs.get("twin", trial.number) == first.number and trial.value == first.value


def test_neither_the_order_of_trainings_nor_more_trials_later_change_what_is_tried() -> None:
    space = {"dlinear": {"lr": {"log": [1e-3, 1.0]}}, "mlp": {"lr": {"log": [1e-3, 1.0]}}}

    def told(trials: Sequence[Any]) -> list[Any]:
        return [(t.params, t.value, t.state, t.intermediate_values, t.user_attrs) for t in trials]

    def error(own: Configuration, n: int) -> float:
        return abs(math.log10(own.values["lr"]) + 1) + 1 / n

    forth, _ = trials_of(space, 35, True, error)
    back, _ = trials_of(space, 35, True, error, backwards=True)
    assert told(forth.trials) == told(back.trials)
    assert len({str(t.params) for t in forth.trials}) == 35

    def train(attempts: Sequence[study.Attempt], done: study.Done) -> None:
        for n, (own, looks) in reversed(list(enumerate(attempts))):
            ended.append(own)
            if len(ended) in (3, 14, 30):
                raise KeyboardInterrupt
            done(n, study.outcome(own, partial(looked, own, looks, error)))

    ended: list[Configuration] = []
    with study.opened(None, "x") as found:
        for count in (5, 5, 17, 17, 35, 35):
            with suppress(KeyboardInterrupt):
                study.explore(found, Space.of(space), count, train, seed=0, prune=True, watch=lambda done: None)
        assert told(found.trials) == told(forth.trials) and len(ended) == 35 + 3


def test_two_looks_at_one_share_of_a_schedule_are_one() -> None:
    told: list[tuple[float, int]] = []
    looks = study.Looks({}, keep=lambda value, part: told.append((value, part)))
    for step in (50, 99, 100):
        looks(step, 100, 1.0)
    looks(100, 100, math.nan)
    assert told == [(1.0, 10), (1.0, 20)]


def test_tpe_learns_what_is_good() -> None:
    space = {"dlinear": {"lr": {"log": [1e-4, 1.0]}}, "mlp": {"lr": {"log": [1e-4, 1.0]}}}
    found, _ = trials_of(
        space, 40, False, lambda own, n: abs(math.log10(own.values["lr"]) + 1) + (own.student == "mlp")
    )
    late = [study.configuration(trial) for trial in found.trials[20:]]
    assert sum(own.student == "dlinear" for own in late) > 13
    assert np.median([abs(math.log10(own.values["lr"]) + 1) for own in late]) < 0.5  # 1 by chance


def test_a_diverging_trial_is_a_row_and_all_of_them_an_error(distilled: hdt.Distilled) -> None:
    found = hdt.search(distilled, {"dlinear": {"lr": [1e-3, 1e30], **QUICK}}, trials=8, top=2)
    assert found.table["status"].tolist() == ["complete", "diverged"] and found.agreement is None
    assert found.best.values["lr"] == 1e-3 and math.isnan(found.table["validation_mse"][1])
    with pytest.raises(hdt.InputError, match="every trial diverged; lower the learning rates of space"):
        hdt.search(distilled, {"dlinear": {"lr": 1e30, **QUICK}}, trials=2)


def test_one_that_diverges_on_all_data_is_last(distilled: hdt.Distilled, monkeypatch: pytest.MonkeyPatch) -> None:
    score = ranking.score

    def diverging(evaluator: Evaluator, own: Configuration, *rest: Any) -> dict[str, float]:
        if own.values["lr"] == 1e-2:
            raise Diverged("not finite")
        return score(evaluator, own, *rest)

    monkeypatch.setattr(ranking, "score", diverging)
    found = hdt.search(distilled, {"dlinear": {"lr": [1e-2, 1e-4], **QUICK}}, trials=8, top=2, out="s", prune=False)
    assert found.best.values["lr"] == 1e-4 and found.agreement is not None
    assert math.isnan(found.table["full_mse"][1]) and found.table["rank"].tolist() == [1, 2]


def test_only_the_best_on_all_data_read_the_test_part(frame: pd.DataFrame) -> None:
    def searched(data: pd.DataFrame, top: int) -> pd.DataFrame:
        distilled = hdt.distill(data, method="random", length=48, context=12, horizon=6)
        return hdt.search(distilled, SPACE, trials=3, top=top).table.drop(columns=["train_seconds"])

    other = frame.copy()
    other.iloc[-60:] = 7.0
    pd.testing.assert_frame_equal(searched(frame, 0), searched(other, 0))


@pytest.mark.skipif(find_spec("optuna") is None, reason="Optuna is not installed")
def test_regressors_and_their_parameters_are_searched(distilled: hdt.Distilled) -> None:
    space = {"sklearn:Ridge": {"alpha": {"log": [1e-3, 1e3]}}, "dlinear": QUICK}
    found = hdt.search(distilled, space, trials=5, top=1)
    ridges = found.table[found.table["student"] == "sklearn:Ridge"]
    assert len(ridges) >= 2 and ridges["alpha"].nunique() == ridges["validation_mse"].nunique() == len(ridges)
    with pytest.raises(hdt.InputError, match="sklearn:Ridge: unknown parameter 'depth'; known: alpha, copy_X"):
        Space.of({"sklearn:Ridge": {"depth": [1, 2]}})
    with pytest.raises(hdt.InputError, match="sklearn:Ridge: unknown parameter 'lr'"):
        Space.of({"sklearn:Ridge": {"lr": [1, 2]}})  # nothing is trained
    with pytest.raises(hdt.InputError, match="'seed' is no parameter that can be searched"):
        Space.of({"mlp": {"seed": [1, 2]}})


def test_those_that_diverge_on_all_data_come_behind_complete_ones() -> None:
    made = [
        leaderboard.Row(n, Configuration("mlp", {}), study.COMPLETE, error, 1.0, full)
        for n, (error, full) in enumerate(
            [(0.1, ranking.FAILED), (0.2, None), (0.3, {**ranking.FAILED, "validation_mse": 9.0})]
        )
    ]
    assert [row.trial for row in sorted(made, key=leaderboard.order)] == [2, 1, 0]


def test_a_student_of_ones_own_is_searched(distilled: hdt.Distilled) -> None:
    class Scaled(nn.Module):
        def __init__(self, context: int, horizon: int, channels: int, bias: bool = True) -> None:
            super().__init__()
            self.map = nn.Linear(context, horizon, bias=bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.map(x.transpose(1, 2)).transpose(1, 2)

    kind = hdt.wrap(Scaled, "scaled", Training(lr=1e-2, epochs=1, min_steps=5))
    found = hdt.search(distilled, {kind: {"bias": [True, False], "lr": {"log": [1e-3, 1e-1]}}}, trials=3, top=1)
    assert set(found.table["student"]) == {"scaled"} and found.table["bias"].notna().all()
    assert found.best.student == "scaled" and STUDENTS["scaled"] is kind
    if find_spec("ray") is not None:
        with pytest.raises(hdt.InputError, match="student scaled: other processes cannot see a class; give its path"):
            hdt.search(distilled, {kind: {}}, trials=3, engine="ray")


MODELS = """
from torch import nn

class Flat(nn.Module):
    def __init__(self, context, horizon, channels):
        super().__init__()
        self.map = nn.Linear(context * channels, 24)

    def forward(self, context):
        return self.map(context.flatten(1))

class Brittle(nn.Module):
    def __init__(self, context, horizon, channels, width=8):
        super().__init__()
        self.map = nn.Linear(context, horizon)

    def forward(self, context):
        if len(context) > 2:
            raise RuntimeError(f"{len(context)} are too many")
        return self.map(context.transpose(1, 2)).transpose(1, 2)

def picky(context, horizon, channels, width=8):
    if width % 2:
        raise ValueError(f"width {width} is odd")
    return nn.Sequential(nn.Flatten(), nn.Linear(context * channels, horizon * channels),
                         nn.Unflatten(1, (horizon, channels)))
"""


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a run made of it."""
    folder = tmp_path_factory.mktemp("run")
    make_frame().rename_axis("date").to_csv(folder / "plant.csv")
    hdt.distill(folder / "plant.csv", method="random", length=48, context=12, horizon=6).save(folder / "runs" / "r")
    return folder


@pytest.fixture
def saved(once: Path) -> Path:
    copytree(once, ".", dirs_exist_ok=True)
    Path("s.json").write_text(json.dumps(SPACE), encoding="utf-8")
    return Path("runs/r")


def test_the_command_prints_a_table_and_goes_on(saved: Path, run: Run) -> None:
    done = run("search", saved, "--space", "s.json", "--trials", 3, "--top", 2)
    assert done.code == 0, done.err
    assert "Kendall τ" in done.out and "regret" in done.out and "test, on all data" in done.out
    assert "optuna-dashboard sqlite:///runs/r-search/study.db" in done.err
    told = run("search", saved, "--space", "s.json", "--trials", 4, "--top", 2, "--json")
    fields = json.loads(told.out)
    assert set(fields) == {"schema_version", "best", "agreement", "rows", "out"} and len(fields["rows"]) == 4
    assert fields["agreement"]["count"] == 2 and fields["agreement"]["kendall_low"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trials", 0], "trials=0: at least one"),
        (["--top", -1], "top=-1: 0 or more"),
        (["--seed", -1], "seed=-1: expected 0"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--space", "even.yaml"], r"even.yaml: dlinear \(kernel 4\): dlinear: kernel=4: expected an odd number"),
        (["--space", "wrong.yaml"], "wrong.yaml: dlinear: unknown parameter 'kernle'; known: batch, epochs, kernel"),
        (["--workers", 2], "workers=2: a search shares its work with --engine ray"),
        (["--engine", "spark"], "unknown engine 'spark'; choose local or ray"),
        (["--space", "none.yaml"], "none.yaml: no such search space"),
        (["--out", "."], "exists and holds no search; choose another --out"),
        (
            ["--space", "flat.yaml"],
            r"flat.yaml: models_flat:Flat \(\): student 'models_flat:Flat': .* it made \(2, 24\)",
        ),
        (["--space", "picky.yaml"], r"picky.yaml: models_flat:picky \(width 7\): .*width 7 is odd"),
    ],
)
def test_bad_requests_end_with_2_and_one_line(saved: Path, run: Run, words: list[Any], message: str) -> None:
    Path("models_flat.py").write_text(MODELS, encoding="utf-8")
    Path("flat.yaml").write_text("models_flat:Flat:\n", encoding="utf-8")
    Path("even.yaml").write_text("dlinear: {kernel: 4}", encoding="utf-8")
    Path("wrong.yaml").write_text("dlinear: {kernle: 5}", encoding="utf-8")
    Path("picky.yaml").write_text("models_flat:picky: {width: [8, 7]}\n", encoding="utf-8")
    refused(run("search", saved, *words), message)
    assert not Path("runs/r-search").exists()


def test_a_missing_extra_is_named(saved: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "find_spec", lambda name: None if name == "optuna" else find_spec(name))
    refused(run("search", saved), r"Optuna is not installed; pip install 'hdt-ts\[search\]'")


def test_a_configuration_that_cannot_be_is_named_and_the_search_kept(saved: Path, run: Run) -> None:
    Path("s.yaml").write_text(
        "itransformer: {width: {range: [8, 80]}, layers: 1, epochs: 1, min_steps: 1}", encoding="utf-8"
    )
    refused(run("search", saved, "--space", "s.yaml"), r"itransformer \(width \d+, .*\): .* is no multiple of heads=8")
    assert Path("runs/r-search/study.db").exists()
    Path("models_brittle.py").write_text(MODELS, encoding="utf-8")
    Path("s.yaml").write_text("models_brittle:Brittle: {width: 8, batch: 16}", encoding="utf-8")
    failed = r"student 'models_brittle:Brittle' fails on a context \(16, 12, 2\) \(RuntimeError: 16 are too many\)"
    refused(run("search", saved, "--space", "s.yaml"), rf"models_brittle:Brittle \(width 8, batch 16\): {failed}")


def test_folders_of_any_name_hold_a_study(distilled: hdt.Distilled) -> None:
    for folder in ("a?b#{c} %41 é", "\udc80"):
        hdt.search(distilled, {"mlp": QUICK}, trials=1, top=0, out=folder)
        assert {path.name for path in Path(folder).iterdir()} == {
            "leaderboard.csv", "leaderboard.json", "leaderboard.png", "study.db",
        }  # fmt: skip
    assert len(list(Path().iterdir())) == 2


def test_a_damaged_study_and_a_busy_folder_are_refused(saved: Path, run: Run) -> None:
    target = Path("runs/r-search")
    with folders.alone(target, study.FILE, "search"):
        refused(run("search", saved, "--space", "s.json", "--trials", 1), "another search is at work here")
    (target / study.FILE).write_bytes(b"no database" * 100)
    refused(run("search", saved, "--space", "s.json", "--trials", 1), "study.db: cannot be opened as a study")


RECIPES = Path(__file__).parents[1] / "recipes"


def test_networks_of_the_recipe_forecast_and_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPES))
    space = Space.read(RECIPES / "ranking-space.yaml")
    assert len(space.students) == 7
    series = torch.tensor(make_frame(200).to_numpy(), dtype=torch.float32)
    for student in list(space.students)[4:]:
        for end in (0, 1):
            keywords = {name: p.ends[end] for name, p in space.students[student].items() if name not in TRAINING}
            network = build(student, 24, 6, 2, 0, **keywords)
            alone = network.eval()(series[None, :24])
            torch.testing.assert_close(alone[..., 1:], network(series[None, :24, 1:]))  # each channel by itself
            if student != "architectures:NLinear":  # level and scale come back
                torch.testing.assert_close(network(3 * series[None, :24] + 5), 3 * alone + 5, atol=1e-3, rtol=1e-3)
        usual = build(student, 24, 6, 2, 0)
        before = errors(usual, series).mse
        assert fit(usual, series[None], series, 0, Training(lr=1e-2, min_steps=30, epochs=1)).validation < before
    sys.modules.pop("architectures")


@pytest.mark.draws
def test_the_recipe_ranks_and_draws(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(RECIPES))
    import ranking as recipe

    words = ["ranking.py", str(saved), "--out", "ranks.csv", "--space", "s.json", "--each", "2"]
    monkeypatch.setattr(sys, "argv", words)
    recipe.main()
    table = pd.read_csv("ranks.csv")
    assert len(table) == 20 and table.groupby("student")["values"].nunique().tolist() == [2, 2]
    said = capsys.readouterr().out
    assert "0/20 dlinear on distilled, seed 0" in said and said.count("| tenth |") == 2
    table[:-1].to_csv("ranks.csv", index=False)  # one that is not complete is left out
    monkeypatch.setattr(sys, "argv", [*words, "--draw"])
    recipe.main()
    assert "ranks.png" in capsys.readouterr().out and Path("ranks.png").exists()
    assert len(recipe.whole(table[:-1])) == 15
    sys.modules.pop("ranking")
