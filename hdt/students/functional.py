"""Students as functions of their weights, for objectives that differentiate through training."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hdt.students.contract import Student
from hdt.students.table import build


def backbone(name: str, context: int, horizon: int, series: Float[Tensor, "T C"]) -> Student:
    """A student whose weights are to be replaced by ``functional_call``; same device and dtype as ``series``.

    It stays in training mode, so that batch norms use the batch, but drops nothing: matching needs the
    same function every time, and nothing may draw from the global RNG.
    """
    student = build(name, context, horizon, series.shape[1], seed=0).to(series).train()
    for module in student.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return student


def flatten(student: Student) -> Float[Tensor, " P"]:
    """All weights of a student in one vector, in the order of ``named_parameters``."""
    return torch.cat([p.detach().flatten() for p in student.parameters()])


def unflatten(vector: Float[Tensor, " P"], student: Student) -> dict[str, Tensor]:
    """Inverse of :func:`flatten`: named views of ``vector``, for ``functional_call``."""
    named = list(student.named_parameters())
    parts = vector.split([p.numel() for _, p in named])
    return {name: part.view_as(p) for (name, p), part in zip(named, parts, strict=True)}


def forecast_error(
    student: Student,
    weights: Float[Tensor, " P"],
    batch: Float[Tensor, "B window C"],
    importance: Float[Tensor, " C"] | None = None,
) -> Float[Tensor, ""]:
    """Mean squared forecast error on a batch of windows, at flat ``weights``; ``importance`` multiplies channels."""
    context, horizon = batch[:, : student.context], batch[:, student.context :]
    forecast = torch.func.functional_call(student, unflatten(weights, student), (context,))
    if importance is None:
        return nn.functional.mse_loss(forecast, horizon)
    return ((forecast - horizon).square() * importance).mean()


def forecast_gradient(
    student: Student,
    weights: Float[Tensor, " P"],
    batch: Float[Tensor, "B window C"],
    differentiable: bool,
    importance: Float[Tensor, " C"] | None = None,
) -> Float[Tensor, " P"]:
    """Gradient of :func:`forecast_error` at flat ``weights``.

    ``weights`` must require gradients; ``differentiable`` keeps the graph for a second derivative.
    """
    error = forecast_error(student, weights, batch, importance)
    (gradient,) = torch.autograd.grad(error, weights, create_graph=differentiable)
    return gradient
