"""A look at a clip before training: how much it turns, how much parallax it has, where it stands or cuts."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from egodepth.data.preparation.clips import Clip
from egodepth.geometry.two_views import MIN_FLOW, TwoViews, compare_views

STRIDES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30)
SAMPLES = 24
"""Pairs that a stride is judged by."""
WANTED_PARALLAX = 0.015
"""Share of the image's width that points should move by, in the median, besides the rotation."""
LEAST_TRACKED = 0.8
"""Share of the corners that a stride beyond one must keep in sight, in the median."""
CUT = 0.1
"""Below this share of tracked corners two frames show different things."""
STATIC_FLOW = 2 * MIN_FLOW
"""Pixels, median of an image, that a camera on a tripod stays below."""
BLANK_LEVELS = 4
"""Grey levels, between the darkest and the brightest pixel of a frame that shows nothing."""
STANDING_GAP = 8
"""Frames over which a camera that stands is told from a video that repeats its frames."""
MOST_STANDING = 0.9
"""Share of frames; a camera that stands for longer is judged by all of them."""
FROZEN = 0.1
"""A pair with less than this share of its clip's usual parallax teaches nothing."""
TURNING = 0.7
"""Motion by rotation over parallax, in the image: more is a hand-held camera, less one that drives."""


@dataclass(frozen=True)
class Survey:
    """What was seen.

    Attributes:
        stride: frames between target and sources.
        parallax: at this stride, median, as a share of the image's width.
        turn: median motion in the image by rotation, over that by parallax.
        frozen, cuts: pairs of positions left out, since nothing moves or nothing stays.
    """

    stride: int
    parallax: float
    turn: float
    frozen: frozenset[tuple[int, int]]
    cuts: frozenset[tuple[int, int]]


def survey(clip: Clip, stride: int | None = None) -> Survey:
    """Choose the stride of a clip, unless it is given, and look at all its pairs."""
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
    """Whether the camera never moves: between frames as far apart as strides are at most, nothing moves in the
    median, wherever in the clip. False where too few corners can be followed to tell.

    Args:
        clip: footage.
        stride: that it is trained at, where that is known.
    """
    pairs = clip.pairs(max(stride, min(STRIDES[-1], len(clip.frames) // 2)))
    if not pairs:
        return False
    places = np.unique(np.linspace(0, len(pairs) - 1, SAMPLES).astype(int))
    return all(_is_still(clip, pairs[place]) for place in places)


def is_blank(clip: Clip) -> bool:
    """Whether the frames show nothing, as where an encoder failed: the grey levels of each hardly differ."""
    places = np.unique(np.linspace(0, len(clip.frames) - 1, SAMPLES).astype(int))
    return all(int(np.ptp(clip.frames[place].mean(0))) <= BLANK_LEVELS for place in places)


def _choose_stride(clip: Clip, standing: Bool[ndarray, "n"]) -> int:
    """The smallest with the wanted parallax; the largest that keeps the view where none has it. Where the
    camera stands for a while, these frames have no say."""
    best = STRIDES[0]
    for stride in STRIDES:
        pairs = [pair for pair in clip.pairs(stride) if not standing[pair[0]]]
        # Half of the frames shall have a neighbour on either side.
        if not pairs or 4 * stride > max(len(clip.frames), 4):
            break
        places = np.unique(np.linspace(0, len(pairs) - 1, SAMPLES).astype(int))
        seen = [view for place in places if (view := _compare(clip, pairs[place]))]
        known = [view.motion for view in seen if view.motion]
        if not known or np.median([view.tracked for view in seen]) < LEAST_TRACKED:
            break
        parallax = np.median([motion.parallax for motion in known])
        best = stride
        if parallax >= WANTED_PARALLAX:
            break
    return best


def _where_it_stands(clip: Clip) -> Bool[ndarray, "n"]:
    """Frames during which the camera stands; none where it does so nearly always."""
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
    return standing if standing.mean() < MOST_STANDING else np.zeros(count, bool)


def _is_still(clip: Clip, pair: tuple[int, int]) -> bool:
    """Whether nothing moves between two frames; False where too few corners can be followed to tell."""
    seen = _compare(clip, pair)
    if seen is None or seen.motion is None:
        return False
    return seen.motion.flow < STATIC_FLOW / clip.camera.width


def _compare(clip: Clip, pair: tuple[int, int]) -> TwoViews | None:
    first, second = (clip.frames[i].mean(0).round().astype(np.uint8) for i in pair)
    return compare_views(first, second, clip.camera.matrix.double().numpy(), clip.static)
