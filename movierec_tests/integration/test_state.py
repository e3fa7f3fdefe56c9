"""The state database: sums add up across processes' connections."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from movierec_platform.adapters.dumps import dump, load
from movierec_platform.adapters.keys import KeysTable
from movierec_platform.adapters.state import State, Tally
from movierec_platform.adapters.state_engine import open_engine
from movierec_platform.config import Settings, load_settings, sqlite_url
from movierec_platform.errors import StateUnavailable
from movierec_platform.services.circuit import Circuit, spared
from movierec_platform.services.note import note, noted_run
from movierec_tests.black_hole import black_hole
from movierec_tests.hostile import ODD_NAME


@pytest.fixture(params=["sqlite", "postgres"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """An empty state database of this kind."""
    url = request.getfixturevalue("postgres_server").new_database() if request.param == "postgres" else ""
    return load_settings({"home": tmp_path / "home", "state_url": SecretStr(url)})


def test_many_may_open_an_empty_database_at_once(own: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        for state in pool.map(lambda _: State.open(own), range(16)):
            state.close()


def test_the_database_is_under_the_home_whatever_its_name(tmp_path: Path) -> None:
    home = tmp_path / ODD_NAME
    settings = load_settings({"home": home})
    State.open(settings).close()
    dump(settings.state_database_url, tmp_path / f"{ODD_NAME}.dump")
    load(sqlite_url(home / "again.db"), tmp_path / f"{ODD_NAME}.dump")
    assert {path.name for path in tmp_path.iterdir()} == {ODD_NAME, f"{ODD_NAME}.dump"}
    assert {path.name.partition(".")[0] for path in home.iterdir()} == {"state", "again"}


def test_counters_add_up_between_connections(own: Settings) -> None:
    def add_often(_: int) -> None:
        state = State.open(own)
        for _ in range(20):
            state.add({("landed", ()): 1, ("rejected", (("reason", "poison"),)): 2})
        state.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add_often, range(4)))
    assert State.open(own).counters() == {("landed", ()): 80, ("rejected", (("reason", "poison"),)): 160}


def test_a_tally_is_counted_once_however_often_and_from_wherever_it_is_given(own: Settings) -> None:
    tallies = [Tally("gate", "raw/k", line, 1_000, {("accepted", ()): 2}) for line in range(8)]

    def give_all(_: int) -> None:
        state = State.open(own)
        for tally in tallies:
            state.add_once([tally, tally])
        state.add_once(tallies)
        state.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(give_all, range(4)))
    state = State.open(own)
    assert state.counters() == {("accepted", ()): 16}
    state.add_once([Tally("graph", "raw/k", 0, 1_000, {("ingested", ()): 1})])
    assert state.counters() == {("accepted", ()): 16, ("ingested", ()): 1}


def test_forgotten_tallies_are_taken_for_counted(own: Settings) -> None:
    state = State.open(own)
    old, new = (Tally("gate", "raw/k", line, at_ms, {("accepted", ()): 1}) for line, at_ms in ((0, 999), (1, 1_000)))
    state.add_once([old])
    state.forget_tallies(1_000)
    state.add_once([old, new])
    assert state.counters() == {("accepted", ()): 2}


def test_a_mark_is_what_was_set_last(own: Settings) -> None:
    state = State.open(own)
    assert state.marked("drained") is None
    state.mark("drained", 1)
    state.mark("drained", 2)
    assert State.open(own).marked("drained") == 2


def test_a_database_that_cannot_be_opened_is_unavailable_and_its_password_unsaid(tmp_path: Path) -> None:
    settings = load_settings(
        {"home": tmp_path, "state_url": SecretStr("postgresql+psycopg2://me:hunter2@127.0.0.1:9/none")}
    )
    with pytest.raises(StateUnavailable) as refused:
        State.open(settings)
    assert "hunter2" not in f"{refused.value}{settings!r}"


def test_how_a_drain_run_ended_is_counted(own: Settings) -> None:
    with noted_run(own, "raw") as run:
        run.ended = "max_runtime"
    with pytest.raises(ZeroDivisionError), noted_run(own, "raw"):
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), noted_run(own, "raw"):
        raise KeyboardInterrupt
    counted = {(name, *labels[1:]): value for (name, labels), value in State.open(own).counters().items()}
    assert counted == {
        ("movierec_drain_runs_started_total",): 3,
        **{("movierec_drain_runs_ended_total", ("because", why)): 1 for why in ("max_runtime", "failed", "canceled")},
    }


def test_what_cannot_be_noted_fails_nothing_and_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state.db").mkdir()
    note(load_settings({"home": tmp_path}), {("landed", ()): 1})
    assert "not counted: landed: the state database does not answer" in caplog.text


# Databases that hang


def test_a_database_that_never_answers_is_given_up_and_not_asked_by_everybody(tmp_path: Path) -> None:
    with black_hole() as hole:
        url = SecretStr(f"postgresql://me:opens-nothing@127.0.0.1:{hole.port}/none")
        settings = load_settings({"home": tmp_path, "state_url": url})
        table = KeysTable(spared(Circuit(600), lambda locked: State.open(settings).turn(locked)))
        with pytest.raises(StateUnavailable, match="timeout expired"):
            table.all()
        for _ in range(100):
            with pytest.raises(StateUnavailable, match="a moment ago"):
                table.found("k")
        assert hole.taken == 1


def test_a_database_that_falls_silent_in_the_middle_is_given_up(postgres_server) -> None:
    url = sa.make_url(postgres_server.new_database()).set(drivername="postgresql+psycopg2")
    with black_hole(url.port) as hole:
        state = State(open_engine(url.set(port=hole.port)), timeout_s=1)
        state.ping()
        hole.swallow()
        with pytest.raises(StateUnavailable):
            state.ping()
        state.close()


def test_a_statement_that_waits_for_long_is_ended_by_the_server(postgres_server) -> None:
    url = sa.make_url(postgres_server.new_database()).set(drivername="postgresql+psycopg2")
    engine = open_engine(url.update_query_dict({"options": "-c lock_timeout=7s"}))
    with engine.connect() as connection:
        settings = [connection.exec_driver_sql(f"SHOW {name}_timeout").scalar() for name in ("statement", "lock")]
    assert settings == ["20s", "7s"]
    engine.dispose()
