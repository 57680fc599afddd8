"""Predict depth and poses of a whole sequence in constant memory."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import cv2
import numpy as np

from egodepth.core import progress
from egodepth.core.colours import colourize_depth, colourize_deviation
from egodepth.core.errors import EgodepthError, require
from egodepth.core.files import atomic_path, write_json, write_text
from egodepth.core.outputs import OutputFolder
from egodepth.core.prefetch import in_background, prefetch
from egodepth.data.sequence import Frame, Sequence
from egodepth.inference.arguments import check_run, footage_of
from egodepth.inference.depth_stream import BATCH, Maps, depth_stream
from egodepth.inference.odometry.known_length import KNOWN_LENGTHS, KnownLength, LengthInView
from egodepth.inference.odometry.motion_chain import Prepared, chain_poses, gap_of
from egodepth.inference.odometry.motion_fit import fit_of_motions
from egodepth.inference.odometry.track import TrackingInterrupted, track_sequence
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.inference.odometry.unit import unit_by_view
from egodepth.inference.steady import SteadySettings
from egodepth.runs.destination import output_folder
from egodepth.runs.run import Run
from egodepth.runs.unit import OWN_UNIT, Unit

if TYPE_CHECKING:
    from egodepth.core.video import VideoWriter

PREDICTION = "prediction"
"""Kind of output, for :class:`OutputFolder`."""
Motion = Literal["auto", "network", "alignment"]
MOTIONS: tuple[Motion, ...] = ("auto", "network", "alignment")
LOST = "egodepth odometry writes the parts that nothing joins with the longest one"
Format = Literal["npz", "png", "exr", "video"]
EXR: Format = "exr"
FORMATS: tuple[Format, ...] = ("npz", "png", "video")
"""Formats written by default; EXR only on request."""
PNG_PER_UNIT = 256
"""Steps of the 16-bit PNG per unit of scaled depth, as in KITTI's depth maps; 0 means unknown."""

PNG_PER_DEVIATION = 10_000
"""Steps of the 16-bit PNG of confidence per unit of deviation."""

FAST_PNG = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
]
"""Encodes in a third of the default's time, for files a tenth larger."""


class _Fields(NamedTuple):
    """What a prediction unpacks to."""

    frame: Frame
    depth: np.ndarray
    first_from_frame: np.ndarray | None


class FramePrediction(_Fields):
    """Prediction for one frame; unpacks to the first three of its attributes.

    Attributes:
        frame: the frame.
        depth: (H, W) float32 at the size of the frame, in the run's unit or metres.
        first_from_frame: (4, 4) float64, the camera's pose in the frame of the first camera, in the same
            unit; None if the frame was lost, or the run has no PoseNet to predict motion.
        deviation: (H, W) float32, standard deviation of log depth; None if the run has no confidence.
    """

    deviation: np.ndarray | None

    def __new__(
        cls,
        frame: Frame,
        depth: np.ndarray,
        first_from_frame: np.ndarray | None,
        deviation: np.ndarray | None = None,
    ) -> "FramePrediction":
        """Make a prediction."""
        made = super().__new__(cls, frame, depth, first_from_frame)
        made.deviation = deviation
        return made


