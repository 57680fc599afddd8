"""``egodepth export``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egodepth.cli.common import (
    INTERRUPTED,
    add_camera,
    add_common,
    add_metres,
    add_rate,
    at_rate,
    known_length,
    positive,
    run_folder,
)
from egodepth.core.errors import EgodepthError
from egodepth.core.outputs import check_destination
from egodepth.core.progress import phase
from egodepth.core.quiet import quiet_hub

if TYPE_CHECKING:
    from egodepth.data.sequence import Sequence
    from egodepth.inference.odometry.track import TrackedTrajectory
    from egodepth.runs.run import Run


def add_commands(commands: Any) -> None:
    """Add them to the parser."""
    export = commands.add_parser(
        "export", help="write points, a mesh, a COLMAP model, a recording, or DepthNet"
    )
    kinds = export.add_subparsers(metavar="onnx|points|mesh|colmap|rerun|hub", required=True)
    for name, text in (
        ("points", "coloured points of the footage as PLY; --out FILE.ply"),
        ("mesh", "a coloured surface by TSDF fusion; --out FILE.ply, .obj, .glb or .stl"),
        ("colmap", "COLMAP's text model and its frames, for 3D Gaussian splatting; --out FOLDER"),
        ("rerun", "a recording of rerun.io: images, depth, camera, points; --out FILE.rrd"),
    ):
        kind = kinds.add_parser(name, help=text)
        kind.add_argument("run", type=run_folder, metavar="RUN", help="run folder")
        kind.add_argument("source", metavar="SOURCE", help="video, folder, or KIND:ROOT")
        kind.add_argument("--out", type=Path, required=True, help="what to write")
        kind.add_argument("--every", type=int, default=5,
                          help="frames from one that gives points to the next (default: 5)")  # fmt: skip
        kind.add_argument("--depth", choices=("views", "network"), default="views",
                          help="where depth comes from; views: neighbouring frames (multi-view stereo) where "
                          "they agree on it, elsewhere DepthNet; network: DepthNet alone, rougher, in about "
                          "half of the time (default: views)")  # fmt: skip
        if name == "mesh":
            kind.add_argument("--voxel", type=positive, metavar="L",
                              help="side of a voxel, in the unit of what is written; by default as fine "
                              "as the memory allows")  # fmt: skip
        add_metres(kind)
        add_rate(kind)
        add_camera(kind)
        add_common(kind)
        kind.set_defaults(command=_export_cloud, kind=name)
    hub = kinds.add_parser("hub", help="weights as safetensors, settings and a model card")
    hub.add_argument("run", type=run_folder, metavar="RUN", help="run folder")
    hub.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write")
    hub.add_argument("--push", metavar="OWNER/NAME", help="upload it to the Hugging Face hub too")
    hub.add_argument("--private", action="store_true", help="with --push: for yourself alone")
    hub.set_defaults(command=_export_hub)
    onnx = kinds.add_parser("onnx", help="image in [0, 1] to inverse depth, float32")
    onnx.add_argument("run", type=run_folder, metavar="RUN", help="run folder")
    onnx.add_argument("--out", type=Path, required=True, metavar="FILE.onnx", help="file to write")
    onnx.set_defaults(command=_export_onnx)


def _export_cloud(options: argparse.Namespace) -> int:
    from egodepth.inference.export.mesh import MESH_SUFFIXES
    from egodepth.inference.export.rerun_log import load_rerun
    from egodepth.inference.odometry.track import NoUnitError, TrackingInterrupted, track_sequence
    from egodepth.runs.run import Run

    suffixes = {"points": (".ply",), "mesh": MESH_SUFFIXES, "rerun": (".rrd",)}
    check_destination(options.out, suffixes.get(options.kind, ()), folder=options.kind == "colmap")
    if options.kind == "rerun":
        load_rerun()
    if options.every < 1:
        raise EgodepthError(f"--every must be at least 1, got {options.every}")
    run = Run.load(options.run, options.device)
    sequences = run.open(
        options.source, name=options.sequence, fov=options.fov, camera=options.camera
    )[:1]
    (sequence,) = at_rate(sequences, options)
    no_unit: NoUnitError | None = None
    try:
        found = track_sequence(run, sequence, known=known_length(options))
    except TrackingInterrupted as interrupt:
        found = interrupt.trajectory
        if known_length(options) is not None and not found.unit.metres:
            options.voxel = None
    except NoUnitError as error:
        # Minutes of tracking are not lost over a length that tells nothing.
        found, no_unit = error.trajectory, error
        options.voxel = None  # its metres mean nothing either
    written = _write_cloud(options, run, sequence, found)
    if found.interrupted:
        print(f"egodepth: {found.interrupted}; this is a part: {written}", file=sys.stderr)
        return INTERRUPTED
    print(written)
    if no_unit is not None:
        raise EgodepthError(f"{no_unit}; {options.out} is in the run's own unit") from no_unit
    return 0


def _write_cloud(
    options: argparse.Namespace,
    run: "Run",
    sequence: "Sequence",
    found: "TrackedTrajectory",
) -> str:
    """Write what was asked for; what was written, in words."""
    from egodepth.inference.export.cloud import fuse_cloud, write_colmap, write_ply
    from egodepth.inference.export.mesh import fuse_mesh, write_mesh
    from egodepth.inference.export.rerun_log import write_rerun

    every = options.every
    if options.kind == "mesh":
        mesh = fuse_mesh(run, sequence, found, every, options.voxel, depth=options.depth)
        write_mesh(options.out, mesh, found.comment)
        return (f"{len(mesh.faces)} triangles of voxels of {mesh.voxel:.3g}, lengths in {found.unit}, are in "
                f"{options.out}")  # fmt: skip
    cloud = fuse_cloud(run, sequence, found, every, depth=options.depth)
    if options.kind == "points":
        write_ply(options.out, cloud, found.comment)
        return f"{len(cloud.points)} points, lengths in {found.unit}, are in {options.out}"
    if options.kind == "rerun":
        count = write_rerun(
            options.out, run, sequence, found, cloud, every=every, comment=found.comment
        )
        return f"{count} frames, lengths in {found.unit}, are in {options.out}"
    count = write_colmap(options.out, sequence, found, cloud, every, found.comment)
    return f"{count} frames and their poses, lengths in {found.unit}, are in {options.out}"


def _export_hub(options: argparse.Namespace) -> int:
    from egodepth.runs.run import Run

    check_destination(options.out, folder=True)
    run = Run.load(options.run)
    run.save_pretrained(options.out)
    print(f"{options.out} holds the run for others: model.safetensors, config.yaml, README.md")
    if options.push:
        try:
            with quiet_hub(), phase(f"uploading to {options.push}"):
                address = run.push_to_hub(options.push, private=options.private)
        except Exception as error:  # whatever the hub or the network says
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise EgodepthError(
                f"cannot upload to {options.push}: {reason}; log in by: hf auth login"
            ) from error
        print(f"it is at {address}")
    return 0


def _export_onnx(options: argparse.Namespace) -> int:
    from egodepth.runs.run import Run

    check_destination(options.out, (".onnx",))
    run = Run.load(options.run)
    run.export_onnx(options.out)
    print(
        f"{options.out}: image (1, 3, {run.settings.height}, {run.settings.width}) in [0, 1], RGB, to "
        "inverse_depth"
    )
    return 0
