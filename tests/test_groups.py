from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, Result, make_frame, refused

import hdt
from hdt.distillation import loop
from hdt.distillation.config import CHANNEL_BATCH, MANY_CHANNELS, resolve
from hdt.distillation.groups import Group, gathered, partition
from hdt.distillation.recipe import command
from hdt.maths.windows import some_windows, windows
from hdt.objective import Problem
from hdt.objective.gradient import GradientMatching
from hdt.objective.harmonic import HarmonicMatching
from hdt.objective.wiener import Wiener
from hdt.parameterization import PARAMETERIZATIONS, Parameterization, Size
from hdt.students import build

COLUMNS = tuple("abcdef")
QUICK = {name: value for name, value in SMALL.items() if name != "k"}
CHEAP = {"features": 8, "draws": 2}
OWN = {
    "hdt": {"k": 6},
    "wiener": CHEAP,
    "fred-wiener": CHEAP,
    "nsd-wiener": {**CHEAP, "group": 2, "instance_rank": 1, "cycle_rank": 1, "channel_rank": 2},
    "condtsf": {"experts": 1, "expert_epochs": 2, "max_start": 1},
    "dc": {"matches": 1},
    "stemdist": {"matches": 1},
}
OPTIONS = {
    "fred": {"period": 5, "kept": 10, "mask": "channel"},
    "nsd": {"period": 5, "group": 2, "instance_rank": 1, "cycle_rank": 2, "channel_rank": 2},
}


def double(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def made(name: str, **options: object) -> Parameterization:
    kind = PARAMETERIZATIONS[name]
    parameterization = kind(Size(2, 24, 5), kind.Options.of({**OPTIONS.get(name, {}), **options}))
    parameterization.prepare(double(60, 5), torch.Generator().manual_seed(0))
    return parameterization


@pytest.mark.parametrize(("channels", "most", "sizes"), [(7, 3, [2, 2, 3]), (6, 2, [2, 2, 2]), (5, 1, [1] * 5)])
def test_every_channel_is_in_one_group(channels: int, most: int, sizes: list[int]) -> None:
    groups = [group.tolist() for group in partition(channels, most, torch.Generator().manual_seed(0))]
    assert sorted(map(len, groups)) == sizes
    assert sorted(channel for group in groups for channel in group) == list(range(channels))
    assert all(group == sorted(group) for group in groups)
    assert groups != [group.tolist() for group in partition(channels, most, torch.Generator().manual_seed(1))]


def test_nothing_is_drawn_for_one_group() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert partition(4, None, generator) == partition(4, 4, generator) == [None]
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in PARAMETERIZATIONS), ("fred", {"mask": "shared"})]
)
def test_groups_decode_to_their_channels_and_come_together_again(name: str, options: dict[str, str]) -> None:
    parameterization = made(name, **options)
    params = parameterization.encode(double(parameterization.instances(), 24, 5, seed=1))
    whole = parameterization.decode(params)
    groups = [Group(parameterization, params, index) for index in partition(5, 2, torch.Generator().manual_seed(0))]
    for group in groups:
        torch.testing.assert_close(group.decode(), whole[:, :, group.channels])
    together = gathered(groups)
    assert list(together) == list(params)
    for tensor, expected in zip(together.values(), params.values(), strict=True):
        assert torch.equal(tensor, expected)


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_a_group_takes_a_series_as_all_channels_do(name: str) -> None:
    parameterization = made(name)
    params = parameterization.encode(double(parameterization.instances(), 24, 5, seed=1))
    whole = parameterization.decode(params)
    group = Group(parameterization, params, torch.tensor([1, 4]))
    changed = whole.clone()
    changed[:, :, [1, 4]] *= 0.5
    expected = parameterization.decode(parameterization.encode(changed, params))
    group.replace(changed[:, :, [1, 4]])
    torch.testing.assert_close(group.decode(), expected[:, :, [1, 4]])


