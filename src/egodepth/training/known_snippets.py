"""Snippets with known depth and motion, of frames with ground truth."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy import ndarray
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from scipy.spatial import QhullError
from torch import Tensor

from egodepth.core.errors import EgodepthError
from egodepth.data.footage.frame_cache import resize_frame
from egodepth.data.sequence import Sequence, place_of_number
from egodepth.evaluation.depth import TRUTHS, DepthProtocol, crop_mask
from egodepth.evaluation.landscape import texture
from egodepth.settings.training import TrainSettings
from egodepth.training.batch import SnippetBatch
from egodepth.training.snippets import find_partner

MIN_PARALLAX = 0.1
"""Parallax in pixels, at the median depth, below which the sources say nothing about depth."""
MIN_PIXELS = 30
"""Smallest number of pixels with ground truth that a frame is judged by."""


@dataclass(frozen=True)
class KnownSnippet:
    """One target frame with its sources, true motions and true depth.

    Attributes:
        batch: target and sources, a batch of one.
        motions: (S, 1, 4, 4) ``source_from_target`` in metres.
        inverse_depth: (1, 1, H, W) in 1/metres, filled in where there is no ground truth.
        judged: (H, W) bool, pixels with ground truth that the protocol scores.
        texture: (H, W), see :func:`egodepth.evaluation.landscape.texture`.
        name: number of the frame and name of its sequence.
    """

    batch: SnippetBatch
    motions: Tensor
    inverse_depth: Tensor
    judged: ndarray
    texture: ndarray
    name: str


@dataclass(frozen=True)
class _Place:
    """A target and its sources: the sequence and position of each, and source_from_target."""

    target: int
    sources: list[tuple[Sequence, int]]
    motions: ndarray


def find_known_snippets(
    sequences: list[Sequence],
    settings: TrainSettings,
    protocol: DepthProtocol,
    frames: tuple[int, ...] = (),
    count: int = 12,
) -> list[KnownSnippet]:
    """Snippets of frames with ground truth, at the size, stride and views of the settings.

    Args:
        sequences: footage with camera, depth and poses.
        settings: model.height, model.width, data.stride and data.views are used.
        protocol: which cameras, ground truth, crop and range of depth count.
        frames: numbers of the targets; by default ``count`` of each sequence, evenly spread.
        count: see ``frames``.

    Raises:
        EgodepthError: no such frames, or none with ground truth and sources.
    """
    stride = settings.data.stride
    if stride == "auto":
        raise EgodepthError(
            "the true depth is compared at a known stride, not at data.stride auto: add data.stride=N, frames "
            "from the target to its sources"
        )
    found: list[KnownSnippet] = []
    reasons: list[str] = []
    for index, sequence in enumerate(sequences):
        if sequence.camera_name not in protocol.cameras:
            continue
        numbers = sequence.frames.numbers
        targets = [numbers.index(n) for n in frames if n in numbers]
        problem = _lacks(sequence, protocol)
        if problem or (frames and not targets):
            reasons.append(f"{sequence.name} has {problem or f'no frame {frames[0]}'}")
            continue
        truth = sequence.ground_truth(protocol.truth)
        placed = [
            _place(sequences, index, target, stride, settings)
            if target in truth
            else f"frame {numbers[target]} of {sequence.name} has no ground-truth depth"
            for target in targets or sorted(truth)
        ]
        complete = [place for place in placed if isinstance(place, _Place)]
        if not frames and complete:
            chosen = np.linspace(0, len(complete) - 1, min(count, len(complete))).round()
            placed = [complete[int(i)] for i in chosen]
        for place in placed:
            snippet = (
                place if isinstance(place, str) else _read(sequence, place, settings, protocol)
            )
            if isinstance(snippet, KnownSnippet):
                found.append(snippet)
            elif frames:
                raise EgodepthError(f"{snippet}; name another with --frames")
            else:
                reasons.append(snippet)
    present = {n for s in sequences for n in s.frames.numbers}
    absent = [n for n in frames if n not in present]
    if not found or absent:
        why = f"there is no frame {absent[0]}" if absent else "; ".join(dict.fromkeys(reasons))
        names = ", ".join(f"{s.name} ({s.camera_name})" for s in sequences[:6])
        raise EgodepthError(
            f"no true depth to compare with in {names}: {why[:300]}; it takes {TRUTHS[protocol.truth]}, and "
            f"poses in metres of the frame and of its sources, {stride} frames away"
        )
    return found


def _lacks(sequence: Sequence, protocol: DepthProtocol) -> str:
    """What a sequence lacks for its depth to be judged, in words; empty if nothing."""
    if not sequence.ground_truth(protocol.truth):
        return "no ground-truth depth"
    if sequence.camera is None:
        return "no camera"
    if sequence.world_from_camera is None:
        return "no poses"
    if not sequence.metric_poses:
        return "poses in an unknown unit (poses_unit: metres in its camera.yaml says that they are in metres)"
    return ""


def _place(
    sequences: list[Sequence], index: int, target: int, stride: int, settings: TrainSettings
) -> _Place | str:
    """The sources of a target, or in words why there are none."""
    sequence = sequences[index]
    positions = place_of_number(sequence.frames)
    number, poses = sequence.frames.numbers[target], sequence.world_from_camera
    assert poses is not None
    sources, motions = [], []
    for direction in settings.data.directions:
        wanted = number + direction * stride
        source = positions.get(wanted)
        if source is None:
            return f"frame {number} of {sequence.name} has no source: there is no frame {wanted}"
        if not np.isfinite(poses[[target, source]]).all():
            return f"frame {number} of {sequence.name}, or its source {wanted}, has no pose"
        sources.append((sequence, source))
        motions.append(np.linalg.inv(poses[source]) @ poses[target])
    if settings.data.partner:
        partner = sequences[find_partner(sequences, index)]
        if number not in partner.frames.numbers:
            return f"frame {number} of {partner.name} is missing"
        sources.append((partner, partner.frames.numbers.index(number)))
        motions.append(np.linalg.inv(partner.rig_from_camera) @ sequence.rig_from_camera)
    return _Place(target, sources, np.array(motions))


def _read(
    sequence: Sequence, place: _Place, settings: TrainSettings, protocol: DepthProtocol
) -> KnownSnippet | str:
    """Read a snippet; return the reason in words if it cannot be judged."""
    height, width = settings.model.height, settings.model.width
    assert sequence.camera is not None
    camera = sequence.camera.resize(height, width)
    name = f"{sequence.frames.numbers[place.target]} of {sequence.name}"
    truth = _resized(sequence.ground_truth(protocol.truth)[place.target](), height, width)
    limit = np.inf if protocol.beyond else protocol.max_depth
    known = truth > 0
    judged = known & (truth > protocol.min_depth) & (truth < limit)
    judged &= crop_mask(protocol.crop, height, width)
    if judged.sum() < MIN_PIXELS:
        return f"frame {name} has ground truth in range at {judged.sum()} pixels"
    inverse = np.zeros_like(truth)
    inverse[known] = 1 / truth[known]
    moved = np.linalg.norm(place.motions[:, :3, 3], axis=1).max()
    parallax = float(camera.matrix[0, 0]) * moved * float(np.median(inverse[judged]))
    if parallax < MIN_PARALLAX:
        return f"the camera hardly moves at frame {name}: the parallax is {parallax:.2g} pixels"
    images = [
        resize_frame(next(footage.frames.at([index])).image, height, width)
        for footage, index in [(sequence, place.target), *place.sources]
    ]
    tensors = [torch.from_numpy(i.copy()).permute(2, 0, 1)[None].float() / 255 for i in images]
    target, sources = tensors[0], torch.stack(tensors[1:])
    motions = torch.from_numpy(place.motions).float()[:, None]
    batch = SnippetBatch(
        target, sources, target, sources, type(camera)(camera.matrix.float()[None], height, width)
    )
    filled = torch.from_numpy(fill_in(inverse))[None, None]
    return KnownSnippet(
        batch, motions, filled, judged, texture(images[0].astype(np.float64) / 255), name
    )


def _resized(depth: ndarray, height: int, width: int) -> ndarray:
    """Depth (H, W) at another size: that of the point next to each pixel's centre, 0 for pixels without one.
    That of the nearest point, as in a z-buffer, would make the ground too near."""
    depth = np.where(np.isfinite(depth), depth, 0)
    rows, columns = np.nonzero(depth > 0)
    scale = np.array([width / depth.shape[1], height / depth.shape[0]])
    places = (np.column_stack([columns, rows]) + 0.5) * scale - 0.5
    pixels = places.round().astype(int).clip(0, [width - 1, height - 1])
    farthest_first = np.argsort(-np.linalg.norm(places - pixels, axis=1), kind="stable")
    result = np.zeros((height, width), np.float32)
    x, y = pixels[farthest_first].T
    result[y, x] = depth[rows, columns][farthest_first]  # the last one of a pixel stays
    return result


def fill_in(inverse_depth: ndarray) -> ndarray:
    """Fill in unknown (zero) inverse depth (H, W): linearly between known pixels, exact for planes, and
    elsewhere with that of the nearest known one."""
    unknown = inverse_depth <= 0
    if not unknown.any():
        return inverse_depth
    # Only known pixels next to unknown ones matter; dense depth has many others.
    rows, columns = np.nonzero(
        ~unknown & (cv2.dilate(unknown.astype(np.uint8), np.ones((3, 3))) > 0)
    )
    points, values = np.column_stack([rows, columns]), inverse_depth[rows, columns]
    wanted = np.argwhere(unknown)
    filled = NearestNDInterpolator(points, values)(wanted)
    try:
        between = LinearNDInterpolator(points, values)(wanted)
        filled = np.where(np.isfinite(between), between, filled)
    except QhullError:
        pass  # all known pixels on one line
    result = inverse_depth.copy()
    result[unknown] = filled
    return result
