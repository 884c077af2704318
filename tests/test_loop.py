from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

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
from hdt.objective import OBJECTIVES, Scored
from hdt.objective.wiener import Wiener
from hdt.parameterization import PARAMETERIZATIONS, Size, build
from hdt.parameterization.raw import Raw
from hdt.start import STARTS, real_segments
from hdt.system.machine import peak_rss_mb

EXPERTS = {"iterations": 30, "learning_rate": 0.05, "experts": 1, "expert_epochs": 2, "max_start": 1, "inner_batch": 8}
QUICK = {
    "harmonic": {"iterations": 30, "segments": 32, "k": 6},
    "gradient": {"iterations": 30, "segments": 32},
    "wiener": {"iterations": 60, "features": 16, "draws": 1},
    "harmonic-wiener": {"iterations": 60, "features": 16, "draws": 1},
    "hcdc": {"iterations": 30, "features": 16, "draws": 1, "points": 2},
    "dc": {"iterations": 30, "learning_rate": 0.05, "matches": 1},
    "mtt": EXPERTS,
    "condtsf": EXPERTS,
    "ddtime-like": EXPERTS,
    "timedc-like": {**EXPERTS, "target_epochs": 2, "steps_synthetic": 3},
    "stemdist": {"iterations": 60, "learning_rate": 0.1, "matches": 1},
    "cfm": {"iterations": 60, "learning_rate": 0.05, "teacher_epochs": 1, "batches": 2},
    "none": {"iterations": 0},
}
QUICK |= {name: {"iterations": 30} for name in OBJECTIVES if name not in QUICK}  # of a part that is new
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


@pytest.mark.parametrize(("method", "individual"), [("wiener", 0), ("fred-wiener", 0), ("fred-wiener", 1)])
def test_the_number_of_threads_does_not_show(method: str, individual: float) -> None:
    """At a size where torch splits a sum among its threads, from 32,768 numbers on, and LAPACK a factorisation."""
    settings = {"method": method, "length": 384, "context": 96, "horizon": 96, "draws": 1, "iterations": 2}
    settings["individual"] = individual
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
    assert nearest_distance(torch.tensor(synthetic), torch.tensor(series)) == pytest.approx(brute)
    assert nearest_distance(torch.tensor(series[None, 11:19]), torch.tensor(series)) == pytest.approx(0, abs=1e-6)


def test_fewer_channels_are_held_against_every_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    series, synthetic = rng.normal(size=(50, 5)), rng.normal(size=(2, 8, 3))
    pairs = [(x, s) for x in series.T for s in synthetic.transpose(0, 2, 1).reshape(-1, 8)]
    brute = min(np.sqrt(np.mean((x[t : t + 8] - s) ** 2)) for t in range(43) for x, s in pairs)
    transforms, rfft = [], distance.fft.rfft
    monkeypatch.setattr(distance.fft, "rfft", lambda x, size: transforms.append(x.shape) or rfft(x, size))
    assert nearest_distance(torch.tensor(synthetic), torch.tensor(series)) == pytest.approx(brute)
    assert transforms.count((1, 50)) == 5  # each real channel once


STATEFUL = [
    {"method": "hdt", "k": 6, "lam": "auto"},
    {"method": "wiener", "features": 8, "draws": 4},
    {"method": "mtt", **QUICK["mtt"]},
    {"method": "condtsf", **QUICK["condtsf"]},
    {"method": "dc", **QUICK["dc"], "matches": 3},
    {"method": "stemdist", "matches": 2},
    {"method": "fred-wiener", "period": 6, "features": 8, "draws": 4},
    {"method": "cfm", **QUICK["cfm"]},
]


