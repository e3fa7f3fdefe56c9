"""The digest tells any change of any register to the bucket, and minds neither order nor batches."""

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from movierec_platform.domain.digest import digest, pair_hashes
from movierec_platform.domain.edges import EDGES, visibility
from movierec_platform.domain.registers import PairState, bucket_of
from movierec_platform.domain.tables import INTERACTIONS

AT_MS = st.none() | st.integers(0, 3) | st.integers(0, 2**63 - 1)
REGISTERS = {
    "rating": st.none() | st.integers(0, 10).map(lambda halves: halves / 2),
    "rated_at_ms": AT_MS,
    "event_id": st.none() | st.sampled_from(["", "nan", "None", "e"]) | st.text(st.characters(codec="utf-8")),
    "seen_at_ms": AT_MS,
    "retracted_at_ms": AT_MS,
    "visible": st.booleans(),
}
ROWS = st.lists(
    st.fixed_dictionaries({"user_id": st.integers(1, 600), "movie_id": st.integers(1, 5), **REGISTERS}),
    min_size=1,
    max_size=12,
    unique_by=lambda row: (row["user_id"], row["movie_id"]),
)


def edges(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, EDGES)


@given(ROWS, st.randoms(), st.integers(1, 12))
def test_order_and_batches_do_not_matter(rows: list[dict[str, Any]], chance: Any, cut: int) -> None:
    shuffled = chance.sample(rows, len(rows))
    assert not digest([edges(rows)]).differing(digest([edges(shuffled[:cut]), edges(shuffled[cut:])]))


@given(ROWS, st.data())
def test_a_change_of_one_field_changes_its_users_bucket_and_no_other(rows: list[dict[str, Any]], data: Any) -> None:
    name = data.draw(st.sampled_from(sorted(REGISTERS)))
    row = data.draw(st.sampled_from(rows))
    other = data.draw(REGISTERS[name].filter(lambda value: value != row[name]))
    altered = [{**one, name: other} if one is row else one for one in rows]
    assert digest([edges(rows)]).differing(digest([edges(altered)])) == {bucket_of(row["user_id"])}


@given(ROWS, st.data())
def test_a_pair_more_or_twice_or_of_another_movie_is_told(rows: list[dict[str, Any]], data: Any) -> None:
    row = data.draw(st.sampled_from(rows))
    before = digest([edges(rows)])
    for changed in (
        [*rows, row],
        [*rows, {**row, "movie_id": 9}],
        [{**one, "movie_id": 9} for one in rows if one is row],
    ):
        assert bucket_of(row["user_id"]) in before.differing(digest([edges(changed)]))


@given(ROWS)
def test_both_sides_hash_alike(rows: list[dict[str, Any]]) -> None:
    """What the registers say of the visibility is what an edge that ingest wrote says of it."""
    lake = edges(rows).select(INTERACTIONS.names)
    states = [PairState(**{name: row[name] for name in INTERACTIONS.names[2:]}) for row in rows]
    assert visibility(lake).to_pylist() == [state.visible for state in states]
    graph = lake.append_column(EDGES.field("visible"), pa.array([state.visible for state in states]))
    assert np.array_equal(pair_hashes(lake), pair_hashes(graph))


def test_an_empty_side_is_equal_to_an_empty_side_only() -> None:
    row = {"user_id": 300, "movie_id": 1, "visible": True}
    assert digest([]).differing(digest([edges([])])) == frozenset()
    assert digest([]).differing(digest([edges([row])])) == {44}
    assert (digest([edges([row])]).pairs, digest([]).pairs) == (1, 0)
