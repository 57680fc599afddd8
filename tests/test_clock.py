"""A training keeps its time where the machine's speed changes, and uses the threads that are the fastest."""

import json
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from tests.conftest import tiny_settings, write_images
from tests.test_training import losses

from egodepth.core.schedule import Schedule
from egodepth.runs.checkpoint import read_checkpoint
from egodepth.training import timing
from egodepth.training.clock import Budget, FollowClock, StepTimes
from egodepth.training.engine import Engine
from egodepth.training.module import EgodepthModule
from egodepth.training.run import train
from egodepth.training.snippets import BATCHES_AHEAD
from egodepth.training.threads import ThreadChoice, fastest, thread_options

Speed = Callable[[float, bool], float]
"""Seconds of a step by the time at which it begins and whether it learns from labels alone."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def simulate(
    seconds: float, times: StepTimes, speed: Speed, most: int = 10**6, pause: float = 0.0
) -> tuple[Budget, Schedule, int, float]:
    """A training by a clock that the steps move on: with a pause in its middle that was announced."""
    clock = Clock()
    budget = Budget(seconds, most, times, clock.now, clock)
    clock.now += 10  # the footage is prepared
    schedule = Schedule(max(1, budget.first_fit(pause)))
    budget.begin()
    done = 0
    while done < schedule.total:
        progress = schedule.progress(done)
        made = range(max(0, done - 20), done + BATCHES_AHEAD)
        before = [schedule.progress(s) for s in made]
        clock.now += speed(clock.now - 1000, progress < times.labels_first)
        done += 1
        if pause and progress > 0.5:
            clock.now += pause
            pause = 0
        changed = budget.revise(schedule, done, pause)
        if changed and schedule.total > done + BATCHES_AHEAD:
            assert [schedule.progress(s) for s in made] == before
    assert schedule.progress(done) == 1
    return budget, schedule, done, schedule.progress(done - 1)


SPEEDS: dict[str, Speed] = {
    "steady": lambda now, labels: 1.0,
    "busy for the timed steps": lambda now, labels: 0.1,
    "idle for the timed steps": lambda now, labels: 5.0,
    "twice as slow later": lambda now, labels: 0.5 if now < 300 else 1.0,
    "four times as slow near the end": lambda now, labels: 1.0 if now < 600 else 4.0,
    "faster later": lambda now, labels: 2.0 if now < 300 else 0.5,
    "slow for a minute": lambda now, labels: 4.0 if 200 < now < 260 else 0.5,
    "slower and slower": lambda now, labels: 0.5 + now / 300,
    "labels cost half": lambda now, labels: 0.5 if labels else 1.0,
    "labels cost a third, and the machine is slow": lambda now, labels: 1.0 if labels else 3.0,
}


@pytest.mark.parametrize("name", SPEEDS)
@pytest.mark.parametrize("labels_first", [0.0, 0.5])
def test_the_budget_is_kept_and_used(name: str, labels_first: float) -> None:
    seconds = 690.0
    times = StepTimes(0.5, 1.0, labels_first)
    budget, schedule, done, last = simulate(seconds, times, SPEEDS[name])
    longest = SPEEDS[name](budget.used, False)
    assert 0.92 * seconds < budget.used < seconds + longest, (budget.used, done)
    assert last > 0.9  # the learning rate came down
    assert len(schedule.revisions) < 30
    assert f"of 11.5 minutes used ({100 * budget.used / seconds:.0f} %)" in budget.describe(
        schedule, done
    )


def test_a_steady_machine_keeps_its_plan() -> None:
    _, schedule, done, _ = simulate(690, StepTimes(0.5, 1.0, 0.5), SPEEDS["labels cost half"])
    assert done == pytest.approx(schedule.revisions[0].total, rel=0.02)
    assert schedule.first_step_at(0.5) == pytest.approx(done / 2, rel=0.02)


def test_no_more_steps_than_asked_for() -> None:
    budget, schedule, done, _ = simulate(
        690, StepTimes(1.0, 1.0), SPEEDS["busy for the timed steps"], most=800
    )
    assert done == 800 and budget.used < 100
    assert "these are all steps that were asked for" in budget.describe(schedule, done)


def test_pauses_that_were_announced_are_kept_free() -> None:
    budget, schedule, *_ = simulate(690, StepTimes(1.0, 1.0), SPEEDS["steady"], pause=120.0)
    assert 0.92 * 690 < budget.used <= 690
    assert schedule.total == pytest.approx(schedule.revisions[0].total, rel=0.05)


def test_a_training_out_of_time_ends_at_once() -> None:
    def stalls(now: float, labels: bool) -> float:
        return 1.0 if now < 200 else 1000.0

    budget, schedule, done, _ = simulate(690, StepTimes(1.0, 1.0), stalls)
    assert done == schedule.total == 191 and budget.used == pytest.approx(1200)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    write_images(tmp_path / "frames", 9)
    return tmp_path / "frames"


def revise_at(patch: pytest.MonkeyPatch, changes: dict[int, int]) -> None:
    """Stand in for the clock: after so many steps, so many steps are aimed at."""

    def revise(self: Budget, schedule: Schedule, done: int, reserved: float = 0.0) -> bool:
        if done in changes:
            schedule.revise(done + BATCHES_AHEAD, changes[done])
        return done in changes

    patch.setattr(Budget, "revise", revise)
    patch.setattr(Budget, "first_fit", lambda self, reserved=0.0: 12)
    patch.setattr("egodepth.training.pace.MIN_PLANNED_STEPS", 1)


def test_a_resumed_training_repeats_what_was_decided(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = tiny_settings(
        frames, steps=100, minutes=60, checkpoint_every=4, method="photometric"
    )
    revise_at(monkeypatch, {2: 20, 7: 14})
    whole = train(settings, tmp_path / "whole")
    assert (whole.steps, whole.total_steps) == (14, 14)
    stop_after(monkeypatch, 9)
    parts = train(settings, tmp_path / "parts")
    assert (parts.steps, parts.total_steps) == (9, 14)
    saved = read_checkpoint(tmp_path / "parts" / "checkpoint.ckpt")
    used = saved["callbacks"]["FollowClock"]["used"]
    stop_after(monkeypatch, 0)
    resumed = train(settings, tmp_path / "parts", resume=True)
    assert resumed.steps == 14
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    facts = json.loads((tmp_path / "parts" / "run.json").read_text())
    assert facts["schedule"] == [[0, 0.0, 12], [6, 0.5, 20], [11, *facts["schedule"][2][1:]]]
    assert 60 * facts["minutes_used"] > used > 0
    assert "of 60 minutes used" in facts["budget"] and facts["steps"] == 14


def stop_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    original = FollowClock.after_step

    def end(self: FollowClock, trainer: L.Trainer, module: EgodepthModule) -> None:
        original(self, trainer, module)
        if trainer.global_step == steps:
            trainer.should_stop = True

    patch.setattr(FollowClock, "after_step", end)


def test_a_machine_busy_for_the_timed_steps_does_not_shorten_the_training(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps take 40 s while they are timed and 3 s after it, by a clock that moves on with them."""
    clock = Clock()
    step = EgodepthModule.training_step
    seconds = 40.0

    def slow(self: EgodepthModule, raw: object, batch_idx: int) -> torch.Tensor:
        clock.now += seconds
        return step(self, raw, batch_idx)

    real = timing.time_steps

    def timed(*args: object, **kwargs: object) -> timing.Timing:
        nonlocal seconds
        found = real(*args, clock=clock, **kwargs)
        assert found.times.full == 40
        seconds = 3.0
        return found

    init = Budget.__init__

    def with_clock(self: Budget, budget: float, most: int, times: StepTimes, _: float) -> None:
        init(self, budget, most, times, clock.now, clock)

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(EgodepthModule, "training_step", slow)
    monkeypatch.setattr("egodepth.training.pace.time_steps", timed)
    monkeypatch.setattr(Budget, "__init__", with_clock)
    settings = tiny_settings(frames, steps=10_000, minutes=4, method="photometric")
    result = train(settings, tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    # Two seem to fit, too few for the clock to correct.
    assert facts["schedule"][0] == [0, 0.0, 30]
    assert result.steps == result.total_steps == pytest.approx(37, abs=2)
    assert facts["minutes_used"] == pytest.approx((3 * 40 + 3 * result.steps) / 60)


def test_the_timed_step_is_that_of_the_training(
    frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from egodepth.training.build import make_stream
    from egodepth.training.footage import read_training_sequences

    seen: list[str] = []
    for name in ("training_step", "configure_gradient_clipping"):
        original = getattr(EgodepthModule, name)

        def called(self: object, *args: object, name: str = name, original: object = original,
                   **kwargs: object) -> object:  # fmt: skip
            seen.append(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(EgodepthModule, name, called)
    settings = tiny_settings(frames, data__poses="network", data__stride=1)
    sequences = read_training_sequences(settings.data)
    settings, stream, _ = make_stream(settings, sequences)
    stream.labels_first = 0.5
    threads = [2]
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    clock = Clock()
    steps: list[int] = []
    batch = stream.batch
    monkeypatch.setattr(stream, "batch", lambda step: steps.append(step) or batch(step))
    found = timing.time_steps(settings, stream, Engine.of(settings), [2, 1], clock=clock)
    # One to warm up, two with each number of threads, two of the other kind.
    assert seen == ["training_step", "configure_gradient_clipping"] * 7
    half = timing.FAR // 2
    assert steps == [0, 1, 2, 3, 4, half, half + 1]
    assert (
        threads[:2] == [2, 1]
        and set(found.by_threads) == {1, 2}
        and found.times.labels_first == 0.5
    )


def test_fewer_threads_are_used_where_they_are_clearly_faster() -> None:
    assert fastest({2: 2.07, 1: 0.5}) == 1
    assert fastest({2: 0.5, 1: 0.52}) == fastest({2: 0.5, 1: 0.48}) == 2


def test_threads_set_by_hand_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert thread_options("cpu") == [8, 7, 4]
    assert thread_options("cuda") == [8]
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert thread_options("cpu") == [8]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert thread_options("cpu") == [1]


def run_steps(choice: ThreadChoice, seconds: dict[int, float], steps: int) -> int:
    """How often another number of threads was chosen, where steps take so long by number of threads."""
    return sum(choice.step_done(seconds[choice.count], False) for _ in range(steps))


def test_threads_are_looked_at_again_when_steps_slow_down() -> None:
    choice = ThreadChoice([2, 1], 2)
    assert run_steps(choice, {2: 0.3, 1: 0.5}, 50) == 0 and choice.chosen == 2
    assert run_steps(choice, {2: 0.5, 1: 0.6}, 50) == 0  # slower, by less than half
    assert run_steps(choice, {2: 2.07, 1: 0.5}, 20) == 1
    assert choice.chosen == choice.count == 1 and choice.seconds[2] > 1 > choice.seconds[1]
    # The other process has ended: seen after five minutes.
    assert run_steps(choice, {2: 0.3, 1: 0.5}, 500) == 0
    assert run_steps(choice, {2: 0.3, 1: 0.5}, 200) == 1 and choice.chosen == 2


def test_a_step_with_all_terms_is_no_slowdown() -> None:
    choice = ThreadChoice([2, 1], 2)
    for on_labels, seconds in ((True, 0.2), (False, 0.6)):
        for _ in range(30):
            assert not choice.step_done(seconds, on_labels)
            assert choice.count == 2
