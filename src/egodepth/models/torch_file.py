"""Reading files saved by PyTorch, without executing pickled code."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from torch import Tensor

from egodepth.core.errors import EgodepthError
from egodepth.core.files import require_regular
from egodepth.core.suggestions import similar_path


def read_torch_file(path: Path, description: str) -> Any:
    """Read a file written by ``torch.save`` on the CPU; tensors and plain values only.

    Args:
        path: the file.
        description: what the file should be, for the error, such as "a checkpoint of egodepth".

    Raises:
        EgodepthError: no such file, or not a PyTorch file, damaged, or with Python objects in it.
    """
    require_regular(path, "the file")
    try:
        with warnings.catch_warnings():  # PyTorch warns of old pickle protocols
            warnings.simplefilter("ignore")
            _check_sums(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise EgodepthError(f"there is no file {path}{similar_path(path, Path.is_file)}") from error
    except Exception as error:  # the unpickler may raise anything on bytes that are not a pickle
        raise EgodepthError(f"{path} is not {description}: {_reason(path, error)}") from error


def _check_sums(path: Path) -> None:
    """Compare the parts of an archive with their checksums, which PyTorch does not.

    Raises:
        BadZipFile: a part was changed.
    """
    if is_zipfile(path):
        with ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise BadZipFile(damaged)


def not_finite(state: Mapping[str, Any]) -> list[str]:
    """Names of the weights that are not all finite numbers; entries that are no tensors are skipped."""
    return [
        name
        for name, value in state.items()
        if isinstance(value, Tensor) and not bool(value.isfinite().all())
    ]


def require_finite_weights(state: Mapping[str, Any], where: object) -> None:
    """Check that all weights are finite numbers.

    Args:
        state: weights by name; entries that are no tensors are skipped.
        where: what they belong to, for the message.

    Raises:
        EgodepthError: some are not.
    """
    wrong = not_finite(state)
    if wrong:
        raise EgodepthError(
            f"{where} holds weights that are not finite, {wrong[0]} for one ({len(wrong)} of {len(state)} "
            "entries): its training diverged, or it is damaged; train it again with a lower --learning_rate"
        )


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, UnpicklingError) and "GLOBAL" in str(error):
        return "it holds Python objects, which are not loaded; save the state_dict alone"
    return "PyTorch did not write it, or it is damaged"
