"""Where the graph and the lake differ, pair by pair, from columns of both."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from movierec_platform.domain.differences import Difference, Edge
from movierec_platform.domain.digest import pair_hashes
from movierec_platform.domain.edges import EDGES, edge_states
from movierec_platform.domain.interactions import pair_states
from movierec_platform.domain.registers import Pair
from movierec_platform.domain.tables import INTERACTIONS


def edges_of(table: pa.Table) -> dict[Pair, tuple[Edge, ...]]:
    """The edges of each pair in a table of EDGES."""
    found: dict[Pair, tuple[Edge, ...]] = {}
    for (pair, state), visible in zip(edge_states([table]), table["visible"].to_pylist(), strict=True):
        found[pair] = (*found.get(pair, ()), Edge("VIO" if visible else "RETIRO", state))
    return found


def differences(graph: Iterable[pa.Table], lake: Iterable[pa.Table]) -> Iterator[list[Difference]]:
    """The pairs that differ, by user and movie, a list for each stretch of users that is compared at once.

    Both sides give whole users in ascending order; `graph`, which is read first, in tables of EDGES, `lake` of
    INTERACTIONS.
    """
    for edges, interactions in _side_by_side(graph, lake):
        if found := _differences(interactions, edges):
            yield found


def _differences(interactions: pa.Table, edges: pa.Table) -> list[Difference]:
    in_lake, in_graph = pair_hashes(interactions), pair_hashes(edges)
    # A hash depends on the ids too: a row whose hash the other side has, and has once, is the same there.
    graph_hashes, times = np.unique(in_graph, return_counts=True)
    odd_edges = ~np.isin(in_graph, in_lake) | np.isin(in_graph, graph_hashes[times > 1])
    odd_rows = ~np.isin(in_lake, in_graph)
    if not odd_edges.any() and not odd_rows.any():
        return []
    suspects = pa.concat_tables([_pairs(interactions, odd_rows), _pairs(edges, odd_edges)])
    stored = edges_of(_of_users(edges, suspects))
    landed = dict(pair_states(_of_users(interactions, suspects)))
    pairs = sorted(set(zip(suspects["user_id"].to_pylist(), suspects["movie_id"].to_pylist(), strict=True)))
    return [Difference(*pair, lake=landed.get(pair), edges=stored.get(pair, ())) for pair in pairs]


def _pairs(table: pa.Table, mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> pa.Table:
    return table.select(["user_id", "movie_id"]).filter(pa.array(mask))


def _of_users(table: pa.Table, pairs: pa.Table) -> pa.Table:
    return table.filter(pc.is_in(table["user_id"], value_set=pc.unique(pairs["user_id"])))


def _side_by_side(graph: Iterable[pa.Table], lake: Iterable[pa.Table]) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Both sides cut at the same users: each pair of tables has the same stretch of them."""
    sides = (iter(graph), iter(lake))
    empty = (EDGES.empty_table(), INTERACTIONS.empty_table())
    held = [_next(side) for side in sides]
    while any(table is not None for table in held):
        last = min(table["user_id"][-1].as_py() for table in held if table is not None)
        stretch = []
        for number, side in enumerate(sides):
            table = held[number]
            if table is None:
                stretch.append(empty[number])
                continue
            cut = int(np.searchsorted(table["user_id"].to_numpy(), last, side="right"))
            stretch.append(table.slice(0, cut))
            held[number] = table.slice(cut) if cut < table.num_rows else _next(side)
        yield stretch[0], stretch[1]


def _next(tables: Iterator[pa.Table]) -> pa.Table | None:
    """The next table that has rows."""
    return next((table for table in tables if table.num_rows), None)
