"""``egodepth view`` and ``egodepth live``."""

from typing import Annotated, Literal

from egodepth.cli.command import (
    CameraOptions,
    DeviceOption,
    PageOptions,
    Positional,
    RateOption,
    SequenceOption,
    TakesRun,
    UnitOptions,
)
from egodepth.core.errors import EgodepthError


class ViewRun(
    TakesRun, SequenceOption, CameraOptions, UnitOptions, RateOption, PageOptions, DeviceOption
):
    """Look at image, depth, motion and points in a browser."""

    source: Annotated[str | None, Positional("SOURCE")] = None
    """footage: path of a video or a folder, or KIND:ROOT; default: what the run was trained on"""
    odometry: bool = False
    """find the motion as `egodepth odometry` does, better and slower"""

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
                f"{self.run_folder} does not tell what it was trained on: name the footage"
            )
        # Relative sources of a run start from its --data.root, typed ones from here.
        root = trained.root if self.source is None else None
        sequences = run.open(
            list(sources), name=self.sequence, fov=self.fov, camera=self.camera, root=root
        )
        view = View(
            run, self.at_rate(sequences), self.known_length(), get_protocol(default_protocol(sources[0])),
            odometry=self.odometry, port=self.port,
        )  # fmt: skip
        self.announce(view.address)
        try:
            view.wait()
        except KeyboardInterrupt:
            view.stop()
        return 0


class ViewLive(TakesRun, PageOptions, DeviceOption):
    """Look at the depth of a camera or stream while it runs."""

    source: Annotated[str, Positional("SOURCE")]
    """number of a camera (0 is the first), address of a stream, or a video"""
    backend: Literal["torch", "torch-bf16", "onnxruntime", "openvino", "openvino-bf16"] = "torch"
    """what computes depth; those that need no frames beforehand"""

    def run(self) -> int:
        """See the class."""
        from egodepth.data.footage.live_camera import LiveCamera
        from egodepth.runs.run import Run
        from egodepth.view.live import LiveView

        run = Run.load(self.run_folder, self.device)
        run.use_backend(self.backend)
        view = LiveView(run, LiveCamera(self.source), self.port)
        self.announce(view.address)
        try:
            view.wait()
        except KeyboardInterrupt:
            pass
        finally:
            view.stop()
        if view.problem:
            raise EgodepthError(view.problem)
        print(
            f"{view.frames} of {view.camera.seen} frames, the last ones at {view.rate:.1f} frames/s"
        )
        return 0
