from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, Ready, make_frame

import hdt
from hdt.distillation.config import resolve
from hdt.distillation.loop import objective_of, optimise
from hdt.distillation.methods import METHODS
from hdt.maths import distance
from hdt.maths.distance import nearest_distance
from hdt.objective import OBJECTIVES
from hdt.parameterization import PARAMETERIZATIONS, Size, build
from hdt.start import STARTS, real_segments

EXPERTS = {"iterations": 30, "learning_rate": 0.05, "experts": 1, "expert_epochs": 2, "max_start": 1, "inner_batch": 8}
QUICK = {
    "harmonic": {"iterations": 30, "segments": 32, "k": 6},
    "gradient": {"iterations": 30, "segments": 32},
    "wiener": {"iterations": 60, "features": 16, "draws": 1},
    "dc": {"iterations": 30, "learning_rate": 0.05, "matches": 1},
    "mtt": EXPERTS,
    "condtsf": EXPERTS,
    "cfm": {"iterations": 60, "learning_rate": 0.05, "teacher_epochs": 1, "batches": 2},
    "none": {"iterations": 0},
}
FITTING = {"nsd": {"group": 2, "instance_rank": 1, "cycle_rank": 1}}  # the test sets are small for its default ranks
PAIRS = [(p, o, "phase") for p in PARAMETERIZATIONS for o in OBJECTIVES]
PAIRS += [(p, "wiener", s) for p in PARAMETERIZATIONS for s in STARTS if s != "phase"]


def files(distilled: hdt.Distilled, folder: str) -> dict[str, bytes]:
    path = distilled.save(folder)
    return {name: (path / name).read_bytes() for name in ("synthetic.parquet", "params.safetensors", "metrics.jsonl")}


def test_equal_seeds_give_equal_bytes_and_other_seeds_others(frame: pd.DataFrame) -> None:
    first, second = (files(hdt.distill(frame, seed=3, **SMALL), name) for name in ("a", "b"))
    assert first == second
    third = files(hdt.distill(frame, seed=4, **SMALL), "c")
    assert all(third[name] != first[name] for name in first)


@pytest.mark.parametrize("method", ["wiener", "fred-wiener"])
def test_the_number_of_threads_does_not_show(method: str) -> None:
    """At a size where torch splits a sum among its threads, from 32,768 numbers on, and LAPACK a factorisation."""
    settings = {"method": method, "length": 384, "context": 96, "horizon": 96, "draws": 1, "iterations": 2}
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            distilled = hdt.distill(make_frame(1500), **settings)
            found.append((distilled.values.tobytes(), distilled.history))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(1)
    assert found[0] == found[1]


def test_distillation_ignores_and_keeps_the_global_random_state(frame: pd.DataFrame) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state()
    first = hdt.distill(frame, **SMALL)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    np.testing.assert_array_equal(hdt.distill(frame, **SMALL).values, first.values)


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e12])
def test_poisoned_validation_and_test_parts_leave_the_distilled_bytes_identical(poison: float) -> None:
    clean, poisoned = make_frame(), make_frame()
    poisoned.iloc[280:] = poison
    assert files(hdt.distill(clean, **SMALL), "clean") == files(hdt.distill(poisoned, **SMALL), "poisoned")


@pytest.mark.parametrize("method", METHODS)
def test_no_method_reads_beyond_the_training_part(method: str) -> None:
    small = {name: value for name, value in SMALL.items() if name != "k"} | QUICK[METHODS[method].objective]
    small["iterations"] = min(small["iterations"], 3)
    small |= FITTING.get(METHODS[method].parameterization, {})
    clean, poisoned = make_frame(), make_frame()
    poisoned.iloc[280:] = np.nan
    first, second = (files(hdt.distill(f, method=method, **small), name) for f, name in [(clean, "a"), (poisoned, "b")])
    assert first == second


