"""How a CPU run asks the C library for memory.

A step allocates and frees arrays of tens of megabytes. By default glibc maps each anew and gives it back, and the
kernel clears every page again: a fifth of the time of a large step. Kept, and in huge pages, they cost little (measured
in docs/benchmarks.md). The settings are read when a process starts, so the command starts itself again with them.
"""

import glob
import os
import sys

TUNABLES = ":".join(
    (
        "glibc.malloc.hugetlb=1",
        "glibc.malloc.mmap_max=0",
        "glibc.malloc.trim_threshold=100000000000",
        "glibc.malloc.top_pad=268435456",
    )
)
ACCELERATORS = ("/dev/accel*", "/dev/vfio/[0-9]*", "/dev/nvidia[0-9]*", "/dev/kfd")


def wanted() -> bool:
    """Whether this process would train on a CPU under glibc, and nobody has set the C library up already."""
    if not sys.platform.startswith("linux") or "GLIBC_TUNABLES" in os.environ:
        return False
    platforms = os.environ.get("JAX_PLATFORMS", "")
    return platforms == "cpu" or (not platforms and not any(glob.glob(pattern) for pattern in ACCELERATORS))


def restart() -> None:
    """Starts this very command again with `TUNABLES`, in the same process; returns at once where they aren't wanted."""
    if wanted():
        environment = {**os.environ, "GLIBC_TUNABLES": TUNABLES}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
