"""The digest tells any change of any register, and does not mind the order."""

from dataclasses import replace

import pytest

from movierec_platform.domain.digest import bucket_digests
from movierec_platform.domain.registers import PairState

STATE = PairState(rating=4.0, rated_at_ms=10, event_id="e", seen_at_ms=10, retracted_at_ms=5)
PAIRS = [((user, movie), replace(STATE, event_id=f"{user}-{movie}")) for user in range(1, 40) for movie in range(1, 9)]


def test_the_order_does_not_matter() -> None:
    assert bucket_digests(PAIRS) == bucket_digests(reversed(PAIRS))


@pytest.mark.parametrize(
    "change",
    [
        {"rating": 4.5},
        {"rating": None},
        {"rated_at_ms": 11},
        {"event_id": "f"},
        {"event_id": None},
        {"seen_at_ms": None},
        {"retracted_at_ms": None},
        {"retracted_at_ms": 6},
    ],
)
def test_a_change_of_one_register_changes_its_users_bucket_and_no_other(change: dict) -> None:
    altered = [(pair, replace(state, **change) if pair == (3, 2) else state) for pair, state in PAIRS]
    before, after = bucket_digests(PAIRS), bucket_digests(altered)
    assert {bucket for bucket in before if before[bucket] != after[bucket]} == {3}


def test_a_doubled_pair_is_told_by_the_count_and_the_sum() -> None:
    assert bucket_digests(PAIRS)[3] != bucket_digests([*PAIRS, PAIRS[16]])[3]
