"""STemDist: "Effective Dataset Distillation for Spatio-Temporal Forecasting" (arXiv 2603.10410).

Gradient matching as in DC for sets of many locations, here channels. K-means puts the real channels into as many
clusters as there are synthetic ones; a cluster's mean takes the place of its members, its size weighs its error.
Every match sees a random subset of clusters, a quarter of them, and four matches see all; then the network takes ten
steps, each on all four subsets in turn; after twenty such rounds a fresh network begins.

Published, in the code (kbrother/STemDist, DC/stemdist.py): 20 rounds × 10 steps, 4 subsets, 100 networks, hence 8,000
updates by Adam of 1e-3 or 1e-2, real batches of 64 to 256 windows, networks trained by Adam of 1e-3 or 1e-2, clusters
and windows for a tenth of locations and time; the distance is that of DC.

Deviations and choices: their network (MTGNN) needs a location encoder to take another number of locations; the students
here take any, so there is none. Networks take plain steps of gradient descent, as in ``dc``, and those of a round
visit its subsets in one order. Each match draws its own real windows. They keep the synthetic set with the least
validation error; here none is looked at. Their synthetic set goes with its weights, by which their networks are
trained; ours is a plain series, and students take all prototypes alike. K-means starts farthest-first instead of by
k-means++, so that nothing is drawn; a cluster left empty takes, as in the code, the member of the largest that is
farthest from its mean. Clusters are numbered by their first member: where every channel is kept, each is its own, of
weight one, and DC on subsets is left; fewer than four channels make as many subsets. The start, random segments of
random channels, knows nothing of clusters. Where an iteration works on a group of channels (``--channel-batch``), that
takes the place of a subset. 1,600 updates, 20 networks, for a CPU. Learning rate chosen on validation, see
recipes/LOG.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn.functional import one_hot

from hdt.objective.contract import State
from hdt.objective.dc import DCOptions, GradientCosine, Part, RealWindows
from hdt.start.subsets import k_center
from hdt.system.parts import Method

MOST_ROUNDS = 300  # of k-means; it stands still long before


class STemDistOptions(DCOptions):
    """Hyperparameters of :class:`STemDist`."""

    matches: int = Field(20, ge=1, description="rounds before a new initialisation")
    subsets: int = Field(4, ge=1, description="subsets of clusters, one per match; all are a round")


@dataclass(frozen=True, kw_only=True)
class Locations(RealWindows):
    """Real windows, the series [T, C] that is clustered, and the clusters an iteration works on, None for subsets."""

    series: Tensor
    group: Tensor | None = None


class STemDist(GradientCosine):
    """The matching loss of DC for clusters of channels. The state holds the cluster of every channel and the order in
    which a round takes clusters, too."""

    name = "stemdist"
    Options = STemDistOptions
    citation = """@misc{kwon2026stemdist,
  author = {Kwon, Taehyung and Choi, Yeonje and Kim, Yeongho and Shin, Kijung},
  title  = {Effective Dataset Distillation for Spatio-Temporal Forecasting with Bi-dimensional Compression},
  year   = {2026},
  note   = {arXiv:2603.10410}
}"""
    methods = {
        "stemdist": Method(
            title="Gradient matching of clusters of channels, a subset at a time",
            parameterization="raw",
            objective="stemdist",
            start="real",
            iterations=1600,
            learning_rate=0.01,
        )
    }

    def prepare(self, series: Float[Tensor, "T C"]) -> Locations:
        return Locations(**vars(super().prepare(series)), series=series)

    def restrict(self, known: RealWindows, channels: Int[Tensor, " g"]) -> RealWindows:
        assert isinstance(known, Locations)
        return replace(known, group=channels)

    def initial(self, known: RealWindows, like: Float[Tensor, "N M C_s"]) -> State:
        assert isinstance(known, Locations)
        return {"clusters": clusters(known.series.T, like.shape[2])}

    def divide(
        self, known: RealWindows, channels: int, state: State, generator: torch.Generator
    ) -> tuple[State, Sequence[Part]]:
        assert isinstance(known, Locations)
        if known.group is not None:
            return state, [part(state["clusters"], known.group, torch.arange(channels), known.real)]
        count = min(self.options.subsets, channels)
        if int(state.get("matched", 0)) % count == 0:
            order = torch.randperm(channels, generator=generator).to(state["clusters"])
            state = {**state, "order": order}
        subsets = state["order"].tensor_split(count)
        return state, [part(state["clusters"], own, own, known.real) for own in subsets]


def part(members: Int[Tensor, " C"], own: Int[Tensor, " g"], channels: Int[Tensor, " g"], like: Tensor) -> Part:
    """The clusters ``own`` for those synthetic channels: the mean of their members, and sizes that average to one."""
    belongs = (members[:, None] == own).to(like)
    sizes = belongs.sum(dim=0)
    return Part(channels.to(like.device), belongs / sizes, sizes / sizes.mean())


def clusters(points: Float[Tensor, "C T"], count: int) -> Int[Tensor, " C"]:
    """The cluster of every point by Lloyd's k-means, started farthest-first; none is empty, and they are numbered by
    their first members."""
    centres, members = points[k_center(points, count)], points.new_full((len(points),), -1, dtype=torch.long)
    for _ in range(MOST_ROUNDS):
        before, members = members, torch.cdist(points, centres).argmin(dim=1)
        for empty in sorted({*range(count)} - {*members.tolist()}):
            largest = members == members.bincount(minlength=count).argmax()
            away = (points - points[largest].mean(dim=0)).square().sum(dim=1)
            members[away.where(largest, -1).argmax()] = empty
        if torch.equal(before, members):
            break
        shares = one_hot(members, count).to(points)
        centres = (shares / shares.sum(dim=0)).T @ points
    firsts = torch.stack([(members == one).nonzero()[0, 0] for one in range(count)])
    return firsts.argsort().argsort()[members]
