"""``egodepth ros``."""

from typing import Annotated

from egodepth.cli.command import DeviceOption, Metavar, Positive, TakesRun


class RosNode(TakesRun, DeviceOption):
    """Publish depth, cloud and odometry of a camera as a ROS 2 node."""

    image: Annotated[str, Metavar("TOPIC")] = "/camera/image_raw"
    """topic of the images; compressed ones end in /compressed"""
    camera_info: Annotated[str | None, Metavar("TOPIC")] = None
    """topic of their camera; default: camera_info beside the images"""
    metres_per_unit: Annotated[Positive | None, Metavar("M")] = None
    """length of the run's unit in metres, as unit.json of a prediction says; makes lengths metric"""
    odometry: bool = True
    """track the camera, and publish its pose"""
    steady: bool = False
    """keep depth from flickering: average it along the camera's motion, once a camera_info has arrived"""

    def run(self) -> int:
        """See the class."""
        from egodepth.ros import require_rclpy, serve
        from egodepth.runs.run import Run
        from egodepth.runs.unit import Unit

        require_rclpy()
        run = Run.load(self.run_folder, self.device)
        metres = self.metres_per_unit
        unit = None if metres is None else Unit(metres, f"metres, {metres:g} per unit as given")
        namespace = self.image.removesuffix("/compressed").rpartition("/")[0]
        info = self.camera_info or f"{namespace}/camera_info"
        serve(run, self.image, info, unit=unit, odometry=self.odometry, steady=self.steady)
        return 0
