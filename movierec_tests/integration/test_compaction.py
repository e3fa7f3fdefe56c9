"""A day's raw objects become its partition of `events`, on a real S3; what is landed later makes the day stale."""

import gzip
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from movierec_platform.adapters.aws import s3_client
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.state import State
from movierec_platform.config import STACK_ENV, Settings, variables_of, write_env_file
from movierec_platform.defs.batch.events import events as events_asset
from movierec_platform.defs.batch.jobs import compaction, lake_maintenance
from movierec_platform.defs.batch.resources import resources
from movierec_platform.defs.batch.sensors import stale_days_sensor
from movierec_platform.domain.envelope import encode, raw_key, raw_object
from movierec_platform.domain.event_checks import CHECKS, EventPolicy
from movierec_platform.domain.events import Event
from movierec_platform.domain.freshness import bucket_counts
from movierec_platform.domain.gate import judge
from movierec_platform.domain.set_aside import SetAside
from movierec_platform.domain.tables import COMPACTIONS, EVENTS
from movierec_platform.errors import LakeUnavailable, ObjectStoreUnavailable, PromotionRefused
from movierec_platform.services.compact import (
    Catalogue,
    DayReport,
    compact_day,
    compact_days,
    days_before,
    landed_events,
    read_catalogue,
    stale_days,
)
from movierec_platform.services.launch import range_tags
from movierec_platform.services.maintain import maintain_lake

DAY, NEXT = "2026-03-01", "2026-03-02"
AT_MS = 1_772_323_200_000
"""2026-03-01T00:00:00Z"""
DAY_MS = 86_400_000
GOOD = {"event_id": "e1", "user_id": 7, "movie_id": 10, "rating": 4.5, "timestamp": AT_MS + 5}
MOVIES = pa.table({"movie_id": [10, 20, 30]})


class Compaction:
    """A lake of three movies and its raw objects."""

    def __init__(self, settings: Settings) -> None:
        self.lake, self.objects = Lake(settings), open_objects(settings)
        self.lake.write("movies", MOVIES)
        self.policy = EventPolicy()
        self._landed = 0

    def land(self, *events: Any, at_ms: int = AT_MS + 1000) -> str:
        self._landed += 1
        key = raw_key(at_ms, f"{self._landed:04d}")
        self.objects.put(key, raw_object([encode(event) for event in events], at_ms, "test"))
        return key

    def compact(self, day: str = DAY, **changed: Any) -> DayReport:
        given = {"catalogue": read_catalogue(self.lake), "policy": self.policy, "now_ms": AT_MS + 9 * DAY_MS, **changed}
        return compact_day(self.lake, self.objects, day, **given)

    def stale(self, *days: str) -> list[str]:
        return list(stale_days(self.lake, self.objects, days or (DAY, NEXT), read_catalogue(self.lake)))

    def events(self, day: str = DAY) -> list[dict[str, Any]]:
        """The rows of the partition in the order of its file."""
        rows = self.lake.read("events", EVENTS.names, [("date", "=", day)]).to_pylist()
        return rows

    def landed(self, **given: Any) -> list[dict[str, Any]]:
        catalogue = given.pop("catalogue", None) or read_catalogue(self.lake)
        batches = list(landed_events(self.lake, self.objects, catalogue, **given))
        assert all(batch.schema.equals(EVENTS) for batch in batches)
        return [row for batch in batches for row in batch.to_pylist()]

    def ledger(self) -> dict[str, dict[str, Any]]:
        return {row["date"]: row for row in self.lake.read("compactions").to_pylist()}


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    """A home and a bucket that no other test has; queues are not needed here, and cost a second."""
    made = settings.model_copy(update={"home": tmp_path, "bucket": f"test-{uuid.uuid4().hex[:12]}"})
    s3_client(made).create_bucket(Bucket=made.bucket)
    return made


@pytest.fixture
def platform(own: Settings) -> Compaction:
    return Compaction(own)


