"""A command that ends leaves nothing behind that it started, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

RUN = """
import sys
from movierec_platform.local.processes import run_and_leave_nothing
sys.exit(run_and_leave_nothing([sys.executable, "-c", sys.argv[1]], end_within_s=30))
"""
STARTS_ANOTHER = """
import os, subprocess, sys, time
left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(left.pid, flush=True)
"""


@pytest.mark.parametrize(
    ("then", "status"),
    [
        ("sys.exit(7)", 7),
        ("os.kill(os.getpid(), 9)", 128 + signal.SIGKILL),
        ("time.sleep(600)", 128 + signal.SIGINT),
    ],
    ids=["it exits", "it is killed", "Ctrl-C"],
)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere an orphan cannot be found")
def test_what_outlives_the_command_is_ended(tmp_path: Path, then: str, status: int) -> None:
    command = [sys.executable, "-c", RUN, STARTS_ANOTHER + then]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as runner:
        assert runner.stdout is not None
        left = psutil.Process(int(runner.stdout.readline()))
        if "sleep" in then:
            os.killpg(runner.pid, signal.SIGINT)
        assert runner.wait(120) == status
    assert not left.is_running()
