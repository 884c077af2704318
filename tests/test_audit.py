"""What a set gives away: distances by hand, an attack that must find what is there and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import make_frame, refused

import hdt
from hdt.evaluation import audit
from hdt.maths.windows import spread
from hdt.run.distilled import Distilled

SMALL = {"length": 48, "context": 12, "horizon": 6, "iterations": 3, "method": "wiener", "options": {"draws": 1}}


@pytest.fixture
def distilled(frame: pd.DataFrame) -> Distilled:
    return hdt.distill(frame, **SMALL)


def test_distances_are_those_of_all_pairs(distilled: Distilled) -> None:
    train = distilled.panel.part("train")
    every = [train[t : t + 18] for t in range(len(train) - 17)]
    apart = [
        min(np.sqrt(((one - other) ** 2).mean()) for u, other in enumerate(every) if abs(t - u) >= 18)
        for t, one in enumerate(every)
        if t in set(spread(len(every), 256).tolist())
    ]
    own = [distilled.values[0, t : t + 18] for t in range(31)]
    made = [min(np.sqrt(((one - other) ** 2).mean()) for other in every) for one in own]
    synthetic, real, nearer = audit.nearness(distilled, distilled.panel)
    assert synthetic.closest == pytest.approx(min(made)) and synthetic.median == pytest.approx(np.median(made))
    assert real.five_percent == pytest.approx(np.quantile(apart, 0.05))
    assert nearer == pytest.approx(np.mean(np.array(made) < np.quantile(apart, 0.05)))


@pytest.mark.parametrize("channels", [None, 1])
def test_a_copy_is_nearer_than_anything(frame: pd.DataFrame, channels: int | None) -> None:
    copied = hdt.distill(frame, **{**SMALL, "method": "random", "options": {}, "iterations": 0, "channels": channels})
    synthetic, _, nearer = audit.nearness(copied, copied.panel)
    assert synthetic.median == pytest.approx(0, abs=1e-6) and nearer == 1


def test_a_shadow_sees_its_members_alone(distilled: Distilled) -> None:
    panel, member = distilled.panel, np.zeros(15, dtype=bool)
    member[[0, 1, 2, 5, 8, 9, 13]] = True
    made = audit.shadow(distilled, panel, member, 3)
    poisoned = panel.values.copy()
    poisoned[:270][np.repeat(~member, 18)] = 1e6
    again = audit.shadow(distilled, replace(panel, values=poisoned), member, 3)
    assert made.values.tobytes() == again.values.tobytes()
    other = panel.values.copy()
    other[90] += 1  # of a member
    assert audit.shadow(distilled, replace(panel, values=other), member, 3).values.tobytes() != made.values.tobytes()


def test_the_attack_finds_what_is_there_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    member = rng.random((8, 200)) < 0.5
    hard = rng.normal(size=(1, 200, 1)) * 3  # some blocks are hard for every set
    noise = hard + rng.normal(size=(8, 200, 2))
    assert abs(audit.attack(noise, member).mean() - 0.5) < 0.04
    known = noise - 2 * member[..., None]
    assert (audit.attack(known, member) > 0.9).all()
    one = np.stack([noise[..., 0], known[..., 1]], axis=-1)
    assert 0.8 < audit.attack(one, member).mean() < audit.attack(known, member).mean()


def test_a_set_that_holds_its_members_is_told(frame: pd.DataFrame) -> None:
    settings = {**SMALL, "method": "random", "options": {}, "iterations": 0, "length": 252}
    found = audit.audit(hdt.distill(frame, **settings), shadows=4)
    assert found.auc > 0.8 and found.blocks == 15 and found.nearer == 1


def test_the_command_tells_both(frame: pd.DataFrame, run: Any) -> None:
    frame.rename_axis("date").to_csv("plant.csv")
    hdt.distill("plant.csv", **SMALL).save("r")
    result = run("audit", "r", "--shadows", 2)
    assert result.code == 0 and "membership attack: AUC" in result.out and "alike: 5%" in result.out
    told = json.loads(run("audit", "r", "--shadows", 2, "--json").out)
    assert told["blocks"] == 15 and told["auc_low"] <= told["auc"] <= told["auc_high"]
    assert sorted(path.name for path in Path("r").iterdir() if path.name.startswith("audit")) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shadows", 1), "shadows=1: two at least"),
        (("--seed", -1), "seed=-1: expected 0 to"),
        (("--data", "no.csv"), "no.csv"),
    ],
)
def test_bad_input_is_refused(words: tuple[Any, ...], message: str, frame: pd.DataFrame, run: Any) -> None:
    frame.rename_axis("date").to_csv("plant.csv")
    hdt.distill("plant.csv", **SMALL).save("r")
    refused(run("audit", "r", *words), message)


def test_what_an_audit_cannot_take(frame: pd.DataFrame, run: Any) -> None:
    short = hdt.distill(make_frame(180), **SMALL)
    with pytest.raises(hdt.InputError, match=r"126 training rows are 7 blocks of context \+ horizon = 18 steps; 8 at"):
        audit.audit(short)
    long = pd.concat([frame.iloc[n:, :1].assign(unique_id=str(n)) for n in (0, 40)]).rename_axis("ds").reset_index()
    unequal = hdt.distill(long.rename(columns={"load": "y"}), **SMALL)
    with pytest.raises(hdt.InputError, match="its series differ in length"):
        audit.audit(unequal)
