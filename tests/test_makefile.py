"""The Makefile, and so the CI, keep what they make."""

import os
import subprocess
from pathlib import Path


def test_bytecode_is_kept() -> None:
    """Containers often forbid it, and then every process compiles all of PyTorch."""
    rule = "probe:; @printenv PYTHONDONTWRITEBYTECODE || echo unset"
    command = ["make", "--no-print-directory", "--eval", rule, "probe"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "unset\n"
