"""Reading and writing the networks of a run folder; pickled code is never executed."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from egodepth.core.errors import EgodepthError
from egodepth.core.files import atomic_path
from egodepth.models.networks import Networks
from egodepth.models.torch_file import read_torch_file
from egodepth.runs.folder import RunFolder, RunLike
from egodepth.settings.model import ModelSettings

_PREFIX = "networks."


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's dictionary on the CPU; tensors and plain values only.

    Raises:
        EgodepthError: missing, truncated, or not a checkpoint of egodepth.
    """
    if not path.exists():
        raise EgodepthError(
            f"there is no checkpoint {path}; name a run folder made by egodepth train"
        )
    content = read_torch_file(path, "a checkpoint of egodepth")
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(str(name).startswith(_PREFIX) for name in state):
        raise EgodepthError(
            f"{path} is a checkpoint of something else: it holds no egodepth networks"
        )
    return content


def write_weights(networks: nn.Module, path: Path) -> None:
    """Write weights as safetensors, under the names that :func:`read_run` expects."""
    state = {name: value.contiguous().cpu() for name, value in networks.state_dict().items()}
    with atomic_path(path) as partial:
        save_file(state, partial, metadata={"format": "pt"})


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise EgodepthError(f"{path} is broken: {error}") from error


def networks_checkpoint(networks: Networks) -> dict[str, Any]:
    """Make a checkpoint with networks alone; no training can be resumed from it."""
    return {"state_dict": {_PREFIX + name: v for name, v in networks.state_dict().items()}}


def read_run(run: RunLike) -> tuple[ModelSettings, Networks]:
    """Read the networks of a run folder, in evaluation mode on the CPU, and their settings.

    Raises:
        EgodepthError: no run folder, weights that do not fit the settings, or as :func:`read_checkpoint`.
    """
    folder = RunFolder.at(run)
    settings = folder.section(ModelSettings, "model")
    path = folder.checkpoint
    if not path.exists() and folder.weights.exists():
        path = folder.weights
        state = _read_weights(path)
    else:
        state = {
            name.removeprefix(_PREFIX): value
            for name, value in read_checkpoint(path)["state_dict"].items()
            if name.startswith(_PREFIX)
        }
    parts = {name.split(".", 1)[0] for name in state}
    networks = Networks(
        settings.changed(pretrained=False),
        depth="depth" in parts,
        pose="pose" in parts,
        features="features" in parts,
        reconstructs=any(name.startswith("features.decoder.") for name in state),
    )
    try:
        networks.load_state_dict(state)
    except RuntimeError as error:
        raise EgodepthError(
            f"{path} does not fit the networks of its {folder.config.name}: "
            f"{str(error).splitlines()[1].strip()}"
        ) from error
    return settings, networks.eval()
