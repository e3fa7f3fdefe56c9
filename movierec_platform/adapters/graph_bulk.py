"""The graph while it is made whole in an empty database, with the fastest way in that the database offers.

Over Bolt users are created with their edges in one transaction, and nothing is looked for that cannot be there.
ArcadeDB behind `graph_http_url` takes them by its batch endpoint instead, which commits as it goes: what an interrupted
batch left is removed before its users are written again. Nobody else may write meanwhile, or edges are lost.

A node `(:Reconstruccion)` stands in the graph from the first step to the last and tells how far it is. Failures are
GraphUnavailable, and UsageError when the graph refuses the credentials.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, ClassVar

import neo4j
import orjson
import requests
from typing_extensions import LiteralString

from movierec_platform.adapters.graph import WRITE_ROWS, Graph, batches
from movierec_platform.adapters.graph_changes import announce
from movierec_platform.adapters.graph_connection import CONNECT_TIMEOUT_S, REFUSED, run
from movierec_platform.adapters.graph_pairs import CREATE_EDGE, SET, values
from movierec_platform.adapters.graph_similarity import Publication, SimilarityEdge
from movierec_platform.adapters.http import http_session
from movierec_platform.config import Settings
from movierec_platform.domain.registers import Pair, PairState
from movierec_platform.errors import GraphUnavailable, UsageError

BATCH_TIMEOUT_S = 600.0
POLL_S = 0.1
EDGE_TYPES = ("VIO", "RETIRO", "SIMILAR")

Histories = Sequence[tuple[Pair, PairState]]
"""Pairs of whole users, by user."""


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """How far an unfinished rebuild is: what the marker node holds."""

    as_of_ms: int
    as_of_given: bool
    """Somebody asked for this moment; else it is that of the first start."""
    expected_pairs: int = 0
    movies: int = 0
    """Of the catalogue, once it stands in the graph whole."""
    last_user_id: int = 0
    """Users up to this one are whole; those after it may have been begun."""
    users: int = 0
    pairs: int = 0
    users_done: bool = False
    versions: tuple[str, ...] = ()
    """Similarity versions that stand in the graph whole."""


class BulkGraph(Graph):
    """A graph that is being made, over Bolt. Thread-safe."""

    way: ClassVar[str] = "Bolt"
    pairs_at_once: ClassVar[int] = 20_000
    """Pairs that one `create_users` is best given."""

    def is_arcadedb(self) -> bool:
        # Asked of the server itself: over Bolt it says that it is a Neo4j, so that drivers work.
        return "ArcadeDB" in self._driver.get_server_info().agent

    def nodes_by_label(self) -> dict[str, int]:
        """How many nodes there are of each label, the most first; those of the change feed aside."""
        rows = self._read("MATCH (n) RETURN labels(n)[0] AS label, count(*) AS nodes ORDER BY nodes DESC")
        return {str(label): nodes for label, nodes in rows if label not in ("Cambios", "Cambio")}

    def reconstruction(self) -> Reconstruction | None:
        """The rebuild that was begun and not finished."""
        rows = self._read("MATCH (r:Reconstruccion) RETURN properties(r)")
        if not rows:
            return None
        noted: Mapping[str, Any] = rows[0][0]
        versions = tuple(noted.get("versions") or ())  # imported from a file, an empty list is absent
        return Reconstruction(
            **{name: noted[name] for name in Reconstruction.__slots__ if name != "versions"}, versions=versions
        )

    def note(self, reconstruction: Reconstruction) -> None:
        """The graph tells that the rebuild is so far; the marker is made if there is none."""
        self._write(run, _NOTE, noted=_noted(reconstruction))

    def prepare(self) -> None:
        """Writing can begin: nothing that an interrupted rebuild has sent is under way any more."""
        self.ensure_schema()

    def create_users(self, histories: Histories, then: Reconstruction) -> None:
        """These users, none of whom is there, stand in the graph with these pairs, and the rebuild is so far."""
        self._write(_create_users, histories, _noted(then))

    def drop_users_after(self, user_id: int) -> None:
        """No user with a greater id is left."""
        while self._write(run, _DROP_USERS, after=user_id)[0][0]:
            pass

    def clear(self) -> None:
        """The graph is empty, but for its constraints."""
        for query in (_DROP_EDGES, _DROP_NODES):
            while self._write(run, query)[0][0]:
                pass

    def finish(self, publication: Publication | None) -> None:
        """Readers use this publication, and the rebuild is over."""
        self._write(_finish, publication)


class ArcadeGraph(BulkGraph):
    """The same through ArcadeDB's batch endpoint, many times as fast."""

    way: ClassVar[str] = "the batch endpoint"
    pairs_at_once: ClassVar[int] = 100_000

    def __init__(self, driver: neo4j.Driver, database: str, endpoint: "BatchEndpoint") -> None:
        super().__init__(driver, database)
        self._endpoint = endpoint
        self._rids: dict[int, str] = {}

    def prepare(self) -> None:
        super().prepare()
        marker = [row[0] for row in self._read("MATCH (r:Reconstruccion) RETURN elementId(r)")]
        self._endpoint.prepare(EDGE_TYPES, marker)

    def create_users(self, histories: Histories, then: Reconstruction) -> None:
        position = {user_id: number for number, user_id in enumerate(dict.fromkeys(pair[0] for pair, _ in histories))}
        rids = self._movie_rids()
        self._endpoint.write(
            chain(
                ({"@type": "vertex", "@class": "Usuario", "id": user_id} for user_id in position),
                (_pair_edge(position[user], rids[movie], state) for (user, movie), state in histories),
            )
        )
        self.note(then)

    def drop_users_after(self, user_id: int) -> None:
        super().drop_users_after(user_id)
        for name in ("VIO", "RETIRO"):
            self._endpoint.drop_loose_edges(name)

    def write_similarity(self, version: str, edges: Iterable[SimilarityEdge], writer: str | None = None) -> int:
        rids = self._movie_rids()
        written = 0
        for batch in batches(edges, self.pairs_at_once):
            rows = [
                {
                    **_edge("SIMILAR", rids[source], rids[target]),
                    "score": score,
                    "rank": rank,
                    "support": support,
                    "version": version,
                }
                for source, target, score, rank, support in batch
                if source in rids and target in rids
            ]
            self._endpoint.write(rows)
            written += len(rows)
        return written

    def drop_similarity(self, keep: Collection[str], writer: str | None = None) -> int:
        dropped = super().drop_similarity(keep, writer)
        self._endpoint.drop_versions(keep)
        return dropped

    def _movie_rids(self) -> Mapping[int, str]:
        """ArcadeDB's own id of each movie: what the endpoint calls a vertex that is there already."""
        if not self._rids:
            self._rids = dict(self._read("MATCH (m:Pelicula) RETURN m.id, elementId(m)"))
        return self._rids


