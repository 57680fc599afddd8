"""Rendered worlds: what they promise holds for every kind."""

from functools import cache

import numpy as np
import pytest

from egodepth.core.errors import EgodepthError
from egodepth.data.sources import read_source
from egodepth.data.synthetic.worlds.lighting import Lights, LitRenderer
from egodepth.data.synthetic.worlds.palette import Palette
from egodepth.data.synthetic.worlds.scene import Scene
from egodepth.data.synthetic.worlds.town_route import Grid, Path, draw_route, drive_along
from egodepth.data.synthetic.worlds.town_traffic import CLEAR_ASIDE, add_traffic
from egodepth.data.synthetic.worlds.world import KINDS, World

SIZE = {"frames": 12, "height": 48, "width": 80}


@cache
def world_of(kind: str) -> World:
    return World(kind, 3, **SIZE)


@pytest.mark.parametrize("kind", KINDS)
def test_depth_and_poses_agree_between_frames(kind: str) -> None:
    """What stands still in one frame is found at the projected place in another, at the projected depth."""
    world = world_of(kind)
    (image, first, moving), (_, second, _) = world.render(4), world.render(5)
    assert image.dtype == np.uint8 and image.shape == (48, 80, 3) and image.std() > 3
    matrix = world.camera.matrix.numpy().astype(float)
    y, x = np.mgrid[:48, :80]
    rays = np.linalg.inv(matrix) @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    points = rays * first.ravel()
    poses = world.world_from_camera
    motion = np.linalg.inv(poses[5]) @ poses[4]
    there = motion[:3, :3] @ points + motion[:3, 3:]
    u, v = (matrix @ there)[:2] / np.maximum(there[2], 1e-6)
    inside = (u >= 0) & (u < 79) & (v >= 0) & (v < 47) & (there[2] > 0.1)
    known = inside & (first.ravel() > 0) & ~moving.ravel()
    assert known.mean() > 0.25
    found = second[v[known].round().astype(int), u[known].round().astype(int)]
    error = np.abs(np.log(np.maximum(found, 1e-3) / there[2][known]))
    # Borders of things, and what comes into sight, differ.
    assert np.median(error) < 0.03 and (error < 0.15).mean() > 0.75
    assert (first[first > 0] > 0.02).all() and np.isfinite(first).all()


def test_a_seed_is_one_world() -> None:
    one, same, other = World("room", 1, **SIZE), World("room", 1, **SIZE), World("room", 2, **SIZE)
    # The order in which frames are asked for does not matter.
    later = one.render(7)[0]
    same.render(0)
    assert np.array_equal(later, same.render(7)[0])
    assert not np.array_equal(later, other.render(7)[0])
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_the_camera_sees_the_same_field_at_every_size() -> None:
    small, upright = World("yard", 4, **SIZE), World("yard", 4, frames=12, height=160, width=96)
    assert small.camera.matrix[0, 0] / 80 == pytest.approx(float(upright.camera.matrix[0, 0]) / 160)


def test_what_moves_is_told_and_moves() -> None:
    for seed in range(20):
        world = World("motorway", seed, **SIZE)
        if world.render(2)[2].mean() > 0.005:
            break
    (_, _, early), (_, _, late) = world.render(2), world.render(11)
    assert early.any() and not np.array_equal(early, late)


