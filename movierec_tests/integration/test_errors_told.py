"""Whatever goes wrong with a command is told in one sentence, with the exit code of its kind."""

import http.server
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from movierec_platform.config import inherited_environment

MOVIEREC = [sys.executable, "-m", "movierec_platform.cli"]
DEFECTIVE = "from movierec_platform.cli import main\nmain.app = lambda: {}['no such key']\nmain.main()"
WITHIN_S = 120


def environment_of(home: Path, **variables: str) -> dict[str, str]:
    return {**inherited_environment(), "MOVIEREC_HOME": str(home), "COLUMNS": "200", **variables}


def with_state_in(home: Path) -> dict[str, str]:
    """An environment that names a state database in this home, though no stack runs there."""
    return environment_of(home, MOVIEREC_STATE_URL=f"sqlite:///{home / 'state.db'}")


def told(
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path,
    status: int,
    program: list[str] = MOVIEREC,
    **how: Any,
) -> str:
    """The one sentence that the command says on stderr as it ends with this status."""
    done = subprocess.run(
        [*program, *arguments],
        env=dict(environment),
        cwd=folder,
        **{"stdout": subprocess.PIPE, **how},
        stderr=subprocess.PIPE,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == status, done.stderr
    [sentence] = done.stderr.splitlines()
    assert sentence.startswith("movierec: ")
    return sentence


@pytest.mark.parametrize(
    "command", [["up"], ["recommend", "1"], ["keys", "list"], ["quarantine", "list"], ["verify"], ["serve", "api"]]
)
def test_a_home_that_is_a_file(command: list[str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a letter")
    said = told(*command, environment=environment_of(home), folder=tmp_path, status=2)
    assert f"{home} is not a folder" in said
    assert home.read_text() == "a letter"


@pytest.mark.parametrize(("in_the_way", "command", "status"), [
    ("home", ["keys", "list"], 2),
    ("home/state.db", ["keys", "list"], 3),
    ("home/stack.lock", ["up"], 2),
])  # fmt: skip
def test_a_home_that_cannot_be_written(in_the_way: str, command: list[str], status: int, tmp_path: Path) -> None:
    """Root writes to every folder, so something is in the way: a folder for a file, or a link that leads to itself."""
    path = tmp_path / in_the_way
    if in_the_way == "home":
        path.symlink_to(path)
    else:
        path.mkdir(parents=True)
    environment = (
        environment_of(tmp_path / "home") if in_the_way != "home/state.db" else with_state_in(tmp_path / "home")
    )
    said = told(*command, environment=environment, folder=tmp_path, status=status)
    assert str(path) in said or "unable to open database file" in said


@pytest.mark.parametrize("command", [["keys", "list"], ["keys", "list", "--json"], ["--version"], ["--help"]])
def test_output_to_a_full_disk(command: list[str], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        said = told(*command, environment=with_state_in(tmp_path), folder=tmp_path, status=3, stdout=full)
    assert "No space left on device" in said


def test_a_disk_that_is_full_for_files(tmp_path: Path) -> None:
    """A limit of the process stands for the disk's: nothing that it writes gets longer than no byte."""
    said = told(
        "keys",
        "create",
        "mine",
        "--scope",
        "read",
        environment=with_state_in(tmp_path / "home"),
        folder=tmp_path,
        status=3,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert "the state database does not answer" in said
    assert "sqlalche.me" not in said


@pytest.mark.parametrize("command", [["keys", "list"], ["keys", "list", "--json"], ["--version"], ["--help"]])
def test_a_closed_pipe_is_silent_and_not_the_no_of_a_check(command: list[str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [*MOVIEREC, *command],
            env=with_state_in(tmp_path),
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, "")


def test_a_defect_is_told_with_where_its_traceback_is(tmp_path: Path) -> None:
    said = told(
        environment=environment_of(tmp_path, TMPDIR=str(tmp_path)),
        folder=tmp_path,
        status=70,
        program=[sys.executable, "-c", DEFECTIVE],
    )
    assert "a defect of movierec, KeyError: 'no such key'" in said
    [trace] = tmp_path.glob("movierec-*.txt")
    assert str(trace) in said
    assert "Traceback" in trace.read_text()


def test_settings_that_are_wrong_are_named(tmp_path: Path) -> None:
    environment = environment_of(tmp_path, MOVIEREC_API_PORT="many")
    assert "MOVIEREC_API_PORT: " in told("recommend", "1", environment=environment, folder=tmp_path, status=2)


class Dagster(http.server.ThreadingHTTPServer):
    """A webserver that launches whatever it is asked to, and whose runs never say anything more."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.watched = threading.Event()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Dagster

    def do_POST(self) -> None:
        query = self.rfile.read(int(self.headers["Content-Length"])).decode()
        launched = {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": "the-run"}}}
        nothing = {"__typename": "EventConnection", "events": [], "cursor": "", "hasMore": False}
        is_launch = "launchRun" in query
        body = json.dumps({"data": launched if is_launch else {"logsForRun": nothing}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if not is_launch:
            self.server.watched.set()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def dagster() -> Iterator[Dagster]:
    with Dagster() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_ctrl_c_says_that_the_run_goes_on_and_where(dagster: Dagster, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{dagster.server_port}"
    loading = subprocess.Popen(
        [*MOVIEREC, "load"],
        env=environment_of(tmp_path, DAGSTER_URL=url),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert dagster.watched.wait(WITHIN_S)
    loading.send_signal(signal.SIGINT)
    _, said = loading.communicate(timeout=WITHIN_S)
    assert loading.returncode == 130
    assert said == f"movierec: interrupted; run the-run of load_movielens goes on: {url}/runs/the-run\n"
