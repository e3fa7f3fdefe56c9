"""The lake: Delta tables on S3. A promotion is one commit: readers see the table before it or after it, never between.

Rows are staged first: written as Parquet beside the table, where no reader sees them, to be checked, and then promoted
or dropped. What a killed writer staged is removed by `maintain`. Of two promotions of one partition the later one
stands. Columns that `domain.tables` knows and a table of an older release lacks are read as nulls; those that a newer
release added to a table with partitions stay when an older one writes a partition of it. Calls time out after 30 s
without an answer. Every failure is LakeUnavailable, also that of reading a table that nobody has written.
"""

import json
import re
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import DeltaTable, Field, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, create_table_with_add_actions
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from movierec_platform.adapters.aws import object_store_options
from movierec_platform.config import Settings
from movierec_platform.domain.tables import SCHEMAS
from movierec_platform.errors import LakeUnavailable, NothingLoaded

ROW_GROUP_ROWS = 128 * 1024
_KEPT_LOG = {"delta.logRetentionDuration": "interval 36500 days"}
"""The log is small, and `as_of_ms` needs it."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

Filter = tuple[str, str, Any]
"""(column, one of = != < > <= >= in, value), as Delta and pyarrow take it"""


@dataclass(frozen=True, slots=True)
class Size:
    """How big a table is."""

    rows: int
    bytes: int
    """Of the files that the table is now: earlier versions are not counted."""
    partitions: int
    """1 where it is not partitioned."""


@dataclass(frozen=True, slots=True)
class Staged:
    """Rows that are written beside a table and not yet in it."""

    table: str
    schema: pa.Schema
    """With the partition column, which the file lacks."""
    partition: tuple[str, str] | None
    file: AddAction
    rows: int


class Lake:
    """The tables under `s3://BUCKET/lake/`."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.lake_url
        self._options = object_store_options(settings)

    def stage(
        self,
        table: str,
        batches: Iterable[pa.RecordBatch | pa.Table],
        schema: pa.Schema,
        partition: tuple[str, str] | None = None,
        label: str = "part",
        hardly_repeated: Collection[str] = (),
    ) -> Staged:
        """These rows, written where no reader sees them; memory holds one batch at a time. If they fail, none is.

        A partition is (column, value): the rows are all of it, and may lack that column. `label` (letters, digits and
        dashes) can be read again by `labels` once the rows are promoted. Columns that are `hardly_repeated` are written
        plain: for others a dictionary is tried first.
        """
        column, value = partition or ("", "")
        held = pa.schema([field for field in schema if field.name != column])
        with _errors(table):
            files = self._files(table)
            name = f"{f'{column}={value}/' if partition else ''}{label}-{uuid.uuid4()}.parquet"
            rows = 0
            with ExitStack() as on_failure:
                # Closing the stream stores what was written before the batches failed.
                on_failure.callback(_delete, files, name)
                with (
                    files.open_output_stream(name) as stream,
                    parquet_writer(stream, held, hardly_repeated) as writer,
                ):
                    for batch in batches:
                        whole = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
                        writer.write_table(whole.select(held.names).cast(held), row_group_size=ROW_GROUP_ROWS)
                        rows += whole.num_rows
                on_failure.pop_all()
            added = AddAction(
                path=name,
                size=files.get_file_info(name).size,
                partition_values={column: value} if partition else {},
                modification_time=time.time_ns() // 1_000_000,
                data_change=True,
                stats=json.dumps({"numRecords": rows}),
            )
        return Staged(table, schema if not partition else _with_column(schema, column), partition, added, rows)

    def staged_batches(self, staged: Staged, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The staged rows in the order in which they were given, without the partition column."""
        with _errors(staged.table):
            file = ds.dataset(staged.file.path, filesystem=self._files(staged.table), format="parquet")
            yield from _batches(file, columns)

    def promote(self, staged: Staged) -> int:
        """The table, or the partition of it, holds the staged rows and no others; returns how many.

        Raises LakeUnavailable if the other partitions have one of its columns in another type.
        """
        schema = Schema.from_arrow(staged.schema)
        partition_by = [staged.partition[0]] if staged.partition else None
        retry = Retrying(
            retry=retry_if_exception_type(CommitFailedError),
            stop=stop_after_attempt(5),
            wait=wait_random_exponential(multiplier=0.05, max=1),
            reraise=True,
        )
        with _errors(staged.table):
            for attempt in retry:
                with attempt:
                    if not self.exists(staged.table):
                        create_table_with_add_actions(
                            self._uri(staged.table),
                            schema,
                            [staged.file],
                            mode="error",
                            partition_by=partition_by,
                            configuration=_KEPT_LOG,
                            storage_options=self._options,
                        )
                    else:
                        opened = self._open(staged.table)
                        opened.create_write_transaction(
                            [staged.file],
                            mode="overwrite",
                            schema=_widened(opened.schema(), schema, staged.table) if partition_by else schema,
                            partition_by=partition_by,
                            partition_filters=[(staged.partition[0], "=", staged.partition[1])]
                            if staged.partition
                            else None,
                        )
        return staged.rows

    def drop_staged(self, staged: Staged) -> None:
        """The staged rows are gone; the table was never touched."""
        with _errors(staged.table):
            self._files(staged.table).delete_file(staged.file.path)

    def write(self, table: str, rows: pa.Table, partition: tuple[str, str] | None = None) -> int:
        """Stages and promotes in one, where nothing is to be checked between; returns how many rows."""
        return self.promote(self.stage(table, [rows], rows.schema, partition))

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        filters: Sequence[Filter] | None = None,
        as_of_ms: int | None = None,
    ) -> pa.Table:
        """The rows that pass all filters, in no order; `as_of_ms` as `batches`."""
        with _errors(table):
            return _dataset(table, self._open(table, as_of_ms)).to_table(
                columns=None if columns is None else list(columns),
                filter=None if filters is None else pq.filters_to_expression(list(filters)),
            )

    def batches(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        where: ds.Expression | None = None,
        as_of_ms: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows for which the expression holds, a batch at a time (64 Ki rows at most), in no order.

        `as_of_ms` (epoch ms) reads the table as it was then; if `exists` says that there was none, its first version.
        """
        with _errors(table):
            yield from _batches(_dataset(table, self._open(table, as_of_ms)), columns, where)

    def splits(self, table: str) -> list[tuple[str, int]]:
        """The (file, row group) pairs that a table without partitions consists of: for `read_split`, on any machine."""
        with _errors(table):
            files = self._files(table)
            return [
                (one["path"], row_group)
                for one in self._added(table)
                for row_group in range(pq.ParquetFile(files.open_input_file(one["path"])).num_row_groups)
            ]

    def read_split(self, table: str, file: str, row_group: int, columns: Sequence[str]) -> pa.Table:
        """The rows of one of the `splits`."""
        with _errors(table):
            rows = pq.ParquetFile(self._files(table).open_input_file(file)).read_row_group(row_group, list(columns))
            for field in _lacking(table, rows.schema):
                if field.name in columns:
                    rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
            return rows.select(list(columns))

    def exists(self, table: str, as_of_ms: int | None = None) -> bool:
        """Whether anybody has written the table; with `as_of_ms` (epoch ms), whether anybody had by then."""
        with _errors(table):
            if not DeltaTable.is_deltatable(self._uri(table), self._options):
                return False
            return as_of_ms is None or int(self._open(table).history()[-1]["timestamp"]) <= as_of_ms

    def fingerprint(self, table: str) -> str | None:
        """The table's identity and version, which change whenever its rows do; None if nobody has written it."""
        if not self.exists(table):
            return None
        with _errors(table):
            opened = self._open(table)
            return f"{opened.metadata().id}@{opened.version()}"

    def count(self, table: str) -> int:
        """How many rows the table has; 0 for one that nobody has written."""
        if not self.exists(table):
            return 0
        with _errors(table):
            return int(self._open(table).to_pyarrow_dataset().count_rows())

    def partitions(self, table: str, column: str) -> list[str]:
        """The values of the partition column, ascending; [] for a table that nobody has written."""
        return sorted(self.labels(table, column))

    def labels(self, table: str, column: str) -> dict[str, str]:
        """For each value of the partition column, the label that its rows were staged with."""
        return {one[f"partition.{column}"]: _label(one["path"]) for one in self._added(table)}

    def label(self, table: str) -> str | None:
        """The label that the rows of a table without partitions were staged with; None if nobody has written it."""
        names = [one["path"] for one in self._added(table)]
        return _label(names[0]) if len(names) == 1 else None

    def rows(self, table: str) -> int:
        """How many rows the table has; 0 if nobody has written it."""
        return sum(one["num_records"] for one in self._added(table))

    def size(self, table: str) -> Size | None:
        """How big the table is by its log, without reading a row; None if nobody has written it."""
        if not self.exists(table):
            return None
        added = self._added(table)
        partitions = {tuple(value for name, value in one.items() if name.startswith("partition.")) for one in added}
        total = sum(one["size_bytes"] for one in added)
        return Size(sum(one["num_records"] for one in added), total, len(partitions))

    def drop_partitions(self, table: str, column: str, values: Collection[str]) -> None:
        """The table has no rows with these values in its partition column."""
        with _errors(table):
            for value in values:
                self._open(table).delete(_equals(column, value))

    def maintain(self, table: str, kept_hours: int, every_version: bool = False) -> int:
        """Files that no version of the last `kept_hours` uses are gone, also staged ones; returns how many.

        With `every_version` only staged ones go, and each version of the table can still be read. The log gets a
        checkpoint, so that opening the table stays fast.
        """
        with _errors(table):
            opened = self._open(table)
            removed = opened.vacuum(
                retention_hours=kept_hours,
                dry_run=False,
                enforce_retention_duration=False,
                full=True,
                keep_versions=list(range(opened.version() + 1)) if every_version else None,
            )
            opened.create_checkpoint()
            return len(removed)

    def _added(self, table: str) -> list[dict[str, Any]]:
        """One entry per file of the table."""
        if not self.exists(table):
            return []
        with _errors(table):
            return list(pa.table(self._open(table).get_add_actions(flatten=True)).to_pylist())

    def _open(self, table: str, as_of_ms: int | None = None) -> DeltaTable:
        opened = DeltaTable(self._uri(table), storage_options=self._options)
        if as_of_ms is not None:
            # By the times in the log: those of its objects, which a moment would go by, are of the last restore.
            history = opened.history()
            then = next((one for one in history if int(one["timestamp"]) <= as_of_ms), history[-1])
            opened.load_as_version(then["version"])
        return opened

    def _files(self, table: str) -> pafs.FileSystem:
        return pafs.PyFileSystem(DeltaStorageHandler(self._uri(table), self._options))

    def _uri(self, table: str) -> str:
        return f"{self._root}/{table}"


def parquet_writer(file: Any, schema: pa.Schema, hardly_repeated: Collection[str] = ()) -> pq.ParquetWriter:
    """Writes a file of the lake: zstd, and dictionaries but for the columns of hardly repeated values."""
    dictionaries = [name for name in schema.names if name not in hardly_repeated]
    return pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=dictionaries)


