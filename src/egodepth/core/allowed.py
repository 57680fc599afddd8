"""Descriptions of allowed values in plain words, from the types and bounds that Pydantic checks."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

NAMES = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    Path: ("a path", "paths"),
    NoneType: ("null", "null"),
}
"""Singular and plural names of types."""
BOUNDS = {
    "ge": "of at least {:.12g}",
    "gt": "above {:.12g}",
    "le": "up to {:.12g}",
    "lt": "below {:.12g}",
    "multiple_of": "a multiple of {:.12g}",
}
"""Bounds by their name in ``annotated_types``, in words."""
MAX_SHOWN = 60
"""Maximum number of characters shown of a value."""


def allowed(annotation: Any, metadata: Sequence[Any] = (), *, several: bool = False) -> str:
    """Describe the allowed values of a type, for example "a whole number of at least 1" or "a path or null".

    Args:
        annotation: the type, as Pydantic checks it.
        metadata: bounds of the value that are not in the annotation.
        several: use the plural ("whole numbers of at least 1").
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return allowed(inner[0], (*inner[1:], *metadata), several=several)
    if origin in (Union, UnionType):
        kinds = sorted(inner, key=lambda kind: kind is NoneType)
        return " or ".join(allowed(kind, metadata, several=several) for kind in kinds)
    if origin is Literal:
        *others, last = map(str, inner)
        return f"one of {', '.join(others)} or {last}" if others else last
    if origin is tuple and ... in inner:
        return f"a list of {allowed(inner[0], several=True)}"
    if origin is tuple and len(set(inner)) == 1:
        return f"a list of {len(inner)} {allowed(inner[0], several=True)}"
    if origin is tuple:
        return f"{len(inner)} values ({', '.join(map(allowed, inner))})"
    if annotation not in NAMES:
        return "names and values"
    bounds = [
        text.format(bound)
        for part in _flatten(metadata)
        for name, text in BOUNDS.items()
        if (bound := getattr(part, name, None)) is not None
    ]
    name = NAMES[annotation][several]
    return f"{name} {' and '.join(bounds)}" if bounds and annotation is not NoneType else name


def _flatten(metadata: Sequence[Any]) -> Iterator[Any]:
    """Yield the bounds in metadata, including those inside Pydantic's ``Field(...)``."""
    for part in metadata:
        yield from part.metadata if isinstance(part, FieldInfo) else (part,)


def types_within(annotation: Any) -> set[Any]:
    """The plain types within an annotation: ``tuple[int, ...] | None`` gives int and None."""
    inner = get_args(annotation)
    if not inner or get_origin(annotation) is Literal:
        return {annotation}
    parts = inner[:1] if get_origin(annotation) is Annotated else inner
    return set().union(*map(types_within, parts))


def as_typed(value: Any) -> str:
    """Format a value as it is typed on the command line or in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(list(value)) if isinstance(value, tuple) else str(value)


def got(value: Any) -> str:
    """Format a value for an error message: strings in quotation marks, long values truncated."""
    text = repr(value) if isinstance(value, str) else as_typed(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
