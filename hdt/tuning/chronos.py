"""Chronos-2: its loss and validation error, and its forecasts, by chronos-forecasting.

"Chronos-2: From Univariate to Universal Forecasting" (arXiv 2510.15821). Each channel is a series of its own, as with
Moirai: no attention across a group. The network gives its loss itself, so it is trained by our loop, which chooses on
all looks at the validation part, goes on after an interruption and adds the noise that horizons lack, rather than by
``Chronos2Pipeline.fit``; optimiser and learning rates over the steps are those of the latter: AdamW without weight
decay, linearly to zero. So are the layers and the rank of ``lora`` (arXiv 2106.09685, by peft), whose products are
added to the weights at the end: what is saved is a network like the base.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hdt.system.errors import InputError, first_line, require
from hdt.training.loop import seeded
from hdt.tuning import base as bases
from hdt.tuning.loop import EVERY, Batches, Tuning
from hdt.tuning.pretrained import Pretrained
from hdt.tuning.score import BATCH

if TYPE_CHECKING:
    from chronos import Chronos2Model

INSTALL = "Chronos-2 needs chronos-forecasting: pip install 'hdt-ts[chronos]' (missing here: {})"
INSTALL_PEFT = "--pattern lora needs peft: pip install 'hdt-ts[chronos]' (missing here: {})"
ARCHITECTURE = "Chronos2Model"
# Parts of the names of parameters that are trained; freeze_ffn trains all but its own.
HEAD, FFN = "output_patch_embedding.", ".mlp."
LORA = {  # the default of Chronos2Pipeline.fit
    "r": 8, "lora_alpha": 16,
    "target_modules": [*(f"self_attention.{part}" for part in "qvko"), "output_patch_embedding.output_layer"],
}  # fmt: skip


class ChronosTuning(Tuning):
    """Chronos-2's quantile loss, of arcsinh of normalised values; validation is its CRPS."""

    package = "chronos-forecasting"
    patterns = EVERY

    @classmethod
    def check_pattern(cls, pattern: str) -> None:
        super().check_pattern(pattern)
        if pattern == "lora":
            import_peft()

    def __init__(
        self, network: Chronos2Model, batches: Batches, validation: Float[Tensor, "m window"], device: torch.device
    ) -> None:
        plan = batches.plan
        self.adapted: Any = None
        if plan.pattern == "lora":
            peft = import_peft()
            with seeded(plan.seed, device), warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of transformers at peft
                # Its layers go into the network itself, whose own are frozen.
                self.adapted = peft.get_peft_model(network, peft.LoraConfig(**LORA))
        else:
            for name, parameter in network.named_parameters():
                trained = {"full": True, "freeze_ffn": FFN not in name, "head_only": name.startswith(HEAD)}
                parameter.requires_grad_(trained[plan.pattern])
        optimizer = torch.optim.AdamW(
            [parameter for parameter in network.parameters() if parameter.requires_grad], lr=plan.lr, weight_decay=0.0
        )
        super().__init__(network, optimizer, batches, validation, device)

    def rate(self, step: int) -> float:
        return self.plan.lr * (1 - step / self.plan.steps)

    def loss(self, batch: Tensor) -> Tensor:
        context, future = batch[:, : self.plan.context], batch[:, self.plan.context :]
        loss: Tensor = self.network(
            context=context, future_target=future, num_output_patches=-(-self.plan.horizon // self.plan.patch)
        ).loss
        return loss

    def settle(self) -> None:
        if self.adapted is not None:
            self.adapted.merge_and_unload()

    def measure(self) -> float:
        return crps(self.network.eval(), self.validation, self.plan.context)


class ChronosForecaster(Pretrained):
    """A Chronos-2 network; between its quantiles others are interpolated."""

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
    def check_window(cls, network: Chronos2Model, context: int, horizon: int, patch: int) -> None:
        own = network.chronos_config
        longest = own.max_output_patches * own.output_patch_size
        require(
            context <= own.context_length and horizon <= longest,
            f"context {context} and horizon {horizon}: the base takes at most {own.context_length} and {longest}; "
            "lower --context or --horizon",
        )

    @classmethod
    def predictor(cls, network: Chronos2Model, context: int, horizon: int, patch: int, device: torch.device) -> Any:
        return _Predictor(network.to(device).eval(), context, horizon)

    def _predict(
        self, values: np.ndarray, columns: Sequence[str], quantiles: Sequence[float] | None
    ) -> Mapping[float | None, np.ndarray]:
        known = self.network.chronos_config.quantiles
        for level in quantiles or ():
            inside = min(known) <= level <= max(known)
            require(inside, f"quantile {level}: this network knows those from {min(known)} to {max(known)}")
        return super()._predict(values, columns, quantiles)

    def _write(self, folder: Path) -> None:
        # Chronos2Pipeline.from_pretrained(folder) reads it back.
        from safetensors.torch import save

        self.network.config.save_pretrained(folder)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        (folder / bases.WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))


