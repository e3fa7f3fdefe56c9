"""Interactions: what the lake knows of every (user, movie) pair, from bulk ratings and from events.

The same registers as `domain.registers` folds event by event (a property test holds the two equal). Memory is bounded
whatever the number of facts: an external merge sort whose runs are folded before they are written, so that not even a
user with millions of events takes more than the catalogue times the number of runs.
"""

import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import ObjectStore
from movierec_platform.domain.interactions import (
    EVENT_COLUMNS,
    facts_of_events,
    facts_of_ratings,
    fold_facts,
    in_buckets,
)
from movierec_platform.domain.tables import INTERACTIONS
from movierec_platform.services.compact import TABLE as EVENTS
from movierec_platform.services.compact import Catalogue, landed_events
from movierec_platform.services.set_aside import Aside, in_the_log

RUN_BYTES = 32 * 1024 * 1024
TABLE_ROWS = 512 * 1024
BATCH_ROWS = 32 * 1024
_SPILL = pa.ipc.IpcWriteOptions(compression="lz4")


def fold_tables(lake: Lake) -> Iterator[pa.Table]:
    """The interactions as the lake's own tables give them: all ratings and all events that were promoted."""
    return fold_batches(_facts(lake.batches("ratings"), _promoted_events(lake)), catalogue_ids(lake))


def fold_everything(
    lake: Lake,
    objects: ObjectStore,
    as_of_ms: int | None = None,
    buckets: Collection[int] | None = None,
    aside: Aside = in_the_log,
) -> Iterator[pa.Table]:
    """The interactions that the ratings and every landed event give, compacted or not; as `fold_batches` yields them.

    `as_of_ms` (epoch ms): what was received until then, with the ratings and movies that the lake had then. `buckets`:
    only users whose `bucket_of` is among these. `aside` is told of each raw object that cannot be read.
    """
    movie_ids = catalogue_ids(lake, as_of_ms)
    ratings = _table_then(lake, "ratings", None, as_of_ms)
    catalogue = Catalogue.of(pa.chunked_array([movie_ids]))
    facts = _facts(ratings, landed_events(lake, objects, catalogue, as_of_ms, aside))
    chosen = facts if buckets is None else (in_buckets(batch, buckets) for batch in facts)
    return fold_batches(chosen, movie_ids)


def fold_batches(
    facts: Iterable[pa.RecordBatch],
    movie_ids: pa.Array,
    run_bytes: int = RUN_BYTES,
    batch_rows: int = BATCH_ROWS,
    table_rows: int = TABLE_ROWS,
) -> Iterator[pa.Table]:
    """Tables of whole users in ascending order of user and movie: one row per pair, its registers in normal form.

    A fact (schema INTERACTIONS) is the registers that one rating or event gives; facts about movies that are not in
    `movie_ids` are left out. They may come in any order and any number of times. About 10 * `run_bytes` of memory are
    used; more than `run_bytes` of facts are sorted through files in the temporary directory ($TMPDIR), half as large as
    the facts, which are gone when the iterator ends, fails or is closed. They are merged `batch_rows` of each file at a
    time, into tables of at least `table_rows`.
    """
    with tempfile.TemporaryDirectory(prefix="movierec-fold-") as folder:
        runs = _sorted_runs(facts, movie_ids, run_bytes, batch_rows, Path(folder))
        held: list[pa.Table] = []
        for table in _merged([run.batches(batch_rows) for run in runs]):
            held.append(table)
            if sum(one.num_rows for one in held) >= table_rows:
                yield pa.concat_tables(held)
                held = []
        if held:
            yield pa.concat_tables(held)


def _sorted_runs(
    facts: Iterable[pa.RecordBatch], movie_ids: pa.Array, run_bytes: int, batch_rows: int, folder: Path
) -> list["_Run"]:
    """All of the facts, folded and sorted in pieces of about `run_bytes`; pieces of ever later users are one run."""
    runs: list[_Run] = []
    for number, piece in enumerate(_pieces(facts, run_bytes)):
        known = pc.is_in(piece["movie_id"], value_set=movie_ids)
        rows = fold_facts(piece if pc.all(known).as_py() else piece.filter(known))
        if rows.num_rows == 0:
            continue
        if runs:
            runs[-1].spill(folder / f"{number}.arrow", batch_rows)
        if runs and runs[-1].last_user < rows["user_id"][0].as_py():
            runs[-1].append(rows)
        else:
            runs.append(_Run(rows))
    return runs


