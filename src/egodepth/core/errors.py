"""Errors and warnings that the command line prints as a single line."""

import math
from typing import SupportsFloat


class EgodepthError(Exception):
    """An error that the user can fix: the message says what was found and what to type instead."""


class EgodepthWarning(UserWarning):
    """A warning to the user, which the command line prints as a single line."""


def require(value: object, types: type | tuple[type, ...], name: str, wanted: str) -> None:
    """Check the type of an argument given from Python.

    Args:
        value: the argument.
        types: that it may have.
        name: of the argument.
        wanted: what it must be, in words.

    Raises:
        EgodepthError: it is of another type.
    """
    if not isinstance(value, types):
        raise EgodepthError(f"{name} must be {wanted}, got {type(value).__name__}")


def require_positive(value: object, name: str) -> None:
    """Check that an argument given from Python is a positive number.

    Raises:
        EgodepthError: it is none, not finite, or not above zero.
    """
    number = isinstance(value, SupportsFloat) and not isinstance(value, bool)
    if not number or not 0 < float(value) < math.inf:  # type: ignore[arg-type]
        raise EgodepthError(f"{name} must be a number above zero, got {value!r}")
