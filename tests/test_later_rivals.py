"""STemDist, and what is taken after TimeDC and DDTime, against NumPy: clusters, weights, spectra."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL, Ready, make_frame
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import paired_cosine_distances
from test_experts import decomposed, dlinear_forecast, dlinear_gradient
from test_rivals import WEIGHTS, H, L, by_output_unit, cut, double, draws, matching, value

import hdt
from hdt.objective import Problem
from hdt.objective.ddtime import DDTime, value_term
from hdt.objective.stemdist import STemDist, clusters, part
from hdt.objective.timedc import TimeDC
from hdt.objective.trajectory import TrajectoryMatching
from hdt.start.subsets import k_center
from hdt.students import build, flatten

TWO_AND_TWO = torch.tensor([0, 1, 0, 0])  # clusters of three channels and of one


def locations(real: torch.Tensor, **options: Any) -> Ready:
    return Ready(STemDist(STemDist.Options(**options), Problem(L, H, 12)), real)


def test_clusters_are_those_of_k_means_numbered_by_their_first_members() -> None:
    points = double(40, 5)
    centres = points[k_center(points, 6)].numpy()
    labels = KMeans(6, init=centres, n_init=1, tol=0).fit(points.numpy()).labels_
    order = list(dict.fromkeys(labels.tolist()))
    assert clusters(points, 6).tolist() == [order.index(label) for label in labels]
    apart = torch.tensor([[9.0], [0.0], [9.1], [-5.0], [0.2], [8.9]])
    assert clusters(apart, 3).tolist() == [0, 1, 0, 2, 1, 0]


@pytest.mark.parametrize("points", [double(5, 3), torch.zeros(5, 3), double(2, 3).repeat(3, 1)[:5]])
def test_no_cluster_is_empty_and_as_many_as_points_are_each_its_own(points: torch.Tensor) -> None:
    assert clusters(points, len(points)).tolist() == [0, 1, 2, 3, 4]
    for count in (1, 3):
        assert set(clusters(points, count).tolist()) == {*range(count)}


def test_a_part_stands_for_the_means_of_clusters_and_their_sizes_average_to_one() -> None:
    every, own = double(2, L + H, 4), torch.tensor([1, 0])
    found = part(TWO_AND_TWO, own, own, every)
    expected = torch.stack([every[:, :, 1], every[:, :, [0, 2, 3]].mean(dim=2)], dim=2)
    torch.testing.assert_close(found.real(every), expected)
    assert found.importance is not None and found.importance.tolist() == [0.5, 1.5]
    synthetic = double(3, L + H, 2, seed=1)
    assert torch.equal(found.synthetic(synthetic), synthetic.flip(2))


def weighed_gradient(theta: np.ndarray, every: np.ndarray, weights: list[float]) -> np.ndarray:
    """DLinear's gradient of the mean over channels of weight times error."""
    own = [w * dlinear_gradient(theta, every[:, :, [c]], H) for c, w in enumerate(weights)]
    return np.mean(own, axis=0)


@pytest.mark.parametrize("subsets", [1, 4])
def test_stemdist_loss_by_hand(subsets: int) -> None:
    """One real window of four channels in two clusters; with subsets of one cluster each, all weights are one."""
    real, synthetic, generator = double(L + H, 4), double(2, 12, 2, seed=1), draws(5)
    real[:, 2:] = real[:, :1] + 0.01 * real[:, 2:]
    objective = locations(real, subsets=subsets, network_steps=2, network_lr=0.05)
    order = torch.randperm(2, generator=draws(5)).tolist()
    means = np.stack([real[:, [0, 2, 3]].mean(dim=1).numpy(), real[:, 1].numpy()], axis=1)[None]
    parts = [([c], [1.0]) for c in order] if subsets == 4 else [(order, [(1.5, 0.5)[c] for c in order])]
    theta = None
    for n in range(2 * len(parts)):
        loss, terms = objective.loss(synthetic, generator)
        if n == 0:
            assert objective.state["clusters"].tolist() == TWO_AND_TWO.tolist()
            theta = objective.state["theta"].numpy()
            torch.randperm(2, generator=(drawn := draws(5)))
            first = build("dlinear", L, H, 2, int(torch.randint(2**31, (), generator=drawn)))
            np.testing.assert_array_equal(theta, flatten(first).double().numpy())
        elif n == len(parts):  # the next round begins: two steps on all parts, in its order
            order = objective.state["order"].tolist()
            parts = [([c], [1.0]) for c in order] if subsets == 4 else [(order, [(1.5, 0.5)[c] for c in order])]
            for channels, weights in parts * 2:
                theta = theta - 0.05 * weighed_gradient(theta, cut(synthetic)[:, :, channels], weights)
        channels, weights = parts[n % len(parts)]
        np.testing.assert_allclose(objective.state["theta"].numpy(), theta, atol=1e-13)
        own, wanted = (weighed_gradient(theta, x[:, :, channels], weights) for x in (cut(synthetic), means))
        expected = paired_cosine_distances(by_output_unit(own), by_output_unit(wanted)).sum()
        assert loss.item() == pytest.approx(expected, rel=1e-6) and terms["cosine"].item() == loss.item()


