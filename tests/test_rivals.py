"""The rivals of HDT by their equations: trajectory matching, CondTSF and DC, with DLinear's gradient by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, Ready
from sklearn.metrics.pairwise import paired_cosine_distances
from test_experts import dlinear_forecast, dlinear_gradient, refuse

import hdt
from hdt.maths.windows import windows
from hdt.objective import Problem
from hdt.objective.condtsf import CondTSF
from hdt.objective.dc import GradientCosine, distance
from hdt.objective.trajectory import TrajectoryMatching
from hdt.students import build, flatten
from hdt.system import checkpoint
from hdt.system.machine import cache_folder
from hdt.training.experts import Experts

L, H = 4, 3
WEIGHTS = 2 * (L * H + H)


def double(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def matching(checkpoints: torch.Tensor, kind: type[TrajectoryMatching] = TrajectoryMatching, **options: Any) -> Ready:
    """An objective whose experts are planted; by default one step on all synthetic windows, from epoch 0 to 1."""
    usual = {"max_start": 1, "target_epochs": 1, "steps_synthetic": 1, "inner_batch": 100}
    quick = {"experts": 1, "expert_epochs": 1}
    objective = kind(kind.Options(**{**usual, **quick, **options}), Problem(L, H, 12))
    return Ready(objective, double(12, 2), experts=Experts(checkpoints, 0.0))


def cut(synthetic: torch.Tensor) -> np.ndarray:
    """All windows [B, L + H, C] of the synthetic series."""
    return windows(synthetic, L, H).flatten(0, 1).numpy()


def value(objective: Any, synthetic: torch.Tensor, seed: int = 0) -> float:
    return objective.loss(synthetic, draws(seed))[0].item()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_trajectory_loss_by_hand(steps: int) -> None:
    """One step: ‖θ₀ − α·g(θ₀) − θ*‖² / ‖θ₀ − θ*‖²; more steps go on from there."""
    checkpoints, synthetic = double(1, 2, WEIGHTS), double(2, 12, 2, seed=1)
    objective = matching(checkpoints, steps_synthetic=steps, inner_lr=0.3)
    first, target = checkpoints[0].numpy()
    theta, rate = first, objective.initial(objective.known, synthetic)["log_lr"].exp().item()
    for _ in range(steps):
        theta = theta - rate * dlinear_gradient(theta, cut(synthetic), H)
    expected = np.square(theta - target).sum() / np.square(first - target).sum()
    loss, terms = objective.loss(synthetic, draws())
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert rate == pytest.approx(0.3, rel=1e-6)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"trajectory": expected, "inner_lr": 0.3}, rel=1e-6
    )


def test_the_trajectory_loss_vanishes_where_the_synthetic_step_arrives_at_the_expert() -> None:
    """And is one where the step is so small that the student stays."""
    synthetic, first = double(2, 12, 2, seed=1), double(WEIGHTS)
    step = torch.from_numpy(0.25 * dlinear_gradient(first.numpy(), cut(synthetic), H))
    checkpoints = torch.stack([first, first - step])[None]
    assert value(matching(checkpoints, inner_lr=0.25), synthetic) == pytest.approx(0, abs=1e-12)
    assert value(matching(checkpoints, inner_lr=1e-12), synthetic) == pytest.approx(1, rel=1e-9)


def test_matches_run_from_an_early_epoch_to_one_e_epochs_later() -> None:
    """Two experts and two starts make four losses; epoch 4 is out of reach of the starts 0 and 1."""
    checkpoints, synthetic, expected = double(2, 5, WEIGHTS), double(1, 12, 2), set()
    checkpoints[:, 4] = torch.nan
    objective = matching(checkpoints, max_start=2, target_epochs=2, inner_lr=0.25)
    for expert in checkpoints.numpy():
        for first, target in (expert[[0, 2]], expert[[1, 3]]):
            arrived = first - 0.25 * dlinear_gradient(first, cut(synthetic), H)
            expected.add(round(np.square(arrived - target).sum() / np.square(first - target).sum(), 9))
    assert {round(value(objective, synthetic, seed), 9) for seed in range(40)} == expected
    assert len(expected) == 4


def test_experts_are_trained_up_to_the_last_epoch_a_match_can_reach() -> None:
    options = TrajectoryMatching.Options(experts=2, expert_epochs=1, max_start=4, target_epochs=3)
    objective = Ready(TrajectoryMatching(options, Problem(L, H, 12)), double(30, 2))
    assert objective.experts.checkpoints.shape == (2, 1 + 3 + 3, WEIGHTS)


def test_inner_batches_hold_different_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(_: object, weights: torch.Tensor, batch: torch.Tensor, differentiable: bool) -> torch.Tensor:
        seen.append(batch)
        return 0 * weights

    monkeypatch.setattr("hdt.objective.trajectory.forecast_gradient", spy)
    synthetic = torch.arange(24.0, dtype=torch.float64).reshape(2, 12, 1)  # 12 windows, known by their first value
    value(matching(double(1, 2, WEIGHTS), steps_synthetic=5, inner_batch=4), synthetic)
    firsts = [tuple(sorted(batch[:, 0, 0].tolist())) for batch in seen]
    assert all(batch.shape == (4, L + H, 1) for batch in seen)
    assert all(len(set(first)) == 4 and {*first} <= {*range(6), *range(12, 18)} for first in firsts)
    assert len(set(firsts)) > 1


@pytest.mark.parametrize("kind", [TrajectoryMatching, CondTSF])
def test_trajectory_losses_have_the_gradients_they_claim(kind: type[TrajectoryMatching]) -> None:
    """In the synthetic values and in the logarithm of the inner step size."""
    objective = matching(double(2, 4, WEIGHTS), kind, max_start=3, steps_synthetic=3, inner_batch=5)

    def loss(synthetic: torch.Tensor, log_lr: torch.Tensor) -> torch.Tensor:
        objective.state = {"log_lr": log_lr}
        return objective.loss(synthetic, draws())[0]

    log_lr = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (double(2, 12, 2).requires_grad_(), log_lr))
    (gradient,) = torch.autograd.grad(loss(double(2, 12, 2), log_lr), log_lr)
    assert gradient != 0


EXPERTS = {"experts": 1, "expert_epochs": 2, "max_start": 1, "inner_batch": 8, "steps_synthetic": 3}
TRAJECTORY = {**{key: SMALL[key] for key in ("length", "context", "horizon")}, **EXPERTS, "objective": "mtt"}


def test_the_inner_step_size_is_learned_and_stays_positive(frame: pd.DataFrame) -> None:
    def rates(**options: float) -> list[float]:
        history = hdt.distill(frame, **TRAJECTORY, iterations=8, inner_lr=0.05, **options).history
        return [entry["inner_lr"] for entry in history]

    assert rates(inner_lr_rate=0) == pytest.approx([0.05] * 8, rel=1e-6)
    slow, fast = rates(inner_lr_rate=0.01), rates(inner_lr_rate=3)
    # Adam's first step is the learning rate itself, up or down.
    assert abs(math.log(slow[1] / slow[0])) == pytest.approx(0.01, rel=1e-3)
    assert abs(math.log(fast[1] / fast[0])) == pytest.approx(3, rel=1e-3)
    assert min(fast) > 0 and len(set(slow)) == 8


def test_a_fixed_inner_step_size_is_not_learned() -> None:
    assert matching(double(1, 2, WEIGHTS), inner_lr_rate=0).rates() == {}
    objective = matching(double(1, 2, WEIGHTS), inner_lr_rate=0.2)
    assert objective.rates() == {"log_lr": 0.2}
    assert objective.rates().keys() == objective.initial(objective.known, double(1, 12, 2)).keys()


def stored_experts() -> dict[str, Any]:
    """What the only file of the cache holds; its name ends in its key."""
    (file,) = cache_folder().iterdir()
    return checkpoint.kept(file, file.stem.removeprefix("experts-"))


@pytest.mark.parametrize("objective", ["mtt", "condtsf"])
def test_experts_from_the_cache_give_the_same_series_and_count_their_time(
    objective: str, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hdt.distill(frame, **{**TRAJECTORY, "objective": objective}, iterations=4)
    monkeypatch.setattr("hdt.training.experts.train", refuse)
    monkeypatch.setattr(
        "hdt.distillation.loop.time.perf_counter", lambda: 0.0
    )  # what is left is what the cache has saved
    second = hdt.distill(frame, **{**TRAJECTORY, "objective": objective}, iterations=4)
    np.testing.assert_array_equal(second.values, first.values)
    assert second.info.seconds == round(stored_experts()["seconds"], 3)


@pytest.mark.parametrize("absurd", ["inner_lr", "learning_rate", "expert_lr"])
def test_absurd_learning_rates_are_an_error(absurd: str, frame: pd.DataFrame) -> None:
    with pytest.raises(hdt.InputError, match=r"the loss became (nan|inf) at iteration \d+; lower --learning-rate"):
        hdt.distill(frame, **TRAJECTORY, iterations=20, **{absurd: 1e30})


def finite_or_refused(frame: pd.DataFrame, **settings: Any) -> bool:
    try:
        return bool(np.isfinite(hdt.distill(frame, **{**TRAJECTORY, **settings}).values).all())
    except hdt.InputError:
        return True


@pytest.mark.parametrize("rate", [1e2, 1e30])
def test_an_inner_step_size_that_jumps_away_leaves_no_nan(rate: float, frame: pd.DataFrame) -> None:
    assert finite_or_refused(frame, iterations=10, inner_lr_rate=rate)


def test_a_last_step_that_diverges_leaves_no_nan(frame: pd.DataFrame) -> None:
    """The loss, 2e38, is finite in float32, and its gradient is not."""
    one = {"steps_synthetic": 1, "expert_epochs": 1, "target_epochs": 1, "parameterization": "raw", "iterations": 1}
    assert finite_or_refused(frame, **one, inner_lr=1e17)


def test_no_objective_has_nothing_to_iterate(frame: pd.DataFrame) -> None:
    small = {key: SMALL[key] for key in ("length", "context", "horizon")}
    with pytest.raises(
        hdt.InputError,
        match=r"^objective none has nothing to optimise; use --iterations 0, or choose another --objective$",
    ):
        hdt.distill(frame, **small, objective="none", start="real", iterations=1)
    distilled = hdt.distill(frame, **small, objective="none", start="real", parameterization="raw", iterations=0)
    values = (frame.to_numpy() - distilled.info.scaler_mean) / distilled.info.scaler_std
    gaps = [np.abs(values[t : t + 48] - distilled.values[0]).max() for t in range(280 - 48 + 1)]
    assert min(gaps) < 1e-5


def test_the_value_update_by_hand() -> None:
    """y ← (1 − β)·y + β·f(x) block after block: the second block's context holds the revised first block.

    M = 11 holds two blocks of 3 after the first context of 4; the last step belongs to none.
    """
    checkpoints, synthetic = double(1, 3, WEIGHTS), double(2, 11, 2, seed=1)
    objective, before = matching(checkpoints, CondTSF, value_rate=0.25, value_every=3), synthetic.clone()
    revised = objective.revise(objective.known, synthetic, 3, draws())
    assert revised is not None and torch.equal(synthetic, before)
    expected, last = synthetic.numpy().copy(), checkpoints[0, -1].numpy()
    for start in (4, 7):
        forecast = dlinear_forecast(last, expected[:, start - 4 : start], H)
        expected[:, start : start + 3] = 0.75 * expected[:, start : start + 3] + 0.25 * forecast
    np.testing.assert_allclose(revised.numpy(), expected, atol=1e-13)
    assert torch.equal(revised[:, :4], synthetic[:, :4]) and torch.equal(revised[:, 10:], synthetic[:, 10:])
    assert (revised[:, 4:10] != synthetic[:, 4:10]).all()


def test_values_are_updated_every_nth_iteration_only() -> None:
    objective, synthetic = matching(double(2, 2, WEIGHTS), CondTSF, value_every=3), double(1, 12, 2)
    updated = [
        objective.revise(objective.known, synthetic, iteration, draws()) is not None for iteration in range(1, 8)
    ]
    assert updated == [False, False, True, False, False, True, False]
    other = matching(double(1, 2, WEIGHTS))
    assert other.revise(other.known, synthetic, 3, draws()) is None


@pytest.mark.parametrize("parameterization", ["raw", "harmonic"])
def test_the_loop_puts_the_updated_values_in_place(parameterization: str, frame: pd.DataFrame) -> None:
    """With β = 1, after a last iteration with an update, every block is the expert's forecast of what is before it."""
    settings = {**TRAJECTORY, "objective": "condtsf", "parameterization": parameterization}
    values = hdt.distill(frame, **settings, iterations=3, value_every=3, value_rate=1).values
    last = stored_experts()["checkpoints"][0, -1].numpy()
    for start in range(12, 48 - 6 + 1, 6):
        forecast = dlinear_forecast(last, values[:, start - 12 : start], 6)
        np.testing.assert_allclose(values[:, start : start + 6], forecast, atol=1e-5)


