"""Surveys a clip before training: rotation, parallax, standstill and cuts."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from egodepth.data.preparation.clips import Clip
from egodepth.geometry.two_views import MIN_FLOW, TwoViews, compare_views

STRIDES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30)
SAMPLES = 24
"""Number of frame pairs from which a stride is judged."""
WANTED_PARALLAX = 0.015
"""Wanted median parallax, without rotation, as a share of the image width."""
MIN_TRACKED_SHARE = 0.8
"""Smallest median share of corners that must still be tracked at strides above 1."""
CUT = 0.1
"""Share of tracked corners below which there is a cut between two frames."""
STATIC_FLOW = 2 * MIN_FLOW
"""Median flow in pixels below which the camera is static, as on a tripod."""
BLANK_LEVELS = 4
"""Largest difference in grey levels between the darkest and the brightest pixel of a blank frame."""
STANDING_GAP = 8
"""Distance in frames at which a standing camera is detected; repeated frames do not look like one at it."""
MAX_STANDING_SHARE = 0.9
"""If the camera stands in at least this share of the frames, all frames are used."""
FROZEN = 0.1
"""Pairs with less than this share of the clip's median parallax are excluded."""
TURNING = 0.7
"""Ratio of rotational flow to parallax: larger for hand-held cameras, smaller for driving ones."""


@dataclass(frozen=True)
class Survey:
    """Result of a survey.

    Attributes:
        stride: number of frames from target to sources.
        parallax: median parallax at this stride, as a share of the image width.
        turn: ratio of the median rotational flow to the median parallax.
        frozen, cuts: excluded pairs of positions, without motion and across cuts.
    """

    stride: int
    parallax: float
    turn: float
    frozen: frozenset[tuple[int, int]]
    cuts: frozenset[tuple[int, int]]


def survey(clip: Clip, stride: int | None = None) -> Survey:
    """Survey all frame pairs of a clip at a stride, which is chosen if not given."""
    standing = _where_it_stands(clip)
    chosen = stride or _choose_stride(clip, standing)
    pairs = clip.pairs(chosen)
    views = {pair: _compare(clip, pair) for pair in pairs}
    cuts = frozenset(pair for pair, seen in views.items() if seen and seen.tracked < CUT)
    # Pairs without corners stay: a white wall is no reason to leave a frame out.
    sound = {
        pair: seen.motion
        for pair, seen in views.items()
        if pair not in cuts and seen and seen.motion
    }
    if not sound:
        return Survey(chosen, 0.0, 0.0, frozenset(), cuts)
    moving = [m for pair, m in sound.items() if not standing[pair[0]]] or list(sound.values())
    parallax = float(np.median([motion.parallax for motion in moving]))
    frozen = frozenset(pair for pair, m in sound.items() if m.parallax < FROZEN * parallax)
    focal = float(clip.camera.matrix[0, 0]) / clip.camera.width
    turned = float(np.median([motion.rotation for motion in moving])) * focal
    return Survey(chosen, parallax, turned / max(parallax, 1e-6), frozen, cuts)


def is_static(clip: Clip, stride: int = 1) -> bool:
    """Whether the camera never moves: the median flow stays small between frames at least as far apart as the
    largest stride, or half of a short clip. False if too few corners can be tracked to tell.

    Args:
        clip: the clip.
        stride: training stride, if known.
    """
    pairs = clip.pairs(max(stride, min(STRIDES[-1], len(clip.frames) // 2)))
    if not pairs:
        return False
    places = np.unique(np.linspace(0, len(pairs) - 1, SAMPLES).astype(int))
    return all(_is_still(clip, pairs[place]) for place in places)


def is_blank(clip: Clip) -> bool:
    """Whether all frames are blank, with hardly any difference in grey levels, as after an encoder failure."""
    places = np.unique(np.linspace(0, len(clip.frames) - 1, SAMPLES).astype(int))
    return all(int(np.ptp(clip.frames[place].mean(0))) <= BLANK_LEVELS for place in places)


def _choose_stride(clip: Clip, standing: Bool[ndarray, "n"]) -> int:
    """Choose the smallest stride with the wanted parallax, or else the largest at which corners can be tracked.

    Frames in which the camera stands are ignored.
    """
    best = STRIDES[0]
    for stride in STRIDES:
        pairs = [pair for pair in clip.pairs(stride) if not standing[pair[0]]]
        # At least half of the frames should have a neighbour on either side.
        if not pairs or 4 * stride > max(len(clip.frames), 4):
            break
        places = np.unique(np.linspace(0, len(pairs) - 1, SAMPLES).astype(int))
        seen = [view for place in places if (view := _compare(clip, pairs[place]))]
        known = [view.motion for view in seen if view.motion]
        if not known or np.median([view.tracked for view in seen]) < MIN_TRACKED_SHARE:
            break
        parallax = np.median([motion.parallax for motion in known])
        best = stride
        if parallax >= WANTED_PARALLAX:
            break
    return best


def _where_it_stands(clip: Clip) -> Bool[ndarray, "n"]:
    """Frames in which the camera stands; none if it stands nearly all the time."""
    count = len(clip.frames)
    standing = np.zeros(count, bool)
    pairs = clip.pairs(STANDING_GAP)
    if not pairs:
        return standing
    places = np.unique(np.linspace(0, len(pairs) - 1, SAMPLES).astype(int))
    still = np.array([_is_still(clip, pairs[place]) for place in places])
    ends = np.array([pairs[place] for place in places])
    frames = np.arange(count)[:, None]
    standing = still[np.abs(frames - ends.mean(1)).argmin(1)]
    standing |= (still & (ends[:, 0] <= frames) & (frames <= ends[:, 1])).any(1)
    return standing if standing.mean() < MAX_STANDING_SHARE else np.zeros(count, bool)


def _is_still(clip: Clip, pair: tuple[int, int]) -> bool:
    """Whether nothing moves between two frames; False if too few corners can be tracked to tell."""
    seen = _compare(clip, pair)
    if seen is None or seen.motion is None:
        return False
    return seen.motion.flow < STATIC_FLOW / clip.camera.width


def _compare(clip: Clip, pair: tuple[int, int]) -> TwoViews | None:
    first, second = (clip.frames[i].mean(0).round().astype(np.uint8) for i in pair)
    return compare_views(first, second, clip.camera.matrix.double().numpy(), clip.static)
