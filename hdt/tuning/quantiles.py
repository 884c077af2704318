"""Networks of the hub's transformers that forecast quantiles: what Chronos-2 and TimesFM have in common.

Each channel is a series of its own. They are trained by our loop, which chooses on all looks at the validation part,
goes on after an interruption and adds the noise that horizons lack. Optimiser and learning rates over the steps are
those of ``Chronos2Pipeline.fit``: AdamW without weight decay, linearly to zero. So is the rank of ``lora`` (arXiv
2106.09685, by peft), whose products are added to the weights at the end: what is saved is a network like the base.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

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

FFN = ".mlp."  # in the names of parameters; freeze_ffn trains all but these
RANK, ALPHA = 8, 16


class QuantileTuning(Tuning):
    """Validation is the CRPS. ``head``: how names of parameters begin that head_only trains; ``adapted``: how names of
    layers end that lora adapts.
    """

    patterns = EVERY
    head: ClassVar[str]
    adapted: ClassVar[tuple[str, ...]]

    @staticmethod
    @abstractmethod
    def levels(network: Any) -> Sequence[float]:
        """The quantiles that the network knows, ascending."""

    @staticmethod
    @abstractmethod
    def outputs(network: Any, contexts: Float[Tensor, "B L"], horizon: int) -> Float[Tensor, "B Q H"]:
        """Its quantiles of the steps after the contexts, in their units."""

    @classmethod
    def check_pattern(cls, pattern: str) -> None:
        super().check_pattern(pattern)
        if pattern == "lora":
            import_peft()

    def __init__(
        self, network: Any, batches: Batches, validation: Float[Tensor, "m window"], device: torch.device
    ) -> None:
        plan = batches.plan
        self.adapter: Any = None
        if plan.pattern == "lora":
            peft = import_peft()
            with seeded(plan.seed, device), warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of transformers at peft
                # Its layers go into the network itself, whose own are frozen.
                self.adapter = peft.get_peft_model(
                    network, peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(self.adapted))
                )
        else:
            for name, parameter in network.named_parameters():
                trained = {"full": True, "freeze_ffn": FFN not in name, "head_only": name.startswith(self.head)}
                parameter.requires_grad_(trained[plan.pattern])
        optimizer = torch.optim.AdamW(
            [parameter for parameter in network.parameters() if parameter.requires_grad], lr=plan.lr, weight_decay=0.0
        )
        super().__init__(network, optimizer, batches, validation, device)

    def rate(self, step: int) -> float:
        return self.plan.lr * (1 - step / self.plan.steps)

    def settle(self) -> None:
        if self.adapter is not None:
            self.adapter.merge_and_unload()

    def measure(self) -> float:
        return self.crps(self.network.eval(), self.validation, self.plan.context)

    @classmethod
    @torch.no_grad()
    def quantiles(cls, network: Any, contexts: Float[Tensor, "B L"], horizon: int) -> Float[Tensor, "B Q H"]:
        """The quantiles that the network knows, in ascending order, which a network that learned little may mistake."""
        device = next(network.parameters()).device
        return cls.outputs(network, contexts.to(device, torch.float32), horizon).sort(dim=1).values

    @classmethod
    def crps(cls, network: Any, windows: Float[Tensor, "n window"], context: int) -> float:
        """Continuous ranked probability score, mean over the steps of the horizons, in the units of the windows: twice
        the mean pinball loss over the network's quantiles. Infinite for a network that has diverged."""
        levels = torch.tensor(cls.levels(network))[:, None]
        total, horizon = 0.0, windows.shape[1] - context
        for part in windows.split(BATCH):
            gap = part[:, None, context:].cpu() - cls.quantiles(network, part[:, :context], horizon).cpu()
            total += 2 * pinball(gap, levels).mean(dim=1).sum(dtype=torch.float64).item()
        return total / (len(windows) * horizon) if math.isfinite(total) else math.inf


