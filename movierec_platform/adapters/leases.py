"""Leases between drain runs: what one offers, and the lease on one host, a kernel file lock.

The kernel releases the lock when its holder dies. The file says who took the lease last, and when it was given back;
its time of change says when there was work last. Across hosts: `postgres_leases`.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from movierec_platform.adapters.queues import QueueName
from movierec_platform.config import Settings
from movierec_platform.domain.drains import FREE, LeaseView
from movierec_platform.errors import LeaseHeld, LeaseLost

POLL_S = 0.05


class Lease(Protocol):
    """The lease of one drain slot: at most one holder, and none once the holder's process is dead."""

    def held(self, owner: str, timeout_s: float) -> AbstractContextManager[None]:
        """The lease is held by this owner (a run id) meanwhile. LeaseHeld when another kept it for `timeout_s`."""

    def is_wanted(self) -> bool:
        """Whether another waits for the lease, as far as it can be told."""

    def note_work(self) -> None:
        """The holder had work just now. LeaseLost if it holds the lease no more: then it must not go on."""

    def view(self) -> LeaseView:
        """Who holds the lease, else who gave it back or lost it last; FREE before the first. Disturbs no holder."""


class FileLease:
    """A lease between the processes of one host."""

    def __init__(self, folder: Path, queue: str, slot: int) -> None:
        self._path = folder / f"{queue}-{slot}"
        self._file: int | None = None

    @contextmanager
    def held(self, owner: str, timeout_s: float) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _locked(file):
                self._wait(file, timeout_s)
            _write(file, owner)
            self._file = file
            try:
                yield
            finally:
                self._file = None
                last_work_ns = os.fstat(file).st_mtime_ns
                _write(file, f"{owner}\n{time.time()}")
                os.utime(file, ns=(last_work_ns, last_work_ns))
        finally:
            os.close(file)

    def is_wanted(self) -> bool:
        with self._wish() as wish:
            return not _locked(wish.fileno())

    def note_work(self) -> None:
        # A file that was removed or replaced is locked by us and yet free for everybody else.
        if self._file is None or not _is_at(self._path, self._file):
            raise LeaseLost(f"lease {self._path.name} is not held any more: its file was removed, or it was given back")
        os.utime(self._file)

    def _wait(self, file: int, timeout_s: float) -> None:
        """The lock is taken. Meanwhile a shared lock on another file tells the holder that somebody waits."""
        deadline = time.monotonic() + timeout_s
        with self._wish() as wish:
            fcntl.flock(wish, fcntl.LOCK_SH)
            while not _locked(file):
                if time.monotonic() >= deadline:
                    raise LeaseHeld(f"lease {self._path.name} was held by another run for {timeout_s:g} s")
                time.sleep(POLL_S)

    def _wish(self) -> BinaryIO:
        return self._path.with_suffix(".wanted").open("ab")

    def view(self) -> LeaseView:
        try:
            file = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            return FREE
        try:
            # A shared lock: two that look at the same time do not take each other for a holder.
            free = _locked(file, fcntl.LOCK_SH)
            owner, _, released_at = os.pread(file, 256, 0).decode().partition("\n")
            last_work_s = os.fstat(file).st_mtime
        finally:
            os.close(file)
        if not free:
            return LeaseView(owner, last_work_s)
        if not released_at:
            return LeaseView(None, last_work_s, lost_by=owner or None)
        return LeaseView(None, last_work_s, released_by=owner, released_at_s=float(released_at))


def slots_of(settings: Settings, queue: QueueName) -> int:
    """How many drain runs of this queue go side by side: the graph has one writer, and so has the quarantine."""
    return settings.gate_slots if queue == "raw" else 1


def open_lease(settings: Settings, queue: str, slot: int) -> Lease:
    """Among all hosts that share a Postgres for the state, else among this host's processes."""
    if settings.state_database_url.startswith("postgresql"):
        from movierec_platform.adapters.postgres_leases import PostgresLease

        return PostgresLease(settings.state_database_url, queue, slot)
    return FileLease(settings.home / "leases", queue, slot)


def _locked(file: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _write(file: int, text: str) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, text.encode(), 0)
