"""Real subsets: herding and k-center over sub-series (the rivals every distillation must beat).

A sub-series is described by its amplitude spectrum, which does not depend on where it starts; values
themselves average to a flat line over all positions. Greedy, from the sub-series nearest to the mean.

Herding: Welling (2009), "Herding dynamical weights to learn". K-center: Gonzalez (1985), "Clustering to
minimize the maximum intercluster distance"; as coreset baselines in arXiv 1708.00489.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.maths import spectrum
from hdt.system.parts import Method


def _subset(title: str, start: str, citation: str = "") -> Method:
    return Method(title, "raw", "none", start, iterations=0, learning_rate=0.01, citation=citation)


SUBSETS = {
    "kcenter": _subset(
        "The real segment with the smallest largest distance to all others",
        "kcenter",
        """@inproceedings{sener2018coreset,
  author    = {Sener, Ozan and Savarese, Silvio},
  title     = {Active Learning for Convolutional Neural Networks: A Core-Set Approach},
  booktitle = {International Conference on Learning Representations},
  year      = {2018},
  note      = {arXiv:1708.00489}
}""",
    ),
    "herding": _subset(
        "The real segment nearest to the mean of all",
        "herding",
        """@inproceedings{welling2009herding,
  author    = {Welling, Max},
  title     = {Herding Dynamical Weights to Learn},
  booktitle = {International Conference on Machine Learning},
  year      = {2009}
}""",
    ),
    "random": _subset("A random real segment", "real"),
}


def candidates(series: Float[Tensor, "T C"], length: int, most: int = 2048) -> list[int]:
    """Starting rows of at most ``most`` evenly spaced sub-series of ``length`` steps."""
    last = len(series) - length
    stride = -(-(last + 1) // most)
    return list(range(0, last + 1, stride))


def features(series: Float[Tensor, "T C"], starts: list[int], length: int) -> Float[Tensor, "n D"]:
    """Amplitude spectra of the sub-series, D = F·C."""
    return torch.stack([spectrum.rfft(series[s : s + length]).abs().flatten() for s in starts])


def herding(points: Float[Tensor, "n D"], count: int) -> list[int]:
    """Indices whose running mean stays closest to the mean of all points, one after the other."""
    mean = points.mean(dim=0)
    chosen: list[int] = []
    total = torch.zeros_like(mean)
    for step in range(1, count + 1):
        distance = ((total + points) / step - mean).square().sum(dim=1)
        distance[chosen] = torch.inf
        chosen.append(int(distance.argmin()))
        total += points[chosen[-1]]
    return chosen


def k_center(points: Float[Tensor, "n D"], count: int) -> list[int]:
    """Indices chosen farthest-first, beginning at the best single centre: the point whose farthest other is nearest."""
    chosen = [int(torch.cdist(points, points).amax(dim=1).argmin())]
    nearest = (points - points[chosen[0]]).square().sum(dim=1)
    while len(chosen) < count:
        nearest[chosen] = -1  # no point twice, even where others lie on top of it
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).square().sum(dim=1))
    return chosen
