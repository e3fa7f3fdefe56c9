"""The graph over Bolt: every Cypher statement of the project, the same for Neo4j 5.26 and ArcadeDB.

Writes are explicit transactions, atomic and durable when they return, retried on transient errors for up to 30 s.
A reader sees committed data. Failures are GraphUnavailable, and UsageError when the graph refuses the credentials.

Three rules keep the statements fast and right on both graphs: nothing writes in auto-commit (not atomic on ArcadeDB);
both ends of an edge are bound before it is touched, and it is walked from the movie; times are epoch milliseconds.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import neo4j
from neo4j.exceptions import AuthError, ConstraintError, DriverError, Neo4jError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from typing_extensions import LiteralString, Self

from movierec_platform.adapters.graph_changes import SCHEMA as CHANGES_SCHEMA
from movierec_platform.adapters.graph_changes import Changes, Position, announce, read_changes
from movierec_platform.config import Settings
from movierec_platform.domain.differences import Difference, edge_type
from movierec_platform.domain.registers import UNSEEN, Pair, PairState, bucket_of
from movierec_platform.errors import GraphUnavailable, LeaseLost, UsageError

if TYPE_CHECKING:
    import pyarrow as pa  # imported where it is used: the drains do without

CONNECT_TIMEOUT_S = 3.0
RETRY_S = 30.0
WRITE_ROWS = 5_000
"""Rows in one statement, at most: ArcadeDB takes 16 MiB a Bolt message."""
DROP_MOVIES = 500
"""Movies whose similarity edges one statement drops."""
READ_USERS = 500
"""Users whose edges one statement reads."""

SimilarityEdge = tuple[int, int, float, int, int]
"""(source movie, target movie, score, rank within the target, support)"""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Watched:
    """One movie in a user's history; `rating` is None for a view."""

    movie_id: int
    rating: float | None
    seen_at_ms: int


