"""Traffic is what it says: the kinds that were asked for, bad in the way that is counted, the same again by seed."""

from itertools import islice

import pytest

from movierec_platform.domain.events import Event
from movierec_platform.domain.gate import judge
from movierec_platform.errors import UsageError
from movierec_platform.local.traffic import Audience, Mix, events

AUDIENCE = Audience(users=range(1, 50), movies=range(1, 20), movie_weights=range(1, 20))
NOW = 1_790_000_000_000


def taken(n: int, mix: Mix) -> list[tuple[str, dict]]:
    return list(islice(events(AUDIENCE, mix, lambda: NOW), n))


def test_the_gate_gives_every_bad_event_the_reason_that_traffic_counts() -> None:
    for kind, event in taken(3_000, Mix(bad=0.5, duplicate=0.1, late=0.1, seed=1)):
        verdict = judge(event, NOW)
        if kind in ("good", "duplicate", "late", "unknown_movie"):
            assert isinstance(verdict, Event), (kind, verdict)
        else:
            assert not isinstance(verdict, Event), kind
            assert verdict.reason_code == kind


def test_the_shares_are_those_asked_for() -> None:
    kinds = [kind for kind, _ in taken(10_000, Mix(bad=0.03, duplicate=0.05, late=0.02, seed=2))]
    assert kinds.count("duplicate") == pytest.approx(500, abs=100)
    assert kinds.count("late") == pytest.approx(200, abs=60)
    assert len(kinds) - sum(map(kinds.count, ("good", "duplicate", "late"))) == pytest.approx(300, abs=80)


def test_a_duplicate_is_an_earlier_event_again() -> None:
    seen: list[dict] = []
    for kind, event in taken(2_000, Mix(bad=0, duplicate=0.3, late=0, seed=3)):
        assert (event in seen) == (kind == "duplicate")
        seen.append(event)


def test_a_seed_repeats_its_choices() -> None:
    mix = Mix(bad=0.1, duplicate=0.1, late=0.1, seed=4)
    assert taken(200, mix) == taken(200, mix)


def test_shares_that_add_up_to_more_than_everything_are_refused() -> None:
    with pytest.raises(UsageError, match="add up to 1"):
        Mix(bad=0.6, duplicate=0.6, late=0, seed=0)
