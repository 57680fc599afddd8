"""Resolve the user's names of predictions and protocol."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from egodepth.core.errors import EgodepthError
from egodepth.core.suggestions import did_you_mean
from egodepth.data.sequence import Sequence
from egodepth.data.sources import default_protocol, read_source, select
from egodepth.data.splits import Split, get_split
from egodepth.evaluation.depth import CROPS, SCALINGS, DepthProtocol, get_protocol
from egodepth.inference.scoring.depth_scores import Predictor, RunPredictor
from egodepth.inference.scoring.predictions import Predictions
from egodepth.runs.folder import RunFolder
from egodepth.runs.run import Run


def requested_protocol(
    data: str,
    name: str | None = None,
    *,
    scaling: str | None = None,
    crop: str | None = None,
    max_depth: float | None = None,
    split: str | None = None,
    flip: bool = False,
) -> tuple[DepthProtocol, Split | None]:
    """The requested protocol, with changes applied, and its split.

    Args:
        data: source to score, whose default protocol is used if none is named.
        name: of the protocol.
        scaling, crop, max_depth: instead of the protocol's.
        split: frames to score instead of the protocol's: a split's name or file, or ``all``.
        flip: average with the prediction for the mirrored image.

    Raises:
        EgodepthError: an unknown name.
    """
    protocol = get_protocol(name or default_protocol(data))
    changes: dict[str, Any] = {"flip": flip}
    for what, value, known in (("scaling", scaling, SCALINGS), ("crop", crop, CROPS)):
        if value is not None and value not in known:
            raise EgodepthError(f"unknown {what} {value!r}; {did_you_mean(value, known)}")
        changes |= {what: value} if value else {}
    if max_depth:
        changes["max_depth"] = max_depth
    if split == "all":
        changes |= {"split": None, "images": None}
    elif split:
        asked = get_split(split)
        same = asked.name == protocol.split or asked.size == protocol.images
        changes |= {"split": asked.name} | ({} if same else {"images": asked.size})
    protocol = replace(protocol, **changes)
    return protocol, get_split(protocol.split) if protocol.split else None


def open_predictor(
    predictions: Path,
    data: str,
    sequence: str | None = None,
    *,
    flip: bool = False,
    kind: Literal["depth", "inverse"] = "depth",
    split: Split | None = None,
    device: str = "auto",
) -> tuple[Predictor, list[Sequence], str]:
    """Open a run or predictions, and the footage to score.

    Args:
        predictions: run folder, or folder or file of predictions, see
            :class:`egodepth.inference.scoring.predictions.Predictions`.
        data: source to score.
        sequence: only the sequence with this name.
        flip: as in :func:`requested_protocol`; only for a run.
        kind: content of the predictions.
        split: gives the order of predictions stacked in one file.
        device: on which a run computes.

    Returns:
        The predictor, the footage opened for it, and a note for comparing its scores, or empty.

    Raises:
        EgodepthError: no run or predictions, broken footage, or ``flip`` without a run.
    """
    if RunFolder.at(predictions).exists:
        run = Run.load(predictions, device)
        return RunPredictor(run, flip), run.open(data, name=sequence), run.refined
    if flip:
        raise EgodepthError("--flip needs a run; predictions are taken as they are")
    predictor = Predictions(predictions, kind, split)
    return predictor, select(read_source(data), sequence), ""
