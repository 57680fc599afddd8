"""Trajectory metrics: ATE, RPE, snippets of five frames, and KITTI's segment errors."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from egodepth.core.errors import EgodepthError
from egodepth.geometry.plausible import FARTHEST_POSITION
from egodepth.geometry.trajectory import align_similarity

TrajectoryAlignment = Literal["none", "origin", "scale", "se3", "sim3", "segments"]
ALIGNMENTS: dict[TrajectoryAlignment, str] = {
    "none": "poses as they are",
    "origin": "first poses made the same",
    "scale": "first poses made the same, one scale (Umeyama's) for all",
    "se3": "one rigid motion (Umeyama) for all frames",
    "sim3": "one similarity (Umeyama) for all frames",
    "segments": "a similarity for each 100 m of the true path, and for each of KITTI's segments",
}
SEGMENT_LENGTHS = tuple(range(100, 900, 100))
"""Lengths of KITTI's segments in metres."""
START_STEP = 10
"""Frames between the starts of consecutive segments."""
SNIPPET_FRAMES = 5
MIN_POSES = 3
MIN_TURN, TRANSPOSED_SHARE = np.radians(5.0), 0.25
"""Mean rotation error from which transposed rotations are tried, and the share of it to which they must bring
it."""


@dataclass(frozen=True)
class Segment:
    """One of KITTI's segments.

    Attributes:
        first: index of the first frame.
        length: length of the true path in metres.
        translation: translation error as a fraction of the length.
        rotation: rotation error in radians per metre.
        speed: speed in metres per frame.
    """

    first: int
    length: float
    translation: float
    rotation: float
    speed: float


def score_trajectory(
    estimate: Float64[ndarray, "n 4 4"],
    truth: Float64[ndarray, "m 4 4"],
    alignment: TrajectoryAlignment = "sim3",
) -> dict[str, float]:
    """Compare camera poses ``world_from_camera`` frame by frame; frames with non-finite poses are left out.

    Returns:
        ``ate_m``: root mean square distance of positions after the alignment; ``ate_percent``: the same in
        percent of the path; ``path_m``: length of the true path; ``rpe_rotation_deg``, ``rpe_translation_m``:
        means over consecutive frames, the latter after the alignment's scaling; ``snippet_ate_m``,
        ``snippet_ate_std_m``: mean and standard deviation over all snippets of five frames, each scaled by
        itself, as in Zhou et al. (CVPR 2017): the root of the sum of squares over the number of frames;
        ``t_rel_percent``, ``r_rel_deg_100m``: KITTI's errors, absent if the path is too short for any segment;
        ``segments``: number of segments; ``scale``: metres per unit of the estimate; ``frames``: number of
        frames that are scored; ``of_frames``: number of frames given.

    Raises:
        EgodepthError: different lengths, fewer than three poses, positions that are nowhere on Earth, or a
            camera that never moves.
    """
    if estimate.shape != truth.shape:
        raise EgodepthError(
            f"{len(estimate)} poses were estimated, the ground truth has {len(truth)}"
        )
    known = np.isfinite(truth).all((1, 2)) & np.isfinite(estimate).all((1, 2))
    neighbours = np.diff(np.flatnonzero(known)) == 1
    estimate, truth = estimate[known], truth[known]
    if len(truth) < MIN_POSES:
        raise EgodepthError(f"a trajectory needs at least 3 poses to be scored, got {len(truth)}")
    for poses, what in ((estimate, "estimate"), (truth, "ground truth")):
        far = float(np.abs(poses[:, :3, 3]).max())
        if far > FARTHEST_POSITION:
            raise EgodepthError(
                f"the {what} has a position {far:.3g} from the origin, nowhere on Earth"
            )
    path = float(path_lengths(truth)[-1])
    if path == 0:
        raise EgodepthError("the true camera never moves: there is no trajectory to score")
    aligned, scales = align_trajectory(estimate, truth, alignment)
    ate = float(np.sqrt(((aligned - truth[:, :3, 3]) ** 2).sum(1).mean()))
    error = _relative_errors(estimate, truth, scales)[neighbours]
    angles = _angles(error)
    snippets = snippet_errors(estimate, truth, neighbours)
    segments = segment_errors(estimate, truth, alignment)
    scores = {
        "ate_m": ate,
        "ate_percent": 100 * ate / path,
        "path_m": path,
        "rpe_rotation_deg": float(np.degrees(angles).mean()),
        "rpe_translation_m": float(np.linalg.norm(error[:, :3, 3], axis=1).mean()),
        "scale": float(np.median(scales)),
        "frames": len(truth),
        "of_frames": len(known),
        "segments": len(segments),
    }
    if len(snippets):
        scores |= {
            "snippet_ate_m": float(snippets.mean()),
            "snippet_ate_std_m": float(snippets.std()),
        }
    if segments:
        scores |= {
            "t_rel_percent": 100 * float(np.mean([s.translation for s in segments])),
            "r_rel_deg_100m": 100 * float(np.degrees(np.mean([s.rotation for s in segments]))),
        }
    return scores


