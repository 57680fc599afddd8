"""Similarities as 4x4 matrices named ``target_from_source``: ``s R`` above a translation, with any leading
dimensions. Rigid motions are those of scale 1."""

import torch
from jaxtyping import Float
from torch import Tensor

from egodepth.geometry import se3


def scaled(
    motion: Float[Tensor, "*batch 4 4"], scale: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 4 4"]:
    """The similarity that scales points of the source, and then moves them by a rigid motion."""
    return se3.from_rotation_translation(
        motion[..., :3, :3] * scale[..., None, None], motion[..., :3, 3]
    )


def scale_of(similarity: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch"]:
    """Scale of a similarity: units of the target per unit of the source."""
    return similarity[..., :3, 0].norm(dim=-1)


def inverse(similarity: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Invert ``target_from_source`` to ``source_from_target``."""
    turned = similarity[..., :3, :3].mT / scale_of(similarity).square()[..., None, None]
    return se3.from_rotation_translation(turned, -(turned @ similarity[..., :3, 3:]).squeeze(-1))


def rigid(similarity: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """The rigid motion with the same rotation and translation."""
    return se3.rigid(
        se3.from_rotation_translation(
            similarity[..., :3, :3] / scale_of(similarity)[..., None, None], similarity[..., :3, 3]
        )
    )


def retract(step: Float[Tensor, "*batch 7"]) -> Float[Tensor, "*batch 4 4"]:
    """The similarity of a small step: axis-angle in radians, translation, log scale."""
    rotation = se3.so3_exp(step[..., :3]) * step[..., 6, None, None].exp()
    return se3.from_rotation_translation(rotation, step[..., 3:6])


def difference(similarity: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 7"]:
    """The step whose :func:`retract` is the similarity, with a rotation angle in [0, pi]."""
    scale = scale_of(similarity)
    rotation = se3.so3_log(similarity[..., :3, :3] / scale[..., None, None])
    return torch.cat([rotation, similarity[..., :3, 3], scale.log()[..., None]], -1)


def adjoint(similarity: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 7 7"]:
    """Adjoint of a similarity, which moves a small step to its other side, to first order:
    ``retract(adjoint(m) @ x) @ m`` is ``m @ retract(x)``."""
    scale, shift = scale_of(similarity), similarity[..., :3, 3]
    rotation = similarity[..., :3, :3] / scale[..., None, None]
    whole = torch.zeros(*scale.shape, 7, 7, dtype=similarity.dtype, device=similarity.device)
    whole[..., :3, :3] = rotation
    whole[..., 3:6, :3] = se3.hat(shift) @ rotation
    whole[..., 3:6, 3:6] = similarity[..., :3, :3]
    whole[..., 3:6, 6] = -shift
    whole[..., 6, 6] = 1
    return whole
