from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st

from hdt.maths.grid import Grid, dominant_period
from hdt.maths.transforms import closest_tensors, compose, dct2, dct4, idct2
from hdt.parameterization import PARAMETERIZATIONS, Parameterization, Size, build
from hdt.parameterization.fred import FreD, FreDOptions, choose
from hdt.parameterization.harmonic import Harmonic
from hdt.parameterization.nsd import AXES, NSD, NSDOptions
from hdt.parameterization.raw import Raw
from hdt.system.errors import InputError

EXACT = (Raw, Harmonic)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def made(kind: type[Parameterization], length: int = 24, channels: int = 2) -> Parameterization:
    options = {FreD: FreDOptions(period=5), NSD: NSDOptions(period=5, group=2, instance_rank=1, cycle_rank=2)}
    parameterization = kind(Size(2, length, channels), options.get(kind))
    parameterization.prepare(noise(60, channels), torch.Generator().manual_seed(0))
    return parameterization


@pytest.mark.parametrize("kind", EXACT)
@given(n=st.integers(1, 3), length=st.integers(2, 33), channels=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_decode_inverts_encode_and_costs_as_many_floats_as_the_series(
    kind: type[Parameterization], n: int, length: int, channels: int, seed: int
) -> None:
    series = noise(n, length, channels, seed=seed)
    parameterization = kind(Size(n, length, channels))
    params = parameterization.encode(series)
    torch.testing.assert_close(parameterization.decode(params), series)
    assert parameterization.floats() == sum(tensor.numel() for tensor in params.values()) == series.numel()


@pytest.mark.parametrize("kind", PARAMETERIZATIONS.values())
def test_encoding_again_changes_nothing_and_costs_what_was_promised(kind: type[Parameterization]) -> None:
    parameterization = made(kind)
    series = noise(parameterization.instances(), 24, 2)
    params = parameterization.encode(series)
    assert {name: tuple(tensor.shape) for name, tensor in params.items()} == parameterization.shapes()
    assert parameterization.floats() == sum(tensor.numel() for tensor in params.values()) <= 2 * 24 * 2
    once = parameterization.decode(params)
    assert once.shape == series.shape
    torch.testing.assert_close(parameterization.decode(parameterization.encode(once, params)), once)
    assert (once - series).norm() < series.norm()


@pytest.mark.parametrize("kind", PARAMETERIZATIONS.values())
def test_encoding_copies_so_that_learning_leaves_the_start_alone(kind: type[Parameterization]) -> None:
    parameterization = made(kind)
    series = torch.ones(parameterization.instances(), 24, 2)
    for tensor in parameterization.encode(series).values():
        tensor.fill_(5)
    assert (series == 1).all()


@pytest.mark.parametrize("kind", PARAMETERIZATIONS.values())
@pytest.mark.parametrize("length", [23, 24])
def test_every_parameter_reaches_the_series(kind: type[Parameterization], length: int) -> None:
    parameterization = made(kind, length)
    params = parameterization.encode(noise(parameterization.instances(), length, 2))
    learned = [tensor.requires_grad_() for name, tensor in params.items() if name not in parameterization.fixed]
    decoded = parameterization.decode(params)
    (decoded * noise(*decoded.shape, seed=1)).sum().backward()
    for tensor in learned:
        assert tensor.grad is not None
        assert (tensor.grad != 0).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3), st.integers(1, 3))
def test_folding_and_unfolding_is_lossless(length: int, period: int, n: int, channels: int) -> None:
    if period > length:
        with pytest.raises(InputError, match=rf"period={period}: expected 1 to M = {length} steps"):
            Grid(length, period)
        return
    series = noise(n, length, channels)
    grid = Grid(length, period)
    folded = grid.fold(series)
    assert folded.shape == (n, channels, math.ceil(length / period), period)
    assert torch.equal(grid.unfold(folded), series)
    assert (folded.flatten(2)[..., length:] == series[:, -1, :, None]).all()
    assert torch.equal(folded[:, :, 0, :], series[:, :period].transpose(1, 2))


@pytest.mark.parametrize(("rows", "period"), [(2000, 24), (1003, 24), (5000, 96), (997, 7), (500, 100)])
def test_the_dominant_period_is_found_below_noise_and_trend(rows: int, period: int) -> None:
    time = torch.arange(rows).double()[:, None]
    wave = (2 * math.pi * time / period).sin() + 0.5 * (4 * math.pi * time / period).cos()
    assert dominant_period(wave + 0.5 * noise(rows, 2) + 0.01 * time, 384) == period


def test_a_steep_trend_does_not_hide_the_period() -> None:
    time = torch.arange(2000).double()[:, None]
    assert dominant_period((2 * math.pi * time / 24).sin() + 100 * time, 384) == 24


