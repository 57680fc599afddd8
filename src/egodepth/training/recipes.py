"""Named experiments: functions that return settings."""

from collections.abc import Callable

from egodepth.core.errors import EgodepthError
from egodepth.training.settings import DataSettings, TrainSettings


def footage() -> TrainSettings:
    """One's own video or folder of images; give --data.fov or --data.focal with it."""
    return TrainSettings(steps=4000)


def kitti_small() -> TrainSettings:
    """The KITTI excerpts: DIR holds kitti_raw and kitti_odometry; minutes on two CPU cores."""
    return TrainSettings(
        recipe="kitti_small",
        # In so few steps FeatureNet has not learned much yet, and costs time.
        method="photometric",
        # A run of minutes is far from overfitting: augmentation would only slow it down.
        data=DataSettings(
            sources=("kitti_raw:kitti_raw", "kitti_odometry:kitti_odometry"), augment=False
        ),
        steps=1500,
        minutes=11.5,
        learning_rate=4e-4,
    )


def demo() -> TrainSettings:
    """Six synthetic streets; what `egodepth demo` trains, in the minutes that it is given."""
    return TrainSettings(
        recipe="demo",
        # As for kitti_small: more steps in the same minutes.
        method="photometric",
        data=DataSettings(sources=tuple(f"synthetic:{seed}" for seed in range(1, 7))),
        # Nothing moves in the streets but the camera, and the automask does not pull back where a
        # wrong motion is worse than none: PoseNet learned to turn the wrong way with it.
        automask=False,
        steps=1500,
        learning_rate=4e-4,
    )


RECIPES: dict[str, Callable[[], TrainSettings]] = {
    recipe.__name__: recipe for recipe in (footage, kitti_small, demo)
}


def get_recipe(name: str) -> TrainSettings:
    """Settings of a recipe by name.

    Raises:
        EgodepthError: there is none of that name.
    """
    if name not in RECIPES:
        raise EgodepthError(
            f"{name!r} is neither a recipe ({', '.join(RECIPES)}) nor an existing video or folder"
        )
    return RECIPES[name]()
