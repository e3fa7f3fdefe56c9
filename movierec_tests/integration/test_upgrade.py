"""What another release left is read, written and lost by nobody: messages, raw objects, tables, snapshots, settings.

`test_migrations` has the state database, `test_deploys` a deploy under load.
"""

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.snapshot import open_snapshot
from movierec_platform.adapters.snapshot_files import newest_snapshot, read_snapshot
from movierec_platform.config import load_settings
from movierec_platform.domain import envelope, tables
from movierec_platform.domain.event_checks import EventPolicy
from movierec_platform.domain.events import RANK_AHEAD_MS
from movierec_platform.domain.gate import AHEAD_MS
from movierec_platform.domain.quarantine import Filter, Selection
from movierec_platform.domain.registers import PairState
from movierec_platform.errors import LakeUnavailable
from movierec_platform.services.compact import compact_days, landed_events, read_catalogue
from movierec_platform.services.fold import fold_tables
from movierec_platform.services.interactions import fold_interactions
from movierec_platform.services.redrive import Redrive
from movierec_platform.services.repair import repair
from movierec_platform.services.replay import replay
from movierec_platform.services.verify import verify
from movierec_platform.services.versions import evaluations, publications
from movierec_tests import previous
from movierec_tests.integration.conftest import Platform
from movierec_tests.previous import RAW_KEY, RECEIVED_AT_MS

RECEIVED_DAY = date(2026, 3, 2)
DAY, NEXT_DAY = "2026-03-01", "2026-03-02"


# Messages


def test_messages_and_objects_of_the_release_before_take_effect(platform: Platform) -> None:
    events = [previous.event(number, number + 1, 10) for number in range(3)]
    open_objects(platform.settings).put(RAW_KEY, previous.raw_object(events))
    platform.queues.raw.send([previous.message(0, 1, 10)])
    platform.queues.clean.send([previous.message(1, 2, 10)])
    platform.queues.dlq.send([previous.message(2, 3, 10), previous.rejection(3)])
    platform.run_through()
    assert platform.pairs() == {
        (user, 10): PairState(4.0, RECEIVED_AT_MS, f"old-{user - 1}", RECEIVED_AT_MS, None) for user in (1, 2)
    }
    assert {(row.reason_code, row.line) for row in platform.rows()} == {("poison", None), ("wrong_type", 3)}
    Redrive.open(platform.settings, platform.state).redrive(Selection(where=Filter("poison")), "me")
    platform.run_through()
    assert verify(platform.settings).equal
    [report] = compact(Lake(platform.settings), platform)
    assert (report.landed, report.accepted) == (3, 3)