@dataclass(frozen=True, slots=True)
class Publication:
    """The similarity version that readers use, and the one that it replaced."""

    version: str
    previous: str | None
    published_at_ms: int
    why: str = ""
    """Who did it, how, and against what advice."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """What became of differences that were to be replaced."""

    done: frozenset[Pair]
    changed: frozenset[Pair]
    """Not as they had been read any more, and left as they are."""
    unknown_movies: frozenset[int]
    """Those that the graph lacks: their pairs are neither."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """How a pair stands in the graph."""

    edge: Literal["VIO", "RETIRO"] | None
    state: PairState


class Graph:
    """One graph database. Thread-safe; connects at first use. `with Graph.open(settings) as graph:` closes it."""

    def __init__(self, driver: neo4j.Driver, database: str) -> None:
        self._driver = driver
        self._database = database

    @classmethod
    def open(cls, settings: Settings, retry_s: float = RETRY_S) -> Self:
        """The graph that the settings name; `retry_s` bounds the retries of a transaction."""
        with _errors():
            driver = neo4j.GraphDatabase.driver(
                settings.neo4j_uri,
                auth=(settings.neo4j_user, settings.neo4j_password.get_secret_value()),
                connection_timeout=CONNECT_TIMEOUT_S,
                connection_acquisition_timeout=2 * CONNECT_TIMEOUT_S,
                max_transaction_retry_time=retry_s,
                notifications_min_severity="OFF",
                telemetry_disabled=True,
            )
        return cls(driver, settings.neo4j_database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._driver.close()

    def ping(self) -> None:
        """Nothing, if the graph answers."""
        self._read("RETURN 1")

    def ensure_schema(self) -> None:
        """Ids are unique and indexed; running it again changes nothing."""
        for statement in _SCHEMA:
            self._write(_run, statement)

    # Catalogue

    def merge_movies(self, movies: Sequence[Mapping[str, Any]]) -> None:
        """These movies stand in the graph with these properties and exactly these genres.

        A movie is `{id, title, year, genres, rating_count, rating_mean}`; a None property is absent.
        """
        for batch in _batches(movies, WRITE_ROWS):
            rows = [dict(movie) for movie in batch]
            genres = sorted({genre for movie in batch for genre in movie["genres"]})
            self._write(_merge_movies, rows, genres)

    def movie_count(self) -> int:
        return self._count("MATCH (m:Pelicula) RETURN count(m)")

    def movie_popularity(self) -> list[tuple[int, int]]:
        """(movie id, number of its ratings) of every movie, by id."""
        rows = self._read("MATCH (m:Pelicula) RETURN m.id, coalesce(m.rating_count, 0) ORDER BY m.id")
        return [(movie_id, ratings) for movie_id, ratings in rows]

    def user_ids(self) -> list[int]:
        """Every user's id, in order."""
        return [row[0] for row in self._read("MATCH (u:Usuario) WHERE u.id IS NOT NULL RETURN u.id ORDER BY u.id")]

    def users_from(self, first: int, n: int) -> list[tuple[int, int]]:
        """(id, movies visibly seen) of the first `n` users from this id on, by id."""
        return [(user_id, seen) for user_id, seen in self._read(_USERS_FROM, first=first, n=n)]

    # Pairs

    def apply_pairs(self, pairs: Mapping[Pair, PairState]) -> set[int]:
        """Every pair's registers are merged into the graph in one transaction; returns the movies that it lacks.

        For a few pairs of many users. Idempotent: the registers are maxima, and what changes none writes nothing.
        """
        return self._merge(pairs, _states_of_pairs)

    def load_users(self, pairs: Mapping[Pair, PairState]) -> set[int]:
        """As `apply_pairs`, for the whole histories of a few users: reads a history at once, not pair by pair."""
        return self._merge(pairs, _states_of_users)

    def history(self, user_id: int) -> list[Watched]:
        """What the user has visibly seen, latest first; empty for an unknown user."""
        [[seen]] = self._read(_HISTORY, user_id=user_id)
        return [Watched(*one) for one in sorted(seen, key=lambda one: (-one[2], one[0]))]

    def changes(self, since: Position | None) -> Changes:
        """Whose history was changed by what was committed after `since`; None: by whatever was."""
        with _errors(), self._driver.session(database=self._database) as session:
            return session.execute_read(read_changes, since)

    def pair_count(self) -> int:
        """Visible pairs."""
        return self._count("MATCH (:Usuario)-[e:VIO]->(:Pelicula) RETURN count(e)")

    def pairs(self, buckets: Collection[int] | None = None) -> Iterator["pa.Table"]:
        """Every edge of a user to a movie, VIO and RETIRO, in tables of EDGES with whole users in ascending order.

        With `buckets`, only of users in these. Each user is read as he stands at that moment. A property of a foreign
        type comes as a value that no event gives, and the movie of an edge to one without an id is 0.
        """
        yield from self.pairs_of(one for one in self.user_ids() if buckets is None or bucket_of(one) in buckets)

    def pairs_of(self, user_ids: Iterable[int]) -> Iterator["pa.Table"]:
        """As `pairs`, of these users; a table holds READ_USERS of them, in the order in which they are given."""
        from movierec_platform.domain.edges import edges_table

        for batch in _batches(user_ids, READ_USERS):
            stored = dict(self._read(_EDGES_OF_USERS, ids=batch))
            yield edges_table({user_id: stored[user_id] for user_id in batch if user_id in stored})

    def replace_pairs(self, differences: Collection[Difference]) -> Replaced:
        """Each pair stands as the lake says, in one transaction: one edge, or none.

        Only where the graph still holds exactly the edges that the difference was found with: what was written since
        is never undone.
        """
        known = {row[0] for row in self._read(_KNOWN_MOVIES, ids=sorted({one.movie_id for one in differences}))}
        wanted = {one.pair: one for one in differences if one.lake is None or one.movie_id in known}
        unknown_movies = frozenset(one.movie_id for one in differences if one.pair not in wanted)
        try:
            changed = self._write(_replace, wanted)
        except _Unchanged:
            changed = frozenset(wanted)
        return Replaced(frozenset(wanted) - changed, changed, unknown_movies)

    # Similarity

    def publication(self) -> Publication | None:
        """The published similarity; None before the first."""
        rows = self._read(_PUBLICATION)
        return Publication(*rows[0]) if rows else None

    def take_similarity(self, writer: str) -> None:
        """From now on only this writer changes the similarity: whoever took it before gets LeaseLost from each write.

        That guards what no lease can: a writer that was suspended, and wakes when another has long gone on.
        """
        self._write(_run, _TAKE_SIMILARITY, writer=writer)

    def write_similarity(self, version: str, edges: Iterable[SimilarityEdge], writer: str | None = None) -> int:
        """These edges stand beside those of other versions, invisible until `publish`; returns how many.

        Not idempotent: an interrupted write is dropped first, by `drop_similarity`. Of this and the next two, `writer`
        is who took the similarity; None: nobody else can be writing, as in a rebuild.
        """
        written = 0
        for batch in _batches(edges, WRITE_ROWS):
            rows = [list(edge) for edge in batch]
            self._write(_as_writer, writer, _CREATE_SIMILAR, rows=rows, version=version)
            written += len(rows)
        return written

    def publish(self, version: str, published_at_ms: int, writer: str | None = None, why: str = "") -> None:
        """Readers use this version from now on; the one before is kept as `previous`. One transaction."""
        self._write(_as_writer, writer, _PUBLISH, version=version, now=published_at_ms, why=why)

    def drop_similarity(self, keep: Collection[str], writer: str | None = None) -> int:
        """Only edges of these versions are left; returns how many were deleted."""
        movie_ids = [row[0] for row in self._read("MATCH (m:Pelicula) RETURN m.id")]
        dropped = 0
        for batch in _batches(movie_ids, DROP_MOVIES):
            rows = self._write(_as_writer, writer, _DROP_SIMILAR, ids=batch, keep=list(keep))
            dropped += rows[0][0]
        return dropped

    def similarity_count(self, version: str, writer: str | None = None) -> int:
        """Edges of this version; a writer that lost the similarity to another gets LeaseLost instead."""
        if writer is None:
            return self._count(_COUNT_SIMILAR, version=version)
        count: int = self._write(_as_writer, writer, _COUNT_SIMILAR, version=version)[0][0]
        return count

    def _merge(self, pairs: Mapping[Pair, PairState], read: "_ReadStates") -> set[int]:
        try:
            return self._write(_apply, pairs, read)
        except _Unchanged as unchanged:
            return unchanged.unknown_movies

    def _count(self, statement: LiteralString, **parameters: Any) -> int:
        count: int = self._read(statement, **parameters)[0][0]
        return count

    def _read(self, statement: LiteralString, **parameters: Any) -> list[list[Any]]:
        with _errors(), self._driver.session(database=self._database) as session:
            return session.execute_read(_run, statement, **parameters)

    def _write(self, work: Callable[..., Result], *arguments: Any, **parameters: Any) -> Result:
        """What `work(transaction, ...)` returns, once durable. Two MERGEs of a node can meet in a ConstraintError."""
        retry = Retrying(
            retry=retry_if_exception_type(ConstraintError),
            stop=stop_after_attempt(5),
            wait=wait_random_exponential(multiplier=0.05, max=1),
            reraise=True,
        )
        with _errors(), self._driver.session(database=self._database) as session:
            result: Result = retry(session.execute_write, work, *arguments, **parameters)
            return result


