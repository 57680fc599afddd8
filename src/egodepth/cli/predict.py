"""``egodepth predict``."""

from pathlib import Path
from typing import Annotated, Literal

from egodepth.cli.command import Command, Metavar, OnFootage
from egodepth.cli.output import START_OVER, say


class PredictOptions(Command):
    """What to predict, and how."""

    formats: tuple[Literal["npz", "png", "exr", "video", "mcap", "mcap-mm", "foxglove"], ...] = (
        "npz",
        "png",
        "video",
    )
    """formats of the depth maps; exr needs the package OpenEXR. mcap: one file of ROS 2 messages with depth
    (32FC1, metres), camera, cloud and trajectory; mcap-mm: with depth as 16UC1 in millimetres; foxglove: with
    Foxglove's schemas; these need egodepth[robotics]"""
    backend: Literal[
        "torch", "torch-bf16", "onnxruntime", "openvino", "openvino-bf16", "openvino-int8"
    ] = "torch"
    """backend that computes depth; all but torch and torch-bf16 are for CPUs and need egodepth[fast]"""
    confidence_band: bool = False
    """add the confidence to depth.mp4, below depth: bright where depth is sure"""
    steady: bool = False
    """keep depth from flickering: average it along the camera's motion, that of the footage's own poses or of
    odometry that runs along"""
    motion: Literal["auto", "network", "alignment"] = "auto"
    """where the trajectory comes from: PoseNet (network), direct alignment as by egodepth odometry, slower
    (alignment), or whichever of the two fits the depth in a few short clips (auto)"""


class Predict(PredictOptions, OnFootage):
    """Write depth maps and the trajectory of footage."""

    out: Annotated[Path, Metavar("FOLDER")]
    """folder to write to"""

    def run(self) -> int:
        """See the class."""
        from egodepth.core.progress import note
        from egodepth.inference.export.robot_log import ROBOT_LOGS
        from egodepth.inference.predict import PREDICTION
        from egodepth.report.video_results import check_result_formats, predict_video
        from egodepth.runs.destination import output_folder

        check_result_formats(self.formats)
        folder = output_folder(self.out, PREDICTION)
        run, sequences = self.load()
        if not run.has_confidence:
            note(
                f"{run.folder} has no confidence, so that none is written; to get it: egodepth confidence "
                f"{run.folder} FOOTAGE"
            )
        run.use_backend(self.backend, sequences[0])
        places = folder.each([sequence.name for sequence in sequences])
        known = self.known_length()
        for sequence, out in zip(sequences, places, strict=True):
            predictions, unit = predict_video(
                run,
                sequence,
                out,
                self.formats,
                known,
                steady=self.steady,
                band=self.confidence_band,
                motion=self.motion,
            )
            count, total = 0, len(sequence.frames)
            try:
                for _ in predictions:
                    count += 1
            except KeyboardInterrupt as stop:
                logs = set(ROBOT_LOGS) & set(self.formats)
                whole = "video, MCAP file" if logs else "video"
                maps = set(self.formats) - logs - {"video"}
                kept = f"depth maps, but no {whole}" if maps else f"no {whole}"
                raise KeyboardInterrupt(
                    f"interrupted after {count} of {total} frames of {sequence.name}; {out.path} holds "
                    f"{kept} or trajectory; {START_OVER}"
                ) from stop
            posed = run.has_motion or self.motion == "alignment"
            what = "the trajectory" if posed else "no trajectory (there is no PoseNet)"
            say(f"{count} depth maps and {what} are in {out.path}; lengths in {unit.text}")
        return 0
