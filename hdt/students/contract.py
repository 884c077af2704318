"""The contract of every student, and the published way to train it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from hdt.maths.roles import Roles


@dataclass(frozen=True)
class Training:
    """AdamW with a learning rate that is halved every epoch and early stopping, as the students' authors train.

    Small training sets need many more passes: the schedule is stretched so that the run has at least
    ``min_steps`` optimiser steps, with the same number of halvings (``epochs``); the run stops when the
    validation error has not improved for ``patience`` halvings. ``shuffle_channels`` takes each channel of
    a training window from another window of the batch, and permutes channels.
    """

    lr: float
    weight_decay: float = 0.0
    batch: int = 32
    epochs: int = 10
    patience: int = 5
    min_steps: int = 700
    shuffle_channels: bool = False


@dataclass
class Ways:
    """The trainings that validation chooses from, in turn; ``best`` is what it has chosen so far.

    With ``shuffled`` the last of them is the best on windows whose channels are shuffled.
    """

    first: Sequence[Training]
    shuffled: bool
    best: Training | None = None

    def __len__(self) -> int:
        return len(self.first) + self.shuffled

    def __iter__(self) -> Iterator[Training]:
        yield from self.first
        if self.shuffled and self.best is not None:
            yield replace(self.best, shuffle_channels=True)


class Student(nn.Module):
    """Forecasts a horizon from a context: [B, L, C] → [B, H, C], for any C, whatever it was trained on.

    ``name`` is what settings call it. ``mixes_channels``: whether one channel's forecast depends on the others.
    ``rates``: multiples of the published learning rate to choose from, by validation error, for every training set
    alike: one rate is too small for some sets and too large for others, full data among them (recipes/LOG.md).
    A constructor may take keyword arguments with defaults, which :func:`hdt.search` chooses.
    ``by_gradient``: trained step by step; others are fitted at once (:class:`hdt.students.lags.Lags`).
    ``takes_known``: whether its forward takes a second tensor [B, L+H, G, K], the columns known ahead, of all channels
    (G = 1) or of each, where there are any (:meth:`take`). A student that does so, or mixes channels, sees columns of
    the past as further channels of the context, behind the targets; only these are scored.
    """

    name: ClassVar[str]
    training_settings: ClassVar[Training]
    rates: ClassVar[tuple[float, ...]] = (0.2, 1.0, 5.0)
    mixes_channels: ClassVar[bool] = False
    by_gradient: ClassVar[bool] = True
    takes_known: ClassVar[bool] = False
    roles: Roles | None = None

    def __init__(self, context: int, horizon: int, channels: int) -> None:
        super().__init__()
        self.context, self.horizon, self.channels = context, horizon, channels

    @classmethod
    def trainings(cls) -> tuple[Training, ...]:
        """How this student is trained: the ways that validation chooses from."""
        usual = cls.training_settings
        return tuple(replace(usual, lr=rate * usual.lr) for rate in cls.rates)

    @classmethod
    def keywords(cls) -> frozenset[str] | None:
        """What its constructor takes beside context, horizon and channels; None: whatever it is given."""
        return keywords(cls)

    def take(self, roles: Roles) -> None:
        """Told, once, before it is trained, what the channels of its windows are; it may make layers for them."""
        self.roles = roles

    def of(self, windows: Float[Tensor, "B window C_all"]) -> Float[Tensor, "B H C"]:
        """The forecast of the targets of whole windows, of which it sees what its :attr:`roles` say."""
        context = windows[:, : self.context]
        if self.roles is None:
            return self(context)
        own = self.roles.within(windows.shape[-1])
        if not own.known:
            return self(context)[..., : own.targets]
        return self(context[..., : own.learned], own.parts(windows)[2])[..., : own.targets]

    def scored(self, channels: int) -> int:
        """How many channels of such windows are targets."""
        return channels if self.roles is None else self.roles.within(channels).targets

    def forward(self, context: Float[Tensor, "B L C"]) -> Float[Tensor, "B H C"]:
        raise NotImplementedError


def keywords(factory: Any) -> frozenset[str] | None:
    """The names of what a class or function takes after (context, horizon, channels); None where it does not say."""
    try:
        found = list(signature(factory).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(each.kind is Parameter.VAR_KEYWORD for each in found):
        return None
    named = [each.name for each in found if each.kind is Parameter.POSITIONAL_OR_KEYWORD][3:]
    return frozenset([*named, *(each.name for each in found if each.kind is Parameter.KEYWORD_ONLY)])
