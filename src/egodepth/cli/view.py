"""``egodepth view`` and ``egodepth live``."""

import argparse
from typing import Any

from egodepth.cli.common import (
    add_camera,
    add_common,
    add_metres,
    add_rate,
    at_rate,
    known_length,
    run_folder,
)
from egodepth.core.errors import EgodepthError
from egodepth.core.progress import note

LIVE_BACKENDS = ("torch", "torch-bf16", "onnxruntime", "openvino", "openvino-bf16")
"""Those that need no frames beforehand."""


def add_commands(commands: Any) -> None:
    """Add it to the parser."""
    view = commands.add_parser("view", help="look at image, depth, motion and points in a browser")
    view.add_argument("run", type=run_folder, metavar="RUN", help="run folder")
    view.add_argument("source", metavar="SOURCE", nargs="?",
                      help="video, folder, or KIND:ROOT; by default what the run was trained on")  # fmt: skip
    view.add_argument("--odometry", action="store_true",
                      help="find the motion as egodepth odometry does, better and slower")  # fmt: skip
    _add_page(view)
    add_camera(view)
    add_metres(view)
    add_rate(view)
    add_common(view)
    view.set_defaults(command=_view)

    live = commands.add_parser("live", help="look at the depth of a camera or stream while it runs")
    live.add_argument("run", type=run_folder, metavar="RUN", help="run folder")
    live.add_argument("source", metavar="SOURCE",
                      help="number of a camera (0 is the first), address of a stream, or a video")  # fmt: skip
    _add_page(live)
    live.add_argument(
        "--backend", default="torch", help=f"{', '.join(LIVE_BACKENDS)} (default: torch)"
    )
    live.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    live.set_defaults(command=_live)


def _add_page(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=int, help="to serve on (default: the first free one from 8765 on)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def _announce(address: str, options: argparse.Namespace) -> None:
    note(f"look at {address} (on this machine alone); Ctrl-C ends it")
    if options.open:
        import webbrowser

        webbrowser.open(address)


def _live(options: argparse.Namespace) -> int:
    from egodepth.data.footage.live_camera import LiveCamera
    from egodepth.runs.run import Run
    from egodepth.view.live import LiveView

    run = Run.load(options.run, options.device)
    if options.backend not in LIVE_BACKENDS:
        raise EgodepthError(
            f"unknown backend {options.backend!r}; live takes {', '.join(LIVE_BACKENDS)}"
        )
    run.use_backend(options.backend)
    view = LiveView(run, LiveCamera(options.source), options.port)
    _announce(view.address, options)
    try:
        view.wait()
    except KeyboardInterrupt:
        pass
    finally:
        view.stop()
    if view.problem:
        raise EgodepthError(view.problem)
    print(f"{view.frames} of {view.camera.seen} frames, the last ones at {view.rate:.1f} frames/s")
    return 0


def _view(options: argparse.Namespace) -> int:
    from egodepth.data.sources import default_protocol
    from egodepth.evaluation.depth import get_protocol
    from egodepth.runs.run import Run
    from egodepth.view.server import View

    run = Run.load(options.run, options.device)
    trained = run.folder.data_settings()
    sources = trained.sources if options.source is None else (options.source,)
    if not sources:
        raise EgodepthError(f"{options.run} does not tell what it was trained on: name the footage")
    # Relative sources of a run start from its --data.root, typed ones from here.
    root = trained.root if options.source is None else None
    sequences = run.open(
        list(sources), name=options.sequence, fov=options.fov, camera=options.camera, root=root
    )
    sequences = at_rate(sequences, options)
    view = View(
        run, sequences, known_length(options), get_protocol(default_protocol(sources[0])),
        odometry=options.odometry, port=options.port,
    )  # fmt: skip
    _announce(view.address, options)
    try:
        view.wait()
    except KeyboardInterrupt:
        view.stop()
    return 0
