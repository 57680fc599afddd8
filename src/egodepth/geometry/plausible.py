"""Whether cameras and poses that were read can be real. Works without PyTorch."""

import math

import numpy as np
from jaxtyping import Float, Float64, Int
from numpy import ndarray

from egodepth.core.errors import EgodepthError
from egodepth.geometry.limits import NARROWEST_FOV, WIDEST_FOV

MAX_FOCAL_RATIO = 2.0
"""Largest ratio of the focal lengths fx and fy."""
ROTATION_TOLERANCE = 0.01
"""Largest deviation of a quaternion's length from 1, and of the entries of R R^T from the identity."""
FARTHEST_POSITION = 1e10
"""Largest coordinate of a position: more than the Earth's radius in millimetres. Beyond it, float64 soon loses
the steps between frames."""

FARTHEST_DEPTH = 1e6
"""Largest depth, and coordinate of a LiDAR point, in metres: what is farther is damage, or means the sky."""

JUMP = 300.0
"""Ratio of a step to a neighbouring one above which it is no motion of a camera."""
STANDING = 0.01
"""Share of the median step below which a camera stands."""
MIN_STEPS = 4


def camera_problem(
    fx: float,
    fy: float,
    cx: float,
    cy: float,
    height: int | float,
    width: int | float,
    *,
    margin: float = 0.0,
) -> str:
    """What is wrong with a pinhole camera, in words that follow "the camera"; empty if it can be real.

    Args:
        fx, fy, cx, cy: in pixels.
        height, width: image size in pixels.
        margin: how far the principal point may lie outside of the image, as a share of the image's size.
    """
    if not (math.isfinite(fx) and math.isfinite(fy) and min(fx, fy) > 0):
        return f"has the focal lengths {fx:g} and {fy:g}; they must be above 0"
    if not all(size > 0 and float(size).is_integer() for size in (width, height)):
        return f"has the image size {width:g}x{height:g}; it must be of whole pixels above 0"
    places = ((cx, width), (cy, height))
    if not all(-margin * size <= c <= (1 + margin) * size - 1 for c, size in places):
        return (
            f"has its principal point ({cx:g}, {cy:g}) outside of its image of {width:g}x{height:g}"
        )
    impossible = impossible_view(fx, fy, height, width)
    if impossible:
        return (
            f"has {impossible}; focal lengths are in pixels: is it normalised (times the width), or in "
            "millimetres?"
        )
    if max(fx, fy) > MAX_FOCAL_RATIO * min(fx, fy):
        return (
            f"has fx {fx:g} and fy {fy:g}, more than a factor of {MAX_FOCAL_RATIO:g} apart; they are of pixels "
            "that are square, or nearly"
        )
    return ""


def impossible_view(fx: float, fy: float, height: int | float, width: int | float) -> str:
    """What is wrong with focal lengths whose field of view exceeds :data:`WIDEST_FOV` or falls below
    :data:`NARROWEST_FOV`; empty if neither does."""
    for name, focal, axis, size in (("fx", fx, "width", width), ("fy", fy, "height", height)):
        fov = math.degrees(2 * math.atan2(size / 2, focal))
        given = f"{name} {focal:g} for a {axis} of {size:g} pixels, a field of view of"
        if fov > WIDEST_FOV + 1e-3:  # tolerates a focal length rounded at the limit
            return f"{given} {fov:.1f} degrees, which is more than the {WIDEST_FOV:g} that are possible"
        if fov < NARROWEST_FOV:
            return f"{given} {fov:.2g} degrees, which is less than any lens has ({NARROWEST_FOV:g})"
    return ""


def off_rotation(matrices: Float64[ndarray, "n 3 3"]) -> Float64[ndarray, "n"]:
    """Largest deviation of the entries of R R^T from the identity, per matrix; infinite where it overflows or R
    is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    return np.asarray(np.where(np.isnan(off), np.inf, off))


def pose_problem(poses: Float[ndarray, "n 4 4"]) -> tuple[int, str] | None:
    """Place of the first pose that is no rigid motion, and what is wrong with it; None if all are."""
    poses = np.asarray(poses, np.float64)
    finite = np.isfinite(poses).all((1, 2))
    rotations = np.where(finite[:, None, None], poses[:, :3, :3], np.eye(3))
    off = off_rotation(rotations)
    with np.errstate(over="ignore", invalid="ignore"):
        mirrored = np.linalg.det(rotations) < 0
    far = np.abs(poses[:, :3, 3]).max(1)
    last = np.abs(poses[:, 3] - (0.0, 0.0, 0.0, 1.0)).max(1)
    wrong = ~finite | (off > ROTATION_TOLERANCE) | mirrored
    wrong |= ~(far <= FARTHEST_POSITION) | ~(last <= ROTATION_TOLERANCE)
    if not wrong.any():
        return None
    i = int(wrong.argmax())
    if not finite[i]:
        return i, "it holds numbers that are not finite"
    if last[i] > ROTATION_TOLERANCE:
        return i, "its last row is not 0 0 0 1"
    if off[i] > ROTATION_TOLERANCE:
        return i, f"its 3x3 part is no rotation: R R^T is {off[i]:.2g} off the identity"
    if mirrored[i]:
        return i, "its 3x3 part is no rotation but a mirror image: the determinant is -1"
    return i, f"its position, {far[i]:.3g} from the origin, is nowhere on Earth"


def pose_jumps(poses: Float64[ndarray, "n 4 4"], numbers: Int[ndarray, "n"]) -> Int[ndarray, "j"]:
    """Places of the poses before which a camera's path jumps, as where its unit changes, a tracker starts anew
    or footage of two places was joined: by more than :data:`JUMP` times a neighbouring step.

    Args:
        poses: ``world_from_camera``; NaN where unknown.
        numbers: of the frames; steps are divided by their difference.
    """
    known = np.flatnonzero(np.isfinite(poses).all((1, 2)))
    steps = np.linalg.norm(np.diff(poses[known, :3, 3], axis=0), axis=1)
    steps = steps / np.maximum(np.diff(numbers[known]), 1)
    if len(steps) < MIN_STEPS or not steps.any():
        return known[:0]
    # While the camera stands, rounding and jitter are its steps.
    floored = np.maximum(steps, STANDING * np.median(steps[steps > 0]))
    around = np.pad(floored, 1, mode="edge")
    smaller = np.minimum(around[:-2], around[2:])
    return known[1:][floored > JUMP * smaller]


def depth_problem(depth: ndarray) -> str:
    """What is wrong with depth in metres, 0 where unknown, in words that follow "it"; empty if nothing is."""
    if not (np.isfinite(depth).all() and depth.min(initial=0) >= 0):
        return "holds negative values, or values that are not finite"
    if depth.max(initial=0) > FARTHEST_DEPTH:
        return f"holds {depth.max():.3g} metres, farther than anything that can be measured"
    return ""


def require_rigid(motion: Float64[ndarray, "4 4"], where: object) -> Float64[ndarray, "4 4"]:
    """Check that a motion which was read is rigid, and return it.

    Args:
        motion: the motion.
        where: where it was read, for the message.

    Raises:
        EgodepthError: it is not finite, no rotation with a translation, or farther than anything on Earth.
    """
    problem = pose_problem(motion[None])
    if problem:
        raise EgodepthError(f"{where}: not a rigid motion: {problem[1]}")
    return motion
