"""The tables `interactions` and `popularity` on a real S3: made of ratings and events, never replaced by worse ones."""

import time
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.config import STACK_ENV, Settings, variables_of, write_env_file
from movierec_platform.defs.batch import lake as lake_assets
from movierec_platform.defs.batch.resources import resources
from movierec_platform.domain.envelope import encode, raw_key, raw_object
from movierec_platform.domain.event_checks import EventPolicy
from movierec_platform.domain.interactions import pair_states
from movierec_platform.domain.registers import Pair, PairState, bucket_of
from movierec_platform.domain.tables import MOVIES, RATINGS
from movierec_platform.errors import LakeUnavailable, PromotionRefused
from movierec_platform.services.compact import compact_day, read_catalogue
from movierec_platform.services.fold import fold_everything, fold_tables
from movierec_platform.services.interactions import fold_interactions
from movierec_platform.services.popularity import compute_popularity

TODAY = datetime.now(timezone.utc).date()
YESTERDAY = (TODAY - timedelta(days=1)).isoformat()
NOON_MS = int(datetime.fromisoformat(f"{YESTERDAY}T12:00:00+00:00").timestamp() * 1000)
AT_MS = 1_600_000_000_000
RATED = [(user, movie, 3.0, AT_MS) for user in range(1, 6) for movie in (10, 20)]


def imported(user_id: int, movie_id: int, rating: float = 3.0) -> PairState:
    return PairState(rating, AT_MS, f"ml-{user_id}-{movie_id}", AT_MS, None)


BULK = {(user, movie): imported(user, movie) for user, movie, _, _ in RATED}


class Platform:
    """A lake with three movies and ten ratings."""

    def __init__(self, settings: Settings) -> None:
        self.lake, self.objects = Lake(settings), open_objects(settings)
        self.home = str(settings.home)
        self.lake.write("movies", pa.table([[10, 20, 30], ["A", "B", "C"], [1999] * 3, [[]] * 3], schema=MOVIES))
        self.rate(RATED)

    def rate(self, rows: list[tuple[int, int, float, int]]) -> None:
        columns = [list(column) for column in zip(*rows, strict=True)]
        self.lake.write("ratings", pa.table(columns, schema=RATINGS))

    def land(self, *events: dict[str, Any], at_ms: int = NOON_MS) -> None:
        body = raw_object([encode(event) for event in events], at_ms, "test")
        self.objects.put(raw_key(at_ms, f"{len(list(self.objects.keys('raw/'))):04d}"), body)

    def compact(self, day: str = YESTERDAY) -> None:
        now_ms = time.time_ns() // 1_000_000
        compact_day(self.lake, self.objects, day, read_catalogue(self.lake), EventPolicy(), now_ms)

    def fold(self, *waived: str) -> dict[Pair, PairState]:
        fold_interactions(self.lake, self.objects, TODAY, 14, waived)
        return self.interactions()

    def interactions(self) -> dict[Pair, PairState]:
        return dict(pair_states(self.lake.read("interactions")))

    def run(self, *waived: str) -> dg.ExecuteInProcessResult:
        job = dg.define_asset_job("fold", ["interactions", "popularity"], executor_def=dg.in_process_executor)
        assets = dg.load_assets_from_modules([lake_assets])
        definitions = dg.Definitions(assets=assets, jobs=[job], resources=resources(self.home))
        config = {"ops": {"interactions": {"config": {"waive": list(waived)}}}}
        return definitions.resolve_job_def("fold").execute_in_process(run_config=config, raise_on_error=False)


@pytest.fixture
def platform(fresh_settings: Settings) -> Platform:
    write_env_file(fresh_settings.home / STACK_ENV, variables_of(fresh_settings))
    return Platform(fresh_settings)


def states(tables: Iterable[pa.Table]) -> dict[Pair, PairState]:
    return {pair: state for table in tables for pair, state in pair_states(table)}


def test_ratings_and_promoted_events_are_folded_and_again_gives_the_same_rows(platform: Platform) -> None:
    rated = {"event_id": "e1", "user_id": 1, "movie_id": 10, "rating": 5.0}
    platform.land(rated, {"event_type": "view", "user_id": 9, "movie_id": 30}, {**rated, "movie_id": 99})
    platform.compact()
    expected = {**BULK, (1, 10): PairState(5.0, NOON_MS, "e1", NOON_MS), (9, 30): PairState(seen_at_ms=NOON_MS)}
    assert platform.fold() == expected
    first = platform.lake.read("interactions")
    assert list(platform.interactions()) == sorted(expected)
    platform.fold()
    assert platform.lake.read("interactions").equals(first)


