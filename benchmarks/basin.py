"""How far from the truth direct alignment may start, for images, ImageNet features and FeatureNet's.

    .venv/bin/python -m benchmarks.basin kitti --data ../shared/data --out runs/basin

takes pairs of real frames with ground-truth depth and poses, starts alignment away from the true motion by
several amounts of rotation and translation in random directions, and counts the starts that end within
0.2 degrees and 5 % of the true motion; and, since ground truth has errors of its own, those that end as near
to where the true motion itself as a start leads. FeatureNet is trained first (300 steps; L_dis 0.01,
L_cvt 0.1); that of builtin learned on rendered worlds. Stopped, the script goes on where it was.
"""

from dataclasses import dataclass

import numpy as np
import torch
from benchmarks.ablation import CONVERGENT, DISCRIMINATIVE
from benchmarks.real_excerpts import EXCERPTS, make_parser, make_settings, read_truth, train_once
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.footage.frame_cache import resize_frame
from egodepth.data.sequence import Sequence
from egodepth.geometry import se3
from egodepth.geometry.alignment import AlignSettings, align
from egodepth.geometry.alignment_residual import Level, State
from egodepth.geometry.camera import Camera
from egodepth.geometry.pyramid import image_pyramid, make_levels
from egodepth.inference.align import make_maps
from egodepth.models.networks import FeatureNet
from egodepth.runs.checkpoint import read_run
from egodepth.settings.model import ModelSettings
from egodepth.settings.recipes import BUILTIN

START_ERRORS = ((0.5, 0.1), (1.0, 0.25), (2.0, 0.5), (4.0, 1.0), (8.0, 2.0))
"""Degrees, and share of the true translation."""
NEAR_DEGREES, NEAR_SHARE = 0.2, 0.05
STARTS = 8


@dataclass(frozen=True)
class Pair:
    """Target and source (1, 3, h, w), the target's inverse depth (1, h, w), 0 where unknown, the camera,
    and the true ``source_from_target`` (1, 4, 4)."""

    target: Tensor
    source: Tensor
    inverse_depth: Tensor
    camera: Camera
    motion: Tensor


def read_pairs(sequence: Sequence, height: int, width: int, offset: int, count: int) -> list[Pair]:
    """Evenly spread pairs whose target has ground-truth depth."""
    assert sequence.camera is not None and sequence.world_from_camera is not None
    known = [i for i in sorted(sequence.depth) if i + offset < len(sequence.frames)]
    chosen = np.unique(np.linspace(0, len(known) - 1, count).astype(int))
    camera = sequence.camera.resize(height, width)
    camera = Camera(camera.matrix.float()[None], height, width)
    pairs = []
    for index in (known[c] for c in chosen):
        first, second = (
            torch.from_numpy(resize_frame(f.image, height, width).copy()).permute(2, 0, 1)[None]
            / 255
            for f in sequence.frames.at([index, index + offset])
        )
        poses = sequence.world_from_camera
        motion = torch.from_numpy(np.linalg.inv(poses[index + offset]) @ poses[index]).float()[None]
        depth = shrink(sequence.depth[index](), height, width)
        pairs.append(Pair(first, second, depth, camera, motion))
    return pairs


