"""Whose commit a result is said to come from."""

import os
import subprocess
from pathlib import Path

import pytest

from egodepth.core.provenance import _commit


def git(folder: Path, *words: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), "-c", "user.name=me", "-c", "user.email=me@here", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=clean).stdout


def put(folder: Path) -> Path:
    """The package in a folder."""
    file = folder / "egodepth" / "core" / "provenance.py"
    file.parent.mkdir(parents=True)
    file.write_text("")
    return file


def test_the_commit_is_that_of_the_own_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder in (theirs, ours):
        folder.mkdir()
        git(folder, "init", "-q")
    checkout = put(ours / "src")
    in_another = [
        put(theirs / ".venv" / "lib" / "site-packages"),  # a wheel, untracked
        put(theirs / "vendored"),
        put(theirs / "libraries" / "egodepth" / "src"),
    ]
    untracked = put(theirs / "src")
    for folder in (theirs, ours):
        git(folder, "add", "libraries", "vendored") if folder == theirs else git(folder, "add", ".")
        git(folder, "commit", "-qm", "all")
    commit = git(ours, "rev-parse", "--short=12", "HEAD").strip()
    assert _commit(checkout) == commit
    assert {_commit(file) for file in (*in_another, untracked)} == {"unknown"}
    assert _commit(put(tmp_path / "nowhere")) == "unknown"
    monkeypatch.setenv("GIT_DIR", str(theirs / ".git"))
    assert _commit(checkout) == commit
    checkout.write_text("changed")
    assert _commit(checkout) == f"{commit}-dirty"