def test_everything_landed_is_folded_compacted_or_not(platform: Platform) -> None:
    platform.land({"event_type": "view", "user_id": 9, "movie_id": 30})
    platform.compact()
    platform.land({"event_type": "retract", "user_id": 1, "movie_id": 10}, at_ms=NOON_MS + 5)
    whole = {
        **BULK,
        (9, 30): PairState(seen_at_ms=NOON_MS),
        (1, 10): PairState(seen_at_ms=AT_MS, retracted_at_ms=NOON_MS + 5),
    }
    assert states(fold_tables(platform.lake)) == {**BULK, (9, 30): PairState(seen_at_ms=NOON_MS)}
    assert states(fold_everything(platform.lake, platform.objects)) == whole
    some = {pair: state for pair, state in whole.items() if bucket_of(pair[0]) in (1, 9)}
    assert states(fold_everything(platform.lake, platform.objects, buckets=[1, 9])) == some


def test_what_was_then_leaves_out_what_came_later(platform: Platform) -> None:
    loaded_ms = time.time_ns() // 1_000_000 + 1_000
    platform.land({"event_type": "view", "user_id": 8, "movie_id": 30}, at_ms=loaded_ms)
    platform.land({"event_type": "view", "user_id": 9, "movie_id": 30}, at_ms=loaded_ms + 1)
    then = fold_everything(platform.lake, platform.objects, as_of_ms=loaded_ms)
    assert states(then) == {**BULK, (8, 30): PairState(seen_at_ms=loaded_ms)}
    assert states(fold_everything(platform.lake, platform.objects, as_of_ms=NOON_MS)) == {}


def test_a_lake_without_tables_is_an_error_now_and_nothing_then(fresh_settings: Settings) -> None:
    lake, objects = Lake(fresh_settings), open_objects(fresh_settings)
    assert list(fold_everything(lake, objects, as_of_ms=NOON_MS)) == []
    with pytest.raises(LakeUnavailable, match="no table movies yet"):
        fold_everything(lake, objects)


def test_a_past_day_that_is_not_compacted_stops_the_fold(platform: Platform) -> None:
    before = platform.fold()
    platform.land({"event_type": "view", "user_id": 9, "movie_id": 30}, at_ms=time.time_ns() // 1_000_000)
    assert platform.fold() == before, "today itself may be under way"
    platform.land({"event_type": "view", "user_id": 8, "movie_id": 30})
    with pytest.raises(PromotionRefused, match=f"events_complete: .* {YESTERDAY}"):
        platform.fold()
    assert platform.interactions() == before
    platform.compact()
    assert platform.fold() == {**before, (8, 30): PairState(seen_at_ms=NOON_MS)}


@pytest.mark.parametrize(
    ("rows", "check"),
    [(RATED[:8], "pairs_do_not_shrink"), ([*RATED, (9, 10, 9.0, AT_MS)], "rating_range_and_step")],
)
def test_a_failed_check_shows_on_the_asset_stops_downstream_and_keeps_the_table(
    platform: Platform, rows: list[tuple[int, int, float, int]], check: str
) -> None:
    assert platform.run().success
    platform.rate(rows)
    result = platform.run()
    assert not result.success
    evaluated = {one.check_name: one for one in result.get_asset_check_evaluations()}
    assert [name for name, one in evaluated.items() if not one.passed] == [check]
    assert evaluated[check].severity == dg.AssetCheckSeverity.ERROR
    assert result.get_asset_materialization_events() == [], "popularity was made of interactions that failed"
    assert platform.interactions() == BULK
    assert platform.lake.read("popularity")["rating_count"].to_pylist() == [5, 5, 0]

    assert platform.run(check).success, "a person may waive the check"
    assert len(platform.interactions()) == len(rows)


def test_popularity_counts_what_is_visible_and_again_gives_the_same(platform: Platform) -> None:
    platform.land(
        {"event_type": "retract", "user_id": 1, "movie_id": 10}, {"event_type": "view", "user_id": 9, "movie_id": 30}
    )
    platform.compact()
    platform.fold()
    assert compute_popularity(platform.lake, half_life_days=30.0, prior_ratings=1.0) == 3
    table = platform.lake.read("popularity")
    assert table.select(["movie_id", "rating_count", "rating_mean", "bayesian_mean", "seen_count"]).to_pylist() == [
        {"movie_id": 10, "rating_count": 4, "rating_mean": 3.0, "bayesian_mean": 3.0, "seen_count": 4},
        {"movie_id": 20, "rating_count": 5, "rating_mean": 3.0, "bayesian_mean": 3.0, "seen_count": 5},
        {"movie_id": 30, "rating_count": 0, "rating_mean": None, "bayesian_mean": 3.0, "seen_count": 1},
    ]
    trend = table["trend"].to_pylist()
    assert trend[2] == 1.0, "the last to be seen is what the trend is as of"
    assert 0 < trend[0] < trend[1] < 1e-9
    compute_popularity(platform.lake, half_life_days=30.0, prior_ratings=1.0)
    assert platform.lake.read("popularity").equals(table)
