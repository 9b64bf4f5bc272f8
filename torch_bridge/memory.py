"""Memory that a training process frees stays with it.

glibc returns large blocks to the system as soon as they are freed, so every training step on a CPU fetches its
activations anew, page by page: 20,000 page faults a step for the smallest student, a third of its time. Heaps that it
gives to other threads hold no more than 64 MiB, and XLA computes in such threads: 28,000 page faults a step of the
dynamics at `laptop`'s sizes.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # names and numbers of malloc.h
_LARGEST_HEAP_BLOCK = 2**30
_NEVER_TRIM = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed for the next allocation, of all threads in one heap.

    Call it once, before the first large tensor and before JAX has started its threads, which keep the heaps they have.

    Returns whether the library took the setting; False on systems without glibc, whose allocators do not need it.
    The peak of the process does not change, its memory only stays at the peak.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = {_M_MMAP_THRESHOLD: _LARGEST_HEAP_BLOCK, _M_TRIM_THRESHOLD: _NEVER_TRIM, _M_ARENA_MAX: 1}
    taken = [library.mallopt(name, value) for name, value in settings.items()]
    return taken == [1, 1, 1]
