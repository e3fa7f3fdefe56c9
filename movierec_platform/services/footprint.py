"""What this process has used, for the metadata of heavy steps."""

import resource
import sys
from pathlib import Path


def peak_memory_bytes() -> int:
    """Resident memory of this process at its highest so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage there: what it says of a child begins with what its parent had.
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
