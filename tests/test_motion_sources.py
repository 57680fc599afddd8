"""Motions that do not come from PoseNet: aligned within the step, and refined after structure from motion."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import Heard, raw_batch, tiny_settings, write_images
from tests.test_training import interrupt_after

import egodepth
from egodepth.cli import main
from egodepth.core.schedule import Schedule
from egodepth.data.footage.own_footage import read_camera
from egodepth.data.preparation.clips import NO_PART, Clip, KnownMotion, SparsePoints, read_clips
from egodepth.data.synthetic.street import read_street
from egodepth.geometry import se3
from egodepth.losses.consistency import depth_consistency_loss
from egodepth.losses.known_depth import sparse_depth_loss
from egodepth.models.networks import Networks, PoseNet
from egodepth.settings.model import ModelSettings
from egodepth.training import pose_source
from egodepth.training.augment import augment
from egodepth.training.batch import SnippetBatch
from egodepth.training.build import build_networks
from egodepth.training.collapse import find_collapse
from egodepth.training.module import EgodepthModule, make_optimizer
from egodepth.training.motion_alignment import align_motions
from egodepth.training.motion_refinement import MotionRefinement
from egodepth.training.objective import (
    ObjectiveResult,
    compute_objective,
    warping_terms,
    weighted_sum,
)
from egodepth.training.plan import describe_plan
from egodepth.training.run import train
from egodepth.training.snippets import SnippetStream


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    cache = tmp_path_factory.mktemp("street")
    return read_clips([read_street(5, frames=8)], 96, 320, cache)[0]


def with_parts(clip: Clip) -> Clip:
    """The true poses at half their size as if structure from motion had found them in two parts,
    and lost frame 4 between them."""
    poses = clip.sequence.world_from_camera
    assert poses is not None
    poses = poses.copy()
    poses[:, :3, 3] /= 2
    part = np.array([0, 0, 0, 0, NO_PART, 1, 1, 1])
    poses[4] = np.nan
    points = {i: SparsePoints(np.array([[10.0, 20.0], [30.0, 40.0]]), np.array([0.5, 0.5]) * (1 + p))
              for i, p in enumerate(part) if p != NO_PART}  # fmt: skip
    return replace(clip, motion=KnownMotion(poses, part, points))


def make_stream(clips: list[Clip], batch_size: int = 8) -> SnippetStream:
    return SnippetStream(clips, directions=(-1, 1), batch_size=batch_size, seed=0)


def test_snippets_stay_within_a_part(street: Clip) -> None:
    stream = make_stream([with_parts(street)])
    raw = stream.batch(0)
    # Targets 1, 2 of the first part and 6 of the second.
    assert sorted(raw.frame_ids[0].tolist()) == [1, 2, 6]
    assert {(t, p) for t, p in zip(raw.frame_ids[0].tolist(), raw.parts.tolist(), strict=True)} == {
        (1, 0), (2, 0), (6, 1)
    }  # fmt: skip
    inverse = [
        {v for *_, p in known for v in p.inverse_depth} for known in stream.points_of_parts()
    ]
    assert inverse == [{0.5}, {1.0}]
    assert raw.points.shape == (3, 128, 3) and set(raw.points[..., 0].unique().tolist()) == {10, 30}
    plain, flipped = augment(raw, 1, enabled=False), augment(raw, 1)
    mirrored = (plain.target != flipped.target).flatten(1).any(1)
    assert 0 < mirrored.sum() < 3
    expected = torch.where(mirrored[:, None], 319 - raw.points[..., 0], raw.points[..., 0])
    torch.testing.assert_close(flipped.points[..., 0], expected)


def test_the_cameras_of_a_rig_share_their_parts(street: Clip) -> None:
    left = with_parts(street)
    assert left.motion is not None
    rigged = replace(left.sequence, rig="rig")
    left = replace(left, sequence=rigged)
    # Its arrays are its own, as where the frame numbers of the two differ.
    part = left.motion.part.copy()
    right = replace(left, motion=replace(left.motion, part=part, points={}))
    other = with_parts(street)
    stream = make_stream([left, right, other], 16)
    raw = stream.batch(0)
    owners = set(zip(raw.clips.tolist(), raw.parts.tolist(), strict=True))
    assert owners == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (2, 3)}
    assert stream.batch(0).frame_ids.unique().numel() == 3 * 7
    assert len(stream.points_of_parts()) == 4


def test_refinement_starts_with_what_was_found(street: Clip) -> None:
    stream = make_stream([with_parts(street)])
    raw, refinement = stream.batch(0), MotionRefinement(stream, unit=3.0)
    refined = refinement(raw)
    scale = torch.tensor([3.0 * [0.5, 1.0][part] for part in raw.parts.tolist()])
    torch.testing.assert_close(
        refined.motions[..., :3, 3], raw.motions[..., :3, 3] * scale[:, None]
    )
    torch.testing.assert_close(refined.motions[..., :3, :3], raw.motions[..., :3, :3])
    torch.testing.assert_close(refined.matrix, raw.matrix)
    # The median point of each part lies at the unit.
    torch.testing.assert_close(
        refined.points[..., 2], torch.full_like(refined.points[..., 2], 1 / 3)
    )


def test_corrections_move_their_own_frame_scale_and_focal_length(street: Clip) -> None:
    guessed = replace(with_parts(street), sequence=replace(street.sequence, camera_from="fov"))
    stream = make_stream([guessed])
    raw, refinement = stream.batch(0), MotionRefinement(stream, unit=1.0)
    before = refinement(raw)
    column = raw.frame_ids[0].tolist().index(1)
    twist = torch.tensor([0.01, -0.02, 0.03, 0.1, 0.2, -0.3])
    with torch.no_grad():
        refinement.twist[1] = twist
        refinement.log_focal[0] = math.log(1.1)
        refinement.log_scale[1] += math.log(2.0)
    after = refinement(raw)
    # Frame 1 is the target of one snippet: all its motions start from the corrected camera.
    torch.testing.assert_close(
        after.motions[:, column], before.motions[:, column] @ se3.inverse(se3.exp(twist))
    )
    # It is the earlier source of frame 2, whose later source does not know of it.
    other = raw.frame_ids[0].tolist().index(2)
    torch.testing.assert_close(after.motions[0, other], se3.exp(twist) @ before.motions[0, other])
    torch.testing.assert_close(after.motions[1, other], before.motions[1, other])
    last = raw.frame_ids[0].tolist().index(6)
    torch.testing.assert_close(after.motions[:, last, :3, 3], 2 * before.motions[:, last, :3, 3])
    torch.testing.assert_close(after.points[last, :, 2], before.points[last, :, 2] / 2)
    torch.testing.assert_close(after.matrix[:, 0, 0], 1.1 * raw.matrix[:, 0, 0])
    torch.testing.assert_close(after.matrix[:, :2, 2], raw.matrix[:, :2, 2])


def test_what_is_refined_has_rates_of_its_own(street: Clip, tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path, pose_learning_rate=1e-3, scale_learning_rate=0.5)
    stream = make_stream([with_parts(street)])
    refinement = MotionRefinement(stream, 1.0)
    module = EgodepthModule(settings, build_networks(settings), Schedule(10), refinement)
    rates = {id(p): g["lr"] for g in make_optimizer(module).param_groups for p in g["params"]}
    assert rates[id(refinement.twist)] == rates[id(refinement.log_focal)] == 1e-3
    assert rates[id(refinement.log_scale)] == 0.5
    assert rates[id(next(module.networks.parameters()))] == settings.learning_rate


def refined_module(clip: Clip, folder: Path, steps: int, **changes: object) -> EgodepthModule:
    settings = tiny_settings(folder, method="photometric", **changes)
    return EgodepthModule(
        settings,
        build_networks(settings),
        Schedule(steps),
        MotionRefinement(make_stream([clip]), 1.0),
    )


def refine(module: EgodepthModule, gradient_of: Callable[[int], torch.Tensor]) -> torch.Tensor:
    """Train the twists by given gradients; what they come to."""
    assert module.motions is not None
    configured = module.configure_optimizers()
    for step in range(module.schedule.total):
        module.motions.twist.grad = gradient_of(step)
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()
    return module.motions.twist.detach()


def test_poses_stay_where_their_gradients_are_noise(street: Clip, tmp_path: Path) -> None:
    """Of 200 frames each step sees 12. With Adam they wandered by 35 rates."""
    module = refined_module(with_parts(street), tmp_path, 1500, pose_learning_rate=1e-3)
    assert module.motions is not None
    module.motions.twist = torch.nn.Parameter(torch.zeros(200, 6))
    generator = torch.Generator().manual_seed(0)

    def noise(step: int) -> torch.Tensor:
        gradient = torch.zeros(200, 6)
        seen = torch.randperm(200, generator=generator)[:12]
        gradient[seen] = torch.randn(12, 6, generator=generator)
        return gradient

    assert refine(module, noise).square().mean().sqrt() < 2 * 1e-3


def test_only_frames_that_are_seen_move_and_as_with_adagrad(street: Clip, tmp_path: Path) -> None:
    module = refined_module(with_parts(street), tmp_path, 40, schedule="halved", halve_at=[])
    assert module.motions is not None
    reference = torch.nn.Parameter(torch.zeros_like(module.motions.twist))
    rate = module.settings.pose_learning_rate
    adagrad = torch.optim.Adagrad([reference], lr=rate)
    places: list[torch.Tensor] = []
    twist = module.motions.twist

    def gradient_of(step: int) -> torch.Tensor:
        places.append(twist.detach().clone())
        gradient = torch.zeros_like(twist)
        gradient[1 if step < 20 else 2] = 1e-3 * torch.randn(6)
        adagrad.param_groups[0]["lr"] = rate * module._halved(step)
        reference.grad = gradient.clone()
        adagrad.step()
        return gradient

    found = refine(module, gradient_of)
    assert not places[20][2].any() and places[20][1].all()
    assert torch.equal(places[20][1], found[1])
    torch.testing.assert_close(found, reference.detach(), rtol=1e-3, atol=1e-6)


def test_the_prior_pulls_poses_to_where_they_were_found(street: Clip, tmp_path: Path) -> None:
    module = refined_module(with_parts(street), tmp_path, 30)
    raw = make_stream([with_parts(street)]).batch(0)
    motions = module.motions
    assert motions is not None and motions.prior(raw).item() == 0
    with torch.no_grad():
        motions.twist.fill_(1e-3)
    assert motions.prior(raw).item() == pytest.approx(6)
    unseen = [i for i in range(8) if i not in raw.frame_ids]

    def gradient_of(step: int) -> torch.Tensor:
        return torch.autograd.grad(motions.prior(raw), motions.twist)[0]

    found = refine(module, gradient_of)
    assert unseen and torch.equal(found[unseen], torch.full((len(unseen), 6), 1e-3))
    assert found[raw.frame_ids.unique()].abs().max() < 2e-4


def test_a_pose_that_is_wrong_is_corrected(street: Clip, tmp_path: Path) -> None:
    """One of eight frames is placed wrongly, by 4 mrad; depth is known, up to noise of 10 %."""
    clip = replace(street, motion=KnownMotion.given(street.sequence))
    _, inverse, _ = street_batch(street)
    unit = 1 / float(inverse.median())
    assert clip.motion is not None
    wrong = clip.motion.world_from_camera.copy()
    twist = torch.tensor([0.0, 4e-3, 0, 0, 4e-3 * unit, 0]).double()
    wrong[3] = wrong[3] @ se3.exp(twist).numpy()
    clip = replace(clip, motion=replace(clip.motion, world_from_camera=wrong))
    stream = make_stream([clip], 2)
    settings = tiny_settings(tmp_path, method="photometric", automask=False)
    networks = build_networks(settings)
    module = EgodepthModule(settings, networks, Schedule(60), MotionRefinement(stream, 1.0))
    motions = module.motions
    assert motions is not None
    with torch.no_grad():
        motions.log_scale.fill_(-math.log(unit))
    depth = torch.stack([torch.from_numpy(street.sequence.depth[i]()) for i in range(8)])
    known = torch.where(depth > 0, unit / depth, 1e-3)[:, None]
    known = torch.nn.functional.interpolate(known, (96, 320), mode="area")

    def gradient_of(step: int) -> torch.Tensor:
        raw = stream.batch(step)
        batch = augment(motions(raw), 0, enabled=False)
        off = torch.nn.functional.interpolate(torch.randn(2, 1, 6, 20), (96, 320), mode="bicubic")
        inverse = known[raw.frame_ids[0]] * (0.1 * off).exp()
        terms = warping_terms(None, [inverse], batch.motions, batch, module.settings, 1.0)
        terms["pose_prior"] = motions.prior(raw)
        return torch.autograd.grad(weighted_sum(terms, module.settings.loss), motions.twist)[0]

    found = refine(module, gradient_of)
    left = se3.log(
        se3.exp(found[3]) @ se3.exp(-twist.float() * torch.tensor([1, 1, 1, *[1 / unit] * 3]))
    )
    others = found[[0, 1, 2, 4, 5, 6, 7]]
    assert left.abs().max() < 0.6 * 4e-3, (left, found)
    assert others.abs().max() < 0.3 * 4e-3, others


def test_points_that_are_wrong_lose_their_weight() -> None:
    inverse = torch.full((1, 1, 4, 6), 0.5, dtype=torch.float64)
    points = torch.tensor(
        [[[1.5, 2.0, 0.5], [1.0, 1.0, 0.5 * math.exp(0.1)], [0, 0, 0.0]]]
    ).double()
    found = sparse_depth_loss(inverse, points)
    torch.testing.assert_close(found, torch.tensor([[0.0, math.log(1.5), 0.0]]).double(),
                               rtol=1e-6, atol=0)  # fmt: skip
    inverse.requires_grad_()

    def slope(factor: float) -> float:
        known = torch.tensor([[[1.0, 1.0, 0.5 * factor]]]).double()
        (gradient,) = torch.autograd.grad(sparse_depth_loss(inverse, known).sum(), inverse)
        return abs(gradient[0, 0, 1, 1].item())

    assert slope(20.0) < 0.2 * slope(1.1)
    leaf = (0.3 + torch.rand(1, 1, 4, 6).double()).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sparse_depth_loss(x, points), leaf)


def test_depth_that_agrees_costs_nothing() -> None:
    a, b = torch.tensor([[[1.0, 2.0, 3.0]]]).double(), torch.tensor([[[1.0, 6.0, 9.0]]]).double()
    valid = torch.tensor([[[True, True, False]]])
    expected = torch.tensor([[[0.0, 0.5, 0.0]]]).double()
    torch.testing.assert_close(depth_consistency_loss(a, b, valid), expected)
    torch.testing.assert_close(depth_consistency_loss(7 * a, 7 * b, valid), expected)
    leaf = a.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: depth_consistency_loss(x, b, valid), leaf)


def test_the_difference_of_motions_is_in_units_of_the_head() -> None:
    pose = PoseNet(ModelSettings(pose_encoder="mobilenetv3_small_050", pretrained=False))
    still = torch.eye(4)[None]
    moved = se3.exp(torch.tensor([[0.03, 0, 0, 0, 0, 0.1]]))
    assert pose.difference(moved, still).item() == pytest.approx(2 / 6, rel=1e-2)
    assert pose.difference(still, still).item() == 0


def street_batch(clip: Clip) -> tuple[SnippetBatch, torch.Tensor, torch.Tensor]:
    """Two snippets of a street, their true inverse depth, and true motions."""
    known = replace(clip, motion=KnownMotion.given(clip.sequence))
    raw = make_stream([known], 2).batch(0)
    depth = torch.stack([
        torch.from_numpy(clip.sequence.depth[int(i)]()) for i in raw.frame_ids[0]
    ])  # fmt: skip
    inverse = torch.where(depth > 0, 1 / depth, 1e-3)[:, None]
    inverse = torch.nn.functional.interpolate(inverse, (96, 320), mode="area")
    return augment(raw, 0, enabled=False), inverse, raw.motions


def test_motions_are_aligned_within_the_step(street: Clip) -> None:
    batch, inverse, truth = street_batch(street)
    start = se3.exp(torch.tensor([0.0, 0.006, 0.0, 0.0, 0.0, 0.0])) @ truth
    start[..., :3, 3] *= 0.7
    start.requires_grad_()
    found, trusted = align_motions(start, batch, inverse)
    assert trusted.all()
    found.sum().backward()
    assert start.grad is not None and not start.grad.any()
    found = found.detach()

    def error(motions: torch.Tensor) -> torch.Tensor:
        return se3.log(se3.inverse(truth) @ motions).abs().flatten(0, 1).mean(0)

    before, after = error(start.detach()), error(found)
    assert after[:3].max() < 0.3 * before[:3].max() and after[3:].max() < 0.4 * before[3:].max()
    # Of frames that show something else nothing is believed, and PoseNet keeps its gradient.
    wrong = replace(batch, sources=torch.rand_like(batch.sources))
    kept, trusted = align_motions(start, wrong, inverse)
    assert not trusted.any() and torch.equal(kept, start) and kept.requires_grad


@pytest.mark.parametrize("poses", ["aligned", "sfm"])
def test_pose_net_learns_from_what_is_known(poses: str, street: Clip, tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path, method="photometric",
                             **{"data.poses": poses, "model.height": 96, "model.width": 320})  # fmt: skip
    networks = build_networks(settings).train()
    batch, _, _ = street_batch(street)
    result = compute_objective(networks, batch, settings)
    assert ("consistency" in result.terms) == (poses == "aligned")
    assert networks.pose is not None and result.motions is not None
    result.terms["photometric"].backward(retain_graph=True)
    reached = [p for p in networks.pose.parameters() if p.grad is not None and p.grad.any()]
    if poses == "sfm":
        torch.testing.assert_close(result.motions, batch.motions)
        assert not reached
    result.terms["pose"].backward()
    assert any(p.grad is not None and p.grad.any() for p in networks.pose.parameters())


@pytest.mark.parametrize("poses", ["aligned", "sfm", "slam"])
def test_training_with_known_motion_stops_resumes_and_predicts(
    poses: str, street: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pose_source, "reconstruct", lambda clip, folder: with_parts(clip))
    monkeypatch.setattr(pose_source, "track", lambda run, clip, folder: with_parts(clip))
    settings = tiny_settings(tmp_path, method="photometric", **{"data.poses": poses})
    settings = settings.changed(data=settings.data.changed(cache=tmp_path))
    whole = train(settings, tmp_path / "whole", sequences=[street.sequence])
    assert whole.steps == 4
    state = torch.load(tmp_path / "whole" / "checkpoint.ckpt", weights_only=True)["state_dict"]
    assert ("motions.twist" in state) == (poses != "aligned")
    if poses != "aligned":
        assert state["motions.twist"].abs().max() > 0
    if poses == "sfm":
        assert state["motions.log_scale"].shape == (2,)
        assert not state["motions.log_focal"].any()  # the street's camera is given
        interrupt_after(2, settings, tmp_path / "parts", [street.sequence])
        train(settings, tmp_path / "parts", resume=True, sequences=[street.sequence])
        parts = torch.load(tmp_path / "parts" / "checkpoint.ckpt", weights_only=True)["state_dict"]
        assert all(torch.equal(state[name], parts[name]) for name in state)
    frames = tmp_path / "frames"
    write_images(frames, 3)
    out = str(tmp_path / "out")
    assert main(["predict", str(tmp_path / "whole"), str(frames), "--out", out]) == 0
    assert (tmp_path / "out" / "trajectory_tum.txt").exists()
    facts = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert len(facts["plan"]) == (poses != "aligned")
    assert not (tmp_path / "whole" / "camera.yaml").exists()  # the street's camera is given


def test_the_focal_length_that_was_refined_is_kept(
    street: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pose_source, "reconstruct", lambda clip, folder: with_parts(clip))
    settings = tiny_settings(tmp_path, method="photometric", **{"data.poses": "sfm"})
    settings = settings.changed(data=settings.data.changed(cache=tmp_path))
    guessed = replace(street.sequence, camera_from="fov")
    train(settings, tmp_path / "run", sequences=[guessed])
    state = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)["state_dict"]
    factor = math.exp(float(state["motions.log_focal"][0]))
    assert factor != 1 and street.sequence.camera is not None
    before, after = street.sequence.camera, read_camera(tmp_path / "run" / "camera.yaml")
    torch.testing.assert_close(after.matrix[0, 0], before.matrix[0, 0] * factor, rtol=1e-5, atol=0)
    torch.testing.assert_close(after.matrix[:2, 2], before.matrix[:2, 2], rtol=1e-5, atol=0)


def collapse_of(batch: SnippetBatch, inverse: torch.Tensor, motions: torch.Tensor) -> str:
    result = ObjectiveResult(torch.zeros(()), {}, inverse, motions, None)
    return find_collapse(batch, result, ModelSettings())


def test_signs_of_a_collapse(street: Clip) -> None:
    batch, inverse, truth = street_batch(street)
    assert collapse_of(batch, inverse, truth) == ""
    far = torch.full_like(inverse, 0.0101)
    assert "all depth is at its bounds" in collapse_of(batch, far, truth)
    flat = torch.full_like(inverse, 0.2)
    assert "depth is the same everywhere" in collapse_of(batch, flat, truth)
    still = torch.eye(4).expand_as(truth)
    assert "found to stand still" in collapse_of(batch, inverse, still)
    wrong = se3.inverse(truth)
    assert "fit worse" in collapse_of(batch, inverse, wrong)
    assert "--data.poses aligned or sfm" in collapse_of(batch, inverse, wrong)


def test_a_training_that_learns_nothing_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A learning rate at which nothing moves: depth stays flat, and PoseNet at no motion."""
    from egodepth.training import callbacks

    for name, value in (("FIRST_CHECK", 2), ("CHECK_EVERY", 1), ("IN_A_ROW", 2)):
        monkeypatch.setattr(callbacks, name, value)
    write_images(tmp_path / "frames", 6)
    settings = tiny_settings(tmp_path / "frames", method="photometric", steps=6, learning_rate=1e-6)
    heard = Heard(lambda *_: None)
    with egodepth.reporting(heard):
        result = train(settings, tmp_path / "run")
    assert "depth is the same everywhere" in result.collapse or "stand still" in result.collapse
    assert any("this training may learn nothing" in note for note in heard.notes)


