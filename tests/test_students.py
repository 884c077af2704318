from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from torch.func import functional_call
from torch.nn.functional import avg_pool1d

from hdt.maths.windows import spread, windows
from hdt.students import STUDENTS, Training, backbone, build, flatten, forecast_gradient, unflatten
from hdt.system.errors import InputError
from hdt.system.machine import device_of
from hdt.training.errors import Errors, errors
from hdt.training.fit import CHECKS, _batch, fit


def test_dlinear_has_two_maps_shared_by_all_channels() -> None:
    for channels in (1, 7):
        student = build("dlinear", 96, 48, channels, seed=0)
        assert sum(p.numel() for p in student.parameters()) == 2 * (96 * 48 + 48)
        assert student(torch.zeros(5, 96, channels)).shape == (5, 48, channels)


def test_dlinear_forecast_by_hand() -> None:
    """Seasonal weights zero, trend weights picking the last trend step: the mean of the last 13 steps,
    with the final value repeated 12 times beyond the edge (replicate padding, window 25)."""
    student = build("dlinear", 30, 2, 1, seed=0)
    with torch.no_grad():
        for p in student.parameters():
            p.zero_()
        student.trend.weight[:, -1] = 1.0
    x = torch.arange(30.0)[None, :, None] ** 2
    expected = (x[0, -13:, 0].sum() + 12 * x[0, -1, 0]) / 25
    torch.testing.assert_close(student(x)[0, :, 0], expected.expand(2))


def test_dlinear_treats_channels_alike() -> None:
    student = build("dlinear", 12, 4, 3, seed=0)
    x = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(0))
    order = [2, 0, 1]
    torch.testing.assert_close(student(x[..., order]), student(x)[..., order])


@pytest.mark.parametrize("name", STUDENTS)
def test_equal_seeds_build_equal_students(name: str) -> None:
    first, second, third = (build(name, 32, 8, 2, seed) for seed in (1, 1, 2))
    assert torch.equal(flatten(first), flatten(second))
    assert not torch.equal(flatten(first), flatten(third))


