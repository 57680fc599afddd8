"""Metrics of the shape of a depth map: its point cloud and its edges."""

import cv2
import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.spatial import KDTree

MAX_POINTS = 20_000
"""Maximum number of points of a cloud; larger ones are reduced to every n-th point."""
MIN_EDGE_LOG_RATIO = 0.1
"""Minimum log ratio of neighbouring depths at an edge."""
MAX_EDGE_DISTANCE = 10.0
"""Maximum distance in pixels between matching edges."""
MIN_KNOWN_SHARE = 0.5
"""Minimum share of known pixels inside the crop for edges to be scored."""


def f_score(prediction: Float[ndarray, "n 3"], truth: Float[ndarray, "n 3"], near: float) -> float:
    """F-score of points, in [0, 1]: harmonic mean of precision and recall, the shares of the predicted points
    with a true point within ``near`` metres and of the true points with a predicted one (Knapitsch et al.,
    "Tanks and temples", 2017)."""
    step = -(-len(truth) // MAX_POINTS)
    a, b = prediction[::step], truth[::step]
    precision = np.mean(KDTree(b).query(a, distance_upper_bound=near)[0] <= near)
    recall = np.mean(KDTree(a).query(b, distance_upper_bound=near)[0] <= near)
    total = precision + recall
    return float(2 * precision * recall / total) if total > 0 else 0.0


def edge_scores(
    prediction: Float[ndarray, "h w"], truth: Float[ndarray, "h w"], mask: Bool[ndarray, "h w"]
) -> dict[str, float]:
    """Compute ``edge_accuracy``, the mean distance in pixels from predicted depth edges to true ones, over
    those with a true edge within ten pixels, and ``edge_completeness``, the mean distance from true edges to
    predicted ones, truncated at ten (Koch et al., "Evaluation of CNN-based single-image depth estimation
    methods", 2018; an edge here is a step of ten percent between neighbours). Empty if the truth is sparse
    or has no edges.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    if mask[window].mean() < MIN_KNOWN_SHARE:
        return {}
    known = mask[window]
    true = depth_edges(truth[window], known)
    predicted = depth_edges(prediction[window], known)
    if not true.any():
        return {}
    if not predicted.any():
        return {"edge_accuracy": MAX_EDGE_DISTANCE, "edge_completeness": MAX_EDGE_DISTANCE}
    to_true, to_predicted = _distance(true)[predicted], _distance(predicted)[true]
    near = to_true[to_true <= MAX_EDGE_DISTANCE]
    return {
        "edge_accuracy": float(near.mean()) if len(near) else MAX_EDGE_DISTANCE,
        "edge_completeness": float(np.minimum(to_predicted, MAX_EDGE_DISTANCE).mean()),
    }


def depth_edges(depth: Float[ndarray, "h w"], known: Bool[ndarray, "h w"]) -> Bool[ndarray, "h w"]:
    """Mask of pixels that differ in depth from their right or lower neighbour by ten percent, both known."""
    logs = np.log(np.where(known, depth, 1))
    edges = np.zeros(depth.shape, bool)
    edges[:, :-1] |= (
        (np.abs(np.diff(logs, axis=1)) > MIN_EDGE_LOG_RATIO) & known[:, 1:] & known[:, :-1]
    )
    edges[:-1] |= (np.abs(np.diff(logs, axis=0)) > MIN_EDGE_LOG_RATIO) & known[1:] & known[:-1]
    return edges


def _distance(edges: Bool[ndarray, "h w"]) -> Float[ndarray, "h w"]:
    return cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
