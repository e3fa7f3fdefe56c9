"""The lake: Delta tables on S3. A write is one commit: readers see the table before it or after it, never between.

Of two writers of a table one commits, the other gets LakeUnavailable and may try again (commits are conditional puts).
Calls time out after 30 s without an answer. Files that no version of the last week uses are removed as tables are
rewritten. Every failure is LakeUnavailable, also that of reading a table that nobody has written.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from movierec_platform.config import Settings
from movierec_platform.errors import LakeUnavailable

KEPT_HOURS = 7 * 24
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

Filter = tuple[str, str, Any]
"""(column, one of = != < > <= >= in, value), as Delta and pyarrow take it"""


class Lake:
    """The tables under `s3://BUCKET/lake/`."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.lake_url
        self._options = _storage_options(settings)

    def write(self, table: str, rows: pa.Table, partition: tuple[str, str] | None = None) -> int:
        """The table holds these rows and no others, or this partition of it does; returns how many.

        A partition is (column, value): every row has that value in that column, other partitions stay as they are.
        """
        with _errors(table):
            if partition is None:
                write_deltalake(
                    self._uri(table), rows, mode="overwrite", schema_mode="overwrite", storage_options=self._options
                )
            else:
                column, value = partition
                write_deltalake(
                    self._uri(table),
                    rows,
                    mode="overwrite",
                    partition_by=[column],
                    predicate=_equals(column, value) if self.exists(table) else None,
                    storage_options=self._options,
                )
            self._open(table).vacuum(retention_hours=KEPT_HOURS, dry_run=False)
        return int(rows.num_rows)

    def read(
        self, table: str, columns: Sequence[str] | None = None, filters: Sequence[Filter] | None = None
    ) -> pa.Table:
        """The rows that pass all filters, in no order."""
        with _errors(table):
            opened = self._open(table)
            return opened.to_pyarrow_table(
                columns=None if columns is None else list(columns), filters=None if filters is None else list(filters)
            )

    def exists(self, table: str) -> bool:
        """Whether anybody has written the table."""
        with _errors(table):
            return DeltaTable.is_deltatable(self._uri(table), self._options)

    def partitions(self, table: str, column: str) -> list[str]:
        """The values of the partition column, ascending; [] for a table that nobody has written."""
        if not self.exists(table):
            return []
        with _errors(table):
            return sorted({partition[column] for partition in self._open(table).partitions()})

    def drop_partitions(self, table: str, column: str, values: Collection[str]) -> None:
        """The table has no rows with these values in its partition column."""
        with _errors(table):
            for value in values:
                self._open(table).delete(_equals(column, value))

    def _open(self, table: str) -> DeltaTable:
        return DeltaTable(self._uri(table), storage_options=self._options)

    def _uri(self, table: str) -> str:
        return f"{self._root}/{table}"


def _equals(column: str, value: str) -> str:
    quoted = value.replace("'", "''")
    return f"{column} = '{quoted}'"


def _storage_options(settings: Settings) -> dict[str, str]:
    """What the object store client needs; credentials that were not given come from the standard AWS chain."""
    secret, token = settings.aws_secret_access_key, settings.aws_session_token
    options = {
        "aws_region": settings.aws_region,
        "aws_conditional_put": "etag",
        "aws_endpoint_url": settings.aws_endpoint_url,
        "aws_access_key_id": settings.aws_access_key_id,
        "aws_secret_access_key": None if secret is None else secret.get_secret_value(),
        "aws_session_token": None if token is None else token.get_secret_value(),
        "allow_http": "true" if (settings.aws_endpoint_url or "").startswith("http://") else None,
        "connect_timeout": "3s",
        "timeout": "30s",
    }
    return {name: value for name, value in options.items() if value is not None}


@contextmanager
def _errors(table: str) -> Iterator[None]:
    try:
        yield
    except TableNotFoundError as error:
        raise LakeUnavailable(
            f"the lake has no table {table} yet: `movierec load` and `movierec nightly` write the tables"
        ) from error
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise LakeUnavailable(f"table {table} of the lake: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    """The message without the colours and line breaks that delta-rs puts in it."""
    return " ".join(_COLOURS.sub("", str(error)).split())