def test_an_unknown_student_or_device_is_refused() -> None:
    with pytest.raises(InputError, match="unknown student 'lstm'; known: dlinear"):
        build("lstm", 8, 4, 2, 0)
    with pytest.raises(InputError, match="unknown device 'tpu'"):
        device_of("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_asked_for_and_absent_is_refused() -> None:
    with pytest.raises(InputError, match="no CUDA device here"):
        device_of("cuda")


def test_windows_are_views_of_every_position() -> None:
    series = torch.arange(40.0).reshape(20, 2)
    every = windows(series, 3, 2)
    assert every.shape == (16, 5, 2)
    assert every.untyped_storage().data_ptr() == series.untyped_storage().data_ptr()
    for start in range(16):
        assert torch.equal(every[start], series[start : start + 5])
    assert torch.equal(windows(series, 3, 2, stride=4), every[::4])
    with pytest.raises(InputError, match="20 steps are fewer than context 15 \\+ horizon 6"):
        windows(series, 15, 6)


def noisy_sine(rows: int = 400, channels: int = 2, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(rows, channels, generator=torch.Generator().manual_seed(seed))
    return torch.sin(torch.arange(rows)[:, None] * 2 * torch.pi / 24) + 0.2 * noise


def test_errors_count_every_window_whatever_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    series, student = noisy_sine(), build("dlinear", 24, 12, 2, seed=0)
    every = windows(series, 24, 12)
    gap = student(every[:, :24]) - every[:, 24:]
    expected = gap.square().mean().item(), gap.abs().mean().item()
    monkeypatch.setattr(
        "hdt.training.errors.BATCH_ELEMENTS", 36 * 2 * 7
    )  # 7 windows per batch: the last one is partial
    assert errors(student, series) == pytest.approx(expected, rel=1e-5)


@given(st.integers(2, 400), st.integers(1, 60))
def test_some_windows_visit_the_phases_of_any_season(season: int, stride: int) -> None:
    """Of 1,024 × stride windows; a stride of 12 itself would see 8 of 96 phases. By chance alone a phase of a season of
    96 is missed once in 45,000 times, and of 400 phases 31 are.
    """
    count = 1024 * stride
    share = len(np.unique(spread(count, 1024).numpy() % season)) / min(season, count)
    assert share == 1 if season <= 50 else share > 0.85


@given(st.integers(1, 5000), st.integers(1, 1200))
def test_some_windows_are_one_of_each_equal_stretch(count: int, most: int) -> None:
    found = spread(count, most).numpy()
    if count <= most:
        assert found.tolist() == list(range(count))
    else:
        edges = [n * count // most for n in range(most + 1)]
        assert all(low <= own < high for own, low, high in zip(found, edges, edges[1:], strict=False))


def test_a_choice_of_windows_is_measured_as_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    series, student = noisy_sine(), build("dlinear", 24, 12, 2, seed=0)
    starts = spread(365, 50).tolist()  # of 365 windows
    gaps = [student(series[None, s : s + 24]) - series[None, s + 24 : s + 36] for s in starts]
    monkeypatch.setattr("hdt.training.errors.BATCH_ELEMENTS", 36 * 2 * 7)
    assert errors(student, series, 50).mse == pytest.approx(torch.cat(gaps).square().mean().item(), rel=1e-5)


def test_training_comes_close_to_the_least_squares_optimum() -> None:
    """DLinear is linear in its context, so scikit-learn's regression on all windows is its best possible."""
    series = noisy_sine()
    every = windows(series, 24, 12)
    x = every[:, :24].transpose(1, 2).reshape(-1, 24).numpy()
    y = every[:, 24:].transpose(1, 2).reshape(-1, 12).numpy()
    best = ((LinearRegression().fit(x, y).predict(x) - y) ** 2).mean()
    student = build("dlinear", 24, 12, 2, seed=0)
    run = fit(student, series[None], series, seed=0, training=Training(lr=1e-2, min_steps=5000))
    assert best < errors(student, series).mse < 1.05 * best
    assert run.validation == pytest.approx(errors(student, series).mse)


def test_the_weights_of_the_best_validation_step_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    script, seen = [3.0, 1.0, 2.0, *[5.0] * 5], []

    def scripted(student: torch.nn.Module, _: torch.Tensor, most: int) -> Errors:
        seen.append(student.trend.weight.clone())
        return Errors(script[len(seen) - 1], 0.0)

    monkeypatch.setattr("hdt.training.fit.errors", scripted)
    student = build("dlinear", 24, 12, 2, seed=0)
    run = fit(student, noisy_sine()[None], noisy_sine(), seed=0, training=Training(lr=5e-3, patience=3))
    assert run.validation == 1.0
    # Planned are 59 epochs of 12 steps and a check every third; it ends at the first check that is at least
    # 3 tenths of the run (17.7 epochs) after the best one, at epoch 6.
    assert (run.steps, run.best_step) == (24 * 12, 2 * 3 * 12)
    assert torch.equal(student.trend.weight, seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_a_training_ends_at_the_first_look_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    script = [2.0, 1.0, float("nan"), 0.5]
    monkeypatch.setattr("hdt.training.fit.errors", lambda *_: Errors(script.pop(0), 0.0))
    student = build("dlinear", 24, 12, 2, seed=0)
    run = fit(student, noisy_sine()[None], noisy_sine(), seed=0, training=Training(lr=5e-3))
    assert (run.validation, run.best_step, run.steps) == (1.0, 72, 108) and script == [0.5]


def test_short_series_get_more_epochs_and_no_more_checks() -> None:
    student = build("dlinear", 24, 12, 2, seed=0)
    training = Training(lr=1e-3, patience=10, min_steps=100)
    run = fit(student, noisy_sine(60)[None], noisy_sine(), seed=0, training=training)
    assert 100 <= run.steps <= 101
    assert run.best_step % max(1, run.steps // CHECKS) == 0


@pytest.mark.parametrize("name", ["dlinear", "itransformer", "mlp", "xpatch"])
def test_validation_chooses_between_three_learning_rates(name: str) -> None:
    usual = STUDENTS[name].training_settings
    fifth, published, five = STUDENTS[name].trainings()
    assert published == usual
    assert fifth.lr == pytest.approx(usual.lr / 5) and five.lr == pytest.approx(5 * usual.lr)
    assert {replace(way, lr=usual.lr) for way in (fifth, five)} == {usual}


@pytest.mark.parametrize("name", ["dlinear", "itransformer", "mlp", "xpatch"])
def test_equal_seeds_train_alike(name: str) -> None:
    weights, before = [], torch.get_rng_state()
    for _ in range(2):
        student = build(name, 24, 12, 2, seed=0)
        fit(student, noisy_sine(60)[None], noisy_sine(), seed=5, training=Training(lr=1e-3, epochs=2, min_steps=4))
        weights.append(flatten(student))
    assert torch.equal(*weights)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_diverging_training_is_an_error() -> None:
    student = build("dlinear", 24, 12, 2, seed=0)
    with pytest.raises(InputError, match="training diverged"):
        fit(student, noisy_sine(100)[None] * torch.inf, noisy_sine(), seed=0)


def test_the_moving_average_is_the_one_of_the_paper() -> None:
    x = torch.randn(1, 1, 40, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([x[..., :1].repeat(1, 1, 12), x, x[..., -1:].repeat(1, 1, 12)], dim=-1)
    student = build("dlinear", 40, 40, 1, seed=0)
    with torch.no_grad():
        for p in student.parameters():
            p.zero_()
        student.trend.weight.copy_(torch.eye(40))
    torch.testing.assert_close(student(x.transpose(1, 2)).transpose(1, 2), avg_pool1d(padded, 25, 1))


@pytest.mark.parametrize("name", STUDENTS)
def test_unflatten_inverts_flatten(name: str) -> None:
    student = build(name, 16, 4, 3, seed=0)
    named = dict(student.named_parameters())
    parts = unflatten(flatten(student), student)
    assert list(parts) == list(named)
    assert all(torch.equal(parts[key], named[key]) for key in named)
    vector = torch.arange(float(flatten(student).numel()))
    assert torch.equal(torch.cat([part.flatten() for part in unflatten(vector, student).values()]), vector)


@pytest.mark.parametrize("name", STUDENTS)
def test_a_backbone_is_the_same_function_every_time(name: str) -> None:
    """In training mode, so batch norms use the batch, yet without dropout and the global random state."""
    series, before = noisy_sine(40).double(), torch.get_rng_state()
    student = backbone(name, 16, 4, series)
    context = windows(series, 16, 4)[:, :16]
    first, second = student(context), student(context)
    assert student.training and first.dtype == torch.float64
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", STUDENTS)
def test_the_forecast_gradient_is_that_of_backward(name: str) -> None:
    batch = windows(noisy_sine(40).double(), 16, 4)
    student = backbone(name, 16, 4, batch[0])
    weights = flatten(student).mul(1.1).requires_grad_()
    gradient = forecast_gradient(student, weights, batch, differentiable=False)
    student.load_state_dict({**student.state_dict(), **unflatten(weights.detach(), student)})
    (student(batch[:, :16]) - batch[:, 16:]).square().mean().backward()
    expected = torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])
    torch.testing.assert_close(gradient, expected)


def after_one_step(name: str, series: torch.Tensor) -> torch.Tensor:
    """Error on other windows after one differentiable step of gradient descent on the windows of ``series``."""
    student = backbone(name, 16, 4, series)
    weights = flatten(student).requires_grad_()
    weights = weights - 0.1 * forecast_gradient(student, weights, windows(series, 16, 4), differentiable=True)
    other = windows(noisy_sine(30, seed=1).to(series), 16, 4)
    return (functional_call(student, unflatten(weights, student), (other[:, :16],)) - other[:, 16:]).square().mean()


@pytest.mark.parametrize("name", STUDENTS)
def test_a_step_of_training_can_be_differentiated(name: str) -> None:
    """Every value of the series has a part in it; along a direction, central differences agree."""
    series = noisy_sine(24).double().requires_grad_()
    (gradient,) = torch.autograd.grad(after_one_step(name, series), series)
    assert gradient.isfinite().all() and (gradient != 0).all()
    direction = noisy_sine(24, seed=2).double()
    ends = [after_one_step(name, series.detach() + step * direction) for step in (1e-5, -1e-5)]
    assert (gradient * direction).sum().item() == pytest.approx(((ends[0] - ends[1]) / 2e-5).item(), rel=1e-6)


@pytest.mark.parametrize("name", ["dlinear", "xpatch"])
def test_small_students_pass_gradcheck_after_a_step(name: str) -> None:
    series = noisy_sine(22).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: after_one_step(name, s), (series,))


@given(sequences=st.integers(1, 3), channels=st.integers(1, 5), picked=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_mixed_windows_take_each_channel_whole_from_one_chosen_window(
    sequences: int, channels: int, picked: int, seed: int
) -> None:
    """Every value of the series is another one, so a value tells its sequence, step and channel.

    Context and horizon of a channel are one window; every chosen window gives each channel once; the
    channels are in one order for the whole batch.
    """
    series = torch.arange(float(sequences * 20 * channels)).reshape(sequences, 20, channels)
    every = windows(series, 4, 3)  # 14 windows per sequence
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(sequences * 14, generator=generator)[:picked]
    plain, mixed = _batch(every, chosen, None), _batch(every, chosen, generator)
    assert torch.equal(plain, every.flatten(0, 1)[chosen])
    assert mixed.shape == plain.shape
    order = (mixed[0, 0] % channels).long()
    assert order.sort().values.tolist() == list(range(channels))
    for column, channel in enumerate(order):
        assert sorted(mixed[:, :, column].tolist()) == sorted(plain[:, :, channel].tolist())


def test_training_mixes_channels_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("hdt.training.fit._batch", lambda *given: seen.append(given[2]) or _batch(*given))
    for shuffle in (False, True):
        training = Training(lr=1e-3, epochs=1, min_steps=1, batch=100, shuffle_channels=shuffle)
        fit(build("dlinear", 24, 12, 2, seed=0), noisy_sine(60)[None], noisy_sine(), seed=0, training=training)
    assert [generator is not None for generator in seen] == [False, True]


def test_mixing_pairs_channels_of_different_windows_in_any_order() -> None:
    every = windows(torch.arange(60.0).reshape(1, 20, 3), 4, 3)
    mixed = [_batch(every, torch.arange(14), torch.Generator().manual_seed(seed)) for seed in range(50)]
    assert ((mixed[0][:, 0] // 3).diff(dim=1) != 0).sum() > 14  # of 28 neighbours
    assert len({tuple((batch[0, 0] % 3).tolist()) for batch in mixed}) == 6


@pytest.mark.parametrize(
    ("name", "given", "parameters"),
    [
        ("dlinear", {"kernel": 5}, 2 * (32 * 8 + 8)),
        ("mlp", {"width": 16, "depth": 3}, (32 * 16 + 16) + 2 * (16 * 16 + 16) + (16 * 8 + 8) + (32 * 8 + 8)),
        (
            "itransformer",
            {"width": 24, "layers": 1, "heads": 3, "dropout": 0.3},
            (32 * 24 + 24) + 6 * (24 * 24 + 24) + 3 * 48 + (24 * 8 + 8),
        ),
        ("xpatch", {"patch": 8, "stride": 4}, None),
    ],
)
def test_students_of_other_sizes_can_be_built(name: str, given: dict[str, float], parameters: int | None) -> None:
    usual, other = build(name, 32, 8, 2, seed=0), build(name, 32, 8, 2, seed=0, **given)
    assert STUDENTS[name].keywords() == set(given)
    context = torch.randn(3, 32, 2, generator=torch.Generator().manual_seed(0))
    assert other(context).shape == (3, 8, 2)
    assert not torch.equal(other.eval()(context), usual.eval()(context))
    assert parameters is None or sum(p.numel() for p in other.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("dlinear", {"kernel": 24}, "kernel=24: expected an odd number"),
        ("mlp", {"depth": 0}, "width and depth are at least 1"),
        ("itransformer", {"width": 60}, "width=60 is no multiple of heads=8"),
        ("itransformer", {"dropout": 1.0}, r"dropout=1\.0: expected 0 to 1"),
        ("xpatch", {"patch": 64, "stride": 8}, "needs a context of at least 56 steps, got 32"),
        ("xpatch", {"stride": 0}, "at least 1"),
    ],
)
def test_students_that_cannot_be_are_refused(name: str, given: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(name, 32, 8, 2, seed=0, **given)
