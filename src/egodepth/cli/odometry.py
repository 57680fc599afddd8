"""``egodepth odometry``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from egodepth.cli.command import Command, Metavar, OnFootage
from egodepth.cli.output import START_OVER, print_table, say
from egodepth.core.errors import EgodepthError

if TYPE_CHECKING:
    from egodepth.inference.odometry.tracker import OdometrySettings


class OdometryOptions(Command):
    """Settings of the odometry, and what it writes."""

    key_frames: Annotated[int, Field(ge=3), Metavar("N")] = 7
    """key frames in the sliding window"""
    trust_depth: Literal["auto", "yes", "no"] = "auto"
    """use DepthNet's depth as a strong prior; auto: if depth was learned with motion from more than PoseNet"""
    loops: Literal["yes", "no"] = "yes"
    """recognise places that come again, close loops, and join paths that a break of the track separates"""
    mask: Annotated[str, Metavar("MASK")] = "none"
    """static mask, pixels to ignore (bonnet, watermark, borders); none; auto: pixels that stay the same over a
    hundred frames or more; or an image file, whose black pixels are ignored"""
    formats: tuple[Literal["mcap", "foxglove"], ...] = ()
    """formats of the trajectory besides text; mcap: ROS 2 messages (nav_msgs/Path, /tf), foxglove: Foxglove's
    schemas, as MCAP files; these need egodepth[robotics]"""

    def settings(self) -> "OdometrySettings":
        """The settings of the odometry."""
        from egodepth.inference.odometry.tracker import OdometrySettings

        trust = {"auto": None, "yes": True, "no": False}[self.trust_depth]
        return OdometrySettings(self.key_frames, self.loops == "yes", trust, mask=self.mask)


class Odometry(OdometryOptions, OnFootage):
    """Estimate the camera trajectory of footage by direct alignment."""

    out: Annotated[Path, Metavar("FOLDER")]
    """folder to write to"""

    def run(self) -> int:
        """See the class."""
        from egodepth.evaluation.odometry import describe
        from egodepth.inference.odometry.track import ODOMETRY
        from egodepth.inference.scoring.trajectory_files import unit_of_truth
        from egodepth.report.tables import odometry_table
        from egodepth.report.video_results import check_result_formats, write_odometry
        from egodepth.runs.destination import output_folder

        check_result_formats(self.formats)
        folder = output_folder(self.out, ODOMETRY)
        run, sequences = self.load()
        settings = self.settings()
        places = folder.each([sequence.name for sequence in sequences])
        for sequence, out in zip(sequences, places, strict=True):
            found, no_unit = self.track(run, sequence, settings)
            scores = write_odometry(found, sequence, out, self.formats)
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