def content(rows: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    return {tuple(row.values())[:-1] for row in rows}


def test_a_day_becomes_its_partition_and_what_was_counted(platform: Compaction) -> None:
    view = {"event_id": "e2", "event_type": "view", "user_id": 3, "movie_id": 20}
    keys = [
        platform.land(GOOD, view, {**GOOD, "rating": 9}, "no object"),
        platform.land(GOOD, {**GOOD, "movie_id": 99}, {"user_id": 1, "item_id": 30, "rating": 1}, at_ms=AT_MS + 2000),
    ]
    platform.land(GOOD, at_ms=AT_MS + DAY_MS)
    report = platform.compact()
    hashed = judge({"user_id": 1, "movie_id": 30, "rating": 1}, AT_MS + 2000)
    assert isinstance(hashed, Event)
    assert [(row["user_id"], row["movie_id"], row["event_id"], row["received_at_ms"]) for row in platform.events()] == [
        (1, 30, hashed.event_id, AT_MS + 2000),
        (3, 20, "e2", AT_MS + 1000),
        (7, 10, "e1", AT_MS + 1000),
    ]
    rejected = {"not_an_object": 1, "rating_out_of_range": 1, "unknown_movie": 1}
    counted = {"objects": 2, "landed": 7, "accepted": 3, "duplicates": 1, "set_aside": []}
    sizes = sum(one.size for one in platform.objects.listing("raw/") if one.key in keys)
    assert all(finding.passed for finding in report.findings)
    assert report == DayReport(DAY, bytes=sizes, rejected=rejected, findings=report.findings, **counted)
    row = platform.ledger()[DAY]
    assert {**row, "rejected": dict(row["rejected"])} == {
        "label": f"{platform.lake.labels('events', 'date')[DAY]}",
        "bytes": sizes,
        "rejected": rejected,
        "date": DAY,
        **counted,
    }
    assert platform.stale() == [NEXT]


def test_landed_events_are_the_same_compacted_or_not(platform: Compaction) -> None:
    for number in range(30):
        day_ms = AT_MS + number % 3 * DAY_MS
        platform.land(
            *({**GOOD, "event_id": f"{number}-{k}", "user_id": k + 1, "movie_id": (k + 1) * 10} for k in range(4)),
            at_ms=day_ms + number,
        )
    raw = platform.landed()
    assert len(raw) == 90
    platform.compact()
    mixed = platform.landed()
    assert sorted(map(repr, mixed)) == sorted(map(repr, raw))
    platform.compact(NEXT)
    assert platform.stale() == []
    assert content(platform.landed()) == content(raw)
    early = [row for row in raw if row["received_at_ms"] <= AT_MS + DAY_MS + 4]
    assert content(platform.landed(until_ms=AT_MS + DAY_MS + 4)) == content(early)
    assert 0 < len(early) < 90
    fewer = Catalogue.of([20])
    assert {row["movie_id"] for row in platform.landed(catalogue=fewer)} == {20}
    assert len(platform.landed(catalogue=Catalogue.of([10, 20, 30, 40]))) == 120


@pytest.mark.parametrize(
    ("body", "said", "landed"),
    [
        (b"plain", "not gzip", 40),
        (gzip.compress(b"{}")[:-3], "not gzip", 40),
        (
            gzip.compress(b'{"received_at_ms": 1, "event": {}}\nnonsense\n'),
            "1 of its 2 lines, first line 2: not JSON",
            42,
        ),
    ],
    ids=["plain", "cut", "nonsense"],
)
def test_an_object_that_nobody_landed_is_set_aside_and_named(
    platform: Compaction, body: bytes, said: str, landed: int
) -> None:
    for number in range(40):
        platform.land({**GOOD, "event_id": str(number)})
    key, odd = f"raw/date={DAY}/hour=00/{AT_MS}-a strange%20 key.ndjson.gz", f"raw/date={DAY}/hour=00/odd"
    platform.objects.put(key, body)
    platform.objects.put(odd, raw_object([encode({**GOOD, "event_id": "odd"})], AT_MS, "test"))
    told: list[SetAside] = []
    assert len(platform.landed(aside=told.append)) == 40
    report = platform.compact()
    assert (report.landed, report.accepted) == (landed, 40)
    assert sorted(report.set_aside) == sorted(told)
    assert {one.key: one.reason.startswith(said) for one in told} == {key: True, odd: False}
    assert platform.stale() == []
    again: list[SetAside] = []
    assert len(platform.landed(aside=again.append)) == 40
    assert sorted(again) == sorted(told), "the ledger of the compacted day names them too"
    platform.objects.delete([key])
    assert platform.stale() == [DAY]


def test_an_object_outside_the_days_is_named(platform: Compaction) -> None:
    platform.land(GOOD)
    for key in ("raw/stray.gz", "raw/date=2026-02-30/x.gz", "raw/other/x.gz", "raw//x.gz"):
        platform.objects.put(key, b"")
    names = ["raw//", "raw/date=2026-02-30/", "raw/other/", "raw/stray.gz"]
    told: list[SetAside] = []
    assert len(platform.landed(aside=told.append)) == 1
    assert [(one.key, one.day) for one in told] == [(name, None) for name in names]
    [report] = compact_days(platform.lake, platform.objects, [DAY], platform.policy, now_ms=AT_MS)
    [finding] = [one for one in report.findings if not one.passed]
    assert (finding.check, finding.blocking) == ("no_objects_outside_days", False)
    assert ", ".join(names) in finding.detail
    assert len(platform.events()) == 1


def test_objects_come_in_the_order_asked_for_and_a_missing_one_is_our_error(platform: Compaction) -> None:
    keys = [platform.land({**GOOD, "event_id": str(number)}) for number in range(70)]
    keys.append("raw/with space%2Band/..dots")
    platform.objects.put(keys[-1], b"odd")
    random.Random(1).shuffle(keys)
    assert list(platform.objects.get_all(keys)) == [platform.objects.get(key) for key in keys]
    assert list(platform.objects.get_all([])) == []
    with pytest.raises(ObjectStoreUnavailable, match="raw/absent"):
        list(platform.objects.get_all([*keys, "raw/absent", *keys]))


def test_what_is_landed_late_makes_the_day_stale_until_it_is_compacted_again(platform: Compaction) -> None:
    platform.land(GOOD)
    assert platform.stale() == [DAY]
    platform.compact()
    before = platform.events()
    assert platform.stale() == []
    late = platform.land({**GOOD, "event_id": "late"})
    assert platform.stale() == [DAY]
    platform.compact()
    assert [row["event_id"] for row in platform.events()] == ["e1", "late"]
    assert platform.stale() == []
    platform.objects.put(late, raw_object([encode({**GOOD, "event_id": "gone"})], AT_MS, "test"))  # as an erasure does
    assert platform.stale() == [DAY]
    platform.objects.put(late, raw_object([], AT_MS, "test"))
    platform.compact()
    assert platform.events() == before


def test_a_day_without_accepted_events_is_current_and_a_new_movie_makes_it_stale(platform: Compaction) -> None:
    platform.land({**GOOD, "movie_id": 40}, {"user_id": 1})
    platform.compact()
    assert (platform.events(), platform.stale(), platform.landed()) == ([], [], [])
    platform.lake.write("movies", pa.table({"movie_id": [10, 40]}))
    assert platform.stale() == [DAY]
    assert len(platform.landed()) == 1
    platform.compact()
    assert [row["movie_id"] for row in platform.events()] == [40]
    platform.lake.write("movies", pa.table({"movie_id": [40]}))
    assert platform.stale() == []  # nothing was refused for its movie: no catalogue makes more of the day


def test_rows_that_fail_a_check_leave_the_partition_and_the_day_stale(platform: Compaction) -> None:
    for back in range(4):
        at_ms = AT_MS - back * DAY_MS
        ids = (f"{back}-{number}" for number in range(30))
        platform.land(*({**GOOD, "event_id": name, "timestamp": at_ms} for name in ids), at_ms=at_ms)
    for day in ("2026-02-26", "2026-02-27", "2026-02-28", DAY):
        platform.compact(day)
    for day in ("2026-02-22", "2026-02-23", "2026-02-24", "2026-02-25"):  # counted, but of no partition
        nothing = dict.fromkeys(("objects", "bytes", "landed", "accepted", "duplicates"), 0)
        row = pa.Table.from_pylist([{"label": "other", "rejected": [], **nothing}], schema=COMPACTIONS)
        platform.lake.write("compactions", row, partition=("date", day))
    before, ledger = platform.events(), platform.ledger()
    platform.land(*({**GOOD, "event_id": f"more-{number}"} for number in range(300)))
    with pytest.raises(
        PromotionRefused, match="330 lines landed; 3 to 300 are expected after a median of 30"
    ) as raised:
        platform.compact()
    assert [finding.check for finding in raised.value.findings if not finding.passed] == [
        "volume_against_trailing_median"
    ]
    assert (platform.events(), platform.ledger(), platform.stale()) == (before, ledger, [DAY])
    assert len(platform.landed()) == 3 * 30 + 330
    platform.compact(waived=["volume_against_trailing_median"])
    assert (len(platform.events()), platform.stale()) == (330, [])


def test_a_day_has_the_same_rows_in_whatever_objects_and_order_they_came(platform: Compaction) -> None:
    events = [
        {**GOOD, "event_id": f"e{number % 40}", "rating": 0.5 + number % 3, "session_id": [None, "s"][number % 2]}
        for number in range(200)
    ]
    platform.land(*events)
    platform.compact()
    rows = platform.events()
    assert len(rows) == 120
    random.Random(2).shuffle(events)
    for number in range(0, 200, 7):
        platform.land(*events[number : number + 7], at_ms=AT_MS + 2000 + number)
    report = platform.compact()
    assert (platform.events(), report.duplicates) == (rows, 280)
    [conflicting] = [finding for finding in report.findings if not finding.passed]
    assert (conflicting.check, conflicting.blocking) == ("conflicting_event_ids", False)
    assert conflicting.detail.startswith("80 events")


class Batch:
    """The batch location's events over this lake."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        write_env_file(settings.home / STACK_ENV, variables_of(settings))
        self.instance = instance
        self.resources = resources(home=str(settings.home))
        self._defs = dg.Definitions(
            assets=[events_asset], jobs=[compaction, lake_maintenance], resources=self.resources
        )

    def run(self, first: str, last: str, raises: bool = True, **config: Any) -> dg.ExecuteInProcessResult:
        return self._defs.resolve_job_def("compaction").execute_in_process(
            run_config={"ops": {"events": {"config": config}}} if config else None,
            tags=range_tags(first, last),
            instance=self.instance,
            raise_on_error=raises,
        )

    def maintain(self) -> dict[str, int]:
        result = self._defs.resolve_job_def("lake_maintenance").execute_in_process(instance=self.instance)
        removed: dict[str, int] = result.output_for_node("remove_unused_files")
        return removed

    def tick(self, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
        needed = {name: self.resources[name] for name in ("settings", "lake", "objects")}
        with dg.build_sensor_context(instance=self.instance, cursor=cursor, resources=needed) as context:
            ticked = stale_days_sensor(context)
        assert isinstance(ticked, (dg.SensorResult, dg.SkipReason))
        return ticked


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def batch(own: Settings, instance: dg.DagsterInstance) -> Batch:
    return Batch(own, instance)


def seven_days(platform: Compaction) -> list[str]:
    """Events of seven days, some of them in two objects, one day with none that is accepted."""
    days = [f"2026-03-0{number}" for number in range(1, 8)]
    for number in range(1, 40):
        at_ms = AT_MS + number % 7 * DAY_MS + number
        spoilt = {"rating": 9} if number % 7 == 3 else {}
        ids = (f"{number}-{k % 2}" for k in range(4))
        platform.land(*({**GOOD, "event_id": name, "timestamp": at_ms, **spoilt} for name in ids), at_ms=at_ms)
    return days


def test_a_range_in_one_run_gives_what_day_by_day_runs_give(platform: Compaction, batch: Batch) -> None:
    days = seven_days(platform)
    for day in days[:3]:
        assert batch.run(day, day).success
    for day in days[3:]:
        platform.compact(day)
    files = {day: file_of(platform, day) for day in days}
    labels, ledger = platform.lake.labels("events", "date"), platform.ledger()
    assert labels.keys() == set(days) == ledger.keys()
    result = batch.run(days[0], days[-1])
    assert {day: file_of(platform, day) for day in days} == files
    assert (platform.lake.labels("events", "date"), platform.ledger()) == (labels, ledger)
    metadata = {
        event.step_materialization_data.materialization.partition: event.materialization.metadata
        for event in result.get_asset_materialization_events()
    }
    counts = {day: shown["dagster/partition_row_count"].value for day, shown in metadata.items()}
    assert counts == {day: ledger[day]["accepted"] for day in days}
    assert counts["2026-03-04"] == 0
    assert metadata["2026-03-04"]["rejected/rating_out_of_range"].value == ledger["2026-03-04"]["landed"] == 24
    assert {shown["rejected/wrong_type"].value for shown in metadata.values()} == {0}
    assert {one.check_name for one in result.get_asset_check_evaluations()} == set(CHECKS)


def file_of(platform: Compaction, day: str) -> bytes:
    """The bytes of the one file that the partition has."""
    [path] = (
        one["path"]
        for one in pa.table(platform.lake._open("events").get_add_actions(flatten=True)).to_pylist()
        if one["partition.date"] == day
    )
    return platform.objects.get(f"lake/events/{path}")


def test_a_failed_check_fails_the_run_but_not_the_other_days(platform: Compaction, batch: Batch, own: Settings) -> None:
    days = seven_days(platform)
    batch.run(days[0], days[4])
    before = platform.events(days[4])
    ids = (str(number) for number in range(300))
    platform.land(
        *({**GOOD, "event_id": name, "timestamp": AT_MS + 4 * DAY_MS} for name in ids), at_ms=AT_MS + 4 * DAY_MS
    )
    compacted_at_ms = (state := State.open(own)).marked("compacted_at_ms")
    assert compacted_at_ms is not None
    result = batch.run(days[4], days[6], raises=False)
    assert state.marked("compacted_at_ms") == compacted_at_ms, "a run that fails is none"
    assert sum(count for _, count in bucket_counts(state.counters(), "movierec_compaction_seconds")) == 1
    assert not result.success
    failed = [one.check_name for one in result.get_asset_check_evaluations() if not one.passed]
    assert failed == ["volume_against_trailing_median"]
    assert platform.events(days[4]) == before
    assert platform.stale(*days) == [days[4]]
    assert batch.run(days[4], days[4], waive=["volume_against_trailing_median"]).success
    assert platform.stale(*days) == []


def test_the_sensor_asks_once_for_each_staleness_and_as_one_range(platform: Compaction, batch: Batch) -> None:
    today = datetime.now(timezone.utc).date()
    days = days_before(today, 14)
    noon_ms = int(datetime.combine(today, datetime.min.time(), timezone.utc).timestamp() * 1000) - DAY_MS // 2
    for back in (0, 1, 4):
        at_ms = noon_ms - back * DAY_MS
        platform.land({**GOOD, "timestamp": at_ms}, at_ms=at_ms)
    first = batch.tick()
    assert isinstance(first, dg.SensorResult)
    ranges = [(days[-5], days[-5]), (days[-2], days[-1])]
    asked = [dict(one.tags) for one in first.run_requests or ()]
    assert asked == [range_tags(start, end) for start, end in ranges]
    again = batch.tick(first.cursor)
    assert isinstance(again, dg.SensorResult)
    assert not again.run_requests
    for start, end in ranges:
        assert batch.run(start, end).success
    assert platform.stale(*days) == []
    done = batch.tick(again.cursor)
    assert isinstance(done, dg.SensorResult)
    assert (done.run_requests, done.cursor) == ([], "{}")
    platform.land({**GOOD, "event_id": "late"}, at_ms=noon_ms - DAY_MS)
    late = batch.tick(done.cursor)
    assert isinstance(late, dg.SensorResult)
    [request] = late.run_requests or ()
    assert dict(request.tags) == range_tags(days[-2], days[-2])
    assert request.run_key not in {one.run_key for one in first.run_requests or ()}


def test_the_sensor_says_what_is_away(own: Settings, instance: dg.DagsterInstance) -> None:
    for settings, said in (
        (own, "no table movies yet"),
        (own.model_copy(update={"bucket": f"absent-{uuid.uuid4().hex[:12]}"}), "table movies"),
        (own.model_copy(update={"aws_endpoint_url": "http://127.0.0.1:9"}), "table movies"),
    ):
        skipped = Batch(settings, instance).tick()
        assert isinstance(skipped, dg.SkipReason)
        assert said in (skipped.skip_message or "")


def test_maintenance_removes_what_no_recent_version_uses(platform: Compaction, batch: Batch) -> None:
    for number in range(3):
        platform.land({**GOOD, "event_id": str(number)})
        platform.compact()
    started_ms = time.time_ns() // 1_000_000
    platform.lake.write("movies", MOVIES)
    staged = platform.lake.stage("movies", [MOVIES], MOVIES.schema)
    assert batch.maintain() == {"events": 0, "compactions": 0, "movies": 0}
    assert maintain_lake(platform.lake, kept_hours=0) == {"events": 2, "compactions": 2, "movies": 0}
    assert len(platform.events()) == 3
    assert len(list(platform.lake.staged_batches(staged))) == 1
    assert platform.lake.maintain("movies", 0, every_version=True) == 1
    assert [batch.num_rows for batch in platform.lake.batches("movies", as_of_ms=started_ms)] == [3]
    with pytest.raises(LakeUnavailable):
        list(platform.lake.staged_batches(staged))


COMPACTS_WHEN_TOLD = """
import sys
from pathlib import Path
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.config import load_settings
from movierec_platform.domain.event_checks import EventPolicy
from movierec_platform.services.compact import compact_days

settings = load_settings({"home": Path(sys.argv[1])})
lake, objects = Lake(settings), open_objects(settings)
print("ready", flush=True)
sys.stdin.readline()
compact_days(lake, objects, [sys.argv[2]], EventPolicy(), now_ms=0)
print("done", flush=True)
"""


def test_a_compaction_killed_at_any_moment_is_made_good_by_the_next(platform: Compaction, own: Settings) -> None:
    write_env_file(own.home / STACK_ENV, variables_of(own))
    platform.land(*({**GOOD, "event_id": str(number)} for number in range(3_000)))
    platform.compact()
    moments = random.Random(4)
    for kill in range(3):
        before = platform.events()
        platform.land(*({**GOOD, "event_id": f"{kill}-{number}"} for number in range(1_000)))
        command = [sys.executable, "-c", COMPACTS_WHEN_TOLD, str(own.home), DAY]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdin
            assert child.stdout
            assert child.stdout.readline() == "ready\n"
            child.stdin.write("\n")
            child.stdin.flush()
            time.sleep(moments.uniform(0, 0.3))
            child.kill()
        stale = DAY in platform.stale()
        assert len(platform.events()) == len(before) + (0 if stale else 1_000)
        assert stale or platform.ledger()[DAY]["label"] == platform.lake.labels("events", "date")[DAY]
        platform.compact()
        killed = file_of(platform, DAY), platform.ledger()
        platform.compact()
        assert (file_of(platform, DAY), platform.ledger()) == killed
        assert len(platform.events()) == len(before) + 1_000
