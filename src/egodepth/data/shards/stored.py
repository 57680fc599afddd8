"""Clips as shards store them: frames and labels in chunks, everything else in one file per unit."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import cv2
import numpy as np
import torch

from egodepth.core.errors import EgodepthError
from egodepth.data.preparation.clips import Clip, KnownMotion, SparsePoints
from egodepth.data.preparation.survey import Survey
from egodepth.data.sequence import ChangedFrames, Frame, Frames, Sequence, place_of_number
from egodepth.data.shards.chunks import Chunks
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Lens, Undistortion

VERSION = 1
"""Version of the format; raise it when older shards can no longer be read."""
CODECS = ("cache", "jpeg")
"""Forms of frames: the bytes of the local cache (3, H, W), or JPEG files."""


def encode(frame: np.ndarray, codec: str, quality: int) -> bytes:
    """Serialize a frame (3, H, W) uint8."""
    if codec == "cache":
        return frame.tobytes()
    image = np.ascontiguousarray(frame[::-1].transpose(1, 2, 0))
    options = [
        cv2.IMWRITE_JPEG_QUALITY, quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]  # fmt: skip
    return cv2.imencode(".jpg", image, options)[1].tobytes()


def decode(content: memoryview, codec: str, height: int, width: int) -> np.ndarray:
    """Read a frame (3, H, W) uint8.

    Raises:
        EgodepthError: broken content.
    """
    if codec == "cache":
        return np.frombuffer(content, np.uint8).reshape(3, height, width)
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None or image.shape[:2] != (height, width):
        raise EgodepthError(f"a frame in the shards is no JPEG of {width}x{height}; shard again")
    return image.transpose(2, 0, 1)[::-1]


class StoredFrames:
    """Frames of a clip at training size, read from chunks as they are asked for; stands for the memory map of
    a local cache.

    Attributes:
        shape: (N, 3, h, w), or (N, 2, h, w) of dense labels.
        homes: (N,) chunk that holds all frames of the snippets with this target.
        known: (N,) which frames have labels, of dense labels; None of frames.
        chunks: the chunks.
    """

    def __init__(
        self,
        chunks: Chunks,
        homes: np.ndarray,
        items: np.ndarray,
        copies: Mapping[int, list[tuple[int, int]]],
        shape: tuple[int, int, int, int],
        codec: str,
        known: np.ndarray | None = None,
    ):
        """Args:
        chunks: the chunks.
        homes, shape, known: see the class.
        items: (N,) item of each frame in its home.
        copies: other chunks and items that hold the frame of a position.
        codec: form of the frames.
        """
        self.shape, self.homes, self.known = shape, homes, known
        self.chunks, self._items, self._copies, self._codec = chunks, items, copies, codec

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        if isinstance(index, tuple):
            found: np.ndarray = self[index[0]][index[1:]]
            return found
        if isinstance(index, slice):
            index = range(*index.indices(len(self)))
        if isinstance(index, int | np.integer):
            return self._one(int(index))
        return np.stack([self._one(int(i)) for i in index])

    def _one(self, position: int) -> np.ndarray:
        _, channels, height, width = self.shape
        if self.known is not None and not self.known[position]:
            return np.zeros((channels, height, width), np.float16)
        place = (int(self.homes[position]), int(self._items[position]))
        if not self.chunks.is_near(place[0]):
            # Frames at the ends of a chunk are in its neighbour, too.
            near = (p for p in self._copies.get(position, ()) if self.chunks.is_near(p[0]))
            place = next(near, place)
        values = self.chunks.item(*place)
        if self.known is None:
            return decode(values[2], self._codec, height, width)
        return np.frombuffer(bytes(values[3]), np.float16).reshape(channels, height, width)


@dataclass(frozen=True)
class StoredClip:
    """What was found when a clip was sharded.

    Attributes:
        clip: the clip; its frames are :class:`StoredFrames`, its sequence has :class:`ShardFrames`.
        poses: source of ``clip.motion``; ``network`` or ``aligned`` if there is none.
        survey: result of its survey; None without one.
    """

    clip: Clip
    poses: str
    survey: Survey | None


class ShardFrames:
    """Frames of footage that is there as shards alone: their numbers and times, at the size of the footage.

    Attributes:
        stored: the clip of this footage.
        made: what its shards are and how they were made.
    """

    seekable = True

    def __init__(self, facts: dict[str, Any], numbers: np.ndarray, times: np.ndarray | None):
        self.height, self.width = facts["height"], facts["width"]
        self.fingerprint, self.numbers, self.times = facts["fingerprint"], numbers.tolist(), times
        self.stored: StoredClip | None = None
        self.made: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        """Refuse to read: shards have the frames at the size of one training alone.

        Raises:
            EgodepthError: always.
        """
        refuse_frames()


def refuse_frames() -> NoReturn:
    """Refuse what needs the footage itself.

    Raises:
        EgodepthError: always.
    """
    raise EgodepthError(
        "shards hold frames at the size of a training alone, for egodepth train; name the footage itself"
    )


def stored_clip(sequence: Sequence) -> StoredClip | None:
    """The clip of a sequence from shards; None for other footage."""
    frames = shard_frames(sequence)
    return None if frames is None else frames.stored


def shard_frames(sequence: Sequence) -> ShardFrames | None:
    """The frames of a sequence from shards; None for other footage."""
    frames: Frames = sequence.frames
    if isinstance(frames, ChangedFrames):
        frames = frames.original
    return frames if isinstance(frames, ShardFrames) else None


def pack_clip(
    clip: Clip, poses: str, survey: Survey | None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Facts and arrays of a clip, without its frames and labels."""
    sequence, frames = clip.sequence, clip.sequence.frames
    assert sequence.camera is not None
    facts: dict[str, Any] = {
        "name": sequence.name, "place": sequence.place, "rig": sequence.rig,
        "camera_name": sequence.camera_name, "camera_from": sequence.camera_from,
        "camera_note": sequence.camera_note, "metric_poses": sequence.metric_poses,
        "height": frames.height, "width": frames.width, "fingerprint": frames.fingerprint,
        "camera": _camera_facts(sequence.camera), "trained_camera": _camera_facts(clip.camera),
        "stride": clip.stride, "poses": poses,
    }  # fmt: skip
    if isinstance(frames, ChangedFrames) and isinstance(frames.change, Undistortion):
        lens = frames.change.lens
        facts["lens"] = [lens.model, *lens.coefficients]
        facts["distorted"] = _camera_facts(frames.change.distorted_camera)
    places = place_of_number(frames)
    kept = [places[int(number)] for number in clip.numbers]  # a video's broken frames are gone
    arrays = {
        "numbers": np.asarray(clip.numbers), "rig_from_camera": sequence.rig_from_camera,
        "excluded": np.array(sorted(clip.excluded_pairs), np.int64).reshape(-1, 2),
    }  # fmt: skip
    if frames.times is not None:
        arrays["times"] = np.asarray(frames.times)[kept]
    if sequence.world_from_camera is not None:
        arrays["given"] = sequence.world_from_camera[kept]
    if clip.static is not None:
        arrays["static"] = np.packbits(clip.static)
    if clip.targets is not None:
        arrays["targets"] = np.array(sorted(clip.targets), np.int64)
    if survey is not None:
        facts |= {"parallax": survey.parallax, "turn": survey.turn}
    if clip.motion is not None:
        points = clip.motion.points
        arrays |= {
            "world_from_camera": clip.motion.world_from_camera, "part": clip.motion.part,
            "with_points": np.array(list(points), np.int64),
            "point_counts": np.array([len(p.inverse_depth) for p in points.values()], np.int64),
            "pixels": np.concatenate([np.zeros((0, 2)), *(p.pixels for p in points.values())]),
            "inverse_depth": np.concatenate([np.zeros(0), *(p.inverse_depth for p in points.values())]),
        }  # fmt: skip
    return facts, arrays


