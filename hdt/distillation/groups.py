"""Iterations of constant cost: each works on one group of channels.

Channels are divided once, at random, into groups whose sizes differ by at most one; rounds visit every group once, in
a new order each. Each group has leaves of its own, so that Adam neither moves nor ages what an iteration leaves out.

In what sense this is the full problem: a loss that is a mean over channels (L_harm, the PSD gap) is, with groups of
equal size, the mean of the groups' losses, and so is its gradient. The moments of windows and the gradients of a
student are such means, too, but ``wiener`` and ``gradient`` minimise functions of these means: a group, with one in
four of its overlapping windows, each equally likely, sees the function at an unbiased estimate. recipes/LOG.md has what
that costs.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hdt.parameterization import Parameterization, Params


def partition(channels: int, most: int | None, generator: torch.Generator) -> list[Int[Tensor, " g"] | None]:
    """All channels at random in as few groups of at most ``most`` as possible, in order within each.

    ``[None]``, all of them, when one group holds them; then nothing is drawn.
    """
    if most is None or channels <= most:
        return [None]
    drawn = torch.randperm(channels, generator=generator).tensor_split(-(-channels // most))
    return [group.sort().values for group in drawn]


class Group:
    """Some channels, None for all, with parameters of their own; what channels share is one tensor for all groups."""

    def __init__(self, parameterization: Parameterization, params: Params, channels: Int[Tensor, " g"] | None) -> None:
        self.parameterization, self.params = parameterization, params
        self.axes = parameterization.channel_axes()
        self.channels = None if channels is None else channels.to(next(iter(params.values())).device)
        if self.channels is not None:
            self.params = {
                name: tensor.detach().index_select(self.axes[name], self.channels) if name in self.axes else tensor
                for name, tensor in params.items()
            }

    def learned(self) -> list[Tensor]:
        """The leaves that the optimiser moves."""
        fixed = self.parameterization.fixed
        return [tensor.requires_grad_() for name, tensor in self.params.items() if name not in fixed]

    def decode(self) -> Float[Tensor, "N M g"]:
        """The series of these channels."""
        decoded = self.parameterization.decode(self.params)
        return decoded if self.channels is None or self.axes else decoded[:, :, self.channels]

    @torch.no_grad()
    def replace(self, series: Float[Tensor, "N M g"]) -> None:
        """Set the parameters of these channels to those of a series."""
        if self.channels is not None and not self.axes:
            series = self.parameterization.decode(self.params).index_copy(2, self.channels, series)
        for name, tensor in self.parameterization.encode(series, self.params).items():
            self.params[name].copy_(tensor)


def gathered(groups: list[Group]) -> Params:
    """The parameters of all channels, on the CPU."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in groups[0].params.items()}
    if groups[0].channels is None:
        return whole
    order = torch.cat([group.channels.cpu() for group in groups if group.channels is not None]).argsort()
    for name, axis in groups[0].axes.items():
        parts = torch.cat([group.params[name].detach().cpu() for group in groups], dim=axis)
        whole[name] = parts.index_select(axis, order)
    return whole
