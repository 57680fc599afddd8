"""``egodepth evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import model_validator

from egodepth.cli.command import (
    DeviceOption,
    Metavar,
    Positional,
    Positive,
    SequenceOption,
    only_one,
)
from egodepth.cli.output import print_table
from egodepth.core.errors import EgodepthError

if TYPE_CHECKING:
    from egodepth.data.sequence import Sequence
    from egodepth.evaluation.depth import DepthProtocol
    from egodepth.inference.scoring.depth_scores import Predictor
    from egodepth.inference.scoring.stillness import Stillness
    from egodepth.inference.scoring.trajectory_files import OdometryScores

PICTURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")
"""File types that Matplotlib can write."""


class EvaluateDepth(SequenceOption, DeviceOption):
    """Score the depth maps of a run or from files."""

    predictions: Annotated[Path, Positional("RUN|PREDICTIONS")]
    """run folder; or a folder of .npy, .npz or 16-bit .png files named like their images or by frame number;
    or one .npy or .npz file with all depth maps in the order of --split"""
    data: Annotated[str, Metavar("KIND:ROOT")]
    """data set with its root (`egodepth data sets` lists them), synthetic:SEED, or a folder with images and
    depth"""
    protocol: Annotated[str | None, Metavar("NAME")] = None
    """evaluation protocol (`egodepth data protocols` lists them); default: one that fits the data and scores
    all frames with depth"""
    scaling: (
        Literal["median", "set_median", "affine", "affine_inverse", "none", "baseline"] | None
    ) = None
    """scaling of the prediction, overriding the protocol's"""
    crop: Literal["none", "garg", "eigen", "nyu", "cityscapes"] | None = None
    """crop of the image, overriding the protocol's"""
    max_depth: Annotated[Positive | None, Metavar("M")] = None
    """maximum depth to score, in metres, overriding the protocol's"""
    split: Annotated[str | None, Metavar("SPLIT")] = None
    """frames to score, overriding the protocol's: a name (`egodepth data splits` lists them), a file of
    `folder frame side` lines, or all"""
    flip: bool = False
    """average with the prediction for the mirrored image"""
    kind: Literal["depth", "inverse"] = "depth"
    """content of PREDICTIONS: depth, or inverse depth (disparity)"""
    temporal: bool = False
    """also score how still depth is from frame to frame, along the footage's poses, --trajectory, or a RUN's
    own odometry; needs no ground truth"""
    trajectory: Annotated[Path | None, Metavar("FILE")] = None
    """trajectory for --temporal in KITTI, TUM or EuRoC format; default: the footage's own poses"""
    json_file: Annotated[Path | None, Metavar("FILE", option="json")] = None
    """also write the scores to this JSON file"""
    csv: Annotated[Path | None, Metavar("FILE")] = None
    """write a row per image to this CSV file"""
    worst: Annotated[Path | None, Metavar("FOLDER")] = None
    """draw the ten worst images into this folder"""
    plot_confidence: Annotated[Path | None, Metavar("FILE.png")] = None
    """plot the sparsification curves of the confidence: the error of the remaining pixels while the least sure
    ones are left out"""

    def run(self) -> int:
        """See the class."""
        from egodepth.core.outputs import check_destination
        from egodepth.inference.scoring.depth_scores import evaluate_predictor
        from egodepth.inference.scoring.requested import open_predictor, requested_protocol
        from egodepth.report.evaluation import draw_worst, write_csv
        from egodepth.report.tables import (
            confidence_table,
            depth_table,
            more_depth_table,
            stillness_table,
        )
        from egodepth.runs.destination import check_output_folder

        if self.trajectory and not self.temporal:
            raise EgodepthError("--trajectory is for --temporal: give both")
        for path in filter(None, (self.json_file, self.csv)):
            check_destination(path)
        if self.worst:
            check_output_folder(self.worst)
        if self.plot_confidence:
            check_destination(self.plot_confidence, PICTURES)
        protocol, split = requested_protocol(
            self.data, self.protocol, scaling=self.scaling, crop=self.crop, max_depth=self.max_depth,
            split=self.split, flip=self.flip,
        )  # fmt: skip
        predictor, sequences, note = open_predictor(
            self.predictions, self.data, self.sequence, flip=self.flip, kind=self.kind, split=split,
            device=self.device,
        )  # fmt: skip
        stillness = self._stillness(predictor, sequences, protocol) if self.temporal else None
        truth = any(s.ground_truth(protocol.truth) for s in sequences)
        if stillness is not None and not truth and not (self.csv or self.worst):
            self._write_json({"kind": "temporal", "temporal": stillness.to_json()})
            print_table(stillness_table(stillness.summary, stillness.caption))
            return 0
        scores = evaluate_predictor(predictor, sequences, protocol, split, note)
        temporal = {"temporal": stillness.to_json()} if stillness else {}
        self._write_json({"kind": "depth", **scores.to_json(), **temporal})
        if self.csv:
            write_csv(self.csv, scores)
        if self.worst:
            draw_worst(self.worst, scores, sequences, predictor, protocol)
        print_table(depth_table(scores.summary, scores.constant, scores.caption))
        print_table(more_depth_table(scores.summary))
        if stillness is not None:
            print_table(stillness_table(stillness.summary, stillness.caption))
        sure = confidence_table(scores.summary)
        if sure is not None:
            print_table(sure)
        if self.plot_confidence:
            from egodepth.report.evaluation import draw_confidence

            draw_confidence(self.plot_confidence, scores, self.predictions)
        return 0

    def _stillness(
        self, predictor: "Predictor", sequences: "list[Sequence]", protocol: "DepthProtocol"
    ) -> "Stillness":
        from egodepth.inference.scoring.stillness import evaluate_stillness

        seen = [s for s in sequences if s.camera_name in protocol.cameras] or sequences
        return evaluate_stillness(
            predictor, seen, trajectory=self.trajectory, scaled=self.scaling != "none"
        )

    def _write_json(self, scores: dict[str, Any]) -> None:
        from egodepth.core.files import write_json
        from egodepth.report.evaluation import run_facts
        from egodepth.runs.folder import RunFolder

        if self.json_file:
            is_run = RunFolder.at(self.predictions).exists
            facts = run_facts(self.predictions) if is_run else {"name": self.predictions.name}
            write_json(self.json_file, {**scores, "data": self.data, **facts})


