"""A stack that runs in another process: started in the background, stopped, looked at, its logs read."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from movierec_platform.config import STACK_ENV
from movierec_platform.errors import NoStack, ServerFailed, UsageError
from movierec_platform.local.processes import family, started_at_s
from movierec_platform.local.record import StackRecord, holder

UP_LOG = "up"
STARTED_WITHIN_S = 180.0
STOPPED_WITHIN_S = 90.0
POLL_S = 0.2
FOLLOW_S = 0.5


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """A server of the local stack; memory with all that it started."""

    name: str
    pid: int
    runs: bool
    memory_bytes: int


def start_detached(home: Path, arguments: list[str]) -> int:
    """Pid of a stack that runs in the background and is ready; what it prints is in `<home>/logs/up.log`.

    Raises UsageError if this home has one, ServerFailed with its last lines if it ends or takes too long.
    """
    if holder(home) is not None:
        raise UsageError(f"a stack is already running in {home}: `movierec status` shows it, `movierec stop` ends it")
    log = home / "logs" / f"{UP_LOG}.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "movierec_platform", "up", "--home", str(home), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + STARTED_WITHIN_S
    while not (holder(home) == child.pid and (home / STACK_ENV).is_file()):
        ended = child.poll() is not None
        if ended or time.monotonic() > deadline:
            if not ended:
                child.terminate()
                child.wait()
            how = "ended" if ended else f"was not ready after {STARTED_WITHIN_S:.0f} s"
            raise ServerFailed(f"the stack {how}; {log} has:\n{log.read_text(errors='replace')[-2_000:].strip()}")
        time.sleep(POLL_S)
    return child.pid


def stop_running(home: Path) -> int:
    """Pid of the stack that ran in this home and was stopped in order.

    Raises NoStack if there is none, ServerFailed if it does not end in time.
    """
    pid = holder(home)
    if pid is None:
        raise NoStack(f"no stack runs in {home.absolute()}")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOPPED_WITHIN_S
    while holder(home) == pid:
        if time.monotonic() > deadline:
            raise ServerFailed(f"the stack in {home} (pid {pid}) still runs after {STOPPED_WITHIN_S:.0f} s")
        time.sleep(POLL_S)
    return pid


def servers(home: Path) -> list[ServerStatus]:
    """The servers of the stack that runs in this home, the latest process of each."""
    return [_status(name, pid, created_at_s) for name, pid, created_at_s in StackRecord(home).latest()]


def log_names(home: Path) -> list[str]:
    """The servers that have a log in this home."""
    return sorted(path.stem for path in (home / "logs").glob("*.log"))


def log_lines(home: Path, name: str, last: int, follow: bool) -> Iterator[str]:
    """The last lines of a server's log, and with `follow` those that are written from then on, also after a restart.

    Raises UsageError if there is no such log.
    """
    path = home / "logs" / f"{name}.log"
    if not path.is_file():
        there = ", ".join(log_names(home)) or "none"
        raise UsageError(f"there is no log of {name!r} in {path.parent}; there are: {there}")
    file = path.open(encoding="utf-8", errors="replace")
    try:
        yield from (line.rstrip("\n") for line in file.readlines()[-last:])
        while follow:
            line = file.readline()
            if line:
                yield line.rstrip("\n")
                continue
            time.sleep(FOLLOW_S)
            if path.is_file() and path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                file.close()
                file = path.open(encoding="utf-8", errors="replace")
    finally:
        file.close()


def _status(name: str, pid: int, created_at_s: float) -> ServerStatus:
    runs = abs(started_at_s(pid) - created_at_s) < 1
    memory = 0
    for process in family(pid) if runs else ():
        try:
            memory += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return ServerStatus(name, pid, runs, memory)
