"""``egodepth refine``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from egodepth.cli.command import (
    CameraOptions,
    DeviceOption,
    Metavar,
    Positive,
    RateOption,
    SequenceOption,
    TakesRun,
    TakesSource,
)
from egodepth.cli.output import START_OVER, complain, print_table, say
from egodepth.core.errors import EgodepthError

if TYPE_CHECKING:
    from egodepth.core.outputs import OutputFolder
    from egodepth.data.sequence import Sequence
    from egodepth.data.splits import Split
    from egodepth.evaluation.depth import DepthProtocol
    from egodepth.training.held_out import HeldOutResult


class Refine(TakesRun, TakesSource, SequenceOption, CameraOptions, RateOption, DeviceOption):
    """Continue training on the frames to predict (online refinement)."""

    out: Annotated[Path, Metavar("FOLDER")]
    """folder to write to"""
    mode: Literal["sample", "split"] = "sample"
    """sample (as in the paper): a few iterations for each frame on its own snippet, predictions in --out; split
    (as in the published code): epochs over all frames, a new run in --out"""
    iterations: Annotated[int, Field(ge=0), Metavar("N")] = 20
    """iterations for each frame (sample mode)"""
    epochs: Annotated[Positive, Metavar("N")] = 20
    """epochs (split mode)"""
    learning_rate: Annotated[Positive, Metavar("RATE")] = 1e-4
    """learning rate of Adam"""
    truth_only: bool = False
    """refine only frames with ground-truth depth (sample mode)"""
    protocol: Annotated[str | None, Metavar("NAME")] = None
    """protocol to score with, if there is ground-truth depth; default: the protocol of the data set"""

    def run(self) -> int:
        """See the class."""
        from egodepth.data.sources import select
        from egodepth.refine import refine_split
        from egodepth.runs.footage import open_footage
        from egodepth.training.run import TrainingInterrupted

        sequences = open_footage(self.run_folder, self.source, fov=self.fov, camera=self.camera)
        sequences = self.at_rate(sequences)
        chosen = select(sequences, self.sequence)
        if self.mode == "sample":
            return self._refine_samples(sequences, chosen)
        try:
            result = refine_split(
                self.run_folder, self.source, chosen, self.out, epochs=self.epochs,
                learning_rate=self.learning_rate, device=self.device,
            )  # fmt: skip
        except TrainingInterrupted as stop:
            again = shlex.join([self.source, "--out", str(self.out), "--resume"])
            raise KeyboardInterrupt(f"{stop}; go on with: egodepth train {again}") from stop
        say(f"{result.steps} steps; {result.held_out}; the refined run is in {self.out}, its scores are "
              "marked as refined")  # fmt: skip
        return 0

    def _refine_samples(self, sequences: "list[Sequence]", chosen: "list[Sequence]") -> int:
        from egodepth.inference.predict import write_predictions
        from egodepth.inference.scoring.depth_scores import scored_frames
        from egodepth.inference.scoring.requested import requested_protocol
        from egodepth.refine import SampleRefinement, refine_samples
        from egodepth.runs.destination import output_folder

        protocol, split = requested_protocol(self.source, self.protocol)
        how = SampleRefinement(self.iterations, self.learning_rate)
        folder = output_folder(self.out, "refinement")
        has_truth = any(s.ground_truth(protocol.truth) for s in chosen)
        scored = scored_frames(chosen, protocol, split) if has_truth or self.truth_only else []
        frames = {sequence.name: indices for sequence, _, indices in scored}
        found: list[HeldOutResult | None] = []
        places = folder.each([sequence.name for sequence in chosen])
        for sequence, out in zip(chosen, places, strict=True):
            if self.truth_only and sequence.name not in frames:
                continue
            wanted = frames[sequence.name] if self.truth_only else None
            predictions = refine_samples(
                self.run_folder, sequence, how, rig=sequences, frames=wanted, device=self.device,
                on_frame=found.append,
            )  # fmt: skip
            count, total = 0, len(wanted or sequence.frames)
            try:
                for _ in write_predictions(predictions, out):
                    count += 1
            except KeyboardInterrupt as stop:
                raise KeyboardInterrupt(
                    f"interrupted after {count} of {total} frames of {sequence.name}; {out.path} holds their "
                    f"depth maps, which are not scored; {START_OVER}"
                ) from stop
            say(f"depth maps, each {how}, are in {out.path}")
        self._tell_improved(found, str(how), folder)
        try:
            if scored:
                self._score(chosen, protocol, split, str(how), folder)
        except EgodepthError as error:
            # Hours of refinement are still worth something if they can't be scored.
            complain(f"the depth maps in {folder.path} are not scored: {error}")
        return 0

    def _tell_improved(
        self, found: "list[HeldOutResult | None]", how: str, folder: "OutputFolder"
    ) -> None:
        from egodepth.core.files import write_json

        kept, unchecked = sum(r is not None and r.improved for r in found), found.count(None)
        if unchecked:
            say(
                "the footage is too short to hold frames out: whether its depth got better is not known"
            )
        else:
            say(f"{kept} of {len(found)} frames keep their refinement, which explains held-out frames "
                  "better; the others have the run's own depth")  # fmt: skip
        write_json(folder.file("refined.json"), {"refined": how, "run": str(self.run_folder),
                   "frames": len(found), "improved": kept, "unchecked": unchecked})  # fmt: skip

    def _score(
        self,
        chosen: "list[Sequence]",
        protocol: "DepthProtocol",
        split: "Split | None",
        how: str,
        folder: "OutputFolder",
    ) -> None:
        from egodepth.core.files import write_json
        from egodepth.inference.scoring.depth_scores import evaluate_depth, evaluate_predictor
        from egodepth.inference.scoring.predictions import Predictions
        from egodepth.report.tables import depth_table
        from egodepth.runs.run import Run

        run = Run.load(self.run_folder, self.device)
        before = evaluate_depth(run, chosen, protocol, split=split)
        print_table(depth_table(before.summary, before.constant, f"before: {before.caption}"))
        predictor = Predictions(folder.path, texture_size=(run.settings.height, run.settings.width))
        scores = evaluate_predictor(predictor, chosen, protocol, split=split, note=how)
        write_json(folder.file("scores.json"), {**scores.to_json(), "before": before.summary})
        print_table(depth_table(scores.summary, scores.constant, scores.caption))
