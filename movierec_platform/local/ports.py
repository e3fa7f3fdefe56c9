"""Free ports on this machine."""

import errno
import socket
import threading

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
    """Hands out ports that nobody listens on, none of them twice, as their servers bind them only later."""

    def __init__(self) -> None:
        self._given: set[int] = set()
        self._lock = threading.Lock()

    def take(self, wanted: int, host: str = LOOPBACK) -> int:
        """The wanted port, else the next free one above it; for 0 any free one."""
        with self._lock:
            port = wanted or _any_free(host)
            while port in self._given or not is_free(port, host):
                if port == LAST_PORT or not wanted:
                    port, wanted = _any_free(host), 0
                else:
                    port += 1
            self._given.add(port)
            return port


def _any_free(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
