"""Reading and writing the networks of a run folder; pickled code is never executed."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import nn

from egodepth.core.errors import EgodepthError
from egodepth.core.files import atomic_path, reading
from egodepth.models.networks import Networks
from egodepth.models.torch_file import read_torch_file, require_finite_weights
from egodepth.runs.folder import RunFolder, RunLike
from egodepth.settings.model import ModelSettings

_PREFIX = "networks."
CHECKSUM = "sha256"
"""Name of the weights' checksum in the metadata of a file of safetensors; other programs write none."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's dictionary on the CPU; tensors and plain values only.

    Raises:
        EgodepthError: missing, truncated, not a checkpoint of egodepth, or with weights that are not finite.
    """
    if not path.exists():
        raise EgodepthError(
            f"there is no checkpoint {path}: the training (egodepth train or pretrain) ended before it wrote "
            "one, or has yet to; name another run"
        )
    content = read_torch_file(path, "a checkpoint of egodepth")
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(str(name).startswith(_PREFIX) for name in state):
        raise EgodepthError(
            f"{path} is a checkpoint of something else: it holds no egodepth networks"
        )
    require_finite_weights(state, path)
    return content


def write_weights(networks: nn.Module, path: Path) -> None:
    """Write weights as safetensors, under the names that :func:`read_run` expects."""
    state = {name: value.contiguous().cpu() for name, value in networks.state_dict().items()}
    with atomic_path(path, durable=True) as partial:
        partial.write_bytes(save(state, metadata={"format": "pt", CHECKSUM: _checksum(state)}))


def _checksum(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of all weights, in the order of their names."""
    total = sha256()
    for name in sorted(state):
        total.update(name.encode())
        total.update(state[name].reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a file of safetensors.

    Raises:
        EgodepthError: a missing or broken file, or weights that are not finite.
    """
    with reading(path, "the file of weights"):
        state = load_file(path)
        with safe_open(path, "pt") as file:
            told = (file.metadata() or {}).get(CHECKSUM)
        if told not in (None, _checksum(state)):
            raise ValueError("its weights differ from those that were written: the file is damaged")
    require_finite_weights(state, path)
    return state


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
        state = read_weights(path)
    else:
        state = {
            str(name).removeprefix(_PREFIX): value
            for name, value in read_checkpoint(path)["state_dict"].items()
            if str(name).startswith(_PREFIX)
        }
    parts = {name.split(".", 1)[0] for name in state}
    with reading(folder.config, "the file of the run's settings"):
        networks = Networks(
            settings.changed(pretrained=False),
            depth="depth" in parts,
            pose="pose" in parts,
            features="features" in parts,
            reconstructs=any(name.startswith("features.decoder.") for name in state),
        )
    _check_state(state, networks.state_dict(), path)
    with reading(path, "the file of weights"):
        networks.load_state_dict(state)
    return settings, networks.eval()


def _check_state(state: Mapping[str, Any], own: Mapping[str, torch.Tensor], path: Path) -> None:
    """Check that weights are those of the networks, and finite.

    Raises:
        EgodepthError: missing, unknown, misshapen or infinite ones.
    """
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    shared = tensors.keys() & own.keys()
    wrong = {
        "are missing": own.keys() - state.keys(),
        "belong to other networks": state.keys() - own.keys(),
        "are no tensors": state.keys() - tensors.keys(),
        "have another shape or type": {
            name
            for name in shared
            if tensors[name].shape != own[name].shape
            or tensors[name].is_floating_point() != own[name].is_floating_point()
        },
    }
    for what, names in wrong.items():
        if names:
            raise EgodepthError(
                f"{path} does not fit the networks of its config.yaml: {len(names)} weights {what}, "
                f"such as {min(names)[:80]}"
            )
    infinite = [name for name, value in tensors.items() if not value.isfinite().all()]
    if infinite:
        raise EgodepthError(
            f"{path} holds weights that are not finite, such as {infinite[0]}: the training diverged, or the "
            "file is damaged"
        )