def rotations_look_transposed(
    estimate: Float64[ndarray, "n 4 4"], truth: Float64[ndarray, "n 4 4"]
) -> bool:
    """Whether the estimate's rotations since the first frame fit the true ones only when transposed, as those
    of ``camera_from_world`` do, or of conjugate quaternions. No score of positions shows it."""
    rotations = estimate[:, :3, :3]
    true = truth[0, :3, :3].T @ truth[:, :3, :3]
    as_given = rotations[0].T @ rotations
    transposed = rotations[0] @ rotations.transpose(0, 2, 1)
    error, other = (
        _rotation_angles(true.transpose(0, 2, 1) @ r).mean() for r in (as_given, transposed)
    )
    return bool(error > MIN_TURN and other < TRANSPOSED_SHARE * error)


def describe(alignment: TrajectoryAlignment, scores: dict[str, float]) -> str:
    """Describe the protocol in words, with a note if the sequence is too short for a metric."""
    text = f"alignment {alignment}: {ALIGNMENTS[alignment]}"
    if not scores["segments"]:
        text += (
            f"; no t_rel and r_rel: the path of {scores['path_m']:.0f} m holds no segment of "
            f"{SEGMENT_LENGTHS[0]} m"
        )
    elif scores["path_m"] < SEGMENT_LENGTHS[-1]:
        longest = max(length for length in SEGMENT_LENGTHS if length <= scores["path_m"])
        text += (
            f"; t_rel and r_rel over {SEGMENT_LENGTHS[0]} to {longest} m alone, {scores['segments']:.0f} "
            "segments (published: 100 to 800 m)"
        )
    return text


