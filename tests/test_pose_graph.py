"""Similarities, and the pose graph over them."""

import math

import pytest
import torch
from torch import Tensor

from egodepth.geometry import se3, sim3
from egodepth.geometry.pose_graph import Edges, optimize, select_loops

STEP = torch.tensor([0.003] * 3 + [0.01] * 3 + [0.01], dtype=torch.float64)
LOOP = torch.tensor([0.005] * 3 + [0.02] * 3 + [0.01], dtype=torch.float64)


def random_similarities(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sim3.retract(torch.randn(count, 7, generator=generator, dtype=torch.float64))


def test_similarities() -> None:
    """A quarter turn about z, twice as large, moved by (1, 0, 0), takes (0, 1, 0) to (-1, 0, 0)."""
    turn = se3.exp(torch.tensor([0, 0, math.pi / 2, 0, 0, 0], dtype=torch.float64))
    turn[0, 3] = 1
    found = sim3.scaled(turn, torch.tensor(2.0, dtype=torch.float64))
    point = torch.tensor([0.0, 1, 0, 1], dtype=torch.float64)
    assert torch.allclose(found @ point, torch.tensor([-1.0, 0, 0, 1], dtype=torch.float64))
    assert torch.allclose(sim3.rigid(found), turn)
    several = random_similarities(20)
    assert torch.allclose(sim3.inverse(several), torch.linalg.inv(several))
    assert torch.allclose(sim3.retract(sim3.difference(several)), several)
    step = 1e-5 * torch.randn(20, 7, dtype=torch.float64)
    moved = sim3.retract((sim3.adjoint(several) @ step[..., None])[..., 0]) @ several
    assert torch.allclose(moved, several @ sim3.retract(step), atol=1e-7)


def test_derivatives() -> None:
    poses, measured = random_similarities(4, 1), random_similarities(3, 2)
    ends = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 3])
    edges = Edges(*ends, measured, STEP.expand(3, 7))
    found = edges.derivatives(poses)
    for column in range(14):
        step = torch.zeros(3, 4, 7, dtype=torch.float64)
        step[torch.arange(3), ends[column // 7], column % 7] = 1e-6
        higher, lower = (
            torch.stack([edges.errors(poses @ sim3.retract(s)) for s in sign * step])
            for sign in (1, -1)
        )
        slope = ((higher - lower) / 2e-6)[torch.arange(3), torch.arange(3)]
        assert torch.allclose(slope, found[:, :, column], rtol=1e-5, atol=1e-4)


def two_rounds(count: int, wrong: int) -> tuple[Tensor, Edges, Tensor]:
    """A path that goes twice around a circle, tracked with noise; its loops, the last of them wrong; and the
    true path."""
    generator = torch.Generator().manual_seed(3)
    angle = torch.arange(count, dtype=torch.float64) / count * 4 * math.pi
    twist = torch.zeros(count, 6, dtype=torch.float64)
    twist[:, 1] = angle
    truth = se3.exp(twist)
    radius = count / 4 / math.pi
    truth[:, 0, 3], truth[:, 2, 3] = radius * angle.cos(), -radius * angle.sin()
    noise = torch.randn(count - 1, 7, generator=generator, dtype=torch.float64) * STEP
    steps = se3.inverse(truth[:-1]) @ truth[1:] @ sim3.retract(noise)
    live = [truth[0]]
    for step in steps:
        live.append(live[-1] @ step)
    first = torch.tensor([*range(5, 20, 3), *range(3, 3 + wrong)])
    second = first + count // 2
    second[5:] -= count // 6
    noise = torch.randn(len(first), 7, generator=generator, dtype=torch.float64) * LOOP
    loops = se3.inverse(truth[first]) @ truth[second]
    loops[5:] = torch.eye(4, dtype=torch.float64)
    moved = loops @ sim3.retract(noise)
    return torch.stack(live), Edges(first, second, moved, LOOP.expand(len(first), 7)), truth


@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_loops_correct_a_path_and_wrong_ones_are_left_out(wrong: int) -> None:
    count = 100
    live, loops, truth = two_rounds(count, wrong)
    deviation = STEP.expand(count - 1, 7)
    kept = select_loops(loops, live, deviation)
    assert kept[:5].all() and not kept[5:].any()
    index = torch.arange(count)
    edges = Edges(
        torch.cat([index[:-1], loops.first[kept]]), torch.cat([index[1:], loops.second[kept]]),
        torch.cat([sim3.inverse(live[:-1]) @ live[1:], loops.first_from_second[kept]]),
        torch.cat([deviation, loops.deviation[kept]]),
    )  # fmt: skip
    found = optimize(edges, live, index == 0)
    before, after = (
        float((poses[:, :3, 3] - truth[:, :3, 3]).norm(dim=1).square().mean().sqrt())
        for poses in (live, found)
    )
    assert after < 0.7 * before


def test_a_loop_without_support_is_left_out() -> None:
    live, loops, _ = two_rounds(100, 0)
    alone = Edges(*(vars(loops)[name][:1] for name in vars(loops)))
    assert not select_loops(alone, live, STEP.expand(99, 7)).any()
