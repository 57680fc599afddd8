"""Building the parts of a training: snippets, networks and module."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

from torch import nn

from egodepth.core import progress
from egodepth.core.allowed import got
from egodepth.core.errors import EgodepthError, one_line
from egodepth.core.outputs import check_destination
from egodepth.core.world import World
from egodepth.data.footage.frame_cache import default_cache_folder
from egodepth.data.preparation.clips import KnownMotion, read_clips
from egodepth.data.preparation.static_mask import read_mask
from egodepth.data.preparation.structure_from_motion import require_colmap
from egodepth.data.sequence import Sequence
from egodepth.data.splits import get_split
from egodepth.models.networks import FeatureNet, Networks
from egodepth.runs.checkpoint import read_run
from egodepth.runs.devices import torch_device
from egodepth.runs.folder import RunFolder
from egodepth.settings.model import DEFINED_BY, FOOTAGE_SIZES, ModelSettings, closest_size
from egodepth.settings.training import TrainSettings
from egodepth.training.module import EgodepthModule
from egodepth.training.motion_refinement import MotionRefinement
from egodepth.training.plan import Plan, label_plan, make_plan, restrict
from egodepth.training.plan_cameras import find_cameras
from egodepth.training.shard_plan import is_from_shards, plan_of_shards
from egodepth.training.snippets import SnippetStream, find_partner

LABELS_SHARE = 0.3
"""Share of a time budget that dense labels may take."""


def build_networks(settings: TrainSettings) -> Networks:
    """Build the networks of a method, with the weights of ``init`` and the frozen FeatureNet, if any.

    Raises:
        EgodepthError: ``init`` or ``feature_run`` is not a run, or does not fit; or a level of L_fm that
            FeatureNet lacks.
    """
    wanted = {
        "depth": settings.method != "features",
        "pose": settings.method != "features" and settings.data.needs_pose_net,
        "features": settings.method in ("joint", "features"),
    }
    if settings.init is None:
        networks = Networks(settings.model, **wanted)
    else:
        networks = _networks_of_init(settings.model, wanted, settings.init)
    if settings.method == "frozen":
        networks.features, theirs = _frozen_features(settings)
        networks.settings = networks.settings.changed(
            **{name: getattr(theirs, name) for name in DEFINED_BY["features"]}
        )
    if networks.features is not None:
        _require_levels(networks.features, settings)
    return networks


def build_feature_net(settings: TrainSettings) -> FeatureNet | None:
    """Build the FeatureNet of a method, as :func:`build_networks` does, without the other networks; None for a
    method without one.

    Raises:
        EgodepthError: as :func:`build_networks`.
    """
    if settings.method in ("photometric", "images"):
        return None
    if settings.method == "frozen":
        features = _frozen_features(settings)[0]
        _require_levels(features, settings)
        return features
    return build_networks(settings.changed(method="features")).features


def _require_levels(features: FeatureNet, settings: TrainSettings) -> None:
    levels, shares = len(features.encoder.channels), settings.loss.feature_levels
    if any(shares[levels:]):
        raise EgodepthError(
            f"loss.feature_levels {list(shares)} weighs level {len(shares)}, but FeatureNet has {levels}: "
            "leave it out, or set a larger model.feature_depth"
        )


def _frozen_features(settings: TrainSettings) -> tuple[FeatureNet, ModelSettings]:
    """The FeatureNet of ``feature_run`` or ``init``, and the model settings of that run. Frozen, it needs no
    decoder, whose channels may differ from these settings."""
    source = settings.feature_run or settings.init
    if source is None:
        raise EgodepthError(
            "method frozen needs --feature_run RUN, a run with a FeatureNet (method features)"
        )
    theirs, found = read_run(source)
    if found.features is None:
        raise EgodepthError(f"{source} has no FeatureNet: it was trained with method photometric")
    found.features.decoder = found.features.heads = None
    return found.features, theirs


def _networks_of_init(model: ModelSettings, wanted: Mapping[str, bool], folder: Path) -> Networks:
    """Make the wanted networks, with the weights of all networks that a run has."""
    settings, found = read_run(RunFolder.to_use(folder))
    shared = {name: net for name, net in found.named_children() if wanted[name]}
    for name in shared:
        for setting in DEFINED_BY[name]:
            theirs, own = getattr(settings, setting), getattr(model, setting)
            if theirs != own:
                raise EgodepthError(
                    f"init: the {name} network of {folder} has {setting} {got(theirs)}, not "
                    f"{got(own)}: a training that starts from a run takes its networks; leave "
                    f"--model.{setting} out, or name another run or init none"
                )
    # Weights of ImageNet may take a download, and would be replaced.
    needed = model.pretrained and any(wanted[name] and name not in shared for name in wanted)
    networks = Networks(model.changed(pretrained=needed), **wanted)
    networks.settings = networks.settings.changed(pretrained=model.pretrained)
    _load_weights(networks, shared, folder)
    return networks


def _load_weights(networks: Networks, shared: Mapping[str, nn.Module], folder: Path) -> None:
    for name, theirs in shared.items():
        ours = getattr(networks, name)
        try:
            missing = ours.load_state_dict(theirs.state_dict(), strict=False)
        except RuntimeError as error:
            raise EgodepthError(
                f"init: the {name} network of {folder} is of another kind: "
                f"{str(error).splitlines()[1].strip()}; use its settings of model, or init none"
            ) from error
        # An imported feature extractor has no decoder; ours keeps its initial weights.
        wrong = [k for k in missing.missing_keys if not k.startswith(("decoder.", "heads."))]
        if wrong or missing.unexpected_keys:
            raise EgodepthError(
                f"init: the {name} network of {folder} is of another kind, it "
                + (f"lacks {wrong[0]}" if wrong else f"has {missing.unexpected_keys[0]}")
                + "; use its settings of model, or init none"
            )


def check_needs(settings: TrainSettings, sequences: list[Sequence]) -> None:
    """Check all requirements of a training before spending minutes on preparing the footage.

    Raises:
        EgodepthError: unavailable weights, runs that do not fit, a read-only cache, conflicting units of
            length, or no mask, pycolmap, poses or second camera where they are required.
    """
    build_networks(settings)
    check_preparation(settings, sequences)


def check_preparation(settings: TrainSettings, sequences: list[Sequence]) -> None:
    """As :func:`check_needs`, without what the networks need."""
    data, model = settings.data, settings.model
    check_destination(data.cache or default_cache_folder(), folder=True)
    if data.mask not in ("none", "auto"):
        read_mask(Path(data.mask), model.height, model.width)
    if data.partner:
        for index in range(len(sequences)):
            find_partner(sequences, index)
    if data.directions and data.poses == "given":
        for sequence in sequences:
            KnownMotion.given(sequence)
    if data.directions and data.refines_poses:
        if data.poses == "sfm" and not is_from_shards(sequences):
            require_colmap()
        if data.partner:
            raise EgodepthError(
                "--data.views mono_stereo learns metres from the rig's baseline, and --data.poses "
                f"{data.poses} has a unit of its own: use --data.poses network, aligned or given, or "
                "--data.views mono"
            )


def label_seconds(settings: TrainSettings) -> float | None:
    """Time limit for all dense labels in seconds; None without a time budget."""
    return None if settings.minutes is None else 60 * LABELS_SHARE * settings.minutes


def prepare(
    settings: TrainSettings, sequences: list[Sequence]
) -> tuple[TrainSettings, SnippetStream, Plan, float]:
    """Run :func:`check_needs` and :func:`make_stream`; also return the seconds that the latter took.

    Raises:
        EgodepthError: anything wrong with the footage, or missing.
    """
    check_needs(settings, sequences)
    started = time.perf_counter()
    settings, stream, plan = make_stream(settings, sequences)
    return settings, stream, plan, time.perf_counter() - started


def fit_size(settings: TrainSettings, sequences: list[Sequence]) -> tuple[TrainSettings, str]:
    """Settings with the size of the network input for all footage, that of its median aspect ratio, and a line
    that says so."""
    aspect = median(sequence.frames.width / sequence.frames.height for sequence in sequences)
    height, width = closest_size(FOOTAGE_SIZES, aspect)
    fitted = settings.changed(
        model=settings.model.changed(height=height, width=width),
        data=settings.data.changed(fit_size=False),
    )
    return fitted, (
        f"network input {width}x{height}, by the footage's aspect ratio; --model.width and --model.height set "
        "another"
    )


def plan_of_footage(
    settings: TrainSettings, sequences: list[Sequence]
) -> tuple[TrainSettings, Plan]:
    """Prepare footage; return the settings with the size decided, and the plan.

    Raises:
        EgodepthError: anything wrong with the footage.
    """
    data = settings.data
    folder = data.cache or default_cache_folder()
    found: list[str] = []
    if data.directions:
        sequences, found = find_cameras(sequences, folder)
    if data.fit_size:
        settings, line = fit_size(settings, sequences)
        found.append(line)
    clips = read_clips(sequences, settings.model.height, settings.model.width, folder)
    if data.split is not None:
        clips = restrict(clips, get_split(data.split))
    plan = make_plan(clips, data, settings.init)
    if data.dense_labels and settings.loss.dense > 0:
        limit = label_seconds(settings)
        plan = label_plan(plan, folder, torch_device(settings.device), limit)
    return settings, replace(plan, lines=found + plan.lines)


def make_stream(
    settings: TrainSettings, sequences: list[Sequence]
) -> tuple[TrainSettings, SnippetStream, Plan]:
    """Prepare footage, or take it as shards have it; return the settings with size and motion source decided,
    the snippets, and the plan.

    Raises:
        EgodepthError: anything wrong with the footage.
    """
    if is_from_shards(sequences):
        settings, plan = plan_of_shards(settings, sequences)
    else:
        settings, plan = plan_of_footage(settings, sequences)
    for line in plan.lines:
        progress.note(one_line(line))
    data, world = settings.data, World.of_environment()
    stream = SnippetStream(
        plan.clips,
        directions=data.directions,
        partner=data.partner,
        batch_size=settings.batch_size,
        seed=settings.seed,
        rank=world.rank,
        ranks=world.size,
        chunks=plan.chunks,
    )
    stream.labels_first = settings.labels_first if stream.has_labels else 0.0
    decided = settings.changed(data=data.changed(poses=plan.poses))
    return decided, stream, plan


def may_leave_out(settings: TrainSettings, stream: SnippetStream) -> bool:
    """Whether a step may give some parameters no gradient: steps on labels alone leave FeatureNet out, and so
    does a loss without the terms that reach all parameters of a network."""
    has_feature_net = settings.method in ("joint", "features")
    reached = settings.loss.photometric > 0 or settings.method == "features"
    reached = reached and (settings.loss.reconstruction > 0 or not has_feature_net)
    return stream.labels_first > 0 or settings.data.refines_poses or not reached


def build_module(settings: TrainSettings, stream: SnippetStream, precision: str) -> EgodepthModule:
    """Build the module: networks that compute in ``precision`` and, for poses from structure from motion,
    their refinement."""
    motions = None
    networks = build_networks(settings)
    if settings.data.refines_poses and settings.data.directions:
        motions = MotionRefinement(stream, settings.model.start_depth)
        if settings.init is not None and networks.depth is not None:
            motions.take_unit_of(networks.depth, stream)
    networks.use_bf16(precision == "bf16")
    return EgodepthModule(settings, networks, stream.schedule, motions)
