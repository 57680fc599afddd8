"""What docs/architecture.md and CONTRIBUTING.md name exists, and both are read in five minutes."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "egodepth"
PAGES = [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"]


def named_files(text: str) -> dict[str, set[str]]:
    """Names in each file: `FILE:NAME`, or none for `FILE` alone."""
    found: dict[str, set[str]] = {}
    for file, name in re.findall(
        r"`([\w./]+\.(?:py|md|toml|jinja|json)|[\w./]+/)(?::([\w.]+))?`", text
    ):
        found.setdefault(file, set()).update({name} - {""})
    return found


def defined(file: Path) -> set[str]:
    """Functions, classes and their methods, and constants of a module."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (each for each in node.body if isinstance(each, ast.FunctionDef))
            names |= {f"{node.name}.{method.name}" for method in methods}
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def missing(text: str) -> list[str]:
    """Files and names in a text that do not exist."""
    lost = []
    for file, names in named_files(text).items():
        path = next((p for p in (PACKAGE / file, ROOT / file) if p.exists()), None)
        if path is None:
            lost.append(file)
        elif names:
            lost += [f"{file}:{name}" for name in sorted(names - defined(path))]
    return lost


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_all_files_and_functions_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    text = (
        text.replace("`docs/results/NAME.json`", "")
        .replace("`site/`", "")
        .replace("`run.json`", "")
    )
    assert len(named_files(text)) > 5
    assert missing(text) == []


def test_a_file_or_function_that_is_gone_is_found() -> None:
    assert missing("`core/gone.py`, `core/errors.py:Gone`, `core/errors.py:EgodepthError`") == [
        "core/gone.py", "core/errors.py:Gone",
    ]  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_it_is_read_in_five_minutes(page: Path) -> None:
    """At 240 words a minute."""
    assert len(page.read_text(encoding="utf-8").split()) < 1200


def test_every_room_has_its_sentence() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    rooms = {room.strip() for layer in layers for room in layer.split("|")}
    table = "".join(line for line in text.splitlines() if line.startswith("| `"))
    assert rooms <= set(re.findall(r"`(\w+)(?:\.py)?`", table))
