"""Shards: the same training as from the footage, each sample once, refusals, stores that fail."""

import http.server
import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from tests.conftest import TINY, tiny_settings, write_images
from tests.test_batch import make_videos

from egodepth.core import file_store
from egodepth.core.config import override
from egodepth.core.errors import EgodepthError
from egodepth.core.file_store import FileStore
from egodepth.core.schedule import Schedule
from egodepth.data.preparation.clips import Clip, KnownMotion, SparsePoints
from egodepth.data.shards.chunks import ChunkInfo, Chunks
from egodepth.data.shards.pieces import cut
from egodepth.data.shards.writer import write_unit
from egodepth.data.sources import read_source
from egodepth.settings.training import TrainSettings
from egodepth.training.build import build_module, make_stream
from egodepth.training.footage import read_training_sequences
from egodepth.training.module import make_optimizer
from egodepth.training.order import Lanes, SampleOrder, lanes_for
from egodepth.training.sharding import shard
from egodepth.training.snippets import SnippetStream

SIZE = {"height": TINY["model.height"], "width": TINY["model.width"]}
MEGABYTES = 0.02
"""Of a chunk, so that a clip has several."""


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    for name, count in (("a", 14), ("b", 9)):
        write_images(folder / name, count)
    return folder


def settings_of(footage: Path, **changes: object) -> TrainSettings:
    sources = [str(footage / "a"), str(footage / "b")]
    return override(tiny_settings(footage), {"data.sources": sources, **changes})


@pytest.fixture(scope="module")
def shards(footage: Path) -> str:
    out = str(footage / "shards")
    result = shard(settings_of(footage), out, chunk_megabytes=MEGABYTES)
    assert result.complete and result.made == 2 and result.facts["frame_count"] == 23
    return out


def from_shards(footage: Path, uri: str, **changes: object) -> TrainSettings:
    return override(
        settings_of(footage), {"data.sources": [f"shards:{uri}"], "data.fov": None, **changes}
    )


def stream_of(settings: TrainSettings) -> SnippetStream:
    stream = make_stream(settings, read_training_sequences(settings.data))[1]
    stream.schedule = Schedule(100)
    return stream


def assert_same(one: SnippetStream, other: SnippetStream, steps: int = 12) -> None:
    for step in range(steps):
        first, second = vars(one.batch(step)), vars(other.batch(step))
        for name, value in first.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, second[name]), name
            else:
                assert value == second[name], name


def gradients(settings: TrainSettings, steps: int) -> list[torch.Tensor]:
    """Gradients of the first steps of a training, one after the other."""
    return gradients_of(settings, stream_of(settings), steps)


