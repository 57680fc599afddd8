"""README, tutorials and how-tos do what they say; the site builds without a warning."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import TINY, write_images
from tests.layouts import make_raw

from egodepth.cli import main
from egodepth.core.video import VideoWriter
from egodepth.data.synthetic import street as synthetic

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted([*DOCS.glob("tutorials/*.md"), *DOCS.glob("howto/*.md")])]
SMALL = [f"--{name}={list(v) if isinstance(v, tuple) else v}" for name, v in TINY.items()]
NOT_RUN = {
    "demo": "takes minutes; .ci/run runs it",
    "view": "serves until it is interrupted; tests/test_view.py",
    "ros": "needs ROS 2; tests/test_robot_log.py",
}
LEFT_OUT = ("torchrun", "Depth-Anything-V2")
"""Several GPUs, and a download."""


def commands(page: Path) -> list[list[str]]:
    """All commands of a page, in order."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    return [shlex.split(line) for line in lines]


def prepare(folder: Path) -> None:
    """Footage by the names that the pages give it."""
    rng = np.random.default_rng(0)
    wall = rng.integers(0, 255, (9, 40, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    for name in ("drive.mp4", "walk.mp4"):
        with VideoWriter(folder / name) as video:
            for index in range(8):
                video.write(wall[:40, 2 * index : 2 * index + 80])
    make_raw(folder / "DIR")
    write_images(folder / "recordings" / "one", 3)


def smaller(words: list[str]) -> list[str]:
    """A command with networks and steps of a test; the four frames have none of Eigen's."""
    if "eigen" in words:
        return [*words, "--split", "all"]
    if words[0] != "train" or "--resume" in words:
        return words
    kept = list(words)
    for option in ("--minutes", "--steps"):
        if option in kept:
            place = kept.index(option)
            del kept[place : place + 2]
    # Eight frames of noise have no structure to find.
    kept = ["aligned" if word == "sfm" else word for word in kept]
    return [*kept, *SMALL, "--minutes=null", "--epochs=null"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of a page runs, with small networks and few steps, on footage made for it."""
    found = commands(page)
    if not found:
        pytest.skip("no commands on this page")
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(synthetic, "read_street", partial(synthetic.read_street, frames=8))
    if page.stem in ("export", "metres"):
        assert main(smaller(["train", "drive.mp4", "--out", "runs/drive", "--data.fov", "60"])) == 0
    for program, *words in found:
        if program != "egodepth" or words[0] in NOT_RUN or any(w in LEFT_OUT for w in words):
            assert program in ("egodepth", "torchrun")
            continue
        if any("Depth-Anything" in word or "drive.mcap" in word for word in words):
            continue
        assert main(smaller(words)) == 0, shlex.join(words)


def test_python_of_the_pages_is_python() -> None:
    for page in [*PAGES, *DOCS.glob("*.md")]:
        for block in re.findall(r" *```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            code = textwrap.dedent(block)
            compile("{" + code + "}" if code.startswith('"mine"') else code, str(page), "exec")


def test_the_python_of_metres_runs(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "drive").symlink_to(tiny_run)
    text = (DOCS / "howto" / "metres.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(compile(block, "metres", "exec"), {})


def test_the_site_builds(tmp_path: Path) -> None:
    """Links, anchors and the names of the API page are right: the build is strict."""
    pytest.importorskip("mkdocs")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    api = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    assert "second_from_first" in api and "feature_metric_loss" in api
