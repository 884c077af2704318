"""What is compared: every variant with the settings that the search chose, and how one is distilled."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import cfm
import matching
from digits import CLASSES, SIDE, Split, Training, digits, score
from torch import Tensor

from hdt.parameterization.nsd import NSDOptions

FLOATS = CLASSES * SIDE * SIDE  # 10 images of 64, one per class
NSD_SIZE: dict[str, Any] = {
    "tensors": CLASSES,
    "period": SIDE,
    "group": 6,
    "instance_rank": 2,
    "cycle_rank": 5,
    "phase_rank": 5,
}
DCT: dict[str, Any] = {"kernels": "dct", "learn_kernels": False}
DCT_SIZE = {"group": 2, "instance_rank": 2, "cycle_rank": 5, "phase_rank": 6}  # their room without kernels to store
FRED_RATES = {8: 0.3, 16: 0.1, 32: 0.1}
MASKS = {
    "": {"shared": False, "random": False},
    "-random": {"shared": False, "random": True},
    "-shared": {"shared": True, "random": False},
    "-shared-random": {"shared": True, "random": True},
}


@dataclass(frozen=True)
class Variant:
    """``each``: images per class, where the method leaves it open; None is all of them."""

    method: Literal["real", "pixels", "fred", "nsd", "cfm"]
    each: int | None = 1
    rate: float = 0.1
    gamma: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def budget(self) -> int | None:
        """Floats it may store."""
        return None if self.each is None else FLOATS * self.each


class Effort(NamedTuple):
    """How long everything runs."""

    training: Training = Training()
    matching: matching.Matching = matching.Matching()
    filtering_iterations: int = 150


TINY = Effort(Training(steps=3, networks=2), matching.Matching(2, 1, 1, max_start=1, target_epochs=1, steps=2), 2)

VARIANTS = {
    "random1": Variant("real"),
    "random10": Variant("real", each=10),
    "full": Variant("real", each=None),
    "pixels": Variant("pixels"),
    **{
        f"fred{k}{name}": Variant("fred", rate=FRED_RATES[k], options={"kept": k, **mask})
        for k in FRED_RATES
        for name, mask in MASKS.items()
    },
    "nsd": Variant("nsd", options={**NSD_SIZE, "kernels": "random"}),
    "nsd-dct-learned": Variant("nsd", options={**NSD_SIZE, "kernels": "dct"}),
    "nsd-dct": Variant("nsd", rate=0.3, options={**NSD_SIZE, **DCT}),
    "nsd-dct-own": Variant("nsd", options={**NSD_SIZE, **DCT, **DCT_SIZE}),
    "nsd-guided": Variant("nsd", gamma=0.03, options={**NSD_SIZE, "kernels": "random"}),
    "cfm": Variant("cfm", each=10, rate=0.01, options={"filter": "cfm"}),
    "cfm-fixed": Variant("cfm", each=10, rate=0.01, options={"filter": "high"}),
    "cfm-high": Variant("cfm", each=10, rate=0.01, options={"filter": "high", "beta": 0.0245}),
    "cfm-low": Variant("cfm", each=10, rate=0.01, options={"filter": "low"}),
    "cfm-task": Variant("cfm", each=10, rate=0.01, options={"match_weight": 0.0}),
}


def distil(variant: Variant, split: Split, effort: Effort, seed: int) -> tuple[Tensor, Tensor, int]:
    """Synthetic images [n, 1, 8, 8], labels [n] and stored floats."""
    data = digits(split)
    if variant.method == "real":
        real = data[:2] if variant.each is None else data.draw(variant.each, seed)
        return *real, real[0].numel()
    if variant.method == "cfm":
        filtering = cfm.Filtering(iterations=effort.filtering_iterations)._replace(**variant.options)
        model = cfm.teacher(split, seed, effort.training)
        found = cfm.distil(data, model, filtering, variant.each or 1, variant.rate, seed)
        return *found, found[0].numel()
    if variant.method == "pixels":
        parts = matching.pixels(1)
    elif variant.method == "fred":
        parts = matching.fred(data, seed=seed, **variant.options)
    else:
        parts = matching.nsd(data, NSDOptions(**variant.options), seed)
    synthetic = matching.Synthetic(parts, data, seed)
    matching.match(synthetic, split, effort.matching, variant.rate, variant.gamma, seed)
    return synthetic.images().detach(), synthetic.labels, synthetic.floats()


def run(variant: Variant, split: Split, effort: Effort, seed: int) -> tuple[dict[str, Any], Tensor]:
    """The cell of one variant and seed, and its images."""
    begun = time.process_time()
    images, labels, floats = distil(variant, split, effort, seed)
    distilled = time.process_time()
    shares = score(digits(split), images, labels, effort.training, seed)
    cell = {
        "accuracy": statistics.mean(shares),
        "networks": shares,
        "floats": floats,
        "budget": variant.budget,
        "per_class": labels.bincount(minlength=CLASSES).tolist(),
        "distil_seconds": round(distilled - begun, 2),
        "score_seconds": round(time.process_time() - distilled, 2),
    }
    return cell, images
