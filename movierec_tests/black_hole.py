"""A TCP server that takes connections and, at once or from some moment on, lets nothing through."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from movierec_platform.local.ports import LOOPBACK


class BlackHole:
    """Passes bytes on to `target` until `swallow` is called; without a target it never answers."""

    def __init__(self, target: int | None = None) -> None:
        self._target = target
        self._swallows = target is None
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server((LOOPBACK, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.taken = 0
        """Connections so far."""
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """From now on nothing comes through, and nobody is told."""
        self._swallows = True

    def close(self) -> None:
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                self.taken += 1
                self._sockets.append(near)
                if self._target is not None:
                    far = socket.create_connection((LOOPBACK, self._target))
                    self._sockets.append(far)
                    for one, other in ((near, far), (far, near)):
                        threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65_536):
                if not self._swallows:
                    other.sendall(data)


@contextmanager
def black_hole(target: int | None = None) -> Iterator[BlackHole]:
    hole = BlackHole(target)
    try:
        yield hole
    finally:
        hole.close()
