"""The 8×8 digits of scikit-learn, a small ConvNet, and how it is trained on real and on synthetic images."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from hdt.maths.grid import Grid

CLASSES, SIDE = 10, 8
GRID = Grid(SIDE * SIDE, SIDE)  # an image [1, 8, 8] is a series [64, 1] folded by period 8
Split = Literal["test", "validation"]


class Digits(NamedTuple):
    """Scaled images [n, 1, 8, 8] and labels [n] to learn from, ``held`` ones to score on, and the scale."""

    images: Tensor
    labels: Tensor
    held_images: Tensor
    held_labels: Tensor
    mean: Tensor  # [1, 8, 8], in grey levels of 0 to 16
    spread: float

    def draw(self, each: int, seed: int) -> tuple[Tensor, Tensor]:
        """``each`` random images per class, in order of class; more ``each`` of one seed begin with the fewer."""
        generator = torch.Generator().manual_seed(seed)
        orders = [torch.randperm(len(self.images), generator=generator) for _ in range(CLASSES)]
        chosen = [order[self.labels[order] == c][:each] for c, order in enumerate(orders)]
        return self.images[torch.cat(chosen)], torch.arange(CLASSES).repeat_interleave(each)


class Training(NamedTuple):
    """How a network is trained and scored; the same for every variant. Learning rate with a cosine decay to 0."""

    steps: int = 200
    batch: int = 64
    rate: float = 0.05
    momentum: float = 0.9
    decay: float = 5e-4
    networks: int = 3


@lru_cache
def digits(split: Split) -> Digits:
    """1,000 training and 797 test images; for ``validation``, 800 and 200 of the 1,000.

    The training part's mean image is taken out and its spread becomes 1: what FreD's mask leaves out is then the
    mean image, not a grey.
    """
    images, labels = load_digits(return_X_y=True)
    train, held, y, held_y = train_test_split(images, labels, train_size=1000, random_state=0, stratify=labels)
    if split == "validation":
        train, held, y, held_y = train_test_split(train, y, train_size=800, random_state=0, stratify=y)
    mean, spread = train.mean(axis=0), (train - train.mean(axis=0)).std()
    train, held = ((x - mean) / spread for x in (train, held))
    real, test = (torch.tensor(x, dtype=torch.float32).view(-1, 1, SIDE, SIDE) for x in (train, held))
    average = torch.tensor(mean, dtype=torch.float32).view(1, SIDE, SIDE)
    return Digits(real, torch.tensor(y), test, torch.tensor(held_y), average, float(spread))


def network(seed: int, width: int = 16) -> nn.Sequential:
    """Two blocks of convolution, group norm, ReLU and average pooling, then a linear layer: [n, 1, 8, 8] → [n, 10]."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for channels in (1, width):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU(), nn.AvgPool2d(2)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * (SIDE // 4) ** 2, CLASSES))


def fit(images: Tensor, labels: Tensor, training: Training, seed: int) -> nn.Sequential:
    """A network trained from scratch with SGD and hard labels, without augmentation."""
    model, generator = network(seed), torch.Generator().manual_seed(seed)
    options = {"lr": training.rate, "momentum": training.momentum, "weight_decay": training.decay}
    optimizer = torch.optim.SGD(model.parameters(), **options)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    for _ in range(training.steps):
        batch = torch.randperm(len(images), generator=generator)[: training.batch]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
        schedule.step()
    return model


def score(data: Digits, images: Tensor, labels: Tensor, training: Training, seed: int) -> list[float]:
    """Per network trained on ``images``: the share of held images that it recognises."""
    shares = []
    for i in range(training.networks):
        model = fit(images, labels, training, seed=100_000 + 100 * seed + i)
        with torch.no_grad():
            hits = model(data.held_images).argmax(dim=1) == data.held_labels
        shares.append(hits.float().mean().item())
    return shares