def _dataset(table: str, opened: DeltaTable) -> ds.Dataset:
    """The table's rows, with every column that this release knows."""
    dataset = opened.to_pyarrow_dataset()
    lacking = _lacking(table, dataset.schema)
    return dataset.replace_schema(pa.schema([*dataset.schema, *lacking])) if lacking else dataset


def _lacking(table: str, schema: pa.Schema) -> list[pa.Field]:
    """The columns that this release knows of the table and the schema does not have."""
    return [field.with_nullable(True) for field in SCHEMAS.get(table, ()) if field.name not in schema.names]


def _widened(held: Schema, written: Schema, table: str) -> Schema:
    """The schema of a table once a partition is written to it: what either has; null where only one has it."""
    before, after = ({field.name: field for field in schema.fields} for schema in (held, written))
    changed = [name for name in before.keys() & after.keys() if before[name].type != after[name].type]
    if changed:
        raise LakeUnavailable(
            f"table {table} of the lake has {', '.join(sorted(changed))} in another type than this release writes: "
            "run the release that wrote it"
        )
    fields = []
    for name in [*before, *(name for name in after if name not in before)]:
        known = [fields_of[name] for fields_of in (before, after) if name in fields_of]
        fields.append(Field(name, known[0].type, nullable=len(known) < 2 or any(one.nullable for one in known)))
    return Schema(fields)


