"""The graph: what is asked of it and done in it, the same on Neo4j 5.26 and ArcadeDB.

Its Cypher is in the files beside this one that begin with `graph_`, by what it is about; the guarantees, timeouts and
errors of all of it are those of `graph_connection`.

Three rules keep the statements fast and right on both graphs: nothing writes in auto-commit (not atomic on ArcadeDB);
both ends of an edge are bound before it is touched, and it is walked from the movie; times are epoch milliseconds.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import LiteralString

from movierec_platform.adapters.graph_catalogue import (
    KNOWN_MOVIES,
    MOVIE_COUNT,
    MOVIE_IDS,
    MOVIE_POPULARITY,
    merge_movies,
)
from movierec_platform.adapters.graph_changes import SCHEMA as CHANGES_SCHEMA
from movierec_platform.adapters.graph_changes import Changes, Position, read_changes
from movierec_platform.adapters.graph_connection import Connection, run
from movierec_platform.adapters.graph_pairs import (
    EDGES_OF_USERS,
    HISTORY,
    PAIR_COUNT,
    USER_IDS,
    USERS_FROM,
    ReadStates,
    Replaced,
    Unchanged,
    Watched,
    merge_states,
    replace_edges,
    states_of_pairs,
    states_of_users,
    watched,
)
from movierec_platform.adapters.graph_similarity import (
    COUNT_SIMILAR,
    CREATE_SIMILAR,
    DROP_SIMILAR,
    PUBLICATION,
    PUBLISH,
    TAKE_SIMILARITY,
    Publication,
    SimilarityEdge,
    as_writer,
)
from movierec_platform.domain.differences import Difference
from movierec_platform.domain.registers import Pair, PairState, bucket_of

if TYPE_CHECKING:
    import pyarrow as pa  # imported where it is used: the drains do without

WRITE_ROWS = 5_000
"""Rows in one statement, at most: ArcadeDB takes 16 MiB a Bolt message."""
DROP_MOVIES = 500
"""Movies whose similarity edges one statement drops."""
READ_USERS = 500
"""Users whose edges one statement reads."""
_SCHEMA: tuple[LiteralString, ...] = (
    "CREATE CONSTRAINT usuario_id IF NOT EXISTS FOR (u:Usuario) REQUIRE u.id IS UNIQUE",
    "CREATE CONSTRAINT pelicula_id IF NOT EXISTS FOR (m:Pelicula) REQUIRE m.id IS UNIQUE",
    "CREATE CONSTRAINT genero_name IF NOT EXISTS FOR (g:Genero) REQUIRE g.name IS UNIQUE",
    "CREATE CONSTRAINT publicacion_name IF NOT EXISTS FOR (p:Publicacion) REQUIRE p.name IS UNIQUE",
    *CHANGES_SCHEMA,
)

Row = TypeVar("Row")


class Graph(Connection):
    """One graph database. Thread-safe; connects at first use. `with Graph.open(settings) as graph:` closes it."""

    def ensure_schema(self) -> None:
        """Ids are unique and indexed; running it again changes nothing."""
        for statement in _SCHEMA:
            self._write(run, statement)

    # Catalogue

    def merge_movies(self, movies: Sequence[Mapping[str, Any]]) -> None:
        """These movies stand in the graph with these properties and exactly these genres.

        A movie is `{id, title, year, genres, rating_count, rating_mean}`; a None property is absent.
        """
        for batch in batches(movies, WRITE_ROWS):
            rows = [dict(movie) for movie in batch]
            genres = sorted({genre for movie in batch for genre in movie["genres"]})
            self._write(merge_movies, rows, genres)

    def movie_count(self) -> int:
        return self._count(MOVIE_COUNT)

    def movie_popularity(self) -> list[tuple[int, int]]:
        """(movie id, number of its ratings) of every movie, by id."""
        rows = self._read(MOVIE_POPULARITY)
        return [(movie_id, ratings) for movie_id, ratings in rows]

    def known_movies(self, movie_ids: Collection[int]) -> set[int]:
        """Those of these movies that are in the graph."""
        return {row[0] for row in self._read(KNOWN_MOVIES, ids=sorted(movie_ids))}

    # Users and pairs

    def user_ids(self) -> list[int]:
        """Every user's id, in order."""
        return [row[0] for row in self._read(USER_IDS)]

    def users_from(self, first: int, n: int) -> list[tuple[int, int]]:
        """(id, movies visibly seen) of the first `n` users from this id on, by id."""
        found = self._read(USERS_FROM, first=first, n=n)
        return [(user_id, seen) for user_id, seen in found if type(user_id) is int]  # others were made by hand

    def apply_pairs(self, pairs: Mapping[Pair, PairState]) -> set[int]:
        """Every pair's registers are merged into the graph in one transaction; returns the movies that it lacks.

        For a few pairs of many users. Idempotent: the registers are maxima, and what changes none writes nothing.
        """
        return self._merge(pairs, states_of_pairs)

    def load_users(self, pairs: Mapping[Pair, PairState]) -> set[int]:
        """As `apply_pairs`, for the whole histories of a few users: reads a history at once, not pair by pair."""
        return self._merge(pairs, states_of_users)

    def history(self, user_id: int) -> list[Watched]:
        """What the user has visibly seen, latest first; empty for an unknown user."""
        [[seen]] = self._read(HISTORY, user_id=user_id)
        return watched(seen)

    def changes(self, since: Position | None) -> Changes:
        """Whose history was changed by what was committed after `since`; None: by whatever was."""
        return self._read_by(read_changes, since)

    def pair_count(self) -> int:
        """Visible pairs."""
        return self._count(PAIR_COUNT)

    def pairs(self, buckets: Collection[int] | None = None) -> Iterator["pa.Table"]:
        """Every edge of a user to a movie, VIO and RETIRO, in tables of EDGES with whole users in ascending order.

        With `buckets`, only of users in these. Each user is read as he stands at that moment. A property of a foreign
        type comes as a value that no event gives, and the movie of an edge to one without an id is 0.
        """
        yield from self.pairs_of(one for one in self.user_ids() if buckets is None or bucket_of(one) in buckets)

    def pairs_of(self, user_ids: Iterable[int]) -> Iterator["pa.Table"]:
        """As `pairs`, of these users; a table holds READ_USERS of them, in the order in which they are given."""
        from movierec_platform.domain.edges import edges_table

        for batch in batches(user_ids, READ_USERS):
            stored = dict(self._read(EDGES_OF_USERS, ids=batch))
            yield edges_table({user_id: stored[user_id] for user_id in batch if user_id in stored})

    def replace_pairs(self, differences: Collection[Difference]) -> Replaced:
        """Each pair stands as the lake says, in one transaction: one edge, or none.

        Only where the graph still holds exactly the edges that the difference was found with: what was written since
        is never undone.
        """
        known = self.known_movies({one.movie_id for one in differences})
        wanted = {one.pair: one for one in differences if one.lake is None or one.movie_id in known}
        unknown_movies = frozenset(one.movie_id for one in differences if one.pair not in wanted)
        try:
            changed = self._write(replace_edges, wanted)
        except Unchanged:
            changed = frozenset(wanted)
        return Replaced(frozenset(wanted) - changed, changed, unknown_movies)

    # Similarity

    def publication(self) -> Publication | None:
        """The published similarity; None before the first."""
        rows = self._read(PUBLICATION)
        return Publication(*rows[0]) if rows else None

    def take_similarity(self, writer: str) -> None:
        """From now on only this writer changes the similarity: whoever took it before gets LeaseLost from each write.

        That guards what no lease can: a writer that was suspended, and wakes when another has long gone on.
        """
        self._write(run, TAKE_SIMILARITY, writer=writer)

    def write_similarity(self, version: str, edges: Iterable[SimilarityEdge], writer: str | None = None) -> int:
        """These edges stand beside those of other versions, invisible until `publish`; returns how many.

        Not idempotent: an interrupted write is dropped first, by `drop_similarity`. Of this and the next two, `writer`
        is who took the similarity; None: nobody else can be writing, as in a rebuild.
        """
        written = 0
        for batch in batches(edges, WRITE_ROWS):
            rows = [list(edge) for edge in batch]
            self._write(as_writer, writer, CREATE_SIMILAR, rows=rows, version=version)
            written += len(rows)
        return written

    def publish(self, version: str, published_at_ms: int, writer: str | None = None, why: str = "") -> None:
        """Readers use this version from now on; the one before is kept as `previous`. One transaction."""
        self._write(as_writer, writer, PUBLISH, version=version, now=published_at_ms, why=why)

    def drop_similarity(self, keep: Collection[str], writer: str | None = None) -> int:
        """Only edges of these versions are left; returns how many were deleted."""
        movie_ids = [row[0] for row in self._read(MOVIE_IDS)]
        dropped = 0
        for batch in batches(movie_ids, DROP_MOVIES):
            rows = self._write(as_writer, writer, DROP_SIMILAR, ids=batch, keep=list(keep))
            dropped += rows[0][0]
        return dropped

    def similarity_count(self, version: str, writer: str | None = None) -> int:
        """Edges of this version; a writer that lost the similarity to another gets LeaseLost instead."""
        if writer is None:
            return self._count(COUNT_SIMILAR, version=version)
        count: int = self._write(as_writer, writer, COUNT_SIMILAR, version=version)[0][0]
        return count

    def _merge(self, pairs: Mapping[Pair, PairState], read: ReadStates) -> set[int]:
        try:
            return self._write(merge_states, pairs, read)
        except Unchanged as unchanged:
            return unchanged.unknown_movies


def batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """The rows in their order, `size` at a time; the last are fewer."""
    remaining = iter(rows)
    while batch := list(islice(remaining, size)):
        yield batch
