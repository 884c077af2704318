"""Terms of the objectives and sizes of the image methods, by hand: what `make mutate` found no test to notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Ready
from scipy.fft import dct
from test_experts import decomposed, dlinear_forecast, dlinear_gradient

from hdt.maths import moments, spectrum
from hdt.maths.moments import Moments
from hdt.maths.windows import windows
from hdt.objective import Problem
from hdt.objective.cfm import CFM, CFMOptions
from hdt.objective.dc import distance
from hdt.objective.trajectory import TrajectoryMatching
from hdt.objective.wiener import Wiener
from hdt.parameterization import Size
from hdt.parameterization.fred import FreD, FreDOptions
from hdt.parameterization.nsd import AXES, NSD, NSDOptions
from hdt.students import build
from hdt.system.machine import cache_folder
from hdt.training.experts import Experts, Training, experts

L, H = 4, 3
WEIGHTS = 2 * (L * H + H)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_real_guided_loss_by_hand() -> None:
    """With one real window, whatever is drawn: γ times the error of where the inner step arrives."""
    checkpoints, synthetic, real = noise(1, 2, WEIGHTS), noise(1, 12, 2, seed=1), noise(L + H, 2, seed=2)
    quick = {"experts": 1, "expert_epochs": 1, "max_start": 1, "target_epochs": 1, "steps_synthetic": 1}
    options = TrajectoryMatching.Options(**quick, inner_batch=100, inner_lr=0.3, real_weight=0.7, expert_batch=5)
    objective = Ready(TrajectoryMatching(options, Problem(L, H, 12)), real, experts=Experts(checkpoints, 0.0))
    first, target = checkpoints[0].numpy()
    every = windows(synthetic, L, H).flatten(0, 1).numpy()
    rate = np.exp(np.float32(np.log(0.3)))
    arrived = first - rate * dlinear_gradient(first, every, H)
    guide = np.square(dlinear_forecast(arrived, real[None, :L].numpy(), H) - real[None, L:].numpy()).mean()
    matched = np.square(arrived - target).sum() / np.square(first - target).sum()
    loss, terms = objective.loss(synthetic, draws())
    assert loss.item() == pytest.approx(matched + 0.7 * guide, rel=1e-6)
    assert terms["real"].item() == pytest.approx(guide, rel=1e-6)


def test_real_guidance_draws_from_the_generator_it_is_given() -> None:
    quick = {"experts": 1, "expert_epochs": 1, "max_start": 1, "target_epochs": 1, "steps_synthetic": 1}
    options = TrajectoryMatching.Options(**quick, real_weight=1.0, expert_batch=2)
    found = []
    for other in (0, 1):
        torch.manual_seed(other)
        objective = Ready(TrajectoryMatching(options, Problem(L, H, 12)), noise(40, 2))
        found.append(objective.loss(noise(1, 12, 2, seed=1), draws())[1]["real"].item())
    assert found[0] == found[1]


PLACES = Problem(context=12, horizon=6, length=20)  # three windows, two of them in the first of two batches


def cfm(**options: Any) -> Ready:
    return Ready(CFM(CFMOptions(teacher_epochs=3, **options), PLACES), noise(60, 2, seed=5))


@pytest.mark.parametrize("kind", ["cfm", "high"])
@pytest.mark.parametrize("paper", [False, True])
@pytest.mark.parametrize("labels", ["horizon", "teacher"])
def test_the_loss_of_cfm_by_hand(kind: str, paper: bool, labels: str) -> None:
    """Two batches of a DLinear teacher, whose layers see the seasonal part and the trend of every channel."""
    objective = cfm(filter=kind, paper=paper, labels=labels, batches=2, beta=0.8, match_weight=0.3)
    synthetic = noise(1, 20, 2, seed=1)
    weights = np.concatenate([tensor.numpy().ravel() for tensor in objective.weights.values()])
    every, past, task, matched = windows(synthetic, 12, 6).flatten(0, 1).numpy(), None, 0.0, 0.0
    for b, batch in enumerate((every[:2], every[2:])):
        contexts, truth = batch[:, :12], batch[:, 12:]
        forecast = dlinear_forecast(weights, contexts, 6)
        task += np.square(forecast - truth).mean() / 2
        y = (truth if labels == "horizon" else forecast).transpose(0, 2, 1).reshape(-1, 6)
        parts = [part.transpose(0, 2, 1).reshape(-1, 12) for part in decomposed(contexts)]
        new = [(x.T @ x / len(x), x.T @ y / len(x)) for x in parts]
        if past is not None:
            new = [
                tuple((before + now) / 2 for before, now in zip(*both, strict=True))
                for both in zip(past, new, strict=True)
            ]
        past = new
        beta = 0.8 * (1 + np.cos(np.pi * b / 2)) / 2 if kind == "cfm" else 0.8
        for real, (psi, phi) in zip(objective.real, past, strict=True):
            teacher = real.ffc.numpy(), real.flc.numpy()
            own = beta if paper else beta * np.trace(teacher[0]) / 12
            terms = []
            for correlations, labelled in (teacher, (psi, phi)):
                inverse = np.linalg.inv(correlations + own * np.eye(12))
                terms.append((inverse, inverse @ labelled))
            for wanted, found in zip(*terms, strict=True):
                matched += np.linalg.norm(wanted - found) / (1 if paper else np.linalg.norm(wanted)) / 2
    loss, found_terms = objective.loss(synthetic, draws())
    assert found_terms["task"].item() == pytest.approx(task, rel=1e-8)
    assert found_terms["correlations"].item() == pytest.approx(matched, rel=1e-7)
    assert loss.item() == pytest.approx(task + 0.3 * matched, rel=1e-7)


def test_the_teacher_is_the_fully_trained_first_expert_of_the_settings_that_are_documented() -> None:
    objective = cfm()
    usual = Training(1, 3, 0.05, 0.9, 64)
    checkpoints = experts("dlinear", 12, 6, noise(60, 2, seed=5), usual, cache_folder()).checkpoints
    assert len(list(cache_folder().iterdir())) == 1  # the same training, so the same file
    found = torch.cat([tensor.flatten() for tensor in objective.weights.values()])
    assert torch.equal(found, checkpoints[0, 3]) and not torch.equal(found, checkpoints[0, 2])
    assert objective.known.saved_seconds == 0 and cfm().known.saved_seconds > 0  # read from the cache the second time


def test_the_experts_are_those_of_the_options(tmp_path: Path) -> None:
    given = {"experts": 2, "expert_epochs": 5, "expert_lr": 0.01, "expert_momentum": 0.5, "expert_batch": 7}
    series = noise(40, 2, seed=5)
    objective = Ready(TrajectoryMatching(TrajectoryMatching.Options(**given), Problem(L, H, 12)), series)
    wanted = experts("dlinear", L, H, series, Training(2, 5, 0.01, 0.5, 7), tmp_path).checkpoints
    assert torch.equal(objective.experts.checkpoints, wanted) and objective.known.saved_seconds == 0
    again = Ready(TrajectoryMatching(TrajectoryMatching.Options(**given), Problem(L, H, 12)), series)
    assert again.known.saved_seconds > 0 and torch.equal(again.experts.checkpoints, wanted)


@pytest.mark.parametrize(("most", "stride", "count"), [(10, 5, 9), (42, 2, 22), (43, 1, 43)])
def test_real_windows_of_the_teacher_are_evenly_spaced(most: int, stride: int, count: int) -> None:
    """43 windows, at most 10: every fifth, from the first; the correlations of those by hand."""
    series = noise(60, 2, seed=5)
    objective = Ready(CFM(CFMOptions(teacher_epochs=1, most_real=most), PLACES), series)
    chosen = windows(series, 12, 6).numpy()[::stride]
    assert len(chosen) == count
    seasonal = decomposed(chosen[:, :12])[0].transpose(0, 2, 1).reshape(-1, 12)
    np.testing.assert_allclose(objective.real[0].ffc.numpy(), seasonal.T @ seasonal / len(seasonal), atol=1e-12)


def test_losses_are_summed_in_float64() -> None:
    synthetic = noise(1, 20, 2, seed=1).float()
    options = Wiener.Options(features=4, draws=1)
    wiener = Ready(Wiener(options, Problem(6, 3, 20)), noise(60, 2).float())
    teacher = Ready(CFM(CFMOptions(teacher_epochs=1), PLACES), noise(60, 2).float())
    for objective in (wiener, teacher):
        loss, terms = objective.loss(synthetic, draws())
        assert {tensor.dtype for tensor in (loss, *terms.values())} == {torch.float64}


def test_the_draw_of_features_comes_from_the_generator_alone() -> None:
    objective, synthetic = (
        Ready(Wiener(Wiener.Options(features=4, draws=16), Problem(6, 3, 20)), noise(60, 2)),
        noise(1, 20, 2),
    )
    seen = set()
    for other in range(8):
        torch.manual_seed(other)
        seen.add(objective.loss(synthetic, draws(3))[0].item())
    assert len(seen) == 1


def test_short_gradients_have_no_direction() -> None:
    """A row of length 1e-7 counts as one of length 1e-6: its cosine with itself is 0.1."""
    student, first = build("dlinear", L, H, 2, 0), torch.zeros(WEIGHTS, dtype=torch.float64)
    first[:L] = torch.tensor([1e-7, 0, 0, 0])
    second = torch.zeros(WEIGHTS, dtype=torch.float64)
    second[:L] = torch.tensor([1.0, 0, 0, 0])
    assert distance(student, first, second).item() == pytest.approx(2 * H - 0.1, rel=1e-9)


def test_level_shifts_add_their_variance_wherever_there_is_a_level() -> None:
    """Σ over windows of (x + s, 1) and y + s with s = ±3: the mean of the two is what is asked for."""
    x, y = noise(50, 4), noise(50, 2, seed=1)

    def of(shift: float) -> Moments:
        features = torch.cat([x + shift, torch.ones(50, 1, dtype=torch.float64)], dim=1)
        return moments.window_moments([(features, y + shift)]).means()

    both, found = (of(3.0), of(-3.0)), moments.level_shifted(of(0.0), 3.0)
    for name in ("features", "cross", "target"):
        torch.testing.assert_close(getattr(found, name), sum(getattr(each, name) for each in both) / 2)
    assert found.count == 1 and found.features.dtype == torch.float64


def test_a_share_that_is_just_held_is_held() -> None:
    """Energies 1/2, 1/4 and 1/4: one harmonic holds half, two hold three quarters."""
    amplitude = torch.tensor([[0.5], [0.5], [0.5]], dtype=torch.float64)  # bin 1 of four steps counts twice
    assert [spectrum.harmonics_for(amplitude, 4, share) for share in (0.5, 0.51, 0.75, 0.76)] == [1, 2, 2, 3]


def test_fred_keeps_a_mask_for_every_channel_when_asked() -> None:
    time = torch.arange(240, dtype=torch.float64)
    series = torch.stack([(2 * torch.pi * time / 6).cos(), (2 * torch.pi * time / 3).cos()], dim=1)
    masks = {}
    for kind in ("shared", "channel"):
        fred = FreD(Size(1, 24, 2), FreDOptions(kept=2, period=6, mask=kind))
        fred.prepare(series, draws())
        masks[kind] = fred.mask
    assert masks["shared"].shape == (1, 2) and masks["channel"].shape == (2, 2)
    assert not torch.equal(*masks["channel"])


@pytest.mark.parametrize(
    ("rows", "cells", "count"),
    [(600, 2**24, 289), (600, 24 * 2 * 20, 20), (600, 1, 16), (535, 2**24, 512), (536, 2**24, 257), (39, 1, 16)],
)
def test_fred_looks_at_evenly_spaced_real_series_within_bounds(
    rows: int, cells: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """600 rows hold 577 series of 24: at most 512 of them, at least 16, and within so many cells."""
    seen = []
    monkeypatch.setattr("hdt.parameterization.fred.MOST_CELLS", cells)
    monkeypatch.setattr("hdt.parameterization.fred.dct2", lambda images: seen.append(len(images)) or images)
    FreD(Size(1, 24, 2), FreDOptions(kept=2, period=6)).prepare(noise(rows, 2), draws())
    assert seen == [count]


def test_fred_fits_exactly_where_its_mask_leaves_room_for_one_series() -> None:
    """N·M·C = 12·1·2 = 24 floats: k = 8 costs 2·8 and a shared mask of 8."""
    assert FreD(Size(1, 12, 2), FreDOptions(kept=8, period=4)).instances() == 1


@pytest.mark.parametrize(("kernels", "learn", "phase"), [("random", True, 1), ("dct", False, 5)])
def test_default_ranks_of_nsd_by_hand(kernels: str, learn: bool, phase: int) -> None:
    """60 steps of period 5 are 12 rows: half of them; kernels of 4·2, 2·2, 6·12 and r·5 beside 2·2·6·r numbers of 120.

    Learned: r = ⌊(120 − 84) / (24 + 5)⌋ = 1. Fixed cosines cost nothing: r = ⌊120 / 24⌋ = 5.
    """
    nsd = NSD(Size(1, 60, 2), NSDOptions(period=5, kernels=kernels, learn_kernels=learn))
    assert nsd.sizes() == [(2, 4), (2, 2), (6, 12), (phase, 5)]
    assert nsd.floats() == 24 * phase + (84 + 5 * phase if learn else 0)


def test_an_odd_number_of_rows_keeps_more_than_half() -> None:
    options = NSDOptions(period=12, group=1, instance_rank=1, channel_rank=1, phase_rank=1)
    assert NSD(Size(1, 60, 1), options).sizes()[2] == (3, 5)


def test_kernels_of_nsd_are_drawn_from_the_generator_alone() -> None:
    found = []
    for other, seed in ((0, 3), (1, 3), (1, 4)):
        torch.manual_seed(other)
        nsd = NSD(Size(1, 60, 2), NSDOptions(period=5, kernels="random"))
        nsd.prepare(noise(80, 2), draws(seed))
        found.append(nsd.encode(noise(4, 60, 2))["cycle"])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[1], found[2])


def test_further_sets_of_cosines_begin_with_later_ones() -> None:
    ranks = {"instance_rank": 1, "channel_rank": 1, "cycle_rank": 3, "phase_rank": 2}
    options = NSDOptions(period=4, group=2, kernel_sets=2, kernels="dct", learn_kernels=False, **ranks)
    cosines = NSD(Size(8, 24, 2), options).cosines(noise(1))
    for axis, (kernel, size) in enumerate(zip(cosines, (2, 2, 6, 4), strict=True)):
        rows = dct(np.eye(size), type=4, norm="ortho", axis=0)
        rank = tuple(ranks.values())[axis]
        for position, found in enumerate(kernel.numpy()):
            wanted = np.roll(rows, -position, axis=0)[:rank]
            np.testing.assert_allclose(found, wanted, atol=1e-12, err_msg=AXES[axis])
