import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from egodepth.core.errors import EgodepthError
from egodepth.evaluation.depth import (
    METRICS,
    PROTOCOLS,
    DepthProtocol,
    crop_mask,
    depth_metrics,
    get_protocol,
    score_depth,
    summarize_depth,
)
from egodepth.evaluation.odometry import score_trajectory
from egodepth.evaluation.shape import edge_scores, f_score
from egodepth.geometry import se3

PLAIN = DepthProtocol("plain", 80.0, scaling="none")
MEDIAN = DepthProtocol("median", 80.0)


def test_metrics_by_hand() -> None:
    scores = depth_metrics(np.array([2.0, 3.0, 10.0]), np.array([2.0, 4.0, 5.0]))
    logs = np.array([0, np.log(3 / 4), np.log(2)])
    assert scores["abs_rel"] == pytest.approx((0 + 0.25 + 1) / 3)
    assert scores["sq_rel"] == pytest.approx((0 + 0.25 + 5) / 3)
    assert scores["rmse"] == pytest.approx(np.sqrt(26 / 3))
    assert scores["rmse_log"] == pytest.approx(np.sqrt((np.log(4 / 3) ** 2 + np.log(2) ** 2) / 3))
    assert (scores["a1"], scores["a2"], scores["a3"]) == pytest.approx((1 / 3, 2 / 3, 2 / 3))
    # KITTI's: root of mean square less squared mean, in per cent
    silog = 100 * np.sqrt((logs**2).mean() - logs.mean() ** 2)
    assert scores["silog"] == pytest.approx(silog)
    assert scores["log10"] == pytest.approx((np.log10(4 / 3) + np.log10(2)) / 3)


def test_median_scaling_and_range() -> None:
    truth = np.array([[0.0, 10.0, 20.0, 90.0]])
    scores = score_depth(np.array([[7.0, 1.0, 2.0, 1.0]]), truth, MEDIAN)
    assert scores["scale"] == pytest.approx(10)
    assert scores["abs_rel"] == pytest.approx(0)
    assert scores["pixels"] == 2
    clamped = score_depth(np.array([[7.0, 10.0, 200.0, 1.0]]), truth, PLAIN)
    assert clamped["rmse"] == pytest.approx(60 / np.sqrt(2))


def test_every_scaling() -> None:
    truth = np.array([[2.0, 4.0, 8.0, 16.0, 5.0]])
    metric = replace(MEDIAN, scaling="affine")
    scores = score_depth((truth - 1.0) / 3, truth, metric)
    assert (scores["scale"], scores["shift"]) == pytest.approx((3, 1))
    assert scores["abs_rel"] == pytest.approx(0, abs=1e-9)
    inverse = score_depth(1 / (5 / truth - 0.2), truth, replace(MEDIAN, scaling="affine_inverse"))
    assert (inverse["scale"], inverse["shift"]) == pytest.approx((0.2, 0.04))
    assert inverse["abs_rel"] == pytest.approx(0, abs=1e-9)
    baseline = score_depth(truth / 5.4, truth, replace(MEDIAN, scaling="baseline"))
    assert baseline["abs_rel"] == pytest.approx(0)
    whole = score_depth(truth / 2, truth, replace(MEDIAN, scaling="set_median"), set_scale=2.2)
    assert whole["abs_rel"] == pytest.approx(0.1)
    assert score_depth(truth / 2, truth, PLAIN)["abs_rel"] == pytest.approx(0.5)


def test_affine_inverse_that_falls_below_zero_is_as_far_as_the_range() -> None:
    truth = np.array([[2.0, 5.0, 20.0, 79.0]])
    prediction = np.array([[2.0, 4.0, 8.0, 4e9]])
    scores = score_depth(prediction, truth, replace(MEDIAN, scaling="affine_inverse"))
    scale, shift = np.polyfit(1 / prediction[0], 1 / truth[0], 1)
    assert shift < 0
    scaled = np.append(1 / (scale / prediction[0, :3] + shift), 80.0)
    assert scores["abs_rel"] == pytest.approx((np.abs(scaled - truth) / truth).mean())


