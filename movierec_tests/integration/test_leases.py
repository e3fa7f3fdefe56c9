"""A lease has one holder, and a dead holder has none."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from movierec_platform.adapters.leases import Lease
from movierec_platform.domain.drains import FREE
from movierec_platform.errors import LeaseHeld

HOLD = """
import sys, time
from pathlib import Path
from movierec_platform.adapters.leases import Lease
with Lease(Path(sys.argv[1]), "raw", 0).held("their-run", 1):
    print("held", flush=True)
    time.sleep(60)
"""


def test_while_one_holds_the_lease_another_waits_in_vain(tmp_path: Path) -> None:
    with Lease(tmp_path, "raw", 0).held("a", 1):
        with pytest.raises(LeaseHeld, match="raw-0"), Lease(tmp_path, "raw", 0).held("b", 0.1):
            pass
        with Lease(tmp_path, "raw", 1).held("b", 0.1):
            assert Lease(tmp_path, "raw", 1).view().holder == "b"
        assert Lease(tmp_path, "raw", 0).view().holder == "a"


def test_a_successor_gets_the_lease_when_it_is_given_back(tmp_path: Path) -> None:
    order = []

    def succeed() -> None:
        with Lease(tmp_path, "raw", 0).held("b", 30):
            order.append("b")

    with Lease(tmp_path, "raw", 0).held("a", 1):
        waiting = threading.Thread(target=succeed)
        waiting.start()
        order.append("a")
    waiting.join()
    assert order == ["a", "b"]


def test_the_view_tells_who_gave_it_back_and_when_there_was_work(tmp_path: Path) -> None:
    lease = Lease(tmp_path, "raw", 0)
    assert lease.view() == FREE
    with lease.held("a", 1):
        lease.note_work()
        worked = lease.view().last_work_s
    view = lease.view()
    assert (view.holder, view.released_by) == (None, "a")
    assert view.last_work_s == worked
    assert view.released_at_s >= worked


def test_a_killed_holder_frees_the_lease_without_having_given_it_back(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "held\n"
        assert Lease(tmp_path, "raw", 0).view().holder == "their-run"
        holder.kill()
    view = Lease(tmp_path, "raw", 0).view()
    assert (view.holder, view.released_by) == (None, None)
