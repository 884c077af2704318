from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, count, pairwise

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances

from hdt.start import starting_series
from hdt.start.subsets import candidates, features, herding, k_center
from hdt.system.errors import InputError


def cloud(size: int, dimensions: int, seed: int) -> torch.Tensor:
    return torch.randn(size, dimensions, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


clouds = st.builds(cloud, st.integers(3, 20), st.integers(1, 4), st.integers(0, 2**31))


def radius(points: torch.Tensor, chosen: list[int]) -> float:
    """The largest distance of a point to its nearest chosen one."""
    return pairwise_distances(points.numpy(), points[chosen].numpy()).min(axis=1).max()


@given(steps=st.integers(5, 300), length=st.integers(1, 5), most=st.integers(1, 40))
def test_candidates_are_as_dense_as_allowed_over_the_whole_series(steps: int, length: int, most: int) -> None:
    positions = steps - length + 1
    stride = next(s for s in count(1) if len(range(0, positions, s)) <= most)
    assert candidates(torch.zeros(steps, 1), length, most) == list(range(0, positions, stride))


def test_features_are_amplitude_spectra_which_shifts_leave_alone() -> None:
    series = cloud(20, 3, seed=0)
    found = features(series, [0, 4, 11], 9)
    for row, first in zip(found, [0, 4, 11], strict=True):
        expected = np.abs(scipy.fft.rfft(series[first : first + 9].numpy(), axis=0, norm="ortho"))
        np.testing.assert_allclose(row.numpy(), expected.flatten(), atol=1e-12)
    around = torch.cat([series[:9].roll(4, dims=0), series[:9]])
    torch.testing.assert_close(*features(around, [0, 9], 9))


@given(points=clouds)
def test_herding_takes_the_nearest_running_mean_every_time(points: torch.Tensor) -> None:
    chosen = herding(points, len(points))
    assert sorted(chosen) == list(range(len(points)))
    mean = points.mean(dim=0, keepdim=True).numpy()
    for step, index in enumerate(chosen):
        left = [i for i in range(len(points)) if i not in chosen[:step]]
        means = np.stack([points[[*chosen[:step], i]].mean(dim=0).numpy() for i in left])
        distances = pairwise_distances(means, mean)[:, 0]
        assert distances[left.index(index)] <= distances.min() + 1e-12


def test_herding_by_hand() -> None:
    """The mean of 0, 1, 5, 6, 13 is 5: first 5 itself; then (5 + 6) / 2 = 5.5 is nearest; then 13 would give
    24 / 3 = 8, 1 gives 4, 0 gives 11 / 3: 1."""
    points = torch.tensor([0.0, 1, 5, 6, 13])[:, None]
    assert herding(points, 3) == [2, 3, 1]


@given(points=clouds)
def test_k_center_takes_the_farthest_point_every_time(points: torch.Tensor) -> None:
    chosen = k_center(points, len(points))
    assert sorted(chosen) == list(range(len(points)))
    distances = pairwise_distances(points.numpy())
    assert distances[chosen[0]].max() <= distances.max(axis=1).min() + 1e-6
    for step in range(1, len(chosen)):
        gaps = distances[:, chosen[:step]].min(axis=1)
        assert gaps[chosen[step]] >= gaps.max() - 1e-6


@given(points=clouds)
def test_every_further_centre_brings_the_rest_nearer(points: torch.Tensor) -> None:
    chosen = k_center(points, len(points))
    radii = [radius(points, chosen[:size]) for size in range(1, len(points) + 1)]
    assert all(later <= sooner for sooner, later in pairwise(radii))
    assert radii[-1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("centres", [1, 2, 3])
@given(seed=st.integers(0, 2**31))
def test_k_center_stays_within_twice_the_best_radius(centres: int, seed: int) -> None:
    """Gonzalez's bound; the best centres of nine points by trying all. One centre is the best one."""
    points = cloud(9, 2, seed)
    best = min(radius(points, list(some)) for some in combinations(range(9), centres))
    found = radius(points, k_center(points, centres))
    assert best <= found + 1e-9
    assert found <= (1 if centres == 1 else 2) * best + 1e-9


@pytest.mark.parametrize(("kind", "choose"), [("herding", herding), ("kcenter", k_center)])
def test_starts_are_the_chosen_real_sub_series(kind: str, choose: Callable[[torch.Tensor, int], list[int]]) -> None:
    series, draws = cloud(40, 2, seed=0), torch.Generator().manual_seed(0)
    before = draws.get_state()
    sequences = starting_series(kind, series, 3, 16, draws)
    chosen = choose(features(series, list(range(25)), 16), 3)
    assert torch.equal(sequences, torch.stack([series[i : i + 16] for i in chosen]))
    assert torch.equal(draws.get_state(), before)


def test_herding_takes_coinciding_points_one_by_one() -> None:
    assert sorted(herding(torch.ones(4, 2), 4)) == [0, 1, 2, 3]


def test_k_center_takes_coinciding_points_one_by_one() -> None:
    assert sorted(k_center(torch.ones(4, 2), 4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["herding", "kcenter"])
def test_more_sequences_than_sub_series_are_refused(kind: str) -> None:
    with pytest.raises(InputError):
        starting_series(kind, cloud(18, 2, seed=0), 4, 16, torch.Generator())