def unpack_clip(
    facts: dict[str, Any],
    arrays: dict[str, np.ndarray],
    frames: StoredFrames,
    dense: StoredFrames | None,
    made: dict[str, Any],
) -> Sequence:
    """The sequence of a stored clip, see :func:`stored_clip`."""
    numbers, times = arrays["numbers"], arrays.get("times")
    shown = ShardFrames(facts, numbers, times)
    own: Frames = shown
    if "lens" in facts:
        model, *coefficients = facts["lens"]
        own = ChangedFrames(
            shown,
            Undistortion(
                _camera(facts["distorted"]),
                Lens(model, tuple(coefficients)),
                _camera(facts["camera"]),
            ),
        )
    sequence = Sequence(
        facts["name"], own, _camera(facts["camera"]), arrays.get("given"),
        camera_name=facts["camera_name"], rig=facts["rig"], rig_from_camera=arrays["rig_from_camera"],
        camera_from=facts["camera_from"], metric_poses=facts["metric_poses"], place=facts["place"],
        camera_note=facts["camera_note"],
    )  # fmt: skip
    static = None
    if "static" in arrays:
        height, width = frames.shape[2:]
        static = np.unpackbits(arrays["static"])[: height * width].reshape(height, width) > 0
    targets = frozenset(arrays["targets"].tolist()) if "targets" in arrays else None
    clip = Clip(
        sequence, frames, numbers, _camera(facts["trained_camera"]), facts["stride"],  # type: ignore[arg-type]
        frozenset(map(tuple, arrays["excluded"].tolist())), _motion(arrays), targets, static,
        dense,  # type: ignore[arg-type]
    )  # fmt: skip
    survey = None
    if "parallax" in facts:
        survey = Survey(facts["stride"], facts["parallax"], facts["turn"], frozenset(), frozenset())
    shown.made = made
    shown.stored = StoredClip(clip, facts["poses"], survey)
    return sequence


def _motion(arrays: dict[str, np.ndarray]) -> KnownMotion | None:
    if "part" not in arrays:
        return None
    ends = np.cumsum(arrays["point_counts"])
    points = {
        int(position): SparsePoints(
            arrays["pixels"][end - size : end], arrays["inverse_depth"][end - size : end]
        )
        for position, end, size in zip(
            arrays["with_points"], ends, arrays["point_counts"], strict=True
        )
    }
    return KnownMotion(arrays["world_from_camera"], arrays["part"], points)


def _camera_facts(camera: Camera) -> dict[str, Any]:
    kind = str(camera.matrix.dtype).removeprefix("torch.")
    return {
        "matrix": camera.matrix.tolist(), "height": camera.height, "width": camera.width, "dtype": kind
    }  # fmt: skip


def _camera(facts: dict[str, Any]) -> Camera:
    matrix = torch.tensor(facts["matrix"], dtype=getattr(torch, facts["dtype"]))
    return Camera(matrix, facts["height"], facts["width"])


def to_bytes(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """Serialize facts and arrays of a unit."""
    file = io.BytesIO()
    np.savez_compressed(file, facts=np.array(json.dumps(facts)), **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def facts_from_bytes(content: bytes) -> dict[str, Any]:
    """Read the facts alone of what :func:`to_bytes` wrote."""
    with np.load(io.BytesIO(content)) as stored:
        found: dict[str, Any] = json.loads(str(stored["facts"]))
    return found


def from_bytes(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what :func:`to_bytes` wrote."""
    with np.load(io.BytesIO(content)) as stored:
        arrays = dict(stored)
    return json.loads(str(arrays.pop("facts"))), arrays
