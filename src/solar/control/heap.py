"""The C library's heap under this process."""

from __future__ import annotations

import ctypes
import os

KEPT = 16 * 1024 * 1024  # bytes: as much may lie idle at the heap's end; what is larger is borrowed apart

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as malloc.h of glibc numbers them


def keep_what_is_freed() -> None:
    """Let the bodies of one request leave their memory to the next.

    glibc gives some of it back to the kernel after each, and takes it anew, page by page: half the cost of a body of
    1 MB. Other C libraries are left as they are.
    """
    if "CS_GNU_LIBC_VERSION" in os.confstr_names:
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, KEPT)
        libc.mallopt(_MMAP_THRESHOLD, KEPT)