def test_labels_are_mixed_with_the_fully_trained_experts_forecast() -> None:
    checkpoints, every = double(2, 3, WEIGHTS), double(5, L + H, 2, seed=1)
    objective = matching(checkpoints, CondTSF, label_share=0.8)
    mixed = objective.relabel(objective.known, every, expert=1)
    forecast = dlinear_forecast(checkpoints[1, -1].numpy(), every[:, :L].numpy(), H)
    assert torch.equal(mixed[:, :L], every[:, :L])
    np.testing.assert_allclose(mixed[:, L:].numpy(), 0.2 * every[:, L:].numpy() + 0.8 * forecast, atol=1e-13)


@pytest.mark.parametrize("share", [0.0, 0.8])
def test_condtsf_is_trajectory_matching_on_mixed_labels(share: float) -> None:
    checkpoints, synthetic = double(1, 3, WEIGHTS), double(2, 12, 2, seed=1)
    first, target, last = checkpoints[0].numpy()
    every = cut(synthetic).copy()
    every[:, L:] = (1 - share) * every[:, L:] + share * dlinear_forecast(last, every[:, :L], H)
    arrived = first - 0.25 * dlinear_gradient(first, every, H)
    expected = np.square(arrived - target).sum() / np.square(first - target).sum()
    objective = matching(checkpoints, CondTSF, inner_lr=0.25, label_share=share)
    assert value(objective, synthetic) == pytest.approx(expected, rel=1e-12)
    if share == 0:
        assert value(matching(checkpoints, inner_lr=0.25), synthetic) == pytest.approx(expected, rel=1e-12)


