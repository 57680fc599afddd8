import numpy as np
import pytest
import torch

from egodepth.core.errors import EgodepthError
from egodepth.evaluation.depth import (
    PROTOCOLS,
    DepthProtocol,
    depth_metrics,
    garg_crop,
    get_protocol,
    score_depth,
    summarize_depth,
)
from egodepth.evaluation.odometry import score_trajectory
from egodepth.geometry import se3

PLAIN = DepthProtocol("plain", "none", 1e-3, 80.0, median_scaling=False)


def test_metrics_by_hand() -> None:
    scores = depth_metrics(np.array([2.0, 3.0, 10.0]), np.array([2.0, 4.0, 5.0]))
    assert scores["abs_rel"] == pytest.approx((0 + 0.25 + 1) / 3)
    assert scores["sq_rel"] == pytest.approx((0 + 0.25 + 5) / 3)
    assert scores["rmse"] == pytest.approx(np.sqrt(26 / 3))
    assert scores["rmse_log"] == pytest.approx(np.sqrt((np.log(4 / 3) ** 2 + np.log(2) ** 2) / 3))
    assert (scores["a1"], scores["a2"], scores["a3"]) == pytest.approx((1 / 3, 2 / 3, 2 / 3))


def test_median_scaling_and_range() -> None:
    truth = np.array([[0.0, 10.0, 20.0, 90.0]])
    scores = score_depth(
        np.array([[7.0, 1.0, 2.0, 1.0]]), truth, DepthProtocol("m", "none", 1e-3, 80.0)
    )
    assert scores["scale"] == pytest.approx(10)
    assert scores["abs_rel"] == pytest.approx(0)
    clamped = score_depth(np.array([[7.0, 10.0, 200.0, 1.0]]), truth, PLAIN)
    assert clamped["rmse"] == pytest.approx(60 / np.sqrt(2))


def test_garg_crop_of_a_kitti_image() -> None:
    mask = garg_crop(375, 1242)
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (153, 371, 44, 1197)


def test_bad_predictions_are_named() -> None:
    truth = np.full((2, 2), 5.0)
    with pytest.raises(EgodepthError, match="no depths"):
        score_depth(np.zeros((2, 2)), truth, PLAIN)
    with pytest.raises(EgodepthError, match="ground truth"):
        score_depth(np.ones((2, 3)), truth, PLAIN)
    with pytest.raises(EgodepthError, match="no pixel"):
        score_depth(np.ones((2, 2)), np.zeros((2, 2)), PLAIN)
    with pytest.raises(EgodepthError, match="nothing to score"):
        summarize_depth([])


def test_protocols_name_themselves() -> None:
    assert "garg crop, 0.001-80 m, median scaling" in str(PROTOCOLS["eigen"])


def curve(count: int = 30) -> np.ndarray:
    twist = torch.tensor([0.0, 0.03, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    steps = se3.exp(twist.expand(count - 1, 6)).numpy()
    poses = [np.eye(4)]
    for step in steps:
        poses.append(poses[-1] @ step)
    return np.stack(poses)


def test_a_similar_trajectory_has_no_error() -> None:
    truth = curve()
    frame = se3.exp(torch.tensor([0.3, -0.2, 0.9, 5.0, 1.0, 2.0], dtype=torch.float64)).numpy()
    estimate = frame @ truth
    estimate[:, :3, 3] *= 0.1
    scores = score_trajectory(estimate, truth)
    assert scores["ate_m"] == pytest.approx(0, abs=1e-9)
    assert scores["rpe_rotation_deg"] == pytest.approx(0, abs=1e-5)
    assert scores["rpe_translation_m"] == pytest.approx(0, abs=1e-9)
    assert scores["scale"] == pytest.approx(10)
    assert scores["path_m"] == pytest.approx(29, rel=1e-2)


def test_known_errors() -> None:
    truth = np.tile(np.eye(4), (4, 1, 1))
    truth[:, 2, 3] = [0, 1, 2, 3]
    estimate = truth.copy()
    turn = se3.so3_exp(torch.tensor([0.0, np.radians(3.0), 0.0], dtype=torch.float64)).numpy()
    estimate[2:, :3, :3] = turn
    assert score_trajectory(estimate, truth)["rpe_rotation_deg"] == pytest.approx(1.0)
    with pytest.raises(EgodepthError, match="never moves"):
        score_trajectory(truth, np.tile(np.eye(4), (4, 1, 1)))
    with pytest.raises(EgodepthError, match="3 poses were estimated"):
        score_trajectory(truth[:3], truth)


def test_the_third_with_least_texture_has_scores_of_its_own() -> None:
    truth = np.full((3, 30), 10.0)
    texture = np.arange(90.0).reshape(3, 30)
    prediction = truth.copy()
    prediction[0, :15] = 12.0  # half of the third with the least texture is 20 % off
    scores = score_depth(prediction, truth, DepthProtocol("m", "none", 1e-3, 80.0), texture)
    assert scores["low_abs_rel"] == pytest.approx(0.1)
    assert scores["low_rmse"] == pytest.approx(np.sqrt(2))
    assert scores["abs_rel"] == pytest.approx(0.1 / 3)
    assert summarize_depth([scores, scores])["low_abs_rel"] == pytest.approx(0.1)
    assert "low_abs_rel" not in summarize_depth([score_depth(prediction, truth, PLAIN)])


def test_unknown_protocols_are_named() -> None:
    with pytest.raises(
        EgodepthError, match="unknown protocol 'x'; use eigen or synthetic or indoor"
    ):
        get_protocol("x")
