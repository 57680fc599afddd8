"""Several processes: the same gradients as one with the batch of all, no sample twice or missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import TINY, tiny_settings, write_images

from egodepth.cli import main
from egodepth.core.config import override
from egodepth.core.errors import EgodepthError
from egodepth.core.schedule import Schedule
from egodepth.core.world import World
from egodepth.data.preparation.clips import read_clips
from egodepth.data.sources import read_source
from egodepth.runs.checkpoint import read_checkpoint
from egodepth.training.build import build_module, may_leave_out
from egodepth.training.snippets import SnippetStream


def streams(tmp_path: Path, frames: int, batch: int, ranks: int) -> list[SnippetStream]:
    write_images(tmp_path / "frames", frames)
    sequence = read_source(str(tmp_path / "frames"))[0].with_fov(60)
    clips = read_clips([sequence], 32, 64, tmp_path / "cache")
    return [
        SnippetStream(clips, directions=(-1, 1), batch_size=batch, seed=3, rank=rank, ranks=ranks)
        for rank in range(ranks)
    ]


@pytest.mark.parametrize(("frames", "ranks"), [(12, 2), (13, 2), (14, 3), (11, 4)])
def test_an_epoch_holds_every_snippet_once(tmp_path: Path, frames: int, ranks: int) -> None:
    several = streams(tmp_path, frames, 2, ranks)
    (alone,) = streams(tmp_path, frames, 2 * ranks, 1)
    seen: list[int] = []
    for step in range(several[0].steps_per_epoch):
        batches = [stream.batch(step) for stream in several]
        counts = [batch.frames.shape[1] for batch in batches]
        assert min(counts) >= 1
        assert sum(batch.weight for batch in batches) == pytest.approx(ranks)
        for batch, count in zip(batches, counts, strict=True):
            assert batch.weight == pytest.approx(count * ranks / sum(counts))
        seen += [int(i) for batch in batches for i in batch.frame_ids[0]]
    assert sorted(seen) == list(range(1, frames - 1))
    together = torch.cat([batch.frame_ids[0] for batch in (s.batch(0) for s in several)])
    expected = alone.batch(0).frame_ids[0].tolist()
    assert together.tolist()[: len(expected)] == expected


def test_fewer_snippets_than_processes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EgodepthError, match="2 snippets are too few for 3 processes"):
        streams(tmp_path, 4, 1, 3)


def test_the_world_of_torchrun_and_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    assert World.of_environment() == World()
    for name, value in (("SLURM_NTASKS", 8), ("SLURM_PROCID", 5), ("SLURM_NNODES", 2)):
        monkeypatch.setenv(name, str(value))
    world = World.of_environment()
    assert (world.rank, world.size, world.local_size, world.nodes) == (5, 8, 4, 2)
    assert not world.is_main
    monkeypatch.setenv("SLURM_NNODES", "3")
    with pytest.raises(EgodepthError, match="8 tasks of SLURM on 3 nodes"):
        World.of_environment()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, False), ({"method": "photometric"}, False), ({"method": "features"}, False),
     ({"loss.photometric": 0.0}, True), ({"loss.reconstruction": 0.0}, True)],
)  # fmt: skip
def test_parameters_without_a_gradient_are_foreseen(
    tmp_path: Path, changes: dict[str, object], expected: bool
) -> None:
    """DDP ends a training in which a parameter has none, unless it looks for them."""
    (stream,) = streams(tmp_path, 4, 1, 1)
    stream.schedule = Schedule(10)
    settings = override(tiny_settings(tmp_path), {"loss.feature_metric": 0.1, **changes})
    assert may_leave_out(settings, stream) is expected
    module = build_module(settings, stream, "float32")
    module(stream.batch(0))[1].total.backward()
    left_out = [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert expected or not left_out


def words(frames: Path, out: Path, batch: int) -> list[str]:
    """Of a training of one step."""
    settings = {
        **TINY, "method": "features", "batch_size": batch, "steps": 1, "data.fov": 60,
        "data.augment": False, "data.stride": 1, "data.poses": "network",
        # Divided by the spread over the batch of each process, L_dis and L_cvt depend on how it is split.
        "loss.regularizer_norm": "none",
    }  # fmt: skip
    typed = ["train", str(frames), "--out", str(out)]
    for name, value in settings.items():
        typed += [f"--{name}", str(list(value) if isinstance(value, tuple) else value)]
    return typed


def test_two_processes_find_the_gradient_of_one_with_the_double_batch(tmp_path: Path) -> None:
    write_images(tmp_path / "frames", 6)
    assert main(words(tmp_path / "frames", tmp_path / "one", 2)) == 0
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    command = [*launch, "-m", "egodepth.cli", *words(tmp_path / "frames", tmp_path / "two", 1)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("1 of 1 steps") == 1  # one process speaks
    moments = []
    for name in ("one", "two"):
        (state,) = read_checkpoint(tmp_path / name / "checkpoint.ckpt")["optimizer_states"]
        # After one step the first moment is a tenth of the gradient.
        moments.append([entry["exp_avg"] for _, entry in sorted(state["state"].items())])
    assert len(moments[0]) == len(moments[1]) > 20
    largest = max(float(m.abs().max()) for m in moments[0])
    for a, b in zip(*moments, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * largest)
    facts = json.loads((tmp_path / "two" / "run.json").read_text())
    assert facts["processes"] == 2 and facts["seconds"] > 0
    logs = [
        np.genfromtxt(tmp_path / name / "logs" / "csv_0000000" / "metrics.csv", delimiter=",",
                      names=True)["total"]
        for name in ("one", "two")
    ]  # fmt: skip
    assert logs[0] == pytest.approx(logs[1], rel=1e-4)  # reduced over both
