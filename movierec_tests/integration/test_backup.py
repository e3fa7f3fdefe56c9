"""A backup brings everything back, or changes nothing. `test_platform` does it with a whole stack."""

import hashlib
import json
import shutil
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import SecretStr

from movierec_platform.adapters.dumps import dump
from movierec_platform.adapters.graph_similarity import Publication
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import Queues
from movierec_platform.adapters.state import State
from movierec_platform.config import Settings, load_settings
from movierec_platform.domain.json_text import encode, read_json
from movierec_platform.domain.tables import POPULARITY, SIMILARITY
from movierec_platform.errors import CheckFailed, StateUnavailable, UsageError
from movierec_platform.services.backup import MANIFEST, back_up, layout, path_of
from movierec_platform.services.keys import Keys, Verifier
from movierec_platform.services.land import Lander
from movierec_platform.services.restore import restore
from movierec_platform.services.verify import verify
from movierec_platform.services.versions import record_published
from movierec_tests.integration.conftest import GOOD, NOW, Platform
from movierec_tests.postgres import PostgresServer, postgres_binaries
from movierec_tests.servers import empty_settings

VERSION = "20240501T120000Z-00000001"


def unheard(what: str, done: int, total: int) -> None:
    return


class World:
    """A platform with something in each store, and how another one, which is empty, is made."""

    def __init__(self, platform: Platform, base: Path, url: str, next_url: str) -> None:
        self._platform, self._base, self._next_url = platform, base, next_url
        self.folder = base / "backup"
        self.own = self._at(platform.settings, url)
        (self.own.home / "dagster/history").mkdir(parents=True)
        if not url:
            with sqlite3.connect(self.own.home / "dagster/history/runs.db") as runs:
                runs.execute("CREATE TABLE runs (id INTEGER)")
                runs.execute("INSERT INTO runs VALUES (7)")
            runs.close()
        self.state = State.open(self.own)
        self.key = Keys(self.state.keys).create("phone", ["read"]).text
        lake = Lake(self.own)
        figures = {"rating_count": [1] * 3, "seen_count": [1] * 3, "trend": [0.0] * 3}
        means = dict.fromkeys(("rating_mean", "bayesian_mean"), [4.0] * 3)
        lake.write("popularity", pa.table({"movie_id": [10, 20, 30], **figures, **means}, schema=POPULARITY))
        edge = {"version": [VERSION], "source_id": [10], "target_id": [20], "score": [0.5], "rank": [1], "support": [3]}
        lake.write("similarity", pa.table(edge, schema=SIMILARITY), ("version", VERSION))
        first = Publication(VERSION, None, 5, "published")
        record_published(lake, [], first)
        time.sleep(0.01)
        self.between_ms = time.time_ns() // 1_000_000
        time.sleep(0.01)
        record_published(lake, [first], Publication(VERSION, None, 6, "rolled back"))
        self.land(GOOD, {**GOOD, "event_id": "bad", "rating": 9})
        self.run_through(self.own, self.state)
        self.land({**GOOD, "event_id": "waits", "movie_id": 20}, {"event_id": "bad too"})

    def land(self, *events: object) -> None:
        lander = Lander(self.own)
        lander.land([read_json(encode(event)) for event in events])
        lander.close()

    def run_through(self, settings: Settings, state: State) -> None:
        replace(self._platform, settings=settings, queues=Queues.open(settings), state=state).run_through()

    def another(self) -> Settings:
        """Everything is gone: other stores, with nothing in them, and the graph as empty."""
        self._platform.graph._write(lambda transaction: transaction.run("MATCH (n) DETACH DELETE n").consume())
        return self._at(empty_settings(self.own, self._base / "another"), self._next_url)

    def back_up(self) -> None:
        back_up(self.own, self.own.home / "dagster", self.folder, NOW, unheard)

    def restore(self, settings: Settings, force: bool = False):
        return restore(settings, settings.home / "dagster", self.folder, force, unheard)

    @staticmethod
    def _at(settings: Settings, url: str) -> Settings:
        return settings.model_copy(update={"state_url": SecretStr(url), "dagster_postgres_url": SecretStr(url)})


@pytest.fixture(params=["sqlite", "postgres"])
def world(request: pytest.FixtureRequest, platform: Platform, tmp_path: Path) -> World:
    if request.param == "sqlite":
        return World(platform, tmp_path, "", "")
    server: PostgresServer = request.getfixturevalue("postgres_server")
    binaries = postgres_binaries()
    assert binaries is not None
    url = server.new_database()
    server.execute("CREATE TABLE runs (id INTEGER)", url.rpartition("/")[2])
    server.execute("INSERT INTO runs VALUES (7)", url.rpartition("/")[2])
    return World(platform, tmp_path, url, server.new_database())


