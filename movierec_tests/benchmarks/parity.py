"""Proving that graph and lake are equal, and finding and mending what is not.

    python -m movierec_tests.benchmarks.parity [--ratings 5000000] [--altered 1000] [--graph neo4j]

An emulated S3 and a graph are started: the embedded ArcadeDB, or a Neo4j, which is filled by `Graph.load_users` and
takes ten times as long as ArcadeDB's batch endpoint.

Generated ratings (150 a user at most; the movie at rank r is rated in proportion to 1 / (r + 10)) are the lake's table
`ratings` and edges of the graph. `movierec verify` is then run as a command: once while both are equal, once after so
many pairs were damaged by hand (a quarter each is deleted, altered, doubled, added), and after `movierec repair`.
Seconds and processor seconds are of the whole command, its start included; the peak is its resident memory. The last
line is JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil
import pyarrow as pa
import requests
from pydantic import SecretStr

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.config import Settings, load_settings, variables_of
from movierec_platform.domain.interactions import facts_of_ratings, pair_states
from movierec_platform.domain.tables import MOVIES as MOVIES_SCHEMA
from movierec_platform.domain.tables import RATINGS as RATINGS_SCHEMA
from movierec_platform.infrastructure.provision import provision
from movierec_platform.local.aws import ACCESS_KEY_ID, AwsServer
from movierec_platform.local.graph import DATABASE, USER, GraphServer
from movierec_tests.benchmarks.graph_ingest import add_graph_option, own_graph
from movierec_tests.benchmarks.measure import print_result

MOVIES = 27_000
A_USER = 150
BATCH_USERS = 1_000
AT_MS = 1_500_000_000_000
TARGET_S = 60.0
TARGET_MB = 1_000

DAMAGE = {
    "deleted": "MATCH (u)-[e:VIO]->(m) DELETE e",
    "altered": "MATCH (u)-[e:VIO]->(m) SET e.seen_at_ms = e.seen_at_ms + 1",
    "doubled": "MATCH (u)-[e:VIO]->(m) CREATE (u)-[d:VIO]->(m) SET d = properties(e)",
    "added": "MATCH (other:Pelicula {id: $unrated}) CREATE (u)-[:VIO {seen_at_ms: 1}]->(other)",
}
FOUND_AS = {"deleted": "missing", "altered": "altered", "doubled": "doubled", "added": "extra"}


def ratings(count: int) -> Iterator[pa.RecordBatch]:
    """So many ratings, whole users in order; the last movie has none."""
    chance = np.random.default_rng(1)
    weight = np.cumsum(1 / (np.arange(MOVIES - 1) + 10))
    first_user = 1
    while count > 0:
        users = np.repeat(np.arange(first_user, first_user + BATCH_USERS), A_USER)
        movies = 1 + np.searchsorted(weight, chance.random(len(users)) * weight[-1])
        pairs = np.unique(users * MOVIES * 2 + movies)[:count]
        users, movies = pairs // (MOVIES * 2), pairs % (MOVIES * 2)
        given, at_ms = chance.integers(1, 11, len(pairs)) / 2, AT_MS + chance.integers(0, 10**9, len(pairs))
        yield pa.record_batch([users, movies, given, at_ms], schema=RATINGS_SCHEMA)
        count -= len(pairs)
        first_user += BATCH_USERS


def fill_lake(settings: Settings, count: int) -> None:
    lake = Lake(settings)
    rows = [{"movie_id": one, "title": f"M{one}", "year": 2000, "genres": []} for one in range(1, MOVIES + 1)]
    lake.write("movies", pa.Table.from_pylist(rows, MOVIES_SCHEMA))
    lake.promote(lake.stage("ratings", ratings(count), RATINGS_SCHEMA))


def fill_graph(settings: Settings, count: int, batch_url: str) -> None:
    empty = {"year": 2000, "genres": [], "rating_count": 0, "rating_mean": None}
    with Graph.open(settings) as graph:
        graph.ensure_schema()
        graph.merge_movies([{"id": one, "title": f"M{one}", **empty} for one in range(1, MOVIES + 1)])
        rids = dict(graph._read("MATCH (m:Pelicula) RETURN m.id, elementId(m)"))
        for number, batch in enumerate(ratings(count)):
            facts = pa.Table.from_batches([facts_of_ratings(batch)])
            if batch_url:
                fill_by_batch(settings, batch_url, facts, rids)
            else:
                states = list(pair_states(facts))
                for start in range(0, len(states), 5_000):
                    graph.load_users(dict(states[start : start + 5_000]))
            print(f"\rloaded {number + 1} x {BATCH_USERS} users", end="", file=sys.stderr)


def fill_by_batch(settings: Settings, batch_url: str, facts: pa.Table, rids: dict[int, str]) -> None:
    """Into ArcadeDB, by its batch endpoint: users first, then edges that name them by their order."""
    rows = facts.to_pylist()
    order = {user_id: place for place, user_id in enumerate(dict.fromkeys(row["user_id"] for row in rows))}
    lines = [orjson.dumps({"@type": "vertex", "@class": "Usuario", "id": user_id}) for user_id in order]
    for row in rows:
        ends = {"@from": order[row.pop("user_id")], "@to": rids[row.pop("movie_id")]}
        registers = {name: value for name, value in row.items() if value is not None}
        lines.append(orjson.dumps({"@type": "edge", "@class": "VIO", **ends, **registers}))
    auth = (settings.neo4j_user, settings.neo4j_password.get_secret_value())
    asked = {"wal": "true", "refMode": "ordinal"}
    requests.post(batch_url, params=asked, data=b"\n".join(lines), auth=auth, timeout=600).raise_for_status()


def damage(settings: Settings, pairs: int) -> None:
    """So many pairs, each of another user, are not what they were."""
    with Graph.open(settings) as graph:
        users = graph.user_ids()[:pairs]
        for number, statement in enumerate(DAMAGE.values()):
            chosen = "UNWIND $ids AS id MATCH (u:Usuario {id: id})-[:VIO]->(m:Pelicula) WITH u, min(m.id) AS least"
            graph._write(
                lambda transaction, text, **given: transaction.run(text, given).consume(),
                f"{chosen} MATCH (m:Pelicula {{id: least}}) WITH u, m {statement}",
                ids=users[number :: len(DAMAGE)],
                unrated=MOVIES,
            )


def run(settings: Settings, *command: str) -> dict[str, Any]:
    """What the command printed as JSON, with its seconds, processor seconds and peak of resident memory in MiB."""
    begun = time.perf_counter()
    arguments = [sys.executable, "-m", "movierec_platform.cli", *command, "--json"]
    environment = {**os.environ, **variables_of(settings)}
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) as process:
        started, peak_kb, cpu_s = psutil.Process(process.pid), 0, 0.0
        while process.poll() is None:  # what wait4 tells as the peak begins with that of this process
            with suppress(psutil.NoSuchProcess, FileNotFoundError, ValueError):
                peak_kb = max(peak_kb, peak_of(process.pid))
                cpu_s = sum(started.cpu_times()[:2])
            time.sleep(0.1)
        said = process.stdout.read() if process.stdout else ""
    if process.returncode not in (0, 1):
        sys.exit(f"movierec {' '.join(command)} ended with {process.returncode}")
    figures = {
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_s": round(cpu_s, 1),
        "peak_mb": peak_kb // 1024,
    }
    return {**json.loads(said), **figures}


def peak_of(pid: int) -> int:
    """The most resident memory that the process has had, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    [peak] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peak.split()[1])


