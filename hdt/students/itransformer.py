"""iTransformer: "Inverted Transformers Are Effective for Time Series Forecasting" (arXiv 2310.06625).

Each channel's whole context is one token: per-window standardisation (population standard deviation,
eps 1e-5), Linear(L, d), a post-norm encoder with full attention between channels, a final LayerNorm,
Linear(d, H), and the inverse standardisation. Without positions it treats channels alike.
Official settings: 8 heads, GELU, dropout 0.1, Adam 1e-4 halved every epoch, batch 32, 10 epochs; 2
layers of d = 128 (ETTm, ETTh2, Exchange) or 256 (ETTh1), 3 × 512 for Electricity and Weather, 4 × 512
for Traffic (Electricity 5e-4, Traffic 1e-3).

Deviations and choices: the authors also feed calendar features of the stamps as four more tokens; here every
column known ahead is one, embedded by a Linear(L + H, d) of its own, for it is known over the horizon, too, and
without such columns nobody gets any. One size for every data set, 2
layers of d = 256 with feed-forward 256, so that a comparison has one student, not one per set; ``width`` (of
tokens and feed-forward), ``layers``, ``heads`` and ``dropout`` make others.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hdt.maths.roles import Roles
from hdt.students.contract import Student, Training
from hdt.system.errors import require

EPS = 1e-5


class Layer(nn.Module):
    """Post-norm encoder layer: attention between channels, then a feed-forward net per channel."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width), nn.Dropout(dropout)
        )
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def attend(self, tokens: Float[Tensor, "B C d"]) -> Float[Tensor, "B C d"]:
        """Scaled dot-product attention, written out: the fused kernels have no double backward."""
        batch, channels, width = tokens.shape
        query, key, value = self.qkv(tokens).view(batch, channels, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5, dim=-1)
        mixed = self.dropout(weights) @ value  # [B, heads, C, d / heads]
        return self.out(mixed.transpose(1, 2).reshape(batch, channels, width))

    def forward(self, tokens: Float[Tensor, "B C d"]) -> Float[Tensor, "B C d"]:
        tokens = self.norm1(tokens + self.dropout(self.attend(tokens)))
        return self.norm2(tokens + self.feed_forward(tokens))


class ITransformer(Student):
    """Attention between channels, each embedded as one token."""

    name = "itransformer"
    training_settings = Training(lr=1e-4)
    mixes_channels = True
    takes_known = True

    def __init__(
        self, context: int, horizon: int, channels: int, *, width: int = 256, layers: int = 2, heads: int = 8,
        dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__(context, horizon, channels)
        require(min(width, layers, heads) >= 1, "itransformer: width, layers and heads are at least 1")
        require(width % heads == 0, f"itransformer: width={width} is no multiple of heads={heads}")
        require(0 <= dropout < 1, f"itransformer: dropout={dropout}: expected 0 to 1")
        self.embedding = nn.Linear(context, width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(*(Layer(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, horizon)

    def take(self, roles: Roles) -> None:
        super().take(roles)
        if roles.known:
            self.ahead = nn.Linear(self.context + self.horizon, self.head.in_features)

    def forward(
        self, context: Float[Tensor, "B L C"], known: Float[Tensor, "B window G K"] | None = None
    ) -> Float[Tensor, "B H C"]:
        mean = context.mean(dim=1, keepdim=True)
        std = torch.sqrt(context.var(dim=1, keepdim=True, correction=0) + EPS)
        tokens = self.dropout(self.embedding(((context - mean) / std).transpose(1, 2)))
        if known is not None:
            tokens = torch.cat([tokens, self.dropout(self.ahead(known.flatten(2).transpose(1, 2)))], dim=1)
        forecast = self.head(self.norm(self.layers(tokens)))[:, : context.shape[2]].transpose(1, 2)
        return forecast * std + mean