class _Predictor:
    """What gluonts' evaluation asks of a predictor."""

    def __init__(self, network: Chronos2Model, context: int, horizon: int) -> None:
        self.network, self.context, self.horizon = network, context, horizon

    def predict(self, entries: Any, **_: Any) -> Iterator[Any]:
        """A QuantileForecast for each of the series, whose last ``context`` steps are read."""
        from gluonts.dataset.util import forecast_start
        from gluonts.itertools import batcher
        from gluonts.model.forecast import QuantileForecast

        keys = [str(level) for level in self.network.chronos_config.quantiles]
        for part in batcher(entries, BATCH):
            contexts = torch.as_tensor(np.stack([entry["target"][-self.context :] for entry in part]))
            for entry, found in zip(part, quantiles(self.network, contexts, self.horizon), strict=True):
                yield QuantileForecast(found.cpu().numpy(), forecast_start(entry), keys, item_id=entry.get("item_id"))


@torch.no_grad()
def quantiles(network: Chronos2Model, contexts: Float[Tensor, "B L"], horizon: int) -> Float[Tensor, "B Q H"]:
    """The quantiles that the network knows, in ascending order, which a network that learned little may mistake."""
    device, size = next(network.parameters()).device, network.chronos_config.output_patch_size
    found: Tensor = network(
        context=contexts.to(device, torch.float32), num_output_patches=-(-horizon // size)
    ).quantile_preds
    return found[..., :horizon].sort(dim=1).values


def crps(network: Chronos2Model, windows: Float[Tensor, "n window"], context: int) -> float:
    """Continuous ranked probability score, mean over the steps of the horizons, in the units of the windows: twice the
    mean pinball loss over the network's quantiles. Infinite for a network that has diverged."""
    levels = torch.tensor(network.chronos_config.quantiles)[:, None]
    total, horizon = 0.0, windows.shape[1] - context
    for part in windows.split(BATCH):
        gap = part[:, None, context:].cpu() - quantiles(network, part[:, :context], horizon).cpu()
        loss = 2 * torch.maximum(levels * gap, (levels - 1) * gap).mean(dim=1)
        total += loss.sum(dtype=torch.float64).item()
    return total / (len(windows) * horizon) if math.isfinite(total) else math.inf


def import_peft() -> Any:
    """``peft``; raises :class:`InputError` with the line that installs it."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            import peft
    except ImportError as error:
        raise InputError(INSTALL_PEFT.format(error.name)) from error
    return peft


def load(base: str | Path) -> Chronos2Model:
    """The Chronos-2 network in ``base``, in float32 on the CPU.

    ``base`` is a folder with config.json and model.safetensors, or a Hugging Face hub id such as ``amazon/chronos-2``,
    also called ``chronos-2``. Raises :class:`InputError`.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            from chronos import Chronos2Model
            from chronos.chronos2.config import Chronos2CoreConfig
    except ImportError as error:
        raise InputError(INSTALL.format(error.name)) from error
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder, config = bases.checkpoint(base)
    kinds = config.get("architectures") or []
    require(
        isinstance(config.get("chronos_config"), dict) and kinds == [ARCHITECTURE],
        f"{folder / bases.CONFIG}: not a Chronos-2 network (architectures {kinds}); "
        "Chronos and Chronos-Bolt cannot be fine-tuned here",
    )
    try:
        tensors = load_file(folder / bases.WEIGHTS)
    except SafetensorError as error:
        raise InputError(f"{folder / bases.WEIGHTS}: cannot be read ({error}); copy it again") from error
    try:
        with seeded(0, torch.device("cpu")):
            network = Chronos2Model(Chronos2CoreConfig.from_dict(config))
        network.load_state_dict(tensors)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise InputError(f"{base}: weights and configuration do not fit ({first_line(error)})") from error
    bases.check_finite(network, folder)
    return network
