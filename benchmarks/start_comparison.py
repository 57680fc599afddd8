"""Does a training that made depth worse say so? Trains from a run on footage that teaches little.

    python -m benchmarks.start_comparison RUN [--steps 150] [--only fog static] [--json FILE]

Each kind of footage is rendered with exact depth: a motorway where cars drive at the camera's speed, a static
camera, pure rotation, a drive in fog; and a town, which does teach. Abs Rel before and after is compared with
the verdict of egodepth.training.start_comparison, which knows no depth.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from egodepth.core.errors import EgodepthError
from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.synthetic.worlds.world import World
from egodepth.evaluation.depth import PROTOCOLS, score_depth
from egodepth.runs.run import Run
from egodepth.training.requested import requested_settings
from egodepth.training.run import train

FRAMES, HEIGHT, WIDTH = 48, 192, 640
NOISE = 2.0
"""Standard deviation of the camera's noise, of 255."""
VISIBILITY = 25.0
"""Distance in metres after which fog has swallowed 95 % of the light."""
MAX_TURN = 12.0
"""Degrees to each side that the rotating camera turns."""


class Footage(NamedTuple):
    """Rendered footage.

    Attributes:
        images: (N, H, W, 3) uint8.
        depth: (N, H, W) in metres, 0 for sky.
        fov: horizontal field of view in degrees.
    """

    images: list[np.ndarray]
    depth: list[np.ndarray]
    fov: float


def _drive(kind: str, seed: int, count: int = FRAMES, width: int = WIDTH) -> Footage:
    world = World(kind, seed, count, HEIGHT, width)
    images, depth = zip(*(world.render(i)[:2] for i in range(count)), strict=True)
    focal = float(world.camera.matrix[0, 0])
    return Footage(list(images), list(depth), float(np.degrees(2 * np.arctan(width / 2 / focal))))


def town(seed: int) -> Footage:
    """A drive through a town."""
    return _drive("town", seed)


def motorway(seed: int) -> Footage:
    """A drive on a motorway, among cars at about the camera's speed."""
    return _drive("motorway", seed)


def static(seed: int) -> Footage:
    """A camera that stands still in a town; only its noise changes."""
    one = _drive("town", seed, 2)
    rng = np.random.default_rng(seed)
    noisy = [one.images[0] + rng.normal(0, NOISE, one.images[0].shape) for _ in range(FRAMES)]
    images = [image.round().clip(0, 255).astype(np.uint8) for image in noisy]
    return Footage(images, one.depth[:1] * FRAMES, one.fov)


def rotation(seed: int) -> Footage:
    """A camera that turns on the spot to and fro, cut out of one wide image."""
    wide = _drive("town", seed, 2, 2 * WIDTH)
    focal = WIDTH / np.tan(np.radians(wide.fov) / 2)
    matrix = np.array([[focal, 0, WIDTH - 0.5], [0, focal, HEIGHT / 2 - 0.5], [0, 0, 1]])
    own = matrix.copy()
    own[0, 2] = WIDTH / 2 - 0.5
    rays = np.linalg.inv(own) @ [(WIDTH - 1) / 2, (HEIGHT - 1) / 2, 1]
    assert np.allclose(rays, [0, 0, 1])
    images, depths = [], []
    for angle in MAX_TURN * np.sin(np.linspace(0, 2 * np.pi, FRAMES)):
        turn = Rotation.from_euler("y", angle, degrees=True).as_matrix()
        towards = matrix @ turn @ np.linalg.inv(own)  # from the turned image to the wide one
        size = (WIDTH, HEIGHT)
        images.append(
            cv2.warpPerspective(
                wide.images[0], towards, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            )
        )
        depth = cv2.warpPerspective(
            wide.depth[0], towards, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        )
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        there = np.einsum(
            "ij,jhw->ihw", turn @ np.linalg.inv(own), np.stack([x, y, np.ones_like(x)])
        )
        depths.append((depth / there[2]).astype(np.float32))
    return Footage(images, depths, float(np.degrees(2 * np.arctan(WIDTH / 2 / focal))))


def fog(seed: int) -> Footage:
    """A drive through a town in dense fog."""
    clear = _drive("town", seed)
    images = []
    for image, depth in zip(clear.images, clear.depth, strict=True):
        left = np.where(depth > 0, np.exp(-3 * depth / VISIBILITY), 0)[..., None]
        images.append((left * image + (1 - left) * 185).round().astype(np.uint8))
    return clear._replace(images=images)


CASES: dict[str, Callable[[int], Footage]] = {
    case.__name__: case for case in (town, motorway, static, rotation, fog)
}


def score(run: Run, footage: Footage) -> float:
    """Mean Abs Rel of every fourth frame, scaled by medians."""
    protocol = PROTOCOLS["synthetic"]
    scores = [
        score_depth(run.depth(image), depth, protocol)["abs_rel"]
        for image, depth in zip(footage.images[::4], footage.depth[::4], strict=True)
    ]
    return float(np.mean(scores))


def compare(
    name: str, run: Path, changes: dict[str, Any], seed: int, folder: Path
) -> dict[str, Any]:
    """Train from a run on one kind of footage: scores before and after, and the verdict."""
    footage = CASES[name](seed)
    source = folder / f"{name}_{seed}"
    source.mkdir()
    for index, image in enumerate(footage.images):
        Image.fromarray(image).save(source / f"{index:04d}.png")
    own = {"init": str(run), "data.fov": round(footage.fov, 3), "data.cache": str(folder / "cache")}
    settings = requested_settings(str(source), changes={**own, **changes})
    out = folder / f"run_{name}_{seed}"
    try:
        result = train(settings, out)
    except EgodepthError as error:  # of a camera that does not move
        before = score(Run.load(run), footage)
        return {
            "case": name,
            "seed": seed,
            "steps": 0,
            "abs_rel": [before, before],
            "says": str(error),
        }
    assert result.comparison is not None
    kept = out / "start"
    if kept.exists():
        kept.rename(folder / f"start_{name}_{seed}")
    before, after = score(Run.load(run), footage), score(Run.load(out), footage)
    return {
        "case": name, "seed": seed, "steps": result.steps, "abs_rel": [before, after],
        "says": result.comparison.worse or "better", **result.comparison.facts(),
    }  # fmt: skip


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other settings")
    parser.add_argument("--seeds", type=int, nargs="+", default=[5])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    changes = {"steps": arguments.steps, **dict(each.split("=", 1) for each in arguments.set)}
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            for name in arguments.only:
                row = compare(name, arguments.run, changes, seed, Path(folder))
                rows.append(row)
                before, after = row["abs_rel"]
                print(
                    f"{name:<10} {seed} Abs Rel {before:.3f} -> {after:.3f}  {row['says']}",
                    flush=True,
                )
                seen = ("told", "targets", "error", "disagreement", "through_ground")
                print("          ", {k: row[k] for k in seen if k in row}, flush=True)
    if arguments.json:
        write_json(arguments.json, {**provenance(), "run": arguments.run.name, "rows": rows})


if __name__ == "__main__":
    main()
