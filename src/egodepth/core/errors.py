"""The one kind of error that the command line prints as a single line."""

import math
from typing import SupportsFloat


class EgodepthError(Exception):
    """Something the user can put right: the message says what was got and what to do instead."""


class EgodepthWarning(UserWarning):
    """Something to know that stops nothing: the command line prints it as a single line."""


def require(value: object, types: type | tuple[type, ...], name: str, wanted: str) -> None:
    """Check what somebody handed over from Python.

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
    """Check a number that somebody handed over from Python.

    Raises:
        EgodepthError: it is none, not finite, or not above zero.
    """
    number = isinstance(value, SupportsFloat) and not isinstance(value, bool)
    if not number or not 0 < float(value) < math.inf:  # type: ignore[arg-type]
        raise EgodepthError(f"{name} must be a number above zero, got {value!r}")
