"""Other packages kept from writing to the terminal."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

CHATTY = ("lightning.pytorch", "lightning.fabric", "torch.utils.cpp_extension", "nncf")
"""Loggers that tell users of tips, of a missing CUDA runtime and of progress."""


def quiet_loggers() -> None:
    """Let these loggers tell errors alone."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def quiet_hub() -> Iterator[None]:
    """No bars of the Hugging Face hub within."""
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
