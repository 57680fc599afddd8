"""The command line: parsing here, work in the library; every known error is one line."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from egodepth.cli import data, evaluate, export, view
from egodepth.cli.common import (
    FAILED,
    INTERRUPTED,
    MISUSED,
    Parser,
    add_camera,
    add_common,
    add_metres,
    add_rate,
    at_rate,
    known_length,
    print_table,
    run_folder,
)
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.outputs import OutputFolder, check_destination
from egodepth.core.progress import reporting
from egodepth.core.quiet import quiet_loggers


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _build_parser(with_settings=words[:1] == ["train"])
    options = parser.parse_args(words)
    quiet_loggers()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        with warnings.catch_warnings(), reporting():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            if not sys.warnoptions:
                warnings.simplefilter("ignore")  # of other packages, which tell users nothing
            warnings.simplefilter("always", EgodepthWarning)
            command: Callable[[argparse.Namespace], int] = options.command
            return command(options)
    except EgodepthError as error:
        print(f"egodepth: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("egodepth: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(f"egodepth: the system refused{where}: {error.strerror or error}", file=sys.stderr)
        return FAILED


def _show_warning(message: Warning | str, category: type[Warning], *where: Any) -> None:
    if issubclass(category, EgodepthWarning):
        print(f"egodepth: {message}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, *where[:2]), file=sys.stderr, end="")


def _build_parser(*, with_settings: bool) -> argparse.ArgumentParser:
    parser = Parser(
        prog="egodepth", description="Depth and egomotion from plain video, without labels."
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    parser.set_defaults(command=lambda options: _version(parser, options))
    commands = parser.add_subparsers(metavar="COMMAND")

    demo = commands.add_parser("demo", help="render a street, train, predict, score, report")
    demo.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="folder (default: runs/demo)"
    )
    demo.add_argument("--minutes", type=float, default=10, help="time for everything (default: 10)")
    demo.add_argument("--seed", type=int, default=0, help="seed of the training (default: 0)")
    demo.set_defaults(command=_demo)

    train = commands.add_parser("train", help="train on a data set, a video or a folder of images")
    train.add_argument(
        "what",
        metavar="RECIPE|FOOTAGE",
        nargs="+",
        help="name of a recipe; or videos, folders, patterns like 'drive/*.mp4', addresses, KIND:ROOT",
    )
    train.add_argument("--out", type=Path, required=True, help="run folder to make")
    train.add_argument("--config", type=Path, help="YAML file of settings; what is typed beats it")
    train.add_argument("--estimate", action="store_true",
                       help="say how long it would take, by timing a few steps, and stop")  # fmt: skip
    train.add_argument("--resume", action="store_true", help="go on with the run in --out")
    if with_settings:
        _add_settings(train)
    train.set_defaults(command=_train)

    predict = commands.add_parser("predict", help="write depth maps and the trajectory of footage")
    predict.add_argument("run", type=run_folder, metavar="RUN", help="run folder")
    predict.add_argument("source", metavar="SOURCE", help="video, folder, or KIND:ROOT")
    predict.add_argument("--out", type=Path, required=True, help="folder to write to")
    predict.add_argument("--backend", default="torch",
                         help="torch (default), torch-bf16, onnxruntime, openvino, openvino-bf16 or "
                         "openvino-int8")  # fmt: skip
    add_camera(predict)
    predict.add_argument("--formats", nargs="+", choices=("npz", "png", "exr", "video"),
                         default=("npz", "png", "video"),
                         help="of the depth maps (default: npz png video; exr needs OpenEXR)")  # fmt: skip
    add_metres(predict)
    add_rate(predict)
    add_common(predict)
    predict.set_defaults(command=_predict)

    odometry = commands.add_parser("odometry", help="find the trajectory by direct alignment")
    odometry.add_argument("run", type=run_folder, metavar="RUN", help="run folder")
    odometry.add_argument("source", metavar="SOURCE", help="video, folder, or KIND:ROOT")
    odometry.add_argument("--out", type=Path, required=True, help="folder to write to")
    add_metres(odometry)
    add_rate(odometry)
    add_camera(odometry)
    odometry.add_argument("--key_frames", type=int, default=7,
                          help="in the sliding window (default: 7)")  # fmt: skip
    odometry.add_argument("--trust_depth", choices=("auto", "yes", "no"), default="auto",
                          help="keep near DepthNet's depth; auto: if it was learned with motion from "
                          "more than PoseNet (default)")  # fmt: skip
    add_common(odometry)
    odometry.set_defaults(command=_odometry)

    refine = commands.add_parser(
        "refine", help="go on training on the very frames that are predicted"
    )
    refine.add_argument("run", type=run_folder, metavar="RUN", help="run folder to start from")
    refine.add_argument("source", metavar="SOURCE", help="test footage: path or KIND:ROOT")
    refine.add_argument("--out", type=Path, required=True, help="folder to write to")
    refine.add_argument("--mode", choices=("sample", "split"), default="sample",
                        help="sample (default, the paper): each frame by a few iterations on its own "
                        "snippet, predictions in --out; split (the published code): epochs over all "
                        "frames, a new run in --out")  # fmt: skip
    refine.add_argument("--iterations", type=int, default=20,
                        help="of mode sample, for each frame (default: 20)")  # fmt: skip
    refine.add_argument("--epochs", type=float, default=20, help="of mode split (default: 20)")
    refine.add_argument("--learning_rate", type=float, default=1e-4, help="(default: 1e-4)")
    refine.add_argument("--truth_only", action="store_true",
                        help="mode sample: only frames with ground-truth depth")  # fmt: skip
    refine.add_argument("--protocol", help="to score with, where there is depth; by default that of the "
                        "data set")  # fmt: skip
    add_camera(refine)
    add_rate(refine)
    refine.add_argument("--sequence", metavar="NAME", help="the sequence of this name alone")
    refine.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    refine.set_defaults(command=_refine)

    evaluate.add_commands(commands)
    data.add_commands(commands)

    importer = commands.add_parser("import", help="make a run of a published checkpoint")
    kinds = importer.add_subparsers(metavar="featdepth", required=True)
    featdepth = kinds.add_parser("featdepth", help="a checkpoint of the authors' implementation")
    featdepth.add_argument("file", type=Path, metavar="FILE", help="checkpoint (.pth)")
    featdepth.add_argument("--out", type=Path, required=True, help="run folder to make")
    featdepth.add_argument("--height", type=int, default=320, help="of its images (default: 320)")
    featdepth.add_argument("--width", type=int, default=1024, help="of its images (default: 1024)")
    featdepth.set_defaults(command=_import_featdepth)

    landscape = commands.add_parser("landscape", help="draw losses around true matches")
    landscape.add_argument(
        "run", type=run_folder, metavar="RUN", help="run folder with a FeatureNet"
    )
    landscape.add_argument("source", metavar="SOURCE", help="video, folder, or KIND:ROOT")
    landscape.add_argument("--frame", type=int, required=True, metavar="N",
                           help="number of the target frame")  # fmt: skip
    landscape.add_argument("--pixel", type=float, nargs=2, metavar=("U", "V"),
                           help="of the original frame; by default random ones")  # fmt: skip
    landscape.add_argument("--count", type=int, default=200, help="random pixels (default: 200)")
    landscape.add_argument("--offset", type=int, default=1,
                           help="frames from target to source (default: 1)")  # fmt: skip
    landscape.add_argument("--radius", type=float, default=12,
                           help="largest displacement in pixels of the run's images (default: 12)")  # fmt: skip
    landscape.add_argument("--step", type=float, default=0.5, help="of the grid (default: 0.5)")
    landscape.add_argument("--level", type=int, default=0,
                           help="of the features, the finest is 0 (default)")  # fmt: skip
    add_camera(landscape)
    landscape.add_argument("--seed", type=int, default=0, help="of the random pixels (default: 0)")
    landscape.add_argument("--sequence", metavar="NAME", help="the sequence of this name alone")
    landscape.add_argument("--out", type=Path, required=True, help="folder to write to")
    landscape.set_defaults(command=_landscape)

    export.add_commands(commands)
    view.add_commands(commands)

    report = commands.add_parser("report", help="write report.html of a run")
    report.add_argument("run", type=run_folder, metavar="RUN", help="run folder")
    report.add_argument("--out", type=Path, metavar="FILE.html",
                        help="by default report.html in the run folder")  # fmt: skip
    report.set_defaults(command=_report)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    from egodepth.core.config import RENAMED, list_settings
    from egodepth.settings.training import TrainSettings

    group = parser.add_argument_group("settings (defaults of the recipe footage)")
    for setting in list_settings(TrainSettings()):
        if setting.name != "recipe":
            text = setting.help.replace("\n", " ").replace("%", "%%")
            group.add_argument(f"--{setting.name}", dest=f"set:{setting.name}", metavar="VALUE",
                               default=argparse.SUPPRESS,
                               help=f"{text} (default: {setting.default})")  # fmt: skip
    for name in RENAMED:
        group.add_argument(f"--{name}", dest=f"set:{name}", default=argparse.SUPPRESS,
                           help=argparse.SUPPRESS)  # fmt: skip


def _version(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.version:
        from importlib.metadata import version

        print(f"egodepth {version('egodepth')}")
        return 0
    parser.print_help()
    return MISUSED


def _demo(options: argparse.Namespace) -> int:
    from egodepth.demo import run_demo
    from egodepth.report.tables import depth_table, more_depth_table, odometry_table
    from egodepth.runs.folder import RunFolder
    from egodepth.training.run import TrainingInterrupted

    try:
        result = run_demo(options.out, minutes=options.minutes, seed=options.seed)
    except TrainingInterrupted as stop:
        print(f"egodepth: {stop}; run the demo again", file=sys.stderr)
        return INTERRUPTED
    depth, odometry = result.depth, result.odometry
    print_table(depth_table(depth.summary, depth.constant, depth.caption))
    print_table(more_depth_table(depth.summary))
    print_table(odometry_table(odometry.summary, odometry.sequence, odometry.caption))
    run = RunFolder.at(options.out)
    print(f"open {run.report} in a browser; the numbers are in {run.metrics}")
    return 0


def _train(options: argparse.Namespace) -> int:
    from egodepth.core import config
    from egodepth.core.world import World
    from egodepth.report.html_report import ReportContent, write_report
    from egodepth.runs.folder import RunFolder
    from egodepth.settings.model import ModelSettings
    from egodepth.settings.recipes import RECIPES, get_recipe
    from egodepth.training.run import TrainingInterrupted, estimate, train

    changes = {k.removeprefix("set:"): v for k, v in vars(options).items() if k.startswith("set:")}
    if options.resume:
        if changes or options.config:
            raise EgodepthError("--resume takes the settings of the run; leave the others out")
        settings = RunFolder.at(options.out).settings()
    else:
        first = options.what[0]
        if len(options.what) > 1 or (first not in RECIPES and _is_footage(first)):
            changes.setdefault("data.sources", list(options.what))
            settings = get_recipe("footage")
        else:
            settings = get_recipe(first)
        if "init" in changes:
            model = RunFolder.at(changes["init"]).section(ModelSettings, "model")
            settings = settings.changed(model=model)
        if options.config:
            settings = config.merge_file(settings, options.config)
        settings = config.override(settings, changes)
    if options.estimate:
        found = estimate(settings)
        print(
            f"{found.seconds_per_step:.2f} s a step; {found.steps} steps, "
            f"{found.steps / found.steps_per_epoch:.1f} epochs of {found.snippets} snippets: "
            f"{found.hours():.2f} hours after {found.prepare_seconds:.0f} s of preparation; "
            f"at this rate 20 epochs of KITTI's 39,810 snippets would take "
            f"{found.hours(39810, 20):.0f} hours"
        )
        return 0
    stop: TrainingInterrupted | None = None
    try:
        result = train(settings, options.out, resume=options.resume)
    except TrainingInterrupted as interrupt:
        result, stop = interrupt.result, interrupt
    if not World.of_environment().is_main:
        return 0 if stop is None else INTERRUPTED
    subtitle = f"recipe {settings.recipe}, method {settings.method}, {result.steps} steps"
    page = write_report(options.out, ReportContent(title=options.out.name, subtitle=subtitle))
    print(
        f"{result.steps} of {result.total_steps} steps in {result.seconds:.0f} s after "
        f"{result.prepare_seconds:.0f} s of preparation; see {page}"
    )
    if result.collapse:
        print(
            f"egodepth: this training may have learned nothing: {result.collapse}", file=sys.stderr
        )
    if stop is not None:
        print(f"egodepth: {stop}; go on with: egodepth train {' '.join(options.what)} "
              f"--out {options.out} --resume", file=sys.stderr)  # fmt: skip
        return INTERRUPTED
    return 0


def _is_footage(word: str) -> bool:
    from egodepth.data.sources import DATA_SETS, is_address, is_pattern

    kind = word.partition(":")[0]
    named = ":" in word and (kind in DATA_SETS or kind == "synthetic")
    return named or Path(word).exists() or is_address(word) or is_pattern(word)


def _predict(options: argparse.Namespace) -> int:
    from egodepth.inference.predict import (
        PREDICTION,
        check_formats,
        find_unit,
        predict_sequence,
        write_predictions,
    )
    from egodepth.runs.backends import BACKENDS
    from egodepth.runs.run import Run

    check_destination(options.out, folder=True)
    check_formats(options.formats)
    run = Run.load(options.run, options.device)
    sequences = run.open(
        options.source, name=options.sequence, fov=options.fov, camera=options.camera
    )
    sequences = at_rate(sequences, options)
    if options.backend not in BACKENDS:
        raise EgodepthError(f"unknown backend {options.backend!r}; use {', '.join(BACKENDS)}")
    if options.backend != "torch":
        few = range(0, len(sequences[0].frames), max(1, len(sequences[0].frames) // 32))
        images = (frame.image for frame in sequences[0].frames.at(few))
        run.use_backend(options.backend, images)
    folder: OutputFolder | None = None
    for sequence in sequences:
        unit = find_unit(run, sequence, known_length(options))
        folder = folder or OutputFolder(options.out, PREDICTION)
        out = folder if len(sequences) == 1 else folder.within(sequence.name)
        predictions = write_predictions(
            predict_sequence(run, sequence, unit=unit), out, unit, options.formats
        )
        count = 0
        try:
            for _ in predictions:
                count += 1
        except KeyboardInterrupt:
            print(f"egodepth: interrupted after {count} of {len(sequence.frames)} frames; {out.path} holds "
                  "them without a trajectory", file=sys.stderr)  # fmt: skip
            return INTERRUPTED
        what = "the trajectory" if run.has_motion else "no trajectory (there is no PoseNet)"
        print(f"{count} depth maps and {what} are in {out.path}; lengths in {unit.text}")
    return 0


def _odometry(options: argparse.Namespace) -> int:
    from egodepth.evaluation.odometry import describe
    from egodepth.inference.odometry.track import (
        ODOMETRY,
        NoUnitError,
        TrackingInterrupted,
        track_sequence,
        write_trajectory,
    )
    from egodepth.inference.odometry.tracker import OdometrySettings
    from egodepth.inference.scoring.trajectory_scores import unit_of_truth
    from egodepth.report.plots import plot_trajectory
    from egodepth.report.tables import odometry_table
    from egodepth.runs.run import Run

    check_destination(options.out, folder=True)
    run = Run.load(options.run, options.device)
    trust = {"auto": None, "yes": True, "no": False}[options.trust_depth]
    if options.key_frames < 3:
        raise EgodepthError(f"--key_frames must be at least 3, got {options.key_frames}")
    sequences = run.open(
        options.source, name=options.sequence, fov=options.fov, camera=options.camera
    )
    sequences = at_rate(sequences, options)
    folder: OutputFolder | None = None
    for sequence in sequences:
        no_unit: NoUnitError | None = None
        try:
            found = track_sequence(
                run, sequence,
                OdometrySettings(key_frames=options.key_frames, trust_depth=trust),
                known=known_length(options),
            )  # fmt: skip
        except TrackingInterrupted as interrupt:
            found = interrupt.trajectory
        except NoUnitError as error:
            # Minutes of tracking are not lost over a length that tells nothing.
            found, no_unit = error.trajectory, error
        folder = folder or OutputFolder(options.out, ODOMETRY)
        out = folder if len(sequences) == 1 else folder.within(sequence.name)
        scores = write_trajectory(found, sequence, out)
        plot_trajectory(out.file("trajectory.png"), found.first_from_frame,
                        found.true_poses(sequence) if scores else None)  # fmt: skip
        count = len(found)
        print(f"{count} frames, {found.key_frames} of them key frames, {count / found.seconds:.1f} "
              f"frames/s; lengths in {found.unit}; the trajectory is in {out.path}")  # fmt: skip
        if found.untrusted:
            some = ", ".join(str(n) for n in found.untrusted[:8])
            print(f"{len(found.untrusted)} frames could not be aligned and go on as before: {some}")
        if scores:
            caption = f"{scores['frames']} of {count} poses{unit_of_truth(sequence)}; "
            caption += describe("sim3", scores)
            print_table(odometry_table(scores, sequence.name, caption))
        if found.interrupted:
            print(
                f"egodepth: {found.interrupted}; what was found is in {out.path}", file=sys.stderr
            )
            return INTERRUPTED
        if no_unit is not None:
            raise EgodepthError(f"{no_unit}; the trajectory is in the run's own unit") from no_unit
    return 0


def _refine(options: argparse.Namespace) -> int:
    from egodepth.data.sources import select
    from egodepth.refine import refine_split
    from egodepth.runs.footage import open_footage
    from egodepth.training.run import TrainingInterrupted

    sequences = open_footage(options.run, options.source, fov=options.fov, camera=options.camera)
    sequences = at_rate(sequences, options)
    chosen = select(sequences, options.sequence)
    if options.mode == "sample":
        return _refine_samples(options, sequences, chosen)
    try:
        result = refine_split(
            options.run, options.source, chosen, options.out,
            epochs=options.epochs, learning_rate=options.learning_rate, device=options.device,
        )  # fmt: skip
    except TrainingInterrupted as stop:
        print(f"egodepth: {stop}; go on with: egodepth train {options.source} "
              f"--out {options.out} --resume", file=sys.stderr)  # fmt: skip
        return INTERRUPTED
    print(f"{result.steps} steps; {result.held_out}; the refined run is in {options.out}, its scores are "
          "marked as refined")  # fmt: skip
    return 0


def _refine_samples(options: argparse.Namespace, sequences: list[Any], chosen: list[Any]) -> int:
    from egodepth.core.files import write_json
    from egodepth.data.sources import default_protocol
    from egodepth.data.splits import get_split
    from egodepth.evaluation.depth import get_protocol
    from egodepth.inference.predict import write_predictions
    from egodepth.inference.scoring.depth_scores import (
        evaluate_depth,
        evaluate_predictor,
        scored_frames,
    )
    from egodepth.inference.scoring.predictions import Predictions
    from egodepth.refine import SampleRefinement, refine_samples
    from egodepth.report.tables import depth_table
    from egodepth.runs.run import Run
    from egodepth.training.held_out import HeldOutResult

    protocol = get_protocol(options.protocol or default_protocol(options.source))
    split = get_split(protocol.split) if protocol.split else None
    how = SampleRefinement(options.iterations, options.learning_rate)
    check_destination(options.out, folder=True)
    folder = OutputFolder(options.out, "refinement")
    size = Run.load(options.run).settings
    has_truth = any(s.ground_truth(protocol.truth) for s in chosen)
    scored = scored_frames(chosen, protocol, split) if has_truth or options.truth_only else []
    frames = {sequence.name: indices for sequence, _, indices in scored}
    found: list[HeldOutResult | None] = []
    for sequence in chosen:
        if options.truth_only and sequence.name not in frames:
            continue
        out = folder if len(chosen) == 1 else folder.within(sequence.name)
        wanted = frames[sequence.name] if options.truth_only else None
        predictions = refine_samples(
            options.run, sequence, how, rig=sequences, frames=wanted, device=options.device,
            on_frame=found.append,
        )  # fmt: skip
        count, written = len(wanted or sequence.frames), 0
        try:
            for _ in write_predictions(predictions, out):
                written += 1
        except KeyboardInterrupt:
            print(f"egodepth: interrupted after {written} of {count} frames; {out.path} holds their depth "
                  "maps, which are not scored", file=sys.stderr)  # fmt: skip
            return INTERRUPTED
        print(f"depth maps, each {how}, are in {out.path}")
    kept, unchecked = sum(r is not None and r.improved for r in found), found.count(None)
    if unchecked:
        print(
            "the footage is too short to hold frames out: whether its depth got better is not known"
        )
    else:
        print(f"{kept} of {len(found)} frames keep their refinement, which explains held-out frames better; "
              "the others have the run's own depth")  # fmt: skip
    write_json(folder.file("refined.json"), {"refined": str(how), "run": str(options.run),
               "frames": len(found), "improved": kept, "unchecked": unchecked})  # fmt: skip
    try:
        if scored:
            before = evaluate_depth(Run.load(options.run), chosen, protocol, split=split)
            print_table(depth_table(before.summary, before.constant, f"before: {before.caption}"))
            predictor = Predictions(folder.path, texture_size=(size.height, size.width))
            scores = evaluate_predictor(predictor, chosen, protocol, split=split, note=str(how))
            write_json(folder.file("scores.json"), {**scores.to_json(), "before": before.summary})
            print_table(depth_table(scores.summary, scores.constant, scores.caption))
    except EgodepthError as error:
        # Hours of refinement have not failed since they can't be scored.
        print(f"egodepth: the depth maps in {folder.path} are not scored: {error}", file=sys.stderr)
    return 0


def _import_featdepth(options: argparse.Namespace) -> int:
    from egodepth.training.published import import_featdepth

    result = import_featdepth(options.file, options.out, height=options.height, width=options.width)
    print(f"{result.mapped} entries taken over, each once, into {', '.join(result.networks)}; "
          f"none missing; {len(result.unused)} that no network uses: {', '.join(result.unused)}")  # fmt: skip
    print(f"the run is in {result.run}; go on training from it with --init {result.run}")
    return 0


def _landscape(options: argparse.Namespace) -> int:
    from egodepth.core.files import write_json
    from egodepth.inference.scoring.landscape import draw_landscape
    from egodepth.report.plots import plot_landscape
    from egodepth.report.tables import landscape_table
    from egodepth.runs.footage import open_footage

    check_destination(options.out, folder=True)
    sequence = open_footage(options.run, options.source, name=options.sequence, fov=options.fov,
                            camera=options.camera)[0]  # fmt: skip
    result = draw_landscape(
        options.run, sequence, options.frame,
        pixel=tuple(options.pixel) if options.pixel else None, count=options.count,
        offset=options.offset, radius=options.radius, step=options.step, level=options.level,
        seed=options.seed,
    )  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "landscape.json", result.to_json())
    what = f"{sequence.name}, frame {options.frame}, {result.describe()}"
    plot_landscape(options.out / "landscape.png", result.mean_surfaces(), options.step, what)
    print_table(landscape_table(result.groups, result.protocol))
    print(f"landscape.png and landscape.json are in {options.out}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from egodepth.report.html_report import ReportContent, write_report
    from egodepth.runs.folder import RunFolder

    if options.out:
        check_destination(options.out, (".html",))
    run = RunFolder.at(options.run)
    print(write_report(run, ReportContent(title=run.name), options.out))
    return 0
