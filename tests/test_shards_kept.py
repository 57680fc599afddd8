"""Shards that are there: kept, added to, made again where they are damaged, and refused where they changed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import write_images
from tests.test_shards import MEGABYTES, from_shards, settings_of, stream_of

from egodepth.cli import main
from egodepth.core import file_store
from egodepth.core.errors import EgodepthError
from egodepth.core.file_store import FileStore
from egodepth.data.shards.reader import read_manifest
from egodepth.training.shard_plan import check_same_shards, shards_digest
from egodepth.training.shard_units import list_units
from egodepth.training.sharding import ShardResult, shard


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Footage a and b, and shards of a."""
    folder = tmp_path_factory.mktemp("kept")
    for name, count in (("a", 14), ("b", 9)):
        write_images(folder / name, count)
    run(folder, "a")
    return folder


@pytest.fixture
def footage(whole: Path, tmp_path: Path) -> Path:
    """As ``whole``, to change; its footage has the same path, and so the same keys."""
    shutil.copytree(whole / "shards", tmp_path / "shards")
    for name in "ab":
        (tmp_path / name).symlink_to(whole / name)
    return tmp_path


def run(footage: Path, *names: str, **changes: object) -> ShardResult:
    sources = [str(footage / name) for name in names]
    skip = bool(changes.pop("skip_broken", False))
    settings = settings_of(footage, **{"data.sources": sources, **changes})
    return shard(settings, str(footage / "shards"), chunk_megabytes=MEGABYTES, skip_broken=skip)


def manifest(footage: Path) -> dict[str, object]:
    return dict(json.loads((footage / "shards" / "egodepth.json").read_text()))


def test_other_footage_is_added_and_a_source_counts_once(footage: Path) -> None:
    digest = shards_digest(stream_of(from_shards(footage, str(footage / "shards"))))
    result = run(footage, "b", "../" + footage.name + "/b", "[b]")
    assert (result.units, result.made, result.kept, result.facts["clip_count"]) == (1, 1, 1, 2)
    assert result.facts["frame_count"] == 23 and result.facts["snippet_count"] == 12 + 7
    uri = f"{footage}/shards"
    stream = stream_of(from_shards(footage, uri, **{"data.sources": [f"shards:{uri}"] * 2}))
    assert [len(clip.frames) for clip in stream.clips] == [14, 9]
    with pytest.raises(EgodepthError, match="shards hold other clips"):
        check_same_shards(stream, {"egodepth_shards": digest})
    assert check_same_shards(stream, {}) != digest
    again = run(footage, "a")
    assert (again.made, again.kept, again.facts["clip_count"]) == (0, 1, 2)


def test_another_command_in_the_folder_is_refused(footage: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from egodepth.core.locks import hold\n"
        "held = hold(Path(sys.argv[1]), folder=True); print('held', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", code, str(footage / "shards")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(EgodepthError, match="is being written by process"):
            run(footage, "b")
        other.kill()


def test_a_changed_camera_mask_or_split_makes_a_unit_anew(footage: Path) -> None:
    video, camera, mask, split = (
        footage / n for n in ("v.mp4", "rig.yaml", "mask.png", "split.txt")
    )
    changes = {
        "data.sources": [str(video)], "data.camera": camera, "data.mask": str(mask), "data.split": str(split)
    }  # fmt: skip
    settings = settings_of(footage, **changes)
    keys = set()
    for file in (video, camera, mask, split, footage / "camera.yaml"):
        file.write_text("one")
        keys.add(list_units(settings, {})[0].key)
        file.write_text("two!")
        keys.add(list_units(settings, {})[0].key)
        assert list_units(settings, {})[0].key in keys
    assert len(keys) == 10


def test_all_processes_see_what_failed(footage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (footage / "bad.mp4").write_bytes(b"no video")
    for name, value in {"SLURM_NTASKS": "2", "SLURM_NNODES": "1"}.items():
        monkeypatch.setenv(name, value)
    results = []
    for rank in range(2):
        monkeypatch.setenv("SLURM_PROCID", str(rank))
        results.append(run(footage, "bad.mp4", "b", skip_broken=True))
    assert [result.complete for result in results] == [False, True]
    assert list(results[1].failed) == [str(footage / "bad.mp4")]
    assert results[1].made == 1 and results[1].kept == 1
    for name in ("SLURM_NTASKS", "SLURM_NNODES", "SLURM_PROCID"):
        monkeypatch.delenv(name)
    (footage / "bad.mp4").unlink()
    shutil.copytree(footage / "b", footage / "bad.mp4")
    assert not run(footage, "bad.mp4").failed
    assert manifest(footage)["failed"] == {}


@pytest.mark.parametrize("harm", ["missing", "short", "unit"])
def test_incomplete_shards_are_made_again(footage: Path, harm: str) -> None:
    path = next((footage / "shards").glob("units/*" if harm == "unit" else "*.bin"))
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2])
    assert run(footage, "a").made == 1
    assert path.stat().st_size == len(content)


def test_damaged_chunks_are_not_trained_on(footage: Path) -> None:
    for path in (footage / "shards").glob("*.bin"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    stream = stream_of(from_shards(footage, str(footage / "shards")))
    with pytest.raises(EgodepthError, match=r"chunk .*\.bin is damaged; .*delete .*/units/.*\.npz"):
        stream.batch(0)


def test_a_broken_description_is_named(footage: Path) -> None:
    path = footage / "shards" / "egodepth.json"
    text = path.read_text()
    for content, message in ((text[:40], "is broken"), ('{"version": 1}', "lacks height")):
        path.write_text(content)
        for use in (lambda: run(footage, "b"), lambda: read_manifest(FileStore(str(path.parent)))):
            with pytest.raises(EgodepthError, match=f"egodepth.json.*{message}.*delete it"):
                use()


def test_a_server_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_store, "FIRST_PAUSE", 0.001)
    with pytest.raises(EgodepthError, match=r"cannot read http://127.0.0.1:9/egodepth.json"):
        read_manifest(FileStore("http://127.0.0.1:9"))


def test_the_command_names_clips_without_snippets(
    footage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(footage / "two", 2)
    words = ["shard", str(footage / "two"), str(footage / "b"), "--height", "32", "--width", "64",
             "--data.poses", "network", "--data.stride", "1", "--data.fov", "60"]  # fmt: skip
    assert main([*words, "--out", str(footage / "new")]) == 0
    text = "".join(capsys.readouterr())
    assert "no snippets are in two" in text and "11 frames and 7 snippets of 2 clips" in text
    assert main([*words, "--out", "memory://new"]) != 0
    assert "would be lost" in capsys.readouterr().err


def test_lists_and_folders_of_videos_are_footage(footage: Path) -> None:
    (footage / "in").mkdir()
    for name in ("v10.mp4", "v9.MP4", "notes.txt"):
        (footage / "in" / name).write_text("")
    (footage / "list.txt").write_text(f"# two\n{footage / 'in'}\n\n{footage / 'a'}\n")
    for sources in ([f"@{footage}/list.txt"], [str(footage / "in"), str(footage / "a")]):
        units = list_units(settings_of(footage, **{"data.sources": sources}), {})
        assert [Path(unit.source).name for unit in units] == ["v9.MP4", "v10.mp4", "a"]
    with (footage / "list.txt").open("a") as file:
        file.write(f"@{footage}/list.txt")
    with pytest.raises(EgodepthError, match="names itself"):
        list_units(settings_of(footage, **{"data.sources": [f"@{footage}/list.txt"]}), {})
