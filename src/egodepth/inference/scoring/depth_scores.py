"""Score depth against the ground truth of a data set."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch

from egodepth.core import progress
from egodepth.core.errors import EgodepthError, EgodepthWarning, require
from egodepth.data.sequence import Frame, Sequence
from egodepth.data.splits import Split, get_split
from egodepth.evaluation.confidence import (
    ConfidenceScores,
    Sparsification,
    mean_curves,
    score_deviation,
)
from egodepth.evaluation.depth import (
    PROTOCOLS,
    TRUTHS,
    DepthProtocol,
    get_protocol,
    median_ratio,
    score_depth,
    scored_pixels,
    summarize_depth,
)
from egodepth.geometry.camera import pixel_grid
from egodepth.inference.arguments import check_run, check_sequences, footage_of
from egodepth.runs.images import texture_at
from egodepth.runs.not_finite import naming
from egodepth.runs.run import Run


@dataclass(frozen=True)
class ImageScores:
    """Scores of one image.

    Attributes:
        sequence, frame: name of the sequence and frame number; empty and 0 if unknown.
        scores: see :func:`score_depth`.
    """

    sequence: str
    frame: int
    scores: dict[str, float]


@dataclass(frozen=True)
class DepthScores:
    """Depth scores of a set of images.

    Attributes:
        summary: means over images, see :func:`summarize_depth`.
        constant: the same for a constant depth, scaled like the prediction.
        protocol: of the evaluation.
        images: scores of each image.
        note: what else to know before comparing the numbers with others, or empty.
        left_out: images that could not be scored, each with the reason.
        curves: mean sparsification curves of ``abs_rel`` and ``rmse``; empty without confidence.
    """

    summary: dict[str, float]
    constant: dict[str, float]
    protocol: DepthProtocol
    images: list[ImageScores]
    note: str = ""
    left_out: tuple[str, ...] = ()
    curves: dict[str, Sparsification] = field(default_factory=dict)

    @property
    def caption(self) -> str:
        """The protocol in words, with the number of its images that were scored."""
        wanted = self.protocol.images
        count = f"{len(self.images)} of its {wanted} images" if wanted else ""
        if self.left_out:
            total = len(self.images) + len(self.left_out)
            left_out = f"{len(self.left_out)} of {total} images left out"
            count = f"{count}, {left_out}" if count else left_out
        return "; ".join(part for part in (str(self.protocol), count, self.note) if part)

    @property
    def complete(self) -> bool:
        """Whether all images of the protocol were scored and there is no note."""
        whole = self.protocol.images in (None, len(self.images))
        return whole and not self.note and not self.left_out

    def to_json(self) -> dict[str, Any]:
        """Content for ``--json``: metrics at the top level, those of a constant depth under ``constant``."""
        return {
            **self.summary, "constant": self.constant, "protocol": self.caption,
            "protocol_name": self.protocol.name, "protocol_changed": self.protocol
            != PROTOCOLS.get(self.protocol.name), "complete": self.complete,
            "left_out": list(self.left_out),
        }  # fmt: skip


class Predictor(Protocol):
    """Interface of anything that predicts depth maps for frames.

    Attributes:
        texture_size: height and width at which the texture of images is measured.
    """

    @property
    def texture_size(self) -> tuple[int, int]:
        """Height and width at which the texture of images is measured."""
        ...

    def numbers(self, sequence: Sequence) -> list[int]:
        """Numbers of the frames that can be predicted."""
        ...

    def check(self, sequence: Sequence, numbers: list[int], *, scaled: bool) -> None:
        """Check in advance that frames can be predicted; ``scaled``: whether depth is scaled to the truth."""
        ...

    def predict(self, sequence: Sequence, frame: Frame, size: tuple[int, int]) -> np.ndarray:
        """Depth (H, W) of a frame at the given size (height, width)."""
        ...

    def deviation(
        self, sequence: Sequence, frame: Frame, size: tuple[int, int]
    ) -> np.ndarray | None:
        """Standard deviation (H, W) of log depth; None if the predictions carry no confidence."""
        ...


@dataclass(frozen=True)
class Pair:
    """A prediction and its ground truth.

    Attributes:
        prediction, truth, texture: (H, W) each.
        rays: (H, W, 3) of the pixels, z = 1, or None.
        ground: (H, W) bool, pixels that show level ground; None if unknown.
        deviation: (H, W) standard deviation of log depth; None without confidence.
        sequence, frame, name: name of the sequence, frame number, and name of the image file if there is one.
    """

    prediction: np.ndarray
    truth: np.ndarray
    texture: np.ndarray
    rays: np.ndarray | None = None
    ground: np.ndarray | None = None
    deviation: np.ndarray | None = None
    sequence: str = ""
    frame: int = 0
    name: str = ""


def evaluate_depth(
    run: Run,
    sequences: list[Sequence],
    protocol: DepthProtocol | str,
    split: Split | None = None,
) -> DepthScores:
    """Score a run on all frames with ground-truth depth in the protocol's cameras and split.

    Args:
        run: trained networks.
        sequences: footage with ground-truth depth.
        protocol: of the evaluation, or its name.
        split: frames to score, instead of the protocol's split.

    Raises:
        EgodepthError: no ground truth, broken frames, or an unknown protocol.
    """
    check_run(run)
    check_sequences(sequences)
    sequences = [footage_of(run, sequence) for sequence in sequences]
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    require(protocol, DepthProtocol, "protocol", "a DepthProtocol or the name of one")
    return evaluate_predictor(
        RunPredictor(run, protocol.flip), sequences, protocol, split, run.refined
    )


@dataclass(frozen=True)
class RunPredictor:
    """Predicts depth with a run; ``flip`` averages with the prediction for the mirrored image."""

    run: Run
    flip: bool = False

    @property
    def texture_size(self) -> tuple[int, int]:
        """Size of the networks' input."""
        return self.run.settings.height, self.run.settings.width

    def numbers(self, sequence: Sequence) -> list[int]:
        """All frames."""
        return list(sequence.frames.numbers)

    def check(self, sequence: Sequence, numbers: list[int], *, scaled: bool) -> None:
        """Accept all frames."""

    def predict(self, sequence: Sequence, frame: Frame, size: tuple[int, int]) -> np.ndarray:
        """See :class:`Predictor`."""
        with naming(frame):
            return self.run.depth(frame.image, size, flip=self.flip)

    def deviation(
        self, sequence: Sequence, frame: Frame, size: tuple[int, int]
    ) -> np.ndarray | None:
        """See :class:`Predictor`."""
        if not self.run.has_confidence:
            return None
        with naming(frame):
            return self.run.deviation(frame.image, size)