def test_a_batch_moves_between_devices_whole() -> None:
    raw = raw_batch(torch.zeros(3, 2, 3, 8, 8, dtype=torch.uint8), torch.eye(3).expand(2, 3, 3))
    moved = raw.to(torch.device("meta"))
    for name, value in vars(raw).items():
        found = getattr(moved, name)
        if isinstance(value, torch.Tensor):
            assert found.is_meta and (found.shape, found.dtype) == (value.shape, value.dtype), name
        else:
            assert found == value, name


def test_a_trained_depth_net_keeps_its_unit(street: Clip) -> None:
    stream = make_stream([with_parts(street)])
    motions = MotionRefinement(stream, 1.0)
    depth = Networks(
        ModelSettings(pretrained=False, depth_encoder="mobilenetv3_small_050", start_depth=7.0),
        depth=True, pose=False, features=False,
    ).depth  # fmt: skip
    assert depth is not None
    motions.take_unit_of(depth, stream)
    assert depth.training
    # SparsePoints at inverse depth 0.5 and 1 of their parts have about 1 / 7 in an untrained DepthNet's unit.
    own = 1 / depth.eval()(torch.from_numpy(street.frames[:1]).float() / 255, scales=1)[0]
    expected = torch.tensor([0.5, 1.0]) * own.median()
    torch.testing.assert_close(motions.log_scale.detach().exp(), expected, rtol=0.2, atol=0)


