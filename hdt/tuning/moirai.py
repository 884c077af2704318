"""Moirai 1: its loss and validation error, and its forecasts, by uni2ts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.system.errors import require
from hdt.tuning import base as bases
from hdt.tuning.crps import crps
from hdt.tuning.loop import Moirai
from hdt.tuning.pretrained import Pretrained
from hdt.tuning.score import predictor

if TYPE_CHECKING:
    from gluonts.torch import PyTorchPredictor
    from uni2ts.model.moirai import MoiraiModule


class MoiraiForecaster(Pretrained):
    """A Moirai network; quantiles are those of its samples."""

    name = "moirai"
    task = Moirai
    packages = ("uni2ts", "gluonts")
    network: MoiraiModule

    @classmethod
    def load_network(cls, base: str | Path) -> MoiraiModule:
        return bases.load_base(base)

    @classmethod
    def patches(cls, network: MoiraiModule) -> tuple[int, ...]:
        return tuple(network.patch_sizes)

    @classmethod
    def check_window(cls, network: MoiraiModule, context: int, horizon: int, patch: int) -> None:
        count, most = _count(patch, context, horizon), network.max_seq_len
        require(
            count <= most,
            f"context {context} + horizon {horizon} are {count} tokens of {patch} steps, more than the base's {most}; "
            f"lower --context to at most {(most - -(-horizon // patch)) * patch}",
        )

    @classmethod
    def choose_patch(cls, network: MoiraiModule, validation: Float[Tensor, "n window"], context: int) -> int:
        sizes = _fitting(network, context, validation.shape[1] - context)
        tried = {size: crps(network, validation, context, size) for size in sizes}
        return min(tried, key=lambda size: tried[size])

    @classmethod
    def predictor(
        cls, network: MoiraiModule, context: int, horizon: int, patch: int, device: torch.device
    ) -> PyTorchPredictor:
        return predictor(network, context, horizon, patch, device)

    def _write(self, folder: Path) -> None:
        # uni2ts reads it back: MoiraiModule.from_pretrained(folder).
        self.network.save_pretrained(folder)
        shutil.copymode(folder / "config.json", folder / "model.safetensors")  # safetensors leaves mode 600
        (folder / "README.md").unlink(missing_ok=True)  # the hub's blank model card


def _fitting(network: MoiraiModule, context: int, horizon: int) -> list[int]:
    """Patch sizes of at most half the context that the network can hold."""
    sizes = [s for s in network.patch_sizes if 2 * s <= context and _count(s, context, horizon) <= network.max_seq_len]
    return sizes or [min(network.patch_sizes)]


def _count(patch: int, context: int, horizon: int) -> int:
    return -(-context // patch) + -(-horizon // patch)
