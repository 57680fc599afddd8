"""Memory allocation on the CPU, and lack of it."""

import ctypes
import mmap
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 1 << 30
_LACK_OF_MEMORY = (
    "out of memory", "allocate memory", "memory allocation", "insufficient memory", "bad_alloc",
    "failed to map segment", "can't start new thread",
)  # fmt: skip
"""Texts by which libraries report it, in errors of many types, in lower case."""


def keep_large_allocations() -> bool:
    """Let glibc reuse large blocks instead of mapping fresh zeroed pages for every tensor.

    A training step on the CPU allocates hundreds of tensors of several MB; without this, a third of
    its time is spent on page faults. Applies to the whole process. Returns whether it took effect:
    it does nothing with other C libraries.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL("libc.so.6")
    return bool(
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    )


def require_memory(size: int) -> None:
    """Check that a library, which would crash without it, can get some memory now.

    Raises:
        MemoryError: there is not as much left, as under ``ulimit -v``.
    """
    try:
        mmap.mmap(-1, size).close()
    except OSError as error:
        raise MemoryError(str(error)) from error


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, came from lack of memory."""
    while error is not None:
        text = str(error).lower()
        if isinstance(error, MemoryError) or any(each in text for each in _LACK_OF_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False
