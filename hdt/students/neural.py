"""Networks of neuralforecast as students: the network alone, trained by our loop and rule, not by theirs.

They take windows of single series, [B·C, L, 1], or of all series, [B, L, n_series] (``MULTIVARIATE``), in a dictionary,
and scale window by window (``scaler_type``). Theirs would be the absolute error, a fixed number of steps and one
learning rate; here it is the squared error, and epoch and rate are chosen on validation data, around the rate that is
the model's default, as for every student. To train as they do: ``NeuralForecast.fit`` on ``to_long()``
(docs/tasks/models.md).
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hdt.maths.roles import Roles
from hdt.system.errors import require


class Network(nn.Module):
    """A model of neuralforecast as a network [B, L, C] → [B, H, C]."""

    def __init__(self, model: Any, name: str) -> None:
        super().__init__()
        self.model = model
        kind = type(model).__name__
        require(
            not model.RECURRENT or not getattr(model, "recurrent", True),
            f"student {name!r}: {kind} forecasts step by step; train it with NeuralForecast.fit on to_long()",
        )
        outputs = model.loss.outputsize_multiplier
        require(
            outputs == 1, f"student {name!r}: {kind} forecasts {outputs} numbers a step; give it a loss such as MAE()"
        )

    def forward(
        self, context: Float[Tensor, "B L C"], known: Tensor | None = None, roles: Roles | None = None
    ) -> Tensor:
        """``known`` [B, L+H, G, K] is what they call futr_exog, columns of the past are their hist_exog."""
        model, single = self.model, not self.model.MULTIVARIATE
        exogenous: dict[str, Tensor | None] = dict.fromkeys(("futr_exog", "hist_exog", "stat_exog"))
        if single and roles is not None:
            context, past, _ = roles._replace(known=0).within(context.shape[2]).parts(context)
            beside = {"futr_exog": known, "hist_exog": past if roles.past else None}
            exogenous |= {name: _by_series(part, context.shape[2]) for name, part in beside.items() if part is not None}
        batch, length, channels = context.shape
        series = context.transpose(1, 2).reshape(-1, length, 1) if single else context
        mask = torch.ones_like(series)
        scaled = model.scaler.transform(x=series[:, :, None], mask=mask[:, :, None])[:, :, 0]
        shift, scale = (part[:, :, 0] for part in (model.scaler.x_shift, model.scaler.x_scale))
        forecast = model({"insample_y": scaled, "insample_mask": mask, **exogenous})
        forecast = model.scaler.inverse_transform(z=forecast, x_shift=shift, x_scale=scale)
        return forecast.reshape(batch, channels, -1).transpose(1, 2) if single else forecast


def _by_series(part: Float[Tensor, "B steps G K"], series: int) -> Float[Tensor, "rows steps K"]:
    """The same for windows of single series."""
    return part.expand(-1, -1, series, -1).transpose(1, 2).flatten(0, 1)


def is_model(thing: Any) -> bool:
    """Whether it is a model of neuralforecast, or a class of them."""
    kind = thing if inspect.isclass(thing) else type(thing)
    return hasattr(kind, "MULTIVARIATE") and any(each.__module__.startswith("neuralforecast.") for each in kind.__mro__)


def maker(kind: Any) -> Callable[..., Any]:
    """The function of (context, horizon, channels) that makes such a model, by default with its own settings."""

    def make(context: int, horizon: int, channels: int, **settings: Any) -> Any:
        series = {"n_series": channels} if kind.MULTIVARIATE else {}
        return kind(h=horizon, input_size=context, **series, **settings)

    return make


def takes_known(kind: Any) -> bool:
    """Whether such a class takes columns known ahead, which ours are given to models of single series alone."""
    return bool(getattr(kind, "EXOGENOUS_FUTR", False)) and not kind.MULTIVARIATE


def columns(kind: Any, roles: Roles) -> dict[str, list[str]]:
    """The settings that tell such a class what it gets beside the series."""
    lists = {"futr_exog_list": [f"known_{n}" for n in range(roles.known)]}
    if roles.past and kind.EXOGENOUS_HIST:
        lists["hist_exog_list"] = [f"past_{n}" for n in range(roles.past)]
    return lists


def default_rate(kind: Any) -> float:
    """The learning rate that such a class trains with unless told otherwise."""
    found = inspect.signature(kind).parameters.get("learning_rate")
    return 1e-3 if found is None else float(found.default)


@contextmanager
def unseeded() -> Iterator[None]:
    """Their models seed every generator with a fixed number when made; inside, the caller's seed stays."""
    lightning: Any = sys.modules.get("pytorch_lightning")
    if lightning is None:
        yield
        return
    kept, lightning.seed_everything = lightning.seed_everything, lambda *_, **__: None
    try:
        yield
    finally:
        lightning.seed_everything = kept
