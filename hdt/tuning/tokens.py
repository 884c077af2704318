"""Windows as the tokens that Moirai reads.

"Unified Training of Universal Time Series Forecasting Transformers" (arXiv 2402.02592), on the classes of
uni2ts 2.0: ``MoiraiModule`` (the network), ``MoiraiFinetune`` (loss, optimiser, patterns) and
``MoiraiForecast`` (gluonts predictor). Each channel is a series of its own.

Deviations and choices: uni2ts cuts training samples one by one through a Hugging Face ``datasets`` table;
:func:`tokens` lays whole batches out at once, equal to its transformation value for value (a test compares
them), so neither ``datasets`` nor a registration of data is needed.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Tokens = dict[str, Tensor]


def tokens(windows: Float[Tensor, "B window"], context: int, patch: int, largest: int) -> Tokens:
    """One sequence of tokens per window: ``patch`` steps each, padded to ``largest``, the network's largest patch.

    The context of ``context`` steps is padded at its start and the horizon at its end to whole patches. Keys
    and shapes are those ``MoiraiModule.forward`` takes: target and observed_mask [B, tokens, largest],
    the others [B, tokens].
    """
    batch, steps = windows.shape
    before, after = -context % patch, -(steps - context) % patch
    count, first = (before + steps + after) // patch, (before + context) // patch

    def patches(values: Tensor) -> Tensor:
        padded = functional.pad(values, (before, after)).reshape(batch, count, patch)
        return functional.pad(padded, (0, largest - patch))

    position = torch.arange(count, device=windows.device).expand(batch, count)
    return {
        "target": patches(windows),
        "observed_mask": patches(torch.ones_like(windows, dtype=torch.bool)),
        "sample_id": torch.ones_like(position),
        "time_id": position,
        "variate_id": torch.zeros_like(position),
        "prediction_mask": position >= first,
        "patch_size": torch.full_like(position, patch),
    }
