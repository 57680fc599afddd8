"""Houses, and rows of them along a road."""

import numpy as np

from egodepth.data.synthetic.worlds import materials, outdoors, palette
from egodepth.data.synthetic.worlds.materials import Rng
from egodepth.data.synthetic.worlds.palette import Palette
from egodepth.data.synthetic.worlds.paths import Spine
from egodepth.data.synthetic.worlds.scene import Scene


def row_of_houses(
    scene: Scene, rng: Rng, p: Palette, spine: Spine, side: int, offset: float, density: float
) -> None:
    """Add houses, walls, fences and trees along one side of a road, at ``offset`` metres or more from its
    middle."""
    s = -22.0
    while s < spine.length:
        wide, deep = rng.uniform(5, 18), rng.uniform(6, 10)
        kind = rng.random()
        back = offset + (rng.uniform(0, 4) if rng.random() < 0.4 else 0.0)
        x, z, up, yaw = spine.at(s + wide / 2, side * back)
        # In its own frame a house faces -z, towards the road.
        with scene.placed(x, z, yaw + side * np.pi / 2, -up):
            if kind < density:
                house(scene, rng, p, wide - 0.1, deep)
            elif kind < density + 0.2:
                high = rng.uniform(0.8, 2.5)
                stuff = p(
                    (
                        materials.bricks,
                        materials.planks,
                        materials.foliage,
                        materials.plaster,
                        materials.metal,
                    )
                )
                scene.block((wide, high, rng.uniform(0.1, 0.8)), stuff, (0, 0, 0.5), 2.5)
            else:
                for _ in range(rng.integers(0, 4)):
                    with scene.placed(rng.uniform(-0.5, 0.5) * wide, rng.uniform(1, 8)):
                        (outdoors.tree if rng.random() < 0.7 else outdoors.bush)(scene, rng, p)
        s += wide + (rng.uniform(0, 6) if rng.random() < 0.3 else 0)


def house(scene: Scene, rng: Rng, p: Palette, wide: float, deep: float) -> None:
    """Add a house with its front at z = 0, facing -z, with a flat or gabled roof, a door, perhaps a shop."""
    storeys = int(rng.choice([1, 2, 2, 3, 4, 5, 7]))
    high, stuff = 3.0 * storeys + rng.uniform(0, 1), p(materials.HOUSE)
    # A tile spans four storeys of 3 m.
    scene.block(
        (wide, high, deep), stuff, (0, 0, deep / 2), 12.0, p((materials.concrete, materials.gravel))
    )
    if rng.random() < 0.6 and storeys < 5:
        roof, rise = (
            p((materials.tiles, materials.bricks, materials.metal, materials.planks)),
            rng.uniform(1.2, 3.5),
        )
        eaves = 0.3
        w, front, rear = wide / 2 + eaves, -eaves, deep + eaves
        ridge = [(-w, -high - rise, deep / 2), (w, -high - rise, deep / 2)]
        for z in (front, rear):
            face = np.array([ridge[0], ridge[1], (w, -high + 0.1, z), (-w, -high + 0.1, z)])
            scene.polygon(face, face[:, [0, 1]] / 4, roof, (0, -high, deep / 2))
        for x in (-wide / 2, wide / 2):
            gable = np.array([(x, -high, 0), (x, -high - rise, deep / 2), (x, -high, deep)])
            scene.polygon(gable, gable[:, [2, 1]] / 12, stuff, (0, -high, deep / 2))
    if rng.random() < 0.5:
        scene.panel(
            1.0,
            2.1,
            p((materials.wood, materials.paint)),
            (rng.uniform(-0.35, 0.35) * wide, 0, -0.03),
        )
    if rng.random() < 0.35:
        scene.panel(
            0.9 * wide,
            2.6,
            p((materials.poster, palette.glass)),
            (0, 0.3, -0.02),
            (max(1, round(wide / 5)), 1),
        )
        scene.block(
            (0.95 * wide, 0.5, 0.9), p((materials.cloth, materials.paint)), (0, 2.9, -0.45), 2
        )
    if storeys > 2 and rng.random() < 0.4:
        for floor in range(1, storeys):
            scene.block(
                (min(wide * 0.5, 4), 1.0, 1.0),
                p((materials.concrete, materials.metal)),
                (rng.uniform(-0.2, 0.2) * wide, 3 * floor, -0.5),
                3,
            )
