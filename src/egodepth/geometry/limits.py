"""Names and limits of geometry that settings and the command line need, without PyTorch."""

from typing import Literal, SupportsFloat

from egodepth.core.errors import EgodepthError

MAX_SEED = 2**32 - 1
"""Largest seed that both NumPy and PyTorch accept."""
WIDEST_FOV = 170.0
"""Largest field of view of a pinhole camera in degrees, at a focal length of 4 % of the width. A larger one
means that the focal length is normalised or in millimetres, or that the lens is a fisheye."""

NARROWEST_FOV = 0.2
"""Smallest field of view in degrees, of a telescope: a focal length of 286 times the width."""


def require_seed(seed: object) -> None:
    """Check a seed that was passed to a Python call.

    Raises:
        EgodepthError: not a whole number from 0 to MAX_SEED.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise EgodepthError(f"seed must be a whole number from 0 to {MAX_SEED}, got {seed!r}")


def require_fov(degrees: object) -> None:
    """Check a field of view that was passed to a Python call.

    Raises:
        EgodepthError: not between NARROWEST_FOV and WIDEST_FOV.
    """
    is_number = isinstance(degrees, SupportsFloat) and not isinstance(degrees, bool)
    if not is_number or not 0 < float(degrees) <= WIDEST_FOV:  # type: ignore[arg-type]
        raise EgodepthError(
            f"a field of view must be between 0 and {WIDEST_FOV:g} degrees, got {degrees!r}"
        )
    if float(degrees) < NARROWEST_FOV:  # type: ignore[arg-type]
        raise EgodepthError(
            f"a field of view of {degrees:g} degrees is less than any lens has ({NARROWEST_FOV:g})"
        )


Sampling = Literal["exact", "published_shift"]
"""Where a pixel coordinate x is sampled. ``exact``: at x, with pixel centres at integers. ``published_shift``:
at x W / (W - 1) - 0.5, up to half a pixel off, as in the published FeatDepth code since PyTorch 1.3 changed the
default of grid_sample's align_corners; only for comparison with that code."""