@pytest.mark.parametrize("given", STATEFUL, ids=lambda given: given["method"])
def test_an_interrupted_distillation_goes_on_to_the_same_bytes(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hdt.distillation.loop.KEEP_SECONDS", 0.0)
    settings = {"length": 48, "context": 12, "horizon": 6, **given, "iterations": 7}
    whole, file, seen = hdt.distill(make_frame(), **settings), tmp_path / "checkpoint", []

    def interrupt(iteration: int, *_: object) -> None:
        if iteration == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hdt.distill(make_frame(), **settings, checkpoint=file, watch=interrupt)
    assert file.is_file()
    resumed = hdt.distill(make_frame(), **settings, checkpoint=file, watch=lambda iteration, *_: seen.append(iteration))
    assert seen == [5, 6, 7] and not file.exists()
    assert resumed.history == whole.history and resumed.info.chosen == whole.info.chosen
    for name, array in whole.params.items():
        np.testing.assert_array_equal(resumed.params[name], array)


def test_a_checkpoint_of_other_settings_or_data_and_a_damaged_one_are_not_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hdt.distillation.loop.KEEP_SECONDS", 0.0)
    file = tmp_path / "checkpoint"

    def begun(frame: pd.DataFrame, seed: int, stop: bool) -> int:
        seen: list[int] = []

        def watch(iteration: int, *_: object) -> None:
            seen.append(iteration)
            if stop and iteration == 2:
                raise KeyboardInterrupt

        with suppress(KeyboardInterrupt):
            hdt.distill(frame, **SMALL, seed=seed, checkpoint=file, watch=watch)
        return seen[0]

    other = make_frame()
    other.iloc[3, 0] += 1
    for frame, seed, first in ((make_frame(), 0, 3), (make_frame(), 1, 1), (other, 0, 1)):
        file.unlink(missing_ok=True)
        begun(make_frame(), 0, stop=True)
        assert begun(frame, seed, stop=False) == first
    file.write_bytes(b"damaged")
    assert begun(make_frame(), 0, stop=False) == 1


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells")
def test_peak_memory_is_that_of_the_distillation_not_of_what_ran_before_it() -> None:
    before = np.ones(150_000_000)  # 1.2 GB, given back before the work
    del before
    highest, peak = peak_rss_mb(), hdt.distill(make_frame(), **SMALL).info.peak_rss_mb
    assert highest is not None and peak is not None and peak < highest - 200


WINDOW: dict[str, Any] = {"length": 48, "context": 12, "horizon": 6, "iterations": 2}


class Wrong(Wiener):
    """An objective whose loss is replaced by ``returned``."""

    name = "wrong"
    returned: Any = None

    def loss(self, known: Any, synthetic: Any, state: Any, generator: Any) -> Any:
        return type(self).returned(synthetic)


@pytest.mark.parametrize(
    "returned",
    [
        lambda x: Scored(x.square().mean(dim=(0, 1)), {}, {}),
        lambda x: Scored(x.detach().square().sum(), {}, {}),
        lambda x: Scored(x.square().sum(), {"level": 3.0}, {}),
        lambda x: x.square().sum(),
        lambda x: Scored(x.square().sum(), {"level": x.mean(dim=1)}, {}),
    ],
)
def test_a_part_that_breaks_its_contract_is_named(
    returned: Any, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES._found, "wrong", Wrong)
    monkeypatch.setattr(Wrong, "returned", staticmethod(returned))
    with pytest.raises(hdt.InputError, match="objective 'wrong': loss must return Scored"):
        hdt.distill(frame, method="wiener", objective="wrong", **WINDOW)


def test_a_parameterization_of_another_shape_is_named(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    class Short(Raw):
        name = "short"

        def decode(self, params: Any) -> Any:
            return super().decode(params)[:, 1:]

    monkeypatch.setitem(PARAMETERIZATIONS._found, "short", Short)
    with pytest.raises(hdt.InputError, match=r"parameterization 'short': decodes to \(1, 47, 2\), not \(1, 48, 2\)"):
        hdt.distill(frame, method="wiener", parameterization="short", **WINDOW)
