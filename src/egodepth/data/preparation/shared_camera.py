"""Makes all parts of a reconstruction share one camera."""

from types import ModuleType
from typing import Any

import numpy as np

from egodepth.geometry.camera import Camera

MAX_PIXEL_ASPECT = 1e-3
"""Relative difference between fx and fy below which pixels count as square."""
MAX_FOCAL_SPREAD = 1e-3
"""Relative difference to the shared focal length below which those of the parts count as equal."""
MAX_FOCAL_CHANGE = 0.15
"""Largest relative change to a focal length from a field of view that refinement may make."""
MAX_ERROR_GROWTH = 1.3
"""Largest factor by which a part's reprojection error may grow with the shared focal length."""


def colmap_camera(camera: Camera) -> tuple[str, list[float]]:
    """COLMAP's model name and parameters for a camera; the centre of its top-left pixel is (0.5, 0.5).

    A camera with square pixels has one focal length.
    """
    fx, fy, cx, cy = camera.focal_and_centre.tolist()
    if abs(fx / fy - 1) < MAX_PIXEL_ASPECT:
        return "SIMPLE_PINHOLE", [(fx + fy) / 2, cx + 0.5, cy + 0.5]
    return "PINHOLE", [fx, fy, cx + 0.5, cy + 0.5]


def focal_doubt(models: list[Any], given: float) -> str:
    """Why the refined focal lengths are not to be trusted, as a note for the user; empty if they are.

    A camera that moves straight ahead does not show its focal length: it comes out far from the field of view,
    or different in every part.

    Args:
        models: reconstructions, at least one, each with its own focal length.
        given: focal length in pixels by the field of view.
    """
    focals = np.array([next(iter(model.cameras.values())).params[0] for model in models])
    counts = np.array([model.num_reg_images() for model in models])
    largest = focals[counts.argmax()]
    if abs(np.log(largest / given)) > np.log1p(MAX_FOCAL_CHANGE):
        return (
            f"structure from motion estimates a focal length {largest / given:.2f} times that of the field of "
            "view; straight forward motion does not determine it, and that of the field of view is kept"
        )
    if np.abs(np.log(focals / largest)).max() > np.log1p(MAX_FOCAL_CHANGE):
        return (
            f"structure from motion found focal lengths of {focals.min():.0f} to {focals.max():.0f} pixels in "
            f"its {len(models)} parts, so none is reliable: that of the field of view, {given:.0f}, is kept"
        )
    return ""


def share_camera(colmap: ModuleType, models: list[Any]) -> tuple[list[Any], list[str]]:
    """Give all parts of a reconstruction the same focal length; returns the parts and notes for the user.

    Each part has refined its own focal length. The shared one is their median, weighted by frames. If they
    differ, all parts are adjusted to it; parts whose error grows too much are dropped, except for the largest.

    Args:
        colmap: pycolmap.
        models: reconstructions, largest first.
    """
    cameras = [next(iter(model.cameras.values())) for model in models]
    focal_count = 1 if cameras[0].model_name == "SIMPLE_PINHOLE" else 2
    focals = np.array([camera.params[:focal_count] for camera in cameras])
    counts = np.array([model.num_reg_images() for model in models])
    shared = np.array([_weighted_median(column, counts) for column in focals.T])
    off = np.abs(focals / shared - 1).max(1)
    if off.max() < MAX_FOCAL_SPREAD:
        return models, []
    kept, dropped = [], 0
    for number, (model, camera) in enumerate(zip(models, cameras, strict=True)):
        before = model.compute_mean_reprojection_error()
        camera.params = np.concatenate([shared, camera.params[focal_count:]])
        _adjust(colmap, model)
        model.update_point_3d_errors()
        after = model.compute_mean_reprojection_error()
        if number and after > MAX_ERROR_GROWTH * before:
            dropped += model.num_reg_images()
            continue
        kept.append(model)
    note = (
        f"structure from motion found focal lengths of {focals[:, 0].min():.0f} to {focals[:, 0].max():.0f} "
        f"pixels in its {len(models)} parts; all take {shared[0]:.0f}, the median over their frames"
    )
    return kept, [note + f"; {dropped} frames that do not fit it are left out" * bool(dropped)]


def _adjust(colmap: ModuleType, model: Any) -> None:
    """Bundle adjustment with fixed focal lengths, in place.

    ``pycolmap.bundle_adjustment`` does the same, but always logs to the terminal.
    """
    options = colmap.BundleAdjustmentOptions()
    options.refine_focal_length = options.print_summary = False
    options.ceres.solver_options.num_threads = 1  # more would sum in another order each time
    config = colmap.BundleAdjustmentConfig()
    for image in model.reg_image_ids():
        config.add_image(image)
    config.fix_gauge(colmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    colmap.create_default_bundle_adjuster(options, config, model).solve()


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
