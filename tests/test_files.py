import resource
import subprocess
import sys
from pathlib import Path

import pytest

from egodepth.core.errors import EgodepthError
from egodepth.core.files import atomic_path, read_text, write_text


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
    with pytest.raises(EgodepthError, match=r"cannot read the table .*a\.txt"):
        read_text(tmp_path / "a.txt", "the table")
