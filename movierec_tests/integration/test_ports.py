"""Free ports: the wanted one, the next, never one twice."""

import socket
import subprocess
import sys

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
        with Ports() as ports:
            assert port < ports.take(port) <= port + 1_000


def test_none_is_given_twice() -> None:
    with Ports() as ports:
        first = ports.take(0)
        assert ports.take(first) != first
        assert len({ports.take(0) for _ in range(20)}) == 20


TAKE = """
import sys
from movierec_platform.local.ports import Ports
with Ports() as ports:
    print(ports.take(int(sys.argv[1])), flush=True)
    sys.stdin.readline()
"""


def test_stacks_that_start_together_take_different_ports() -> None:
    with listener() as probe:
        wanted = probe.getsockname()[1]
    stacks = [
        subprocess.Popen([sys.executable, "-c", TAKE, str(wanted)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    taken = [int(stack.stdout.readline()) for stack in stacks if stack.stdout]  # none of them has bound its port yet
    for stack in stacks:
        stack.communicate(b"\n")
    assert len(set(taken)) == 4
    with Ports() as ports:
        assert ports.take(min(taken)) == min(taken), "held no longer than they lived"


def test_what_was_given_back_can_be_taken_again() -> None:
    with Ports() as ports:
        port = ports.take(0)
        ports.give_back(port)
        assert ports.take(port) == port


def test_connections_that_linger_do_not_make_a_port_busy() -> None:
    with listener() as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            accepted.close()  # this end closes first: its side of the connection waits
    assert is_free(port)
