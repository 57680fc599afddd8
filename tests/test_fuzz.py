"""A fast part of the fuzz of ``make fuzz``, and that its valid inputs are valid."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.fuzz.inputs import KINDS

ROOT = Path(__file__).parents[1]


def test_broken_inputs_of_every_reader_end_in_one_line() -> None:
    words = [sys.executable, "-m", "tests.fuzz", "--count", "100"]
    found = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "'fine'" in found.stdout


@pytest.mark.parametrize("name", [name for name in KINDS if name != "published"])
def test_the_inputs_that_it_breaks_are_read_without_a_word(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "valid" / "input"
    folder.mkdir(parents=True)
    KINDS[name].make(folder)
    KINDS[name].read(folder)