@pytest.mark.parametrize(
    ("crop", "size", "box"),
    [
        ("garg", (375, 1242), (153, 371, 44, 1197)),
        ("garg", (370, 1226), (151, 366, 44, 1181)),  # 0.99189189 * 370 is a hair below 367
        ("eigen", (375, 1242), (124, 342, 44, 1197)),
        ("nyu", (480, 640), (45, 471, 41, 601)),
        ("cityscapes", (768, 2048), (256, 768, 192, 1856)),
        ("none", (10, 20), (0, 10, 0, 20)),
    ],
)
def test_crops(crop: str, size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    rows, columns = np.nonzero(crop_mask(crop, *size))  # type: ignore[arg-type]
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == box


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
    text = str(PROTOCOLS["eigen"])
    for part in (
        "split eigen_test",
        "garg crop",
        "0.001 to 80 m",
        "ratio of medians",
        "left camera",
    ):
        assert part in text
    assert "improved depth maps" in str(PROTOCOLS["eigen-improved"])
    assert "mirrored" in str(replace(PROTOCOLS["nyu"], flip=True))
    assert all(name == protocol.name for name, protocol in PROTOCOLS.items())


def test_means_over_images_and_over_pixels() -> None:
    rng = np.random.default_rng(0)
    truths = [rng.uniform(2, 40, (1, 30)), rng.uniform(2, 40, (1, 90))]
    predictions = [truth * rng.uniform(0.7, 1.4, truth.shape) for truth in truths]
    images = [score_depth(p, t, PLAIN) for p, t in zip(predictions, truths, strict=True)]
    summary = summarize_depth(images)
    everything = depth_metrics(np.hstack(predictions)[0], np.hstack(truths)[0])
    for name in (*METRICS, "log10"):
        assert summary[name] == pytest.approx(np.mean([image[name] for image in images]))
        # Pixels beyond the range after the prediction's error are none here, so nothing is clamped.
        assert summary["pixel_" + name] == pytest.approx(everything[name])


def test_f_score_by_hand() -> None:
    truth = np.array([[0.0, 0, 1], [0, 0, 2], [0, 0, 3], [0, 0, 4]])
    prediction = np.array([[0.0, 0, 1.05], [0, 0, 2.5], [0, 0, 3], [0, 0, 3.05]])
    # Three of four predicted points lie near a true one, two of four true ones near a predicted one.
    assert f_score(prediction, truth, 0.1) == pytest.approx(2 * 0.75 * 0.5 / 1.25)
    assert f_score(prediction + 9, truth, 0.1) == 0
    assert f_score(truth, truth, 0.1) == 1


def test_edges_by_hand() -> None:
    truth = np.full((20, 40), 4.0)
    truth[:, 20:] = 8.0
    mask = np.ones((20, 40), bool)
    same = edge_scores(truth, truth, mask)
    assert same == {"edge_accuracy": 0.0, "edge_completeness": 0.0}
    shifted = np.roll(truth, 3, axis=1)
    shifted[:, :3] = 4.0
    scores = edge_scores(shifted, truth, mask)
    assert (scores["edge_accuracy"], scores["edge_completeness"]) == pytest.approx((3, 3), abs=0.02)
    flat = edge_scores(np.full((20, 40), 4.0), truth, mask)
    assert flat == {"edge_accuracy": 10.0, "edge_completeness": 10.0}
    # Half of the true edge is missing: 10 rows find it above, at most ten pixels away.
    half = truth.copy()
    half[10:] = 4.0
    partly = edge_scores(half[:, :], truth, mask)
    assert partly["edge_completeness"] > 2
    sparse = np.zeros((20, 40), bool)
    sparse[::4, ::4] = True
    assert edge_scores(truth, truth, sparse) == {}


def test_dense_truth_and_rays_add_scores() -> None:
    truth = np.full((8, 10), 5.0)
    truth[:, 5:] = 10.0
    rays = np.dstack(
        [*np.meshgrid(np.linspace(-1, 1, 10), np.linspace(-1, 1, 8)), np.ones((8, 10))]
    )
    scores = score_depth(truth / 3, truth, MEDIAN, rays=rays)
    assert scores["f_score"] == 1 and scores["edge_completeness"] == 0
    summary = summarize_depth([scores, {k: v for k, v in scores.items() if k != "edge_accuracy"}])
    assert summary["f_score"] == 1 and summary["edge_accuracy"] == 0
    assert not math.isnan(summary["scale_spread"])


def test_holes_in_the_ground_are_counted() -> None:
    truth = np.full((4, 10), 10.0)
    ground = np.zeros((4, 10), bool)
    ground[2:] = True
    prediction = truth.copy()
    prediction[2, :3] = 15.0
    prediction[2, 3:] = 14.9
    prediction[0] = 70.0  # not of the ground
    truth[3] = 0.0  # unknown
    scores = score_depth(prediction, truth, PLAIN, ground=ground)
    assert scores["ground_too_far"] == pytest.approx(0.3)
    summary = summarize_depth([scores, score_depth(truth + 1, truth, PLAIN)])
    assert summary["ground_too_far"] == pytest.approx(0.3)
    assert "ground_too_far" not in score_depth(prediction, truth, PLAIN, ground=~ground & False)


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
    scores = score_depth(prediction, truth, MEDIAN, texture)
    assert scores["low_abs_rel"] == pytest.approx(0.1)
    assert scores["low_rmse"] == pytest.approx(np.sqrt(2))
    assert scores["abs_rel"] == pytest.approx(0.1 / 3)
    assert summarize_depth([scores, scores])["low_abs_rel"] == pytest.approx(0.1)
    assert "low_abs_rel" not in summarize_depth([score_depth(prediction, truth, PLAIN)])


def test_unknown_protocols_are_named() -> None:
    with pytest.raises(EgodepthError, match="unknown protocol 'x'; use one of eigen, eigen-50"):
        get_protocol("x")