def test_what_a_newer_release_sends_waits_whole_in_quarantine_until_it_can_be_read(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = [previous.message(number, number + 1, 10).replace('"v":1', '"v":2') for number in range(3)]
    refused = previous.rejection(3).replace('"v":1', '"v":2')
    platform.queues.raw.send(newer[:1])
    platform.queues.clean.send(newer[1:2])
    platform.queues.dlq.send([newer[2], refused])
    platform.run_through()
    assert platform.pairs() == {}
    assert not list(open_objects(platform.settings).keys("raw/"))
    rows = platform.rows()
    assert {row.body for row in rows} == {*newer, refused}
    why = "a message of version 2; this release reads version 1: redrive it after the upgrade"
    assert {(row.reason_code, row.detail, row.raw_key) for row in rows} == {("poison", why, None)}

    # Too soon it comes back.
    redrive = Redrive.open(platform.settings, platform.state)
    redrive.redrive(Selection([rows[0].id]), "me")
    platform.run_through()
    assert {row.status for row in platform.rows()} == {"held"}

    monkeypatch.setattr(envelope, "VERSION", 2)
    assert redrive.redrive(Selection(everything=True), "me").done == {"poison": 4}
    platform.run_through()
    assert {user for user, _ in platform.pairs()} == {1, 2, 3}
    held = [(row.reason_code, row.line, row.raw_key) for row in platform.rows() if row.status == "held"]
    assert held == [("wrong_type", 3, RAW_KEY)]


def test_an_event_of_another_producer_that_has_a_field_v_is_no_newer_message(platform: Platform) -> None:
    platform.queues.raw.send([previous.event(0, 1, 10).replace("{", '{"v":7,')])
    platform.run_through()
    assert (1, 10) in platform.pairs()


# Tables


def compact(lake: Lake, platform: Platform, *days: str):
    policy = EventPolicy()
    return compact_days(lake, open_objects(platform.settings), days or (DAY,), policy, RECEIVED_AT_MS + 10**9)


def without(table: pa.Table, *columns: str) -> pa.Table:
    return table.drop_columns([*columns])


def make_old(lake: Lake, table: str, rows: pa.Table, partition: tuple[str, str] | None = None, label: str = "part"):
    lake.promote(lake.stage(table, [rows], rows.schema, partition, label))


def test_tables_that_lack_columns_are_read_written_and_compacted(platform: Platform, tmp_path: Path) -> None:
    lake = Lake(platform.settings)
    objects = open_objects(platform.settings)
    objects.put(RAW_KEY, previous.raw_object([previous.event(0, 1, 10)]))
    next_key = envelope.raw_key(RECEIVED_AT_MS + 86_400_000, "next")
    session = previous.event(1, 2, 20).replace('"rating":4.0', '"rating":4.0,"recommendation_id":"r1"')
    objects.put(next_key, previous.raw_object([session]))
    compact(lake, platform)
    label = lake.labels("events", "date")[DAY]
    old = lake.read("events", tables.EVENTS.names)
    make_old(lake, "events", without(old, "recommendation_id"), ("date", DAY), label)
    make_old(lake, "movies", without(lake.read("movies"), "year"))
    make_old(lake, "interactions", without(pa.concat_tables(fold_tables(lake)), "retracted_at_ms"))
    popularity = {"movie_id": [10], "rating_count": [1], "seen_count": [1], "trend": [0.0]}
    make_old(lake, "popularity", pa.table(popularity))
    make_old(lake, "publications", pa.table({"published_at_ms": [5], "version": ["v1"], "why": ["first"]}))
    judged = {name: ["{}"] for name in ("protocol", "models", "rules")}
    row = {"version": ["v1"], "evaluated_at_ms": [5], "passed": [True], "reason": ["ok"], "users": [1], **judged}
    make_old(lake, "evaluations", pa.table(row), ("version", "v1"))

    # Read
    rows = lake.read("events", tables.EVENTS.names).to_pylist()
    assert [(row["event_id"], row["recommendation_id"]) for row in rows] == [("old-0", None)]
    assert lake.read("movies")["year"].to_pylist() == [None] * 3
    [split] = lake.splits("interactions")
    assert lake.read_split("interactions", *split, columns=["user_id", "retracted_at_ms"]).to_pylist() == [
        {"user_id": 1, "retracted_at_ms": None}
    ]
    assert publications(lake)[0].previous is None
    assert evaluations(lake)[0].ndcg is None
    snapshot = open_snapshot(lake, None, tmp_path / "snapshots")
    assert snapshot.movies.viewers.tolist() == [1, 0, 0]
    landed = list(landed_events(lake, objects, read_catalogue(lake)))
    assert sorted(event for batch in landed for event in batch["event_id"].to_pylist()) == ["old-0", "old-1"]

    # Written and compacted
    compact(lake, platform, NEXT_DAY)
    rows = lake.read("events", tables.EVENTS.names).sort_by("event_id").to_pylist()
    assert [(row["event_id"], row["recommendation_id"]) for row in rows] == [("old-0", None), ("old-1", "r1")]
    folded = fold_interactions(lake, objects, RECEIVED_DAY, late_days=1)
    assert folded.pairs == 2
    assert lake.read("interactions", ["retracted_at_ms"], [("user_id", ">", 0)])["retracted_at_ms"].null_count == 2

    # The release before, still at work, writes a day as it knows them: nothing of the newer one's is lost.
    make_old(lake, "events", without(old, "recommendation_id"), ("date", DAY), label)
    assert "recommendation_id" in {field.name for field in lake._open("events").schema().fields}  # for other readers
    rows = list(lake.batches("events", ["recommendation_id"], ds.field("date") == NEXT_DAY))
    assert [value for batch in rows for value in batch["recommendation_id"].to_pylist()] == ["r1"]
    assert lake.maintain("events", kept_hours=0) > 0
    compact(lake, platform, DAY, NEXT_DAY)
    assert lake.read("events", tables.EVENTS.names).num_rows == 2


def test_times_ahead_that_the_release_before_let_rank_are_put_right_by_a_repair(platform: Platform) -> None:
    lake, objects, latest = Lake(platform.settings), open_objects(platform.settings), RECEIVED_AT_MS + RANK_AHEAD_MS
    claimed = RECEIVED_AT_MS + AHEAD_MS
    ahead = previous.event(0, 1, 10).replace(f'"timestamp":{RECEIVED_AT_MS}', f'"timestamp":{claimed}')
    objects.put(RAW_KEY, previous.raw_object([ahead]))
    compact(lake, platform)
    rows, label = lake.read("events", tables.EVENTS.names), lake.labels("events", "date")[DAY]
    at = rows.schema.get_field_index("timestamp_ms")
    make_old(lake, "events", rows.set_column(at, rows.schema.field(at), [[claimed]]), ("date", DAY), label)
    platform.graph.apply_pairs({(1, 10): PairState(4.0, claimed, "old-0", claimed, None)})

    parity = verify(platform.settings)
    assert (parity.wrong_pairs, parity.differing_pairs) == (1, 1), "said, rather than kept"
    repair(platform.settings)
    assert platform.pairs() == {(1, 10): PairState(4.0, latest, "old-0", latest, None)}
    assert verify(platform.settings).equal
    compact(lake, platform)
    replay(platform.settings, since_ms=0)
    platform.run_through()
    assert verify(platform.settings).equal, "nor does what comes later differ again"


def test_a_column_in_another_type_is_refused_in_a_sentence(platform: Platform) -> None:
    lake = Lake(platform.settings)
    lake.write("evaluations", pa.table({"users": [1]}), ("version", "v1"))
    with pytest.raises(LakeUnavailable, match="evaluations of the lake has users in another type than this release"):
        lake.write("evaluations", pa.table({"users": ["1"]}), ("version", "v2"))


# Snapshots and settings


def test_snapshots_of_another_format_are_not_read(platform: Platform, tmp_path: Path) -> None:
    lake = Lake(platform.settings)
    snapshot = open_snapshot(lake, None, tmp_path)
    form = tmp_path / snapshot.name / "format.npy"
    np.save(form, np.array(99), allow_pickle=False)
    assert read_snapshot(tmp_path, snapshot.name) is None
    form.unlink()  # as the release before wrote them
    assert read_snapshot(tmp_path, snapshot.name) is None
    assert newest_snapshot(tmp_path) is None
    assert open_snapshot(lake, None, tmp_path).name == snapshot.name
    assert newest_snapshot(tmp_path) is not None


def test_a_stack_env_of_the_release_before_leads_to_the_same_servers(tmp_path: Path) -> None:
    (tmp_path / "stack.env").write_text(previous.STACK_ENV)
    settings = load_settings({"home": tmp_path})
    assert settings.state_database_url == "sqlite:////home/me/.movierec/state.db"
    assert settings.raw_queue_url.endswith("/movierec-raw")
    assert settings.dagster_database_url == ""