def cosine(real: torch.Tensor, **options: Any) -> Ready:
    return Ready(GradientCosine(GradientCosine.Options(**options), Problem(L, H, 12)), real)


def test_dc_loss_vanishes_when_synthetic_and_real_windows_are_the_same() -> None:
    """One real window, drawn again and again, and two synthetic sequences of it: along all of a training."""
    real = double(L + H, 2)
    objective = cosine(real, matches=4, network_steps=2)
    losses = [value(objective, real.expand(2, -1, -1), seed) for seed in range(8)]
    assert losses == pytest.approx([0] * 8, abs=1e-12)
    assert value(objective, double(2, L + H, 2, seed=1)) > 0.01


def by_output_unit(gradient: np.ndarray) -> np.ndarray:
    """The rows of both weight matrices [2·H, L], without the biases."""
    return gradient.reshape(2, -1)[:, : L * H].reshape(2 * H, L)


def fresh_weights(seed: int) -> np.ndarray:
    """The first initialisation that an objective draws."""
    drawn = int(torch.randint(2**31, (), generator=draws(seed)))
    return flatten(build("dlinear", L, H, 2, drawn)).double().numpy()


def test_dc_loss_by_hand() -> None:
    """With one real window, whatever the draw: cosine distances of its gradient and the synthetic one."""
    real, synthetic = double(L + H, 2), double(2, 12, 2, seed=1)
    gradients = [dlinear_gradient(fresh_weights(5), every, H) for every in (real[None].numpy(), cut(synthetic))]
    expected = paired_cosine_distances(*map(by_output_unit, gradients)).sum()
    assert value(cosine(real), synthetic, seed=5) == pytest.approx(expected, rel=1e-9)


