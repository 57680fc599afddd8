"""``egodepth predict``."""

from pathlib import Path
from typing import Annotated, Literal

from egodepth.cli.command import Metavar, OnFootage
from egodepth.cli.output import START_OVER, say


class Predict(OnFootage):
    """Write depth maps and the trajectory of footage."""

    out: Annotated[Path, Metavar("FOLDER")]
    """folder to write to"""
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

    def run(self) -> int:
        """See the class."""
        from egodepth.core.progress import note
        from egodepth.data.footage.robot_logs.recording import require_robotics
        from egodepth.inference.export.robot_log import ROBOT_LOGS, write_depth_log
        from egodepth.inference.predict import (
            EXR,
            FORMATS,
            PREDICTION,
            check_formats,
            find_unit,
            predict_sequence,
            write_predictions,
        )
        from egodepth.runs.destination import output_folder

        logs = [name for name in ROBOT_LOGS if name in self.formats]
        maps = [name for name in (*FORMATS, EXR) if name in self.formats]
        check_formats(maps)
        if logs:
            require_robotics("MCAP files")
        folder = output_folder(self.out, PREDICTION)
        run, sequences = self.load()
        if not run.has_confidence:
            note(
                f"{run.folder} has no confidence, so that none is written; to get it: egodepth confidence "
                f"{run.folder} FOOTAGE"
            )
        run.use_backend(self.backend, sequences[0])
        places = folder.each([sequence.name for sequence in sequences])
        for sequence, out in zip(sequences, places, strict=True):
            unit = find_unit(run, sequence, self.known_length())
            predictions = write_predictions(
                predict_sequence(run, sequence, unit=unit, steady=self.steady), out, unit, maps,
                band=self.confidence_band,
            )  # fmt: skip
            for form in logs:
                path = out.file(f"depth{ROBOT_LOGS[form].ending}")
                predictions = write_depth_log(predictions, path, sequence, unit, form)
            count, total = 0, len(sequence.frames)
            try:
                for _ in predictions:
                    count += 1
            except KeyboardInterrupt as stop:
                whole = "video, MCAP file" if logs else "video"
                kept = f"depth maps, but no {whole}" if set(maps) - {"video"} else f"no {whole}"
                raise KeyboardInterrupt(
                    f"interrupted after {count} of {total} frames of {sequence.name}; {out.path} holds "
                    f"{kept} or trajectory; {START_OVER}"
                ) from stop
            what = "the trajectory" if run.has_motion else "no trajectory (there is no PoseNet)"
            say(f"{count} depth maps and {what} are in {out.path}; lengths in {unit.text}")
        return 0
