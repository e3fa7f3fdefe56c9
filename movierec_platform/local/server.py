"""One server of the local stack: a child process that is started, waited for, and stopped with all that it started."""

import abc
import contextlib
import http.client
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil

from movierec_platform.errors import ServerFailed
from movierec_platform.local.ports import LOOPBACK, Ports, is_free
from movierec_platform.local.processes import end, family_started_at, listening_ports, started_at_s

PORT_ATTEMPTS = 3
POLL_S = 0.05
LAST_LINES = 15


@dataclass(frozen=True)
class Command:
    """What runs: arguments (never a secret: every user of the machine sees them), whole environment, working folder."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path | None = None


class Server(abc.ABC):
    """A child process in a session of its own. It writes to `<home>/logs/<name>.log`; the log before is kept as .1."""

    name: ClassVar[str]
    ready_within_s: ClassVar[float] = 60.0
    stop_within_s: ClassVar[float] = 15.0
    descendants_within_s: ClassVar[float] = 5.0
    descendants_outlive_it: ClassVar[bool] = False
    """Whether what it started goes on when it is killed and started again."""

    def __init__(
        self,
        home: Path,
        wanted_port: int,
        ports: Ports | None = None,
        host: str = LOOPBACK,
        on_spawn: Callable[["Server"], None] = lambda server: None,
    ) -> None:
        """`wanted_port` moves to the next free one if it is busy, 0 is any; `on_spawn` hears of each child started."""
        self.home = home.absolute()
        self.wanted_port = wanted_port
        self.host = host
        self.port = 0
        self.seconds_to_ready = 0.0
        self._ports = ports or Ports()
        self._on_spawn = on_spawn
        self._process: subprocess.Popen[bytes] | None = None
        self._spawned: list[tuple[int, float]] = []
        """(pid, start time) of every child so far: what one has started may outlive it."""

    @property
    def was_started(self) -> bool:
        return self._process is not None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def ports(self) -> set[int]:
        """Those that it listens on; none before they are reserved."""
        return {self.port} if self.port else set()

    def reserve_port(self) -> None:
        """`port` is known before `start`; it may move once more, if somebody takes it until then."""
        self.port = self._ports.take(self.wanted_port, self.host)

    @abc.abstractmethod
    def command(self) -> Command:
        """What to run so that it listens on `self.port`; makes the files and folders that it needs."""

    @abc.abstractmethod
    def is_ready(self) -> bool:
        """Whether it does its work now; False while it does not answer. Another's answer on its port does not count."""

    @property
    def log(self) -> Path:
        return self.home / "logs" / f"{self.name}.log"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The child. Raises ServerFailed before `start`."""
        if self._process is None:
            raise ServerFailed(f"{self.name} was not started")
        return self._process

    def start(self) -> None:
        """It is ready. Raises ServerFailed, with the last lines of its log, if it died or took too long."""
        begin = time.monotonic()
        for _ in range(PORT_ATTEMPTS):
            if not self.port:
                self.reserve_port()
            self._spawn()
            if self._becomes_ready(time.monotonic() + self.ready_within_s):
                self.seconds_to_ready = time.monotonic() - begin
                return
            alive = self.process.poll() is None
            failure = self.obituary() if not alive else f"{self.name} is not ready after {self.ready_within_s:.0f} s"
            ports = self.ports
            self.stop()
            if all(is_free(port, self.host) for port in ports):
                break
            self.port = 0  # somebody took it between our look and its bind
        raise ServerFailed(f"{failure}\n{self.last_lines()}")

    def restart(self) -> None:
        """It is ready again after its child has died, on the port that others know. Raises ServerFailed as `start`."""
        if not self.descendants_outlive_it:
            end(self._members(), self.descendants_within_s)
        port = self.port
        self.start()
        if self.port != port:
            self.stop()
            raise ServerFailed(f"somebody else listens on port {port} of {self.name} now")

    def stop(self) -> bool:
        """Nothing of it is left; whether it was running and ended by itself when it was asked to."""
        for port in self.ports:
            self._ports.give_back(port)
        if self._process is None:
            return False
        members = self._members()
        was_running = self._process.poll() is None
        ended = False
        if was_running:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                ended = self._process.wait(self.stop_within_s) != -9
        if not ended and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        # Its descendants were started by it alone: what did not end with it would never end.
        end(members | self._members(), self.descendants_within_s)
        return was_running and ended

    def watch(self, on_death: Callable[["Server"], None]) -> None:
        """`on_death` is called, in a thread, once the child has ended for whatever reason."""

        def wait() -> None:
            self.process.wait()
            on_death(self)

        threading.Thread(target=wait, name=f"watch {self.name}", daemon=True).start()

    def obituary(self) -> str:
        """One sentence on how it ended."""
        code = self.process.poll()
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        return f"{self.name} (pid {self.process.pid}) {how}; its log is {self.log}"

    def last_lines(self) -> str:
        """The end of its log."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(f"  {self.name}| {line}" for line in lines[-LAST_LINES:])

    def _members(self) -> set[psutil.Process]:
        """Every process of this child and of those before it."""
        return {member for pid, at_s in self._spawned for member in family_started_at(pid, at_s)}

    def _has_its_ports(self) -> bool:
        """Whether it is this child that listens there, and nobody who bound a port before it could."""
        return self.ports <= listening_ports(family_started_at(*self._spawned[-1]))

    def _spawn(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        command = self.command()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                list(command.arguments),
                env=dict(command.environment),
                cwd=command.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is ours to turn into an orderly stop
            )
        self._spawned.append((self._process.pid, started_at_s(self._process.pid)))
        try:
            self._on_spawn(self)
        except BaseException:
            self.stop()
            raise

    def _becomes_ready(self, deadline: float) -> bool:
        """False if it ended, or the deadline (of the monotonic clock) passed."""
        while time.monotonic() < deadline:
            if self.is_ready() and self._has_its_ports():
                return True
            try:
                self.process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
            return False
        return False


def http_status(port: int, path: str, host: str = LOOPBACK) -> int | None:
    """The status of a GET, without any proxy; None while nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=2.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