def test_dc_distance_ignores_lengths_and_doubles_for_opposites() -> None:
    student, first, second = cosine(double(12, 2)).student, double(WEIGHTS), double(WEIGHTS, seed=1)
    expected = paired_cosine_distances(by_output_unit(first.numpy()), by_output_unit(second.numpy())).sum()
    assert distance(student, first, second).item() == pytest.approx(expected, rel=1e-12)
    assert distance(student, first, 5 * second).item() == pytest.approx(expected, rel=1e-12)
    assert distance(student, first, first).item() == pytest.approx(0, abs=1e-12)
    assert distance(student, first, -first).item() == pytest.approx(2 * 2 * H, rel=1e-12)


def test_dc_loss_is_at_most_two_for_every_output_unit() -> None:
    objective = cosine(double(60, 2), matches=3)
    losses = [value(objective, double(2, 12, 2, seed=seed), seed) for seed in range(20)]
    assert 0 <= min(losses) < max(losses) <= 2 * 2 * H


def test_dc_matches_along_a_training_on_the_synthetic_windows() -> None:
    """Match at the initialisation; two steps of 0.05 downhill, match again; then a new initialisation."""
    synthetic, generator = double(1, 12, 2, seed=1), draws()
    objective = cosine(double(60, 2), matches=2, network_steps=2, network_lr=0.05, batch=7)
    visited = []
    for _ in range(3):
        objective.loss(synthetic, generator)
        visited.append(objective.state["theta"].numpy().copy())
    theta = fresh_weights(0)
    np.testing.assert_array_equal(visited[0], theta)
    for _ in range(2):
        theta = theta - 0.05 * dlinear_gradient(theta, cut(synthetic), H)
    np.testing.assert_allclose(visited[1], theta, atol=1e-13)
    assert np.abs(visited[2] - visited[0]).max() > 0.1 < np.abs(visited[2] - theta).max()