@pytest.mark.both_graphs(long=True)
def test_what_was_backed_up_is_there_again_and_what_was_under_way_arrives(world: World) -> None:
    world.back_up()
    world.run_through(world.own, world.state)  # so would the platform have gone on
    kept = {key: open_objects(world.own).get(key) for key in open_objects(world.own).keys("")}
    there = world.another()
    restored = world.restore(there)
    assert (restored.graph.pairs, restored.graph.version, restored.replayed) == (2, VERSION, 2)
    objects = open_objects(there)
    assert {key: objects.get(key) for key in objects.keys("")} == {
        key: body for key, body in kept.items() if not key.endswith("_last_checkpoint")
    }

    assert Lake(there).read("publications", as_of_ms=world.between_ms)["published_at_ms"].to_pylist() == [5]

    state = State.open(there)
    world.run_through(there, state)
    assert verify(there).equal
    assert Verifier(lambda: state.keys, 60).verify(world.key).name == "phone"
    for one in (world.state, state):
        assert one.quarantine.by_reason() == {"rating_out_of_range": 1, "missing_field": 1}
        counters = one.counters()
        assert counters["movierec_events_landed_total", ()] == 4
        assert counters["movierec_events_ingested_total", ()] == 2
    if there.dagster_database_url:
        with pytest.raises(CheckFailed, match="Dagster's storage holds 1 runs"):
            world.restore(there)
    else:
        with sqlite3.connect(there.home / "dagster/history/runs.db") as runs:
            assert runs.execute("SELECT id FROM runs").fetchall() == [(7,)]
        runs.close()

    # Not over what is there, unless told.
    open_objects(there).put("raw/date=2026-03-01/hour=00/1-later.ndjson.gz", b"")
    with pytest.raises(CheckFailed, match=r"holds 1 rows in api_keys.*the graph holds \d+ nodes: nothing was restored"):
        world.restore(there)
    assert world.restore(there, force=True).graph.pairs == 2
    assert not [key for key in objects.keys("raw/") if "later" in key]
    state.close()
    world.state.close()


@pytest.mark.parametrize("world", ["sqlite"], indirect=True)
def test_a_backup_that_cannot_be_restored_whole_is_refused_and_changes_nothing(world: World) -> None:
    with pytest.raises(UsageError, match=r"has no manifest\.json: it is no backup"):
        world.restore(world.own)
    world.back_up()
    with pytest.raises(UsageError, match="is not empty: a backup takes a folder of its own"):
        world.back_up()
    there = world.another()
    manifest = json.loads((world.folder / MANIFEST).read_text())

    def refused(kind: type[Exception], why: str, **changed: object) -> None:
        (world.folder / MANIFEST).write_text(json.dumps({**manifest, **changed}))
        with pytest.raises(kind, match=why):
            world.restore(there, force=True)

    refused(UsageError, r"of release 9, this is .*: restore it with that release", release="9", state_schema="9999")
    refused(UsageError, "here it is the state in sqlite", databases="the state in postgresql")
    refused(CheckFailed, "manifest.json is damaged", files=[{"name": "x"}])
    raw = next(one for one in manifest["files"] if one["name"].startswith("raw/"))
    path = path_of(world.folder, "objects", raw["name"])
    body = path.read_bytes()
    path.write_bytes(body[:-1] + b"?")
    refused(CheckFailed, "of the backup is damaged: nothing was restored")
    path.unlink()
    refused(CheckFailed, "of the backup is missing: nothing was restored")
    assert not [*open_objects(there).keys("")]
    assert not (there.home / "state.db").exists()
    path.write_bytes(body)
    (world.folder / MANIFEST).write_text(json.dumps(manifest))
    assert world.restore(there).replayed == 2
    world.state.close()


@pytest.mark.parametrize(
    ("store", "name"),
    [
        ("dagster", "link/../../../evil.db"),
        ("dagster", "link/evil.db"),
        ("dagster", "history/link.db"),
        ("dagster", "../evil.db"),
        ("dagster", "/evil.db"),
        ("dagster", "dagster.yaml"),
        ("dagster", "history//runs.db"),
        ("state", "../state/state"),
        ("objects", "lake/../../evil"),
        ("objects", "raw/link.ndjson.gz"),
        ("objects", "elsewhere/evil"),
        ("objects/../dagster", "history/link.db"),
        ("home", "state"),
        ("dagster", "history/\0.db"),
        ("dagster", 7),
    ],
)
def test_a_crafted_backup_is_refused_before_anything_is_written(tmp_path: Path, store: str, name: object) -> None:
    settings, folder = load_settings({"home": tmp_path / "home"}), tmp_path / "backup"
    stray = tmp_path / "stray.db"
    stray.write_bytes(b"")
    (folder / "dagster" / "deep" / "deeper").mkdir(parents=True)
    (folder / "dagster" / "link").symlink_to(folder / "dagster" / "deep" / "deeper")
    (folder / "dagster" / "deep" / "deeper" / "evil.db").write_bytes(b"")
    for link in ("dagster/history/link.db", "objects/raw/link.ndjson.gz"):
        (folder / link).parent.mkdir(parents=True)
        (folder / link).symlink_to(stray)
    (folder / "dagster" / "evil.db").write_bytes(b"")
    kept = {"store": store, "name": name, "bytes": 0, "sha256": hashlib.sha256().hexdigest()}
    known = {"format": 1, "release": "0", "state_schema": "0", "made_at_ms": 1, "bucket": "", "files": [kept]}
    (folder / MANIFEST).write_text(json.dumps({**known, "databases": layout(settings)}))
    with pytest.raises((UsageError, CheckFailed), match=r"no backup has|backup has neither|json is damaged"):
        restore(settings, settings.home / "dagster", folder, True, unheard)
    assert not settings.home.exists()


def test_a_password_is_in_no_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "pg_dump"
    tool.write_text(f'#!/bin/sh\necho "$@ $PGPASSWORD" >{tmp_path}/said\necho "no such server" >&2\nexit 1\n')
    tool.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(StateUnavailable, match=r"pg_dump of postgresql://me@db:1/one\?sslmode=require: no such server"):
        dump("postgresql+psycopg2://me:hunter2@db:1/one?sslmode=require", tmp_path / "x")
    arguments, _, password = (tmp_path / "said").read_text().strip().rpartition(" ")
    assert password == "hunter2"
    assert "hunter2" not in arguments
    assert shutil.which("pg_dump") == str(tool)