def _pieces(batches: Iterable[pa.RecordBatch], piece_bytes: int) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    held_bytes = 0
    for batch in batches:
        held.append(batch)
        held_bytes += batch.nbytes
        if held_bytes >= piece_bytes:
            yield pa.Table.from_batches(held, INTERACTIONS)
            held, held_bytes = [], 0
    if held:
        yield pa.Table.from_batches(held, INTERACTIONS)


class _Run:
    """Folded rows by user and movie: files, and the newest piece in memory until there is another one."""

    def __init__(self, rows: pa.Table) -> None:
        self._files: list[Path] = []
        self._newest: pa.Table | None = rows
        self.last_user: int = rows["user_id"][-1].as_py()

    def append(self, rows: pa.Table) -> None:
        """The run goes on with these rows, which are about later users; what it had is spilled."""
        self._newest = rows
        self.last_user = rows["user_id"][-1].as_py()

    def spill(self, path: Path, batch_rows: int) -> None:
        """The newest piece is in this file."""
        if self._newest is not None:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, INTERACTIONS, options=_SPILL) as writer:
                writer.write_table(self._newest, max_chunksize=batch_rows)
            self._files.append(path)
            self._newest = None

    def batches(self, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """The rows in order; one batch is in memory at a time, but for the piece that was not spilled."""
        for path in self._files:
            with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as reader:
                yield from reader
        if self._newest is not None:
            yield from self._newest.to_batches(max_chunksize=batch_rows)


class _Head:
    """What was read of a run and not yet taken."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._held: list[pa.RecordBatch] = []
        self.ended = False

    @property
    def spent(self) -> bool:
        """Whether there is nothing left of the run."""
        return self.ended and not self._held

    @property
    def open_user(self) -> int | None:
        """The user of whom more rows may follow; None at the end of the run."""
        return None if self.ended else self._held[-1]["user_id"][-1].as_py()

    def fill(self) -> None:
        """There is something to take, unless the run is at its end."""
        if not self._held:
            self.read()

    def read(self) -> None:
        """One batch more can be taken, or the run is at its end."""
        batch = next(self._batches, None)
        if batch is None:
            self.ended = True
        else:
            self._held.append(batch)

    def take_below(self, user: int | None) -> list[pa.RecordBatch]:
        """The rows of the users before this one, or all; they are not held any more."""
        if user is None:
            taken, self._held = self._held, []
            return taken
        cuts = [int(np.searchsorted(batch["user_id"].to_numpy(), user)) for batch in self._held]
        taken = [batch[:cut] for batch, cut in zip(self._held, cuts, strict=True) if cut]
        self._held = [batch[cut:] for batch, cut in zip(self._held, cuts, strict=True) if cut < batch.num_rows]
        return taken


def _merged(runs: Iterable[Iterator[pa.RecordBatch]]) -> Iterator[pa.Table]:
    """Tables of whole users in ascending order; a part that comes from one run alone is folded already."""
    heads = [_Head(run) for run in runs]
    while True:
        for head in heads:
            head.fill()
        heads = [head for head in heads if not head.spent]
        if not heads:
            return
        open_user = min((head.open_user for head in heads if head.open_user is not None), default=None)
        parts = [part for head in heads if (part := head.take_below(open_user))]
        if len(parts) == 1:
            yield pa.Table.from_batches(parts[0])
        elif parts:
            yield fold_facts(pa.Table.from_batches(list(chain.from_iterable(parts))))
        else:
            for head in heads:
                if head.open_user == open_user:
                    head.read()


def _facts(ratings: Iterable[pa.RecordBatch], events: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return chain(map(facts_of_ratings, ratings), map(facts_of_events, events))


def catalogue_ids(lake: Lake, as_of_ms: int | None = None) -> pa.Array:
    """The ids of the movies that the lake has, or had then (epoch ms)."""
    batches = _table_then(lake, "movies", ["movie_id"], as_of_ms)
    return pa.concat_arrays([pa.array([], pa.int64()), *(batch["movie_id"] for batch in batches)])


def _table_then(
    lake: Lake, table: str, columns: Sequence[str] | None, as_of_ms: int | None
) -> Iterable[pa.RecordBatch]:
    """The table as it was then, which is nothing if there was none; one that is missing now is an error."""
    if as_of_ms is not None and not lake.exists(table, as_of_ms):
        return ()
    return lake.batches(table, columns, as_of_ms=as_of_ms)


def _promoted_events(lake: Lake) -> Iterable[pa.RecordBatch]:
    return lake.batches(EVENTS, EVENT_COLUMNS) if lake.exists(EVENTS) else ()
