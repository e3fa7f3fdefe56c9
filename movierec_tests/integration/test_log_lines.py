"""The log: JSON for programs, text for people, and the ids by which a batch is found in every process."""

import json
import logging
import os
import pty
import subprocess
import sys

import pytest

from movierec_tests.integration.conftest import GOOD

SAY = """
import logging, sys
from movierec_platform.adapters.log_lines import about, log_lines
from movierec_platform.config import load_settings
flush = log_lines(load_settings())
log = logging.getLogger("movierec_platform.test")
with about(request_id="r-1"):
    log.info({"message": "judged", "accepted": 2})
    log.warning("queue %s is full", "raw")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("a defect")
logging.getLogger("somebody.else").info("not ours")
flush()
"""


def said(stderr: int, **environment: str) -> None:
    """A process says a few things to this file descriptor."""
    variables = {**os.environ, "COLUMNS": "120", "TERM": "dumb", **environment}
    subprocess.run([sys.executable, "-c", SAY], stderr=stderr, env=variables, check=True)


@pytest.fixture
def lines(tmp_path):
    """What the process says to a file, line by line."""

    def say(**environment: str) -> list[str]:
        path = tmp_path / "log"
        with path.open("wb") as log:
            said(log.fileno(), **environment)
        return path.read_text().splitlines()

    return say


def test_into_a_file_each_line_is_json_with_the_ids_at_work(lines):
    judged, full, defect = map(json.loads, lines())
    assert judged.pop("at").endswith("Z")
    assert judged == {
        "level": "info",
        "logger": "movierec_platform.test",
        "request_id": "r-1",
        "message": "judged",
        "accepted": 2,
    }
    assert (full["message"], full["level"], full["request_id"]) == ("queue raw is full", "warning", "r-1")
    assert "ZeroDivisionError" in defect["exception"]
    assert "request_id" not in defect


def test_at_a_terminal_it_is_text():
    ours, theirs = pty.openpty()
    said(theirs)
    os.close(theirs)
    text = ""
    try:
        while part := os.read(ours, 65536).decode():
            text += part
    except OSError:  # how a terminal ends on Linux
        pass
    os.close(ours)
    assert "judged request_id=r-1 accepted=2" in text
    assert "queue raw is full request_id=r-1" in text
    assert "ZeroDivisionError" in text
    assert "{" not in text


@pytest.mark.parametrize(("form", "begins"), [("pretty", "["), ("json", "{")])
def test_the_settings_overrule_where_it_goes(lines, form, begins):
    assert all(line.startswith((begins, " ")) for line in lines(MOVIEREC_LOG_FORMAT=form)[:2])


def test_a_batch_is_followed_from_its_requests_to_graph_and_quarantine(platform, caplog):
    caplog.set_level(logging.INFO, "movierec_platform.services")
    unknown, refused = {**GOOD, "event_id": "u", "movie_id": 999}, {**GOOD, "event_id": "r", "rating": 9}
    receipt = platform.lander.land([GOOD, unknown, refused], "r-7")
    platform.run_through()
    told = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert {(one["batch_id"], one["request_ids"]) for one in told} == {(receipt.batch_id, ("r-7",))}
    [judged] = [one for one in told if one["message"] == "judged"]
    assert (judged["accepted"], judged["refused"]) == (2, 1)
    [written] = [one for one in told if one["message"] == "written to the graph"]
    assert (written["written"], written["unknown_movie"]) == (1, 1)
    assert 0 <= judged["since_received_ms"] <= written["since_received_ms"]
    quarantined = [one["reason_codes"] for one in told if one["message"] == "quarantined"]
    assert sorted(quarantined) == [["rating_out_of_range"], ["unknown_movie"]]


UNSAYABLE = """
import logging, sys
from movierec_platform.adapters.log_lines import log_lines
from movierec_platform.config import load_settings
flush = log_lines(load_settings())
log = logging.getLogger("movierec_platform.test")
class Unprintable:
    def __str__(self): raise ValueError
    __repr__ = __str__
circle = []
circle.append(circle)
log.warning("half a character: %s", chr(0xd800))
log.warning({"message": "too large", "n": 2**70})
log.warning({"message": "not a text", 5: 5})
log.warning({"message": "a circle", "it": circle})
log.warning({"message": "no text", "it": Unprintable()})
log.warning("too few: %s %s", 1)
log.warning("it: %s", Unprintable())
log.warning("the last")
flush()
sys.stderr.close()
log.warning("nobody hears this")
sys.stderr = None
log.warning("nor this")
print("went on")
"""


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_what_cannot_be_said_fails_nobody(tmp_path, form):
    path = tmp_path / "log"
    with path.open("wb") as log:
        environment = {**os.environ, "MOVIEREC_LOG_FORMAT": form, "COLUMNS": "200", "TERM": "dumb"}
        command = [sys.executable, "-c", UNSAYABLE]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, env=environment, check=False)
    text = path.read_text()
    assert (done.returncode, done.stdout) == (0, b"went on\n"), text
    for said in ("too large", "not a text", "a circle", "no text", "too few", "the last"):
        assert said in text
    if form == "json":
        assert len([json.loads(line) for line in text.splitlines()]) == 8
