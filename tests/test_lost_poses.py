"""A tracker that was lost writes zeros among its poses: whoever uses the poses goes on without these."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import tiny_settings, write_images

from egodepth.cli import main
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.inference.odometry import tracker as odometry
from egodepth.training.run import train

COUNT, LOST = 14, (3, 9)


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    write_images(tmp_path / "mine" / "images", COUNT)
    (tmp_path / "mine" / "depth").mkdir()
    np.save(tmp_path / "mine" / "depth" / "000004.npy", np.full((40, 80), 5.0, np.float32))
    (tmp_path / "mine" / "camera.yaml").write_text(
        "fx: 70\nfy: 70\ncx: 39.5\ncy: 19.5\nwidth: 80\nheight: 40\nposes_unit: metres\n"
    )
    rows = [
        f"{i / 10} {0.05 * i**1.5} 0 {0.1 * i} 0 0 0 {0 if i in LOST else 1}" for i in range(COUNT)
    ]
    (tmp_path / "mine" / "poses.txt").write_text("\n".join(rows) + "\n")
    return tmp_path / "mine"


def test_training_takes_the_pairs_with_poses(footage: Path, tmp_path: Path) -> None:
    settings = tiny_settings(footage, data__poses="given", data__fov=None, data__dense_labels=True)
    with pytest.warns(EgodepthWarning, match=r"2 of 14 poses .*\(line 4, 10\) and are left out"):
        result = train(settings, tmp_path / "run")
    assert result.steps == 4 and np.isfinite(result.seconds)
    # Every second pose is lost: no frame has two neighbours with one.
    rows = (footage / "poses.txt").read_text().splitlines()
    lost = [f"{row[:-1]}0" if i % 2 else row for i, row in enumerate(rows)]
    (footage / "poses.txt").write_text("\n".join(lost))
    with (
        pytest.warns(EgodepthWarning, match="are left out"),
        pytest.raises(EgodepthError, match="without poses where they must be known"),
    ):
        train(settings, tmp_path / "other")


def test_scores_say_how_many_poses_they_are_of(
    footage: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "odometry", str(tiny_run), "--data", str(footage), "--json", "{}.json",
             "--plot", "{}.png"]  # fmt: skip
    by_alignment = ["odometry", str(tiny_run), str(footage), "--out", str(tmp_path / "out")]
    file = [
        "evaluate",
        "odometry",
        str(footage / "poses.txt"),
        "--data",
        str(footage),
        "--json",
        "{}.json",
    ]
    for place, command in enumerate((words, file, by_alignment)):
        written = str(tmp_path / f"scores{place}")
        assert main([word.format(written) for word in command]) == 0
        said = capsys.readouterr()
        assert "12 of 14 poses" in " ".join(said.out.split()), said
    scores = [json.loads((tmp_path / f"scores{i}.json").read_text()) for i in (0, 1)]
    assert [s["frames"] for s in scores] == [12, 12] and scores[1]["ate_m"] < 1e-6


def test_a_path_that_was_interrupted_is_drawn(
    footage: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track, frames = odometry.Odometry.track, iter(range(8))

    def interrupted(self: odometry.Odometry, *arguments: object) -> object:
        if next(frames, None) is None:
            raise KeyboardInterrupt
        return track(self, *arguments)

    monkeypatch.setattr(odometry.Odometry, "track", interrupted)
    assert main(["odometry", str(tiny_run), str(footage), "--out", str(tmp_path / "out")]) == 130
    assert (tmp_path / "out" / "trajectory.png").exists()


def test_a_landscape_beside_a_lost_pose_is_of_the_run(
    footage: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "landscape",
        str(tiny_run),
        str(footage),
        "--count",
        "4",
        "--radius",
        "4",
        "--frame",
        "4",
    ]
    for offset, matches in (("1", "ground truth"), ("-1", "prediction")):
        assert main([*words, "--offset", offset, "--out", str(tmp_path / f"out{offset}")]) == 0
        assert matches in " ".join(capsys.readouterr().out.split())