@pytest.mark.parametrize("series", [torch.zeros(500, 2), noise(500, 1).cumsum(0), noise(30, 1), torch.ones(3, 1)])
def test_without_a_period_the_grid_is_square(series: torch.Tensor) -> None:
    assert dominant_period(series, 100) == 10


@given(st.integers(1, 12), st.integers(1, 12))
def test_the_cosine_transform_is_scipys_also_on_rectangles(rows: int, columns: int) -> None:
    grid = noise(2, 3, rows, columns)
    expected = scipy.fft.dctn(grid.numpy(), type=2, axes=(2, 3), norm="ortho")
    np.testing.assert_allclose(dct2(grid).numpy(), expected, atol=1e-12)
    torch.testing.assert_close(idct2(dct2(grid)), grid)


@pytest.mark.parametrize("size", [1, 4, 9])
def test_the_kernels_cosines_are_scipys_dct_4(size: int) -> None:
    eye = np.eye(size)
    np.testing.assert_allclose(dct4(size, noise(1)).numpy(), scipy.fft.dct(eye, type=4, norm="ortho"), atol=1e-12)


@pytest.mark.parametrize("center", [False, True])
def test_the_mask_holds_the_largest_shares_of_the_variance(center: bool) -> None:
    transformed = noise(50, 3, 4, 5) * noise(4, 5, seed=1) + noise(4, 5, seed=2)
    values = transformed.numpy().reshape(50, 3, 20)
    spread = (values.var(axis=0) if center else (values**2).mean(axis=0)).mean(axis=0)
    ratio = spread / spread.sum()
    mask = choose(transformed, 6, center, per_channel=False)
    assert set(mask[0].tolist()) == set(np.argsort(ratio)[-6:].tolist())
    assert mask[0].tolist() == sorted(mask[0].tolist())
    own = choose(transformed, 6, center, per_channel=True)
    for channel, found in zip(values.transpose(1, 0, 2), own.tolist(), strict=True):
        spread = channel.var(axis=0) if center else (channel**2).mean(axis=0)
        assert found == sorted(np.argsort(spread)[-6:].tolist())


def test_a_cosine_series_needs_one_coefficient() -> None:
    time = torch.arange(24).double()
    wave = ((2 * (time % 6) + 1) * 2 * math.pi / 12).cos()[None, :, None].expand(1, 24, 2)
    fred = FreD(Size(1, 24, 2), FreDOptions(kept=1, period=6))
    fred.prepare(wave[0].repeat(4, 1), torch.Generator())
    assert fred.instances() == 23  # ⌊(1·24·2 − 1) / (2·1)⌋
    series = wave.expand(23, -1, -1)
    torch.testing.assert_close(fred.decode(fred.encode(series)), series)


@given(sets=st.integers(1, 3), tensors=st.integers(1, 3), seed=st.integers(0, 2**31))
def test_nsd_is_the_einsum_of_all_pairs_and_keeps_its_budget_equation(sets: int, tensors: int, seed: int) -> None:
    ranks = {"instance_rank": 2, "channel_rank": 1, "cycle_rank": 2, "phase_rank": 3}
    nsd = NSD(Size(9, 22, 2), NSDOptions(period=4, kernel_sets=sets, tensors=tensors, group=3, **ranks))
    nsd.prepare(noise(60, 2), torch.Generator().manual_seed(seed))
    sizes = [(2, 3), (1, 2), (2, 6), (3, 4)]
    assert nsd.sizes() == sizes
    assert nsd.floats() == tensors * 2 * 1 * 2 * 3 + sets * sum(t * u for t, u in sizes)
    assert nsd.instances() == tensors * sets * 3
    params = {"tensors": noise(tensors, 2, 1, 2, 3, seed=seed)}
    params |= {axis: noise(sets, *size, seed=seed + i) for i, (axis, size) in enumerate(zip(AXES, sizes, strict=True))}
    whole = torch.einsum("iabcd,jau,jbv,jcw,jdx->ijuvwx", *params.values())
    torch.testing.assert_close(nsd.decode(params), Grid(22, 4).unfold(whole.flatten(0, 2)))


def test_the_closest_tensors_are_the_least_squares_solution() -> None:
    kernels = [noise(2, *size, seed=i) for i, size in enumerate([(1, 2), (2, 2), (2, 3), (3, 4)])]
    target = noise(3, 2, 2, 2, 3, 4)
    units = torch.eye(12, dtype=torch.float64).reshape(12, 1, 2, 2, 3)
    matrix = compose(units, kernels).flatten(1)  # [12, everything]
    expected = torch.linalg.lstsq(matrix.T, target.flatten(1).T).solution.T.reshape(3, 1, 2, 2, 3)
    torch.testing.assert_close(closest_tensors(target, kernels), expected)


