"""The platform as its users meet it: `up` in one terminal, the CLI, HTTP and Dagster's GraphQL in another.

It takes over two minutes: a whole stack is started, loaded, killed with everything in it, and started again; with
`--long` it is also deleted, and restored from its backup.
"""

import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import neo4j
import psutil
import pytest
import requests

from movierec_platform.adapters.dagster import graphql
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import Queues
from movierec_platform.adapters.state import State
from movierec_platform.domain.event_checks import EventPolicy
from movierec_platform.services.compact import compact_day, read_catalogue
from movierec_platform.services.keys import Verifier
from movierec_tests.archives import MOVIES, USERS, two_tastes
from movierec_tests.backfills import BACKFILLED, backfill, land_in_the_past
from movierec_tests.terminal import Terminal, until


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A stack with the small set loaded and learned."""
    terminal = Terminal(tmp_path_factory.mktemp("e2e") / "home")
    terminal.start()
    loaded = terminal.movierec("load", str(two_tastes(tmp_path_factory.mktemp("archive"))))
    assert "ratings_graph" in loaded
    terminal.movierec("nightly")
    yield terminal
    if terminal.up is not None and terminal.up.poll() is None:
        terminal.stop()


def event(event_id: str, user_id: int, movie_id: int, rating: float = 5.0) -> dict[str, Any]:
    return {"event_id": event_id, "user_id": user_id, "movie_id": movie_id, "rating": rating}


def post(terminal: Terminal, events: list[dict[str, Any]]) -> dict[str, Any]:
    answer = requests.post(f"{terminal.settings.api_url}/ingest", json=events, timeout=30)
    assert answer.status_code == 202, answer.text
    receipt: dict[str, Any] = answer.json()
    return receipt


def active_runs(terminal: Terminal) -> dict[str, str]:
    """The job of each run that Dagster takes for one at work, by run id."""
    query = "{ runsOrError(filter: {statuses: [STARTED]}) { ... on Runs { results { runId jobName } } } }"
    runs = graphql(terminal.settings.dagster_url, query)["runsOrError"]["results"]
    return {run["runId"]: run["jobName"] for run in runs}


def test_posted_events_launch_drain_runs_and_become_edges(terminal: Terminal) -> None:
    receipt = post(terminal, [event("e1", 1000, 3), event("e2", 1000, 5, rating=9.0)])
    assert (receipt["accepted"], [one["event_id"] for one in receipt["results"]]) == (2, ["e1", "e2"])
    edge = "MATCH (:Usuario {id: 1000})-[v:VIO]->(m:Pelicula) RETURN m.id, v.rating, v.event_id"
    assert until(lambda: terminal.cypher(edge), "the edge") == [[3, 5.0, "e1"]]
    assert {"quality_gate", "graph_ingest"} <= set(active_runs(terminal).values())


def test_a_refused_event_can_be_listed_and_shown(terminal: Terminal) -> None:
    [row] = until(lambda: json.loads(terminal.movierec("quarantine", "list", "--json")), "the row")
    assert row["reason_code"] == "rating_out_of_range"
    assert "rating_out_of_range 1" in terminal.movierec("quarantine", "list", "--reason", "rating_out_of_range")
    shown = terminal.movierec("quarantine", "show", row["id"][:6])
    assert '"event_id":"e2"' in shown
    assert "no row" in terminal.movierec("quarantine", "show", "zzz", status=2)
    assert "reason code" in terminal.movierec("quarantine", "list", "--reason", "ugly", status=2)


def test_recommendations_are_printed_in_the_known_form(terminal: Terminal) -> None:
    lines = terminal.movierec("recommend", "1", "-n", "3").splitlines()
    assert lines[0] == "RECOMENDACIONES TOP 3 para Usuario 1:"
    seen = {row[0] for row in terminal.cypher("MATCH (:Usuario {id: 1})-[:VIO]->(m) RETURN m.title")}
    assert len(lines) == 4
    for rank, line in enumerate(lines[1:], 1):
        number, _, rest = line.partition(". ")
        title, _, paths = rest.partition(" (Coincidencias: ")
        assert (number, title not in seen) == (str(rank), True)
        assert int(paths.rstrip(")")) > 0
    as_json = json.loads(terminal.movierec("recommend", "1", "-n", "3", "--json"))
    assert [
        f"{one['rank']}. {one['title']} (Coincidencias: {one['coincidencias']})" for one in as_json["items"]
    ] == lines[1:]


def test_coincidencias_are_the_co_watch_paths_of_the_graph(terminal: Terminal) -> None:
    paths = """
    MATCH (u:Usuario {id: 1})-[:VIO]->(m:Pelicula)<-[:VIO]-(other:Usuario)-[:VIO]->(rec:Pelicula {id: $movie})
    WHERE other.id <> 1 AND other.id < 1000 RETURN count(*)
    """
    for item in json.loads(terminal.movierec("recommend", "1", "-n", "2", "--json"))["items"]:
        assert terminal.cypher(paths, movie=item["item_id"]) == [[item["coincidencias"]]]


def test_traffic_posts_what_it_says_and_parity_holds_afterwards(terminal: Terminal) -> None:
    arguments = ["--events", "300", "--rate", "0", "--bad", "0.1", "--duplicate", "0.1", "--late", "0.1", "--seed", "5"]
    posted = json.loads(terminal.movierec("traffic", *arguments))
    assert posted["events"] == posted["accepted"] == 300
    assert posted["events"] == posted["good"] + posted["bad"] + posted["duplicate"] + posted["late"]
    parity = json.loads(terminal.movierec("verify", "--wait", "--json"))
    assert parity["differing_pairs"] == 0
    assert parity["graph_pairs"] > USERS
    held = until(
        lambda: (
            (rows := json.loads(terminal.movierec("quarantine", "list", "--limit", "1000", "--json")))
            and len(rows) == posted["bad"] + 1
            and rows
        ),
        "every bad event in quarantine",
    )
    counts = dict.fromkeys(posted["bad_by_reason"], 0)
    for row in held:
        if row["body"] != held[-1]["body"]:
            counts[row["reason_code"]] += 1
    assert counts == posted["bad_by_reason"]


@pytest.mark.thorough("whole stacks")
def test_the_nightly_can_be_launched_from_dagsters_graphql(terminal: Terminal) -> None:
    launch = """
    mutation { launchRun(executionParams: {selector: {repositoryLocationName: "batch", repositoryName: "__repository__",
      jobName: "nightly"}, runConfigData: {}}) { __typename ... on LaunchRunSuccess { run { runId } } } }
    """
    url = terminal.settings.dagster_url
    run_id = graphql(url, launch)["launchRun"]["run"]["runId"]
    query = "query Q($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"

    def ended() -> str | None:
        status: str = graphql(url, query, {"id": run_id})["runOrError"]["status"]
        return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None

    assert until(ended, "the run's end") == "SUCCESS"


@pytest.mark.thorough("whole stacks")
def test_a_backfill_of_seven_days_is_one_run_and_equals_seven_of_a_day(terminal: Terminal) -> None:
    settings = terminal.settings
    land_in_the_past(settings, MOVIES)
    lake, objects = Lake(settings), open_objects(settings)
    by_day = {}
    for day in BACKFILLED:
        compact_day(lake, objects, day, read_catalogue(lake), EventPolicy(), now_ms=time.time_ns() // 1_000_000)
        by_day[day] = lake.read("events", filters=[("date", "=", day)])
        assert by_day[day].num_rows == 20
    ledger = lake.read("compactions").sort_by("date")
    for table in ("events", "compactions"):
        lake.drop_partitions(table, "date", BACKFILLED)
    assert not set(BACKFILLED) & set(lake.partitions("events", "date"))

    assert backfill(settings, BACKFILLED) == ("COMPLETED_SUCCESS", ["SUCCESS"])
    assert {day: lake.read("events", filters=[("date", "=", day)]) for day in BACKFILLED} == by_day
    assert lake.read("compactions").sort_by("date") == ledger
    terminal.movierec("replay", "--since", BACKFILLED[0])
    assert json.loads(terminal.movierec("verify", "--wait", "--json"))["differing_pairs"] == 0


def test_a_damaged_graph_is_told_by_verify_with_exit_code_1(terminal: Terminal) -> None:
    at = terminal.settings
    auth = (at.neo4j_user, at.neo4j_password.get_secret_value())
    with neo4j.GraphDatabase.driver(at.neo4j_uri, auth=auth) as driver:
        edge = "MATCH (:Usuario {id: 1})-[v:VIO]->(m:Pelicula {id: $movie})"
        [[movie, before]] = terminal.cypher("MATCH (:Usuario {id: 1})-[v:VIO]->(m) RETURN m.id, v.seen_at_ms LIMIT 1")
        for seen_at_ms, status in ((before + 1, 1), (before, 0)):
            driver.execute_query(
                f"{edge} SET v.seen_at_ms = $at", movie=movie, at=seen_at_ms, database_=at.neo4j_database
            )
            said = terminal.movierec("verify", "--wait", status=status)
            assert ("differ in 1 pairs" in said) == (status == 1)


def test_wrong_usage_is_a_sentence_and_exit_code_2(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_text("no zip")
    assert "bad.zip" in terminal.movierec("load", str(tmp_path / "bad.zip"), status=2)
    assert "there is no file" in terminal.movierec("load", str(tmp_path / "none.zip"), status=2)
    assert "ISO-8601" in terminal.movierec("replay", "--since", "yesterday", status=2)
    assert "add up to 1" in terminal.movierec("traffic", "--bad", "0.9", "--late", "0.9", status=2)
    terminal.environment["MOVIEREC_API_PORT"] = "ten"
    assert "MOVIEREC_API_PORT: Input should be a valid integer" in terminal.movierec("recommend", "1", status=2)
    terminal.environment["MOVIEREC_API_PORT"] = "0"


def test_a_second_up_is_refused(terminal: Terminal) -> None:
    assert f"pid {terminal.up.pid}" in terminal.movierec("up", status=2)


@pytest.mark.thorough("whole stacks")
def test_killed_with_everything_it_comes_back_with_all_that_was_acknowledged(terminal: Terminal) -> None:
    before = terminal.cypher("MATCH (:Usuario)-[v:VIO]->(:Pelicula) RETURN count(v)")
    for process in psutil.Process(terminal.up.pid).children(recursive=True):
        if "daemon" in " ".join(process.cmdline()) or "multiprocessing" in " ".join(process.cmdline()):
            process.suspend()  # the drains and the daemon stand still, so that the events stay in the queue
    post(terminal, [event(f"k{number}", 2000 + number, 1 + number) for number in range(5)])
    assert Queues.open(terminal.settings).raw.depth().total > 0
    killed = active_runs(terminal)
    terminal.kill_everything()

    terminal.start()
    assert killed
    assert not killed.keys() & active_runs(terminal).keys(), "runs of the killed stack are taken for active"
    new = "MATCH (u:Usuario)-[v:VIO]->(:Pelicula) WHERE u.id >= 2000 RETURN count(v)"
    until(lambda: terminal.cypher(new) == [[5]], "what had been landed but not ingested")
    assert terminal.cypher("MATCH (:Usuario)-[v:VIO]->(:Pelicula) RETURN count(v)") == [[before[0][0] + 5]]
    assert json.loads(terminal.movierec("verify", "--wait", "--json"))["differing_pairs"] == 0
    assert terminal.movierec("recommend", "1").startswith("RECOMENDACIONES TOP 5 para Usuario 1:")


@pytest.mark.long
def test_destroyed_it_comes_back_from_its_backup(terminal: Terminal, tmp_path: Path) -> None:
    key = terminal.movierec("keys", "create", "phone", "--scope", "read").split()[0]
    before = terminal.movierec("recommend", "1", "--json")
    seen = terminal.cypher("MATCH (:Usuario)-[v:VIO]->(:Pelicula) RETURN count(v)")
    runs = len(ended_runs(terminal))
    backup = tmp_path / "backup"
    assert "objects of movierec" in terminal.movierec("backup", str(backup))
    assert "already running" in terminal.movierec("restore", str(backup), status=2)
    assert terminal.stop() == 0
    shutil.rmtree(terminal.home)

    assert "published" in terminal.movierec("restore", str(backup))
    terminal.start()
    assert json.loads(terminal.movierec("verify", "--wait", "--json"))["differing_pairs"] == 0
    assert terminal.cypher("MATCH (:Usuario)-[v:VIO]->(:Pelicula) RETURN count(v)") == seen
    items = [json.loads(one)["items"] for one in (before, terminal.movierec("recommend", "1", "--json"))]
    assert items[0] == items[1]
    state = State.open(terminal.settings)
    assert Verifier(lambda: state.keys, 60).verify(key).name == "phone"
    state.close()
    assert len(ended_runs(terminal)) >= runs > 0


def ended_runs(terminal: Terminal) -> list[Any]:
    """The runs that Dagster remembers to have succeeded."""
    query = "{ runsOrError(filter: {statuses: [SUCCESS]}) { ... on Runs { results { runId } } } }"
    found: list[Any] = graphql(terminal.settings.dagster_url, query)["runsOrError"]["results"]
    return found


def test_ctrl_c_stops_everything(terminal: Terminal) -> None:
    children = psutil.Process(terminal.up.pid).children(recursive=True)
    assert terminal.stop(signal.SIGINT) == 0
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    assert "no stack runs in" in terminal.movierec("recommend", "1", status=3)