def test_a_round_sees_every_cluster_once_and_rounds_differ() -> None:
    objective, generator = locations(double(60, 7), subsets=3, matches=2, network_steps=1, network_lr=0.001), draws()
    seen, thetas = [], []
    for _ in range(9):
        objective.loss(double(1, 12, 7, seed=1), generator)
        parts = objective.divide(objective.known, 7, {**objective.state, "matched": torch.tensor(1)}, generator)[1]
        seen.append([part.channels.tolist() for part in parts])
        thetas.append(objective.state["theta"])
    assert seen[0] == seen[1] == seen[2] != seen[3] == seen[4] == seen[5] != seen[6]
    assert all(
        sorted(channel for subset in found for channel in subset) == [*range(7)] and [*map(len, found)] == [3, 2, 2]
        for found in seen
    )
    moved = [not torch.equal(*pair) for pair in pairwise(thetas)]
    assert moved == [False, False, True, False, False, True, False, False]
    assert (thetas[3] - thetas[0]).abs().max() < 0.01 < 0.1 < (thetas[6] - thetas[3]).abs().max()  # a fresh network


def test_a_group_of_channels_is_matched_with_its_own_clusters() -> None:
    real = double(60, 6)
    objective, known = STemDist(STemDist.Options(), Problem(L, H, 12)), None
    known = objective.restrict(objective.prepare(real), torch.tensor([1, 4]))
    state, (only,) = objective.divide(known, 2, {"clusters": torch.arange(6)}, draws())
    every = double(3, L + H, 6)
    assert torch.equal(only.real(every), every[:, :, [1, 4]])
    assert only.importance is not None and only.importance.tolist() == [1, 1]
    assert only.synthetic(every[:, :, [1, 4]]).shape == (3, L + H, 2)
    assert objective.loss(known, double(1, 12, 2), state, draws()).loss.isfinite()


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_value_term_by_hand(alpha: float) -> None:
    """Horizons (1, −1, 1, −1) have one coefficient of 4/√4 = 2 among three: |·| is 2/3 on average, the square 1."""
    error = torch.tensor([1.0, -1, 1, -1], dtype=torch.float64)[None, :, None]
    assert value_term(error, alpha).item() == pytest.approx((1 - alpha) + alpha * 2 / 3, abs=1e-12)
    error = double(5, H, 2)
    coefficients = np.fft.rfft(error.numpy(), axis=1) / H**0.5
    expected = (1 - alpha) * np.square(error.numpy()).mean() + alpha * np.abs(coefficients).mean()
    assert value_term(error, alpha).item() == pytest.approx(expected, rel=1e-12)


def test_ddtime_adds_the_value_term_of_the_fully_trained_expert() -> None:
    checkpoints, synthetic = double(1, 4, WEIGHTS), double(2, 12, 2, seed=1)
    plain = value(matching(checkpoints), synthetic)
    objective = matching(checkpoints, DDTime, value_weight=2, alpha=0.3)
    every = cut(synthetic)
    error = dlinear_forecast(checkpoints[0, -1].numpy(), every[:, :L], H) - every[:, L:]
    expected = 0.7 * np.square(error).mean() + 0.3 * np.abs(np.fft.rfft(error, axis=1)).mean() / H**0.5
    loss, terms = objective.loss(synthetic, draws())
    assert list(terms) == ["trajectory", "inner_lr", "value"]
    assert terms["value"].item() == pytest.approx(expected, rel=1e-12)
    assert loss.item() == pytest.approx(plain + 2 * expected, rel=1e-12)