@pytest.mark.parametrize("kernels", ["random", "dct", "svd"])
@pytest.mark.parametrize("learn", [False, True])
def test_full_rank_kernels_of_any_kind_lose_nothing(kernels: str, learn: bool) -> None:
    ranks = {"instance_rank": 2, "channel_rank": 2, "cycle_rank": 3, "phase_rank": 4}
    nsd = NSD(Size(5, 12, 2), NSDOptions(period=4, group=2, kernels=kernels, learn_kernels=learn, **ranks))
    nsd.prepare(noise(60, 2), torch.Generator().manual_seed(0))
    series = noise(2, 12, 2)
    torch.testing.assert_close(nsd.decode(nsd.encode(series)), series)
    assert ("phase" in nsd.shapes()) == (learn or kernels != "dct")
    assert nsd.fixed == (() if learn else AXES)


def test_singular_vectors_are_the_best_kernels_for_their_axis() -> None:
    nsd = NSD(Size(4, 12, 2), NSDOptions(period=4, group=1, instance_rank=1, cycle_rank=3, phase_rank=1, kernels="svd"))
    nsd.prepare(noise(60, 2), torch.Generator())
    series = noise(1, 12, 2)
    values = torch.linalg.svdvals(nsd.grid.fold(series).reshape(-1, 4))
    lost = (nsd.decode(nsd.encode(series)) - series).square().sum()
    torch.testing.assert_close(lost, values[1:].square().sum())


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (FreD, {"kept": 25, "period": 5}, "kept=25: its mask leaves no room for one series of that many; lower it"),
        (FreD, {"kept": 26, "period": 5}, "kept=26 coefficients, but the grid has 5 × 5 = 25"),
        (NSD, {"phase_rank": 6, "period": 5}, "phase_rank=6, but that axis has 5; lower it"),
        (
            NSD,
            {"tensors": 9, "period": 5},
            "9 spectrum tensors and 1 sets of kernels of rank 2 × 2 × 3 × 1 are more than the 1 × 24 × 2 = 48 floats "
            "there are; lower a rank",
        ),
    ],
)
def test_what_does_not_fit_is_refused(kind: type[Parameterization], options: dict[str, int], message: str) -> None:
    parameterization = kind(Size(1, 24, 2), kind.Options(**options))
    with pytest.raises(InputError, match=f"^{message}$"):
        parameterization.shapes()


def test_series_that_are_no_starts_are_refused() -> None:
    nsd = NSD(Size(9, 24, 2), NSDOptions(period=4, group=3, kernel_sets=2))
    with pytest.raises(InputError, match=r"^3 series are not a multiple of 2 × 3$"):
        nsd.encode(noise(3, 24, 2))
    fred = FreD(Size(1, 24, 3), FreDOptions(kept=2, period=6, mask="channel"))
    fred.prepare(noise(60, 3), torch.Generator())
    with pytest.raises(InputError, match=r"^mask=channel: made for 3 channels, not 2$"):
        fred.encode(noise(4, 24, 2))


