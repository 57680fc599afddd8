"""What the rows of the results page's tables are made of."""

Rows = list[list[str]]
"""The first one is the head."""


def percent(share: float, digits: int = 0) -> str:
    """A share as a percentage."""
    return f"{100 * share:.{digits}f} %"