_SCHEMA: tuple[LiteralString, ...] = (
    "CREATE CONSTRAINT usuario_id IF NOT EXISTS FOR (u:Usuario) REQUIRE u.id IS UNIQUE",
    "CREATE CONSTRAINT pelicula_id IF NOT EXISTS FOR (m:Pelicula) REQUIRE m.id IS UNIQUE",
    "CREATE CONSTRAINT genero_name IF NOT EXISTS FOR (g:Genero) REQUIRE g.name IS UNIQUE",
    "CREATE CONSTRAINT publicacion_name IF NOT EXISTS FOR (p:Publicacion) REQUIRE p.name IS UNIQUE",
    *CHANGES_SCHEMA,
)

_MERGE_GENRES: LiteralString = "UNWIND $names AS name MERGE (:Genero {name: name})"
_MERGE_MOVIES: LiteralString = """
UNWIND $rows AS row
MERGE (m:Pelicula {id: row.id})
SET m.title = row.title, m.year = row.year, m.genres = row.genres,
    m.rating_count = row.rating_count, m.rating_mean = row.rating_mean
"""
_DROP_GENRES: LiteralString = """
UNWIND $rows AS row
MATCH (m:Pelicula {id: row.id})-[e:ES_DE]->(g:Genero)
WHERE NOT g.name IN row.genres
DELETE e
"""
_MERGE_GENRES_OF_MOVIES: LiteralString = """
UNWIND $rows AS row
MATCH (m:Pelicula {id: row.id})
UNWIND row.genres AS name
MATCH (g:Genero {name: name})
MERGE (m)-[:ES_DE]->(g)
"""

