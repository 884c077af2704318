from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hdt.parameterization import PARAMETERIZATIONS, Parameterization


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
@given(n=st.integers(1, 3), length=st.integers(2, 33), channels=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_decode_inverts_encode_and_costs_as_many_floats_as_the_series(
    name: str, n: int, length: int, channels: int, seed: int
) -> None:
    series = torch.randn(n, length, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    parameterization = PARAMETERIZATIONS[name](length)
    params = parameterization.encode(series)
    torch.testing.assert_close(parameterization.decode(params), series)
    assert parameterization.floats(params) == series.numel()


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_encoding_copies_so_that_learning_leaves_the_start_alone(name: str) -> None:
    series = torch.ones(1, 8, 1)
    params = PARAMETERIZATIONS[name](8).encode(series)
    for tensor in params.values():
        tensor.fill_(5.0)
    assert (series == 1).all()


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
@pytest.mark.parametrize("length", [7, 8])
def test_every_parameter_reaches_the_series(name: str, length: int) -> None:
    parameterization = PARAMETERIZATIONS[name](length)
    series = torch.randn(1, length, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    params = {key: tensor.requires_grad_() for key, tensor in parameterization.encode(series).items()}
    weights = torch.randn(series.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (parameterization.decode(params) * weights).sum().backward()
    for tensor in params.values():
        assert tensor.grad is not None
        assert (tensor.grad != 0).all()


def test_complex_numbers_count_twice() -> None:
    assert Parameterization.floats({"a": torch.zeros(3, dtype=torch.complex64), "b": torch.zeros(2)}) == 8
