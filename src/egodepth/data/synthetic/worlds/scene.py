"""Scene building: a mesh of placed, oriented and possibly moving parts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from egodepth.data.synthetic.ray_casting import SceneMesh, Vector

Motion = Callable[[float], np.ndarray]
"""Function from time in seconds to the world transform (4, 4) of a part, relative to its initial pose."""
STATIC = -1


class Scene(SceneMesh):
    """A mesh with outward normals and moving parts.

    The world frame has x right, y down and z forward, in metres; the ground is near y = 0.

    Attributes:
        outward: (n, 3) outward normals of the triangles, not of unit length.
        part: (n,) index into ``motions``; STATIC for static triangles.
        motions: motions of the moving parts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outward: list[np.ndarray] = []
        self.part: list[int] = []
        self.motions: list[Motion] = []
        self._placed = np.eye(4)
        self._inner: np.ndarray | None = None
        self._part = STATIC

    @contextmanager
    def placed(
        self, x: float, z: float, yaw: float = 0.0, y: float = 0.0, scale: float = 1.0,
        inner: Vector = (0.0, -0.5, 0.0),
    ) -> Iterator[None]:  # fmt: skip
        """Place everything built inside the ``with`` block.

        Args:
            x, z, y: position of its origin in the parent frame.
            yaw: rotation about the vertical axis in radians, from +z towards +x.
            scale: factor of all its lengths.
            inner: a point behind all its faces, in its own frame: faces point away from it.
        """
        before = self._placed, self._inner
        here = np.eye(4)
        here[:3, :3] = scale * turn_about_vertical(yaw)
        here[:3, 3] = x, y, z
        self._placed = self._placed @ here
        self._inner = self._placed[:3, :3] @ np.asarray(inner, float) + self._placed[:3, 3]
        try:
            yield
        finally:
            self._placed, self._inner = before

    @contextmanager
    def moving(self, motion: Motion) -> Iterator[None]:
        """Make everything built inside the ``with`` block one rigidly moving part."""
        self.motions.append(motion)
        self._part = len(self.motions) - 1
        try:
            yield
        finally:
            self._part = STATIC

    def append(self, draft: "Scene", x: float, z: float, yaw: float) -> None:
        """Add a static scene that was built separately with the same textures, rotated and translated."""
        turn, shift = turn_about_vertical(yaw), np.array([x, 0, z])
        first = len(self.corners)
        self.corners += [corners @ turn.T + shift for corners in draft.corners]
        self.outward += [turn @ normal for normal in draft.outward]
        self.texels += draft.texels
        self.texture += draft.texture
        self.part += draft.part
        self.surface += [first + surface for surface in draft.surface]

    def polygon(
        self, corners: np.ndarray, texels: np.ndarray, texture: int, inner: Vector | None = None
    ) -> None:
        """Add a convex planar polygon; ``inner`` is a point behind it, by default that of :meth:`placed`."""
        first = len(self.corners)
        turn, shift = self._placed[:3, :3], self._placed[:3, 3]
        placed = np.asarray(corners, float) @ turn.T + shift
        super().polygon(placed, texels, texture)
        behind = self._inner if inner is None else turn @ np.asarray(inner, float) + shift
        if behind is None:
            behind = placed[0] + (0, 1, 0)
        # Newell's method: valid for any convex polygon, even with collinear corners.
        normal = np.cross(placed, np.roll(placed, -1, 0)).sum(0)
        if normal @ (placed[0] - behind) < 0:
            normal = -normal
        added = len(self.corners) - first
        self.outward += [normal] * added
        self.part += [self._part] * added

    def prism(
        self, outline: Sequence[tuple[float, float]] | np.ndarray, bottom: float, top: float,
        texture: int, repeat_m: float = 1.0, cover: int | None = None,
    ) -> None:  # fmt: skip
        """Add a vertical prism, without a lower face if it stands on the ground.

        Args:
            outline: (n, 2) x, z of its convex base.
            bottom, top: heights in metres, upwards.
            texture, cover: textures of its sides and of its top (by default the same).
            repeat_m: size of the texture in metres.
        """
        base = np.asarray(outline, float)
        middle = base.mean(0)
        inner = (middle[0], -(bottom + top) / 2, middle[1])
        run = 0.0
        for (x0, z0), (x1, z1) in zip(base, np.roll(base, -1, 0), strict=True):
            length = float(np.hypot(x1 - x0, z1 - z0))
            face = np.array([(x0, -top, z0), (x1, -top, z1), (x1, -bottom, z1), (x0, -bottom, z0)])
            u0, u1, v = run / repeat_m, (run + length) / repeat_m, (top - bottom) / repeat_m
            self.polygon(face, np.array([(u0, 0), (u1, 0), (u1, v), (u0, v)]), texture, inner)
            run += length
        lid = np.stack([base[:, 0], np.full(len(base), -top), base[:, 1]], 1)
        self.polygon(lid, base / repeat_m, texture if cover is None else cover, inner)
        if bottom > 0:  # may be seen from below
            floor = np.stack([base[:, 0], np.full(len(base), -bottom), base[:, 1]], 1)
            self.polygon(floor, base / repeat_m, texture, inner)

    def block(
        self, size: Vector, texture: int, at: Vector = (0.0, 0.0, 0.0), repeat_m: float = 1.0,
        cover: int | None = None,
    ) -> None:  # fmt: skip
        """Add a box (width along x, height, depth along z) with its base centred at ``at`` (x, height, z)."""
        (w, h, d), (x, up, z) = size, at
        left, right, front, back = x - w / 2, x + w / 2, z - d / 2, z + d / 2
        outline = [(left, front), (right, front), (right, back), (left, back)]
        self.prism(outline, up, up + h, texture, repeat_m, cover)

    def tube(
        self, radius: float, bottom: float, top: float, texture: int,
        at: tuple[float, float] = (0.0, 0.0), sides: int = 8, repeat_m: float = 1.0,
    ) -> None:  # fmt: skip
        """Add an upright cylinder."""
        turns = np.arange(sides) * 2 * np.pi / sides
        outline = np.stack([at[0] + radius * np.cos(turns), at[1] + radius * np.sin(turns)], 1)
        self.prism(outline, bottom, top, texture, repeat_m)

    def lathe(
        self, profile: Sequence[tuple[float, float]], texture: int,
        at: tuple[float, float] = (0.0, 0.0), sides: int = 10, lumps: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Add a solid of revolution.

        Args:
            profile: (radius, height) from bottom to top.
            texture: texture that spans a third of the circumference.
            at: x, z of its axis.
            sides: number of faces around the axis.
            lumps: (len(profile), sides) factors of the radius.
        """
        turns = np.arange(sides + 1) * 2 * np.pi / sides
        radii = np.array([r for r, _ in profile])[:, None] * np.ones(sides)
        radii = radii if lumps is None else radii * lumps
        radii = np.concatenate([radii, radii[:, :1]], 1)
        heights = np.array([h for _, h in profile])[:, None]
        points = np.stack([at[0] + radii * np.cos(turns), -heights * np.ones_like(radii),
                           at[1] + radii * np.sin(turns)], -1)  # fmt: skip
        middle = (at[0], -float(heights.mean()), at[1])
        i, j = (index.ravel() for index in np.mgrid[: len(profile) - 1, :sides])
        rows, columns = np.stack([i, i, i + 1, i + 1], 1), np.stack([j, j + 1, j + 1, j], 1)
        texels = np.stack([columns, rows], -1) * 3 / sides
        halves = [[0, 1, 2], [0, 2, 3]]
        self.triangles(
            points[rows, columns][:, halves].reshape(-1, 3, 3),
            texels[:, halves].reshape(-1, 3, 2),
            texture,
            middle,
        )

    def triangles(
        self, corners: np.ndarray, texels: np.ndarray, texture: int, inner: Vector
    ) -> None:
        """Add many triangles at once, each its own surface.

        Args:
            corners: (n, 3, 3).
            texels: (n, 3, 2).
            texture: texture of all triangles.
            inner: a point behind all of them.
        """
        turn, shift = self._placed[:3, :3], self._placed[:3, 3]
        placed = corners @ turn.T + shift
        behind = turn @ np.asarray(inner, float) + shift
        normals = np.cross(placed[:, 1] - placed[:, 0], placed[:, 2] - placed[:, 0])
        inwards = np.einsum("ij,ij->i", normals, placed[:, 0] - behind) < 0
        normals[inwards] *= -1
        first = len(self.corners)
        self.corners.extend(placed)
        self.texels.extend(texels)
        self.outward.extend(normals)
        self.texture += [texture] * len(placed)
        self.surface += range(first, first + len(placed))
        self.part += [self._part] * len(placed)

    def ball(
        self, rng: np.random.Generator, radius: float, texture: int, at: Vector = (0.0, 0.0, 0.0),
        lumpy: float = 0.0, flat: float = 1.0,
    ) -> None:  # fmt: skip
        """Add a ball centred at ``at`` (x, height, z), ``flat`` times as high as wide."""
        tilt = np.linspace(0, np.pi, 6)
        profile = [(radius * np.sin(t), at[1] - flat * radius * np.cos(t)) for t in tilt]
        lumps = 1 + lumpy * rng.uniform(-1, 1, (6, 9)) if lumpy else None
        self.lathe(profile, texture, (at[0], at[2]), 9, lumps)

    def panel(
        self, width: float, height: float, texture: int, at: Vector = (0.0, 0.0, 0.0),
        repeat: tuple[float, float] = (1.0, 1.0),
    ) -> None:  # fmt: skip
        """Add an upright rectangle that faces -z, with its lower edge centred at ``at`` (x, height, z)."""
        x, up, z = at
        left, right = x - width / 2, x + width / 2
        top = -up - height
        face = np.array([(left, top, z), (right, top, z), (right, -up, z), (left, -up, z)])
        s, t = repeat
        self.polygon(face, np.array([(0, 0), (s, 0), (s, t), (0, t)]), texture, (x, -up, z + 1))


def turn_about_vertical(yaw: float) -> np.ndarray:
    """Rotation (3, 3) by ``yaw`` radians from +z towards +x."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