class QuantileForecaster(Pretrained):
    """A network that forecasts quantiles; between them others are interpolated."""

    task: ClassVar[type[QuantileTuning]]
    network: Any

    @classmethod
    @abstractmethod
    def longest(cls, network: Any) -> tuple[int, int]:
        """The longest context and the longest horizon that the network takes."""

    @classmethod
    def check_window(cls, network: Any, context: int, horizon: int, patch: int) -> None:
        most = cls.longest(network)
        require(
            context <= most[0] and horizon <= most[1],
            f"context {context} and horizon {horizon}: the base takes at most {most[0]} and {most[1]}; "
            "lower --context or --horizon",
        )

    @classmethod
    def predictor(cls, network: Any, context: int, horizon: int, patch: int, device: torch.device) -> Any:
        return _Predictor(cls.task, network.to(device).eval(), context, horizon)

    def _predict(
        self, values: np.ndarray, columns: Sequence[str], quantiles: Sequence[float] | None
    ) -> Mapping[float | None, np.ndarray]:
        known = self.task.levels(self.network)
        for level in quantiles or ():
            inside = min(known) <= level <= max(known)
            require(inside, f"quantile {level}: this network knows those from {min(known)} to {max(known)}")
        return super()._predict(values, columns, quantiles)


class _Predictor:
    """What gluonts' evaluation asks of a predictor."""

    def __init__(self, task: type[QuantileTuning], network: Any, context: int, horizon: int) -> None:
        self.task, self.network, self.context, self.horizon = task, network, context, horizon

    def predict(self, entries: Any, **_: Any) -> Iterator[Any]:
        """A QuantileForecast for each of the series, whose last ``context`` steps are read."""
        from gluonts.dataset.util import forecast_start
        from gluonts.itertools import batcher
        from gluonts.model.forecast import QuantileForecast

        keys = [str(level) for level in self.task.levels(self.network)]
        for part in batcher(entries, BATCH):
            contexts = torch.as_tensor(np.stack([entry["target"][-self.context :] for entry in part]))
            for entry, found in zip(part, self.task.quantiles(self.network, contexts, self.horizon), strict=True):
                yield QuantileForecast(found.cpu().numpy(), forecast_start(entry), keys, item_id=entry.get("item_id"))


def pinball(gap: Tensor, levels: Tensor) -> Tensor:
    """The pinball losses of values that lie ``gap`` above the quantiles of ``levels``."""
    return torch.maximum(levels * gap, (levels - 1) * gap)


def quiet() -> contextlib.AbstractContextManager[Any]:
    """Keeps progress bars and warnings of transformers to itself."""
    return contextlib.redirect_stderr(io.StringIO())


@contextlib.contextmanager
def needing(what: str) -> Iterator[None]:
    """For imports of the extra ``chronos``, without their warnings; raises :class:`InputError` with the line that
    installs it."""
    try:
        with quiet():
            yield
    except ImportError as error:
        raise InputError(
            f"{what}: pip install 'hdt-ts[chronos]' (missing here: {error.name or first_line(error)})"
        ) from error


def import_peft() -> Any:
    """``peft``; raises :class:`InputError` with the line that installs it."""
    with needing("--pattern lora needs peft"):
        import peft
    return peft


def read_network(
    base: str | Path, architecture: str, refusal: str, read: Callable[[Path, dict[str, Any]], torch.nn.Module]
) -> Any:
    """The network in ``base``, in float32 on the CPU, which ``read`` makes of a folder and the configuration in it;
    raises :class:`InputError`, with ``refusal`` for one of another ``architecture``."""
    from safetensors import SafetensorError

    folder, config = bases.checkpoint(base)
    kinds = config.get("architectures") or []
    require(kinds == [architecture], f"{folder / bases.CONFIG}: " + refusal.format(f"architectures {kinds}"))
    try:
        with seeded(0, torch.device("cpu")):
            network = read(folder, config)
    except SafetensorError as error:
        raise InputError(f"{folder / bases.WEIGHTS}: cannot be read ({error}); copy it again") from error
    except Exception as error:  # each library's own, of its checks of a configuration
        raise InputError(f"{base}: weights and configuration do not fit ({first_line(error)})") from error
    bases.check_finite(network, folder)
    return network