def mean_amplitudes(every: np.ndarray) -> list[np.ndarray]:
    """Of trend and residual of windows [B, L + H, C], over windows and channels."""
    residual, trend = decomposed(every)
    return [np.abs(np.fft.rfft(part, axis=1)).mean(axis=(0, 2)) for part in (trend, residual)]


def test_the_frequency_term_by_hand() -> None:
    """One minus the cosine of mean amplitudes, of trend and of residual, beside the loss of plain trajectories."""
    real, synthetic, checkpoints = double(50, 3), double(2, 12, 2, seed=1), double(1, 2, WEIGHTS)
    options = TimeDC.Options(experts=1, expert_epochs=1, max_start=1, target_epochs=1, frequency_weight=3)
    objective = Ready(TimeDC(options, Problem(L, H, 12)), real)
    pairs = zip(mean_amplitudes(cut(real[None])), mean_amplitudes(cut(synthetic)), strict=True)
    expected = sum(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs)
    loss, terms = objective.loss(synthetic, draws())
    assert terms["frequency"].item() == pytest.approx(expected, rel=1e-9) and expected > 1e-4
    assert loss.item() == pytest.approx(terms["trajectory"].item() + 3 * expected, rel=1e-9)
    _, terms = objective.loss(5 * real[None, :, :2], draws())
    own = sum(
        1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        for a, b in zip(mean_amplitudes(cut(real[None])), mean_amplitudes(cut(real[None, :, :2])), strict=True)
    )
    assert terms["frequency"].item() == pytest.approx(own, rel=1e-6)  # whatever the scale
    same, _ = matching(checkpoints, TimeDC, frequency_weight=0, inner_lr=0.25).loss(synthetic, draws())
    plain, _ = matching(checkpoints, inner_lr=0.25, inner_batch=100).loss(synthetic, draws())
    assert same.item() == pytest.approx(plain.item(), rel=1e-12)


@pytest.mark.parametrize("kind", [DDTime, TimeDC])
def test_their_losses_have_the_gradients_they_claim(kind: type[TrajectoryMatching]) -> None:
    objective = matching(double(2, 4, WEIGHTS), kind, max_start=3, steps_synthetic=2, inner_batch=5)
    synthetic = double(2, 12, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: value_of(objective, s), (synthetic,))


def value_of(objective: Ready, synthetic: torch.Tensor) -> torch.Tensor:
    return objective.loss(synthetic, draws())[0]


def test_stemdist_loss_has_the_gradient_it_claims() -> None:
    real, synthetic = double(60, 5), double(1, 12, 3, seed=1).requires_grad_()
    objective = locations(real, subsets=2, batch=6)

    def loss(given: torch.Tensor) -> torch.Tensor:
        objective.state = None
        return value_of(objective, given)

    assert torch.autograd.gradcheck(loss, (synthetic,))
    (gradient,) = torch.autograd.grad(loss(synthetic), synthetic)
    reached = gradient.abs().sum(dim=(0, 1)) > 0
    assert reached.sum() == 2  # the first subset of three clusters


def test_the_patch_student_takes_more_memory() -> None:
    patches, linear = (TimeDC(TimeDC.Options(), Problem(L, H, 12, name)) for name in ("xpatch", "dlinear"))
    assert TimeDC.backbone == "xpatch"
    assert patches.graph_bytes(2, 5) == 22 * linear.graph_bytes(2, 5)


def test_few_channels_stand_for_clusters_of_many() -> None:
    """Of the training part alone: what comes after it changes no byte."""
    small = {name: value for name, value in SMALL.items() if name != "k"}
    frame = make_frame(columns=tuple("abcdef"))
    poisoned = frame.copy()
    poisoned.iloc[280:] = np.nan
    first, second = (hdt.distill(given, method="stemdist", channels=2, **small) for given in (frame, poisoned))
    assert first.values.shape == (1, 48, 2) and np.isfinite(first.values).all()
    assert first.values.tobytes() == second.values.tobytes()
