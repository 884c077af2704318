from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import Ready

from hdt.maths import spectrum
from hdt.objective import OBJECTIVES, Known, Problem, wiener
from hdt.objective.gradient import GradientMatching, _sample
from hdt.objective.harmonic import HarmonicMatching
from hdt.objective.harmonic_wiener import HarmonicWiener
from hdt.objective.wiener import Wiener
from hdt.start import random_phases, real_segments
from hdt.students import build
from hdt.system.errors import InputError
from hdt.system.parts import Shape

LITTLE = {"features": 5, "draws": 2}


def double(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def harmonic(problem: Problem, series: torch.Tensor, **options: float) -> Ready:
    return Ready(HarmonicMatching(HarmonicMatching.Options(**options), problem), series)


def test_harmonic_loss_by_hand() -> None:
    """x = (1, −1, 1, −1) has one harmonic: bin 2, orthonormal amplitude 4/√4 = 2. S = 0 has none.

    k = 1, p = 2: L_harm = (2 − 0)² / 1 = 4. k = 2 divides by 2: 2. p = 1, k = 1: 2.
    PSD gap: (1/4)·|0 − 2²| = 1.
    """
    real = torch.tensor([1.0, -1, 1, -1], dtype=torch.float64)[:, None]
    zero = torch.zeros(1, 4, 1, dtype=torch.float64)
    problem = Problem(context=2, horizon=2, length=4)
    for options, expected in [({"k": 1}, 4.0), ({"k": 2}, 2.0), ({"k": 1, "p": 1}, 2.0)]:
        objective = harmonic(problem, real, lam=0.5, gradient_weight=0, **options)
        assert objective.harmonic_loss(objective.known, zero).item() == pytest.approx(expected, abs=1e-12)
        loss, terms = objective.loss(zero, torch.Generator())
        assert loss.item() == pytest.approx(0.5 * expected, abs=1e-12)
        assert set(terms) == {"harmonic"}
    loss, _ = harmonic(problem, real, k=1, lam=0, gradient_weight=0, acf_weight=3).loss(zero, torch.Generator())
    assert loss.item() == pytest.approx(3.0, abs=1e-12)


def test_gradient_loss_by_hand() -> None:
    """L = H = 1, M = T = 2: one real window (x, y) and one synthetic window, i = j = 1.

    DLinear's moving average of one step is the step itself, so the forecast is w·x + b + b' with w the
    trend weight. With r = w·x + b + b' − y, the gradients of r² are 2rx, 2r, 2r (and 0 for the
    seasonal weight), so the step size cancels:
    L_grad = ((r_S x_S − r_X x_X)² + 2(r_S − r_X)²) / ((r_X x_X)² + 2 r_X²).
    """
    real = torch.tensor([[0.7], [-1.3]], dtype=torch.float64)
    synthetic = torch.tensor([[[0.2], [0.9]]], dtype=torch.float64)
    options = GradientMatching.Options(steps_real=1, steps_synthetic=1, segments=1, batch=5, inner_lr=0.17)
    objective = Ready(GradientMatching(options, Problem(context=1, horizon=1, length=2)), real)
    loss, _ = objective.loss(synthetic, torch.Generator().manual_seed(4))
    draws = torch.Generator().manual_seed(4)
    torch.randint(0, 1, (1,), generator=draws)
    start = build("dlinear", 1, 1, 1, int(torch.randint(2**31, (), generator=draws)))
    bias = start.trend.bias.item() + start.seasonal.bias.item()

    def residual(x: float, y: float) -> float:
        return start.trend.weight.item() * x + bias - y

    r_x, r_s = residual(0.7, -1.3), residual(0.2, 0.9)
    expected = ((r_s * 0.2 - r_x * 0.7) ** 2 + 2 * (r_s - r_x) ** 2) / ((r_x * 0.7) ** 2 + 2 * r_x**2)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_gradient_loss_vanishes_when_synthetic_and_real_windows_are_the_same() -> None:
    real = double(12, 2)
    options = GradientMatching.Options(segments=1, batch=1, steps_real=3, steps_synthetic=3)
    objective = Ready(GradientMatching(options, Problem(6, 6, 12)), real)
    loss, _ = objective.loss(real[None], torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("objective", ["gradient", "harmonic", "amplitude", "acf"])
def test_losses_have_the_gradients_they_claim(objective: str) -> None:
    series, problem = double(60, 2), Problem(context=4, horizon=3, length=12)
    quick = {"steps_real": 2, "steps_synthetic": 2, "segments": 2, "batch": 6}
    if objective == "gradient":
        target = Ready(GradientMatching(GradientMatching.Options(**quick), problem), series)
    else:
        weights = {
            "harmonic": {},
            "amplitude": {"gradient_weight": 0},
            "acf": {"gradient_weight": 0, "lam": 0, "acf_weight": 1},
        }
        target = harmonic(problem, series, k=3, **quick, **weights[objective])
    synthetic = double(2, 12, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: target.loss(s, torch.Generator().manual_seed(0))[0], (synthetic,))


def test_gradient_matching_sees_only_the_kept_harmonics() -> None:
    series, problem = double(60, 2), Problem(4, 3, 12)
    objective = harmonic(problem, series, k=3, lam=0)
    outside = spectrum.keep_harmonics(double(1, 12, 2, seed=2), ~objective.mask)
    synthetic = double(1, 12, 2, seed=1)
    first, _ = objective.loss(synthetic, torch.Generator().manual_seed(0))
    second, _ = objective.loss(synthetic + outside, torch.Generator().manual_seed(0))
    torch.testing.assert_close(first, second)


def test_a_group_of_channels_sees_only_their_kept_harmonics() -> None:
    series, problem, some = double(60, 3), Problem(4, 3, 12), torch.tensor([2, 0])
    objective = harmonic(problem, series, k=3, lam=0)
    near = objective.objective.restrict(objective.known, some)
    for found, whole in (
        (near.mask, objective.mask),
        (near.amplitude, objective.amplitude),
        (near.power, objective.power),
        (near.gradient.mask, objective.mask),
        (near.gradient.series, series),
    ):
        assert torch.equal(found, whole[:, some])
    assert (objective.gradient.share, near.gradient.share) == (1, 4)
    outside = spectrum.keep_harmonics(double(1, 12, 2, seed=2), ~objective.mask[:, some])
    synthetic = double(1, 12, 2, seed=1)
    losses = [
        objective.objective.loss(near, given, {}, torch.Generator().manual_seed(0)).loss
        for given in (synthetic, synthetic + outside)
    ]
    torch.testing.assert_close(*losses)


def test_the_harmonic_loss_is_zero_at_the_mean_amplitudes_whatever_the_phases() -> None:
    series, problem = double(200, 2), Problem(4, 3, 24)
    objective = harmonic(problem, series, k=13)
    amplitude = spectrum.mean_spectrum(series, 24).amplitude
    synthetic = random_phases(amplitude.square(), 3, 24, torch.Generator().manual_seed(0))
    assert objective.harmonic_loss(objective.known, synthetic).item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("length", [23, 24])
def test_random_phases_have_the_asked_power_and_differ_by_channel(length: int) -> None:
    power = torch.rand(length // 2 + 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    surrogate = random_phases(power, 2, length, torch.Generator().manual_seed(1))
    torch.testing.assert_close(spectrum.psd(surrogate), power.expand(2, -1, -1))
    same = random_phases(torch.ones(length // 2 + 1, 2), 1, length, torch.Generator().manual_seed(1))
    assert not torch.allclose(same[0, :, 0], same[0, :, 1])


@pytest.mark.parametrize(("sequences", "channels"), [(1, 7), (2, 1), (1, 8)])
def test_random_phases_put_as_many_levels_above_zero_as_below(sequences: int, channels: int) -> None:
    orders = set()
    for seed in range(8):
        draws = torch.Generator().manual_seed(seed)
        signs = random_phases(torch.ones(13, channels), sequences, 24, draws).mean(dim=1).sign().flatten()
        assert abs(signs.sum()) == (sequences * channels) % 2
        orders.add(tuple(signs.tolist()))
    assert len(orders) > 1


def test_real_segments_are_rows_of_the_series() -> None:
    series = torch.arange(50.0)[:, None]
    segments = real_segments(series, 20, 10, torch.Generator().manual_seed(0))
    assert segments.shape == (20, 10, 1)
    assert (segments[:, 1:] - segments[:, :-1] == 1).all()
    assert segments.min() >= 0 and segments.max() <= 49
    assert not math.isclose(segments[0, 0, 0].item(), segments[1, 0, 0].item())


def chosen(ready: Ready) -> dict[str, float]:
    return ready.objective.chosen(ready.known, ready.state)


def test_lam_auto_gives_both_terms_equal_gradients() -> None:
    real, problem = double(60, 2), Problem(context=6, horizon=3, length=20)
    synthetic = double(1, 20, 2, seed=1).requires_grad_()
    objective = harmonic(problem, real, k=4, lam="auto", segments=1, steps_real=1, steps_synthetic=1)
    objective.loss(synthetic, torch.Generator().manual_seed(5))
    lam = chosen(objective)["lam"]
    generator = torch.Generator().manual_seed(5)
    fixed = harmonic(problem, real, k=4, lam=0, segments=1, steps_real=1, steps_synthetic=1)
    fixed.loss(synthetic, generator)  # the draw of the loss itself comes first
    gradients = [torch.autograd.grad(fixed.loss(synthetic, generator)[0], synthetic)[0] for _ in range(8)]
    expected = math.sqrt(sum(g.square().sum().item() for g in gradients) / 8)
    (other,) = torch.autograd.grad(fixed.harmonic_loss(fixed.known, synthetic), synthetic)
    assert lam * other.norm().item() == pytest.approx(expected)
    assert chosen(objective) == {"lam": lam}
    objective.loss(synthetic, torch.Generator().manual_seed(6))
    assert chosen(objective) == {"lam": lam}


def test_lam_auto_has_nothing_to_balance_where_amplitudes_match() -> None:
    real = double(20, 2)
    objective = harmonic(Problem(context=6, horizon=3, length=20), real, k=4, lam="auto")
    with pytest.raises(
        InputError,
        match=r"^lam=auto: the amplitudes already match, so there is nothing to balance; give --lam a number$",
    ):
        objective.loss(real[None].requires_grad_(), torch.Generator())


def test_the_terms_of_the_loss_are_weighed_and_named() -> None:
    """Each against the objective that has it alone, from the same draws."""
    real, synthetic, problem = double(60, 2), double(1, 12, 2, seed=1), Problem(4, 3, 12)
    weights = {"gradient_weight": 2.0, "lam": 3.0, "acf_weight": 5.0}
    loss, terms = harmonic(problem, real, k=3, **weights).loss(synthetic, torch.Generator().manual_seed(0))
    assert list(terms) == ["gradient", "harmonic", "psd_gap"]
    for (name, term), weight in zip(terms.items(), weights, strict=True):
        alone = harmonic(problem, real, k=3, **{**dict.fromkeys(weights, 0.0), weight: weights[weight]})
        own, found = alone.loss(synthetic, torch.Generator().manual_seed(0))
        assert own.item() == pytest.approx(weights[weight] * term.item(), rel=1e-12) and list(found) == [name]
        assert not term.requires_grad
    assert loss.item() == pytest.approx(
        sum(w * t.item() for w, t in zip(weights.values(), terms.values(), strict=True))
    )


def test_of_a_long_sequence_an_iteration_looks_at_some_windows_and_in_time_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """14 windows in a sequence, of which at most 5 are enough: one in three. Of five: all, and nothing is drawn."""
    monkeypatch.setattr(wiener, "ENOUGH", 5)
    objective = Wiener(Wiener.Options(**LITTLE), Problem(4, 3, 20))
    known, generator = objective.prepare(double(40, 2)), torch.Generator().manual_seed(0)
    synthetic = double(2, 20, 2, seed=1)
    own = np.lib.stride_tricks.sliding_window_view(synthetic.numpy(), 7, axis=1)
    every, seen = {tuple(row) for row in own.reshape(-1, 7)}, set()
    assert len(every) == 14 * 4
    for _ in range(20):
        rows = [tuple(row) for row in objective.looked_at(known, synthetic, generator).numpy()]
        assert len(rows) in (4 * 4, 5 * 4) and set(rows) < every
        seen |= set(rows)
    assert seen == every
    assert objective.graph_bytes(2, 2) == 4 * 10 * 5 * 4 * 7  # and memory is counted for so many
    before = generator.get_state()
    assert len(objective.looked_at(known, synthetic[:, :11], generator)) == 5 * 4
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("k", [None, 3])
def test_harmonic_wiener_is_the_loss_of_wiener_and_the_gap_of_root_mean_square_amplitudes(k: int | None) -> None:
    """The gap by NumPy, from spectra of the sub-series one by one: one in every step, for 12 // 8 = 1."""
    problem, real, synthetic = Problem(4, 3, 12), double(40, 2), double(2, 12, 2, seed=1)
    own = Ready(HarmonicWiener(HarmonicWiener.Options(k=k, lam=0.7, **LITTLE), problem), real)
    alone = Ready(Wiener(Wiener.Options(**LITTLE), problem), real)
    loss, terms = own.loss(synthetic, torch.Generator().manual_seed(0))
    expected, others = alone.loss(synthetic, torch.Generator().manual_seed(0))
    parts = np.stack([np.abs(np.fft.rfft(real[s : s + 12].numpy(), axis=0)) / 12**0.5 for s in range(29)])
    found = np.abs(np.fft.rfft(synthetic.numpy(), axis=1)) / 12**0.5
    gap = (found - np.sqrt(np.square(parts).mean(axis=0))) ** 2
    kept = np.argsort(-parts.mean(axis=0), axis=0)[: k or 7]
    harmonic = np.take_along_axis(gap, kept[None], axis=1).mean()
    assert terms.pop("harmonic").item() == pytest.approx(harmonic, rel=1e-9)
    assert terms == others
    assert loss.item() == pytest.approx(expected.item() + 0.7 * harmonic, rel=1e-9)


def test_root_mean_square_amplitudes_leave_no_gap_in_theorem_1_and_mean_amplitudes_do() -> None:
    """White noise: the mean amplitude of a Gaussian bin squared is π/4 of its mean power, of the two real bins 2/π."""
    problem, real = Problem(4, 3, 12), double(20_000, 1)
    known = HarmonicWiener(HarmonicWiener.Options(**LITTLE), problem).prepare(real)
    mean = HarmonicMatching(HarmonicMatching.Options(k=7), problem).prepare(real).amplitude
    bound = [
        spectrum.autocovariance_bound(amplitude.square(), known.power, 12).psd_gap.item()
        for amplitude in (known.amplitude, mean)
    ]
    assert bound[0] == pytest.approx(0, abs=1e-12)
    assert bound[1] == pytest.approx((10 * (1 - math.pi / 4) + 2 * (1 - 2 / math.pi)) / 12, rel=0.05)


@pytest.mark.parametrize("k", [None, 3])
def test_groups_of_channels_have_their_own_amplitudes(k: int | None) -> None:
    problem, real, synthetic = Problem(4, 3, 12), double(40, 4), double(2, 12, 4, seed=1)
    objective = HarmonicWiener(HarmonicWiener.Options(k=k, **LITTLE), problem)
    known = objective.prepare(real)
    groups = [objective.restrict(known, index) for index in (torch.tensor([2, 0]), torch.tensor([1, 3]))]
    losses = [
        objective.harmonic_loss(group, synthetic[:, :, index])
        for group, index in zip(groups, ([2, 0], [1, 3]), strict=True)
    ]
    assert sum(losses).item() / 2 == pytest.approx(objective.harmonic_loss(known, synthetic).item(), rel=1e-12)
    assert losses[0].item() != pytest.approx(losses[1].item(), rel=1e-3)


def test_k_auto_keeps_as_many_harmonics_as_hold_99_percent_of_the_energy() -> None:
    """Periods of 12, 6 and 4 steps of amplitudes 8, 3 and 1: energies 64, 9 and 1 of 74, of which 98.6% are in two."""
    time = torch.arange(120, dtype=torch.float64)[:, None]
    real = sum(a * (2 * torch.pi * time / period).cos() for a, period in ((8, 12), (3, 6), (1, 4)))
    auto, fixed = (harmonic(Problem(4, 3, 12), real, k=k) for k in ("auto", 3))
    assert auto.known.k == fixed.known.k == 3
    assert auto.objective.chosen(auto.known, {}) == {"k": 3} and fixed.objective.chosen(fixed.known, {}) == {}
    assert auto.mask[:, 0].nonzero().flatten().tolist() == [1, 2, 3]
    weaker = real - 0.5 * (2 * torch.pi * time / 4).cos()  # energies 64, 9 and 1/4: two hold 99.7%
    assert harmonic(Problem(4, 3, 12), weaker, k="auto").known.k == 2


def test_at_most_all_harmonics_are_kept() -> None:
    for k in (7, "auto"):
        HarmonicMatching.check({"k": k}, Shape(4, 3, 12))
    with pytest.raises(InputError, match=r"^k=8 harmonics, but a series of M = 12 steps has M//2\+1 = 7; lower --k$"):
        HarmonicMatching.check({"k": 8}, Shape(4, 3, 12))
    for k in (None, 7):
        HarmonicWiener.check({"k": k}, Shape(4, 3, 12))
    with pytest.raises(InputError, match=r"^k=8 harmonics, but"):
        HarmonicWiener.check({"k": 8}, Shape(4, 3, 12))


@pytest.mark.parametrize("share", [1, 4])
def test_the_steps_of_gradient_matching_see_real_and_synthetic_windows(
    share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real ones drawn anew for each step from one sub-series; all synthetic ones a stride apart, or one in four."""
    seen = []

    def spy(_: object, weights: torch.Tensor, batch: torch.Tensor, differentiable: bool) -> torch.Tensor:
        seen.append((differentiable, batch))
        return torch.ones_like(weights)

    monkeypatch.setattr("hdt.objective.gradient.forecast_gradient", spy)
    options = GradientMatching.Options(steps_real=3, steps_synthetic=2, segments=1, batch=50, window_stride=2)
    real = torch.arange(400, dtype=torch.float64).reshape(200, 2)  # steps are known by their values
    objective = Ready(GradientMatching(options, Problem(4, 3, 30)), real, share=share)
    synthetic = -real[None, :30]
    objective.loss(synthetic, torch.Generator().manual_seed(0))
    assert [differentiable for differentiable, _ in seen] == [False] * 3 + [True] * 2
    drawn, own = [batch for _, batch in seen[:3]], [batch for _, batch in seen[3:]]
    assert all(batch.shape == (-(-50 // share), 7, 2) for batch in drawn)
    assert all((batch.flatten(1).diff(dim=1) == 1).all() for batch in drawn)
    assert len({tuple(batch[:, 0, 0].tolist()) for batch in drawn}) == 3
    firsts = torch.cat(drawn)[:, 0, 0] / 2
    assert 8 < firsts.max() - firsts.min() < 24  # one sub-series of 30 steps has 24 windows
    for batch in own:
        assert torch.equal(batch, own[0])
        first = -batch[:, 0, 0] / 2
        assert (first.diff() == 2 * share).all() and len(first) == (12 if share == 1 else 3)
        assert torch.equal(batch, torch.stack([synthetic[0, int(s) : int(s) + 7] for s in first]))


def test_windows_are_drawn_from_all_of_all_sub_series() -> None:
    pool = torch.arange(15.0).reshape(3, 5, 1, 1).expand(-1, -1, 7, 2)
    drawn = _sample(pool, 200, torch.Generator().manual_seed(0))
    assert drawn.shape == (200, 7, 2) and drawn[:, 0, 0].unique().tolist() == [*range(15)]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("wiener", {}, 4 * 10 * 12 * 7 * 5),
        ("dc", {}, 4 * 10 * 12 * 7 * 5),
        ("gradient", {"window_stride": 3, "steps_synthetic": 2}, 4 * 10 * 2 * 4 * 7 * 5),
        ("harmonic", {"window_stride": 3, "steps_synthetic": 2}, 4 * 10 * 2 * 4 * 7 * 5),
        ("mtt", {"steps_synthetic": 3, "inner_batch": 5}, 4 * 10 * 3 * 5 * 7 * 5),
        ("mtt", {"steps_synthetic": 3, "inner_batch": 50}, 4 * 10 * 3 * 12 * 7 * 5),
        ("stemdist", {}, 4 * 10 * 12 * 7 * 5),
        ("ddtime-like", {"steps_synthetic": 3, "inner_batch": 5}, 4 * 10 * 3 * 5 * 7 * 5),
        ("timedc-like", {"steps_synthetic": 3, "inner_batch": 5}, 4 * 10 * 3 * 5 * 7 * 5),
    ],
)
def test_the_memory_of_a_loss_is_that_of_its_windows(name: str, options: dict[str, int], expected: int) -> None:
    """Two series of 12 steps have 12 windows of 7 steps, or 4 at stride 3: ten float32 tensors of each and step."""
    objective = OBJECTIVES[name](OBJECTIVES[name].Options(**options), Problem(4, 3, 12))
    assert objective.graph_bytes(2, 5) == expected


def test_what_an_objective_adds_to_the_contract_is_up_to_it() -> None:
    """By default there is no state, nothing is learned or revised, groups know all, and the data chose nothing."""
    objective = OBJECTIVES["dc"](OBJECTIVES["dc"].Options(), Problem(4, 3, 12))
    known = Known(chosen={"k": 3})
    assert objective.restrict(known, torch.tensor([0])) is known
    assert (objective.initial(known, double(1, 12, 2)), objective.rates()) == ({}, {})
    assert objective.revise(known, double(1, 12, 2), 1, torch.Generator()) is None
    assert objective.chosen(known, {}) == {"k": 3}
