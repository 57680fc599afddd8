"""``egodepth export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from egodepth.cli.command import Metavar, OnFootage, Positive, TakesRun
from egodepth.cli.output import START_OVER, say
from egodepth.core.errors import EgodepthError

if TYPE_CHECKING:
    from egodepth.data.sequence import Sequence
    from egodepth.inference.export.scene import SceneSettings
    from egodepth.inference.odometry.track import TrackedTrajectory
    from egodepth.runs.run import Run

MESH_SUFFIXES = (".ply", ".obj", ".glb", ".stl")


class ExportFootage(OnFootage):
    """Base of the exports of points, mesh, scene and recording."""

    every: Annotated[int, Field(ge=1), Metavar("N")] = 5
    """use the depth of every Nth frame"""
    depth: Literal["views", "network"] = "views"
    """source of depth; views: multi-view stereo from neighbouring frames where they agree, DepthNet elsewhere;
    network: DepthNet alone, rougher, in about half the time"""
    out: Annotated[Path, Metavar("FILE")]
    """file to write"""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Allowed suffixes of the file; none for a folder."""

    def write(self, run: "Run", sequence: "Sequence", found: "TrackedTrajectory") -> str:
        """Write the export; returns what was written, in words.

        Args:
            run: trained networks.
            sequence: footage.
            found: trajectory of the footage.
        """
        raise NotImplementedError

    def run(self) -> int:
        """See the class."""
        from egodepth.runs.destination import claim_file, claim_folder

        with claim_file(self.out, self.suffixes) if self.suffixes else claim_folder(self.out):
            return self._export()

    def _export(self) -> int:
        run, (sequence, *_) = self.load()
        found, no_unit = self.track(run, sequence)
        if found.lost:
            say(f"{found.lost} in one path with the others, and are left out")
        try:
            what = self.write(run, sequence, found)
        except KeyboardInterrupt as stop:
            left = f"{self.out} is {'not written' if self.suffixes else 'incomplete'}"
            raise KeyboardInterrupt(f"interrupted; {left}; {START_OVER}") from stop
        written = f"{what}, lengths in {found.unit}, are in {self.out}"
        if found.interrupted:
            raise KeyboardInterrupt(f"{found.interrupted}; this is a part: {written}; {START_OVER}")
        say(written)
        if no_unit is not None:
            raise EgodepthError(f"{no_unit}; {self.out} is in the run's own unit") from no_unit
        return 0


class ExportSurface(ExportFootage):
    """Base of the exports of points and mesh."""

    max_deviation: Annotated[Positive | None, Metavar("D")] = None
    """leave out what the run is less sure of: the largest standard deviation of log depth, 0.15 for points
    within about 15 %; default: only where views disagree, more than 0.2. Needs a run with confidence"""

    def load(self) -> tuple["Run", list["Sequence"]]:
        """See the base class."""
        from egodepth.inference.export.cloud import check_max_deviation

        run, sequences = super().load()
        check_max_deviation(run, self.max_deviation)  # before minutes of tracking
        return run, sequences


class ExportPoints(ExportSurface):
    """Write the footage as a coloured point cloud in PLY."""

    suffixes = (".ply",)

    def write(self, run: "Run", sequence: "Sequence", found: "TrackedTrajectory") -> str:
        """See the base class."""
        from egodepth.inference.export.cloud import fuse_cloud, write_ply

        cloud = fuse_cloud(
            run, sequence, found, self.every, depth=self.depth, max_deviation=self.max_deviation
        )
        write_ply(self.out, cloud, found.comment)
        return f"{len(cloud.points)} points"


class ExportMesh(ExportSurface):
    """Write a coloured mesh from TSDF fusion, as .ply, .obj, .glb or .stl."""

    voxel: Annotated[Positive | None, Metavar("L")] = None
    """voxel size, in the unit of the written mesh; default: as fine as memory allows"""
    suffixes = MESH_SUFFIXES

    def write(self, run: "Run", sequence: "Sequence", found: "TrackedTrajectory") -> str:
        """See the base class."""
        from egodepth.inference.export.mesh import fuse_mesh, write_mesh

        # Without a metric unit in spite of a known length, a voxel size in metres has no meaning.
        voxel = None if self.known_length() and not found.unit.metres else self.voxel
        mesh = fuse_mesh(
            run, sequence, found, self.every, voxel,
            depth=self.depth, max_deviation=self.max_deviation,
        )  # fmt: skip
        write_mesh(self.out, mesh, found.comment)
        return f"{len(mesh.faces)} triangles of voxels of {mesh.voxel:.3g}"


