"""HCDC: validation errors and hypergradients against scikit-learn's Ridge, and what of the data is held out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL, Ready, make_frame, refused
from sklearn.linear_model import Ridge
from test_moments import H, L, features_by_hand, flat, means, walk

import hdt
from hdt.maths.hypergradients import hypergradients
from hdt.objective import Problem
from hdt.objective.hcdc import HCDC, POOL, Joint
from hdt.objective.wiener import Wiener
from hdt.training.features import random_relu

ONLY = {"raw": 0.0, "centred": 0.0, "relu": 1.0, "noise": 0.0, "level": 0.0, "features": 7, "draws": 2}


def hcdc(series: torch.Tensor, **options: Any) -> Ready:
    return Ready(HCDC(HCDC.Options(**{**ONLY, **options}), Problem(L, H, 20)), series)


def by_hand(windows: torch.Tensor, features: Joint) -> tuple[np.ndarray, np.ndarray]:
    """φ and targets, window by window."""
    x, y = features_by_hand(windows.numpy(), "centred", np.empty(0), np.empty(0))
    level = windows[:, :L].mean(dim=1, keepdim=True).numpy()
    parts = [x, level, np.ones_like(level)]
    if features.relu is not None:
        parts.append(
            features_by_hand(windows.numpy(), "relu", features.relu.mix.numpy(), features.relu.bias.numpy())[0]
        )
    return np.hstack(parts), y


def held_out_error(
    own: tuple[np.ndarray, np.ndarray], held: tuple[np.ndarray, np.ndarray], penalties: np.ndarray
) -> float:
    """Of scikit-learn's ridge with a penalty per feature: features are divided by its root, and the sum over windows
    that it minimises goes with as many times a penalty of one."""
    (phi, y), (held_phi, held_y) = own, held
    root = np.sqrt(penalties)
    model = Ridge(alpha=len(phi), fit_intercept=False).fit(phi / root, y)
    return float(np.square(model.predict(held_phi / root) - held_y).sum(axis=1).mean())


def differences(
    own: tuple[np.ndarray, np.ndarray], held: tuple[np.ndarray, np.ndarray], penalties: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Central ones of the error above, over the logarithm of the penalty of every group."""
    step = 1e-4
    sides = [[held_out_error(own, held, penalties * np.exp(sign * step * one)) for sign in (1, -1)] for one in groups.T]
    return np.array([(up - down) / (2 * step) for up, down in sides])