def gradients_of(settings: TrainSettings, stream: SnippetStream, steps: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    module = build_module(settings.changed(data=settings.data.changed(fov=None)), stream, "float32")
    optimizer = make_optimizer(module)
    found = []
    for step in range(steps):
        optimizer.zero_grad()
        _, result = module(stream.batch(step))
        result.total.backward()
        found += [p.grad.clone() for p in module.parameters() if p.grad is not None]
        optimizer.step()
    return found


def test_gradients_from_shards_are_those_from_the_footage(footage: Path, shards: str) -> None:
    local, streamed = (
        gradients(settings, 3) for settings in (settings_of(footage), from_shards(footage, shards))
    )
    assert len(local) == len(streamed) > 60
    assert all(torch.equal(one, other) for one, other in zip(local, streamed, strict=True))


def test_the_footage_keeps_its_facts(footage: Path, shards: str) -> None:
    local, streamed = (
        stream_of(settings) for settings in (settings_of(footage), from_shards(footage, shards))
    )
    for one, other in zip(local.clips, streamed.clips, strict=True):
        assert torch.equal(one.camera.matrix, other.camera.matrix)
        first, second = one.sequence, other.sequence
        assert first.camera is not None and second.camera is not None
        assert torch.equal(first.camera.matrix, second.camera.matrix)
        assert first.frames.numbers == second.frames.numbers
        assert (first.name, first.place, first.camera_from) == (
            second.name,
            second.place,
            second.camera_from,
        )
        with pytest.raises(EgodepthError, match="name the footage itself"):
            second.frames.at()
    assert_same(local, streamed)


def test_litdata_is_asked_for(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egodepth.data.shards.writer.find_spec", lambda _: None)
    with pytest.raises(EgodepthError, match=r"pip install 'egodepth\[cluster\]'"):
        shard(settings_of(footage), str(tmp_path))


def test_what_is_there_is_kept_and_other_settings_are_refused(footage: Path, shards: str) -> None:
    again = shard(settings_of(footage), shards, chunk_megabytes=MEGABYTES)
    assert again.made == 0 and again.complete
    next(Path(shards, "units").iterdir()).unlink()
    assert shard(settings_of(footage), shards, chunk_megabytes=MEGABYTES).made == 1
    with pytest.raises(EgodepthError, match="holds shards made with another frames"):
        shard(settings_of(footage), shards, chunk_megabytes=MEGABYTES, frames="jpeg")


def test_broken_footage_does_not_stop_the_rest(footage: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    settings = settings_of(
        footage, **{"data.sources": [str(tmp_path / "broken.mp4"), str(footage / "b")]}
    )
    with pytest.raises(EgodepthError, match=r"1 of 2 pieces.*--skip_broken"):
        shard(settings, str(tmp_path / "out"), frames="jpeg")
    assert not (tmp_path / "out" / "egodepth.json").exists()
    result = shard(settings, str(tmp_path / "out"), frames="jpeg", skip_broken=True)
    assert result.complete and len(result.failed) == 1 and result.made == 0
    stream = stream_of(from_shards(footage, str(tmp_path / "out")))
    local = stream_of(settings_of(footage, **{"data.sources": [str(footage / "b")]}))
    off = stream.batch(0).frames.float() - local.batch(0).frames.float()
    assert 0 < off.abs().mean() < 4


def test_footage_and_shards_may_be_in_a_store(tmp_path: Path) -> None:
    (clip,) = make_videos(tmp_path / "in", ["clip.mp4"])
    memory = fsspec.filesystem("memory")
    memory.pipe({"/drives/a.mp4": clip.read_bytes(), "/drives/b.mp4": b"no video"})
    settings = tiny_settings(tmp_path, **{"data.sources": ["memory://drives/*.mp4"]})
    result = shard(settings, "memory://shards", skip_broken=True)
    assert (
        result.complete and result.units == 2 and list(result.failed) == ["memory:///drives/b.mp4"]
    )
    assert "b.mp4" in result.failed["memory:///drives/b.mp4"]
    assert shard(settings, "memory://shards", skip_broken=True).made == 0
    changes = {"data.sources": ["shards:memory://shards"], "data.cache": tmp_path, "data.fov": None}
    streamed = stream_of(override(settings, changes))
    local = stream_of(override(settings, {"data.sources": [str(clip)]}))
    assert streamed.clips[0].sequence.place == "memory:///drives/a.mp4"
    assert_same(local, streamed, 2)
    with pytest.raises(EgodepthError, match=r"no files match memory://drives/\*.avi"):
        shard(override(settings, {"data.sources": ["memory://drives/*.avi"]}), "memory://other")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.fov": 60.0}, "leave --data.fov out"),
        ({"data.stride": 2}, "made with strides 1: give --data.stride auto"),
        ({"data.mask": "auto"}, "made with --data.mask none, not auto"),
        ({"data.views": "stereo"}, "made with --data.views mono, not stereo"),
        ({"data.poses": "sfm"}, "no poses of structure from motion"),
        ({"data.poses": "slam"}, "no poses of odometry: shard again with --data.poses slam"),
        ({"model.height": 64}, "give --model.height 32 --model.width 64"),
    ],
)
def test_what_shards_cannot_give_is_refused(
    footage: Path, shards: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(EgodepthError, match=message):
        stream_of(from_shards(footage, shards, **changes))


def test_shards_and_footage_do_not_mix(footage: Path, shards: str, tmp_path: Path) -> None:
    for sources, message in (
        ([f"shards:{shards}", str(footage / "a")], "cannot train together"),
        ([f"shards:{tmp_path}"], "no finished shards"),
    ):
        with pytest.raises(EgodepthError, match=message):
            stream_of(from_shards(footage, shards, **{"data.sources": sources}))
    with pytest.raises(EgodepthError, match="name the footage that they were made from"):
        read_source(f"shards:{shards}")


def test_motion_points_labels_and_masks_come_from_shards(footage: Path, tmp_path: Path) -> None:
    local = stream_of(settings_of(footage, **{"data.sources": [str(footage / "a")]}))
    (clip,) = local.clips
    known = known_clip(clip)
    out = tmp_path / "out"
    settings = settings_of(footage, **{"data.sources": [str(footage / "a")]})
    shard(settings, str(out), chunk_megabytes=MEGABYTES)
    key = next((out / "units").iterdir()).stem
    write_unit(
        FileStore(str(out)), key, [(known, "sfm", None)], codec="cache", quality=95,
        chunk_bytes=int(1e6 * MEGABYTES), notes={"source": "a", "lines": []},
    )  # fmt: skip
    shard(settings, str(out), chunk_megabytes=MEGABYTES)
    wanted = {"data.poses": "sfm", "data.dense_labels": True, "loss.dense": 1.0}
    streamed = stream_of(from_shards(footage, str(out), **wanted))
    expected = SnippetStream([known], directions=(-1, 1), batch_size=local.batch_size, seed=0)
    expected.schedule = Schedule(100)
    expected.labels_first = streamed.labels_first
    assert streamed.has_labels and streamed.batch(0).points is not None
    assert_same(expected, streamed)
    assert stream_of(from_shards(footage, str(out))).batch(0).motions is None  # poses network


def test_a_rig_trains_with_poses_and_their_scales_from_shards(
    footage: Path, tmp_path: Path
) -> None:
    """Poses of structure from motion in two parts of unknown scale, which the cameras of the rig share."""
    settings = settings_of(footage, **{"data.sources": [str(footage / "a")]})
    (clip,) = (known_clip(clip) for clip in stream_of(settings).clips)
    beside = np.eye(4)
    beside[0, 3] = 0.5
    sequences = [
        replace(clip.sequence, name=side, rig="car", camera_name=side, rig_from_camera=pose)
        for side, pose in (("left", np.eye(4)), ("right", beside))
    ]
    rig = [replace(clip, sequence=sequence, dense=None) for sequence in sequences]
    out = tmp_path / "out"
    shard(settings, str(out), chunk_megabytes=MEGABYTES)
    write_unit(
        FileStore(str(out)), next((out / "units").iterdir()).stem, [(c, "sfm", None) for c in rig],
        codec="cache", quality=95, chunk_bytes=int(1e6 * MEGABYTES), notes={"source": "a", "lines": []},
    )  # fmt: skip
    shard(settings, str(out), chunk_megabytes=MEGABYTES)
    wanted = from_shards(footage, str(out), **{"data.poses": "sfm"})
    streamed = stream_of(wanted)
    local = SnippetStream(rig, directions=(-1, 1), batch_size=streamed.batch_size, seed=0)
    local.schedule = Schedule(100)
    module = build_module(wanted, streamed, "float32")
    assert module.motions is not None and len(module.motions.log_scale) == 2
    first, second = (gradients_of(wanted, stream, 2) for stream in (local, streamed))
    assert len(first) == len(second) > 60
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def known_clip(clip: Clip) -> Clip:
    """The clip with motion in two parts, points, labels of some frames, a mask and an excluded pair."""
    rng, count = np.random.default_rng(0), len(clip.frames)
    height, width = clip.frames.shape[-2:]
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 2, 3] = np.arange(count)
    part = np.where(np.arange(count) < 6, 0, 1)
    points = {
        p: SparsePoints(rng.uniform(0, 30, (5, 2)), rng.uniform(0.1, 1, 5)) for p in (1, 2, 8)
    }
    dense = rng.uniform(0, 1, (count, 2, height, width)).astype(np.float16)
    dense[::3] = 0
    static = np.zeros((height, width), bool)
    static[-4:] = True
    return replace(
        clip, motion=KnownMotion(poses, part, points), dense=dense, static=static,
        excluded_pairs=frozenset({(3, 4)}),
    )  # fmt: skip


def test_a_piece_holds_all_frames_of_its_snippets(footage: Path) -> None:
    (clip, _) = (replace(c, stride=2) for c in stream_of(settings_of(footage)).clips)
    pieces = list(cut([clip], 4))
    homes = [position for piece in pieces for _, position, home in piece if home]
    assert sorted(homes) == list(range(len(clip.frames)))
    for piece in pieces:
        there = {position for _, position, _ in piece}
        for _, position, home in piece:
            wanted = {position - 2, position + 2} & set(homes)
            assert not home or wanted <= there


@pytest.mark.parametrize("lanes", [False, True])
def test_each_sample_once_whatever_the_number_of_processes(lanes: bool) -> None:
    rows, chunk_of = np.arange(203), np.arange(203) // 5
    history = ((0, 2), (13, 4), (20, 1), (60, 3))
    division = Lanes(chunk_of, 4, 2) if lanes else None
    seen: list[int] = []
    for step in range(150):
        ranks = next(n for first, n in reversed(history) if first <= step)
        until = tuple(each for each in history if each[0] <= step)
        shares = [
            SampleOrder(rows, 1, 2, rank, ranks, division, until).mine(step)
            for rank in range(ranks)
        ]
        assert sum(weight for _, weight in shares) == pytest.approx(ranks)
        seen += [int(row) for rows_of, weight in shares if weight for row in rows_of]
    epochs = [seen[i : i + 203] for i in range(0, len(seen) - 202, 203)]
    assert len(epochs) >= 2 and all(sorted(epoch) == rows.tolist() for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_processes_share_no_chunk_while_their_lanes_last() -> None:
    chunk_of = np.arange(4000) // 20
    read = []
    for rank in range(2):
        order = SampleOrder(np.arange(4000), 0, 4, rank, 2, Lanes(chunk_of, 8, 3))
        read.append({int(c) for step in range(450) for c in chunk_of[order.mine(step)[0]]})
        window = [len(set(chunk_of[np.concatenate([order.mine(s)[0] for s in range(i, i + 20)])]))
                  for i in range(0, 400, 20)]  # fmt: skip
        assert max(window) <= 4 * 3 * 2  # the rank's lanes, their windows, and those that follow
    assert not read[0] & read[1]


class Failing(http.server.SimpleHTTPRequestHandler):
    """Fails every third request, by turns with an error, half of a file, or changed bytes."""

    chance = random.Random(0)
    lost = 0

    def do_GET(self) -> None:
        name = self.translate_path(self.path)
        content = Path(name).read_bytes() if Path(name).is_file() else None
        if content is None:
            self.send_error(404)
            return
        kind = self.chance.randrange(9) if name.endswith(".bin") else 9
        type(self).lost += kind < 3
        if kind == 0:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        sent = content[: len(content) // 2] if kind == 1 else content
        self.wfile.write(bytes(len(sent)) if kind == 2 else sent)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(shards: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(file_store, "FIRST_PAUSE", 0.001)
    handler = lambda *words: Failing(*words, directory=shards)  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_store_that_fails_gives_the_same_through_a_bounded_cache(
    footage: Path, shards: str, address: str, tmp_path: Path
) -> None:
    sizes = [path.stat().st_size for path in Path(shards).glob("*.bin")]
    bound = 4 * max(sizes)
    assert len(sizes) > 5
    changes = {"data.cache": tmp_path, "data.shard_cache": bound / 1e9}
    far, near = (stream_of(from_shards(footage, uri, **changes)) for uri in (address, shards))
    assert lanes_for(far.chunks, far._homes()) is not None
    far.schedule = Schedule(12)
    expected = [near.batch(step) for step in range(12)]
    for batch, wanted in zip(far, expected, strict=True):
        assert torch.equal(batch.frames, wanted.frames)
        used = 0
        for path in tmp_path.rglob("*.bin"):
            with suppress(FileNotFoundError):  # dropped in the background meanwhile
                used += path.stat().st_size
        assert used <= bound + max(sizes)
    (store,) = far.chunks.stores
    assert Failing.lost > 0 and store.failures > 0


def test_a_chunk_that_stays_damaged_is_an_error(shards: str, tmp_path: Path) -> None:
    path = next(Path(shards).glob("*.bin"))
    info = ChunkInfo(FileStore(shards), path.name, path.stat().st_size + 1, 0)
    with pytest.raises(EgodepthError, match="missing or incomplete"):
        Chunks([info], tmp_path, 1 << 30).item(0, 0)


def test_litdata_reads_the_shards_too(shards: str) -> None:
    from litdata import StreamingDataset

    data = StreamingDataset(shards)
    clip, position, frame, labels = data[3]
    assert clip == 0 and len(frame) == 3 * SIZE["height"] * SIZE["width"] and not len(labels)
    assert position in range(14)