class BatchEndpoint:
    """`POST /api/v1/batch/DATABASE` of an ArcadeDB. Not atomic, and repeated it writes again: see the module."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.graph_http_url.rstrip("/")
        self._database = settings.neo4j_database
        self._session = http_session()
        self._session.trust_env = False  # the password goes to this address, through no proxy
        self._session.auth = (settings.neo4j_user, settings.neo4j_password.get_secret_value())

    def prepare(self, edge_types: Collection[str], marker: Collection[str]) -> None:
        """The types are there and no batch is under way. UsageError if this is not the graph with that marker node."""
        known = self._command("SELECT @rid AS rid FROM Reconstruccion")
        if [row["rid"] for row in known] != list(marker):
            raise UsageError(f"MOVIEREC_GRAPH_HTTP_URL ({self._url}) and NEO4J_URI lead to two graphs: set them to one")
        for name in edge_types:
            self._command(f"CREATE EDGE TYPE {name} IF NOT EXISTS")
        self._wait_until_idle()

    def drop_loose_edges(self, edge_type: str) -> None:
        """No edge of a node that is gone is left: a server killed in a batch has edges that no node knows of."""
        self._command(f"DELETE FROM {edge_type} WHERE @out.@type IS NULL")  # noqa: S608

    def drop_versions(self, keep: Collection[str]) -> None:
        """As `drop_loose_edges`, for similarity edges: both of their nodes stay."""
        self._command("DELETE FROM SIMILAR WHERE NOT (version IN :keep)", keep=list(keep))

    def write(self, records: Iterable[Mapping[str, Any]]) -> None:
        """These vertices and then edges are in the graph, the write-ahead log included."""
        body = bytearray()  # a list of lines would take twenty times as much: each keeps the room that it was made in
        for record in records:
            body += orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        _raise_unless_ok(self._post(f"batch/{self._database}?wal=true&refMode=ordinal", data=body))

    def _wait_until_idle(self) -> None:
        """What a client that was killed has sent is written to its end: a second batch is refused until then."""
        deadline = time.monotonic() + BATCH_TIMEOUT_S
        while True:
            answer = self._post(f"batch/{self._database}", data=b"")
            busy = answer.status_code == 500 and "DatabaseOperationException" in answer.text
            if not busy or time.monotonic() > deadline:
                return _raise_unless_ok(answer)
            time.sleep(POLL_S)

    def _command(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        command = {"language": "sql", "command": statement, "params": parameters}
        answer = self._post(f"command/{self._database}", json=command)
        _raise_unless_ok(answer)
        rows: list[dict[str, Any]] = answer.json()["result"]
        return rows

    def _post(self, path: str, **body: Any) -> requests.Response:
        headers = {"Content-Type": "application/x-ndjson"} if "data" in body else {}
        # The first is also what sending the whole body may take, which the server reads no faster than it writes.
        timeout = (BATCH_TIMEOUT_S if body.get("data") else CONNECT_TIMEOUT_S, BATCH_TIMEOUT_S)
        try:
            return self._session.post(f"{self._url}/api/v1/{path}", headers=headers, timeout=timeout, **body)
        except requests.RequestException as error:
            raise GraphUnavailable(f"the graph at MOVIEREC_GRAPH_HTTP_URL does not answer: {error}") from error


def open_bulk(settings: Settings) -> BulkGraph:
    """The graph that the settings name, by its fastest way in. GraphUnavailable if it does not answer."""
    graph = BulkGraph.open(settings)
    try:
        graph.ping()
        if not settings.graph_http_url or not graph.is_arcadedb():
            return graph
    except BaseException:
        graph.close()
        raise
    return ArcadeGraph(graph._driver, graph._database, BatchEndpoint(settings))


_NOTE: LiteralString = "MERGE (r:Reconstruccion {name: 'graph'}) SET r += $noted"
_DROP_USERS: LiteralString = """
MATCH (u:Usuario) WHERE u.id > $after
WITH u LIMIT 200
DETACH DELETE u
RETURN count(*)
"""
_DROP_EDGES: LiteralString = """
MATCH ()-[e]->()
WITH e LIMIT 20000
DELETE e
RETURN count(*)
"""
_DROP_NODES: LiteralString = """
MATCH (n)
WITH n LIMIT 20000
DELETE n
RETURN count(*)
"""
_CREATE_USERS: LiteralString = f"""
UNWIND $users AS user
CREATE (u:Usuario {{id: user[0]}})
WITH u, user
UNWIND user[1] AS row
MATCH (m:Pelicula {{id: row[1]}})
CREATE (u)-[e:VIO]->(m)
SET {SET}
"""
_POINT: LiteralString = """
MERGE (p:Publicacion {name: 'similarity'})
SET p.version = $version, p.previous = $previous, p.published_at_ms = $published_at_ms, p.why = $why
"""


def _create_users(transaction: neo4j.ManagedTransaction, histories: Histories, noted: Mapping[str, Any]) -> None:
    visible: dict[int, list[list[Any]]] = {user_id: [] for (user_id, _), _ in histories}
    retracted = []
    for pair, state in histories:
        row = [*pair, *values(state)]
        visible[pair[0]].append(row) if state.visible else retracted.append(row)
    for users in _statements(visible):
        run(transaction, _CREATE_USERS, users=users)
    for rows in batches(retracted, WRITE_ROWS):
        run(transaction, CREATE_EDGE["RETIRO"], rows=rows)
    run(transaction, _NOTE, noted=noted)


def _statements(visible: Mapping[int, list[list[Any]]]) -> Iterator[list[list[Any]]]:
    """The users with their rows, as many in each statement as it should have rows."""
    users: list[list[Any]] = []
    rows = 0
    for user_id, seen in visible.items():
        if users and rows + len(seen) > WRITE_ROWS:
            yield users
            users, rows = [], 0
        users.append([user_id, seen])
        rows += len(seen) + 1
    if users:
        yield users


def _finish(transaction: neo4j.ManagedTransaction, publication: Publication | None) -> None:
    if publication is not None:
        run(transaction, _POINT, **asdict(publication))
    run(transaction, "MATCH (m:Pelicula) WHERE m.genres IS NULL SET m.genres = []")  # imported, as above
    run(transaction, "MATCH (r:Reconstruccion) DELETE r")
    announce(transaction, None)  # what was read of the histories while they were made is not all of them


def _pair_edge(user: int, movie: str, state: PairState) -> dict[str, Any]:
    edge = _edge("VIO" if state.visible else "RETIRO", user, movie)
    return edge | {name: value for name, value in _registers(state).items() if value is not None}


def _edge(name: str, start: int | str, end: int | str) -> dict[str, Any]:
    return {"@type": "edge", "@class": name, "@from": start, "@to": end}


def _registers(state: PairState) -> dict[str, Any]:
    return {
        "rating": state.rating,
        "rated_at_ms": state.rated_at_ms,
        "event_id": state.event_id,
        "seen_at_ms": state.seen_at_ms,
        "retracted_at_ms": state.retracted_at_ms,
    }


def _noted(reconstruction: Reconstruction) -> dict[str, Any]:
    return {name: getattr(reconstruction, name) for name in Reconstruction.__slots__} | {
        "versions": list(reconstruction.versions)
    }


def _raise_unless_ok(answer: requests.Response) -> None:
    if answer.status_code in (401, 403):
        raise UsageError(REFUSED)
    if answer.status_code != 200:
        raise GraphUnavailable(f"the graph's batch endpoint answers {answer.status_code}: {answer.text[:500]}")
