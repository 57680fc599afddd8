"""Names and limits of geometry that settings and the command line need, without PyTorch."""

from typing import Literal

MAX_SEED = 2**32 - 1
"""What NumPy's and PyTorch's generators both take."""
WIDEST_FOV = 170.0
"""Degrees that a pinhole camera can see from edge to edge, at a focal length of 4 % of the width; one that sees
more has a focal length that is normalised or in millimetres, or is a fisheye."""

Sampling = Literal["exact", "published_shift"]
"""Where a pixel coordinate lies. ``exact``: pixel centres at whole numbers. ``published_shift``: at
x W / (W - 1) - 0.5, up to half a pixel off, as the published FeatDepth code has it since PyTorch 1.3
changed the default of grid_sample's align_corners; only for comparing with that code."""
