"""The C library's allocator, set for tensors that come and go."""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt (malloc.h)


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 32 MiB for the next tensor, in place of handing them back to the system.

    By default it maps large blocks anew each time, and a training step on the CPU then spends a fifth of its time on
    page faults. Other C libraries have no such setting, and are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, 32 * 2**20)
        mallopt(TRIM_THRESHOLD, 2**30)
