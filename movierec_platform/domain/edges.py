"""The edges of the graph as columns: how the pairs stand there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from movierec_platform.domain.interactions import pair_states, visible
from movierec_platform.domain.registers import Pair, PairState
from movierec_platform.domain.tables import INTERACTIONS

EDGES = INTERACTIONS.append(pa.field("visible", pa.bool_(), nullable=False))
"""A pair as it stands in the graph; `visible` is what its edge says: VIO, not RETIRO."""


def visibility(pairs: pa.Table) -> pa.ChunkedArray:
    """Whether each pair counts as seen: as its edge says in a table of EDGES, else by its registers."""
    if "visible" in pairs.column_names:
        return pairs["visible"]
    return visible(pairs)


def edge_states(tables: Iterable[pa.Table]) -> Iterator[tuple[Pair, PairState]]:
    """The edges of all these tables with their registers, one by one: a pair with two edges comes twice."""
    return chain.from_iterable(pair_states(table) for table in tables)


def edges_table(edges: Mapping[int, Sequence[Sequence[Any]]]) -> pa.Table:
    """A table of EDGES from rows of (movie id, type of the edge, registers), by user; in that order."""
    user_ids = np.repeat(np.fromiter(edges, np.int64, len(edges)), [len(rows) for rows in edges.values()])
    rows = list(chain.from_iterable(edges.values()))
    movie_ids, types, *registers = zip(*rows, strict=True) if rows else [()] * 7
    columns = [user_ids, movie_ids, *registers, [one == "VIO" for one in types]]
    return pa.table([_column(values, field.type) for values, field in zip(columns, EDGES, strict=True)], schema=EDGES)


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """The values as a column. One that is of another type, set by hand, is -1, or a text that tells its type."""
    try:
        column = pa.array(values)  # not as `kind` at once: that would cut 1.5 to 1
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        column = None
    fitting = (kind, pa.null(), pa.int64()) if pa.types.is_floating(kind) else (kind, pa.null())
    if column is None or column.type not in fitting:
        column = pa.array([_foreign(value, kind) for value in values], kind)
    return column.cast(kind, safe=False)


def _foreign(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_string(kind):
        return value if isinstance(value, str) else f"{type(value).__name__} {value}"
    allowed = (int, float) if pa.types.is_floating(kind) else (int,)
    return value if type(value) in allowed else -1
