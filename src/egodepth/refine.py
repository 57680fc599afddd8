"""Online refinement: continue training, with the same losses, on the frames to predict (paper, 3.5)."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from egodepth.core import progress
from egodepth.core.errors import EgodepthError, NonFiniteError
from egodepth.core.schedule import Schedule
from egodepth.data.preparation.clips import Clip
from egodepth.data.preparation.survey import TURNING, survey
from egodepth.data.sequence import Sequence
from egodepth.inference.odometry.motion_chain import Prepared, chain_poses, gap_of
from egodepth.inference.predict import FramePrediction
from egodepth.models.networks import Networks
from egodepth.runs.cameras import settings_of_footage
from egodepth.runs.checkpoint import read_run
from egodepth.runs.devices import choose_precision, torch_device
from egodepth.runs.folder import RunFolder, RunLike
from egodepth.runs.footage import open_footage
from egodepth.runs.not_finite import naming
from egodepth.runs.run import Run
from egodepth.settings.training import TrainSettings
from egodepth.training.augment import augment
from egodepth.training.batch import RawBatch, SnippetBatch
from egodepth.training.build import make_stream
from egodepth.training.held_out import BestWeights, HeldOutResult
from egodepth.training.module import EgodepthModule
from egodepth.training.objective import ObjectiveResult, depth_loss
from egodepth.training.run import TrainResult, train
from egodepth.training.snippets import SnippetStream


@dataclass(frozen=True)
class SampleRefinement:
    """Settings for refining each frame on its own.

    Attributes:
        iterations: optimizer steps on the frame's snippet; 20 in the paper.
        learning_rate: learning rate of Adam.
    """

    iterations: int = 20
    learning_rate: float = 1e-4

    def __str__(self) -> str:
        return f"refined on each test frame by {self.iterations} iterations"


def refine_samples(
    folder: RunLike,
    sequence: Sequence,
    refinement: SampleRefinement,
    *,
    rig: list[Sequence] | None = None,
    frames: list[int] | None = None,
    device: str = "auto",
    on_frame: Callable[[HeldOutResult | None], None] = lambda _: None,
) -> Iterator[FramePrediction]:
    """Predict frames of a sequence, each with networks refined on that frame's snippet alone.

    The networks take ordinary training steps on the snippet (batch of one, no augmentation) with the run's own
    objective, without L_fm if the run has no FeatureNet (as on the hub); then the run's weights are restored.
    Batch normalisation keeps its statistics, since a single snippet gives no better ones. The first and the
    last frame use the snippet of their neighbour.

    As a check, held-out frames two strides away are warped into the frame before and after the refinement,
    with its depth and the motion that fits best; if this loss does not fall, the frame keeps the run's depth.
    If rotation dominates the camera's motion, motions are aligned to the depth in every iteration: PoseNet
    cannot learn the motions of this camera from a single snippet.

    Args:
        folder: run folder.
        sequence: footage to predict, with its own camera or the one it was opened with (``Run.open`` with
            ``fov`` or ``camera``), else the run's camera.
        refinement: iterations and learning rate.
        rig: sequences that include the other camera of the rig, for a run whose sources need it.
        frames: positions of the frames to predict, ascending, without poses; by default all, with poses.
        device: auto, cpu, cuda or cuda:N.
        on_frame: called after each frame with the held-out losses before and after; with None where the
            footage is too short to hold frames out.

    Raises:
        EgodepthError: no run, a run without DepthNet, footage without the sources that the run needs, or
            broken frames.
    """
    folder = RunFolder.to_use(folder)
    settings, networks = _load(folder)
    if networks.depth is None:
        raise EgodepthError(f"{folder} was trained with method features: it predicts no depth")
    place = torch_device(device)
    bf16 = choose_precision(settings.precision, place.type) == "bf16"
    networks.to(place).to(memory_format=torch.channels_last)
    run = Run(folder, settings.model, networks.depth, networks.pose).to(str(place))
    partners = [s for s in rig or [] if sequence.rig and s.rig == sequence.rig]
    footage = open_footage(folder, [sequence, *(s for s in partners if s.name != sequence.name)])
    sequence = footage[0]
    gap = gap_of(sequence.frames, run.motion_gap) if run.has_motion else 1
    settings, near, wide = _make_streams(settings, footage, gap)
    # Skips the first phase of a training: with zero steps, progress is at its end.
    module = EgodepthModule(settings, networks, Schedule(0))
    refined = _refined_frames(
        run, module, sequence, frames, near, wide, refinement, on_frame, bf16=bf16
    )
    if frames is not None or not run.has_motion:
        yield from (FramePrediction(item.frame, item.result, None) for item in refined)
        return
    # The motion of a pair is predicted by the networks refined on its later frame.
    for item, pose in chain_poses(refined, gap, run.motions_of_frames):
        yield FramePrediction(item.frame, item.result, pose)


def _make_streams(
    settings: TrainSettings, footage: list[Sequence], gap: int
) -> tuple[TrainSettings, SnippetStream, SnippetStream | None]:
    """Make the settings of the refinement, its snippets, and the held-out snippets: the same targets with
    sources twice as far away in time; None without temporal sources or where the footage is too short.

    Args:
        settings: settings of the run.
        footage: the sequence, and the other camera of its rig.
        gap: frames between the two images of PoseNet's training pairs.
    """
    data = settings.data
    settings, stream, _ = make_stream(
        settings.changed(batch_size=1, data=data.changed(stride=gap)),
        footage,
    )
    clips = stream.clips
    if data.directions and data.poses != "given" and survey(clips[0], gap).turn >= TURNING:
        stride = survey(clips[0]).stride
        clips = [replace(clip, stride=stride) for clip in clips]
        # The losses that fix the free scale in a training would pull depth away from the run's unit.
        loss = settings.loss.changed(scale=0.0, consistency=0.0)
        settings = settings.changed(loss=loss, data=settings.data.changed(poses="aligned"))
        stream = _snippets(clips, settings)
    if not data.directions:
        return settings, stream, None
    try:
        wide = _snippets([replace(clip, stride=2 * clip.stride) for clip in clips], settings)
    except EgodepthError:
        return settings, stream, None
    return settings, stream, wide


def _snippets(clips: list[Clip], settings: TrainSettings) -> SnippetStream:
    data = settings.data
    return SnippetStream(
        clips, directions=data.directions, partner=data.partner, batch_size=1, seed=settings.seed
    )


def _refined_frames(
    run: Run,
    module: EgodepthModule,
    sequence: Sequence,
    frames: list[int] | None,
    near: SnippetStream,
    wide: SnippetStream | None,
    refinement: SampleRefinement,
    on_frame: Callable[[HeldOutResult | None], None],
    *,
    bf16: bool,
) -> Iterator[Prepared[np.ndarray]]:
    """Yield frames with their depth; at each, the networks are the ones refined on that frame."""
    networks = module.networks
    start = {name: value.clone() for name, value in networks.state_dict().items()}
    source = sequence.frames
    positions = range(len(source)) if frames is None else frames
    shown = progress.track(source.at(frames), f"refining {sequence.name}", len(positions))
    for index, frame in zip(positions, shown, strict=False):
        networks.load_state_dict(start)
        raw = near.snippet_near(0, index).to(run.device)
        held_out = None
        if wide is not None:
            held_out = augment(wide.snippet_near(0, index).to(run.device), 0, enabled=False)
        networks.use_bf16(bf16)
        found = _refine(module, raw, held_out, refinement)
        networks.use_bf16(False)
        on_frame(found)
        image = run.prepare(frame.image)
        with naming(frame):
            depth = run.depth_of_frames(image[None], *frame.image.shape[:2])[0]
        yield Prepared(frame, image, depth)


def _refine(
    module: EgodepthModule,
    raw: RawBatch,
    held_out: SnippetBatch | None,
    refinement: SampleRefinement,
) -> HeldOutResult | None:
    """Refine the networks on a snippet; returns the held-out losses, None where nothing is held out. Uses the
    training's forward pass and gradient clipping, but no trainer: setting one up for every frame would take
    longer than the iterations."""
    networks = module.networks
    parameters = [p for p in networks.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=refinement.learning_rate)
    best = BestWeights()
    try:
        for step in range(refinement.iterations + 1):
            _, result = module(replace(raw, step=step))
            # In between, the held-out loss is less reliable: depth first follows PoseNet's errors.
            if held_out is not None and step in (0, refinement.iterations):
                best.look(step, _held_out_loss(module, held_out, result), networks)
            if step < refinement.iterations:
                optimizer.zero_grad()
                result.total.backward()
                module.configure_gradient_clipping(optimizer)
                optimizer.step()
    except NonFiniteError as error:
        if not best.weights:
            raise EgodepthError(f"{error}: lower --learning_rate") from error
    if held_out is None:
        return None
    networks.load_state_dict(best.weights)
    return best.result


def _held_out_loss(module: EgodepthModule, batch: SnippetBatch, near: ObjectiveResult) -> float:
    """L_ph of the held-out frames two strides away; their motion is initialized as twice the snippet's."""
    start = None
    if module.networks.pose is not None and near.motions is not None:
        motions = near.motions[: len(module.settings.data.directions)].detach()
        start = motions @ motions
    return float(depth_loss(module.networks, batch, module.settings, start))


