"""``egodepth odometry``."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from egodepth.cli.command import Metavar, OnFootage
from egodepth.cli.output import START_OVER, print_table, say
from egodepth.core.errors import EgodepthError


class Odometry(OnFootage):
    """Estimate the camera trajectory of footage by direct alignment."""

    out: Annotated[Path, Metavar("FOLDER")]
    """folder to write to"""
    key_frames: Annotated[int, Field(ge=3), Metavar("N")] = 7
    """key frames in the sliding window"""
    trust_depth: Literal["auto", "yes", "no"] = "auto"
    """use DepthNet's depth as a strong prior; auto: if depth was learned with motion from more than PoseNet"""
    loops: Literal["yes", "no"] = "yes"
    """recognise places that come again, and close loops"""
    formats: tuple[Literal["mcap", "foxglove"], ...] = ()
    """formats of the trajectory besides text; mcap: ROS 2 messages (nav_msgs/Path, /tf), foxglove: Foxglove's
    schemas, as MCAP files; these need egodepth[robotics]"""

    def run(self) -> int:
        """See the class."""
        from egodepth.data.footage.robot_logs.recording import require_robotics
        from egodepth.evaluation.odometry import describe
        from egodepth.inference.export.robot_log import ROBOT_LOGS, write_trajectory_log
        from egodepth.inference.odometry.track import ODOMETRY, write_trajectory
        from egodepth.inference.odometry.tracker import OdometrySettings
        from egodepth.inference.scoring.trajectory_files import unit_of_truth
        from egodepth.report.plots import plot_trajectory
        from egodepth.report.tables import odometry_table
        from egodepth.runs.destination import output_folder

        if self.formats:
            require_robotics("MCAP files")
        folder = output_folder(self.out, ODOMETRY)
        run, sequences = self.load()
        trust = {"auto": None, "yes": True, "no": False}[self.trust_depth]
        settings = OdometrySettings(self.key_frames, self.loops == "yes", trust)
        places = folder.each([sequence.name for sequence in sequences])
        for sequence, out in zip(sequences, places, strict=True):
            found, no_unit = self.track(run, sequence, settings)
            scores = write_trajectory(found, sequence, out)
            for form in self.formats:
                path = out.file(f"trajectory{ROBOT_LOGS[form].ending}")
                write_trajectory_log(found, path, sequence, form)
            plot_trajectory(out.file("trajectory.png"), found.first_from_frame,
                            found.true_poses(sequence) if scores else None)  # fmt: skip
            count = len(found)
            say(f"{count} frames, {found.key_frames} of them key frames, {count / found.seconds:.1f} "
                  f"frames/s; lengths in {found.unit}; the trajectory is in {out.path}")  # fmt: skip
            if found.loops:
                say(
                    f"{len(found.loops)} loops closed; the trajectory before is in trajectory_live_*.txt"
                )
            if found.untrusted:
                some = ", ".join(str(n) for n in found.untrusted[:8])
                some += ", ..." if len(found.untrusted) > 8 else ""
                say(f"{len(found.untrusted)} frames could not be aligned and have no pose: {some}")
            for place, segment in enumerate(found.segments, 2):
                first, last = segment.numbers[0], segment.numbers[-1]
                say(
                    f"tracking was lost: {len(segment)} of the frames {first} to {last} are a path of their "
                    f"own, in trajectory_segment_{place}_*.txt"
                )
            if scores:
                caption = f"{scores['frames']} of {count} poses{unit_of_truth(sequence)}; "
                caption += describe("sim3", scores)
                print_table(odometry_table(scores, sequence.name, caption))
            if found.interrupted:
                raise KeyboardInterrupt(
                    f"{found.interrupted}; their trajectory is in {out.path}; {START_OVER}"
                )
            if no_unit is not None:
                raise EgodepthError(
                    f"{no_unit}; the trajectory is in the run's own unit"
                ) from no_unit
        return 0