def predict_sequence(
    run: Run,
    sequence: Sequence,
    *,
    unit: Unit = OWN_UNIT,
    steady: SteadySettings | bool = False,
    motion: Motion = "auto",
) -> Iterator[FramePrediction]:
    """Predict depth and pose of every frame in order, decoding frames as needed.

    PoseNet's poses are chained from its motions over the gap it was trained with, see
    :func:`egodepth.inference.odometry.motion_chain.chain_poses`; predictions lag by about that many frames.
    On footage unlike that of its training they are often several times too short for the depth.

    Args:
        run: trained networks.
        sequence: footage; without a camera of its own, it gets the run's.
        unit: of the run, see :func:`find_unit`; if it is known, lengths are in metres.
        steady: filter depth along the camera's motion, so that it does not flicker, see
            :class:`egodepth.inference.steady.SteadyDepth`; the motion is that of the footage's own poses, or of
            odometry that runs along.
        motion: where poses come from: PoseNet (``network``), direct alignment before the first frame is
            predicted (``alignment``), as by :func:`egodepth.track_sequence`, or whichever of the two fits the
            depth in a few short clips (``auto``; no poses without a PoseNet).

    Raises:
        EgodepthError: PoseNet is asked for, and there is none.
    """
    check_run(run)
    sequence = footage_of(run, sequence)
    require(unit, Unit, "unit", "a Unit (egodepth.find_unit)")
    require(steady, (SteadySettings, bool), "steady", "True, False or SteadySettings")
    if motion not in MOTIONS:
        raise EgodepthError(f"unknown motion {motion!r}; use {', '.join(MOTIONS)}")
    poses = _tracked(run, sequence) if by_alignment(run, sequence, motion) else None
    frames = depth_stream(run, sequence, unit, steady)
    for item, pose in _posed(run, sequence, frames, poses):
        if pose is not None:
            pose = pose.copy()
            pose[:3, 3] *= unit.factor
        yield FramePrediction(item.frame, item.result.depth, pose, item.result.deviation)


def by_alignment(run: Run, sequence: Sequence, motion: Motion = "auto") -> bool:
    """Whether the motion of footage has to be found by direct alignment: ``auto`` asks whether PoseNet's fits
    the depth, and says so if it does not. False without a PoseNet, unless it is asked for."""
    if motion == "network" and not run.has_motion:
        raise EgodepthError(
            f"{run.folder} has no PoseNet to predict motion: use --motion alignment"
        )
    if motion != "auto" or not run.has_motion:
        return motion == "alignment"
    fit = fit_of_motions(run, sequence)
    if fit is None or not fit.doubt:
        return False
    progress.note(f"{sequence.name}: {fit.doubt}; the motion is found by direct alignment instead")
    return True


def _tracked(run: Run, sequence: Sequence) -> dict[int, np.ndarray]:
    try:
        found = track_sequence(run, sequence)
    except TrackingInterrupted:
        raise KeyboardInterrupt from None  # a part of the trajectory is of no use here
    if found.lost:
        progress.note(f"{sequence.name}: {found.lost}: {LOST}")
    return found.by_number()


def _posed(
    run: Run,
    sequence: Sequence,
    frames: Iterator[Prepared[Maps]],
    poses: dict[int, np.ndarray] | None,
) -> Iterator[tuple[Prepared[Maps], np.ndarray | None]]:
    """Frames with their poses in the run's unit: those that are known, else PoseNet's, if there is one."""
    if poses is not None:
        yield from ((item, poses.get(item.frame.number)) for item in frames)
    elif run.has_motion:
        gap = gap_of(sequence.frames, run.motion_gap)
        yield from chain_poses(frames, gap, run.motions_of_frames, BATCH)
    else:
        yield from ((item, None) for item in frames)


def predict_trajectory(run: Run, sequence: Sequence) -> Trajectory:
    """Predict the poses of :func:`predict_sequence` without depth, in the run's unit.

    Args:
        run: trained networks.
        sequence: footage.

    Raises:
        EgodepthError: the run has no PoseNet.
    """
    if not run.has_motion:
        raise EgodepthError(
            f"{run.folder} has no PoseNet, whose motions could be chained: use direct alignment (--by "
            "alignment, or egodepth odometry)"
        )
    seen = progress.track(
        prefetch(sequence.frames.at(), BATCH), f"PoseNet's motions of {sequence.name}",
        len(sequence.frames),
    )  # fmt: skip
    items = (Prepared(frame, run.prepare(frame.image), None) for frame in seen)
    chained = list(
        chain_poses(items, gap_of(sequence.frames, run.motion_gap), run.motions_of_frames, BATCH)
    )
    times = None
    if sequence.frames.times is not None:
        times = np.array([item.frame.time for item, _ in chained], np.float64)
    numbers = [item.frame.number for item, _ in chained]
    return Trajectory(np.stack([pose for _, pose in chained]), numbers, times, run.unit)


