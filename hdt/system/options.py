"""Hyperparameters: the base of those of every objective and every parameterization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

Own = TypeVar("Own", bound="Options")


class Options(BaseModel):
    """Named, checked hyperparameters; unknown names and values out of range are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def own(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Of ``options``, those that are its own."""
        return {name: value for name, value in options.items() if name in cls.model_fields}

    @classmethod
    def of(cls: type[Own], options: Mapping[str, Any]) -> Own:
        """Its own of ``options``, checked; raises pydantic's ValidationError."""
        return cls(**cls.own(options))
