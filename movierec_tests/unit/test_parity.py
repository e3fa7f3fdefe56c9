"""Which pairs differ, whatever the tables are cut into, and what a difference means."""

from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movierec_platform.domain.differences import Difference, Edge, edge_type
from movierec_platform.domain.edges import EDGES, edges_table
from movierec_platform.domain.parity import differences
from movierec_platform.domain.registers import UNSEEN, Pair, PairState
from movierec_platform.domain.tables import INTERACTIONS

RATED = PairState(4.0, 10, "e", 10, None)
SEEN = PairState(seen_at_ms=20)
GONE = PairState(seen_at_ms=10, retracted_at_ms=15)
STATES = st.sampled_from([RATED, SEEN, GONE, UNSEEN])
PAIRS = st.tuples(st.integers(1, 6), st.integers(1, 3))
SIDE = st.dictionaries(PAIRS, STATES, max_size=12)


def rows_of(pair: Pair, state: PairState) -> list[Any]:
    return [*pair, state.rating, state.rated_at_ms, state.event_id, state.seen_at_ms, state.retracted_at_ms]


def cut_by_users(rows: list[list[Any]], schema: pa.Schema, cuts: set[int]) -> list[pa.Table]:
    """Tables of whole users in ascending order; a new one begins at each of these users."""
    bounds = [0, *sorted(cuts), 100]
    return [
        pa.Table.from_pylist(
            [
                dict(zip(schema.names, row, strict=True))
                for row in sorted(rows, key=lambda row: row[0])
                if low <= row[0] < high
            ],
            schema,
        )
        for low, high in pairwise(bounds)
    ]


@given(SIDE, st.lists(st.tuples(PAIRS, STATES), max_size=12), st.sets(st.integers(1, 6)), st.sets(st.integers(1, 6)))
def test_the_differing_pairs_are_those_of_a_plain_comparison(
    lake: dict[Pair, PairState], graph: list[tuple[Pair, PairState]], lake_cuts: set[int], graph_cuts: set[int]
) -> None:
    lake_tables = cut_by_users([rows_of(*one) for one in lake.items()], INTERACTIONS, lake_cuts)
    stored = [[*rows_of(*one), one[1].visible] for one in graph]
    graph_tables = cut_by_users(stored, EDGES, graph_cuts)
    found = [one for some in differences(graph_tables, lake_tables) for one in some]
    edges = {pair: sorted(repr(s) for p, s in graph if p == pair) for pair in {*lake, *(pair for pair, _ in graph)}}
    plain = {pair for pair in edges if edges[pair] != [repr(lake.get(pair))]}
    assert [one.pair for one in found] == sorted(plain)
    assert {one.pair: sorted(repr(edge.state) for edge in one.edges) for one in found} == {p: edges[p] for p in plain}
    assert {one.pair: one.lake for one in found} == {pair: lake.get(pair) for pair in plain}


VIO, RETIRO = (lambda state: Edge("VIO", state)), (lambda state: Edge("RETIRO", state))


@pytest.mark.parametrize(
    ("lake", "edges", "kind", "cause"),
    [
        (RATED, [], "missing", "behind"),
        (GONE, [VIO(RATED)], "altered", "behind"),
        (PairState(seen_at_ms=20, retracted_at_ms=15), [RETIRO(PairState(retracted_at_ms=15))], "altered", "behind"),
        (RATED, [VIO(PairState(4.0, 9, "d", 9, None))], "altered", "behind"),
        (RATED, [VIO(PairState(4.5, 10, "e", 10, None))], "altered", "wrong"),
        (RATED, [VIO(PairState(3.5, 10, "e", 10, None))], "altered", "behind"),
        (RATED, [RETIRO(RATED)], "altered", "wrong"),
        (SEEN, [VIO(UNSEEN)], "altered", "wrong"),
        (GONE, [RETIRO(PairState(4.0, 10, "e", 10, 15))], "altered", "wrong"),
        (None, [VIO(RATED)], "extra", "wrong"),
        (RATED, [VIO(RATED), VIO(RATED)], "doubled", "wrong"),
        (None, [VIO(RATED), RETIRO(GONE)], "doubled", "wrong"),
    ],
)
def test_kind_and_cause(lake: PairState | None, edges: list[Edge], kind: str, cause: str) -> None:
    difference = Difference(1, 2, lake, tuple(edges))
    assert (difference.kind, difference.cause) == (kind, cause)


def test_a_pair_has_caught_up_when_it_holds_what_the_lake_had_and_whatever_came_since() -> None:
    behind = Difference(1, 2, RATED, ())
    later = RATED.merged_with(PairState(retracted_at_ms=99))
    assert behind.settled_by((Edge("VIO", RATED),))
    assert behind.settled_by((Edge(edge_type(later), later),))
    assert not behind.settled_by(())
    assert not behind.settled_by((Edge("VIO", SEEN),))
    assert not behind.settled_by((Edge("RETIRO", RATED),))
    assert not behind.settled_by((Edge("VIO", RATED), Edge("VIO", RATED)))


def test_properties_of_foreign_types_are_no_registers_and_stop_nobody() -> None:
    table = edges_table({1: [[2, "VIO", 4, 10, "e", 10, None], [3, "VIO", "four", 1.5, 7, None, True]]})
    assert [tuple(row.values())[2:] for row in table.to_pylist()] == [
        (4.0, 10, "e", 10, None, True),
        (-1.0, -1, "int 7", None, -1, True),
    ]