# One record, a list, instead of one a row where many are read: the driver spends a third of the time on records.
_STATE: LiteralString = "e.rating, e.rated_at_ms, e.event_id, e.seen_at_ms, e.retracted_at_ms"
_EDGES_OF_USERS: LiteralString = f"""
UNWIND $ids AS id
MATCH (u:Usuario {{id: id}})-[e:VIO|RETIRO]->(m:Pelicula)
RETURN id, collect([coalesce(m.id, 0), type(e), {_STATE}])
"""
_USERS_FROM: LiteralString = """
MATCH (u:Usuario) WHERE u.id >= $first
WITH u ORDER BY u.id LIMIT $n
OPTIONAL MATCH (u)-[e:VIO]->(:Pelicula)
RETURN u.id AS id, count(e) AS seen ORDER BY id
"""
_HISTORY: LiteralString = """
MATCH (u:Usuario {id: $user_id})-[e:VIO]->(m:Pelicula)
RETURN collect([m.id, e.rating, e.seen_at_ms])
"""
# Two writers of one user take turns: the change takes the node's write lock on Neo4j, and on ArcadeDB fails the later
# commit, which is tried again. It must last, come after MERGE has the node and before its edges are read: ArcadeDB sees
# no conflict in one that is undone, or equal to what was there. New users are guarded by their constraint.
_TAKE_TURN: LiteralString = "SET u.turn = coalesce(u.turn, 0) + 1"
_STATES_OF_PAIRS: LiteralString = f"""
UNWIND $pairs AS pair
MATCH (m:Pelicula {{id: pair[1]}})
MERGE (u:Usuario {{id: pair[0]}})
{_TAKE_TURN}
WITH u, m
OPTIONAL MATCH (m)<-[e:VIO|RETIRO]-(u)
RETURN collect([u.id, m.id, type(e), {_STATE}])
"""
_STATES_OF_USERS: LiteralString = f"""
UNWIND $ids AS id
MERGE (u:Usuario {{id: id}})
{_TAKE_TURN}
WITH u
MATCH (u)-[e:VIO|RETIRO]->(m:Pelicula)
RETURN collect([u.id, coalesce(m.id, 0), type(e), {_STATE}])
"""
_KNOWN_MOVIES: LiteralString = "UNWIND $ids AS id MATCH (m:Pelicula {id: id}) RETURN m.id"

# Values in a row's own list, not in a map: the driver, which packs in Python, would pack every key of every row.
_SET: LiteralString = (
    "e = {rating: row[2], rated_at_ms: row[3], event_id: row[4], seen_at_ms: row[5], retracted_at_ms: row[6]}"
)
_ENDS: LiteralString = "UNWIND $rows AS row MATCH (m:Pelicula {id: row[1]}) MATCH (u:Usuario {id: row[0]})"
_CREATE_EDGE: Mapping[str, LiteralString] = {
    "VIO": f"{_ENDS} CREATE (u)-[e:VIO]->(m) SET {_SET}",
    "RETIRO": f"{_ENDS} CREATE (u)-[e:RETIRO]->(m) SET {_SET}",
}
_UPDATE_EDGE: Mapping[str, LiteralString] = {
    "VIO": f"{_ENDS} MATCH (m)<-[e:VIO]-(u) SET {_SET}",
    "RETIRO": f"{_ENDS} MATCH (m)<-[e:RETIRO]-(u) SET {_SET}",
}
_DELETE_EDGE: Mapping[str, LiteralString] = {
    "VIO": f"{_ENDS} MATCH (m)<-[e:VIO]-(u) DELETE e",
    "RETIRO": f"{_ENDS} MATCH (m)<-[e:RETIRO]-(u) DELETE e",
}