class EvaluateOdometry(SequenceOption, DeviceOption):
    """Score the trajectory of a run or from a file."""

    estimate: Annotated[Path, Positional("RUN|TRAJECTORY")]
    """run folder, or a file in KITTI, TUM or EuRoC format"""
    data: Annotated[str | None, Metavar("KIND:ROOT")] = None
    """data set with poses"""
    truth: Annotated[Path | None, Metavar("FILE")] = None
    """ground-truth trajectory, if a TRAJECTORY is scored"""
    by: Literal["network", "alignment"] = "network"
    """how a RUN finds the trajectory; network: chain PoseNet's motions; alignment: direct alignment, as in
    `egodepth odometry`"""
    alignment: Literal["none", "origin", "scale", "se3", "sim3", "segments"] = "sim3"
    """how the estimate is aligned to the ground truth"""
    max_apart: Annotated[Positive, Metavar("S")] = 0.02
    """maximum time difference of associated poses, in seconds"""
    json_file: Annotated[Path | None, Metavar("FILE", option="json")] = None
    """also write the scores to this JSON file"""
    plot: Annotated[Path | None, Metavar("FILE.png")] = None
    """plot the path from above"""
    plot_errors: Annotated[Path | None, Metavar("FILE.png")] = None
    """plot KITTI's segment errors over length and speed"""
    rate: Annotated[Positive, Metavar("N")] = 10.0
    """frames per second, for the speed in --plot_errors"""

    @model_validator(mode="after")
    def _one_truth(self) -> Self:
        if self.data is None and self.truth is None:
            raise ValueError("give --data KIND:ROOT or --truth FILE to score against")
        return only_one(self, "data", "truth")

    def run(self) -> int:
        """See the class."""
        from egodepth.core.outputs import check_destination
        from egodepth.evaluation.odometry import segment_errors
        from egodepth.report.tables import odometry_table

        if self.json_file:
            check_destination(self.json_file)
        for path in filter(None, (self.plot, self.plot_errors)):
            check_destination(path, PICTURES)
        scores = self._scores()
        if self.json_file:
            self._write_json(scores)
        if self.plot:
            from egodepth.report.plots import plot_trajectory

            plot_trajectory(self.plot, scores.estimate, scores.truth, self.alignment)
        print_table(odometry_table(scores.summary, scores.sequence, scores.caption))
        if self.plot_errors:
            segments = segment_errors(scores.estimate, scores.truth, self.alignment)
            if not segments:
                raise EgodepthError(
                    f"no errors over length to draw: {scores.sequence} is {scores.summary['path_m']:.0f} m "
                    "long, and the shortest segment 100 m"
                )
            from egodepth.report.plots import plot_segments

            plot_segments(self.plot_errors, segments, self.rate)
        return 0

    def _scores(self) -> "OdometryScores":
        from egodepth.inference.scoring.trajectory_files import evaluate_trajectory_file

        if not self._is_run and self.truth:
            return evaluate_trajectory_file(
                self.estimate, self.truth, self.alignment, self.max_apart
            )
        if self.data is None:
            raise EgodepthError(
                f"{self.estimate} is a folder: to score a run, give --data KIND:ROOT"
            )
        from egodepth.data.sources import read_source, select

        sequence = select(read_source(self.data), self.sequence)[0]
        if not self._is_run:
            return evaluate_trajectory_file(self.estimate, sequence, self.alignment, self.max_apart)
        from egodepth.inference.scoring.trajectory_scores import evaluate_odometry
        from egodepth.runs.run import Run

        run = Run.load(self.estimate, self.device)
        (sequence,) = run.open(sequence)
        return evaluate_odometry(run, sequence, self.alignment, by=self.by)

    @property
    def _is_run(self) -> bool:
        return self.estimate.is_dir() or str(self.estimate).startswith("hf:")

    def _write_json(self, scores: "OdometryScores") -> None:
        from egodepth.core.files import write_json

        facts = {"data": self.data or str(self.truth), "name": self.estimate.name}
        if self._is_run:
            from egodepth.report.evaluation import run_facts

            facts |= run_facts(self.estimate)
        assert self.json_file is not None
        write_json(self.json_file, {"kind": "odometry", **scores.to_json(), **facts})
