"""Silencing the terminal output of other packages."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CHATTY = ("lightning.pytorch", "lightning.fabric", "torch.utils.cpp_extension", "nncf")
"""Loggers that print tips, a missing CUDA runtime, and progress."""


def quiet_loggers() -> None:
    """Let the loggers in CHATTY show errors only."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def quiet_writers() -> Iterator[None]:
    """Hide the traces of I/O errors in threads inside the ``with`` block: TensorBoard's writer raises its error
    once more where it is used."""
    before = threading.excepthook

    def show(found: threading.ExceptHookArgs) -> None:
        if not isinstance(found.exc_value, OSError):
            before(found)

    threading.excepthook = show
    try:
        yield
    finally:
        threading.excepthook = before


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Hide the progress bars of the Hugging Face hub inside the ``with`` block."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()