def test_light_falls_off_is_hidden_and_is_cast_by_the_sun() -> None:
    """A white floor under a small roof: dark below it, full sun beside it, by the known formula."""
    scene = Scene()
    white = scene.add_texture(np.ones((4, 4, 3), np.float32))
    floor = np.array([(-8.0, 0, -8), (8, 0, -8), (8, 0, 8), (-8, 0, 8)])
    scene.polygon(floor, np.zeros((4, 2)), white, (0, 5, 0))
    scene.block((4, 0.1, 4), white, (0, 1.5, 0))
    sun = np.array([0.0, -1, 0])
    lights = Lights(np.full(3, 0.3), np.full(3, 0.5), sun, reach=20.0, texel=0.2)
    looks_down = np.eye(4)
    looks_down[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    matrix = np.array([[40.0, 0, 31.5], [0, 40, 31.5], [0, 0, 1]])
    renderer = LitRenderer(
        scene, np.zeros((2, 4, 3), np.float32), lights, matrix, 64, 64, np.random.default_rng(0)
    )
    above, below = looks_down.copy(), looks_down.copy()
    above[:3, 3], below[:3, 3] = (6, -5, 0), (0, -1.4, 0)
    view = renderer.view(above)
    assert view.depth[32, 32] == pytest.approx(5, rel=1e-5)
    # Beside the roof nearly the whole sky is open, and the sun stands overhead.
    assert view.colour[32, 40] == pytest.approx(np.full(3, 0.8), abs=0.08)
    shadow = renderer.view(below).colour[32, 32]
    assert (shadow < 0.25).all() and (shadow > 0.05).all()


def test_worlds_are_sources() -> None:
    sequence = read_source("synthetic:corridor:7")[0]
    assert sequence.name == "corridor-7" and len(sequence.frames) == 100
    assert sequence.camera is not None and sequence.world_from_camera is not None
    assert read_source("synthetic:7")[0].name == "street-7"
    assert len(read_source("synthetic:room:7:8")[0].frames) == 8


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("castle:7", "unknown kind of world 'castle' .* use one of town"),
        (":7", "unknown kind of world '' .* use one of town"),
        ("rom:7", "did you mean 'room'"),
        ("room:7:8:9", "write synthetic:SEED, or synthetic:KIND:SEED with one of town"),
        ("room:7:1", "has 2 to 100000 frames, not 1"),
        ("room:", "write synthetic:SEED, or synthetic:KIND:SEED with one of town"),
        ("room:x", "write synthetic:SEED, or synthetic:KIND:SEED with one of town"),
    ],
)
def test_unknown_worlds_name_the_known_ones(where: str, told: str) -> None:
    with pytest.raises(EgodepthError, match=told):
        read_source(f"synthetic:{where}")


def test_the_same_place_in_a_town_differs_by_light_and_cars_alone() -> None:
    world = world_of("blocks")
    renderer, pose = world._renderer, world.world_from_camera[4]
    first, last = (renderer.view(pose, time) for time in (0.0, 4.0))
    still = ~first.moving & ~last.moving
    assert np.array_equal(first.depth[still], last.depth[still])
    share = last.colour[still] / np.maximum(first.colour[still], 1e-3)
    assert np.ptp(np.quantile(share, [0.05, 0.95])) > 0.02  # not brighter everywhere alike
    assert np.array_equal(first.colour, renderer.view(pose, 0.0).colour)


@pytest.mark.parametrize("seed", range(2))
def test_drives_through_towns_go_round_both_ways_and_meet_no_car(seed: int) -> None:
    rng, frames = np.random.default_rng(seed), 2000
    grid = Grid.draw(rng, 4)
    route = draw_route(rng, 4, 30)
    turns = (np.diff(route.headings) + 1) % 4 - 1
    assert set(turns) == {-1, 0, 1} and min((turns > 0).sum(), (turns < 0).sum()) >= 4
    path = Path(grid, route)
    assert path.length > 1400
    poses = drive_along(rng, path, frames, 1.5)
    places, steps = poses[:, [0, 2], 3], np.diff(poses[:, [0, 2], 3], axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    assert lengths.min() > 0.3 and lengths.max() < 1.0
    # It drives on streets, on the right, and looks where it drives.
    gaps = [np.abs(values[:, None] - lines).min(1) for values, lines in
            zip(places.T, (grid.xs, grid.zs), strict=True)]  # fmt: skip
    assert np.minimum(*gaps).max() < grid.half + 2
    looks = poses[:-1, [0, 2], 2]
    assert ((looks * steps).sum(1) / lengths).min() > np.cos(np.radians(12))
    # Most of the streets are driven again in the same direction.
    edges, place = [], np.array(route.start)
    for heading in route.headings:
        edges.append((*place, heading))
        place = place + [(0, 1), (1, 0), (0, -1), (-1, 0)][heading]
    assert len(edges) - len(set(edges)) >= 6
    scene = Scene()
    add_traffic(scene, rng, Palette(scene, rng), grid, poses, 3)
    assert len(scene.motions) == 3
    for number, motion in enumerate(scene.motions):
        own = np.stack(scene.corners)[np.array(scene.part) == number].mean((0, 1))
        at = np.array([(motion(i / 10) @ [*own, 1])[:3] for i in range(frames)])
        seen = at[:, 1] < 1
        assert seen.mean() > 0.3
        assert np.linalg.norm(at[seen][:, [0, 2]] - places[seen], axis=1).min() > CLEAR_ASIDE - 0.3
