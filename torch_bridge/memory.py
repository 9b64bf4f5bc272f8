"""Memory that a training process frees stays with it.

glibc returns large blocks to the system as soon as they are freed, so every training step on a CPU fetches its
activations anew, page by page: 20,000 page faults a step for the smallest student, a third of its time.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # names and numbers of malloc.h
_LARGEST_HEAP_BLOCK = 2**30
_NEVER_TRIM = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed for the next allocation; call it once, before the first large tensor.

    Returns whether the library took the setting; False on systems without glibc, whose allocators do not need it.
    The peak of the process does not change, its memory only stays at the peak.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    taken = [library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK), library.mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)]
    return taken == [1, 1]
