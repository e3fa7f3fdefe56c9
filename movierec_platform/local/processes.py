"""Processes and all that they started: found by descent and by session, ended for good. Never found by name."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence

import psutil

CLOCK_TOLERANCE_S = 2.0
"""The system derives a start time from the clock at boot, which time synchronisation moves by up to a second."""

PR_SET_CHILD_SUBREAPER = 36
"""Of prctl(2): orphans among this process's descendants become its children."""


def run_and_leave_nothing(command: Sequence[str], end_within_s: float = 10.0) -> int:
    """The exit status of the command, once whatever it started has ended too; Ctrl-C is the command's to handle.

    On Linux that includes what outlives its parents; elsewhere, what still descends from us. To be called by a process
    that has no other children: it reaps all.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    terminate = signal.signal(signal.SIGTERM, lambda *_: os.kill(child.pid, signal.SIGTERM))
    try:
        pid, status = 0, 0
        while pid != child.pid:
            pid, status = os.waitpid(-1, 0)  # an orphan that ends would stay, as a zombie, for those that wait for it
        child.returncode = os.waitstatus_to_exitcode(status)
        end(psutil.Process().children(recursive=True), end_within_s)
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, terminate)
    # As a shell tells a signal.
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def family(leader: int) -> list[psutil.Process]:
    """The process, its descendants, and whatever else lives in the session that it leads, orphans among them."""
    found: dict[int, psutil.Process] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(leader)
        found = {one.pid: one for one in [process, *process.children(recursive=True)]}
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader:
                found[process.pid] = process
    return list(found.values())


def family_started_at(leader: int, created_at_s: float) -> list[psutil.Process]:
    """`family`, if the leader was started then (epoch seconds); empty if its pid belongs to another process now."""
    if psutil.boot_time() > created_at_s + CLOCK_TOLERANCE_S:
        return []
    with contextlib.suppress(psutil.NoSuchProcess):
        if abs(psutil.Process(leader).create_time() - created_at_s) > CLOCK_TOLERANCE_S:
            return []
    # A leader that is gone: no new process gets its pid while others live in its session.
    return [one for one in family(leader) if started_at_s(one.pid) >= created_at_s - CLOCK_TOLERANCE_S]


def listening_ports(processes: Iterable[psutil.Process]) -> set[int]:
    """The TCP ports that they listen on."""
    found: set[int] = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            connections = process.net_connections("tcp")
            found |= {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
    return found


def end(processes: Iterable[psutil.Process], within_s: float) -> None:
    """None of them is left: asked to terminate, and killed if still there after that time."""
    left = list(processes)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(left, timeout=within_s)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=5)


def started_at_s(pid: int) -> float:
    """When the process was started (epoch seconds); 0 if it is gone."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0
