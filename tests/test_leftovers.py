"""Hidden files, as a killed process or macOS leaves them, are taken for data by no reader of folders."""

import shutil
from pathlib import Path

import pytest
from tests import layouts

from egodepth.core.files import find
from egodepth.data.sequence import Sequence
from egodepth.data.sources import read_source
from egodepth.runs.folder import RunFolder

LAYOUTS = layouts.MAKERS | {"eth3d rig": layouts.make_eth3d_rig, "footage": layouts.make_footage}


def describe(sequences: list[Sequence]) -> list[object]:
    return [
        (s.name, s.frames.numbers, sorted(s.depth), [float(d().sum()) for d in s.depth.values()])
        for s in sequences
    ]


def litter(root: Path) -> None:
    """Put broken copies beside every file, named as temporary files, as earlier ones, and as by macOS, and a
    hidden copy beside every folder."""
    for path in sorted(root.rglob("*")):
        if path.is_dir():
            shutil.copytree(path, path.with_name(f".{path.name}"))
            continue
        for name in (
            f".egodepth-q_x2ab01{path.suffix}", f".{path.stem}.q_x2ab01{path.suffix}", f"._{path.name}"
        ):  # fmt: skip
            path.with_name(name).write_bytes(b"half")


@pytest.mark.parametrize("kind", LAYOUTS)
def test_leftovers_are_no_data(kind: str, tmp_path: Path) -> None:
    made = LAYOUTS[kind](tmp_path / "data")
    source = str(made) if kind == "footage" else f"{kind.split()[0]}:{tmp_path / 'data'}"
    before = describe(read_source(source))
    litter(tmp_path / "data")
    assert describe(read_source(source)) == before


def test_leftovers_are_no_part_of_a_run(tmp_path: Path) -> None:
    run = RunFolder.at(tmp_path)
    (tmp_path / "cameras").mkdir()
    for name in ("camera.yaml", "cameras/a.yaml"):
        (tmp_path / name).write_text("fx: 1\n")
    run.samples.mkdir()
    run.sample(3).touch()
    litter(tmp_path)
    assert list(run.camera_files()) == ["", "a"] and list(run.sample_files()) == [3]
    assert find(tmp_path, "*.yaml") == [tmp_path / "camera.yaml", tmp_path / "cameras" / "a.yaml"]
