"""Leases between drain runs on one host: a kernel file lock, which the kernel releases when its holder dies.

The file says who took the lease last, and when it was given back; its time of change says when there was work last.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from movierec_platform.domain.drains import FREE, LeaseView
from movierec_platform.errors import LeaseHeld

POLL_S = 0.05


class Lease:
    """The lease of one drain slot."""

    def __init__(self, folder: Path, queue: str, slot: int) -> None:
        self._path = folder / f"{queue}-{slot}"

    @contextmanager
    def held(self, owner: str, timeout_s: float) -> Iterator[None]:
        """The lease is held by this owner (a run id) meanwhile. LeaseHeld when another kept it for `timeout_s`."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + timeout_s
            while not _locked(file):
                if time.monotonic() >= deadline:
                    raise LeaseHeld(f"lease {self._path.name} was held by another run for {timeout_s:g} s")
                time.sleep(POLL_S)
            _write(file, owner)
            try:
                yield
            finally:
                last_work_ns = os.fstat(file).st_mtime_ns
                _write(file, f"{owner}\n{time.time()}")
                os.utime(file, ns=(last_work_ns, last_work_ns))
        finally:
            os.close(file)

    def note_work(self) -> None:
        """The holder had work just now."""
        os.utime(self._path)

    def view(self) -> LeaseView:
        """Who holds the lease, else who gave it back last; FREE before the first."""
        try:
            file = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            return FREE
        try:
            free = _locked(file)
            owner, _, released_at = os.pread(file, 256, 0).decode().partition("\n")
            last_work_s = os.fstat(file).st_mtime
        finally:
            os.close(file)
        if not free:
            return LeaseView(owner, last_work_s)
        if not released_at:
            return LeaseView(None, last_work_s)
        return LeaseView(None, last_work_s, released_by=owner, released_at_s=float(released_at))


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(file: int, text: str) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, text.encode(), 0)