def find_unit(run: Run, sequence: Sequence, known: KnownLength | None = None) -> Unit:
    """Find the unit of a run's lengths on some footage, in metres if a length is known. A speed or a track is
    compared with the path by direct alignment, as ``egodepth odometry`` finds it, which takes as long.

    Args:
        run: trained networks.
        sequence: footage; without a camera of its own, it gets the run's.
        known: the known length; without one, the run's own unit is returned.

    Raises:
        EgodepthError: the known length does not determine a unit.
    """
    check_run(run)
    sequence = footage_of(run, sequence)
    require(known, (KnownLength, type(None)), "known", KNOWN_LENGTHS)
    if known is None:
        return run.unit
    if isinstance(known, LengthInView):
        return unit_by_view(run, sequence, known)
    # PoseNet's chained steps do not fit the depth of footage that it was not trained on.
    return track_sequence(run, sequence, known=known).unit


def write_predictions(
    predictions: Iterable[FramePrediction],
    out: str | Path | OutputFolder,
    unit: Unit = OWN_UNIT,
    formats: Collection[Format] = FORMATS,
    *,
    band: bool = False,
) -> Iterator[FramePrediction]:
    """Write predictions as they arrive, and pass them on.

    Files: ``depth/NAME.npz``: ``depth`` as float32, and if the run has confidence ``confidence`` as float16,
    the standard deviation of log depth, small where depth is sure; ``depth_png/NAME.png``: 16 bit, depth times
    ``scale`` times 256; ``confidence_png/NAME.png``: 16 bit, the deviation times 10000;
    ``depth_exr/NAME.exr``: one channel Z, float32; ``depth.mp4``: image above depth, at the frame
    rate of the footage (10 frames per second if it has no times); ``trajectory_tum.txt`` and
    ``trajectory_kitti.txt``; ``unit.json``: the unit of lengths and its origin. NAME is the frame's, see
    :attr:`egodepth.data.sequence.Frame.stem`. The PNG's ``scale``, written to ``depth_png/scale.txt``, is 1
    for metres; otherwise it makes the median depth of the first frame 10. The trajectory is written at the
    end, if there are poses. Files of an earlier prediction are removed, see
    :class:`egodepth.core.outputs.OutputFolder`.

    Args:
        predictions: from :func:`predict_sequence`, with the same unit.
        out: folder.
        unit: of their lengths.
        formats: of the depth maps, see FORMATS and EXR.
        band: add the confidence to the video, below depth: bright where depth is sure.

    Raises:
        EgodepthError: a broken frame, a file that cannot be written, an unknown format, or EXR without its
            package.
    """
    check_formats(formats)
    require(out, (str, Path, OutputFolder), "out", "a folder")
    require(unit, Unit, "unit", "a Unit (egodepth.find_unit)")
    return _write(predictions, out, unit, formats, band=band)


def check_formats(formats: Collection[str]) -> None:
    """Check in advance that depth maps can be written in these formats.

    Raises:
        EgodepthError: an unknown format, or EXR without its package.
    """
    unknown = [repr(word) for word in formats if word not in (*FORMATS, EXR)]
    if unknown:
        raise EgodepthError(
            f"unknown format {', '.join(unknown)}; use {', '.join((*FORMATS, EXR))}"
        )
    if EXR in formats:
        _exr_writer()


