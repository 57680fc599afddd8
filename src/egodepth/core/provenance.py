"""Provenance of a result: date, versions, commit and machine."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def provenance() -> dict[str, str | int]:
    """The date (UTC), the versions of egodepth, PyTorch and Python, the commit of a source checkout, and the
    machine."""
    try:
        installed = version("egodepth")
    except PackageNotFoundError:
        installed = "unknown"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "egodepth": installed,
        "commit": _commit(),
        "torch": version("torch"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 0,
    }


def _commit(file: Path = Path(__file__)) -> str:
    """Commit of the checkout whose ``src`` contains the package; not that of another project's repository that
    a wheel happens to be installed in."""
    *_, source, root = file.resolve().parents[:4]
    try:
        _git(root, "ls-files", "--error-unmatch", str(file.resolve()))
        is_ours = source.name == "src" and Path(_git(root, "rev-parse", "--show-toplevel")) == root
        return (
            _git(root, "describe", "--always", "--dirty", "--abbrev=12") if is_ours else "unknown"
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(folder: Path, *words: str) -> str:
    # Inside a hook of another repository, git's environment variables would point there.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        capture_output=True, text=True, timeout=5, check=True, env=clean,
    )  # fmt: skip
    return done.stdout.strip()
