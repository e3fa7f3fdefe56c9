"""Finds the processes of one stack, by what its home says and by descent, and kills them. Nothing by name."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from movierec_platform.local.processes import family
from movierec_tests.terminal import Terminal, until

SERVERS = ("aws", "graph", "stream", "batch", "dagster", "daemon", "api", "metrics")
WORKERS = {"api worker": "api", "gate run": "raw", "ingest run": "clean", "quarantine run": "dlq"}
"""The API's worker, and of each drain run the queue whose lease it holds."""
EVERYTHING = "everything"
POLL_S = 0.05
WATCH_S = 0.25


class Processes:
    """Every process that a stack was ever made of; looks for new ones in a thread until it is stopped."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._leaders: set[int] = set()
        self._seen: set[psutil.Process] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="processes")
        self._thread.start()

    def leader(self, server: str) -> int | None:
        """The pid of this server as the home's record has it."""
        return dict(_recorded(self._terminal.home)).get(server)

    def worker(self, kind: str) -> psutil.Process | None:
        """The one process of this kind that is at work now."""
        if kind == "api worker":
            parent = self.leader("api")
            found = [one for one in family(parent) if one.pid != parent and _works(one)] if parent else []
            return found[0] if found else None
        lease = str(self._terminal.home / "leases" / f"{WORKERS[kind]}-0")
        streams = {pid for name, pid in _recorded(self._terminal.home) if name == "stream"}
        for process in {one for pid in streams for one in family(pid) if one.pid not in streams}:
            with contextlib.suppress(psutil.Error):
                if any(file.path == lease for file in process.open_files()):
                    return process
        return None

    def find(self, kind: str) -> psutil.Process | None:
        """The process of this kind: a server, or one of WORKERS."""
        if kind in WORKERS:
            return self.worker(kind)
        pid = self.leader(kind)
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(pid) if pid else None
        return None

    def alive(self) -> list[psutil.Process]:
        """Those that were ever seen and still run."""
        return [one for one in list(self._seen) if _runs(one)]

    def stop(self) -> None:
        """Looks no more."""
        self._stopping.set()
        self._thread.join()

    def look(self) -> None:
        """What runs now is among those that were seen."""
        up = self._terminal.up
        with contextlib.suppress(psutil.NoSuchProcess):
            if up is not None and up.poll() is None:
                process = psutil.Process(up.pid)
                self._seen |= {process, *process.children(recursive=True)}
        self._leaders |= {pid for _, pid in _recorded(self._terminal.home)}
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(process.pid) in self._leaders:  # each server leads a session
                    self._seen.add(process)

    def _watch(self) -> None:
        while not self._stopping.wait(WATCH_S):
            self.look()


@dataclass(frozen=True, slots=True)
class Recovery:
    """What one kill did. The standstill is the longest time in which no event became visible in the graph."""

    killed: str
    replaced_s: float
    """Until another process was in its place."""
    flows_s: float
    """Until, after that, a request was acknowledged and an event ingested."""
    standstill_s: float


def kill(kind: str, processes: Processes, acknowledged: Callable[[], float], ingested: Callable[[], float]) -> Recovery:
    """Kills the process of this kind; what became of it, once another does its work and events flow again."""
    victim = until(lambda: processes.find(kind), f"a {kind} to kill")
    began_s = time.monotonic()
    victim.kill()
    return _recovered(
        kind, began_s, lambda: (now := processes.find(kind)) is not None and now != victim, acknowledged, ingested
    )


def kill_everything(
    terminal: Terminal, moved: Callable[[str], None], acknowledged: Callable[[], float], ingested: Callable[[], float]
) -> Recovery:
    """As `kill`, for `movierec up` with all that it runs, which is then started again; `moved` hears of the new API."""
    began_s = time.monotonic()
    terminal.kill_everything()
    terminal.start()
    moved(terminal.settings.api_url)
    return _recovered(EVERYTHING, began_s, lambda: True, acknowledged, ingested)


def _recovered(
    kind: str,
    began_s: float,
    replaced: Callable[[], bool],
    acknowledged: Callable[[], float],
    ingested: Callable[[], float],
) -> Recovery:
    standstill = _Standstill(began_s, ingested)
    until(lambda: standstill.look() and replaced(), f"{kind} in its place again", poll_s=POLL_S)
    replaced_s = time.monotonic() - began_s
    posted, visible = acknowledged(), ingested()
    until(
        lambda: standstill.look() and acknowledged() > posted and ingested() > visible,
        f"events after the end of {kind}",
        poll_s=POLL_S,
    )
    return Recovery(kind, replaced_s, time.monotonic() - began_s, standstill.longest_s)


class _Standstill:
    """The longest time between two looks at which more events were in the graph than before."""

    def __init__(self, began_s: float, ingested: Callable[[], float]) -> None:
        self.longest_s = 0.0
        self._moved_s = began_s
        self._ingested = ingested
        self._last = ingested()

    def look(self) -> bool:
        """Always true."""
        now, now_s = self._ingested(), time.monotonic()
        self.longest_s = max(self.longest_s, now_s - self._moved_s)
        if now > self._last:
            self._last, self._moved_s = now, now_s
        return True


def _recorded(home: Path) -> list[tuple[str, int]]:
    """(server, pid) of all that were started by the stack that runs, or ran last; the latest last."""
    try:
        servers = json.loads((home / "stack.json").read_text(encoding="utf-8"))["servers"]
    except FileNotFoundError:
        return []
    return [(server["name"], server["pid"]) for server in servers]


def _works(process: psutil.Process) -> bool:
    """Whether multiprocessing made it to do work, not to track resources, and it is not dead yet."""
    with contextlib.suppress(psutil.Error):
        return _runs(process) and "resource_tracker" not in " ".join(process.cmdline())
    return False


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
