"""Space on the disks of this machine."""

import shutil
from pathlib import Path

MIB = 1024 * 1024


def free_bytes(folder: Path) -> int:
    """What may still be written on the disk of this folder, which need not be there yet."""
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.is_dir())
    return shutil.disk_usage(there).free
