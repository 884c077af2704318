"""Hyperparameters: the base of those of every objective and every parameterization, and of all settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, ValidatorFunctionWrapHandler, field_validator
from pydantic_core import PydanticCustomError

LARGEST_WHOLE = 2**31 - 1  # what every index and size fits
LARGEST = 1e37  # what float32 holds, with some room
LARGEST_SEED = 2**63 - 1  # torch's generators take twice that, its integer tensors no more

FLAG: dict[str, Any] = {"flag": True}  # of a field that has a flag of its own on the command line
SIZE: dict[str, Any] = {"size": True}  # of a field that memory grows with
Own = TypeVar("Own", bound="Options")


class Options(BaseModel):
    """Named, checked hyperparameters; unknown names and values out of range are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def own(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Of ``options``, those that are its own."""
        return {name: value for name, value in options.items() if name in cls.model_fields}

    @classmethod
    def marked(cls, mark: dict[str, Any]) -> set[str]:
        """The names of the fields with that mark, ``FLAG`` or ``SIZE``."""
        extras = {name: field.json_schema_extra for name, field in cls.model_fields.items()}
        return {name for name, extra in extras.items() if isinstance(extra, dict) and mark.items() <= extra.items()}

    @classmethod
    def of(cls: type[Own], options: Mapping[str, Any]) -> Own:
        """Its own of ``options``, checked; raises pydantic's ValidationError."""
        return cls(**cls.own(options))

    @field_validator("*", mode="wrap")
    @classmethod
    def _plain(cls, value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """Numbers only where numbers are meant, none beyond what torch computes with."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise PydanticCustomError("plain", "Input should not be true or false")
        found = check(value)
        whole = LARGEST_SEED if info.field_name == "seed" else LARGEST_WHOLE
        largest = whole if isinstance(found, int) else LARGEST
        if isinstance(found, int | float) and abs(found) > largest:
            raise PydanticCustomError("plain", f"Input should be at most {largest:,}")
        return found
