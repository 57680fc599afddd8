import os
import re
import resource
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from egodepth.core.errors import EgodepthError
from egodepth.core.files import atomic_path, read_text, read_yaml, reading, write_text
from egodepth.data.footage.depth_map import read_array
from egodepth.data.footage.live_camera import LiveCamera
from egodepth.data.footage.own_footage import read_camera
from egodepth.data.sources import read_source
from egodepth.runs.checkpoint import read_checkpoint


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    # A limit on the size of files makes the system refuse the write as a full disk does.
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from egodepth.core.files import write_text\n"
        "try:\n"
        "    write_text(sys.argv[1], 'x' * 100_000)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    assert resource.RLIMIT_FSIZE is not None
    path = tmp_path / "big.txt"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert done.stdout.strip() == f"EgodepthError cannot write {path}: File too large"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(EgodepthError, match=r"cannot write .*a\.txt"):
        write_text(tmp_path / "a.txt", "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(EgodepthError, match="cannot write"):
        write_text(tmp_path / "file" / "b.txt", "x")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("1 é\r\n2\n".encode(encoding))
    assert read_text(tmp_path / "a.txt", "the table") == "1 é\n2\n"
    (tmp_path / "a.txt").write_bytes(b"\xe9\x80")
    with pytest.raises(
        EgodepthError, match=r"the table .*a\.txt is broken: it is no text in UTF-8"
    ):
        read_text(tmp_path / "a.txt", "the table")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("fx"), "the camera file a.txt is broken: it has no fx"),
        (
            zlib.error("Error -3"),
            "the camera file a.txt is broken: the file is incomplete or damaged",
        ),
        (RecursionError(), "the camera file a.txt is broken: it is nested too deeply"),
        (
            MemoryError(),
            "the camera file a.txt is broken: it claims a size that does not fit into memory",
        ),
        (
            TypeError("'NoneType' object"),
            "the camera file a.txt is broken: it holds other values than",
        ),
        (ValueError("line 1\nline 2"), "the camera file a.txt is broken: line 1 line 2"),
        (
            FileNotFoundError(2, "No such", "b.txt"),
            "the camera file is missing: there is no file b.txt",
        ),
        (
            IsADirectoryError(21, "Is a directory"),
            "cannot read the camera file a.txt: Is a directory",
        ),
        (EgodepthError("as it is"), "as it is"),
    ],
)
def test_whatever_a_reader_raises_names_the_file(error: Exception, reason: str) -> None:
    with (
        pytest.raises(EgodepthError, match=f"^{re.escape(reason)}"),
        reading("a.txt", "the camera file"),
    ):
        raise error
    with pytest.raises(KeyboardInterrupt), reading("a.txt", "the camera file"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 2020-13-45", "month must be in 1..12"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
        ("[" * 5000, "nested too deeply"),
        ("a: &a [*a]", "its aliases repeat too many values"),
        ("\n".join(["a0: &a0 [1, 1]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]),
         "its aliases repeat too many values"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: [1", "expected ',' or ']'"),
        ("- a\n" * 100_000, "longer than 300,000 characters"),
    ],
)  # fmt: skip
def test_any_broken_yaml_is_one_line(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(
        EgodepthError, match=rf"the settings .*a\.yaml is broken: .*{re.escape(reason)}"
    ) as e:
        read_yaml(tmp_path / "a.yaml", "the settings")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.txt", lambda path: read_text(path, "the table")),
        ("a.png", lambda path: read_source(str(path))),
        ("a.mp4", lambda path: read_source(str(path))),
        ("a.mp4", lambda path: LiveCamera(str(path))),
        ("a.npy", read_array),
        ("a.yaml", read_camera),
        ("a.ckpt", read_checkpoint),
    ],
)
def test_what_never_ends_is_not_read(
    tmp_path: Path, kind: str, name: str, read: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)  # the address of a socket must be short
    path = Path(name)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        socket.socket(socket.AF_UNIX).bind(name)
    with pytest.raises(EgodepthError, match=rf"{name}: it is a {kind}; name a regular file$"):
        read(path)
