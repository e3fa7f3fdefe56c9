"""A lease has one holder, and a dead holder has none: among the processes of a host, and among those of a Postgres."""

import fcntl
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import SecretStr

from movierec_platform.adapters.leases import FileLease, Lease
from movierec_platform.adapters.postgres_leases import PostgresLease
from movierec_platform.config import STACK_ENV, load_settings, variables_of, write_env_file
from movierec_platform.defs.stream.resources import StreamResource
from movierec_platform.domain.drains import FREE
from movierec_platform.errors import LeaseHeld, LeaseLost, StateUnavailable
from movierec_tests.postgres import PostgresServer

HOLD = """
import sys
from movierec_platform.defs.stream.resources import StreamResource
with StreamResource(home=sys.argv[1]).lease("raw", 0).held("their-run", 1):
    print("held", flush=True)
    sys.stdin.read()
"""
NewLease = Callable[[int], Lease]


@pytest.fixture(params=["file", "postgres"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> StreamResource:
    """The stream over a state database of this kind, with no lease taken yet."""
    url = request.getfixturevalue("postgres_server").new_database() if request.param == "postgres" else ""
    settings = load_settings({"home": tmp_path / "home", "state_url": SecretStr(url)})
    settings.home.mkdir()
    write_env_file(settings.home / STACK_ENV, variables_of(settings))
    return StreamResource(home=str(settings.home))


@pytest.fixture
def lease_on(stream: StreamResource) -> NewLease:
    """Another process's lease of this slot."""
    return lambda slot: stream.lease("raw", slot)


def test_the_lease_is_of_the_state_databases_kind(stream: StreamResource, request: pytest.FixtureRequest) -> None:
    kind = PostgresLease if "postgres" in request.node.name else FileLease
    assert isinstance(stream.lease("raw", 0), kind)


def test_while_one_holds_the_lease_another_waits_in_vain(lease_on: NewLease) -> None:
    with lease_on(0).held("a", 1):
        with pytest.raises(LeaseHeld, match="raw-0"), lease_on(0).held("b", 0.1):
            pass
        with lease_on(1).held("b", 0.1):
            assert lease_on(1).view().holder == "b"
        assert lease_on(0).view().holder == "a"


def test_a_successor_gets_the_lease_when_it_is_given_back(lease_on: NewLease) -> None:
    order = []

    def succeed() -> None:
        with lease_on(0).held("b", 30):
            order.append("b")

    with lease_on(0).held("a", 1):
        waiting = threading.Thread(target=succeed)
        waiting.start()
        order.append("a")
    waiting.join()
    assert order == ["a", "b"]


def test_the_holder_sees_whether_another_waits(lease_on: NewLease) -> None:
    held = lease_on(0)
    given_up = threading.Event()

    def wait_in_vain() -> None:
        with suppress(LeaseHeld), lease_on(0).held("b", 2):
            pass
        given_up.set()

    with held.held("a", 1):
        assert not held.is_wanted()
        waiting = threading.Thread(target=wait_in_vain)
        waiting.start()
        while not held.is_wanted():
            assert not given_up.is_set()
        waiting.join()
        while held.is_wanted():  # Postgres notices the end of a connection a moment later
            pass


def test_of_many_that_ask_at_once_for_the_first_time_one_holds_it(lease_on: NewLease) -> None:
    inside: list[int] = []
    together: list[int] = []

    def hold(number: int) -> None:
        with lease_on(0).held(str(number), 30):
            inside.append(number)
            together.append(len(inside))
            inside.remove(number)

    threads = [threading.Thread(target=hold, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [1] * 8


def test_the_view_tells_who_gave_it_back_and_when_there_was_work(lease_on: NewLease) -> None:
    lease = lease_on(0)
    assert lease.view() == FREE
    with lease.held("a", 1):
        taken = lease.view().last_work_s
        lease.note_work()
        worked = lease.view().last_work_s
        assert taken is not None
        assert worked is not None
        assert worked > taken
    view = lease.view()
    assert (view.holder, view.released_by, view.lost_by) == (None, "a", None)
    assert view.last_work_s == worked
    assert view.released_at_s >= worked


def test_looking_at_a_lease_takes_it_from_nobody(lease_on: NewLease) -> None:
    looks = 0
    done = threading.Event()

    def look() -> None:
        nonlocal looks
        while not done.is_set():
            lease_on(0).view()
            looks += 1

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(8):
        lease = lease_on(0)
        with lease.held(str(number), 5):
            assert lease_on(0).view().holder == str(number)
            lease.note_work()
    done.set()
    looking.join()
    assert looks > 1


def test_a_killed_holder_frees_the_lease_without_having_given_it_back(
    stream: StreamResource, lease_on: NewLease
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, stream.home], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        assert lease_on(0).view().holder == "their-run"
        holder.kill()
        holder.wait()
    while (view := lease_on(0).view()).holder is not None:  # Postgres notices the end of a connection a moment later
        pass
    assert (view.released_by, view.lost_by) == (None, "their-run")
    assert view.last_work_s is not None
    with lease_on(0).held("ours", 1):
        assert lease_on(0).view().holder == "ours"


def test_who_does_not_hold_the_lease_cannot_note_work(lease_on: NewLease) -> None:
    lease = lease_on(0)
    with pytest.raises(LeaseLost):
        lease.note_work()
    with lease.held("a", 1):
        pass
    with pytest.raises(LeaseLost):
        lease.note_work()


def test_a_lease_file_that_was_removed_is_lost(tmp_path: Path) -> None:
    lease = FileLease(tmp_path, "raw", 0)
    with lease.held("a", 1):
        (tmp_path / "raw-0").unlink()
        with pytest.raises(LeaseLost), FileLease(tmp_path, "raw", 0).held("b", 1):
            lease.note_work()


def test_who_looks_at_a_free_lease_is_no_holder_for_another_who_looks(tmp_path: Path) -> None:
    lease = FileLease(tmp_path, "raw", 0)
    with lease.held("a", 1):
        pass
    with (tmp_path / "raw-0").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert lease.view().holder is None


def postgres_lease(url: str) -> PostgresLease:
    return PostgresLease(load_settings({"state_url": SecretStr(url)}).state_database_url, "raw", 0)


def test_a_holder_whose_connection_ended_has_lost_the_lease_for_good(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'movierec raw-0 a'"
    lease = postgres_lease(url)
    with lease.held("a", 1):
        lease.note_work()
        assert postgres_server.execute(terminate) == [(True,)]
        with pytest.raises(LeaseLost):
            lease.note_work()
        with postgres_lease(url).held("b", 5):
            with pytest.raises(LeaseLost):  # it does not come back by itself as a second holder
                lease.note_work()
            assert postgres_lease(url).view().holder == "b"
        assert postgres_lease(url).view().released_by == "b"
    assert postgres_lease(url).view().released_by == "b"


def test_a_lease_lost_unnoticed_is_told_at_the_end(postgres_server: PostgresServer) -> None:
    lease = postgres_lease(postgres_server.new_database())
    with pytest.raises(LeaseLost), lease.held("a", 1):
        postgres_server.restart()


def test_without_the_database_nobody_gets_the_lease(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    lease = postgres_lease(url)
    with lease.held("a", 1):
        lease.note_work()
    postgres_server.stop()
    try:
        with pytest.raises(StateUnavailable):
            lease.view()
        with pytest.raises(StateUnavailable), lease.held("a", 1):
            pass
    finally:
        postgres_server.start()
    assert lease.view().released_by == "a"


def test_two_databases_of_one_server_have_leases_of_their_own(postgres_server: PostgresServer) -> None:
    first, second = postgres_lease(postgres_server.new_database()), postgres_lease(postgres_server.new_database())
    with first.held("a", 1), second.held("b", 1):
        assert (first.view().holder, second.view().holder) == ("a", "b")
