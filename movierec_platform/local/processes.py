"""Processes and all that they started: found by descent and by session, ended for good. Never found by name."""

import contextlib
import os
from collections.abc import Iterable

import psutil

CLOCK_TOLERANCE_S = 2.0
"""The system derives a start time from the clock at boot, which time synchronisation moves by up to a second."""


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
