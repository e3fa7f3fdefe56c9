"""The state database's schema: the changes make what the code works with, of whatever was there, and lose nothing."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import SecretStr

from movierec_platform.adapters import defects, keys, postgres_leases, quarantine_tables, state
from movierec_platform.adapters.migrations import HEAD, VERSION_TABLE
from movierec_platform.adapters.migrations.upgrade import migrations
from movierec_platform.adapters.state import State
from movierec_platform.config import Settings, load_settings
from movierec_platform.domain.keys import Key
from movierec_platform.domain.quarantine import STATUSES, Filter
from movierec_platform.errors import NewerSchema, StateUnavailable
from movierec_tests.previous import FIRST_TABLES, LATER_TABLES, make

NOW = 1_790_000_000_000
METADATA = [state.metadata, quarantine_tables.metadata, keys.metadata, defects.metadata, postgres_leases.metadata]


@pytest.fixture(params=["sqlite", "postgres"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """An empty state database of this kind."""
    url = request.getfixturevalue("postgres_server").new_database() if request.param == "postgres" else ""
    return load_settings({"home": tmp_path, "state_url": SecretStr(url)})


@pytest.fixture
def engine(own: Settings):
    """Past this project's code."""
    engine = sa.create_engine(own.state_database_url, poolclass=sa.NullPool)
    yield engine
    engine.dispose()


def test_the_changes_make_the_tables_that_the_code_works_with(own: Settings, engine: sa.Engine) -> None:
    State.open(own).close()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert context.get_current_revision() == HEAD
        assert compare_metadata(context, METADATA) == []
        assert ScriptDirectory.from_config(migrations(connection)).get_current_head() == HEAD


def test_a_database_of_the_release_before_keeps_all_it_had(own: Settings, engine: sa.Engine) -> None:
    make(engine, FIRST_TABLES + LATER_TABLES)
    with engine.begin() as connection:
        insert = "INSERT INTO api_keys VALUES ('k1', 'phone', 'read', :salt, :hash, 5, NULL, NULL, '2026-11-01')"
        connection.execute(sa.text(insert), {"salt": b"salt", "hash": b"hash"})
        connection.exec_driver_sql("INSERT INTO counters VALUES ('landed', 'reason=poison', 7)")
        connection.exec_driver_sql("INSERT INTO tallied VALUES ('gate', 'raw/k', 0, 5)")
        connection.exec_driver_sql("INSERT INTO marks VALUES ('drained_until_ms', 9)")
        _refuse(connection, 1)
        connection.exec_driver_sql(
            "INSERT INTO quarantine_standing VALUES"
            " ('0000', 'redriven', 'wrong_type', 'f', 'why', NULL, 0, 1, 2, 3, 'k', 0, 4)"
        )
        connection.exec_driver_sql(
            "INSERT INTO quarantine_acts VALUES"
            " (1, '0000', 'held', 2, 'drain', 0, 'wrong_type', 'why', NULL, 'raw/k', 0)"
        )

    opened = State.open(own)
    assert opened.keys.all() == [Key("k1", "phone", ("read",), b"salt", b"hash", 5, None, None, "2026-11-01")]
    assert opened.counters() == {("landed", (("reason", "poison"),)): 7}
    assert opened.marked("drained_until_ms") == 9
    [row] = opened.quarantine.rows(Filter(), STATUSES, limit=10)
    assert (row.id, row.status, row.attempts, row.redrive_key) == ("0000", "redriven", 3, "k")
    assert [(act.act, act.actor) for act in opened.quarantine.history("0000")] == [("held", "drain")]
    opened.close()


def test_a_home_from_before_there_were_standings_keeps_its_rows(own: Settings, engine: sa.Engine) -> None:
    make(engine, FIRST_TABLES)
    with engine.begin() as connection:
        _refuse(connection, 1_200)
    for _ in range(2):
        opened = State.open(own)
        [row] = opened.quarantine.rows(Filter(user_id=1_199), STATUSES, limit=10)
        assert (row.id, row.status, row.attempts) == ("04af", "held", 0)
        assert opened.quarantine.by_reason() == {"wrong_type": 1_200}
        assert [(act.act, act.actor) for act in opened.quarantine.history("04af")] == [("held", "adopted")]
        opened.close()


def test_a_database_of_a_newer_release_is_refused_in_a_sentence(own: Settings, engine: sa.Engine) -> None:
    State.open(own).close()
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE state_version SET version_num = '9999'")
    with pytest.raises(NewerSchema, match=r"changed by a newer release \(its schema is 9999, this release knows up to"):
        State.open(own)


def test_a_change_that_fails_leaves_the_database_as_it_was(own: Settings, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE quarantine (id VARCHAR)")
    with pytest.raises(StateUnavailable):
        State.open(own)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["quarantine"]


def _refuse(connection: sa.Connection, count: int) -> None:
    """As many refused events are in the table `quarantine`, of users 0, 1, ..."""
    insert = "INSERT INTO quarantine VALUES (:id, 'wrong_type', 'f', 'why', :body, 'raw/k', :line, :at_ms, :at_ms)"
    rows = [
        {"id": f"{number:04x}", "body": json.dumps({"user_id": number}), "line": number, "at_ms": NOW}
        for number in range(count)
    ]
    connection.execute(sa.text(insert), rows)
