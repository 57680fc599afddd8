"""``egodepth judge``."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from egodepth.cli.command import Metavar, SequenceOption, TakesSource
from egodepth.cli.output import print_table
from egodepth.core.errors import EgodepthError


class JudgeLosses(TakesSource, SequenceOption):
    """Judge losses by ground truth, without training: how often is each lowest at the true depth?"""

    losses: Annotated[tuple[str, ...], Metavar("SETTINGS...")] = ()
    """losses to judge, each as settings of `egodepth train` in quotes: 'method=photometric'
    'loss.feature_metric=0.3 loss.feature_levels=[0,1]'; default: L_ph, L_fm, and two sums of both"""
    base: Annotated[str | None, Metavar("RUN|RECIPE")] = None
    """run or recipe whose settings the losses start from, and of a run also its FeatureNet; default: the
    defaults of all settings, with ImageNet features"""
    common: Annotated[str, Metavar("SETTINGS")] = ""
    """settings of all losses, such as 'data.stride=5 model.height=192 model.width=256'"""
    frames: Annotated[tuple[int, ...], Metavar("N...")] = ()
    """numbers of the target frames; default: --count frames"""
    count: Annotated[int, Field(ge=1), Metavar("N")] = 12
    """number of frames of each sequence, evenly spread"""
    progress: Annotated[float, Field(ge=0, le=1), Metavar("SHARE")] = 1
    """share of the training done; the coarse term fades out with it"""
    json_file: Annotated[Path | None, Metavar("FILE", option="json")] = None
    """also write the shares to this JSON file"""

    def run(self) -> int:
        """See the class."""
        from egodepth.core.files import write_json
        from egodepth.core.outputs import check_destination
        from egodepth.data.sources import default_protocol, read_source, select
        from egodepth.evaluation.depth import get_protocol
        from egodepth.report.tables import judgement_table
        from egodepth.training.judgement import (
            DEFAULT_LOSSES,
            base_settings,
            judge_losses,
            loss_settings,
        )

        if self.json_file:
            check_destination(self.json_file)
        base = loss_settings(base_settings(self.base), self.common)
        losses = {text: loss_settings(base, text) for text in self.losses or DEFAULT_LOSSES}
        if len(losses) < len(self.losses):
            raise EgodepthError("the same loss is given twice; leave one out")
        protocol = get_protocol(default_protocol(self.source))
        sequences = select(read_source(self.source), self.sequence)
        results = judge_losses(
            sequences, losses, protocol, frames=self.frames, count=self.count,
            progress_at=self.progress,
        )  # fmt: skip
        if self.json_file:
            facts = {"kind": "losses", "data": self.source, "base": self.base, "common": self.common,
                     "protocol": str(protocol), "progress": self.progress}  # fmt: skip
            write_json(
                self.json_file,
                {**facts, "losses": {name: found.to_json() for name, found in results.items()}},
            )
        print_table(judgement_table(results))
        return 0