@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_the_plan_says_which_camera_is_used(
    street: Clip, factor: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A single part may refine a typed field of view by less than 15 %, and the line must not hide it."""
    clip = replace(street, sequence=replace(street.sequence, camera=None).with_fov(60))
    camera = clip.sequence.camera
    assert camera is not None
    before = float(camera.matrix[0, 0])
    matrix = camera.resize(96, 320).matrix.clone()
    matrix[:2, :2] *= factor

    def refine(clip: Clip, folder: Path) -> Clip:
        motion = KnownMotion.given(clip.sequence)
        return replace(clip, camera=replace(street.camera, matrix=matrix), motion=motion)

    monkeypatch.setattr(pose_source, "reconstruct", refine)
    placed, (line,) = pose_source.reconstruct_all([clip], tmp_path)
    rows = dict(describe_plan(tiny_settings(tmp_path), make_stream(placed), 10, None))
    shown = f"focal length {factor * before:.0f} pixels"
    assert rows["camera"].startswith(shown)
    if factor == 1:
        assert rows["camera"].endswith("by its field of view") and "refined" not in line
    else:
        by = f"refined by structure from motion from {before:.0f} pixels by its field of view"
        assert rows["camera"].endswith(by)
        assert line.endswith(f"focal length refined from {before:.0f} to {1.1 * before:.0f} pixels")