def evaluate_predictor(
    predictor: Predictor,
    sequences: list[Sequence],
    protocol: DepthProtocol,
    split: Split | None = None,
    note: str = "",
) -> DepthScores:
    """Score any predictor, like :func:`evaluate_depth`; ``note`` goes to the scores.

    Raises:
        EgodepthError: no ground truth, or broken frames.
    """
    if split is None and protocol.split is not None:
        split = get_split(protocol.split)
    targets = scored_frames(sequences, protocol, split)
    scaled = protocol.scaling not in ("none", "baseline")
    for sequence, _, indices in targets:
        predictor.check(sequence, [sequence.frames.numbers[i] for i in indices], scaled=scaled)

    def pairs() -> Iterator[Pair]:
        total = sum(len(indices) for *_, indices in targets)
        return progress.track(read_pairs(), "scoring depth", total, "images")

    def read_pairs() -> Iterator[Pair]:
        for sequence, truths, indices in targets:
            places = {sequence.frames.numbers[index]: index for index in indices}
            for frame in sequence.frames.at(indices):
                index = places[frame.number]
                truth = truths[index]()
                size = (truth.shape[0], truth.shape[1])
                local = texture_at(frame.image, *predictor.texture_size, size)
                depth = predictor.predict(sequence, frame, size)
                rays = _rays(sequence, size)
                yield Pair(
                    depth, truth, local, rays, _ground(sequence, index, rays, truth),
                    predictor.deviation(sequence, frame, size),
                    sequence.name, frame.number, frame.name,
                )  # fmt: skip

    return score_pairs(pairs, protocol, note)


Truths = Mapping[int, Callable[[], np.ndarray]]


def scored_frames(
    sequences: list[Sequence], protocol: DepthProtocol, split: Split | None
) -> list[tuple[Sequence, Truths, list[int]]]:
    """Select the sequences to score, each with its ground truth and the positions of the frames to score.

    Raises:
        EgodepthError: no frames to score.
    """
    targets = []
    for sequence in sequences:
        truths = sequence.ground_truth(protocol.truth)
        if sequence.camera_name not in protocol.cameras or not truths:
            continue
        chosen = split.numbers(sequence) if split else None
        indices = sorted(truths)
        if chosen is not None:
            numbers = sequence.frames.numbers
            indices = [i for i in indices if numbers[i] in chosen]
        if indices:
            targets.append((sequence, truths, indices))
    if not targets:
        names = ", ".join(f"{s.name} ({s.camera_name})" for s in sequences[:6])
        of = f" of the split {split.name}" if split else ""
        hint = "; --split all scores every frame that has some" if split else ""
        raise EgodepthError(
            f"no ground-truth depth{of} ({TRUTHS[protocol.truth]}) in these sequences: {names}{hint}"
        )
    return targets


