"""Which channels of a series are targets, columns of the past, or columns known ahead."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Roles(NamedTuple):
    """How many channels are targets (the first), columns of the past (the next) and columns known ahead (the last).

    ``groups``: of the columns known ahead, ``past_groups``: of those of the past, 1 or as many as targets. Channels of
    the past come column by column, those known ahead group by group.
    """

    targets: int
    past: int = 0
    known: int = 0
    groups: int = 1
    past_groups: int = 1

    @property
    def learned(self) -> int:
        """The channels that are synthetic: targets and past columns."""
        return self.targets + self.past * self.past_groups

    def within(self, channels: int) -> Roles:
        """Those of a set with so many channels in all, some of whose targets may stand for all real ones."""
        return self._replace(targets=channels - self.known * self.groups - self.past * self.past_groups)

    def parts(self, series: Float[Tensor, "... T C_all"]) -> tuple[Tensor, Tensor, Tensor]:
        """Targets [..., T, C], columns of the past [..., T, G_p, P] and those known ahead [..., T, G, K]."""
        past = series[..., self.targets : self.learned].unflatten(-1, (self.past, self.past_groups)).transpose(-1, -2)
        known = series[..., self.learned :].unflatten(-1, (self.groups, self.known))
        return series[..., : self.targets], past, known
