"""Chronos-2: its loss and its networks, by chronos-forecasting.

"Chronos-2: From Univariate to Universal Forecasting" (arXiv 2510.15821). No attention across a group: each channel is a
series of its own. The layers of ``lora`` are those of ``Chronos2Pipeline.fit``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from hdt.tuning.base import WEIGHTS
from hdt.tuning.quantiles import QuantileForecaster, QuantileTuning, needing, read_network

if TYPE_CHECKING:
    from chronos import Chronos2Model

REFUSAL = "not a Chronos-2 network ({}); Chronos and Chronos-Bolt cannot be fine-tuned here"


class ChronosTuning(QuantileTuning):
    """Chronos-2's quantile loss, of arcsinh of normalised values."""

    package = "chronos-forecasting"
    head = "output_patch_embedding."
    adapted = (*(f"self_attention.{part}" for part in "qvko"), "output_patch_embedding.output_layer")

    @staticmethod
    def levels(network: Chronos2Model) -> Sequence[float]:
        found: Sequence[float] = network.chronos_config.quantiles
        return found

    @staticmethod
    def outputs(network: Chronos2Model, contexts: Float[Tensor, "B L"], horizon: int) -> Float[Tensor, "B Q H"]:
        size = network.chronos_config.output_patch_size
        found: Tensor = network(context=contexts, num_output_patches=-(-horizon // size)).quantile_preds
        return found[..., :horizon]

    def loss(self, batch: Tensor) -> Tensor:
        context, future = batch[:, : self.plan.context], batch[:, self.plan.context :]
        loss: Tensor = self.network(
            context=context, future_target=future, num_output_patches=-(-self.plan.horizon // self.plan.patch)
        ).loss
        return loss


class ChronosForecaster(QuantileForecaster):
    """A Chronos-2 network."""

    name = "chronos"
    task = ChronosTuning
    packages = ("chronos-forecasting", "gluonts")
    network: Chronos2Model

    @classmethod
    def load_network(cls, base: str | Path) -> Chronos2Model:
        return load(base)

    @classmethod
    def patches(cls, network: Chronos2Model) -> tuple[int, ...]:
        return (network.chronos_config.output_patch_size,)

    @classmethod
    def longest(cls, network: Chronos2Model) -> tuple[int, int]:
        own = network.chronos_config
        return own.context_length, own.max_output_patches * own.output_patch_size

    def _write(self, folder: Path) -> None:
        # Chronos2Pipeline.from_pretrained(folder) reads it back.
        from safetensors.torch import save

        self.network.config.save_pretrained(folder)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))


def load(base: str | Path) -> Chronos2Model:
    """The Chronos-2 network in ``base``, in float32 on the CPU.

    ``base`` is a folder with config.json and model.safetensors, or a Hugging Face hub id such as ``amazon/chronos-2``,
    also called ``chronos-2``. Raises :class:`InputError`.
    """
    with needing("Chronos-2 needs chronos-forecasting"):
        from chronos import Chronos2Model
        from chronos.chronos2.config import Chronos2CoreConfig
    from safetensors.torch import load_file

    def read(folder: Path, config: dict[str, Any]) -> Chronos2Model:
        tensors = load_file(folder / WEIGHTS)
        network = Chronos2Model(Chronos2CoreConfig.from_dict(config))
        network.load_state_dict(tensors)
        return network

    network: Chronos2Model = read_network(base, "Chronos2Model", REFUSAL, read)
    return network
