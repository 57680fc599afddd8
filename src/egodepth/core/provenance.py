"""Where a result comes from: date, version, commit and machine."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def provenance() -> dict[str, str | int]:
    """The day (UTC), versions of egodepth, PyTorch and Python, the commit of a source checkout, the machine."""
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
    """That of the checkout whose ``src`` the package's file lies in. A wheel may lie inside another project's
    repository, whose commit says nothing of it."""
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
    # Inside a hook of another repository, git's own variables would lead there.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        capture_output=True, text=True, timeout=5, check=True, env=clean,
    )  # fmt: skip
    return done.stdout.strip()
