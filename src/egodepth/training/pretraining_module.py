"""The LightningModule for pretraining on rendered worlds, with their exact depth and motion."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from egodepth.data.preparation.clips import NO_PART
from egodepth.geometry import se3
from egodepth.losses.exact import exact_depth_loss, exact_motion_loss
from egodepth.losses.photometric import photometric_loss, target_statistics
from egodepth.models.networks import Networks
from egodepth.settings.training import TrainSettings
from egodepth.training.augment import augment
from egodepth.training.batch import RawBatch, SnippetBatch
from egodepth.training.compilation import PLAIN
from egodepth.training.film import vary_film
from egodepth.training.module import EgodepthModule, step_seed
from egodepth.training.motion_alignment import require_finite
from egodepth.training.objective import ObjectiveResult, weighted_sum
from egodepth.training.terms import at_size, feature_terms, photometric_term
from egodepth.training.world_stream import WorldStream

MOTION_WEIGHT = 0.1
"""Weight of the motion loss relative to the depth loss."""
AVERAGED_SHARE, MAX_AVERAGED_STEPS = 0.05, 1000
"""Averaging window of the weights: share of the steps so far, and maximum in steps."""
LATEST, WORLDS = "egodepth_latest", "egodepth_worlds"
"""Checkpoint keys: the latest weights, from which a training is resumed, since ``state_dict`` contains the
averaged ones; and the number of rendered worlds."""


class PretrainingModule(EgodepthModule):
    """Trains DepthNet and PoseNet by exact depth and motion, FeatureNet by its own losses, on rendered worlds.

    Attributes:
        average: networks with averaged weights, which a loaded run uses.
    """

    def __init__(self, settings: TrainSettings, networks: Networks, stream: WorldStream):
        """Args:
        settings: training settings.
        networks: DepthNet and PoseNet, FeatureNet, or all three.
        stream: stream of rendered worlds.
        """
        super().__init__(settings, networks, stream.schedule)
        self._stream = stream
        # In a list, so that PyTorch does not register it as a submodule.
        self._average = [AveragedModel(networks, avg_fn=_average, use_buffers=True)]

    @property
    def average(self) -> Networks:
        """Networks with averaged weights, in evaluation mode."""
        networks = self._average[0].module.eval()
        assert isinstance(networks, Networks)
        return networks

    def forward(self, raw: RawBatch) -> tuple[SnippetBatch, ObjectiveResult]:
        seed = step_seed(self.settings.seed, raw.step)
        torch.manual_seed(seed)
        batch = augment(raw, seed)
        generator = torch.Generator().manual_seed(seed)
        both = torch.cat([batch.target_input[None], batch.sources_input])
        target, source = vary_film(both, generator)
        total, inverse_depth = torch.zeros((), device=target.device), None
        terms: dict[str, Tensor] = {}
        if self.networks.depth is not None:
            depth, scales = self._depth_loss(batch, target)
            inverse_depth = scales[0]
            known = raw.parts != NO_PART
            motion, motions = self._motion_loss(raw, batch, target, source, known)
            terms |= {"exact_depth": depth, "exact_motion": motion}
            total = depth + MOTION_WEIGHT * motion
            if self.settings.loss.photometric > 0:
                terms["photometric"] = self._photometric(batch, scales, motions, known)
                total = total + self.settings.loss.photometric * terms["photometric"]
        reconstruction = None
        if self.networks.features is not None:
            levels, images = self.networks.features(target)
            reconstruction = images[0]
            own = feature_terms(levels, images, target, self.settings.loss)
            terms |= own
            total = total + weighted_sum(own, self.settings.loss)
        return batch, ObjectiveResult(total, terms, inverse_depth, None, reconstruction)

    def _depth_loss(self, batch: SnippetBatch, target: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Loss of exact depth, and the predicted inverse depths, finest first."""
        assert self.networks.depth is not None and batch.dense is not None
        inverse_depths = self.networks.depth(target)
        require_finite(inverse_depths[0], "depth")
        loss = torch.stack([
            exact_depth_loss(at_size(level, target), batch.dense).mean() / 2**scale
            for scale, level in enumerate(inverse_depths)
        ]).sum()  # fmt: skip
        return loss, inverse_depths

    def _motion_loss(
        self, raw: RawBatch, batch: SnippetBatch, target: Tensor, source: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Loss of exact motion, and the predicted ``source_from_target`` (1, B, 4, 4)."""
        assert self.networks.pose is not None and batch.motions is not None
        forth = bool(raw.frame_ids[0, 0] < raw.frame_ids[1, 0])
        pair = (target, source) if forth else (source, target)
        true = batch.motions[0] if forth else se3.inverse(batch.motions[0])
        vector = self.networks.pose(*pair)
        require_finite(vector, "motion")
        motion = se3.from_rotation_translation(se3.so3_exp(vector[:, :3]), vector[:, 3:])
        motions = (motion if forth else se3.inverse(motion))[None]
        return exact_motion_loss(vector, true, known).mean(), motions

    def _photometric(
        self, batch: SnippetBatch, inverse_depths: list[Tensor], motions: Tensor, known: Tensor
    ) -> Tensor:
        """L_ph of the pairs whose motion is known, warped by the predicted depth and motion."""
        statistics = target_statistics(batch.target)
        with torch.no_grad():
            identity = photometric_loss(batch.sources, statistics)
        weight = known.float()[:, None, None, None].expand_as(batch.target[:, :1])
        term, _ = photometric_term(
            inverse_depths, motions, batch, self.settings, PLAIN, statistics, identity, weight
        )
        return term

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self._average[0].update_parameters(self.networks)

    def on_train_start(self) -> None:
        self._average[0].to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[LATEST] = checkpoint["state_dict"]
        averaged = self._average[0].module.state_dict()
        checkpoint["state_dict"] = {f"networks.{name}": v for name, v in averaged.items()}
        checkpoint[WORLDS] = self._stream.worlds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        averaged = checkpoint["state_dict"]
        self._average[0].module.load_state_dict(
            {name.removeprefix("networks."): value for name, value in averaged.items()}
        )
        self._average[0].n_averaged.fill_(checkpoint["global_step"])
        checkpoint["state_dict"] = checkpoint[LATEST]


def _average(average: Tensor, latest: Tensor, count: Tensor | int) -> Tensor:
    """Update the moving average of the weights, whose window is a share of the steps so far."""
    steps = min(1 + AVERAGED_SHARE * float(count), MAX_AVERAGED_STEPS)
    return average + (latest - average) / steps