@contextmanager
def servers(kind: str) -> Iterator[tuple[Settings, str]]:
    """(settings of a lake and a graph of their own, URL of the batch endpoint or nothing)"""
    with tempfile.TemporaryDirectory(prefix="movierec-benchmark-") as folder:
        aws = AwsServer(Path(folder), 0)
        graph = GraphServer(Path(folder), 0)
        aws.start()
        try:
            own = {
                "home": Path(folder) / "home",
                "aws_endpoint_url": aws.url,
                "aws_access_key_id": ACCESS_KEY_ID,
                "aws_secret_access_key": SecretStr("opens-nothing"),
                "bucket": "benchmark",
            }
            if kind == "neo4j":
                with own_graph(kind) as given:
                    names = ("neo4j_uri", "neo4j_user", "neo4j_password", "neo4j_database")
                    yield provisioned(own | {name: getattr(given, name) for name in names}), ""
                return
            graph.start()
            password = SecretStr(graph.password)
            at = {"neo4j_uri": graph.uri, "neo4j_user": USER, "neo4j_password": password, "neo4j_database": DATABASE}
            url = f"http://127.0.0.1:{graph.http_port}/api/v1"
            for edge in ("VIO", "RETIRO"):
                command = {"language": "sql", "command": f"CREATE EDGE TYPE {edge} IF NOT EXISTS"}
                auth = (USER, graph.password)
                requests.post(f"{url}/command/{DATABASE}", json=command, auth=auth, timeout=60).raise_for_status()
            yield provisioned(own | at), f"{url}/batch/{DATABASE}"
        finally:
            graph.stop()
            aws.stop()


def provisioned(own: dict[str, Any]) -> Settings:
    settings = load_settings(own)
    return settings.model_copy(update=asdict(provision(settings, prefix="benchmark")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=int, default=5_000_000)
    parser.add_argument("--altered", type=int, default=1_000, help="pairs that are damaged by hand")
    add_graph_option(parser)
    given = parser.parse_args()
    with servers(given.graph) as (settings, batch_url):
        fill_lake(settings, given.ratings)
        fill_graph(settings, given.ratings, batch_url)
        print(f"\r{psutil.virtual_memory().percent:.0f} % of memory in use", file=sys.stderr)
        equal = run(settings, "verify")
        damage(settings, given.altered)
        damaged = run(settings, "verify")
        repaired = run(settings, "repair")
        after = run(settings, "verify")
    figures = ("seconds", "cpu_s", "peak_mb")
    result: dict[str, Any] = {f"verify_{name}": equal[name] for name in figures}
    result |= {f"verify_damaged_{name}": damaged[name] for name in figures}
    result |= {f"repair_{name}": repaired[name] for name in figures}
    result |= {"damaged": given.altered, "found": damaged["differing_pairs"], "repaired": repaired["pairs"]}
    quarters = {FOUND_AS[name]: len(range(number, given.altered, 4)) for number, name in enumerate(DAMAGE)}
    right = equal["equal"] and damaged["kinds"] == quarters == repaired["kinds"] and after["equal"]
    reached = right and result["verify_seconds"] < TARGET_S and result["verify_peak_mb"] < TARGET_MB
    print(
        f"verify of {equal['graph_pairs']:,} pairs: "
        f"{equal['seconds']} s, {equal['cpu_s']} CPU-s, {equal['peak_mb']} MB; "
        f"damage found to the pair, and mended: {'yes' if right else 'NO'}; "
        f"target {TARGET_S:g} s, {TARGET_MB} MB: {'reached' if reached else 'MISSED'}"
    )
    print_result({"benchmark": "parity", "graph": given.graph, "pairs": equal["graph_pairs"], "exact": right, **result})


if __name__ == "__main__":
    main()
