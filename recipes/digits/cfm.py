"""CFM and fixed filters (UniDD, arXiv 2503.01212) on images: hdt's correlations, cross-entropy as task loss."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from digits import CLASSES, Digits, Split, Training, digits, fit
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from hdt.maths.correlations import Correlations, Filter, annealed, correlations, filtered, layer_inputs, running


class Filtering(NamedTuple):
    """Settings of the loss; ``beta`` relative to the mean eigenvalue of the teacher's correlations."""

    filter: Filter = "cfm"
    beta: float = 1.0
    y: Literal["labels", "teacher"] = "labels"
    match_weight: float = 0.1
    iterations: int = 150


@lru_cache(maxsize=1)
def teacher(split: Split, seed: int, training: Training) -> nn.Sequential:
    """A frozen network trained on the real images."""
    data = digits(split)
    return fit(data.images, data.labels, training, seed=300_000 + seed).eval().requires_grad_(False)


def look(model: nn.Sequential, images: Tensor, labels: Tensor, y: str) -> tuple[list[Tensor], Tensor, Tensor]:
    """What enters every layer, [n, D] each, the Y [n, 10] of the correlations, and the cross-entropy."""
    inputs, logits = layer_inputs(model, dict(model.named_parameters()), images)
    targets = logits.softmax(dim=1) if y == "teacher" else one_hot(labels, CLASSES)
    return inputs, targets, cross_entropy(logits, labels)


def distance(filtering: Filtering, real: Correlations, own: Correlations, beta: float) -> Tensor:
    """The two norms of one layer, each relative to the teacher's term; β relative to its mean eigenvalue."""
    beta, total = beta * float(real.ffc.diagonal().mean()), own.ffc.new_zeros(())
    both = [filtered(filtering.filter, each, beta, alpha=0.0, steps=0) for each in (real, own)]
    for target, found in zip(*both, strict=True):
        total = total + (target - found).norm() / target.norm()
    return total


def distil(
    data: Digits, model: nn.Sequential, filtering: Filtering, each: int, rate: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Learned images and labels, ``each`` per class, from real ones; batch b holds the b-th image of every class."""
    images, labels = data.draw(each, seed)
    images, labels = (x.unflatten(0, (CLASSES, each)).transpose(0, 1).flatten(0, 1) for x in (images, labels))
    inputs, y, _ = look(model, data.images, data.labels, filtering.y)
    real = [correlations(x, y) for x in inputs]
    images = images.clone().requires_grad_()
    optimizer = torch.optim.Adam([images], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, filtering.iterations)
    for _ in range(filtering.iterations):
        inputs, y, loss = look(model, images, labels, filtering.y)
        past: list[Correlations] | None = None
        for b in range(each if filtering.match_weight else 0):
            batch = slice(b * CLASSES, (b + 1) * CLASSES)
            own = running(past, [correlations(x[batch], y[batch]) for x in inputs], b + 1)
            past = [Correlations(c.ffc.detach(), c.flc.detach()) for c in own]
            beta = annealed(filtering.beta, b, each) if filtering.filter == "cfm" else filtering.beta
            apart = sum(distance(filtering, t, s, beta) for t, s in zip(real, own, strict=True))
            loss = loss + filtering.match_weight * apart / each
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return images.detach(), labels
