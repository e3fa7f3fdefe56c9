"""A day of operation in a few minutes: while clients post, all happens that happens to a platform in a day.

A real Prometheus watches with the rules that are deployed, but for their minutes being seconds.
"""

import json
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.state import State
from movierec_platform.domain.envelope import batch_id_of
from movierec_tests.archives import two_tastes
from movierec_tests.backfills import BACKFILLED, EVENTS_A_DAY, backfill, land_in_the_past
from movierec_tests.faults.load import MOVIES, Load
from movierec_tests.prometheus import configured, launched, program
from movierec_tests.terminal import Terminal, until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1_800)]

EVENTS_PER_S = 100.0
SETTLED_WITHIN_S = 240.0
REGULAR, SHORTER = {"m": 60, "h": 3600, "d": 86400}, 60


class Watch(threading.Thread):
    """Looks each second which alerts fire."""

    def __init__(self, url: str) -> None:
        super().__init__(name="watch")
        self.url = url
        self.fired: Counter[str] = Counter()
        """By alert, at how many looks it fired."""
        self._ended = threading.Event()

    def firing(self) -> set[str]:
        """The alerts that fire now."""
        alerts = requests.get(f"{self.url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def run(self) -> None:
        while not self._ended.wait(1.0):
            self.fired.update(self.firing())

    def end(self) -> None:
        self._ended.set()
        self.join()


def in_seconds(rules: Path) -> None:
    """The rules wait and look back seconds where they did minutes, and minutes where they did hours."""

    def shorter(found: re.Match[str]) -> str:
        return f"{int(found[1]) * REGULAR[found[2]] // SHORTER}s"

    rules.write_text(re.sub(r"\b(\d+)([mhd])\b", shorter, rules.read_text()))


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "home", MOVIEREC_STACK_RESTARTS="20", MOVIEREC_VOLUME_FACTOR="1000")
    terminal.start()
    yield terminal
    if terminal.up is not None and terminal.up.poll() is None:
        terminal.stop()


@pytest.fixture
def watch(terminal: Terminal, tmp_path: Path) -> Iterator[Watch]:
    settings = terminal.settings
    urls = {"exporter": settings.metrics_url, "api": settings.api_url}
    ports = {role: urlsplit(url).port for role, url in urls.items()}
    config = configured(tmp_path / "prometheus", "unused", **ports)
    in_seconds(config.with_name("rules.yml"))
    with launched(program("prometheus"), config, tmp_path) as url:
        watch = Watch(url)

        def answers() -> bool:
            try:
                return bool(requests.get(f"{url}/-/ready", timeout=5).ok)
            except requests.ConnectionError:
                return False

        until(answers, "Prometheus ready")
        watch.start()
        yield watch
        watch.end()


def restart(terminal: Terminal, server: str, signum: int) -> None:
    """This server got the signal, another was started in its place, and works."""
    before = terminal.said().count("works again")
    servers = json.loads((terminal.home / "stack.json").read_text())["servers"]
    [pid] = [one["pid"] for one in servers if one["name"] == server]
    os.kill(pid, signum)
    until(lambda: terminal.said().count("works again") > before, f"{server} again", within_s=SETTLED_WITHIN_S)


def published(terminal: Terminal) -> str:
    """The version that readers have."""
    answer = requests.get(f"{terminal.settings.api_url}/recommend/1", timeout=30).json()
    version: str = answer["snapshot"]
    return version


def mend_one(terminal: Terminal) -> None:
    """An event that was refused is found, mended and sent again, and is in the graph."""
    bad = {"event_id": "mend-me", "user_id": 5_000, "movie_id": 7, "rating": 11}
    assert requests.post(f"{terminal.settings.api_url}/ingest", json=bad, timeout=30).status_code == 202

    def held() -> dict[str, Any] | None:
        listed = json.loads(terminal.movierec("quarantine", "list", "--user", "5000", "--json"))
        return listed[0] if listed else None

    row = until(held, "the refused event", within_s=SETTLED_WITHIN_S)
    terminal.movierec("quarantine", "patch", row["id"], json.dumps({**bad, "rating": 4.5}))
    terminal.movierec("quarantine", "redrive", row["id"])
    edge = "MATCH (:Usuario {id: 5000})-[v:VIO]->(:Pelicula {id: 7}) RETURN v.rating"
    until(lambda: terminal.cypher(edge) == [[4.5]], "the mended event in the graph", within_s=SETTLED_WITHIN_S)


def test_after_a_day_in_which_everything_happened_graph_and_lake_agree_and_no_alert_fires(
    terminal: Terminal, watch: Watch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    say = request.config.pluginmanager.getplugin("terminalreporter").write_line
    settings = terminal.settings
    terminal.movierec("load", str(two_tastes(tmp_path, users=60, movies=MOVIES)))
    terminal.movierec("nightly")
    first = until(lambda: published(terminal), "a published similarity")
    load = Load(settings.api_url, EVENTS_PER_S, seed=1)
    load.start()
    try:
        say("\nthe graph is stopped, and started again")
        restart(terminal, "graph", signal.SIGTERM)
        say("an event is mended")
        mend_one(terminal)
        say("API, code server and daemon are replaced")
        restart(terminal, "api", signal.SIGTERM)
        restart(terminal, "stream", signal.SIGKILL)
        restart(terminal, "daemon", signal.SIGTERM)
        say("a backfill of seven days")
        land_in_the_past(settings, MOVIES)
        assert backfill(settings, BACKFILLED) == ("COMPLETED_SUCCESS", ["SUCCESS"])
        terminal.movierec("replay", "--since", BACKFILLED[0])
        say("the next nightly")
        terminal.movierec("nightly")
        second = until(lambda: (now := published(terminal)) != first and now, "the next version served")
        say("back to the version before, and forward again")
        terminal.movierec("similarity", "rollback")
        until(lambda: published(terminal) == first, "the version before served")
        terminal.movierec("similarity", "publish", second)
        until(lambda: published(terminal) == second, "the newer version served")
    finally:
        load.stop()
    say(f"{load.acknowledged} events acknowledged, {load.unacknowledged} given up, in {load.seconds:.0f} s")

    parity = json.loads(terminal.movierec("verify", "--wait", "--json"))
    assert parity["differing_pairs"] == 0
    assert parity["graph_pairs"] >= len(BACKFILLED) * EVENTS_A_DAY

    landed = {batch_id_of(key) for key in open_objects(settings).keys("raw/")}
    acknowledged = [one for one in load.requests if one.batch_id is not None]
    assert len(acknowledged) > 100
    assert {one.batch_id for one in acknowledged} <= landed
    state = State.open(settings)
    counters = state.counters()
    state.close()
    total = {name: counters[f"movierec_events_{name}_total", ()] for name in ("landed", "accepted", "ingested")}
    refused = Counter({dict(labels)["reason"]: n for (name, labels), n in counters.items() if "_rejected_" in name})
    assert total["landed"] == total["accepted"] + refused.total() - refused["unknown_movie"]
    assert total["accepted"] == total["ingested"] + refused["unknown_movie"]
    assert total["landed"] >= sum(len(one.events) for one in acknowledged)

    until(lambda: not watch.firing(), "no alert firing", within_s=SETTLED_WITHIN_S)
    say("alerts that fired, and for how many seconds: " + ", ".join(f"{name} {n}" for name, n in watch.fired.items()))
    assert "PartDown" in watch.fired