def _write(
    predictions: Iterable[FramePrediction],
    out: str | Path | OutputFolder,
    unit: Unit,
    formats: Collection[Format],
    *,
    band: bool,
) -> Iterator[FramePrediction]:
    folder = output_folder(out, PREDICTION)
    poses: list[np.ndarray] = []
    times: list[float | None] = []
    numbers: list[int] = []
    with ExitStack() as stack:
        video = _open_video(folder.file("depth.mp4"), stack) if "video" in formats else None
        write_json(folder.file("unit.json"), {"metres_per_unit": unit.metres, "unit": unit.text})
        writer = _Writer(folder, video, 1.0 if unit.metres else None, formats, band=band)
        for prediction in in_background(predictions, writer.write):
            pose = prediction.first_from_frame
            poses.append(np.full((4, 4), np.nan) if pose is None else pose)
            times.append(prediction.frame.time)
            numbers.append(prediction.frame.number)
            yield prediction
    known = None if None in times else np.array(times, np.float64)
    if poses and (found := Trajectory(np.stack(poses), numbers, known)).known.any():
        found.write(folder)


def _open_video(path: Path, stack: ExitStack) -> "VideoWriter":
    from egodepth.core.video import VideoWriter  # needs PyAV, which other formats do without

    return stack.enter_context(VideoWriter(path))


class _Writer:
    """Writes depth maps and video frame by frame."""

    def __init__(
        self,
        out: OutputFolder,
        video: "VideoWriter | None",
        scale: float | None,
        formats: Collection[Format],
        *,
        band: bool,
    ):
        self.band = band
        self.out, self.video, self.formats = out, video, formats
        self.write_exr = _exr_writer() if EXR in formats else None
        self.scale, self.nearest = scale or 0.0, 0.0

    def write(self, prediction: FramePrediction) -> None:
        """Write the files of a frame."""
        started = time.perf_counter()
        self._write(prediction)
        self.out.seconds += time.perf_counter() - started

    def _write(self, prediction: FramePrediction) -> None:
        frame, depth, deviation = prediction.frame, prediction.depth, prediction.deviation
        if not self.nearest:
            self.scale = self.scale or 10.0 / float(np.median(depth))
            self.nearest = float(np.percentile(depth, 2))
            if "png" in self.formats:
                write_text(self.out.file("depth_png/scale.txt"), f"{self.scale:.9g}\n")
        name = frame.stem
        if "npz" in self.formats:
            with atomic_path(self.out.file(f"depth/{name}.npz")) as partial:
                if deviation is None:
                    np.savez(partial, depth=depth)
                else:
                    np.savez(partial, depth=depth, confidence=deviation.astype(np.float16))
        if "png" in self.formats:
            _write_png(self.out.file(f"depth_png/{name}.png"), depth, self.scale * PNG_PER_UNIT)
            if deviation is not None:
                file = self.out.file(f"confidence_png/{name}.png")
                _write_png(file, deviation, PNG_PER_DEVIATION)
        if self.write_exr is not None:
            with atomic_path(self.out.file(f"depth_exr/{name}.exr")) as partial:
                self.write_exr(partial, depth)
        if self.video is not None:
            bands = [frame.image, colourize_depth(depth, self.nearest)]
            if self.band and deviation is not None:
                bands.append(colourize_deviation(deviation))
            self.video.write(np.vstack(bands), frame.time)


def _write_png(path: Path, values: np.ndarray, steps: float) -> None:
    levels = np.clip(np.round(values * steps), 1, 65535).astype(np.uint16)
    done, encoded = cv2.imencode(".png", levels, FAST_PNG)
    assert done
    with atomic_path(path) as partial:
        partial.write_bytes(encoded.tobytes())


def _exr_writer() -> Callable[[Path, np.ndarray], None]:
    try:
        import OpenEXR
    except ImportError as error:
        raise EgodepthError(
            "EXR files need the package OpenEXR; install it by: pip install 'egodepth[exr]'"
        ) from error
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}

    def write(path: Path, depth: np.ndarray) -> None:
        try:
            OpenEXR.File(header, {"Z": np.ascontiguousarray(depth, np.float32)}).write(str(path))
        except RuntimeError as error:
            raise OSError(str(error)) from error

    return write