@pytest.mark.parametrize("count", [0, 7])
def test_errors_and_hypergradients_are_those_of_scikit_learns_ridge(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = Joint(L, random_relu(L, count, generator) if count else None)
    own, held = (by_hand(flat(walk(rows, seed=rows) + 2), features) for rows in (30, 50))
    moments = [means(features(flat(walk(rows, seed=rows) + 2))) for rows in (30, 50)]
    groups = features.groups()
    penalties = torch.rand(3, len(groups), generator=generator, dtype=torch.float64) * 0.3 + 0.01
    errors, slopes = hypergradients(*moments, penalties, groups)
    for error, slope, penalty in zip(errors, slopes, penalties.numpy(), strict=True):
        assert error.item() == pytest.approx(held_out_error(own, held, penalty), rel=1e-8)
        np.testing.assert_allclose(slope, differences(own, held, penalty, groups.numpy()), rtol=1e-5, atol=1e-7)


def test_every_feature_is_in_one_group_the_last_steps_by_themselves() -> None:
    relu = random_relu(16, 3, torch.Generator().manual_seed(0))
    found = Joint(16, relu).groups().argmax(dim=1).tolist()
    assert found == [3] * 8 + [2] * 4 + [1] * 2 + [0] * 2 + [4] * 2 + [5] * 3
    assert Joint(3, None).groups().T.tolist() == [[0, 0, 1, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 1, 1]]


def stretches(real: torch.Tensor, features: Joint, count: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    """Windows of each stretch of time."""
    return [by_hand(flat(torch.tensor(part)), features) for part in np.array_split(real.numpy(), count)]


def cross_validated(told: Any, folds: list[tuple[np.ndarray, np.ndarray]]) -> Any:
    """The mean over windows of what ``told`` tells of windows to train on and those held out."""
    found = []
    for n, held in enumerate(folds):
        own = [fold for k, fold in enumerate(folds) if k != n]
        found.append(told(tuple(map(np.concatenate, zip(*own, strict=True))), held) * len(held[0]))
    return sum(found) / sum(len(phi) for phi, _ in folds)


@pytest.mark.parametrize(("rows", "count"), [(80, 5), (47, 5), (44, 4), (2 * (L + H), 2)])
def test_what_is_known_of_all_data_is_cross_validated_over_stretches_of_time(rows: int, count: int) -> None:
    """The real moments are checked through the errors and hypergradients they give at known penalties."""
    real = walk(rows, 3)
    objective = hcdc(real)
    assert len(objective.known.draws) == 2
    for points in objective.known.draws:
        folds = stretches(real, points.features, count)
        assert points.errors.shape == (POOL,)
        for n in (0, POOL - 1):
            penalty, groups = points.penalties[n].numpy(), points.groups.numpy()
            error = cross_validated(lambda own, held, d=penalty: held_out_error(own, held, d), folds)
            assert points.errors[n].item() == pytest.approx(error, rel=1e-8)
            slopes = cross_validated(lambda own, held, d=penalty, g=groups: differences(own, held, d, g), folds)
            np.testing.assert_allclose(points.slopes[n], slopes, rtol=1e-4, atol=1e-7)
        squares = np.square(np.concatenate([phi for phi, _ in folds])).mean(axis=0)
        for one in points.groups.numpy().T.astype(bool):
            relative = points.penalties[:, one] / squares[one].mean()
            assert torch.allclose(relative, relative[:, :1]) and ((relative >= 1e-3) & (relative <= 1e3)).all()
            assert relative.max() / relative.min() > 100  # drawn from all of the range


def test_windows_held_out_are_shifted_in_expectation() -> None:
    """Each window upwards and downwards by the deviation: the same first two moments."""
    real = walk(80)
    objective = hcdc(real, level=2.0, draws=1, relu=0.0, raw=1.0)
    (points,) = objective.known.draws
    penalty, features = points.penalties[3].numpy(), points.features
    pieces = [flat(torch.tensor(part)) for part in np.array_split(real.numpy(), 5)]
    folds = [by_hand(piece, features) for piece in pieces]

    def error(own: tuple[np.ndarray, np.ndarray], held: tuple[np.ndarray, np.ndarray]) -> float:
        shifted = held[0].copy(), held[0].copy()
        for sign, phi in zip((2, -2), shifted, strict=True):
            phi[:, L] += sign
        return held_out_error(own, (np.concatenate(shifted), np.concatenate([held[1]] * 2)), penalty)

    assert points.errors[3].item() == pytest.approx(cross_validated(error, folds), rel=1e-8)
    synthetic = walk(20, seed=1)
    _, slopes = hypergradients(means(features(flat(synthetic))), points.real, points.penalties[3:4], points.groups)
    x, y = by_hand(torch.cat(pieces), features)
    up, down = x.copy(), x.copy()
    up[:, L] += 2
    down[:, L] -= 2
    every = np.concatenate([up, down]), np.concatenate([y, y])
    expected = differences(by_hand(flat(synthetic), features), every, penalty, points.groups.numpy())
    np.testing.assert_allclose(slopes[0], expected, rtol=1e-4, atol=1e-7)


def test_the_loss_is_wieners_and_the_distance_at_the_points_it_draws() -> None:
    real, synthetic = walk(80), walk(20, seed=1)[None]
    objective = hcdc(real, points=POOL, direction=2.0, value=0.5)
    expected = {}
    for points in objective.known.draws:
        own = by_hand(flat(synthetic[0]), points.features)
        held = tuple(map(np.concatenate, zip(*stretches(real, points.features), strict=True)))
        cosines, ratios = [], []
        for n in range(POOL):
            penalty = points.penalties[n].numpy()
            a, b = differences(own, held, penalty, points.groups.numpy()), points.slopes[n].numpy()
            cosines.append(a @ b / np.sqrt((a @ a) * (b @ b)))
            ratios.append(np.log(held_out_error(own, held, penalty) / points.errors[n].item()))
        expected[round(1 - np.mean(cosines), 5)] = np.mean(np.square(ratios))
    generator, seen = torch.Generator().manual_seed(0), set()
    for _ in range(12):
        loss, terms = objective.loss(synthetic, generator)
        seen.add(round(terms["direction"].item(), 5))
        assert terms["value"].item() == pytest.approx(expected[round(terms["direction"].item(), 5)], rel=1e-6)
        assert loss.item() == pytest.approx(terms["relu"].item() + 2 * terms["direction"] + 0.5 * terms["value"])
    assert seen == set(expected) and len(seen) == 2


def test_an_iteration_looks_at_some_points_and_at_others_than_the_one_before() -> None:
    objective, generator = hcdc(walk(80), points=2, draws=1), torch.Generator().manual_seed(0)
    synthetic = walk(20, seed=1)[None]
    assert len({objective.loss(synthetic, generator)[1]["direction"].item() for _ in range(8)}) > 4


@pytest.mark.parametrize("options", [{}, {"relu": 0.0, "raw": 1.0}])
def test_the_loss_has_the_gradient_it_claims(options: dict[str, float]) -> None:
    objective = hcdc(walk(80), value=0.5, **options)
    synthetic = walk(20, seed=3)[None].requires_grad_()
    generator = lambda: torch.Generator().manual_seed(1)  # noqa: E731
    assert torch.autograd.gradcheck(lambda s: objective.loss(s, generator())[0], (synthetic,))


def test_matching_directions_lowers_their_distance() -> None:
    small = {**{name: value for name, value in SMALL.items() if name != "k"}, "features": 8, "draws": 1, "points": POOL}
    plain, matched = (
        hdt.distill(make_frame(), **{**small, "method": "hcdc", "direction": weight, "iterations": 60})
        for weight in (0.0, 5.0)
    )
    assert matched.history[-1]["direction"] < 0.7 * plain.history[-1]["direction"]


def test_bad_settings_are_refused_in_one_line(run: Any, csv: Any) -> None:
    words = ("distill", csv, "--method", "hcdc", "--context", 12, "--horizon", 6, "--length", 48)
    result = run(*words, "--option", "least_penalty=2", "--option", "most_penalty=2")
    refused(result, "least_penalty=2 is not below most_penalty=2; give a range")
    refused(run(*words, "--option", "points=17"), "points")
    with pytest.raises(hdt.InputError, match=r"holds out half .* takes 204 rows and it has 180; lower --context"):
        hdt.distill(make_frame(), method="hcdc", context=12, horizon=90, length=102, split=[0.45, 0.25, 0.3])


def test_singular_synthetic_moments_are_an_error_that_says_what_to_raise() -> None:
    infinite = replace(means((torch.ones(3, 2).double(), torch.ones(3, 1).double())), features=torch.ones(2, 2) * -1e9)
    with pytest.raises(hdt.InputError, match=r"^the synthetic moments became singular; raise --option least_penalty"):
        hypergradients(infinite.double(), infinite.double(), torch.ones(1, 2).double(), torch.eye(2).double())


def test_a_run_cannot_be_updated(run: Any, csv: Any) -> None:
    words = ("distill", csv, "--method", "hcdc", "--context", 12, "--horizon", 6, "--length", 48)
    result = run(*words, "--option", "features=4", "--option", "draws=1", "--iterations", 1, "--state", "--out", "r")
    refused(result, "objective 'hcdc' cuts the training part into stretches, which would be others")


def test_the_memory_of_a_loss_is_that_of_wiener_and_of_the_matrices_of_its_points() -> None:
    options = {"features": 7, "points": 3}
    plain, own = (kind(kind.Options.of(options), Problem(L, H, 20)).graph_bytes(2, 5) for kind in (Wiener, HCDC))
    assert own - plain == 8 * 10 * 3 * (L + 2 + 7) ** 2