def align_trajectory(
    estimate: Float64[ndarray, "n 4 4"],
    truth: Float64[ndarray, "n 4 4"],
    alignment: TrajectoryAlignment,
) -> tuple[Float64[ndarray, "n 3"], Float64[ndarray, "n"]]:
    """Align the estimate: its positions in the world frame of the truth, and the scale of each frame."""
    count = len(truth)
    if alignment == "none":
        return estimate[:, :3, 3], np.ones(count)
    if alignment in ("origin", "scale"):
        estimate = truth[0] @ np.linalg.inv(estimate[0]) @ estimate
        if alignment == "origin":
            return estimate[:, :3, 3], np.ones(count)
        scale = align_similarity(estimate[:, :3, 3], truth[:, :3, 3])[0]
        start = truth[0, :3, 3]
        return start + scale * (estimate[:, :3, 3] - start), np.full(count, scale)
    pieces = [np.arange(count)]
    if alignment == "segments":
        number = (path_lengths(truth) // SEGMENT_LENGTHS[0]).astype(int)
        pieces = [np.flatnonzero(number == n) for n in np.unique(number)]
        # A remainder too short to be aligned is merged with the piece before it.
        if len(pieces) > 1 and len(pieces[-1]) < MIN_POSES:
            pieces[-2:] = [np.concatenate(pieces[-2:])]
    aligned, scales = np.empty((count, 3)), np.empty(count)
    for piece in pieces:
        moved, target = estimate[piece, :3, 3], truth[piece, :3, 3]
        scale, rotation, translation = align_similarity(
            moved, target, with_scale=alignment != "se3"
        )
        aligned[piece] = scale * moved @ rotation.T + translation
        scales[piece] = scale
    return aligned, scales


def snippet_errors(
    estimate: Float64[ndarray, "n 4 4"],
    truth: Float64[ndarray, "n 4 4"],
    neighbours: Bool[ndarray, "k"] | None = None,
) -> Float64[ndarray, "s"]:
    """Error in metres of every snippet of five consecutive frames: both paths start at the same pose, the
    estimate is scaled to the best fit, and the root of the sum of squares is divided by five."""
    errors = []
    for start in range(len(truth) - SNIPPET_FRAMES + 1):
        window = slice(start, start + SNIPPET_FRAMES)
        if neighbours is not None and not neighbours[start : start + SNIPPET_FRAMES - 1].all():
            continue
        a = (np.linalg.inv(estimate[start]) @ estimate[window])[:, :3, 3]
        b = (np.linalg.inv(truth[start]) @ truth[window])[:, :3, 3]
        squares = float((a**2).sum())
        scale = float((a * b).sum()) / squares if squares > 0 else 1.0
        errors.append(float(np.sqrt(((scale * a - b) ** 2).sum())) / SNIPPET_FRAMES)
    return np.array(errors)


def segment_errors(
    estimate: Float64[ndarray, "n 4 4"],
    truth: Float64[ndarray, "n 4 4"],
    alignment: TrajectoryAlignment = "sim3",
) -> list[Segment]:
    """KITTI's segments of 100 to 800 m, starting at every tenth frame, with their errors (Geiger et al., CVPR
    2012); the estimate is scaled by the alignment, or each segment by itself with ``segments``."""
    along = path_lengths(truth)
    scale = (
        1.0
        if alignment == "segments"
        else float(align_trajectory(estimate, truth, alignment)[1][0])
    )
    scaled = estimate.copy()
    scaled[:, :3, 3] *= scale
    segments = []
    for first in range(0, len(truth), START_STEP):
        for length in SEGMENT_LENGTHS:
            beyond = np.flatnonzero(along > along[first] + length)
            if len(beyond) == 0:
                break
            last = int(beyond[0])
            scaled_by_segment = scaled
            if alignment == "segments":
                piece = slice(first, last + 1)
                own = align_similarity(estimate[piece, :3, 3], truth[piece, :3, 3])[0]
                scaled_by_segment = estimate.copy()
                scaled_by_segment[:, :3, 3] *= own
            moved = np.linalg.inv(scaled_by_segment[first]) @ scaled_by_segment[last]
            error = np.linalg.inv(moved) @ np.linalg.inv(truth[first]) @ truth[last]
            segments.append(Segment(
                first, float(length), float(np.linalg.norm(error[:3, 3])) / length,
                float(_angles(error[None])[0]) / length, length / (last - first + 1),
            ))  # fmt: skip
    return segments


def path_lengths(poses: Float64[ndarray, "n 4 4"]) -> Float64[ndarray, "n"]:
    """Path length in metres from the first frame to each frame."""
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def relative_motions(world_from_camera: Float64[ndarray, "n 4 4"]) -> Float64[ndarray, "m 4 4"]:
    """``previous_from_next`` (N - 1, 4, 4) of consecutive poses."""
    return np.linalg.inv(world_from_camera[:-1]) @ world_from_camera[1:]


def _relative_errors(
    estimate: Float64[ndarray, "n 4 4"],
    truth: Float64[ndarray, "n 4 4"],
    scales: Float64[ndarray, "n"],
) -> Float64[ndarray, "m 4 4"]:
    moved, true = relative_motions(estimate), relative_motions(truth)
    moved[:, :3, 3] *= scales[:-1, None]
    return np.linalg.inv(true) @ moved


def _angles(motions: Float64[ndarray, "n 4 4"]) -> Any:
    return _rotation_angles(motions[:, :3, :3])


def _rotation_angles(r: Float64[ndarray, "n 3 3"]) -> Any:
    """Angles in radians: twice the sine is the norm of R - R^T as a vector, twice the cosine is the trace minus
    one."""
    skew = r - r.transpose(0, 2, 1)
    sine = np.linalg.norm(np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]]), axis=0)
    return np.arctan2(sine, np.trace(r, axis1=1, axis2=2) - 1)