def score_pairs(
    pairs: Callable[[], Iterator[Pair]], protocol: DepthProtocol, note: str = ""
) -> DepthScores:
    """Score predictions against ground truth. ``pairs`` is called twice if one scale is fitted to the whole
    set. Images without ground truth in range or with an invalid prediction are left out with a warning.

    Raises:
        EgodepthError: no image can be scored.
    """
    scale = None
    if protocol.scaling == "set_median":
        ratios = []
        for p in pairs():
            with suppress(EgodepthError):
                ratios.append(median_ratio(p.prediction, p.truth, protocol))
        scale = float(np.median(ratios)) if ratios else math.nan
    images: list[ImageScores] = []
    constant: list[dict[str, float]] = []
    left_out: list[str] = []
    infinite: list[float] = []
    confidence: list[ConfidenceScores] = []
    for p in pairs():
        try:
            scores = score_depth(
                p.prediction, p.truth, protocol, p.texture,
                rays=p.rays, ground=p.ground, set_scale=scale,
            )  # fmt: skip
            if p.deviation is not None:
                sure = score_deviation(
                    p.deviation, p.prediction, p.truth, protocol, scores["scale"],
                    scores.get("shift", 0.0),
                )  # fmt: skip
                scores |= sure.metrics
                confidence.append(sure)
        except EgodepthError as error:
            where = f"{p.sequence}, frame {p.frame}" if p.sequence else f"image {len(images)}"
            left_out.append(f"{where}{f' ({p.name})' if p.name else ''}: {error}")
            continue
        images.append(ImageScores(p.sequence, p.frame, scores))
        infinite.append(_infinite_share(p, protocol))
        guess = np.full_like(p.truth, np.median(p.truth[(p.truth > 0) & np.isfinite(p.truth)]))
        plain = replace(protocol, scaling="median")
        constant.append(score_depth(guess, p.truth, plain, p.texture, ground=p.ground))
    _tell_left_out(images, left_out)
    _tell_infinite(infinite, protocol)
    summary = summarize_depth([image.scores for image in images])
    return DepthScores(
        summary, summarize_depth(constant), protocol, images, note, tuple(left_out),
        mean_curves(confidence),
    )  # fmt: skip


def _tell_left_out(images: list[ImageScores], left_out: list[str]) -> None:
    """Raise EgodepthError if no image could be scored, warn if some could not."""
    if not left_out:
        return
    total = len(images) + len(left_out)
    text = f"{len(left_out)} of {total} images could not be scored: {'; '.join(left_out[:3])}"
    text += "; ..." if len(left_out) > 3 else ""
    if not images:
        raise EgodepthError(text)
    warnings.warn(text, EgodepthWarning, stacklevel=4)


def _infinite_share(pair: Pair, protocol: DepthProtocol) -> float:
    """Share of the scored pixels that are predicted infinitely far."""
    infinite = np.isinf(pair.prediction)
    if not infinite.any():
        return 0.0
    truth = np.where(np.isfinite(pair.truth), pair.truth, 0)
    return float(infinite[scored_pixels(pair.prediction, truth, protocol)].mean())


def _tell_infinite(shares: list[float], protocol: DepthProtocol) -> None:
    """Warn of infinite depth, given its share of the scored pixels of each image."""
    count = sum(share > 0 for share in shares)
    if count:
        warnings.warn(
            f"the predictions of {count} of {len(shares)} images are infinitely far at up to "
            f"{100 * max(shares):.2g} % of the scored pixels (a disparity of 0): there they count as "
            f"{protocol.max_depth:g} m",
            EgodepthWarning,
            stacklevel=4,
        )


def _rays(sequence: Sequence, size: tuple[int, int]) -> np.ndarray | None:
    if sequence.camera is None or sequence.camera_guessed:
        return None
    camera = sequence.camera.resize(*size)
    pixels = pixel_grid(*size, torch.zeros(1))
    rays = camera.to(torch.float32).unproject(pixels, torch.ones(len(pixels)))
    return rays.reshape(*size, 3).numpy()


def _ground(
    sequence: Sequence, index: int, rays: np.ndarray | None, truth: np.ndarray
) -> np.ndarray | None:
    """Mask (H, W) of pixels that show level ground; None if unknown."""
    if sequence.ground is None or sequence.world_from_camera is None or rays is None:
        return None
    pose = sequence.world_from_camera[index]
    height = (rays * truth[..., None]) @ pose[1, :3] + pose[1, 3]
    return (truth > 0) & (height >= sequence.ground[0]) & (height <= sequence.ground[1])
