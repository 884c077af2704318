"""Small networks beside hdt's own students, for `recipes/ranking.py`: `--student architectures:NLinear` from here.

Each is a class of (context, horizon, channels) with keyword arguments, and shares its weights among channels, but for
Individual. All but the linear ones standardise every window and put level and scale back. They are small stand-ins that
differ in kind, no reproductions: NLinear (arXiv 2205.13504), TCN (1803.01271), GRU over segments as in SegRNN
(2308.11200), PatchTST (2211.14730).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-5


class NLinear(nn.Module):
    """One linear map of what differs from the last value."""

    def __init__(self, context: int, horizon: int, channels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout, self.map = nn.Dropout(dropout), nn.Linear(context, horizon)

    def forward(self, context: Tensor) -> Tensor:
        last = context[:, -1:]
        return self.map(self.dropout((context - last).transpose(1, 2))).transpose(1, 2) + last


class Individual(nn.Module):
    """A linear map for each channel of what differs from the mean of its context: nothing is shared."""

    def __init__(self, context: int, horizon: int, channels: int) -> None:
        super().__init__()
        bound = context**-0.5
        self.map = nn.Parameter(torch.empty(channels, context, horizon).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(horizon, channels))

    def forward(self, context: Tensor) -> Tensor:
        mean = context.mean(dim=1, keepdim=True)
        return torch.einsum("blc,clh->bhc", context - mean, self.map) + self.bias + mean


def segments(windows: Tensor, steps: int) -> Tensor:
    """Windows [n, L] in segments of so many steps, [n, L // steps, steps], the first rest left out."""
    count = windows.shape[1] // steps
    return windows[:, -count * steps :].unflatten(1, (count, steps))


class Standardised(nn.Module):
    """What forecasts single standardised windows, [n, L] → [n, H], in :meth:`univariate`."""

    def forward(self, context: Tensor) -> Tensor:
        mean = context.mean(dim=1, keepdim=True)
        std = torch.sqrt(context.var(dim=1, keepdim=True, correction=0) + EPS)
        alone = ((context - mean) / std).transpose(1, 2)
        forecast = self.univariate(alone.flatten(0, 1)).unflatten(0, alone.shape[:2])
        return forecast.transpose(1, 2) * std + mean

    def univariate(self, windows: Tensor) -> Tensor:
        raise NotImplementedError


class TCN(Standardised):
    """Dilated causal convolutions with residuals over segments; the last one's features make the forecast."""

    def __init__(
        self, context: int, horizon: int, channels: int, *, width: int = 32, layers: int = 3, kernel: int = 3,
        segment: int = 4,
    ) -> None:  # fmt: skip
        super().__init__()
        self.segment = min(segment, context)
        self.embedding = nn.Linear(self.segment, width)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, kernel, dilation=2**n) for n in range(layers))
        self.head = nn.Linear(width, horizon)

    def univariate(self, windows: Tensor) -> Tensor:
        x = functional.relu(self.embedding(segments(windows, self.segment))).transpose(1, 2)
        for layer in self.layers:
            padded = functional.pad(x, ((layer.kernel_size[0] - 1) * layer.dilation[0], 0))
            x = functional.relu(layer(padded)) + x
        return self.head(x[..., -1])


class GRU(Standardised):
    """A recurrent network over segments of the context."""

    def __init__(
        self, context: int, horizon: int, channels: int, *, width: int = 64, layers: int = 1, segment: int = 12
    ) -> None:
        super().__init__()
        self.segment = min(segment, context)
        self.embedding = nn.Linear(self.segment, width)
        self.network = nn.GRU(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, horizon)

    def univariate(self, windows: Tensor) -> Tensor:
        embedded = functional.relu(self.embedding(segments(windows, self.segment)))
        return self.head(self.network(embedded)[0][:, -1])


class PatchTST(Standardised):
    """A transformer over patches, every half a patch; all of its tokens make the forecast."""

    def __init__(
        self, context: int, horizon: int, channels: int, *, patch: int = 16, width: int = 32, layers: int = 2,
        heads: int = 4, dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.patch = min(patch, context)
        self.stride = max(1, self.patch // 2)
        count = (context - self.patch) // self.stride + 1
        self.embedding, self.places = nn.Linear(self.patch, width), nn.Parameter(0.02 * torch.randn(count, width))
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(count * width, horizon)

    def univariate(self, windows: Tensor) -> Tensor:
        patches = windows.unfold(1, self.patch, self.stride)
        return self.head(self.encoder(self.embedding(patches) + self.places).flatten(1))
