"""TimesFM 2.5: its loss and its networks, by transformers.

"A decoder-only foundation model for time-series forecasting" (arXiv 2310.10688). It forecasts the mean and nine
deciles of up to 128 steps at once; transformers does not go on from there, so longer horizons are refused. The loss is
the squared error of the mean and the pinball loss of the deciles. That of transformers (5.24) pairs columns and
quantiles wrongly: by it the mean would learn the first decile, the first decile the second, up to the fourth.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.data.columns import listed
from hdt.tuning.base import CONFIG, WEIGHTS
from hdt.tuning.quantiles import QuantileForecaster, QuantileTuning, needing, pinball, quiet, read_network

if TYPE_CHECKING:
    from transformers import TimesFm2_5ModelForPrediction as TimesFm

REFUSAL = "not a TimesFM 2.5 network of transformers ({}); other TimesFM networks cannot be fine-tuned here"


class TimesFmTuning(QuantileTuning):
    """Squared error of the mean and pinball loss of the quantiles, of values in units of their context's spread."""

    package = "transformers"
    head = "output_projection_"
    adapted = (
        *(f"self_attn.{part}_proj" for part in "qvko"),
        *(f"output_projection_{part}.output_layer" for part in ("point", "quantiles")),
    )

    @staticmethod
    def levels(network: TimesFm) -> Sequence[float]:
        found: Sequence[float] = network.config.quantiles
        return found

    @staticmethod
    def outputs(network: TimesFm, contexts: Float[Tensor, "B L"], horizon: int) -> Float[Tensor, "B Q H"]:
        return predictions(network, contexts, horizon)[:, 1:]

    def loss(self, batch: Tensor) -> Tensor:
        context, future = batch[:, : self.plan.context], batch[:, self.plan.context :]
        spread = context.std(dim=1, correction=0)
        scale = torch.where(spread > 0, spread, 1.0)
        gap = (future[:, None] - predictions(self.network, context, self.plan.horizon)) / scale[:, None, None]
        levels = torch.tensor(self.levels(self.network), device=gap.device)[:, None]
        return gap[:, 0].square().mean() + pinball(gap[:, 1:], levels).mean()


class TimesFmForecaster(QuantileForecaster):
    """A TimesFM 2.5 network."""

    name = "timesfm"
    task = TimesFmTuning
    packages = ("transformers", "gluonts")
    network: TimesFm

    @classmethod
    def load_network(cls, base: str | Path) -> TimesFm:
        return load(base)

    @classmethod
    def patches(cls, network: TimesFm) -> tuple[int, ...]:
        return (network.config.patch_length,)

    @classmethod
    def longest(cls, network: TimesFm) -> tuple[int, int]:
        return network.config.context_length, network.config.horizon_length

    def _write(self, folder: Path) -> None:
        with quiet():
            self.network.save_pretrained(folder)
        shutil.copymode(folder / CONFIG, folder / WEIGHTS)  # safetensors leaves mode 600


def predictions(network: TimesFm, contexts: Float[Tensor, "B L"], horizon: int) -> Float[Tensor, "B Q+1 H"]:
    """The mean and the quantiles after the contexts, in their units. They may be negative after contexts that are not:
    contexts come scaled here, so zero is nothing special."""
    patch = network.config.patch_length
    found: Tensor = network(
        list(contexts),
        forecast_context_len=-(-contexts.shape[1] // patch) * patch,
        truncate_negative=False,
    ).full_predictions
    return found[:, :horizon].transpose(1, 2)


def load(base: str | Path) -> TimesFm:
    """The TimesFM 2.5 network in ``base``, in float32 on the CPU.

    ``base`` is a folder with config.json and model.safetensors, or a Hugging Face hub id such as
    ``google/timesfm-2.5-200m-transformers``, also called ``timesfm-2.5``. Raises :class:`InputError`.
    """
    with needing("TimesFM 2.5 needs transformers 5.3 or newer"):
        from transformers import TimesFm2_5ModelForPrediction

    def read(folder: Path, _: object) -> Any:
        # Names in the file are not those in the network, so the library maps them, both ways.
        with quiet():
            own, found = TimesFm2_5ModelForPrediction.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True,
                ignore_mismatched_sizes=True,
            )  # fmt: skip
        shaped = {name for name, *_ in found["mismatched_keys"]}
        wrong = sorted(shaped | found["missing_keys"] | found["unexpected_keys"])
        if wrong:
            raise ValueError(f"missing, unknown or of another shape: {listed(wrong, 2)}")
        return own

    network: TimesFm = read_network(base, "TimesFm2_5ModelForPrediction", REFUSAL, read)
    return network
