"""xPatch: "Dual-Stream Time Series Forecasting with Exponential Seasonal-Trend Decomposition" (arXiv 2412.17323).

After affine RevIN, an exponential moving average (α = 0.3) splits the context into trend and seasonal
part. The seasonal stream cuts it into patches (16 steps, every 8, last value repeated 8 times, unless ``patch``
and ``stride`` say otherwise) and mixes them with depthwise-separable convolutions; the trend stream is linear
layers, average pooling and layer norms; one linear map joins both. All channels share the weights (the two RevIN
vectors aside).
Official settings: AdamW, learning rate 5e-4 and batch 2048 on ETT (others vary per set), warm-up then
sigmoid decay over 100 epochs with patience 10, arctangent-weighted MAE loss.

Deviations and choices: MSE loss, so that every student is trained for what is reported; batch 128 and
learning rate 5e-4 with 10 epochs of halving, a tenth of the authors' epochs: the same schedule for
all sets and students. The exponential average is one matrix product instead of a loop on CUDA, the depthwise
convolution (stride = kernel) a product and a sum, which on CPU saves a fifth of a training step. On series
with another number of channels than it was trained on, it uses the mean of its RevIN vectors.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hdt.students.contract import Student, Training
from hdt.system.errors import require

ALPHA, EPS = 0.3, 1e-5


def exponential_average(steps: int, alpha: float = ALPHA) -> Float[Tensor, "L L"]:
    """The matrix A with ``A @ x`` = s, where s_0 = x_0 and s_t = α·x_t + (1−α)·s_{t−1}."""
    lag = torch.arange(steps)[:, None] - torch.arange(steps)
    matrix = torch.where(lag >= 0, alpha * (1 - alpha) ** lag.clamp(min=0).double(), 0.0)
    matrix[:, 0] = (1 - alpha) ** torch.arange(steps).double()
    return matrix.float()


class Seasonal(nn.Module):
    """Patches of one channel, mixed by a depthwise and a pointwise convolution: [B, L] → [B, H]."""

    def __init__(self, context: int, horizon: int, patch: int, stride: int) -> None:
        super().__init__()
        self.patch, self.stride = patch, stride
        patches = (context - patch) // stride + 2
        self.embedding = nn.Linear(patch, patch * patch)
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm1d(patches) for _ in range(3))
        self.depthwise = nn.Conv1d(patches, patches, kernel_size=patch, stride=patch, groups=patches)
        self.residual = nn.Linear(patch * patch, patch)
        self.pointwise = nn.Conv1d(patches, patches, kernel_size=1)
        self.head = nn.Sequential(nn.Linear(patches * patch, 2 * horizon), nn.GELU(), nn.Linear(2 * horizon, horizon))

    def forward(self, x: Float[Tensor, "B L"]) -> Float[Tensor, "B H"]:
        patches = functional.pad(x[:, None], (0, self.stride), mode="replicate")[:, 0].unfold(
            -1, self.patch, self.stride
        )
        embedded = self.norm1(functional.gelu(self.embedding(patches)))
        kernels, bias = self.depthwise.parameters()  # [P, 1, patch], [P]
        filtered = (embedded.unflatten(-1, (self.patch, self.patch)) * kernels).sum(-1) + bias[:, None]
        mixed = self.norm2(functional.gelu(filtered)) + self.residual(embedded)
        return self.head(self.norm3(functional.gelu(self.pointwise(mixed))).flatten(1))


class Trend(nn.Module):
    """Linear layers, average pooling and layer norms: [B, L] → [B, H]."""

    def __init__(self, context: int, horizon: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(context, 4 * horizon),
            nn.AvgPool1d(2),
            nn.LayerNorm(2 * horizon),
            nn.Linear(2 * horizon, horizon),
            nn.AvgPool1d(2),
            nn.LayerNorm(horizon // 2),
            nn.Linear(horizon // 2, horizon),
        )

    def forward(self, x: Float[Tensor, "B L"]) -> Float[Tensor, "B H"]:
        return self.layers(x)


class XPatch(Student):
    """Two streams, one for the exponential moving average and one for the rest."""

    name = "xpatch"
    training_settings = Training(lr=5e-4, batch=128, weight_decay=0.01)

    average: Tensor

    def __init__(self, context: int, horizon: int, channels: int, *, patch: int = 16, stride: int = 8) -> None:
        super().__init__(context, horizon, channels)
        require(min(patch, stride) >= 1, "xpatch: patch and stride are at least 1")
        least = max(1, patch - stride)
        require(context >= least, f"xpatch needs a context of at least {least} steps, got {context}")
        require(horizon >= 2, f"xpatch needs a horizon of at least 2 steps, got {horizon}")
        self.register_buffer("average", exponential_average(context), persistent=False)
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.seasonal, self.trend = Seasonal(context, horizon, patch, stride), Trend(context, horizon)
        self.join = nn.Linear(2 * horizon, horizon)

    def forward(self, context: Float[Tensor, "B L C"]) -> Float[Tensor, "B H C"]:
        mean = context.mean(dim=1, keepdim=True)
        std = torch.sqrt(context.var(dim=1, keepdim=True, correction=0) + EPS)
        own = context.shape[2] == self.channels
        scale, shift = (part if own else part.mean() for part in (self.scale, self.shift))
        x = ((context - mean) / std * scale + shift).transpose(1, 2).flatten(0, 1)  # [B·C, L]
        trend = x @ self.average.T
        joined = self.join(torch.cat([self.seasonal(x - trend), self.trend(trend)], dim=-1))
        forecast = joined.unflatten(0, (len(context), -1)).transpose(1, 2)
        return (forecast - shift) / (scale + EPS**2) * std + mean