def refine_split(
    folder: RunLike,
    source: str,
    sequences: list[Sequence],
    out: Path,
    *,
    epochs: float = 20.0,
    learning_rate: float = 1e-4,
    device: str = "auto",
) -> TrainResult:
    """Continue training a run on all frames of the test footage, as the published code does.

    Args:
        folder: run folder to start from.
        source: name of the footage; stored with the new run, and in all its scores.
        sequences: the footage, with cameras as in :func:`refine_samples`.
        out: run folder to make.
        epochs: passes over the snippets.
        learning_rate: initial learning rate, halved after half of the epochs.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        EgodepthError: as :func:`egodepth.training.run.train`.
    """
    run = RunFolder.to_use(folder)
    settings, known = run.settings(), settings_of_footage(run)
    sequences = open_footage(run, list(sequences))
    data: dict[str, Any] = {
        "sources": (source,), "root": None, "split": None, "dense_labels": True
    }  # fmt: skip
    if settings.data.poses != "given" or any(s.world_from_camera is None for s in sequences):
        # The run's own footage says nothing about how this camera moves.
        data |= {"poses": "auto", "stride": "auto"}
    data |= _camera_settings(sequences, out)
    refined = settings.changed(
        recipe="refined",
        device=device,
        init=run.path,
        data=known.changed(**data),
        loss=settings.loss.changed(coarse=0.0),
        epochs=epochs,
        minutes=None,
        learning_rate=learning_rate,
        decoder_rate=1.0,
        schedule="one_cycle",
    )
    note = f"refined on all frames of {source} for {epochs:g} epochs"
    return train(refined, out, sequences=sequences, refined=note)


def _camera_settings(sequences: list[Sequence], out: Path) -> dict[str, Any]:
    """Camera settings that a resumed refinement needs if the footage was opened with a camera: the field of
    view, or the camera file in the new run."""
    opened = [s for s in sequences if s.place and s.camera_from in ("fov", "given") and s.camera]
    if not opened or opened[0].camera is None:
        return {}
    camera = opened[0].camera
    if opened[0].camera_from == "given":
        return {"camera": RunFolder.to_make(out).camera, "fov": None, "focal": None}
    fov = 2 * math.degrees(math.atan(camera.width / 2 / float(camera.matrix[0, 0])))
    return {"camera": None, "fov": round(fov, 4), "focal": None}


def _load(run: RunFolder) -> tuple[TrainSettings, Networks]:
    """Load the settings for refining single samples, and all networks of the run in evaluation mode."""
    _, networks = read_run(run)
    settings = run.settings()
    # The split belongs to the training footage, not to the footage refined on. Known poses need
    # whole videos; a sample is one snippet.
    poses = "network" if settings.data.refines_poses else settings.data.poses
    data = settings.data.changed(split=None, poses=poses, augment=False)
    return settings.changed(data=data), networks
