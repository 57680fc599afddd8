"""Errors and warnings that the command line prints as a single line."""

import math
from typing import SupportsFloat
from unicodedata import category


def one_line(text: str) -> str:
    """Escape line ends, control characters and bytes that are no text, as names of files may hold them.

    Spaces of all scripts stay: an ideographic one is common in Japanese names.
    """
    return "".join(c if c.isprintable() or category(c) == "Zs" else repr(c)[1:-1] for c in text)


def printable(text: str) -> str:
    """As :func:`one_line`, for each line of a text."""
    return "\n".join(map(one_line, text.split("\n")))


class EgodepthError(Exception):
    """An error that the user can fix; its message is one line: what was found, what to type instead."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class NonFiniteError(EgodepthError, FloatingPointError):
    """Numbers within a computation that are not finite, as in a training that diverges."""


class EgodepthWarning(UserWarning):
    """A warning for the user, which the command line prints as a single line."""


def require(value: object, types: type | tuple[type, ...], name: str, wanted: str) -> None:
    """Check the type of an argument of a Python call.

    Args:
        value: the argument.
        types: allowed types.
        name: name of the argument.
        wanted: description of the expected value.

    Raises:
        EgodepthError: the argument has another type.
    """
    if not isinstance(value, types):
        raise EgodepthError(f"{name} must be {wanted}, got {type(value).__name__}")


def require_positive(value: object, name: str) -> None:
    """Check that an argument of a Python call is a positive number.

    Raises:
        EgodepthError: it is not a number, not finite, or not above zero.
    """
    number = isinstance(value, SupportsFloat) and not isinstance(value, bool)
    if not number or not 0 < float(value) < math.inf:  # type: ignore[arg-type]
        raise EgodepthError(f"{name} must be a number above zero, got {value!r}")