class ExportScene(ExportFootage):
    """Base of the exports for neural rendering."""

    out: Annotated[Path, Metavar("FOLDER")]
    """folder to write to"""
    mask: Annotated[str, Metavar("MASK")] = "auto"
    """static mask (bonnet, watermark), whose pixels get no depth and no points; auto: what stays in place in
    footage of 100 frames or more; none; or an image file whose black pixels are masked"""
    distorted: bool = False
    """write the images as recorded, and the distortion of their lens, in place of undistorted images"""

    def run(self) -> int:
        """See the class."""
        from egodepth.data.preparation.static_mask import read_mask

        if self.mask not in ("auto", "none"):
            read_mask(Path(self.mask), 64, 64)  # before minutes of tracking
        return super().run()

    def scene_settings(self) -> "SceneSettings":
        """The settings of the scene."""
        from egodepth.inference.export.scene import SceneSettings

        return SceneSettings(self.every, self.depth, self.mask, self.distorted)


class ExportColmap(ExportScene):
    """Write images, poses and points as a COLMAP model, for 3D Gaussian splatting."""

    text: bool = False
    """write the model in COLMAP's text format in place of the binary one"""
    depth_maps: bool = False
    """also write inverse depth for the depth regularization of 3D Gaussian splatting (-d depths)"""

    @model_validator(mode="after")
    def _undistorted(self) -> Self:
        if self.depth_maps and self.distorted:
            raise ValueError("give only one of --depth_maps and --distorted")
        return self

    def write(self, run: "Run", sequence: "Sequence", found: "TrackedTrajectory") -> str:
        """See the base class."""
        from egodepth.inference.export.colmap import write_colmap

        facts = write_colmap(
            self.out, run, sequence, found, self.scene_settings(),
            text=self.text, depth_maps=self.depth_maps, comment=found.comment,
        )  # fmt: skip
        return str(facts)


class ExportNerfstudio(ExportScene):
    """Write images, poses, depth and points as a scene of nerfstudio (transforms.json)."""

    def write(self, run: "Run", sequence: "Sequence", found: "TrackedTrajectory") -> str:
        """See the base class."""
        from egodepth.inference.export.nerfstudio import write_nerfstudio

        settings = self.scene_settings()
        facts = write_nerfstudio(self.out, run, sequence, found, settings, comment=found.comment)
        return str(facts)


class ExportRerun(ExportFootage):
    """Write images, depth, camera and points as a recording for rerun.io."""

    suffixes = (".rrd",)

    def run(self) -> int:
        """See the class."""
        from egodepth.inference.export.rerun_log import load_rerun

        load_rerun()  # fails before the work if rerun is not installed
        return super().run()

    def write(self, run: "Run", sequence: "Sequence", found: "TrackedTrajectory") -> str:
        """See the base class."""
        from egodepth.inference.export.cloud import fuse_cloud
        from egodepth.inference.export.rerun_log import write_rerun

        cloud = fuse_cloud(run, sequence, found, self.every, depth=self.depth)
        count = write_rerun(
            self.out, run, sequence, found, cloud, every=self.every, comment=found.comment
        )
        return f"{count} frames"


class ExportHub(TakesRun):
    """Write weights as safetensors, settings and a model card, for others to use."""

    out: Annotated[Path, Metavar("FOLDER")]
    """folder to write to"""
    push: Annotated[str | None, Metavar("OWNER/NAME")] = None
    """also upload them to the Hugging Face hub, under this name"""
    private: bool = False
    """with --push: make it a private repository"""

    def run(self) -> int:
        """See the class."""
        from egodepth.core.progress import phase
        from egodepth.core.quiet import quiet_hub
        from egodepth.runs.destination import check_output_folder
        from egodepth.runs.run import Run

        check_output_folder(self.out, for_run=True)
        run = Run.load(self.run_folder)
        try:
            run.save_pretrained(self.out)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(
                f"interrupted; {self.out} is incomplete; {START_OVER}"
            ) from stop
        say(f"{self.out} holds the run for others: model.safetensors, config.yaml, README.md")
        if self.push:
            try:
                with quiet_hub(), phase(f"uploading to {self.push}"):
                    address = run.push_to_hub(self.push, private=self.private)
            except Exception as error:  # any error of the hub or the network
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise EgodepthError(
                    f"cannot upload to {self.push}: {reason}; log in by: hf auth login"
                ) from error
            say(f"it is at {address}")
        return 0


class ExportOnnx(TakesRun):
    """Export DepthNet as ONNX: from images in [0, 1] to inverse depth, float32."""

    out: Annotated[Path, Metavar("FILE.onnx")]
    """file to write"""
    opset: Annotated[int, Field(ge=11, le=20), Metavar("N")] = 17
    """version of ONNX's operators, 11 to 20"""
    batch: Annotated[Annotated[int, Field(ge=1)] | None, Metavar("N")] = None
    """fixed number of images at once; default: any number"""

    def run(self) -> int:
        """See the class."""
        from egodepth.core.outputs import check_destination
        from egodepth.runs.run import Run

        check_destination(self.out, (".onnx",))
        run = Run.load(self.run_folder)
        images = run.export_onnx(self.out, opset=self.opset, batch=self.batch)
        size = f"{images or 'batch'}, 3, {run.settings.height}, {run.settings.width}"
        say(f"{self.out}: image ({size}) in [0, 1], RGB, to inverse_depth")
        return 0
