"""Confidence learned at the end of a training, with the trained DepthNet as it is: from exact depth in rendered
worlds, from labels by many views, or from how far the depths of neighbouring frames differ."""

import numpy as np
import torch

from egodepth.core import progress
from egodepth.geometry.warp import reproject, sample
from egodepth.models.networks import Networks
from egodepth.runs.confidence_fit import (
    MIN_KNOWN,
    STEPS,
    KnownFrame,
    learn_confidence,
    split_frames,
)
from egodepth.runs.folder import RunFolder
from egodepth.settings.training import TrainSettings
from egodepth.training.augment import augment
from egodepth.training.motion_alignment import motions_of_batch
from egodepth.training.snippet_parts import has_label
from egodepth.training.snippets import SnippetStream

STEPS_SHARE = 0.08
"""Most steps for the confidence, as a share of those of the training; one takes about half as long."""
MAX_FRAMES = 400
"""Most frames of footage that confidence is learned from."""
MAX_LOG_RATIO = 0.7
"""Depths of two frames that differ by more than this log ratio show different surfaces, one of them hidden."""


def learn_from_footage(
    networks: Networks,
    run: RunFolder,
    stream: SnippetStream,
    held_out: SnippetStream | None,
    settings: TrainSettings,
    training_steps: int,
) -> None:
    """Learn the confidence of a trained run from its footage, and write it: by labels from many views, or
    without any by the depths of neighbouring frames. It is calibrated on what depth did not learn from, where
    depth errs more. Errors that depth has learned from the labels do not show there either.

    Args:
        networks: networks with a DepthNet.
        run: run folder.
        stream: training snippets.
        held_out: snippets that depth did not learn from; None if there are none.
        settings: training settings.
        training_steps: steps of the training.
    """
    assert networks.depth is not None
    by_views = bool(frames := labelled_frames(stream))

    def known(part: SnippetStream) -> list[KnownFrame]:
        return labelled_frames(part) if by_views else neighbours_as_labels(networks, part, settings)

    frames = frames or known(stream)
    unseen = [] if held_out is None else known(held_out)
    init = None if settings.init is None else RunFolder.to_use(settings.init)
    learn_confidence(
        run, networks.depth, *((frames, unseen) if unseen else split_frames(frames)),
        confidence_steps(training_steps), init, settings.seed,
    )  # fmt: skip
    if run.confidence.exists():
        shared = "its labels" if by_views else "neighbouring frames, which do not show it"
        progress.note(
            f"deviations may be too small: depth shares errors with {shared}; calibrate the confidence on "
            f"other footage by: egodepth confidence {run} FOOTAGE"
        )


def confidence_steps(training_steps: int) -> int:
    """Number of steps for the confidence after a training."""
    return max(1, min(STEPS, round(STEPS_SHARE * training_steps)))


def labelled_frames(stream: SnippetStream) -> list[KnownFrame]:
    """Targets with the latest labels from many views, spread over the footage; empty without labels."""
    labels = [clip.dense for clip in stream.clips]
    if stream.label_rounds:
        labels = stream.label_rounds[-1].dense
    places = [
        (stream.clips[clip], dense, int(position))
        for clip, position in stream.targets
        if position % stream.clips[clip].stride == 0
        and (dense := labels[clip]) is not None
        and has_label(dense, position)
    ]
    chosen = places[:: -(-len(places) // MAX_FRAMES) or 1]
    frames = [
        KnownFrame(
            np.asarray(clip.frames[position]).transpose(1, 2, 0),
            np.asarray(dense[position, 0], np.float32),
        )
        for clip, dense, position in chosen
    ]
    return [frame for frame in frames if (frame.inverse_depth > 0).sum() >= MIN_KNOWN]


@torch.no_grad()
def neighbours_as_labels(
    networks: Networks, stream: SnippetStream, settings: TrainSettings
) -> list[KnownFrame]:
    """Frames with the depth that a neighbouring frame has where it shows the same surface. Depths of neighbours
    share errors, so that confidence learned from them is too high where a surface misleads from everywhere."""
    assert networks.depth is not None
    device, frames = next(networks.parameters()).device, []
    batches = stream.in_order(settings.batch_size)
    was_training = networks.training
    networks.eval()
    for raw in progress.track(batches, "comparing the depths of neighbours", unit="batches"):
        raw = raw.to(device)
        batch = augment(raw, 0, enabled=False)
        inverse = networks.depth(batch.target_input, scales=1)[0]
        motions, _ = motions_of_batch(networks, batch, inverse, settings)
        neighbour = 1 / networks.depth(batch.sources_input[0], scales=1)[0]
        camera = batch.camera.resize(*inverse.shape[-2:])
        pixels, projected, valid = reproject(1 / inverse[:, 0], motions[0], camera, camera)
        ratio = sample(neighbour, pixels)[:, 0] / projected
        valid &= ratio.log().abs() < MAX_LOG_RATIO
        known = torch.where(valid, inverse[:, 0] / ratio, 0).cpu().numpy()
        images = raw.frames[0].permute(0, 2, 3, 1).cpu().numpy()
        if known.shape[1:] == images.shape[1:3]:
            frames += [KnownFrame(*each) for each in zip(images, known, strict=True)]
        if len(frames) >= MAX_FRAMES:
            break
    networks.train(was_training)
    return [frame for frame in frames if (frame.inverse_depth > 0).sum() >= MIN_KNOWN]
