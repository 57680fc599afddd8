"""Numbers that are not finite end in an error that names where they are, and scores say what they are of."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.conftest import tiny_settings, write_images
from torch import Tensor

import egodepth
from egodepth.cli import main
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.preparation.clips import KnownMotion
from egodepth.data.sequence import Sequence
from egodepth.geometry.camera import Camera
from egodepth.geometry.plausible import pose_jumps
from egodepth.geometry.warp import sample, sweep, warp
from egodepth.inference.align import align_images
from egodepth.inference.odometry.gps_track import read_gps
from egodepth.inference.odometry.track import track_sequence
from egodepth.inference.odometry.tracker import Odometry
from egodepth.inference.predict import predict_sequence
from egodepth.inference.scoring.depth_scores import RunPredictor
from egodepth.models.networks import DepthNet
from egodepth.models.published import read_published
from egodepth.report.leaderboard import as_markdown, collect
from egodepth.runs.checkpoint import read_checkpoint, read_run
from egodepth.runs.folder import RunFolder
from egodepth.runs.run import Run
from egodepth.runs.unit import Unit
from egodepth.training.batch import RawBatch
from egodepth.training.module import EgodepthModule
from egodepth.training.run import train


@pytest.fixture
def footage(tmp_path: Path) -> Sequence:
    write_images(tmp_path / "frames", 7)
    return egodepth.read_source(tmp_path / "frames")[0].with_fov(60)


def spoil(run: Path, value: float) -> str:
    """Write ``value`` into one weight of a run's checkpoint, and return its name."""
    content = torch.load(run / "checkpoint.ckpt", weights_only=True)
    name = next(n for n in content["state_dict"] if n.startswith("networks.depth.decoder"))
    weights = content["state_dict"][name]
    weights[(0,) * weights.ndim] = value
    torch.save(content, run / "checkpoint.ckpt")
    return str(name)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(
    tiny_run: Path, tmp_path: Path, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    name = spoil(run, value)
    write_images(tmp_path / "frames", 3)
    with pytest.raises(EgodepthError, match=f"not finite, {name}"):
        read_run(run)
    assert (
        main(["predict", str(run), str(tmp_path / "frames"), "--out", str(tmp_path / "out")]) == 1
    )
    said = capsys.readouterr().err
    assert "holds weights that are not finite" in " ".join(said.split()) and "Traceback" not in said
    assert main(["train", str(tmp_path / "frames"), "--out", str(run), "--resume"]) == 1
    state = torch.load(run / "checkpoint.ckpt", weights_only=True)["state_dict"]
    weights = {
        n.removeprefix("networks."): v.contiguous() for n, v in state.items() if "networks." in n
    }
    (run / "checkpoint.ckpt").unlink()
    save_file(weights, RunFolder.at(run).weights)
    with pytest.raises(
        EgodepthError, match=r"model\.safetensors holds weights that are not finite"
    ):
        Run.load(run)
    torch.save({"DepthEncoder.encoder.conv1.weight": torch.full((2,), value)}, tmp_path / "p.pth")
    with pytest.raises(EgodepthError, match=r"p\.pth: it holds weights that are not finite"):
        read_published(tmp_path / "p.pth")


@pytest.fixture
def broken_at_4(tiny_run: Path, footage: Sequence, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose depth is NaN in one pixel of frame 4."""
    run = Run.load(tiny_run)
    bad = run.prepare(next(footage.frames.at([4])).image)

    def spoiled(right: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def compute(images: Tensor) -> Tensor:
            inverse = right(images).clone()
            inverse[(images == bad).flatten(1).all(1), :, 3, 3] = torch.nan
            return inverse

        return compute

    for name in ("_compute", "_compute_both"):
        monkeypatch.setattr(run, name, spoiled(getattr(run, name)))
    network = run.depth_net
    assert isinstance(network, DepthNet)
    summarised = network.with_summary
    run._folded = network

    def with_summary(images: Tensor) -> tuple[Tensor, Tensor]:
        return spoiled(lambda x: summarised(x)[0])(images), summarised(images)[1]

    monkeypatch.setattr(network, "with_summary", with_summary)
    return run


IN_FRAME_4 = r"run predicts depth that is not finite for frame 4 \(000004\)"


def test_the_run_and_the_frame_are_named(broken_at_4: Run, footage: Sequence) -> None:
    run = broken_at_4
    image = next(footage.frames.at([4])).image
    ways: list[Callable[[], object]] = [
        lambda: list(predict_sequence(run, footage)),
        lambda: track_sequence(run, footage),
        lambda: [RunPredictor(run).predict(footage, f, (40, 80)) for f in footage.frames.at()],
    ]
    for way in ways:
        with pytest.raises(EgodepthError, match=IN_FRAME_4):
            way()
    with pytest.raises(EgodepthError, match="run predicts depth that is not finite for an image"):
        run.depth(image)
    assert np.isfinite(run.depth(next(footage.frames.at([3])).image)).all()


def test_motions_that_are_not_finite(
    tiny_run: Path, footage: Sequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.load(tiny_run)
    assert run._pose is not None
    right, last = run._pose.second_from_first, run.prepare(next(footage.frames.at([6])).image)

    def motions(first: Tensor, second: Tensor) -> Tensor:
        found = right(first, second).clone()
        found[(second == last).flatten(1).all(1), 0, 3] = torch.inf
        return found

    monkeypatch.setattr(run._pose, "second_from_first", motions)
    with pytest.raises(EgodepthError, match="run predicts a motion that is not finite for frame 6"):
        list(predict_sequence(run, footage))
    images = [frame.image for frame in footage.frames.at([5, 6])]
    with pytest.raises(EgodepthError, match="a motion that is not finite"):
        run.motion(*images)
    assert np.isfinite(run.motion(*images[::-1])).all()


@pytest.mark.parametrize("steps", [1, 4])
def test_a_training_that_diverges_is_no_success(tmp_path: Path, steps: int) -> None:
    """Not even its first checkpoint is written, whose weights are finite, and huge."""
    write_images(tmp_path / "frames", 7)
    settings = tiny_settings(
        tmp_path / "frames", learning_rate=1e20, steps=steps, checkpoint_every=1
    )
    with pytest.raises(EgodepthError, match=r"not finite.*: lower --learning_rate"):
        train(settings, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.ckpt").exists()


def test_the_last_good_checkpoint_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is finite in every step; the update of the last one is not."""
    write_images(tmp_path / "frames", 7)
    from egodepth.training import callbacks

    def spoilt(self: object, trainer: object, module: torch.nn.Module) -> None:
        if trainer.global_step == 4:  # type: ignore[attr-defined]
            with torch.no_grad():
                next(module.parameters()).fill_(torch.nan)

    monkeypatch.setattr(callbacks.CollapseWatch, "after_step", spoilt)
    settings = tiny_settings(tmp_path / "frames", checkpoint_every=2)
    with pytest.raises(EgodepthError, match="not finite"):
        train(settings, tmp_path / "run")
    assert read_checkpoint(tmp_path / "run" / "checkpoint.ckpt")["global_step"] == 2


def test_losses_that_nobody_looks_at_spoil_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where a loss is looked at every log_every steps."""
    write_images(tmp_path / "frames", 7)
    right, looked = EgodepthModule.training_step, []

    def look(self: EgodepthModule, loss: Tensor, step: int) -> bool:
        looked.append(step)
        return False

    def diverging(self: EgodepthModule, raw: RawBatch, batch_idx: int) -> Tensor:
        return right(self, raw, batch_idx) * (torch.nan if raw.step == 3 else 1.0)

    monkeypatch.setattr(EgodepthModule, "_looks_at", look)
    monkeypatch.setattr(EgodepthModule, "training_step", diverging)
    # Networks that warp nothing: on the CPU, what is warped is checked.
    settings = tiny_settings(
        tmp_path / "frames", method="features", steps=12, checkpoint_every=2, log_every=10
    )
    with pytest.raises(EgodepthError, match=r"weights are not finite at step 4 .*--learning_rate"):
        train(settings, tmp_path / "run")
    assert looked == [0, 1, 2, 3]
    assert read_checkpoint(tmp_path / "run" / "checkpoint.ckpt")["global_step"] == 2


def test_numbers_that_are_not_finite_are_one_line_from_wherever_they_come(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(*words: object) -> None:
        sample(torch.rand(1, 3, 8, 10), torch.full((1, 4, 5, 2), torch.nan))

    monkeypatch.setattr("egodepth.cli.leaderboard.Leaderboard.run", spoilt)
    assert main(["leaderboard", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said == "egodepth: the place of a pixel in another image is not finite\n"


def test_places_that_are_not_finite_are_not_sampled() -> None:
    image = torch.rand(1, 3, 8, 10, dtype=torch.float64)
    pixels = torch.zeros(1, 4, 5, 2, dtype=torch.float64)
    pixels[0, 1, 1] = 1e300  # finite: the border
    assert sample(image, pixels).isfinite().all()
    camera = Camera(Camera.from_parameters(9.0, 9.0, 4.5, 3.5, 8, 10).matrix[None].double(), 8, 10)
    depth, motion = torch.ones(1, 8, 10, dtype=torch.float64), torch.eye(4).double()[None]
    warp(image, depth, motion, camera, camera)
    for value in (torch.nan, torch.inf):
        wrong = pixels.clone()
        wrong[0, 2, 3, 1] = value
        with pytest.raises(FloatingPointError, match="not finite"):
            sample(image, wrong)
        far = motion.clone()
        far[0, 0, 3] = value
        with pytest.raises(FloatingPointError, match="not finite"):
            warp(image, depth, far, camera, camera)
        with pytest.raises(FloatingPointError, match="not finite"):
            sweep(image, torch.ones(1, 2, 1, 1, dtype=torch.float64), far, camera)


def straight(count: int, speed: float = 1.0) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 2, 3] = speed * np.arange(count)
    poses[:, 0, 3] = 0.1 * np.arange(count) ** 1.5
    return poses


@pytest.mark.parametrize("lost", ["nan nan nan nan nan nan nan", "2 0 0 0 0 0 0"])
@pytest.mark.parametrize("timed", [True, False])
def test_lost_poses_of_an_estimate_are_told(
    tmp_path: Path, lost: str, timed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{p[0, 3]} {p[1, 3]} {p[2, 3]} 0 0 0 1" for p in straight(12)]
    times = [f"{0.1 * i:.1f}" for i in range(12)]
    form = "\n".join if timed else lambda r: "# x y z qx qy qz qw\n" + "\n".join(r)
    begin = (lambda i: f"{times[i]} ") if timed else (lambda i: "")
    truth = [begin(i) + row for i, row in enumerate(rows)]
    estimate = [*truth[:5], begin(5) + lost, *truth[6:]]
    (tmp_path / "truth.txt").write_text(form(truth))
    (tmp_path / "found.txt").write_text(form(estimate))
    words = ["evaluate", "odometry", str(tmp_path / "found.txt"), "--truth"]
    words += [str(tmp_path / "truth.txt"), "--json", str(tmp_path / "b" / "scores.json")]
    (tmp_path / "b").mkdir()
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "11 of 12" in said
    scores = json.loads((tmp_path / "b" / "scores.json").read_text())
    assert (scores["frames"], scores["of_frames"], scores["complete"]) == (11, 12, False)
    assert "11 of 12 poses" in as_markdown(collect(tmp_path / "b"))
    (tmp_path / "found.txt").write_text(form(truth))
    assert main(words) == 0
    scores = json.loads((tmp_path / "b" / "scores.json").read_text())
    assert (scores["frames"], scores["of_frames"], scores["complete"]) == (12, 12, True)


def test_an_estimate_that_ends_early_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{0.1 * i:.1f} {p[0, 3]} 0 {p[2, 3]} 0 0 0 1" for i, p in enumerate(straight(41))]
    (tmp_path / "truth.txt").write_text("\n".join(rows))
    (tmp_path / "found.txt").write_text("\n".join(rows[:21]))
    words = ["evaluate", "odometry", str(tmp_path / "found.txt"), "--truth"]
    assert main([*words, str(tmp_path / "truth.txt")]) == 0
    assert "over 50 % of its time" in " ".join(capsys.readouterr().out.split())


def test_a_gps_position_without_a_finite_time_is_left_out(tmp_path: Path) -> None:
    rows = [f"{i},48.0,{8 + 1e-5 * i}" for i in range(10)]
    rows[3] = "-inf,48.0,8.00003"
    (tmp_path / "track.csv").write_text("\n".join(["time[s],latitude,longitude", *rows]))
    with pytest.warns(EgodepthWarning, match="1 of 10 positions have no time"):
        times, places = read_gps(tmp_path / "track.csv")
    assert times.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9] and np.isfinite(places).all()


def test_paths_that_jump(footage: Sequence) -> None:
    numbers = np.arange(20)
    path = straight(20)
    assert pose_jumps(path, numbers).tolist() == []
    elsewhere = path.copy()
    elsewhere[8:, :3, 3] += 1e4
    spike = path.copy()
    spike[8, :3, 3] *= 1e3
    millimetres, early = path.copy(), path.copy()
    millimetres[12:, :3, 3] *= 1e3
    early[5:, :3, 3] *= 1e3
    for jumping, places in ((elsewhere, [8]), (spike, [8, 9]), (millimetres, [12]), (early, [5])):
        assert pose_jumps(jumping, numbers).tolist() == places
    # A camera that stands, with rounding errors, jitter and lost poses, and then drives.
    rng = np.random.default_rng(0)
    for jitter in (0.0, 1e-9, 1e-3):
        starts = straight(20)
        starts[:, :3, 3] *= np.maximum(np.arange(20) - 9, 0)[:, None] / 10
        starts[:, :3, 3] += jitter * rng.standard_normal((20, 3))
        starts[4] = np.nan
        assert pose_jumps(starts, numbers).tolist() == []
    late = np.concatenate([numbers[:10], numbers[10:] + 1000])  # frames left out between them
    jumped = path.copy()
    jumped[10:, 2, 3] += 1000
    assert pose_jumps(jumped, late).tolist() == []


def test_frames_across_a_jump_are_not_compared(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 12)
    poses = straight(12)
    poses[6:, :3, 3] += 1e5
    text = "\n".join(" ".join(f"{v:.9g}" for v in pose[:3].ravel()) for pose in poses)
    (tmp_path / "poses.txt").write_text(text)
    sequence = egodepth.read_source(tmp_path)[0]
    assert KnownMotion.given(sequence).part.tolist() == [0] * 6 + [1] * 6
    settings = tiny_settings(tmp_path, data__poses="given", steps=1)
    with pytest.warns(EgodepthWarning, match="jumps before frame 6 to hundreds of times"):
        train(settings, tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error", EgodepthWarning)
        facts = RunFolder.at(tmp_path / "run").facts()
    assert facts.metric == "" and facts.unit == "the unit of poses.txt"


def test_impossible_arguments_from_python(tiny_run: Path, footage: Sequence) -> None:
    run = Run.load(tiny_run)
    images = [frame.image for frame in footage.frames.at([0, 1])]
    good = Camera.from_field_of_view(60.0, 40, 80)
    for numbers in ((-60.0, 60.0, 40.0, 20.0), (60.0, 60.0, 1e9, 20.0), (60.0, 1e-30, 40.0, 20.0)):
        wrong = Camera.from_parameters(*numbers, 40, 80)
        for call in (Odometry, lambda run, camera: align_images(run, *images, camera)):
            with pytest.raises(EgodepthError, match="the camera has"):
                call(run, wrong)
    for start in (np.full((4, 4), np.nan), np.diag([1.0, 1.0, -1.0, 1.0])):
        with pytest.raises(EgodepthError, match="start: not a rigid motion"):
            align_images(run, *images, good, start=start)
    for metres in (1e-300, 1e300, 0.0, float("nan")):
        with pytest.raises(EgodepthError, match=r"unit of|metres of a unit"):
            Unit(metres)
