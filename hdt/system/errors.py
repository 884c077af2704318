"""The one error that is the reader's to fix: bad input, reported in one line, exit code 2."""

from __future__ import annotations


class InputError(ValueError):
    """What was wrong (with the value, column or row), what was expected and what to do, in one line."""


def require(condition: bool, message: str) -> None:
    """Raise :class:`InputError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise InputError(message)
