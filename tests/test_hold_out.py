"""Which frames a training holds out, and that its confidence is calibrated on them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import tiny_settings, write_images

from egodepth.data.footage.own_footage import read_footage
from egodepth.data.preparation.clips import Clip, read_clips
from egodepth.data.sequence import Sequence
from egodepth.geometry.camera import Camera
from egodepth.runs.confidence_fit import KnownFrame
from egodepth.training import confidence
from egodepth.training.hold_out import hold_out_blocks
from egodepth.training.run import train
from egodepth.training.snippets import SnippetStream


def clip_of(tmp_path: Path, count: int, stride: int = 1) -> Clip:
    """A clip of blank frames."""
    write_images(tmp_path / "frames", 3)
    footage = read_footage(tmp_path / "frames")
    camera = Camera.from_parameters(70.0, 70.0, 36.0, 18.0, 40, 80)
    (clip,) = read_clips([Sequence("drive", footage.frames, camera)], 32, 64, tmp_path / "cache")
    frames = np.zeros((count, 3, 32, 64), np.uint8)
    return replace(clip, frames=frames, numbers=np.arange(count), stride=stride)


def held_of(clips: list[Clip], at_least: int = 0) -> list[tuple[int, int]]:
    """Clip and position of what is held out."""
    stream = SnippetStream(clips, directions=(-1, 1), batch_size=2, seed=0)
    kept, held = hold_out_blocks(stream, at_least)
    if held is None:
        assert kept is stream
        return []
    both = [tuple(map(int, target)) for part in (kept, held) for target in part.targets]
    assert sorted(both) == [tuple(map(int, target)) for target in stream.targets]
    again = hold_out_blocks(stream, at_least)[1]
    assert again is not None and np.array_equal(again.targets, held.targets)
    return [(int(clip), int(position)) for clip, position in held.targets]


@pytest.mark.parametrize(
    ("count", "stride", "at_least", "found", "longest"),
    [
        (9, 1, 0, 0, 0),
        (9, 1, 12, 0, 0),
        (30, 1, 0, 0, 0),
        (12, 1, 12, 2, 1),
        (62, 1, 0, 4, 1),
        (62, 1, 12, 12, 3),
        (322, 1, 0, 21, 3),
        (322, 1, 12, 21, 3),
        (1602, 5, 0, 105, 15),
        (9602, 1, 0, 120, 3),
    ],
)
def test_short_blocks_are_held_out(
    tmp_path: Path, count: int, stride: int, at_least: int, found: int, longest: int
) -> None:
    held = [position for _, position in held_of([clip_of(tmp_path, count, stride)], at_least)]
    assert len(held) == pytest.approx(found, abs=stride)
    blocks = np.split(held, np.flatnonzero(np.diff(held) > 1) + 1) if held else []
    assert max((len(block) for block in blocks), default=0) == longest
    if len(blocks) > 1:
        gaps = np.diff([block[0] for block in blocks])
        assert gaps.max() - gaps.min() <= 2, "the blocks are not spread evenly"


def test_cameras_of_a_rig_hold_out_the_same_moments(tmp_path: Path) -> None:
    clip = clip_of(tmp_path, 120)
    left, right = (
        replace(clip, sequence=replace(clip.sequence, rig="rig", camera_name=name))
        for name in ("left", "right")
    )
    held = held_of([left, right])
    of_left, of_right = ([p for c, p in held if c == camera] for camera in (0, 1))
    assert of_left == of_right and len(of_left) == pytest.approx(120 / 16, abs=1.5)
    assert len(held_of([left, right], 12)) == pytest.approx(14, abs=2)
    other = replace(clip, sequence=replace(clip.sequence, name="other"))
    of_one, of_other = ([p for c, p in held_of([clip, other]) if c == k] for k in (0, 1))
    assert of_one and of_other and of_one != of_other


def test_confidence_is_calibrated_on_what_is_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("egodepth.core.progress.note", said.append)
    seen: list[tuple[int, int]] = []
    learn = confidence.learn_confidence

    def learn_and_count(
        run: object, depth: object, learned: list[KnownFrame], held: list[KnownFrame], *rest: object
    ) -> None:
        images = {frame.image.tobytes() for frame in learned}
        assert not any(frame.image.tobytes() in images for frame in held)
        seen.append((len(learned), len(held)))
        learn(run, depth, learned, held, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(confidence, "learn_confidence", learn_and_count)
    write_images(tmp_path / "frames", 48)
    train(tiny_settings(tmp_path / "frames", steps=1), tmp_path / "run")
    assert seen == [(43, 3)]
    plan = json.loads((tmp_path / "run" / "run.json").read_text())["plan"]
    assert "3 of 46 snippets are held out: they show how sure depth is" in plan
    assert any("deviations may be too small: depth shares errors with neighbo" in s for s in said)
