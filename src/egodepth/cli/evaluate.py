"""``egodepth evaluate`` and ``egodepth leaderboard``."""

import argparse
from pathlib import Path
from typing import Any

from egodepth.cli.common import add_common, positive, print_table, run_folder
from egodepth.core.errors import EgodepthError
from egodepth.core.outputs import check_destination

PICTURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")
"""What Matplotlib draws into."""


def add_commands(commands: Any) -> None:
    """Add them to the parser."""
    evaluate = commands.add_parser("evaluate", help="score depth or a trajectory against truth")
    kinds = evaluate.add_subparsers(metavar="depth|odometry", required=True)

    depth = kinds.add_parser("depth", help="score the depth of a run, or of other predictions")
    depth.add_argument("what", metavar="RUN|PREDICTIONS", type=run_folder,
                       help="run folder; or a folder of .npy, .npz or 16-bit .png files named like their "
                       "images, or by frame number; or a .npy or .npz file with all maps in the order of "
                       "--split")  # fmt: skip
    depth.add_argument("--data", required=True, metavar="KIND:ROOT",
                       help="data set with its root (`egodepth data sets` lists them), synthetic:SEED, or "
                       "a folder with images and depth")  # fmt: skip
    depth.add_argument("--protocol", help="`egodepth data protocols` lists them; by default one that fits "
                       "the data and scores all frames with depth")  # fmt: skip
    depth.add_argument("--scaling", help="in place of the protocol's: median, set_median, affine, "
                       "affine_inverse, none or baseline")  # fmt: skip
    depth.add_argument(
        "--crop", help="in place of the protocol's: none, garg, eigen, nyu, cityscapes"
    )
    depth.add_argument("--max_depth", type=positive, metavar="M", help="in place of the protocol's")
    depth.add_argument("--split", help="frames to score, in place of the protocol's: a name (`egodepth "
                       "data splits`), a file of `folder frame side` lines, or all")  # fmt: skip
    depth.add_argument("--flip", action="store_true",
                       help="average with the prediction for the mirrored image")  # fmt: skip
    depth.add_argument("--kind", choices=("depth", "inverse"), default="depth",
                       help="what PREDICTIONS hold: depth (default); or inverse depth, disparity")  # fmt: skip
    depth.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    depth.add_argument("--csv", type=Path, metavar="FILE", help="write a row for each image there")
    depth.add_argument(
        "--worst", type=Path, metavar="FOLDER", help="draw the ten worst images there"
    )
    add_common(depth)
    depth.set_defaults(command=_evaluate_depth)

    odometry = kinds.add_parser("odometry", help="score a trajectory")
    odometry.add_argument("what", metavar="RUN|TRAJECTORY", type=run_folder,
                          help="run folder, or a file in KITTI, TUM or EuRoC format")  # fmt: skip
    truth = odometry.add_mutually_exclusive_group(required=True)
    truth.add_argument("--data", metavar="KIND:ROOT", help="data set with poses")
    truth.add_argument("--truth", type=Path, metavar="FILE",
                       help="true trajectory, for a TRAJECTORY")  # fmt: skip
    odometry.add_argument("--by", choices=("network", "alignment"), default="network",
                          help="of a RUN: chain PoseNet's motions (default), or align directly, as "
                          "`egodepth odometry` does")  # fmt: skip
    odometry.add_argument("--alignment", default="sim3",
                          choices=("none", "origin", "scale", "se3", "sim3", "segments"),
                          help="of the estimate to the truth (default: sim3)")  # fmt: skip
    odometry.add_argument("--max_apart", type=positive, default=0.02, metavar="S",
                          help="seconds between poses that belong together (default: 0.02)")  # fmt: skip
    odometry.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    odometry.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the path from above")
    odometry.add_argument("--plot_errors", type=Path, metavar="FILE.png",
                          help="draw KITTI's errors over length and speed")  # fmt: skip
    odometry.add_argument("--rate", type=positive, default=10.0,
                          help="frames a second, for the speed (default: 10)")  # fmt: skip
    add_common(odometry)
    odometry.set_defaults(command=_evaluate_odometry)

    leaderboard = commands.add_parser("leaderboard", help="one table of many evaluations")
    leaderboard.add_argument("folder", type=Path, metavar="DIR",
                             help="folder with JSON files of `egodepth evaluate ... --json`")  # fmt: skip
    leaderboard.add_argument("--out", type=Path, metavar="FILE",
                             help="write it there, as .md or .html, too")  # fmt: skip
    leaderboard.add_argument("--own_only", action="store_true", help="leave published results out")
    leaderboard.set_defaults(command=_leaderboard)


