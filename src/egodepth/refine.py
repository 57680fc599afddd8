"""Online refinement: the training's own losses on the very frames that are predicted (paper, 3.5)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from egodepth.core import config
from egodepth.data.sequence import Sequence
from egodepth.data.snippets import SnippetStream, augment
from egodepth.inference.motion_chain import Prepared, chain_poses, gap_of
from egodepth.inference.predict import FramePrediction
from egodepth.inference.run import Run
from egodepth.models.checkpoint import CONFIG, read_run
from egodepth.models.networks import Networks
from egodepth.training.objective import compute_objective
from egodepth.training.run import (
    TrainResult,
    build_networks,
    choose_device,
    choose_precision,
    make_stream,
    settings_of_footage,
    train,
    with_camera,
)
from egodepth.training.settings import TrainSettings


@dataclass(frozen=True)
class SampleRefinement:
    """How each frame is refined.

    Attributes:
        iterations: optimizer steps on the frame's snippet; the paper's are 20.
        learning_rate: of Adam.
    """

    iterations: int = 20
    learning_rate: float = 1e-4

    def __str__(self) -> str:
        return f"refined on each test frame by {self.iterations} iterations"


def refine_samples(
    folder: Path,
    sequence: Sequence,
    how: SampleRefinement,
    *,
    rig: list[Sequence] | None = None,
    frames: list[int] | None = None,
    device: str = "auto",
) -> Iterator[FramePrediction]:
    """Predict frames of a sequence, each by networks that were refined on its own snippet alone.

    The snippet (batch of one, no augmentation) is trained on with the run's own objective; then the
    weights go back to the run's. Batch normalisation keeps its statistics, since one snippet has no
    better ones. The first and last frame are refined by their neighbour's snippet.

    Args:
        folder: run folder.
        sequence: footage to predict.
        how: iterations and learning rate.
        rig: where to find the other camera, for a run whose sources need it.
        frames: positions to predict, ascending, without poses; by default all, with poses.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        EgodepthError: no run, footage without what the run's sources need, or broken frames.
    """
    settings, networks = _load(folder)
    accelerator, devices = choose_device(device)
    place = torch.device("cpu" if accelerator == "cpu" else f"cuda:{devices[0]}")
    bf16 = choose_precision(settings.precision, accelerator).startswith("bf16")
    networks.to(place).to(memory_format=torch.channels_last)
    partners = [s for s in rig or [] if sequence.rig and s.rig == sequence.rig]
    footage = [sequence, *(s for s in partners if s.name != sequence.name)]
    settings, stream, _ = make_stream(
        settings.model_copy(update={"batch_size": 1}),
        [with_camera(s, settings_of_footage(folder)) for s in footage],
        Console(quiet=True),
    )
    assert networks.depth is not None
    run = Run(folder, settings.model, networks.depth, networks.pose).to(str(place))
    refined = _refined_frames(run, networks, sequence, frames, stream, settings, how, bf16=bf16)
    if frames is not None or not run.has_motion:
        unknown = np.full((4, 4), np.nan)
        yield from (FramePrediction(item.frame, item.result, unknown) for item in refined)
        return
    # A pair is asked for when its later frame has come, by the networks refined on that frame.
    gap = gap_of(sequence.frames, run.motion_gap)
    for item, pose in chain_poses(refined, gap, run.motions_of_frames):
        yield FramePrediction(item.frame, item.result, pose)


def _refined_frames(
    run: Run,
    networks: Networks,
    sequence: Sequence,
    frames: list[int] | None,
    stream: SnippetStream,
    settings: TrainSettings,
    how: SampleRefinement,
    *,
    bf16: bool,
) -> Iterator[Prepared[np.ndarray]]:
    """Frames with their depth, while the networks are those refined on the frame."""
    start = {name: value.clone() for name, value in networks.state_dict().items()}
    place, source = run.device, sequence.frames
    for index, frame in zip(
        range(len(source)) if frames is None else frames, source.at(frames), strict=False
    ):
        raw = stream.snippet_near(0, index).to(place)
        batch = augment(raw, 0, enabled=False)
        networks.load_state_dict(start)
        parameters = [p for p in networks.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=how.learning_rate)
        for _ in range(how.iterations):
            with torch.autocast(place.type, torch.bfloat16, enabled=bf16):
                # Nothing of the first phase of a training is wanted here: progress is at its end.
                result = compute_objective(networks, batch, settings, progress=1.0)
            optimizer.zero_grad()
            result.total.backward()
            torch.nn.utils.clip_grad_norm_(parameters, settings.gradient_clip)
            optimizer.step()
        image = run.prepare(frame.image)
        yield Prepared(frame, image, run.depth_of_frames(image[None], *frame.image.shape[:2])[0])


def refine_split(
    folder: Path,
    source: str,
    sequences: list[Sequence],
    out: Path,
    *,
    epochs: float = 20.0,
    learning_rate: float = 1e-4,
    device: str = "auto",
    console: Console | None = None,
) -> TrainResult:
    """Go on training a run over all frames of the test footage, as the published code does.

    Args:
        folder: run folder to start from.
        source: what the footage is called; kept with the new run, and in all its scores.
        sequences: the footage.
        out: run folder to make.
        epochs: passes over its snippets.
        learning_rate: halved after half of them.
        device: auto, cpu, cuda or cuda:N.
        console: where progress goes; by default standard error.

    Raises:
        EgodepthError: as :func:`egodepth.training.run.train`.
    """
    settings = config.load(TrainSettings, folder / CONFIG)
    data = {"sources": (source,), "root": None, "split": None}
    if settings.data.poses == "network":
        # The run's own footage says nothing of how this camera moves.
        data |= {"poses": "auto", "stride": "auto"}
    refined = settings.model_copy(
        update={
            "recipe": "refined",
            "device": device,
            "init": folder,
            "data": settings.data.model_copy(update=data),
            "loss": settings.loss.model_copy(update={"coarse": 0.0}),
            "epochs": epochs,
            "minutes": None,
            "learning_rate": learning_rate,
            "schedule": "one_cycle",
        }
    )
    note = f"refined on all frames of {source} for {epochs:g} epochs"
    known = settings_of_footage(folder)
    footage = [with_camera(sequence, known) for sequence in sequences]
    return train(refined, out, sequences=footage, refined=note, console=console)


def _load(folder: Path) -> tuple[TrainSettings, Networks]:
    """A run's settings and networks in evaluation mode, with a frozen FeatureNet where it has one."""
    read_run(folder)  # says what is wrong with a folder that is no run
    settings = config.load(TrainSettings, folder / CONFIG)
    # The split is of what was trained on, not of what is refined on. Structure from motion sees whole
    # videos, a sample is one snippet.
    poses = "network" if settings.data.poses == "sfm" else settings.data.poses
    data = settings.data.model_copy(update={"split": None, "poses": poses})
    settings = settings.model_copy(update={"data": data})
    networks = build_networks(settings.model_copy(update={"init": folder}))
    if settings.method == "frozen" and networks.features is not None:
        networks.features.requires_grad_(False)
    return settings, networks.eval()
