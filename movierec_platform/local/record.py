"""What a home remembers of its stack: that one runs now (a lock), what it started, which graph is the newest, and
whether it ended cleanly."""

import fcntl
import json
import logging
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from movierec_platform.errors import UsageError
from movierec_platform.local.processes import end, family_started_at, started_at_s

ORPHANS_WITHIN_S = 10.0
LOCK_ATTEMPTS = 10
LOCK_POLL_S = 0.05
RECORD = "stack.json"

_log = logging.getLogger(__name__)


class HomeLock:
    """Held by the one stack of this home; the kernel frees it however the holder ends."""

    def __init__(self, home: Path) -> None:
        """Raises UsageError, with the holder's pid, if another process has it."""
        self._file = (home / "stack.lock").open("a+", encoding="utf-8")
        if not self._is_taken():
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise UsageError(
                f"a stack is already running in {home} (pid {holder}): use it, stop it with `movierec stop`, "
                "or give this one another MOVIEREC_HOME"
            )
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def _is_taken(self) -> bool:
        """Whether it is ours now. A command that looks whether a stack runs has it for a moment, no longer."""
        for _ in range(LOCK_ATTEMPTS):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(LOCK_POLL_S)
            else:
                return True
        return False

    def release(self) -> None:
        self._file.close()

    def __enter__(self) -> "HomeLock":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


def holder(home: Path) -> int | None:
    """Pid of the process whose stack runs in this home; None if none runs."""
    try:
        with (home / "stack.lock").open(encoding="utf-8") as file:
            try:
                # Shared, so that two that look at the same time do not take each other for a stack.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read().strip() or 0) or None
    except (FileNotFoundError, NotADirectoryError):
        pass
    return None


def is_running(home: Path) -> bool:
    """Whether this home has a running stack."""
    return holder(home) is not None


def has_run(home: Path) -> bool:
    """Whether this home ever had a stack."""
    return (home / RECORD).is_file()


class StackRecord:
    """`stack.json`: processes by pid and start time, and whether the queues were saved. Only for who holds the lock."""

    def __init__(self, home: Path) -> None:
        self._path = home / RECORD
        self._lock = threading.Lock()
        try:
            self._content: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            self._content = {}

    @property
    def clean(self) -> bool | None:
        """Whether the last stack was stopped in order; None if nothing is known of one."""
        return self._content.get("clean")

    @property
    def graph(self) -> str | None:
        """The graph that has all that was written; None if nothing is known of a stack."""
        return self._content.get("graph", "embedded") if self._content else None

    def latest(self) -> list[tuple[str, int, float]]:
        """(name, pid, start time) of the latest process of each server."""
        servers = {one["name"]: one for one in self._content.get("servers", [])}
        return [(name, one["pid"], one["created_at_s"]) for name, one in servers.items()]

    def end_orphans(self, within_s: float = ORPHANS_WITHIN_S) -> int:
        """Nothing that the recorded stack started is left; how many processes were ended, killed after that time."""
        ended: set[psutil.Process] = set()
        # A code server that is asked to end may start one run more, which would keep its lease from the new stack's.
        while orphans := self._left() - ended:
            end(orphans, within_s)
            ended |= orphans
        return len(ended)

    def _left(self) -> set[psutil.Process]:
        """Every process of the recorded stack that lives."""
        servers = self._content.get("servers", [])
        return {one for server in servers for one in family_started_at(server["pid"], server["created_at_s"])}

    def begin(self, graph: str) -> None:
        """From now on an end without `finish` is an unclean one; this graph has all that was written so far."""
        self._write({"clean": False, "pid": os.getpid(), "servers": [], "graph": graph})

    def now_runs(self, graph: str) -> None:
        """This graph has all that was written, and what is written from now on."""
        with self._lock:
            self._write({**self._content, "graph": graph})

    def add(self, name: str, pid: int) -> None:
        """This server's process was started."""
        server = {"name": name, "pid": pid, "created_at_s": started_at_s(pid)}
        with self._lock:
            servers = [*self._content["servers"], server]
            self._write({**self._content, "servers": servers})

    def finish(self, clean: bool) -> None:
        """Nothing runs any more; `clean`: and nothing has to be replayed. A disk that refuses it leaves it unclean."""
        try:
            self._write({"clean": clean, "servers": [], "graph": self.graph})
        except OSError as error:
            _log.warning("the next start replays what may not be through: %s cannot be written: %s", self._path, error)

    def _write(self, content: dict[str, Any]) -> None:
        self._content = content
        fresh = self._path.with_suffix(".json.new")
        fresh.write_text(json.dumps(content), encoding="utf-8")
        fresh.replace(self._path)
