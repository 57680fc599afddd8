"""Recipes: named sets of training settings."""

from collections.abc import Callable
from pathlib import Path

from egodepth.core.errors import EgodepthError
from egodepth.core.suggestions import did_you_mean, similar_path
from egodepth.settings.model import ModelSettings
from egodepth.settings.training import DataSettings, LossWeights, TrainSettings

SHALLOW = ModelSettings(feature_depth=3)
"""Networks for trainings of minutes: FeatureNet ends at 1/8 of the image size."""
LED_BY_IMAGES = LossWeights(
    feature_metric=0.1,
    feature_comparison="structural",
    feature_levels=(0, 1),
    feature_mask="photometric",
    regularizer_norm="spread",
    discriminative=0.02,
    convergent=0.02,
)
"""Loss weights for trainings of minutes: L_ph leads, FeatureNet learns features that are smooth rather than
small, and L_fm compares their structure at 1/4 of the image size."""


def footage() -> TrainSettings:
    """Your own videos and image folders; the default of `egodepth train FOOTAGE`."""
    return TrainSettings(
        data=DataSettings(poses="auto", stride="auto", mask="auto", dense_labels=True),
        # The labels outweigh L_ph five times; without more smoothness, depth is grainy.
        loss=LED_BY_IMAGES.changed(ground_contact=0.03, smooth_first=5e-3),
        model=SHALLOW,
        steps=4000,
        decoder_rate=5,
    )


def kitti_small() -> TrainSettings:
    """KITTI excerpts, in minutes on two CPU cores; DIR contains kitti_raw and kitti_odometry."""
    return TrainSettings(
        recipe="kitti_small",
        data=DataSettings(
            sources=("kitti_raw:kitti_raw", "kitti_odometry:kitti_odometry"),
            poses="auto",
            dense_labels=True,
        ),
        loss=LED_BY_IMAGES.changed(smooth_first=5e-3),
        model=SHALLOW,
        steps=3000,
        minutes=11.5,
        learning_rate=3e-4,
        decoder_rate=3,
    )


def demo() -> TrainSettings:
    """Six synthetic streets; `egodepth demo` trains on them for the given minutes."""
    return TrainSettings(
        recipe="demo",
        data=DataSettings(
            sources=tuple(f"synthetic:{seed}" for seed in range(1, 7)),
            poses="auto",
            # Consecutive frames are 0.6 m apart; fewer key frames need poses and labels.
            stride=3,
            dense_labels=True,
        ),
        loss=LED_BY_IMAGES.changed(smooth_first=5e-3),
        model=SHALLOW,
        steps=3000,
        learning_rate=3e-4,
        decoder_rate=3,
    )


def worlds() -> TrainSettings:
    """Rendered worlds with exact depth and motion; used by `egodepth pretrain`."""
    return TrainSettings(
        recipe="worlds",
        method="photometric",
        # Roughly the median depth of the worlds, so that training starts at the right scale.
        model=SHALLOW.changed(start_depth=5.0),
        loss=LED_BY_IMAGES.changed(photometric=0.0),
        batch_size=8,
        steps=200_000,
        learning_rate=3e-4,
        decoder_rate=3,
        gradient_clip=5.0,
        checkpoint_every=100,
    )


def featdepth_features() -> TrainSettings:
    """The published auto-encoder at 800x256, the feature run of the other featdepth recipes."""
    published = _featdepth(DataSettings(sources=("kitti_raw:.",)), "featdepth_features")
    return published.changed(
        method="features",
        model=published.model.changed(height=256, width=800),
        loss=published.loss.changed(regularize="all"),
        epochs=30.0,
        halve_at=(1 / 3, 2 / 3),
    )


def featdepth_kitti_mono() -> TrainSettings:
    """FeatDepth on monocular KITTI raw, as published; needs --feature_run."""
    return _featdepth(DataSettings(sources=("kitti_raw:.",)), "featdepth_kitti_mono")


