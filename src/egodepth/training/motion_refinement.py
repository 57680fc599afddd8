"""Refinement of poses from structure from motion by the training losses."""

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egodepth.data.preparation.clips import Clip, SparsePoints
from egodepth.geometry import se3
from egodepth.models.networks import DepthNet
from egodepth.models.transformers_depth import TransformersDepth
from egodepth.training.batch import RawBatch
from egodepth.training.snippets import SnippetStream

POSE_DEVIATION = 1e-3
"""Expected error of poses from structure from motion, in radians and in DepthNet's unit. The reprojection
error of a point, half a pixel to a pixel, is 1e-3 rad at the usual focal length. A frame has hundreds of
points, but errors from rolling shutter, residual distortion and interpolated poses are common to all of
them."""


FRAMES_FOR_UNIT = 8
"""Number of frames per part for estimating DepthNet's unit."""


class MotionRefinement(nn.Module):
    """Learned corrections to structure from motion: scales, poses and focal lengths.

    Attributes:
        log_scale: (G,) log scale of each part, from its unit to DepthNet's. Cameras of a rig share a part.
        twist: (F, 6) pose correction of each frame in its camera's coordinates: axis-angle, and translation in
            DepthNet's unit.
        log_focal: (C,) log factor of each clip's focal lengths; without effect for a calibrated camera.
        guessed: (C,) whether the clip's camera is a guess.
    """

    guessed: Tensor

    def __init__(self, stream: SnippetStream, unit: float):
        """Start without corrections.

        Args:
            stream: snippets of clips with known motion.
            unit: initial median depth of each part's points, in DepthNet's unit.
        """
        super().__init__()
        self.log_scale = nn.Parameter(
            torch.tensor([_log_scale(known, unit) for known in stream.points_of_parts()])
        )
        self.twist = nn.Parameter(torch.zeros(stream.frame_count, 6))
        self.log_focal = nn.Parameter(torch.zeros(len(stream.clips)))
        guessed = torch.tensor([clip.sequence.camera_guessed for clip in stream.clips])
        self.register_buffer("guessed", guessed, persistent=False)

    @torch.no_grad()
    def take_unit_of(self, depth: DepthNet | TransformersDepth, stream: SnippetStream) -> None:
        """Initialize the scale of each part by comparing its points with a trained DepthNet's depth, whose unit
        differs from that of an untrained one: a jump in scale would undo what it has learned."""
        mode = depth.training
        depth.eval()
        for part, known in enumerate(stream.points_of_parts()):
            ratios = []
            for place in np.unique(np.linspace(0, len(known) - 1, FRAMES_FOR_UNIT).astype(int)):
                if not known:
                    break
                clip, position, points = known[place]
                frame = clip.frames[position]
                image = torch.from_numpy(np.array(frame)).float()[None] / 255
                inverse = depth(image, scales=1)[0]
                x, y = points.pixels.T
                height, width = frame.shape[-2:]
                resized = F.interpolate(
                    inverse, (height, width), mode="bilinear", align_corners=False
                )
                rows = y.round().astype(int).clip(0, height - 1)
                columns = x.round().astype(int).clip(0, width - 1)
                own = resized[0, 0].numpy()[rows, columns]
                ratios.append(points.inverse_depth / own)
            if ratios:
                self.log_scale[part] = float(np.log(np.median(np.concatenate(ratios))))
        depth.train(mode)

    @property
    def focal_factors(self) -> Tensor:
        """Factors (C,) of the clips' focal lengths; 1 for calibrated cameras."""
        return (self.log_focal * self.guessed).exp()

    def prior(self, raw: RawBatch) -> Tensor:
        """Prior on the pose corrections of the batch's frames: mean squared norm of the twist, in units of
        POSE_DEVIATION."""
        return (self.twist[raw.frame_ids] / POSE_DEVIATION).square().sum(-1).mean()

    def forward(self, raw: RawBatch) -> RawBatch:
        """Convert the batch to DepthNet's unit, and correct temporal motions and intrinsics."""
        scale = self.log_scale[raw.parts].exp()
        found = raw.motions
        assert found is not None
        scaled = torch.cat([found[..., :3, 3:] * scale[:, None, None], found[..., 3:, 3:]], dim=-2)
        corrections = se3.exp(self.twist[raw.frame_ids])
        motions = corrections[1:] @ torch.cat([found[..., :3], scaled], dim=-1)
        motions = motions @ se3.inverse(corrections[:1])
        factor = self.focal_factors[raw.clips]
        diagonal = torch.stack([factor, factor, torch.ones_like(factor)], dim=1)
        # Scales the focal lengths only; the principal point stays.
        matrix = raw.matrix * (1 + torch.diag_embed(diagonal - 1))
        points = raw.points
        if points is not None:
            points = torch.cat([points[..., :2], points[..., 2:] / scale[:, None, None]], dim=-1)
        dense = raw.dense
        if dense is not None:
            inverse, confidence = dense.float().split(1, dim=1)
            dense = torch.cat([inverse / scale[:, None, None, None], confidence], dim=1)
        return replace(raw, motions=motions, matrix=matrix, points=points, dense=dense)


def _log_scale(known: list[tuple[Clip, int, SparsePoints]], unit: float) -> float:
    """Log of the scale at which the median depth of a part's points is ``unit``; log(unit) without points."""
    if not known:
        return math.log(unit)
    inverse = np.concatenate([points.inverse_depth for *_, points in known])
    return math.log(unit * float(np.median(inverse)))
