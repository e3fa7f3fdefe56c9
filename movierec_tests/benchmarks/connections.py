"""Kept-alive connections of a client that costs little: raw requests over sockets, all in one thread."""

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from itertools import count


class Connection:
    """One client of a server of this machine."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answer = b""
        self.due_at_s = 0.0

    def send(self, request: bytes, due_at_s: float) -> None:
        self._answer = b""
        self.due_at_s = due_at_s
        self.socket.sendall(request)

    def receive(self) -> tuple[int, int] | None:
        """The status and the bytes of the body, once the answer is here whole."""
        received = self.socket.recv(1 << 20)
        if not received:
            raise ConnectionError("the server closed the connection")
        self._answer += received
        head, end, body = self._answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]) if end else 0
        return (int(head[9:12]), len(body)) if end and len(body) >= length else None


def drive(
    port: int,
    requests: Iterator[bytes],
    connections: int,
    seconds: float,
    answered: Callable[[int, float], None],
    per_s: float | None = None,
) -> float:
    """The seconds it took: for so long each connection sends the next request when it has an answer.

    With `per_s` requests are due at that rate instead, and one waits for its time or for a connection to be free.
    `answered` is told the status and the latency in seconds since the request was due.
    """
    number = count()
    with selectors.DefaultSelector() as ready:
        idle = [Connection(port) for _ in range(connections)]
        for connection in idle:
            ready.register(connection.socket, selectors.EVENT_READ, connection)
        all_of_them, begin_s = list(idle), time.perf_counter()
        due_at_s = begin_s
        while True:
            now_s = time.perf_counter()
            while idle and due_at_s <= now_s and due_at_s - begin_s < seconds:
                idle.pop().send(next(requests), due_at_s if per_s else now_s)
                due_at_s = begin_s + next(number) / per_s if per_s else now_s
            over = due_at_s - begin_s >= seconds or now_s - begin_s >= seconds
            if over and len(idle) == connections:
                break
            for key, _ in ready.select(max(0.0, due_at_s - now_s) if idle and not over else None):
                connection = key.data
                if (answer := connection.receive()) is not None:
                    answered(answer[0], time.perf_counter() - connection.due_at_s)
                    idle.append(connection)
            if not per_s:
                due_at_s = time.perf_counter()
        took_s = time.perf_counter() - begin_s
    for connection in all_of_them:
        connection.socket.close()
    return took_s
