"""Trajectory matching (MTT, arXiv 2203.11932) of images that are stored by hdt's parameterizations."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from digits import CLASSES, GRID, SIDE, Digits, Split, digits, network
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from hdt.maths.transforms import dct2
from hdt.parameterization import Parameterization, Size
from hdt.parameterization.fred import FreD, FreDOptions, choose
from hdt.parameterization.nsd import NSD, NSDOptions
from hdt.parameterization.raw import Raw


class Matching(NamedTuple):
    """Settings of the loss, the same for every parameterization."""

    iterations: int = 120
    experts: int = 5
    epochs: int = 6
    expert_rate: float = 0.05
    expert_batch: int = 64
    max_start: int = 4
    target_epochs: int = 2
    steps: int = 8
    inner_batch: int = 32
    inner_rate: float = 0.1
    inner_rate_rate: float = 0.02


def flatten(model: nn.Module) -> Tensor:
    """All weights in one vector [P]."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def unflatten(vector: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """Inverse of :func:`flatten`, for ``functional_call``."""
    named = list(model.named_parameters())
    parts = vector.split([p.numel() for _, p in named])
    return {name: part.view_as(p) for (name, p), part in zip(named, parts, strict=True)}


class Synthetic:
    """Labelled images of one or more parameterizations, here in the order of class; every class has equally many."""

    def __init__(self, parts: list[Parameterization], data: Digits, seed: int) -> None:
        self.parts = parts
        images, self.labels = data.draw(sum(part.instances() for part in parts) // CLASSES, seed)
        starts = GRID.unfold(images).split(len(images) // len(parts))
        self.params = [part.encode(start) for part, start in zip(parts, starts, strict=True)]

    def learned(self) -> list[Tensor]:
        """The tensors to optimise."""
        pairs = zip(self.parts, self.params, strict=True)
        return [t.requires_grad_() for part, p in pairs for name, t in p.items() if name not in part.fixed]

    def images(self) -> Tensor:
        """[n, 1, 8, 8]."""
        return GRID.fold(torch.cat([part.decode(p) for part, p in zip(self.parts, self.params, strict=True)]))

    def floats(self) -> int:
        """Stored numbers, masks and learned kernels included; hard labels are given by position."""
        return sum(tensor.numel() for params in self.params for tensor in params.values())


def pixels(each: int) -> list[Parameterization]:
    """Raw images, ``each`` per class."""
    return [Raw(Size(each * CLASSES, SIDE * SIDE, 1))]


def fred(data: Digits, kept: int, shared: bool, random: bool, seed: int) -> list[Parameterization]:
    """One FreD of 64 floats per class, its mask by variance within the class, or one FreD of 640 floats for all.

    Of a ``shared`` FreD's instances as many are used as there are alike for every class. The mask may be ``random``.
    """
    generator, parts = torch.Generator().manual_seed(seed), []
    for own in [torch.ones_like(data.labels).bool()] if shared else [data.labels == c for c in range(CLASSES)]:
        part = FreD(Size(CLASSES if shared else 1, SIDE * SIDE, 1), FreDOptions(kept=kept, center=True, period=SIDE))
        part.mask = choose(dct2(data.images[own]), kept, True, False)
        if random:
            part.mask = torch.randperm(SIDE * SIDE, generator=generator)[:kept].sort().values[None].int()
        parts.append(part)
    return parts


def nsd(data: Digits, options: NSDOptions, seed: int) -> list[Parameterization]:
    """One NSD of at most 640 floats with a spectrum tensor per class and kernels shared by all classes."""
    part = NSD(Size(CLASSES, SIDE * SIDE, 1), options)
    part.prepare(GRID.unfold(data.images).flatten(0, 1), torch.Generator().manual_seed(seed))
    return [part]


@lru_cache(maxsize=1)
def experts(split: Split, seed: int, matching: Matching) -> Tensor:
    """Checkpoints [experts, epochs + 1, P] of networks trained on the real images with plain SGD."""
    data, every = digits(split), []
    for i in range(matching.experts):
        model = network(seed=200_000 + 100 * seed + i)
        generator = torch.Generator().manual_seed(100 * seed + i)
        optimizer, checkpoints = torch.optim.SGD(model.parameters(), lr=matching.expert_rate), [flatten(model)]
        for _ in range(matching.epochs):
            for batch in torch.randperm(len(data.images), generator=generator).split(matching.expert_batch):
                optimizer.zero_grad()
                cross_entropy(model(data.images[batch]), data.labels[batch]).backward()
                optimizer.step()
            checkpoints.append(flatten(model))
        every.append(torch.stack(checkpoints))
    return torch.stack(every)


def match(synthetic: Synthetic, split: Split, matching: Matching, rate: float, gamma: float, seed: int) -> None:
    """Learn ``synthetic`` in place; ``gamma`` weighs the trained network's error on real images."""
    data, checkpoints, student = digits(split), experts(split, seed, matching), network(0)
    generator = torch.Generator().manual_seed(seed)
    log_rate = torch.tensor(math.log(matching.inner_rate), requires_grad=True)
    groups = [{"params": synthetic.learned(), "lr": rate}, {"params": [log_rate], "lr": matching.inner_rate_rate}]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, matching.iterations)

    def error(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(student, unflatten(theta, student), (x,)), y)

    for _ in range(matching.iterations):
        expert = int(torch.randint(len(checkpoints), (), generator=generator))
        start = int(torch.randint(matching.max_start, (), generator=generator))
        first, target = checkpoints[expert, start], checkpoints[expert, start + matching.target_epochs]
        theta, images = first.clone().requires_grad_(), synthetic.images()
        for _ in range(matching.steps):
            batch = torch.randperm(len(images), generator=generator)[: matching.inner_batch]
            inner = error(theta, images[batch], synthetic.labels[batch])
            theta = theta - log_rate.exp() * torch.autograd.grad(inner, theta, create_graph=True)[0]
        loss = (theta - target).square().sum() / (first - target).square().sum()
        if gamma:
            real = torch.randint(len(data.images), (matching.expert_batch,), generator=generator)
            loss = loss + gamma * error(theta, data.images[real], data.labels[real])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
