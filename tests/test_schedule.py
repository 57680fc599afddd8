"""How far a training is at each step, and that --minutes follows the clock."""

import json
import math
import random

import pytest

from egodepth.core.schedule import Schedule


def test_without_revision_progress_is_steps_over_total() -> None:
    for total in (1, 7, 300, 1430):
        schedule = Schedule(total)
        assert schedule.total == total
        assert [schedule.progress(s) for s in range(2 * total)] == [
            min(1.0, s / total) for s in range(2 * total)
        ]
        for share in (0.0, 0.25, 0.5, 0.55, 1 / 3, 0.7, 0.9, 1.0):
            found = schedule.first_step_at(share)
            assert found == next(s for s in range(total + 1) if schedule.progress(s) >= share)
            rounding = share not in (0.0, 0.25, 0.5, 1.0)  # ceil(0.55 * 100) is 56
            assert abs(found - math.ceil(share * total)) <= rounding


@pytest.mark.parametrize("seed", range(20))
def test_revisions_keep_the_past_and_end_at_one(seed: int) -> None:
    rng = random.Random(seed)
    schedule, step = Schedule(300), 0
    for _ in range(8):
        step = min(step + rng.randrange(60), schedule.total - 1)
        before = [schedule.progress(s) for s in range(step + 1)]
        schedule.revise(step, step + rng.randrange(1, 400))
        assert [schedule.progress(s) for s in range(step + 1)] == before
    progress = [schedule.progress(s) for s in range(schedule.total + 1)]
    assert progress == sorted(progress) and progress[-1] == 1
    for share in (0.0, rng.random(), rng.random(), 1.0):
        expected = next(s for s, p in enumerate(progress) if p >= share)
        assert schedule.first_step_at(share) == expected
    again = Schedule.of_state(json.loads(json.dumps(schedule.state())))
    assert again.revisions == schedule.revisions


def test_what_is_left_is_stretched_evenly() -> None:
    schedule = Schedule(100)
    schedule.revise(50, 250)
    assert [schedule.progress(s) for s in (0, 25, 50, 150, 250)] == [0, 0.25, 0.5, 0.75, 1]
    assert schedule.first_step_at(0.75) == 150
    with pytest.raises(ValueError, match="Revision"):
        schedule.revise(60, 50)


def test_a_training_may_end_at_once() -> None:
    schedule = Schedule(100)
    schedule.revise(50, 50)
    assert schedule.progress(49) == 0.49
    assert schedule.progress(50) == 1 and schedule.first_step_at(0.9) == 50


def test_the_time_may_run_out_before_a_revision_begins() -> None:
    schedule = Schedule(10)
    schedule.revise(7, 20)
    schedule.revise(5, 5)
    assert schedule.total == 5
    assert [schedule.progress(s) for s in (4, 5)] == [0.4, 1]
