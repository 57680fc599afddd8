"""``egodepth view`` and ``egodepth live``."""

from typing import Annotated, Literal

from egodepth.cli.command import (
    CameraOptions,
    DeviceOption,
    FieldOfView,
    Metavar,
    PageOptions,
    Positional,
    RateOption,
    SequenceOption,
    TakesRun,
    UnitOptions,
)
from egodepth.cli.output import say
from egodepth.core.errors import EgodepthError
from egodepth.core.signals import exit_status


class ViewRun(
    TakesRun, SequenceOption, CameraOptions, UnitOptions, RateOption, PageOptions, DeviceOption
):
    """View images, depth, motion and points in a browser."""

    source: Annotated[str | None, Positional("SOURCE")] = None
    """footage: path of a video or folder, or KIND:ROOT; default: the training footage of the run"""
    odometry: bool = False
    """estimate motion as `egodepth odometry` does: better but slower"""
    steady: bool = False
    """keep depth from flickering: average it along the camera's motion, that of the footage's own poses or of
    odometry that runs along"""

    def run(self) -> int:
        """See the class."""
        from egodepth.data.sources import default_protocol
        from egodepth.evaluation.depth import get_protocol
        from egodepth.runs.run import Run
        from egodepth.view.server import View

        run = Run.load(self.run_folder, self.device)
        trained = run.folder.data_settings()
        sources = trained.sources if self.source is None else (self.source,)
        if not sources:
            raise EgodepthError(
                f"{self.run_folder} does not say what it was trained on: name the footage"
            )
        # Relative sources of a run are relative to its --data.root, typed ones to the working folder.
        root = trained.root if self.source is None else None
        sequences = run.open(
            list(sources), name=self.sequence, fov=self.fov, camera=self.camera, root=root
        )
        view = View(
            run, self.at_rate(sequences), self.known_length(), get_protocol(default_protocol(sources[0])),
            odometry=self.odometry, steady=self.steady, port=self.port,
        )  # fmt: skip
        self.announce(view.address)
        try:
            view.wait()
        except KeyboardInterrupt:
            view.stop()
        return exit_status()


class ViewLive(TakesRun, PageOptions, DeviceOption):
    """View the live depth of a camera or stream."""

    source: Annotated[str, Positional("SOURCE")]
    """number of a camera (0 is the first), URL of a stream, or a video"""
    backend: Literal["torch", "torch-bf16", "onnxruntime", "openvino", "openvino-bf16"] = "torch"
    """backend that computes depth; only those that need no calibration frames"""
    steady: bool = False
    """keep depth from flickering: average it along the camera's motion, by odometry that runs along"""
    fov: Annotated[FieldOfView | None, Metavar("DEGREES")] = None
    """horizontal field of view in degrees, for --steady; default: the run's camera"""

    def run(self) -> int:
        """See the class."""
        from egodepth.data.footage.live_camera import LiveCamera
        from egodepth.runs.run import Run
        from egodepth.view.live import LiveView

        run = Run.load(self.run_folder, self.device)
        run.use_backend(self.backend)
        camera = LiveCamera(self.source)
        view = LiveView(run, camera, self.port, steady=self.steady, fov=self.fov)
        status = 0
        self.announce(view.address)
        try:
            view.wait()
        except KeyboardInterrupt:
            status = exit_status()
        finally:
            view.stop()
        if view.problem:
            raise EgodepthError(view.problem)
        say(
            f"{view.frames} of {view.camera.seen} frames, the last ones at {view.rate:.1f} frames/s"
        )
        return status