def _evaluate_depth(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from egodepth.core.files import write_json
    from egodepth.data.sources import default_protocol, read_source, select
    from egodepth.data.splits import get_split
    from egodepth.evaluation.depth import CROPS, SCALINGS, get_protocol
    from egodepth.inference.scoring.depth_scores import RunPredictor, evaluate_predictor
    from egodepth.inference.scoring.predictions import Predictions
    from egodepth.report.evaluation import draw_worst, run_facts, write_csv
    from egodepth.report.tables import depth_table, more_depth_table
    from egodepth.runs.folder import RunFolder
    from egodepth.runs.run import Run

    for path in filter(None, (options.json, options.csv)):
        check_destination(path)
    if options.worst:
        check_destination(options.worst, folder=True)
    protocol = get_protocol(options.protocol or default_protocol(options.data))
    changes: dict[str, Any] = {"flip": options.flip}
    for name, known in (("scaling", SCALINGS), ("crop", CROPS)):
        value = getattr(options, name)
        if value is not None and value not in known:
            raise EgodepthError(f"unknown {name} {value!r}; use {', '.join(known)}")
        changes |= {name: value} if value else {}
    if options.max_depth:
        changes["max_depth"] = options.max_depth
    if options.split == "all":
        changes |= {"split": None, "images": None}
    elif options.split:
        asked = get_split(options.split)
        same = asked.name == protocol.split or asked.size == protocol.images
        changes |= {"split": asked.name} | ({} if same else {"images": asked.size})
    protocol = replace(protocol, **changes)
    split = get_split(protocol.split) if protocol.split else None
    is_run = RunFolder.at(options.what).exists
    if is_run:
        run = Run.load(options.what, options.device)
        predictor: Any = RunPredictor(run, options.flip)
    else:
        if options.flip:
            raise EgodepthError("--flip needs a run; predictions are taken as they are")
        predictor = Predictions(options.what, options.kind, split)
    if is_run:
        sequences = run.open(options.data, name=options.sequence)
    else:
        sequences = select(read_source(options.data), options.sequence)
    scores = evaluate_predictor(
        predictor, sequences, protocol, split, run.refined if is_run else ""
    )
    if options.json:
        facts = run_facts(options.what) if is_run else {"name": options.what.name}
        write_json(
            options.json, {"kind": "depth", **scores.to_json(), "data": options.data, **facts}
        )
    if options.csv:
        write_csv(options.csv, scores)
    if options.worst:
        draw_worst(options.worst, scores, sequences, predictor, protocol)
    print_table(depth_table(scores.summary, scores.constant, scores.caption))
    print_table(more_depth_table(scores.summary))
    return 0


def _evaluate_odometry(options: argparse.Namespace) -> int:
    from egodepth.core.files import write_json
    from egodepth.data.sources import read_source, select
    from egodepth.evaluation.odometry import segment_errors
    from egodepth.inference.scoring.trajectory_scores import (
        evaluate_odometry,
        evaluate_trajectory_file,
    )
    from egodepth.report.evaluation import run_facts
    from egodepth.report.plots import plot_segments, plot_trajectory
    from egodepth.report.tables import odometry_table
    from egodepth.runs.folder import RunFolder
    from egodepth.runs.run import Run

    for path in filter(None, (options.json, options.plot, options.plot_errors)):
        check_destination(path, () if path is options.json else PICTURES)
    sequence = None
    if options.data:
        sequence = select(read_source(options.data), options.sequence)[0]
    is_run = Path(options.what).is_dir()
    if is_run and sequence is None:
        raise EgodepthError(f"{options.what} is a folder: to score a run, give --data KIND:ROOT")
    if is_run:
        assert sequence is not None
        run = Run.load(options.what, options.device)
        sequence = run.open(sequence)[0]
        scores = evaluate_odometry(run, sequence, options.alignment, by=options.by)
    else:
        scores = evaluate_trajectory_file(
            options.what, sequence or options.truth, options.alignment, options.max_apart
        )
    if options.json:
        facts = run_facts(options.what) if RunFolder.at(options.what).exists else {}
        write_json(options.json, {"kind": "odometry", **scores.to_json(),
                   "data": options.data or str(options.truth), "name": options.what.name} | facts)  # fmt: skip
    if options.plot:
        plot_trajectory(options.plot, scores.estimate, scores.truth, options.alignment)
    print_table(odometry_table(scores.summary, scores.sequence, scores.caption))
    if options.plot_errors:
        segments = segment_errors(scores.estimate, scores.truth, options.alignment)
        if not segments:
            raise EgodepthError(
                f"no errors over length to draw: {scores.sequence} is {scores.summary['path_m']:.0f} m "
                "long, and the shortest segment 100 m"
            )
        plot_segments(options.plot_errors, segments, options.rate)
    return 0


def _leaderboard(options: argparse.Namespace) -> int:
    from egodepth.core.files import write_text
    from egodepth.report.leaderboard import as_html, as_markdown, collect

    if options.out:
        check_destination(options.out, (".md", ".html"))
    boards = collect(options.folder, with_published=not options.own_only)
    if options.out:
        write_text(options.out, (as_html if options.out.suffix == ".html" else as_markdown)(boards))
    print(as_markdown(boards))
    return 0