@pytest.mark.parametrize("kind", PARAMETERIZATIONS.values())
def test_what_is_stored_of_some_channels_decodes_to_them(kind: type[Parameterization]) -> None:
    """And what has no axis of channels is shared: here the mask of FreD."""
    parameterization = made(kind)
    axes = parameterization.channel_axes()
    assert axes == {
        Raw: {"values": 2},
        Harmonic: {"real": 2, "imaginary": 2},
        FreD: {"coefficients": 1},
        NSD: {},
    }.get(kind, axes)
    params = parameterization.encode(noise(parameterization.instances(), 24, 2))
    some = {
        name: tensor.select(axes[name], 1).unsqueeze(axes[name]) if name in axes else tensor
        for name, tensor in params.items()
    }
    expected = parameterization.decode(params)
    torch.testing.assert_close(parameterization.decode(some), expected[:, :, 1:] if axes else expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", PARAMETERIZATIONS.values())
def test_what_is_stored_is_as_precise_as_the_series(kind: type[Parameterization], dtype: torch.dtype) -> None:
    every = [made(kind)]
    if kind is NSD:
        every += [NSD(Size(4, 24, 2), NSDOptions(period=5, kernels=kernels)) for kernels in ("dct", "svd")]
    for parameterization in every:
        series = noise(parameterization.instances(), 24, 2).to(dtype)
        params = parameterization.encode(series)
        assert {tensor.dtype for tensor in params.values() if tensor.is_floating_point()} == {dtype}
        assert parameterization.decode(params).dtype == dtype


def test_a_mask_of_every_channel_has_an_axis_of_channels() -> None:
    for mask, axes in (("shared", {"coefficients": 1}), ("channel", {"coefficients": 1, "mask": 0})):
        assert FreD(Size(1, 24, 2), FreDOptions(kept=2, period=6, mask=mask)).channel_axes() == axes


def test_every_set_of_kernels_has_the_singular_vectors_of_its_own_series() -> None:
    """Two tensors and three sets are six series, set j of series j and 3 + j."""
    ranks = {"instance_rank": 1, "channel_rank": 1, "cycle_rank": 2, "phase_rank": 2}
    nsd = NSD(Size(9, 12, 2), NSDOptions(period=4, group=1, kernel_sets=3, tensors=2, kernels="svd", **ranks))
    nsd.prepare(noise(60, 2), torch.Generator())
    series = noise(6, 12, 2)
    folded = series.transpose(1, 2).reshape(2, 3, 2, 3, 4).numpy()  # [N_T, N_K, C, R, P]
    found = nsd.encode(series)
    for axis, name in enumerate(AXES[1:], start=1):
        assert found[name].shape[:2] == (3, nsd.sizes()[axis][0])
        for j in range(3):
            unfolded = np.moveaxis(folded[:, j], axis, 0).reshape(folded.shape[1 + axis], -1)
            vectors = np.linalg.svd(unfolded)[0][:, : nsd.sizes()[axis][0]]
            kernel = found[name][j].numpy()
            np.testing.assert_allclose(kernel.T @ kernel, vectors @ vectors.T, atol=1e-10, err_msg=name)


def test_learned_kernels_stay_where_they_are_when_a_series_is_put_in_place() -> None:
    ranks = {"instance_rank": 1, "channel_rank": 2, "cycle_rank": 3, "phase_rank": 3}
    for kernels in ("random", "dct", "svd"):
        nsd = NSD(Size(9, 24, 2), NSDOptions(period=4, group=2, kernel_sets=2, kernels=kernels, **ranks))
        nsd.prepare(noise(60, 2), torch.Generator())
        near = nsd.encode(noise(4, 24, 2))
        near = {name: tensor + noise(*tensor.shape, seed=1) for name, tensor in near.items()}
        found = nsd.encode(noise(4, 24, 2, seed=2), near)
        assert all(torch.equal(found[axis], near[axis]) for axis in AXES)
        assert not torch.allclose(found["tensors"], near["tensors"])


def test_the_phase_rank_is_what_kernels_and_tensors_leave_room_for() -> None:
    """Of 120 floats kernels take 4·2 + 2·2 + 2·12 = 36 and r·5, three tensors 3·2·2·2·r: r = ⌊84 / (24 + 5)⌋."""
    nsd = NSD(Size(1, 60, 2), NSDOptions(period=5, cycle_rank=2, tensors=3))
    assert nsd.sizes() == [(2, 4), (2, 2), (2, 12), (2, 5)]


def test_random_kernels_are_orthonormal_rows_of_the_drawn_seed() -> None:
    nsd = NSD(Size(9, 24, 2), NSDOptions(period=4, group=3, kernel_sets=2, phase_rank=2))
    nsd.prepare(noise(60, 2), torch.Generator().manual_seed(6))
    seed = int(torch.randint(2**31, (), generator=torch.Generator().manual_seed(6)))
    generator, kernels = torch.Generator().manual_seed(seed), nsd.encode(noise(6, 24, 2))
    for name, (rank, size) in zip(AXES, [(2, 3), (2, 2), (3, 6), (2, 4)], strict=True):
        drawn = torch.randn(2, size, rank, generator=generator, dtype=torch.float64).numpy()
        for kernel, columns in zip(kernels[name].numpy(), drawn, strict=True):
            np.testing.assert_allclose(kernel @ kernel.T, np.eye(rank), atol=1e-12)
            np.testing.assert_allclose(kernel.T @ (kernel @ columns), columns, atol=1e-12, err_msg=name)


def test_the_period_is_the_given_one_or_found_and_kept() -> None:
    time = torch.arange(240, dtype=torch.float64)[:, None]
    wave = (2 * torch.pi * time / 6).cos()
    for kind in (FreD, NSD):
        for period, chosen in ((None, {"period": 6}), (8, {})):
            parameterization = kind(Size(4, 24, 1), kind.Options(period=period))
            parameterization.prepare(wave, torch.Generator())
            assert parameterization.chosen == chosen
            assert (parameterization.grid.period, parameterization.grid.rows) == (period or 6, 24 // (period or 6))


def test_a_parameterization_takes_its_own_options_of_all() -> None:
    built = build("fred", Size(1, 24, 2), {"kept": 3, "period": 6, "center": True, "ridge": 0.1})
    assert isinstance(built, FreD) and built.size == (1, 24, 2)
    assert built.options == FreDOptions(kept=3, period=6, center=True) and built.chosen == {}
    assert FreD(Size(1, 24, 2)).options == FreDOptions()
