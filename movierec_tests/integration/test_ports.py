"""Free ports: the wanted one, the next, never one twice."""

import socket

from movierec_platform.local.ports import Ports, is_free


def listener() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
    made.bind(("127.0.0.1", 0))
    made.listen(1)
    return made


def test_a_port_is_free_until_somebody_listens() -> None:
    with listener() as busy:
        port = busy.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)


def test_a_busy_port_moves_up() -> None:
    with listener() as busy:
        port = busy.getsockname()[1]
        assert port < Ports().take(port) <= port + 1_000


def test_none_is_given_twice() -> None:
    ports = Ports()
    first = ports.take(0)
    assert ports.take(first) != first
    assert len({ports.take(0) for _ in range(20)}) == 20


def test_connections_that_linger_do_not_make_a_port_busy() -> None:
    with listener() as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            accepted.close()  # this end closes first: its side of the connection waits
    assert is_free(port)