def test_each_iteration_moves_one_group_and_each_round_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Momentum included: what is not looked at stands still."""
    groups: list[Group] = []

    class Seen(Group):
        def __init__(self, *given: object) -> None:
            super().__init__(*given)
            groups.append(self)

    monkeypatch.setattr(loop, "Group", Seen)
    shown: list[list[torch.Tensor]] = []

    def look(*_: object) -> None:
        shown.append([group.params["values"].detach().clone() for group in groups])

    settings = {**QUICK, **CHEAP, "iterations": 7}
    hdt.distill(make_frame(columns=COLUMNS), method="wiener", channel_batch=2, watch=look, **settings)
    moved = [
        [n for n, (a, b) in enumerate(zip(*pair, strict=True)) if not torch.equal(a, b)] for pair in pairwise(shown)
    ]
    assert all(len(found) == 1 for found in moved)
    assert {0, 1, 2} == {found[0] for found in moved[2:5]}


def test_harmonic_losses_of_groups_average_to_that_of_all_channels() -> None:
    """Against NumPy on all channels; the gradient against differences of that."""
    real, synthetic = double(60, 6), double(2, 12, 6, seed=1)
    options = HarmonicMatching.Options(k=3, lam=1, gradient_weight=0, acf_weight=0.7)
    objective = HarmonicMatching(options, Problem(4, 3, 12))
    known = objective.prepare(real)
    amplitude, power, kept = (part.numpy() for part in (known.amplitude, known.power, known.mask))
    weights = np.array([1, 2, 2, 2, 2, 2, 1.0])[:, None]

    def whole(series: np.ndarray) -> float:
        found = np.abs(np.fft.rfft(series, axis=1)) / 12**0.5
        harmonic = (((found - amplitude) ** 2) * kept).sum(axis=1).mean() / 3
        return harmonic + 0.7 * (weights * np.abs(found**2 - power)).sum(axis=1).mean() / 12

    given = synthetic.clone().requires_grad_()
    losses = []
    for index in partition(6, 2, torch.Generator().manual_seed(0)):
        near = objective.restrict(known, index)
        losses.append(objective.loss(near, given[:, :, index], {}, torch.Generator()).loss)
    mean = sum(losses) / len(losses)
    assert len({round(loss.item(), 6) for loss in losses}) == 3
    assert mean.item() == pytest.approx(whole(synthetic.numpy()), rel=1e-12)
    (gradient,) = torch.autograd.grad(mean, given)
    for place in [(0, 3, 1), (1, 7, 4), (1, 0, 5)]:
        step = np.zeros((2, 12, 6))
        step[place] = 1e-6
        difference = whole(synthetic.numpy() + step) - whole(synthetic.numpy() - step)
        assert gradient[place].item() == pytest.approx(difference / 2e-6, rel=1e-5)


def test_gradients_of_groups_average_to_that_of_all_channels() -> None:
    """L = H = 1, M = T = 2 as in test_objective: one window (x, y) per channel, i = j = 1, and the forecast is w·x + b.

    A student's gradient is then, but for a factor, the mean over channels of v = (r·x, r, r), r = w·x + b − y; the loss
    of a group is |v_S − v_X|² / |v_X|² for its own means, which average to those of all channels.
    """
    real, synthetic = double(2, 6), double(1, 2, 6, seed=1)
    options = GradientMatching.Options(steps_real=1, steps_synthetic=1, segments=1, batch=5)
    objective = GradientMatching(options, Problem(1, 1, 2))
    known = objective.prepare(real)
    draws = torch.Generator().manual_seed(4)
    torch.randint(0, 1, (1,), generator=draws)
    first = build("dlinear", 1, 1, 1, int(torch.randint(2**31, (), generator=draws)))
    weight, bias = first.trend.weight.item(), first.trend.bias.item() + first.seasonal.bias.item()

    def mean(window: np.ndarray) -> np.ndarray:
        x, y = window
        r = weight * x + bias - y
        return np.array([(r * x).mean(), r.mean(), r.mean()])

    groups = partition(6, 2, torch.Generator().manual_seed(0))
    for index in [*groups, torch.arange(6)]:
        own, wanted = mean(synthetic[0, :, index].numpy()), mean(real[:, index].numpy())
        near, generator = objective.restrict(known, index), torch.Generator().manual_seed(4)
        loss = objective.loss(near, synthetic[:, :, index], {}, generator).loss
        assert loss.item() == pytest.approx(np.square(own - wanted).sum() / np.square(wanted).sum(), rel=1e-6)
    means = [mean(synthetic[0, :, index].numpy()) for index in groups]
    np.testing.assert_allclose(np.mean(means, axis=0), mean(synthetic[0].numpy()))


def test_every_window_of_a_group_is_equally_likely() -> None:
    every = windows(torch.arange(20.0)[None, :, None], 4, 3)  # 14 windows, named by their first step
    found = {}
    for seed in range(40):
        some = some_windows(every, 4, torch.Generator().manual_seed(seed))[0, :, 0, 0].tolist()
        found[some[0]] = some
    assert sorted(window for some in found.values() for window in some) == list(range(14))
    assert sorted(map(len, found.values())) == [3, 3, 4, 4]
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert some_windows(every, 1, generator) is every
    assert some_windows(every[:, :1], 4, generator).shape == (1, 1, 7, 1)
    assert torch.equal(generator.get_state(), before)


def test_wieners_group_is_scored_by_the_moments_of_all_channels_on_its_own_windows() -> None:
    """One window of two channels and full draws: the error of W(S), here by hand, on every real window."""
    real, synthetic = double(30, 3), double(1, 6, 3, seed=1)
    options = Wiener.Options(ridge=0.1, level=0, centred=0, relu=0, noise=0)
    objective = Wiener(options, Problem(4, 2, 6))
    near, index = objective.restrict(objective.prepare(real), torch.tensor([0, 2])), [0, 2]
    loss = objective.loss(near, synthetic[:, :, index], {}, torch.Generator()).loss.item()
    phi, y = (
        np.array([f(synthetic[0, :, c].tolist()) for c in index]) for f in (lambda w: [*w[:4], 1], lambda w: w[4:])
    )
    a = phi.T @ phi / 2
    weights = np.linalg.solve(a + 0.1 * np.trace(a) / 5 * np.eye(5), phi.T @ y / 2)
    every = [real[t : t + 6, c].numpy() for t in range(25) for c in range(3)]
    errors = [np.square(w[4:] - np.append(w[:4], 1) @ weights).sum() for w in every]
    assert loss == pytest.approx(sum(errors) / sum(np.square(w[4:]).sum() for w in every), rel=1e-9)


@pytest.mark.parametrize("method", OWN)
def test_methods_distil_group_by_group_and_seeds_decide(method: str) -> None:
    small = {**QUICK, **OWN[method], "method": method, "channel_batch": 2}
    first, second, other = (hdt.distill(make_frame(columns=COLUMNS), seed=seed, **small) for seed in (1, 1, 2))
    assert np.isfinite(first.values).all() and first.values.shape[2] == 6
    assert first.values.tobytes() == second.values.tobytes() and first.history == second.history
    assert first.values.tobytes() != other.values.tobytes()
    assert first.info.settings.channel_batch == 2


@pytest.mark.parametrize("method", ["hdt", "wiener", "fred-wiener"])
def test_groups_that_hold_all_channels_change_no_byte(method: str) -> None:
    frame = make_frame(columns=COLUMNS)
    small = {**QUICK, **OWN[method], "method": method}
    first, second = (hdt.distill(frame, channel_batch=batch, **small) for batch in (None, 6))
    assert first.info.settings.channel_batch is None
    assert first.values.tobytes() == second.values.tobytes() and first.history == second.history


def test_only_many_channels_are_grouped_unless_asked_for() -> None:
    assert resolve(None, MANY_CHANNELS).channel_batch is None
    assert resolve(None, MANY_CHANNELS + 1).channel_batch == CHANNEL_BATCH
    assert resolve(None, 500, method="wiener", channels=8).channel_batch is None
    exact = resolve(None, 500, channel_batch=500)
    assert exact.channel_batch == 500
    assert "--channel-batch 500" in command(exact, "many.csv", {}, 500)
    assert "channel-batch" not in command(resolve(None, 500), "many.csv", {}, 500)
    with pytest.raises(hdt.InputError, match="channel_batch=0"):
        resolve(None, 500, channel_batch=0)


def test_the_command_line_takes_a_group_size(run: Callable[..., Result], csv: Path) -> None:
    words = ["distill", csv, "--length", 48, "--context", 12, "--horizon", 6, "--k", 6, "--dry-run", "--json"]
    plan = json.loads(run(*words, "--channel-batch", 1).out)
    assert plan["settings"]["channel_batch"] == 1
    refused(run(*words, "--channel-batch", 0), "channel_batch=0")
