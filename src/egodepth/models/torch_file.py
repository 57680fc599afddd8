"""Reading files saved by PyTorch, without executing pickled code."""

import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch

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


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, UnpicklingError) and "GLOBAL" in str(error):
        return "it holds Python objects, which are not loaded; save the state_dict alone"
    return "PyTorch did not write it, or it is damaged"