# From the user, and by `coalesce`, so that an edge to a movie without an id is found as it was read.
_DELETE_EDGES: LiteralString = """
UNWIND $rows AS row
MATCH (u:Usuario {id: row[0]})-[e:VIO|RETIRO]->(m:Pelicula)
WHERE coalesce(m.id, 0) = row[1]
DELETE e
"""

_PUBLICATION: LiteralString = """
MATCH (p:Publicacion {name: 'similarity'}) WHERE p.version IS NOT NULL
RETURN p.version, p.previous, p.published_at_ms, coalesce(p.why, '')
"""
_TAKE_SIMILARITY: LiteralString = """
MERGE (p:Publicacion {name: 'similarity'})
SET p.writer = $writer, p.turn = coalesce(p.turn, 0) + 1
"""
# The turn makes every write of the writer conflict with another's taking of the similarity: see _TAKE_TURN.
_WRITER_TURN: LiteralString = """
MATCH (p:Publicacion {name: 'similarity'}) WHERE p.writer = $writer
SET p.turn = p.turn + 1
RETURN count(p)
"""
_PUBLISH: LiteralString = """
MERGE (p:Publicacion {name: 'similarity'})
SET p.previous = CASE WHEN p.version = $version THEN p.previous ELSE p.version END,
    p.published_at_ms = CASE WHEN p.version = $version THEN p.published_at_ms ELSE $now END,
    p.why = CASE WHEN p.version = $version THEN p.why ELSE $why END
SET p.version = $version
"""
_CREATE_SIMILAR: LiteralString = """
UNWIND $rows AS row
MATCH (source:Pelicula {id: row[0]})
MATCH (target:Pelicula {id: row[1]})
CREATE (source)-[:SIMILAR {score: row[2], rank: row[3], support: row[4], version: $version}]->(target)
"""
_COUNT_SIMILAR: LiteralString = """
MATCH (:Pelicula)-[s:SIMILAR]->(:Pelicula) WHERE s.version = $version RETURN count(s)
"""
_DROP_SIMILAR: LiteralString = """
UNWIND $ids AS id
MATCH (m:Pelicula {id: id})-[s:SIMILAR]->(:Pelicula)
WHERE NOT s.version IN $keep
DELETE s
RETURN count(s)
"""


def _run(transaction: neo4j.ManagedTransaction, statement: LiteralString, /, **parameters: Any) -> list[list[Any]]:
    return [row.values() for row in transaction.run(statement, parameters)]


def _as_writer(
    transaction: neo4j.ManagedTransaction, writer: str | None, statement: LiteralString, /, **parameters: Any
) -> list[list[Any]]:
    """As `_run`, if this writer (None: anybody) still has the similarity; else LeaseLost, and nothing is written."""
    if writer is not None and _run(transaction, _WRITER_TURN, writer=writer) != [[1]]:
        raise LeaseLost("another publication of the similarity has begun since: this one leaves everything to it")
    return _run(transaction, statement, **parameters)


def _merge_movies(
    transaction: neo4j.ManagedTransaction, rows: Sequence[Mapping[str, Any]], genres: Sequence[str]
) -> None:
    _run(transaction, _MERGE_GENRES, names=genres)
    _run(transaction, _MERGE_MOVIES, rows=rows)
    _run(transaction, _DROP_GENRES, rows=rows)
    _run(transaction, _MERGE_GENRES_OF_MOVIES, rows=rows)


def _states_of_pairs(transaction: neo4j.ManagedTransaction, pairs: Collection[Pair]) -> dict[Pair, _Stored]:
    """How each of these pairs stands, by pair; a pair whose movie is unknown is missing."""
    [[rows]] = _run(transaction, _STATES_OF_PAIRS, pairs=[list(pair) for pair in sorted(pairs)])
    return {(user, movie): _Stored(edge, PairState(*state)) for user, movie, edge, *state in rows}