def test_poisoning_real_data_leaves_the_distilled_bytes_identical(data_dir: object) -> None:
    panel = hdt.load("ETTh1")
    values = panel.values.copy()
    values[panel.borders[0] :] = np.nan
    poisoned = pd.DataFrame(values, index=panel.index, columns=list(panel.columns))
    first = hdt.distill("ETTh1", iterations=2)
    second = hdt.distill(poisoned.rename_axis("date"), iterations=2, split=panel.borders)
    assert files(first, "clean") == files(second, "poisoned")


def test_the_training_part_does_matter() -> None:
    other = make_frame()
    other.iloc[5, 0] += 1.0
    assert not np.array_equal(hdt.distill(make_frame(), **SMALL).values, hdt.distill(other, **SMALL).values)


@pytest.mark.parametrize(("parameterization", "objective", "start"), PAIRS)
def test_any_pair_runs_at_no_more_floats_and_learns(parameterization: str, objective: str, start: str) -> None:
    small = {key: value for key, value in SMALL.items() if key != "k"} | QUICK[objective]
    small |= FITTING.get(parameterization, {})
    distilled = hdt.distill(make_frame(), parameterization=parameterization, objective=objective, start=start, **small)
    losses = [entry["loss"] for entry in distilled.history]
    assert np.isfinite(distilled.values).all()
    assert objective == "none" or np.mean(losses[-5:]) < np.mean(losses[:5])
    assert distilled.info.floats == sum(array.size for array in distilled.params.values()) <= 48 * 2
    assert distilled.info.floats == 48 * 2 or parameterization in ("fred", "nsd")
    assert (distilled.info.distance.start is None) == (start == "phase")


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "none"])
def test_the_gradient_reaches_every_learned_parameter(parameterization: str, objective: str) -> None:
    panel = hdt.load(make_frame())
    train = torch.tensor(panel.part("train"), dtype=torch.float32)
    given = {key: value for key, value in SMALL.items() if key != "k"} | QUICK[objective]
    given |= FITTING.get(parameterization, {})
    settings = resolve(None, parameterization=parameterization, objective=objective, **given)
    kind = build(parameterization, Size(1, settings.length, 2), settings.options)
    generator = torch.Generator().manual_seed(0)
    kind.prepare(train, generator)
    scored = Ready(objective_of(settings), train)
    params = kind.encode(real_segments(train, kind.instances(), settings.length, generator))
    learned = {name: tensor.requires_grad_() for name, tensor in params.items() if name not in kind.fixed}
    loss, _ = scored.loss(kind.decode(params), generator)
    loss.backward()
    assert loss.isfinite()
    for tensor in learned.values():
        assert tensor.grad is not None and tensor.grad.isfinite().all() and tensor.grad.any()


def test_without_iterations_the_start_comes_back() -> None:
    panel = hdt.load(make_frame())
    train = torch.tensor(panel.part("train"), dtype=torch.float32)
    outcome = optimise(train, resolve(None, **{**SMALL, "iterations": 0}, start="real"))
    torch.testing.assert_close(outcome.series, outcome.started)
    assert outcome.history == []


def test_a_diverging_run_says_what_to_lower(frame: pd.DataFrame) -> None:
    with pytest.raises(hdt.InputError, match=r"loss became nan at iteration \d+; lower --learning-rate"):
        hdt.distill(frame, **{**SMALL, "iterations": 200}, inner_lr=1e30)


@pytest.mark.parametrize("at_once", [2, 64])
def test_nearest_distance_equals_brute_force(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distance, "CHANNELS", at_once)
    rng = np.random.default_rng(0)
    series, synthetic = rng.normal(size=(50, 3)), rng.normal(size=(2, 8, 3))
    brute = min(np.sqrt(np.mean((series[t : t + 8] - sequence) ** 2)) for t in range(43) for sequence in synthetic)
    assert nearest_distance(synthetic, series) == pytest.approx(brute)
    assert nearest_distance(series[None, 11:19], series) == pytest.approx(0, abs=1e-6)
