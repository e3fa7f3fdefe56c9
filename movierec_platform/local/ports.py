"""Free ports on this machine."""

import errno
import socket
import threading
from types import TracebackType

LOOPBACK = "127.0.0.1"
LAST_PORT = 65_535


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether nobody listens there. True may be wrong a moment later: who binds it must be ready to be refused."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: connections of a former server that still linger do not make its port busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):  # EACCES: a port of the system's
                return False
            raise
    return True


class Ports:
    """Hands out ports that nobody listens on, each to one stack of this machine until it is given back.

    Servers bind their port only later, and anew when they are started again. Meanwhile the UDP port of that number is
    held: the kernel gives it to one process only, and takes it back however that ends.
    """

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}
        self._lock = threading.Lock()

    def take(self, wanted: int, host: str = LOOPBACK) -> int:
        """The wanted port, else the next free one above it; for 0 any free one."""
        with self._lock:
            port = wanted or _any_free(host)
            while not self._hold(port, host):
                if port == LAST_PORT or not wanted:
                    port, wanted = _any_free(host), 0
                else:
                    port += 1
            return port

    def give_back(self, port: int) -> None:
        """Others may have it. Nothing, if it was not taken here."""
        with self._lock:
            if held := self._held.pop(port, None):
                held.close()

    def _hold(self, port: int, host: str) -> bool:
        """Whether it is ours now, and nobody listens on it."""
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            holder.bind((LOOPBACK, port))
        except OSError:
            holder.close()
            return False
        if not is_free(port, host):
            holder.close()
            return False
        self._held[port] = holder
        return True

    def __enter__(self) -> "Ports":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for port in list(self._held):
            self.give_back(port)


def _any_free(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
