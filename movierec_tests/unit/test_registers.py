"""The registers converge: whatever the order and however often events are applied, a pair ends in one state."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from movierec_platform.domain.events import Event
from movierec_platform.domain.registers import UNSEEN, PairState, fold, registers_of

few_times = st.integers(min_value=1, max_value=6)
halves = st.integers(min_value=1, max_value=10).map(lambda steps: steps / 2)


@st.composite
def events(draw: Callable[..., object]) -> Event:
    kind = draw(st.sampled_from(["rating", "view", "retract"]))
    return Event(
        event_id=draw(st.sampled_from(["a", "b", "c"])),
        event_type=kind,
        user_id=draw(st.integers(1, 2)),
        movie_id=draw(st.integers(1, 2)),
        rating=draw(halves) if kind == "rating" else None,
        timestamp_ms=draw(few_times),
    )


@given(st.lists(events(), max_size=12), st.randoms(use_true_random=False))
def test_any_order_with_any_duplication_gives_the_same_state(given_events: list[Event], chance) -> None:
    again = given_events + [chance.choice(given_events) for _ in given_events]
    chance.shuffle(again)
    assert fold(again) == fold(given_events)


@given(st.lists(events(), max_size=8), st.lists(events(), max_size=8), st.lists(events(), max_size=8))
def test_merging_is_associative_commutative_and_idempotent(a: list[Event], b: list[Event], c: list[Event]) -> None:
    x, y, z = (fold(one).get((1, 1), UNSEEN) for one in (a, b, c))
    assert x.merged_with(y) == y.merged_with(x)
    assert x.merged_with(y).merged_with(z) == x.merged_with(y.merged_with(z))
    assert x.merged_with(x) == x


def rating(at_ms: int, stars: float, event_id: str = "e") -> PairState:
    return registers_of(Event(event_id, "rating", 1, 1, stars, at_ms))


def view(at_ms: int) -> PairState:
    return registers_of(Event("v", "view", 1, 1, None, at_ms))


def retract(at_ms: int) -> PairState:
    return registers_of(Event("r", "retract", 1, 1, None, at_ms))


def test_the_latest_rating_wins_and_a_late_older_one_changes_nothing() -> None:
    assert rating(2, 4.0).merged_with(rating(1, 1.0)).rating == 4.0


def test_at_the_same_instant_the_greater_event_id_wins() -> None:
    assert rating(1, 1.0, "a").merged_with(rating(1, 5.0, "b")).rating == 5.0


def test_a_retract_hides_the_pair_and_its_rating() -> None:
    state = rating(1, 4.0).merged_with(retract(2))
    assert not state.visible
    assert state.rating is None


def test_a_retract_at_the_instant_of_the_rating_hides_it() -> None:
    assert not rating(2, 4.0).merged_with(retract(2)).visible


def test_seeing_again_after_a_retract_shows_the_pair_without_the_old_rating() -> None:
    state = rating(1, 4.0).merged_with(retract(2)).merged_with(view(3))
    assert state.visible
    assert state.rating is None


def test_a_late_rating_from_before_the_retract_stays_hidden() -> None:
    state = retract(5).merged_with(view(7)).merged_with(rating(4, 5.0))
    assert state == PairState(seen_at_ms=7, retracted_at_ms=5)
