"""The one error that is the reader's to fix: bad input, reported in one line, exit code 2."""

from __future__ import annotations


class InputError(ValueError):
    """What was wrong (with the value, column or row), what was expected and what to do, in one line."""


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line."""
    return (str(error).strip().splitlines() or [""])[0][:160]


def require(condition: bool, message: str) -> None:
    """Raise :class:`InputError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise InputError(message)


def readable(name: str) -> str:
    """A name as it can be kept in a text file: a file's may hold bytes that the locale could not read."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