def featdepth_kitti_stereo() -> TrainSettings:
    """FeatDepth on stereo pairs of KITTI raw, depth in metres; needs --feature_run."""
    data = DataSettings(sources=("kitti_raw:.",), views="stereo")
    return _metric(_featdepth(data, "featdepth_kitti_stereo"))


def featdepth_kitti_mono_stereo() -> TrainSettings:
    """FeatDepth on KITTI raw with temporal and stereo views, depth in metres; needs --feature_run."""
    data = DataSettings(sources=("kitti_raw:.",), views="mono_stereo")
    return _metric(_featdepth(data, "featdepth_kitti_mono_stereo"))


def featdepth_odometry() -> TrainSettings:
    """FeatDepth on monocular KITTI odometry, as published; needs --feature_run."""
    return _featdepth(DataSettings(sources=("kitti_odometry:.",)), "featdepth_odometry")


def _featdepth(data: DataSettings, name: str) -> TrainSettings:
    """Published settings, except the batch size, which depends on the authors' number of GPUs."""
    return TrainSettings(
        recipe=name,
        method="frozen",
        data=data,
        model=ModelSettings(
            height=320,
            width=1024,
            depth_encoder="resnet50",
            pose_encoder="resnet18",
            feature_encoder="resnet50",
            depth_decoder="cascaded",
            pose_decoder="published",
            pose_size=(192, 640),
            decoder_channels=(16, 32, 64, 128, 256),
        ),
        loss=LossWeights(coarse=0, scale=0),
        batch_size=4,
        epochs=40.0,
        learning_rate=1e-4,
        schedule="halved",
        weight_decay=0,
    )


def _metric(settings: TrainSettings) -> TrainSettings:
    """Adapt settings to a known baseline: no automask, which would remove distant points."""
    model = settings.model.changed(start_depth=10.0)
    return settings.changed(automask=False, model=model)


RECIPES: dict[str, Callable[[], TrainSettings]] = {
    recipe.__name__: recipe
    for recipe in (
        footage,
        kitti_small,
        demo,
        featdepth_features,
        featdepth_kitti_mono,
        featdepth_kitti_stereo,
        featdepth_kitti_mono_stereo,
        featdepth_odometry,
    )
}


FROM_BUILTIN = ("footage", "kitti_small", "demo")
"""Recipes that start from the run builtin unless another start is given; the functions above are those from
ImageNet."""
BUILTIN = "builtin"
"""Name of the run that comes with the package."""
ADAPTATION = {"learning_rate": 4e-4, "decoder_rate": 3.0}
"""Settings for training from an existing run. After 80 steps on KITTI's multi-view labels, a start from builtin
was behind one from ImageNet at 1e-4 and 1, and ahead of it at 3e-4 and 2, and more so at these."""


def start_from(settings: TrainSettings, init: str | Path, model: ModelSettings) -> TrainSettings:
    """Change settings to start from a run instead of ImageNet weights, with the run's model settings and the
    learning rates ADAPTATION."""
    return settings.changed(init=init, model=model, **ADAPTATION)


def get_recipe(name: str) -> TrainSettings:
    """Return the settings of a recipe by name; those in FROM_BUILTIN start from the run ``builtin``.

    Raises:
        EgodepthError: no recipe has that name.
    """
    settings = imagenet_recipe(name)
    return start_from(settings, BUILTIN, worlds().model) if name in FROM_BUILTIN else settings


def imagenet_recipe(name: str) -> TrainSettings:
    """Return the settings of a recipe by name, to start from ImageNet weights.

    Raises:
        EgodepthError: no recipe has that name.
    """
    if not isinstance(name, str) or name not in RECIPES:
        footage = similar_path(str(name)).removeprefix("; ")
        hint = did_you_mean(str(name), RECIPES, footage or f"the recipes are {', '.join(RECIPES)}")
        raise EgodepthError(f"{name!r} is neither a recipe nor an existing video or folder; {hint}")
    return RECIPES[name]()