def _states_of_users(transaction: neo4j.ManagedTransaction, pairs: Collection[Pair]) -> dict[Pair, _Stored]:
    """As `_states_of_pairs`, read as whole histories."""
    known = {row[0] for row in _run(transaction, _KNOWN_MOVIES, ids=sorted({movie for _, movie in pairs}))}
    stored = {pair: _Stored(None, UNSEEN) for pair in pairs if pair[1] in known}
    [[rows]] = _run(transaction, _STATES_OF_USERS, ids=sorted({user for user, _ in pairs}))
    for user, movie, edge, *state in rows:
        if (user, movie) in stored:
            stored[user, movie] = _Stored(edge, PairState(*state))
    return stored


_ReadStates = Callable[[neo4j.ManagedTransaction, Collection[Pair]], dict[Pair, _Stored]]


class _Unchanged(Exception):
    """Nothing is to be written: the transaction is rolled back, and with it the turn that was taken."""

    def __init__(self, unknown_movies: Collection[int] = ()) -> None:
        super().__init__()
        self.unknown_movies = set(unknown_movies)


def _apply(transaction: neo4j.ManagedTransaction, pairs: Mapping[Pair, PairState], read: _ReadStates) -> set[int]:
    """Writes what merging changes of what `read` finds; returns the movies that are not in the graph.

    Raises _Unchanged when it changes nothing.
    """
    stored = read(transaction, pairs)
    unknown_movies = {movie for user, movie in pairs if (user, movie) not in stored}
    create: dict[str, list[list[Any]]] = {"VIO": [], "RETIRO": []}
    update: dict[str, list[list[Any]]] = {"VIO": [], "RETIRO": []}
    delete: dict[str, list[list[Any]]] = {"VIO": [], "RETIRO": []}
    for pair, before in stored.items():
        after = before.state.merged_with(pairs[pair])
        if after == before.state:
            continue
        edge = edge_type(after)
        (update if before.edge == edge else create)[edge].append([*pair, *_values(after)])
        if before.edge is not None and before.edge != edge:
            delete[before.edge].append(list(pair))
    if not any(rows for kind in (create, update) for rows in kind.values()):
        raise _Unchanged(unknown_movies)
    for statements, rows_of_edge in ((_DELETE_EDGE, delete), (_UPDATE_EDGE, update), (_CREATE_EDGE, create)):
        for name, rows in rows_of_edge.items():
            if rows:
                _run(transaction, statements[name], rows=rows)
    announce(transaction, {row[0] for kind in (create, update) for rows in kind.values() for row in rows})
    return unknown_movies


def _replace(transaction: neo4j.ManagedTransaction, wanted: Mapping[Pair, Difference]) -> frozenset[Pair]:
    """Writes what the lake says of each pair that stands as it was read; returns the others.

    Raises _Unchanged when that is all of them.
    """
    from movierec_platform.domain.edges import edges_table
    from movierec_platform.domain.parity import edges_of

    edges: dict[int, list[list[Any]]] = {user_id: [] for user_id, _ in wanted}
    for user_id, *edge in _run(transaction, _STATES_OF_USERS, ids=sorted(edges))[0][0]:
        edges[user_id].append(edge)
    stored = edges_of(edges_table(edges))
    # As text, so that not-a-number equals itself.
    same = [
        one for pair, one in wanted.items() if sorted(map(repr, stored.get(pair, ()))) == sorted(map(repr, one.edges))
    ]
    if not same:
        raise _Unchanged
    if held := [list(one.pair) for one in same if one.edges]:
        _run(transaction, _DELETE_EDGES, rows=held)
    wanted_states = [(one.pair, one.lake) for one in same if one.lake is not None]
    for edge, statement in _CREATE_EDGE.items():
        created = [[*pair, *_values(state)] for pair, state in wanted_states if edge_type(state) == edge]
        if created:
            _run(transaction, statement, rows=created)
    announce(transaction, {one.user_id for one in same})
    return frozenset(wanted) - {one.pair for one in same}


def _values(state: PairState) -> list[Any]:
    """In the order of `_SET`."""
    return [state.rating, state.rated_at_ms, state.event_id, state.seen_at_ms, state.retracted_at_ms]


Row = TypeVar("Row")


def _batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, size)):
        yield batch


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except AuthError as error:
        raise UsageError("the graph refuses NEO4J_USER and NEO4J_PASSWORD: set those of this database") from error
    except (Neo4jError, DriverError) as error:
        raise GraphUnavailable(f"the graph does not answer: {error}") from error