def shrink(depth: np.ndarray, height: int, width: int) -> Tensor:
    """Mean inverse depth (1, height, width) of the known pixels that fall into each, 0 where none do."""
    rows, columns = np.nonzero(depth)
    y = np.minimum(rows * height // depth.shape[0], height - 1)
    x = np.minimum(columns * width // depth.shape[1], width - 1)
    total, number = np.zeros((2, height * width))
    np.add.at(total, y * width + x, 1 / depth[rows, columns])
    np.add.at(number, y * width + x, 1)
    mean = total / np.maximum(number, 1)
    return torch.from_numpy(mean.reshape(1, height, width)).float()


def levels_of(pair: Pair, features: FeatureNet | None, count: int) -> list[Level]:
    """The pair ``count`` times."""

    def repeated(image: Tensor) -> list[Tensor]:
        # Images at the sizes of the features: 1/8, 1/4 and 1/2.
        maps = image_pyramid(image, (8, 4, 2)) if features is None else make_maps(image, features)
        return [m.expand(count, -1, -1, -1) for m in maps]

    inverse = pair.inverse_depth.expand(count, -1, -1)
    return make_levels(
        repeated(pair.target), repeated(pair.source), inverse, pair.camera.repeat(count)
    )


def starts_about(motion: Tensor, degrees: float, share: float, seed: int) -> Tensor:
    """Motions (STARTS, 4, 4) off by an angle and by a share of the translation, in random directions."""
    generator = torch.Generator().manual_seed(seed)
    axis, way = torch.nn.functional.normalize(
        torch.randn(2, STARTS, 3, generator=generator), dim=-1
    )
    turned = se3.so3_exp(np.radians(degrees) * axis) @ motion[:, :3, :3]
    length = motion[0, :3, 3].norm()
    return se3.from_rotation_translation(turned, motion[:, :3, 3] + share * length * way)


def is_near(found: Tensor, motion: Tensor) -> Tensor:
    """Whether motions are within 0.2 degrees and 5 % of another."""
    angle = se3.rotation_angle(motion[:, :3, :3].mT @ found[:, :3, :3])
    away = (found[:, :3, 3] - motion[:, :3, 3]).norm(dim=-1)
    close = away < NEAR_SHARE * motion[:, :3, 3].norm(dim=-1)
    return (angle < np.radians(NEAR_DEGREES)) & close


def score(pairs: list[Pair], features: FeatureNet | None, name: str) -> list[dict[str, float]]:
    """A row for each starting error: shares of starts that end at the truth, and at its own end."""
    settings = AlignSettings(iterations=30, brightness=features is None)
    hits = np.zeros((len(START_ERRORS), 2))
    for number, pair in enumerate(track(pairs, name, transient=True)):
        levels = levels_of(pair, features, STARTS)
        ends = align(levels, State.start(pair.motion.expand(STARTS, 4, 4)), settings)
        reference = ends.state.source_from_target[:1]
        for row, (degrees, share) in enumerate(START_ERRORS):
            start = starts_about(pair.motion, degrees, share, 100 * number + row)
            found = align(levels, State.start(start), settings).state.source_from_target
            for column, goal in enumerate((pair.motion, reference)):
                hits[row, column] += is_near(found, goal).float().mean().item() / len(pairs)
    return [
        {"degrees": d, "share": s, "at_truth": float(truth), "at_own_end": float(own)}
        for (d, s), (truth, own) in zip(START_ERRORS, hits, strict=True)
    ]


def main() -> None:
    """Train FeatureNet, align, print, write."""
    parser = make_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--feature-steps", type=int, default=300)
    options = parser.parse_args()
    excerpt = EXCERPTS[options.excerpt]
    settings = make_settings(
        excerpt, options.data, method="features", steps=options.feature_steps,
        loss__discriminative=DISCRIMINATIVE, loss__convergent=CONVERGENT,
    )  # fmt: skip
    folder = options.out / options.excerpt / "features"
    train_once(settings, folder)
    model: ModelSettings = settings.model
    trained = read_run(folder)[1].features
    plain = FeatureNet(model, reconstructs=False).eval()
    worlds = read_run(BUILTIN)[1].features
    pairs = read_pairs(
        read_truth(excerpt, options.data), model.height, model.width, excerpt.offset, options.pairs
    )
    results = {
        "images": score(pairs, None, "images"),
        "ImageNet features": score(pairs, plain, "ImageNet features"),
        "FeatureNet features": score(pairs, trained, "FeatureNet features"),
        "features of builtin": score(pairs, worlds, "features of builtin"),
    }
    heads = [f"{d:g} deg, {100 * s:g} %" for d, s in START_ERRORS]
    table = Table("starts off by", *heads, title=f"{len(pairs)} pairs, {STARTS} starts each")
    for name, rows in results.items():
        for key, what in (("at_truth", "at the truth"), ("at_own_end", "where the truth leads")):
            table.add_row(f"{name}, {what}", *(f"{100 * row[key]:.0f} %" for row in rows))
    Console(width=110).print(table)
    write_json(options.out / f"{options.excerpt}.json", {"results": results, "pairs": len(pairs),
               **provenance()})  # fmt: skip


if __name__ == "__main__":
    main()