def test_dc_counts_its_matches_and_draws_real_windows_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(_: object, weights: torch.Tensor, batch: torch.Tensor, differentiable: bool, *__: object) -> torch.Tensor:
        seen.append((differentiable, batch))
        return weights.clone()

    monkeypatch.setattr("hdt.objective.dc.forecast_gradient", spy)
    real, generator = torch.arange(60, dtype=torch.float64).reshape(30, 2), draws()
    objective, counts = cosine(real, batch=9, matches=2, network_steps=3), []
    for _ in range(4):
        loss, terms = objective.loss(double(1, 12, 2), generator)
        assert terms.keys() == {"cosine"} and terms["cosine"].item() == loss.item()
        counts.append(int(objective.state["matched"]))
    assert counts == [1, 2, 3, 4]
    match, walk = [False, True], [False] * 3  # the steps in between are not differentiated, nor is the real gradient
    assert [differentiable for differentiable, _ in seen] == [*match, *walk, *match] * 2
    drawn = [batch for _, batch in seen if batch[0, 0, 0] >= 0 and len(batch) == 9]
    assert len(drawn) == len({tuple(batch[:, 0, 0].tolist()) for batch in drawn}) == 4
    assert all((batch.flatten(1).diff(dim=1) == 1).all() for batch in drawn)


def test_dc_loss_has_the_gradient_it_claims() -> None:
    objective = cosine(double(60, 2), matches=1, batch=6)
    synthetic = double(2, 12, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: objective.loss(s, draws())[0], (synthetic,))
