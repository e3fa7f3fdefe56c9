"""Cuts connections whose request is never finished, or never answered: granian waits for a body without a limit."""

import contextlib
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

SWEEPS = 8
"""In one timeout, so a connection is cut at most an eighth late."""

_LAST_DATA_SENT = 44
"""Where Linux's `struct tcp_info` has the milliseconds since data were sent; two numbers on, those since received."""
_SAME_S = 0.05
"""Two looks at one moment, both relative to now, differ by less."""


class SlowClients:
    """Watches this process's connections to one port. On systems other than Linux it does nothing."""

    def __init__(self, port: int, timeout_s: float) -> None:
        self._port = port
        self._timeout_s = timeout_s
        self._waiting: dict[Any, tuple[float, float]] = {}

    def start(self) -> None:
        """From now on, until the process ends."""
        if sys.platform == "linux":
            threading.Thread(target=self._sweep_forever, name="slow clients", daemon=True).start()

    def _sweep_forever(self) -> None:
        while True:
            time.sleep(self._timeout_s / SWEEPS)
            self.sweep()

    def sweep(self) -> None:
        """Connections that have waited too long for the end of their request, or for its answer, are shut down.

        Such a connection has received something since it last sent something. With each answer the time begins anew.
        """
        before, self._waiting = self._waiting, {}
        for connection in _connections(self._port):
            with contextlib.suppress(OSError):  # its client has closed it meanwhile
                now_s, answered_s = time.monotonic(), _unanswered_since(connection)
                if answered_s is None:
                    continue
                known_s, since_s = before.get(connection.getpeername(), (answered_s, now_s))
                if abs(answered_s - known_s) > _SAME_S:
                    since_s = now_s
                self._waiting[connection.getpeername()] = answered_s, since_s
                if now_s - since_s >= self._timeout_s:
                    connection.shutdown(socket.SHUT_RDWR)


def _unanswered_since(connection: socket.socket) -> float | None:
    """When it last sent something, or was opened; None when nothing has been received since.

    The system's clock for this ticks every few milliseconds. Within one tick it looks as if the request came after the
    answer, so a connection may be taken for a waiting one that is idle: it is lost as little.
    """
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
    sent_ms, _, received_ms = struct.unpack_from("3I", info, _LAST_DATA_SENT)
    return time.monotonic() - sent_ms / 1000 if received_ms <= sent_ms else None


def _connections(port: int) -> Iterator[socket.socket]:
    """The open ones, each through a descriptor of our own: its owner may close it meanwhile."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed, or not a socket
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getsockname()[1] == port:
                    connection.getpeername()  # the socket that listens has none
                    yield connection
