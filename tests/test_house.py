"""Files and functions that are read in one go: the sizes that the project keeps to."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "egodepth"
FILES = sorted(SOURCE.rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
"""Of a function, without its docstring."""
REASON = "Long, since "
"""How a docstring begins the sentence that says why a function is longer."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def lines_of(function: Function) -> int:
    """Lines from ``def`` to the end, without the docstring."""
    assert function.end_lineno is not None
    count = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return count
    docstring = function.body[0]
    assert docstring.end_lineno is not None
    return count - (docstring.end_lineno - docstring.lineno + 1)


def too_long(text: str) -> list[str]:
    """Functions that are too long, and give no reason."""
    return [
        f"{node.name}: {lines_of(node)} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, Function) and lines_of(node) > MAX_FUNCTION_LINES
        and REASON not in (ast.get_docstring(node) or "")
    ]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES, "take it apart by purpose"
    assert too_long(text) == []


def test_a_long_function_is_found_and_may_give_a_reason() -> None:
    body = "    x = 1\n" * MAX_FUNCTION_LINES
    docstring = '    """What it does.\n\n    More.\n    """\n'
    assert too_long(f"def f():\n{docstring}{body}") == ["f: 61 lines"]
    assert too_long(f"def f():\n{docstring}{body[10:]}") == []
    assert too_long(f"def f():\n    '''{REASON}it is one table.'''\n{body}") == []
