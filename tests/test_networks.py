from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_students import noisy_sine
from torch import nn
from torch.nn.functional import gelu, layer_norm, mse_loss

from hdt.maths.windows import windows
from hdt.students import ITransformer, Student, XPatch, backbone, build
from hdt.students.itransformer import Layer
from hdt.students.xpatch import exponential_average
from hdt.system.errors import InputError

DEEP = ["itransformer", "mlp", "xpatch"]
NORMALISED = ["itransformer", "xpatch"]


def double(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def evaluating(name: str, context: int, horizon: int, channels: int) -> Student:
    """A student in evaluation mode, in float64."""
    return build(name, context, horizon, channels, seed=0).double().eval()


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


@pytest.mark.parametrize("channels", [1, 7])
@pytest.mark.parametrize("name", DEEP)
def test_every_channel_gets_a_forecast_of_the_horizon(name: str, channels: int) -> None:
    student = build(name, 96, 48, channels, seed=0)
    assert student(torch.zeros(5, 96, channels)).shape == (5, 48, channels)


@pytest.mark.parametrize("channels", [1, 7])
def test_itransformer_has_the_layers_of_the_paper(channels: int) -> None:
    """Two layers of width 256: query, key, value and output maps, feed-forward 256, two layer norms."""
    width = 256
    layer = 4 * linear(width, width) + 2 * linear(width, width) + 2 * (2 * width)
    expected = linear(96, width) + 2 * layer + 2 * width + linear(width, 48)
    assert sum(p.numel() for p in build("itransformer", 96, 48, channels, seed=0).parameters()) == expected


def test_mlp_forecast_by_hand() -> None:
    """W·x + w + B·relu(A·x + a) + b in numpy; the same for every channel."""
    student, x = evaluating("mlp", 16, 4, 3), double(5, 16, 3)
    weights = {name: p.detach().numpy() for name, p in student.named_parameters()}
    assert sum(w.size for w in weights.values()) == linear(16, 256) + linear(256, 4) + linear(16, 4)
    for channel in range(3):
        own = x[..., channel].numpy()
        hidden = np.maximum(own @ weights["hidden.weight"].T + weights["hidden.bias"], 0)
        expected = hidden @ weights["head.weight"].T + weights["head.bias"]
        expected += own @ weights["linear.weight"].T + weights["linear.bias"]
        np.testing.assert_allclose(student(x)[..., channel].detach().numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("channels", [1, 7])
def test_xpatch_has_the_layers_of_the_paper(channels: int) -> None:
    """L = 96 gives (96 − 16) / 8 + 2 = 12 patches of 16 steps; only RevIN's two vectors know the channels."""
    patches, horizon = 12, 48
    seasonal = (
        linear(16, 256)  # embedding
        + 3 * 2 * patches  # batch norms
        + patches * 16 + patches  # depthwise: one kernel of 16 per patch
        + linear(256, 16)  # residual
        + linear(patches, patches)  # pointwise
        + linear(patches * 16, 2 * horizon) + linear(2 * horizon, horizon)
    )  # fmt: skip
    trend = (
        linear(96, 4 * horizon) + 2 * (2 * horizon)
        + linear(2 * horizon, horizon) + 2 * (horizon // 2)
        + linear(horizon // 2, horizon)
    )  # fmt: skip
    expected = seasonal + trend + linear(2 * horizon, horizon) + 2 * channels
    assert sum(p.numel() for p in build("xpatch", 96, horizon, channels, seed=0).parameters()) == expected


@pytest.mark.parametrize(("name", "lr"), [("itransformer", 1e-3), ("mlp", 1e-2), ("xpatch", 1e-2)])
def test_eight_windows_are_learned_by_heart(name: str, lr: float) -> None:
    """Errors far below the noise (variance 0.04), repeating the last value, and the context's mean."""
    series = noisy_sine(43)
    every = windows(series, 24, 12)
    context, truth = every[:, :24], every[:, 24:]
    student = backbone(name, 24, 12, series)
    optimizer = torch.optim.Adam(student.parameters(), lr)
    for _ in range(120):
        optimizer.zero_grad()
        mse_loss(student(context), truth).backward()
        optimizer.step()
    naive = [mse_loss(guess.expand_as(truth), truth) for guess in (context[:, -1:], context.mean(dim=1, keepdim=True))]
    assert mse_loss(student(context), truth).item() < min(0.04 / 8, float(min(naive)) / 100)


@pytest.mark.parametrize("name", DEEP)
def test_channels_in_another_order_get_the_same_forecasts(name: str) -> None:
    student, x = evaluating(name, 16, 4, 5), double(3, 16, 5)
    order = [3, 0, 4, 2, 1]
    torch.testing.assert_close(student(x[..., order]), student(x)[..., order])


@pytest.mark.parametrize(
    ("name", "listens"), [("dlinear", False), ("itransformer", True), ("mlp", False), ("xpatch", False)]
)
def test_only_itransformer_listens_to_other_channels(name: str, listens: bool) -> None:
    student, x = evaluating(name, 16, 4, 2), double(3, 16, 2)
    other = torch.stack([x[..., 0], double(3, 16, seed=1)], dim=-1)
    assert torch.allclose(student(x)[..., 0], student(other)[..., 0]) != listens
    assert student.mixes_channels == listens


@pytest.mark.parametrize("name", NORMALISED)
def test_level_and_scale_of_the_context_come_back_in_the_forecast(name: str) -> None:
    """f(a·x + b) = a·f(x) + b for a > 0, up to eps = 1e-5 beside variances of 1e4 and more."""
    student, x = evaluating(name, 16, 4, 3), 100 * double(5, 16, 3)
    scale = torch.tensor([2.0, 10.0, 300.0], dtype=torch.float64)
    level = torch.tensor([-1e4, 0.0, 50.0], dtype=torch.float64)
    torch.testing.assert_close(student(scale * x + level), scale * student(x) + level, rtol=1e-7, atol=1e-4)


@pytest.mark.parametrize("name", NORMALISED)
def test_a_constant_context_has_a_finite_forecast_near_its_level(name: str) -> None:
    """The standard deviation is √eps = 0.003 then."""
    forecast = evaluating(name, 16, 4, 2)(torch.full((1, 16, 2), 7.0, dtype=torch.float64))
    torch.testing.assert_close(forecast, torch.full_like(forecast, 7.0), rtol=0, atol=0.05)


def test_the_normalisation_is_inverted_by_hand() -> None:
    """With a last map of zero weights and bias q: mean + q·std; for xPatch mean + (q − shift) / scale · std.

    The context (1, 3) × 8 has mean 2 and population standard deviation 1.
    """
    x = torch.tensor([1.0, 3.0], dtype=torch.float64).repeat(8)[None, :, None]
    first, second = evaluating("itransformer", 16, 4, 1), evaluating("xpatch", 16, 4, 1)
    assert isinstance(first, ITransformer) and isinstance(second, XPatch)
    with torch.no_grad():
        for head in (first.head, second.join):
            head.weight.zero_()
            head.bias.copy_(torch.arange(4.0))
        second.scale.fill_(0.5)
        second.shift.fill_(-1.0)
    q = torch.arange(4.0, dtype=torch.float64)
    torch.testing.assert_close(first(x)[0, :, 0], 2 + q, rtol=0, atol=1e-4)
    torch.testing.assert_close(second(x)[0, :, 0], 2 + (q + 1) / 0.5, rtol=0, atol=1e-4)


def test_an_itransformer_layer_is_torchs_post_norm_encoder_layer() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        own = Layer(256, 8, 0.1).double().eval()
        theirs = nn.TransformerEncoderLayer(256, 8, 256, activation="gelu", batch_first=True).double().eval()
    weights = {
        "self_attn.in_proj_": own.qkv,
        "self_attn.out_proj.": own.out,
        "linear1.": own.feed_forward[0],
        "linear2.": own.feed_forward[3],
        "norm1.": own.norm1,
        "norm2.": own.norm2,
    }
    state = {prefix + name: p for prefix, module in weights.items() for name, p in module.named_parameters()}
    theirs.load_state_dict(state)
    tokens = double(3, 5, 256)
    torch.testing.assert_close(own(tokens), theirs(tokens))


@given(steps=st.integers(1, 120), alpha=st.floats(0.05, 1), seed=st.integers(0, 2**31))
def test_the_exponential_average_is_the_recursion(steps: int, alpha: float, seed: int) -> None:
    x = double(steps, seed=seed)
    state, loop = x[0], [x[0]]
    for value in x[1:]:
        state = alpha * value + (1 - alpha) * state
        loop.append(state)
    average = exponential_average(steps, alpha).double() @ x
    torch.testing.assert_close(average, torch.stack(loop), rtol=1e-5, atol=1e-5)
    pandas = pd.Series(x.numpy()).ewm(alpha=alpha, adjust=False).mean()
    np.testing.assert_allclose(average.numpy(), pandas.to_numpy(), rtol=1e-5, atol=1e-5)


def test_xpatch_cuts_the_seasonal_part_into_twelve_patches() -> None:
    """Of 16 steps, 8 apart; the last one ends in eight copies of the last value."""
    student, x = evaluating("xpatch", 96, 8, 1), double(2, 96, 1)
    seen: list[torch.Tensor] = []
    student.seasonal.embedding.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    student(x)
    (patches,) = seen
    assert patches.shape == (2, 12, 16)
    for window, cut in zip(x[..., 0].numpy(), patches.detach().numpy(), strict=True):
        scaled = pd.Series((window - window.mean()) / np.sqrt(window.var() + 1e-5))
        seasonal = (scaled - scaled.ewm(alpha=0.3, adjust=False).mean()).to_numpy()
        padded = np.concatenate([seasonal, np.repeat(seasonal[-1], 8)])
        np.testing.assert_allclose(cut, [padded[8 * i : 8 * i + 16] for i in range(12)], atol=1e-5)


def test_xpatch_uses_the_mean_of_its_affine_vectors_on_another_number_of_channels() -> None:
    student, context = evaluating("xpatch", 24, 12, 3), double(2, 24, 5)
    torch.nn.init.uniform_(student.scale, 0.5, 2)
    torch.nn.init.uniform_(student.shift, -1, 1)
    same = build("xpatch", 24, 12, 5, seed=0).double().eval()
    state = student.state_dict()
    same.load_state_dict({**state, "scale": state["scale"].mean().expand(5), "shift": state["shift"].mean().expand(5)})
    torch.testing.assert_close(student(context), same(context))
    state["scale"][0] += 1
    assert not torch.allclose(student(context), same(context))


def test_xpatch_forecast_from_its_equations() -> None:
    """The two streams written out; fresh batch norms in evaluation mode only divide by √(1 + 1e-5)."""
    student = evaluating("xpatch", 32, 4, 2)
    parts, x = student.seasonal, double(3, 32, 2)
    mean, std = x.mean(1, keepdim=True), (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    scaled = ((x - mean) / std).transpose(1, 2).reshape(6, 32)
    trend = torch.from_numpy(pd.DataFrame(scaled.T).ewm(alpha=0.3, adjust=False).mean().to_numpy().T.copy())
    seasonal = torch.cat([scaled - trend, (scaled - trend)[:, -1:].expand(6, 8)], dim=1)
    patches = torch.stack([seasonal[:, i : i + 16] for i in (0, 8, 16, 24)], dim=1)
    shrink = 1 / np.sqrt(1 + 1e-5)
    embedded = gelu(patches @ parts.embedding.weight.T + parts.embedding.bias) * shrink
    kernels = parts.depthwise.weight[:, 0]  # [patches, 16]: patch p mixes 16 consecutive cells to one
    depthwise = torch.einsum("bpjk,pk->bpj", embedded.unflatten(2, (16, 16)), kernels) + parts.depthwise.bias[:, None]
    mixed = gelu(depthwise) * shrink + parts.residual(embedded)
    pointwise = torch.einsum("qp,bpj->bqj", parts.pointwise.weight[..., 0], mixed) + parts.pointwise.bias[:, None]
    first = parts.head(gelu(pointwise).flatten(1) * shrink)
    one, two, three = (student.trend.layers[i] for i in (0, 3, 6))
    second = layer_norm(one(trend).unflatten(1, (8, 2)).mean(-1), (8,))
    second = three(layer_norm(two(second).unflatten(1, (2, 2)).mean(-1), (2,)))
    joined = student.join(torch.cat([first, second], dim=1)).reshape(3, 2, 4).transpose(1, 2)
    torch.testing.assert_close(student(x), joined * std + mean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("context", "horizon"), [(7, 4), (16, 1)])
def test_xpatch_refuses_windows_that_it_cannot_patch_or_pool(context: int, horizon: int) -> None:
    with pytest.raises(InputError):
        build("xpatch", context, horizon, 2, seed=0)


def test_xpatch_takes_its_shortest_windows() -> None:
    assert build("xpatch", 8, 2, 2, seed=0)(torch.zeros(3, 8, 2)).shape == (3, 2, 2)
