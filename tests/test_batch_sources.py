"""What a batch does, what it leaves alone and what it does again. No networks and no Ray."""

import os
from pathlib import Path

import fsspec
import pytest

from egodepth.cluster.batch import Cluster, _identity, batch_predict
from egodepth.cluster.store import DONE, ResultStore
from egodepth.cluster.videos import Video, list_videos
from egodepth.cluster.work import find_work
from egodepth.cluster.worker import Job
from egodepth.core.errors import EgodepthError, EgodepthWarning


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())


def put(store: ResultStore, video: Video, ended: float = 0.0) -> None:
    """Results of a video, as a worker puts them in place."""
    with store.workplace() as place:
        write(place / "results" / "depth.mp4", place / "results" / "files.txt")
        (place / "results" / "of.txt").write_text(f"{video.address} {video.stamp}")
        store.put(place / "results", video, {"ended": ended, "stamp": video.stamp})


def names(videos: list[Video]) -> list[str]:
    return [video.name for video in videos]


def test_a_clip_spelled_in_two_ways_is_one_and_never_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "front.mp4", tmp_path / "v" / "a.mp4", tmp_path / "other" / "deep" / "b.mp4")
    (tmp_path / "v" / "link").symlink_to(tmp_path / "other" / "deep")
    write(tmp_path / "other" / "c.mp4")
    monkeypatch.chdir(tmp_path / "v")
    found = list_videos(["../front.mp4", "../v/../v/a.mp4", "a.mp4", "../*.mp4", "../v/../v"])
    assert [(v.name, v.address) for v in found] == [
        ("front.mp4", f"{tmp_path}/front.mp4"), ("a.mp4", f"{tmp_path}/v/a.mp4"),
    ]  # fmt: skip
    assert (
        list_videos("link/../c.mp4")[0].address == f"{tmp_path}/other/c.mp4"
    )  # as the system does
    assert list_videos("https://host/v/../v/a.mp4")[0].address == "https://host/v/a.mp4"
    for store in (ResultStore(str(tmp_path / "out")), ResultStore("memory://names")):
        for name in ("../front.mp4", "v/../../a.mp4", "", "_batch"):
            with pytest.raises(EgodepthError, match="cannot be the name"):
                store.check_room([Video(name, "/x")])
            with pytest.raises(EgodepthError, match="cannot be the name"):
                put(store, Video(name, "/x"))


def test_videos_are_never_in_the_way_of_their_results(tmp_path: Path) -> None:
    write(tmp_path / "v" / "a.mp4")
    with pytest.raises(EgodepthError, match=r"a\.mp4 is a file.*and keep the file") as refused:
        find_work(tmp_path / "v", ResultStore(str(tmp_path / "v")))
    assert "remove" not in str(refused.value)
    (video,) = list_videos(tmp_path / "v")
    with pytest.raises(EgodepthError, match="is a file"):
        put(ResultStore(str(tmp_path / "v")), video)
    write(tmp_path / "out" / "a.mp4" / "diary.txt")
    with pytest.raises(EgodepthError, match=r"did not write; name another place"):
        find_work(tmp_path / "v", ResultStore(str(tmp_path / "out")))
    fsspec.filesystem("memory").pipe({"/own/a.mp4": b"1"})
    with pytest.raises(EgodepthError, match="is a file"):
        find_work("memory://own/*.mp4", ResultStore("memory://own"))


