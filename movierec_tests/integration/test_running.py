"""A stack in the background as people use it: up --detach, status, logs, stop."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from movierec_platform.errors import NoStack, ServerFailed, UsageError
from movierec_platform.local.record import HomeLock, holder
from movierec_platform.local.running import log_lines, log_names, start_detached, stop_running

ROOT = Path(__file__).parents[2]


def movierec(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MOVIEREC_HOME": str(home), "BROWSER": "true"}
    return subprocess.run(
        [sys.executable, "-m", "movierec_platform", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
    )


def test_a_home_without_a_stack_has_none_to_stop_and_no_holder(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    with pytest.raises(NoStack, match="no stack runs"):
        stop_running(tmp_path)


def test_the_holder_of_a_home_is_known_and_a_look_does_not_keep_another_from_it(tmp_path: Path) -> None:
    with HomeLock(tmp_path):
        assert holder(tmp_path) == os.getpid()
        with pytest.raises(UsageError, match="already running"):
            HomeLock(tmp_path)
        with pytest.raises(UsageError, match="already running"):
            start_detached(tmp_path, [])
    looking = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, pathlib; from movierec_platform.local.record import holder\n"
            "print('looks', flush=True)\n"
            "while True: holder(pathlib.Path(sys.argv[1]))",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert looking.stdout is not None
        looking.stdout.readline()
        for _ in range(20):
            HomeLock(tmp_path).release()
    finally:
        looking.kill()
        looking.wait()
        looking.stdout.close()


def test_a_stack_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "aws").write_text("in the way")
    with pytest.raises(ServerFailed, match=r"(?s)the stack ended; .*up\.log has:\n.+"):
        start_detached(tmp_path, [])


def test_a_log_is_followed_through_a_restart(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    log = logs / "api.log"
    log.write_text("one\ntwo\nthree\n")
    assert log_names(tmp_path) == ["api"]
    assert list(log_lines(tmp_path, "api", 2, follow=False)) == ["two", "three"]
    with pytest.raises(UsageError, match="there are: api"):
        list(log_lines(tmp_path, "nobody", 2, follow=False))
    lines = log_lines(tmp_path, "api", 1, follow=True)
    assert next(lines) == "three"
    with log.open("a") as file:
        file.write("four\n")
    assert next(lines) == "four"
    log.replace(logs / "api.log.1")
    log.write_text("after the restart\n")
    assert next(lines) == "after the restart"
    lines.close()


@pytest.mark.thorough("whole stacks")
def test_a_stack_in_the_background_is_shown_and_stopped(tmp_path: Path) -> None:
    started = movierec(tmp_path, "up", "--detach")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        assert "next: " in started.stdout
        shown = movierec(tmp_path, "status", "--json")
        assert shown.returncode == 0, shown.stdout + shown.stderr
        status = json.loads(shown.stdout)
        assert {one["name"] for one in status["servers"] if one["runs"]} >= {"aws", "graph", "api", "dagster", "daemon"}
        assert (status["down"], status["queues"]) == ([], {"raw": 0, "clean": 0, "dlq": 0})
        assert status["addresses"]["API and page"].startswith("http://127.0.0.1:")
        on_screen = movierec(tmp_path, "status")
        assert f"runs (pid {status['stack_pid']})" in on_screen.stdout
        assert movierec(tmp_path, "logs").stdout.split() == log_names(tmp_path)
        opened = movierec(tmp_path, "open")
        assert opened.stdout.strip() == status["addresses"]["API and page"]
    finally:
        stopped = movierec(tmp_path, "stop")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert holder(tmp_path) is None
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{one['pid']}").exists() for one in status["servers"]):
        assert time.monotonic() < deadline, "a server is left"
        time.sleep(0.1)
