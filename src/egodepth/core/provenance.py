"""What a result came from: version, commit, machine."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def provenance() -> dict[str, str | int]:
    """Versions of egodepth and PyTorch, the commit of a source checkout, Python and the machine."""
    try:
        installed = version("egodepth")
    except PackageNotFoundError:
        installed = "unknown"
    return {
        "egodepth": installed,
        "commit": _commit(),
        "torch": version("torch"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 0,
    }


def _commit() -> str:
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