def _batches(
    source: ds.Dataset, columns: Sequence[str] | None, where: ds.Expression | None = None
) -> Iterator[pa.RecordBatch]:
    yield from source.to_batches(
        columns=None if columns is None else list(columns),
        filter=where,
        batch_size=64 * 1024,
        batch_readahead=4,
        fragment_readahead=1,
    )


def _label(path: str) -> str:
    """Of the file at this path within a table, the label that it was staged with."""
    return path.rpartition("/")[2][: -len(f"-{uuid.UUID(int=0)}.parquet")]


def _delete(files: pafs.FileSystem, name: str) -> None:
    with suppress(OSError):  # it may not be there, and the failure that comes first is the one to tell
        files.delete_file(name)


def _with_column(schema: pa.Schema, column: str) -> pa.Schema:
    return schema if column in schema.names else schema.append(pa.field(column, pa.string()))


def _equals(column: str, value: str) -> str:
    quoted = value.replace("'", "''")
    return f"{column} = '{quoted}'"


@contextmanager
def _errors(table: str) -> Iterator[None]:
    try:
        yield
    except TableNotFoundError as error:
        raise NothingLoaded(
            f"the lake has no table {table} yet: `movierec load` and `movierec nightly` write the tables"
        ) from error
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise LakeUnavailable(f"table {table} of the lake: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    """The message without the colours and line breaks that delta-rs puts in it."""
    return " ".join(_COLOURS.sub("", str(error)).split())
