"""The README's Python runs as it stands, and what README and docs name exists."""

import re
import shlex
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import write_images

from egodepth.cli.page import commands_page
from egodepth.cli.parsing import COMMANDS, FAMILIES, make_app, parse
from egodepth.core.config import list_settings
from egodepth.core.errors import EgodepthWarning
from egodepth.core.video import VideoWriter
from egodepth.data.sources import DATA_SETS
from egodepth.evaluation.depth import PROTOCOLS, SCALINGS
from egodepth.evaluation.odometry import ALIGNMENTS
from egodepth.settings.recipes import RECIPES
from egodepth.settings.training import TrainSettings

README = Path(__file__).parents[1] / "README.md"
METHOD_PAGES = [README.parent / "docs" / f"{name}.md" for name in ("method", "beyond")]


def test_the_readme_runs(
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "drive").symlink_to(tiny_run)
    for index, path in enumerate(write_images(tmp_path / "frames", 2)):
        path.rename(tmp_path / f"frame_{index}.png")
    with VideoWriter(tmp_path / "drive.mp4") as video:
        for index in range(3):
            video.write(np.full((32, 64, 3), 60 * index, np.uint8))
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, str(README), "exec"), {})
    assert capsys.readouterr().out.startswith("0 (32, 64)")


def documented_commands() -> list[str]:
    """What README and pages have in code after `egodepth`: blocks, indented or fenced, and inline code."""
    found = []
    for page in (README, *(README.parent / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        found += re.findall(r"^    (?:\.venv/bin/)?egodepth ([a-z].*)$", text, re.M)
        for block in re.findall(r"```bash\n(.*?)```", text, re.S):
            found += re.findall(r"^egodepth ([a-z].*)$", block, re.M)
        found += re.findall(r"`(?:\.venv/bin/)?egodepth ([a-z][^`]*)`", text)
    return list(dict.fromkeys(" ".join(command.split()) for command in found))


@lru_cache
def options_of(name: str) -> set[str]:
    app = make_app([name])
    for word in name.split():
        app = app[word]
    return {option for argument in app.assemble_argument_collection() for option in argument.names}


@pytest.mark.parametrize("command", documented_commands())
def test_documented_commands_exist(command: str) -> None:
    """With their options, whose values may be placeholders there."""
    words = re.findall(r"[^\s\[\]=]+", command)
    typed = {word for word in words if word.startswith("--")}
    if words[0] in FAMILIES and words[1:2] in ([], ["..."]):
        return  # `egodepth evaluate` names both
    name = words[0] if words[0] in COMMANDS else " ".join(words[:2])
    assert name in COMMANDS
    assert typed <= options_of(name) | {"--help"}, typed - options_of(name)


def test_the_page_of_commands_is_up_to_date() -> None:
    """What to do where it is not: ``python -c "from egodepth.cli.page import write; write()"``."""
    page = README.parent / "docs" / "commands.md"
    made = commands_page()
    assert page.read_text(encoding="utf-8") == made
    assert all(f"(#egodepth-{name.replace(' ', '-')})" in made for name in COMMANDS)


def test_the_pages_of_the_method_name_functions_and_settings_that_exist() -> None:
    text = "".join(page.read_text() for page in METHOD_PAGES)
    functions = set(re.findall(r"`((?:losses|geometry)\.\w+\.\w+)`", text))
    assert len(functions) >= 10
    for function in functions:
        module, name = function.rsplit(".", 1)
        assert callable(getattr(import_module(f"egodepth.{module}"), name)), function
    known = {setting.name for setting in list_settings(TrainSettings())}
    named = set(re.findall(r"`((?:loss|model|data)\.\w+)`", text))
    assert named and named <= known, named - known


def test_the_page_of_recipes_names_every_recipe() -> None:
    text = (README.parent / "docs" / "recipes.md").read_text()
    assert all(f"| `{name}` |" in text for name in RECIPES)


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    """MkDocs checks the links of docs, but not those of the pages at the root."""
    assert len(README.read_text().splitlines()) <= 90
    text = README.read_text() + (README.parent / "CONTRIBUTING.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert len(links) > 5
    missing = [link for link in links if not (README.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", ["data_sets", "evaluation"])
def test_the_commands_of_the_pages_exist(page: str) -> None:
    text = (README.parent / "docs" / f"{page}.md").read_text()
    commands = re.findall(r"^    \.venv/bin/egodepth (.*)$", text, re.M)
    assert len(commands) >= 3
    for command in commands:
        assert parse(shlex.split(command)) is not None


def test_the_pages_name_every_data_set_and_protocol() -> None:
    sets = (README.parent / "docs" / "data_sets.md").read_text()
    assert all(f"`{name}`" in sets for name in DATA_SETS)
    scores = (README.parent / "docs" / "evaluation.md").read_text()
    assert all(f"`{name}`" in scores for name in (*PROTOCOLS, *ALIGNMENTS, *SCALINGS))


def test_a_data_set_of_ones_own(tmp_path: Path) -> None:
    text = (README.parent / "docs" / "data_sets.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.S)
    names: dict[str, object] = {}
    exec(compile(block, "data_sets.md", "exec"), names)
    write_images(tmp_path / "scene" / "rgb", 2)
    with pytest.warns(EgodepthWarning, match="sequences without depth: 1"):
        (sequence,) = names["read_mine"](tmp_path)  # type: ignore[operator]
    assert len(sequence.frames) == 2