def test_a_pattern_does_not_find_the_results(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", tmp_path / "out" / "a.mp4" / "depth.mp4")
    memory = fsspec.filesystem("memory")
    memory.pipe({"/eat/a.mp4": b"1", "/eat/out/a.mp4/depth.mp4": b"1"})
    for top in (str(tmp_path), "memory://eat"):
        with pytest.warns(EgodepthWarning, match=r"left out 1 sources below .*out.*depth.mp4"):
            assert names(list_videos(f"{top}/**/*.mp4", f"{top}/out")) == ["a.mp4"]
    with pytest.raises(EgodepthError, match="all sources lie in folders below"):
        list_videos(f"{tmp_path}/*/a.mp4/*.mp4", str(tmp_path / "out"))


@pytest.mark.parametrize("kind", ["disk", "store"])
def test_names_stay_and_markers_without_results_count_for_nothing(
    kind: str, tmp_path: Path
) -> None:
    memory = fsspec.filesystem("memory")
    store = ResultStore(str(tmp_path / "out") if kind == "disk" else "memory://stay")
    monday, tuesday = (tmp_path / "same" / day / "front.mp4" for day in ("mon", "tue"))
    write(monday)
    ((first,), todo) = find_work(tmp_path / "same" / "*" / "front.mp4", store)
    assert names(todo) == ["front.mp4"]
    put(store, first)
    write(tuesday)
    videos, todo = find_work(tmp_path / "same" / "*" / "front.mp4", store)
    assert names(videos) == ["front.mp4", "tue/front.mp4"] and names(todo) == ["tue/front.mp4"]
    put(store, todo[0])
    assert find_work(tmp_path / "same" / "*" / "front.mp4", store)[1] == []
    for name in ("front.mp4", "tue/front.mp4"):
        if kind == "store":
            memory.rm(f"/stay/{name}", recursive=True)
            memory.pipe("/stay/tue/other.txt", b"")
        else:
            for path in (tmp_path / "out" / name).iterdir():
                path.unlink()
    monday.unlink()
    (video,), todo = find_work(tuesday, store)
    assert names(todo) == ["front.mp4"] and store.done() == {} and not store._markers()
    put(store, video, ended=1.0)
    stale = Video("front.mp4", str(monday))
    store.write_json(f"{DONE}/front.mp4.{stale.digest}.json", {"ended": 0.5})
    assert find_work(tuesday, store)[1] == []
    write(monday)
    with pytest.raises(EgodepthError, match="results of another video of that name"):
        find_work(monday, store)


@pytest.mark.parametrize("kind", ["disk", "store"])
def test_a_replaced_video_is_done_again_and_its_results_are_replaced_whole(
    kind: str, tmp_path: Path
) -> None:
    store = ResultStore(str(tmp_path / "out") if kind == "disk" else "memory://again")
    memory = fsspec.filesystem("memory")
    path = tmp_path / "v" / "a.mp4"
    source = str(path) if kind == "disk" else "memory://again_in/a.mp4"

    def change(name: str, content: bytes) -> None:
        if kind == "disk":
            write(path.with_name(name))
            path.with_name(name).write_bytes(content)
        else:
            memory.pipe(f"/again_in/{name}", content)

    change("a.mp4", b"1")
    ((video,), _) = find_work(source, store)
    put(store, video)
    store.write("a.mp4/more.txt", b"of the old video")
    assert find_work(source, store)[1] == []
    for name, content in (("a.mp4", b"22"), ("camera.yaml", b"1"), ("camera.yaml", b"22")):
        change(name, content)
        ((video,), todo) = find_work(source, store)
        assert names(todo) == ["a.mp4"] and todo[0].replaces and store.outcome(todo[0]) is None
        put(store, todo[0])
        assert store.read("a.mp4/of.txt").decode() == f"{video.address} {video.stamp}"
        assert not store.has("a.mp4/more.txt") and len(store._markers()) == 1
        assert find_work(source, store)[1] == []
    (marker,) = store.done().values()  # of an older version: without a stamp
    store._remove_marker(marker.path)
    store.write_json(f"{DONE}/a.mp4.{marker.digest}.json", {})
    change("a.mp4", b"333")
    assert find_work(source, store)[1] == []


def test_options_bind_a_place_once_something_is_done(tmp_path: Path) -> None:
    store = ResultStore(str(tmp_path / "out"))
    for fov in (50.0, 60.0):
        with store.claimed(_identity("builtin", Job(fov=fov))):
            pass
    put(store, Video("a.mp4", "/v/a.mp4"))
    with (
        pytest.raises(EgodepthError, match="with another field of view"),
        store.claimed(_identity("builtin", Job(fov=50.0))),
    ):
        pass
    facts = _identity("builtin", Job())
    assert facts["egodepth version"] and len(facts["run's weights"]) == 16
    write(tmp_path / "shards" / "egodepth.json")
    with (
        pytest.raises(EgodepthError, match="holds shards"),
        ResultStore(str(tmp_path / "shards")).claimed({}),
    ):
        pass


def test_lists_name_their_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "#1.mp4", tmp_path / "a.mp4")
    (tmp_path / "list.txt").write_text("# comment\n#1.mp4\ngone/b.mp4\na.mp4\n")
    assert names(list_videos("@list.txt")) == ["#1.mp4", "b.mp4", "a.mp4"]  # b.mp4 fails alone
    (tmp_path / "list.txt").write_text("a.mp4\n\n*.avi\n")
    with pytest.raises(EgodepthError, match=r"^list\.txt, line 3: no files match"):
        list_videos("@list.txt")
    (tmp_path / "list.txt").write_text("a.mp4\n@./list.txt\n")
    with pytest.raises(EgodepthError, match=r"line 2: the list \./list\.txt names itself"):
        list_videos("@list.txt")


def test_wrong_arguments_end_in_one_line(tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, object], str]] = [
        ({"actors": 0}, "actors must be"), ({"actors": -3}, "actors must be"),
        ({"actors": "2"}, "actors must be"), ({"actors": 1.5}, "actors must be"),
        ({"cpus": 0}, "cpus must be"),
    ]  # fmt: skip
    for values, said in wrong:
        with pytest.raises(EgodepthError, match=said):
            Cluster(**values)  # type: ignore[arg-type]
    others: list[tuple[dict[str, object], str]] = [
        ({"hang_seconds": -1}, "hang_seconds must be"), ({"formats": "npz"}, "formats must be"),
        ({"formats": None}, "formats must be"), ({"sources": None}, "sources must be"),
        ({"fov": -5}, "a field of view"), ({"out": "memory://out"}, "lost when this process ends"),
    ]  # fmt: skip
    for values, said in others:
        values = {"sources": "x.mp4", "out": str(tmp_path / "out"), **values}
        with pytest.raises(EgodepthError, match=said):
            batch_predict("builtin", **values)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []
