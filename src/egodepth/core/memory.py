"""Memory allocation on the CPU."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 1 << 30


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
