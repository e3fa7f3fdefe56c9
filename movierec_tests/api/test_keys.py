"""API keys open what they are good for, for as long as they hold, and nothing of their secrets is kept or said."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any

import pytest
from click.testing import Result
from pydantic import SecretStr
from typer.testing import CliRunner

from movierec_platform.adapters.state import State
from movierec_platform.cli.main import app
from movierec_platform.config import Settings
from movierec_platform.domain import keys as domain
from movierec_platform.domain.keys import Key, ShownKey, key_text, parted
from movierec_platform.errors import Conflict, NotFound, StateUnavailable, UsageError
from movierec_platform.services.keys import DAY_MS, HOUR_MS, Keys, Made, Verifier

NOON_MS = 1_790_000_000_000 // DAY_MS * DAY_MS + DAY_MS // 2
KEEP_S = 60.0


class Clock:
    """Wall clock and monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now_ms(self) -> int:
        return NOON_MS + int(self.passed_s * 1000)

    def monotonic_s(self) -> float:
        return self.passed_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(tmp_path):
    state = State.open(Settings(home=tmp_path))
    yield state
    state.close()


@pytest.fixture
def keys(state, clock) -> Keys:
    return Keys(state.keys, clock.now_ms)


@pytest.fixture
def verifier(state, clock) -> Verifier:
    return Verifier(lambda: state.keys, KEEP_S, clock.now_ms, clock.monotonic_s)


@pytest.fixture
def hashings(monkeypatch) -> list[str]:
    """The secrets that were hashed."""
    seen: list[str] = []
    hashed = domain.hashed
    monkeypatch.setattr(domain, "hashed", lambda secret, salt: seen.append(secret) or hashed(secret, salt))
    return seen


def test_a_key_is_known_by_its_whole_text_only(keys, verifier):
    made, other = keys.create("shop", ["read", "ingest"]), keys.create("page", ["read"])
    assert verifier.verify(made.text).id == made.key.id
    assert verifier.verify(made.text).scopes == ("ingest", "read")
    swapped = key_text(made.key.id, other.text.removeprefix(f"mrk_{other.key.id}_"))
    unknown = made.text.replace(made.key.id, "0" * 12)
    for wrong in (swapped, unknown, made.text[:-1], made.text + "x", made.text + "\n", made.text.upper(), "", "mrk__"):
        assert verifier.verify(wrong) is None


def test_a_wrong_secret_is_never_accepted_after_the_right_one(keys, verifier):
    made = keys.create("shop", ["read"])
    assert verifier.verify(made.text)
    assert verifier.verify(made.text[:-1] + ("A" if made.text[-1] != "A" else "B")) is None


def test_nothing_of_a_secret_is_kept_or_shown(keys, tmp_path, verifier):
    made = keys.create("shop", ["admin"])
    secret = made.text.rpartition("_")[2] if made.text.count("_") == 2 else made.text[17:]
    verifier.verify(made.text)
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("state.db*"))
    assert made.key.id.encode() in kept
    assert secret.encode() not in kept
    assert secret not in repr(made) + repr(vars(verifier))
    assert made.key.hash.hex() not in repr(made).replace("\\x", "")


def test_a_key_ends_in_the_moment_of_its_expiry_also_where_it_is_known(keys, verifier, clock):
    made = keys.create("shop", ["read"], expires_days=1)
    clock.passed_s = DAY_MS / 1000 - 1
    assert verifier.verify(made.text)
    clock.passed_s += 1
    assert verifier.verify(made.text) is None


def test_a_revocation_by_another_process_holds_within_the_time_that_a_key_is_kept(keys, verifier, clock):
    made = keys.create("shop", ["read"])
    assert verifier.verify(made.text)
    keys.revoke(made.key.id)
    clock.passed_s = KEEP_S - 1
    assert verifier.verify(made.text)
    clock.passed_s = KEEP_S
    assert verifier.verify(made.text) is None


def test_a_revocation_by_this_process_holds_at_once(keys, verifier):
    made = keys.create("shop", ["read"])
    assert verifier.verify(made.text)
    keys.revoke(made.key.id)
    verifier.forget(made.key.id)
    assert verifier.verify(made.text) is None


def test_revoking_twice_changes_nothing(keys, clock):
    made = keys.create("shop", ["read"])
    first = keys.revoke(made.key.id)
    clock.passed_s = 5
    assert keys.revoke(made.key.id) == first


def test_wrong_secrets_cost_no_slow_hash(keys, verifier, hashings):
    made, other = keys.create("shop", ["read"]), keys.create("page", ["read"])
    hashings.clear()
    assert verifier.verify(made.text[:17] + other.text[17:]) is None
    assert verifier.verify(made.text).id == made.key.id
    assert hashings == []


def test_a_key_of_the_release_before_holds_and_is_hashed_slowly_once(keys, state, verifier, clock, hashings):
    made = before_digests(keys, state)
    hashings.clear()
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(verifier.verify, [made.text] * 32))
    assert len(hashings) == 1
    for verifier_of_a_process in (verifier, Verifier(lambda: state.keys, KEEP_S, clock.now_ms, clock.monotonic_s)):
        clock.passed_s += KEEP_S * 2
        assert verifier_of_a_process.verify(made.text)
        assert verifier_of_a_process.verify(made.text[:-2] + "xx") is None
    assert len(hashings) == 1


def test_a_wrong_secret_does_not_become_the_digest_of_a_key_of_the_release_before(keys, state, verifier):
    made = before_digests(keys, state)
    assert verifier.verify(made.text[:-2] + "xx") is None
    assert verifier.verify(made.text[:-2] + "xx") is None
    assert verifier.verify(made.text).id == made.key.id


def test_the_release_before_opens_keys_of_this_one(keys, verifier):
    """It has the slow hash alone."""
    made = keys.create("shop", ["read"])
    assert replace(made.key, digest=None).opened_by(made.text[17:])


def test_those_who_ask_with_another_key_do_not_wait_for_a_look_up(keys, state, clock):
    known, other = keys.create("shop", ["read"]), keys.create("page", ["read"])
    asked, go_on = threading.Event(), threading.Event()

    class SlowTable:
        def found(self, key_id: str) -> Key | None:
            if key_id == other.key.id:
                asked.set()
                assert go_on.wait(30)
            return state.keys.found(key_id)

        def __getattr__(self, name: str) -> Any:
            return getattr(state.keys, name)

    verifier = Verifier(SlowTable, KEEP_S, clock.now_ms, clock.monotonic_s)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(verifier.verify, other.text)
        assert asked.wait(30)
        assert verifier.verify(known.text).id == known.key.id
        keys.revoke(other.key.id)
        verifier.forget(other.key.id)
        go_on.set()
        waiting.result()
    assert verifier.verify(other.text) is None


def before_digests(keys: Keys, state: State) -> Made:
    """A key as the release before made it."""
    made = keys.create("old", ["read"])
    with state._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE api_keys SET digest = NULL")
    return made


def test_a_rotated_key_and_its_successor_both_hold_for_the_overlap(keys, verifier, clock):
    old = keys.create("shop", ["read", "admin"], expires_days=90)
    clock.passed_s = 10
    new = keys.rotate(old.key.id, overlap_hours=1)
    assert (new.key.name, new.key.scopes) == (old.key.name, old.key.scopes)
    assert new.key.expires_at_ms == clock.now_ms() + 90 * DAY_MS
    assert verifier.verify(old.text)
    assert verifier.verify(new.text)
    clock.passed_s += HOUR_MS / 1000
    assert verifier.verify(old.text) is None
    assert verifier.verify(new.text)


def test_a_rotation_never_lets_a_key_live_longer(keys, clock):
    old = keys.create("shop", ["read"], expires_days=1)
    keys.rotate(old.key.id, overlap_hours=1)
    clock.passed_s = 60
    keys.rotate(old.key.id, overlap_hours=24)
    assert [key.expires_at_ms for key in keys.all() if key.id == old.key.id] == [NOON_MS + HOUR_MS]


def test_a_key_that_does_not_hold_is_not_rotated(keys):
    made = keys.create("shop", ["read"])
    keys.revoke(made.key.id)
    with pytest.raises(Conflict, match="is revoked: make a new one"):
        keys.rotate(made.key.id, 1)
    with pytest.raises(NotFound, match="see `movierec keys list`"):
        keys.rotate("0" * 12, 1)
    with pytest.raises(NotFound):
        keys.revoke("0" * 12)


@pytest.mark.parametrize(
    ("name", "scopes", "days", "said"),
    [
        ("", ["read"], None, "is no name"),
        ("a\nb", ["read"], None, "is no name"),
        ("x" * 101, ["read"], None, "is no name"),
        ("shop", [], None, "a key without a scope opens nothing"),
        ("shop", ["read", "root"], None, "'root' is no scope; give some of: ingest, read, admin"),
        ("shop", ["read"], 0, "after 1 to 3650 days, not 0"),
        ("shop", ["read"], 3_651, "after 1 to 3650 days"),
    ],
)
def test_a_key_that_cannot_be_is_refused_with_a_sentence(keys, name, scopes, days, said):
    with pytest.raises(UsageError, match=said):
        keys.create(name, scopes, days)
    assert keys.all() == []


def test_while_the_state_database_is_away_known_keys_hold_for_as_long_as_they_are_kept(keys, clock, state, closed_port):
    away = State.open  # opened at each use, as the API does
    gone = Settings(state_url=SecretStr(f"postgresql://me:opens-nothing@127.0.0.1:{closed_port}/none"))
    known, unknown = keys.create("shop", ["read"]), keys.create("page", ["read"])
    table = state.keys
    verifier = Verifier(lambda: table, KEEP_S, clock.now_ms, clock.monotonic_s)
    assert verifier.verify(known.text)
    verifier._table = lambda: away(gone).keys
    clock.passed_s = KEEP_S - 1
    assert verifier.verify(known.text)
    with pytest.raises(StateUnavailable):
        verifier.verify(unknown.text)
    clock.passed_s = KEEP_S
    with pytest.raises(StateUnavailable):
        verifier.verify(known.text)


def test_the_day_of_a_keys_last_use_is_noted_once_a_day(keys, verifier, clock, state, monkeypatch):
    made = keys.create("shop", ["read"])
    noted: list[str] = []
    used = state.keys.used
    monkeypatch.setattr(state.keys, "used", lambda key_id, day: noted.append(day) or used(key_id, day))
    for _ in range(4):
        assert verifier.verify(made.text)
        clock.passed_s += KEEP_S
    assert noted == ["2026-09-21"]
    clock.passed_s += DAY_MS / 1000
    assert verifier.verify(made.text)
    assert noted == ["2026-09-21", "2026-09-22"]
    assert [key.last_used_on for key in keys.all()] == ["2026-09-22"]


def test_a_use_that_cannot_be_noted_refuses_nobody(keys, verifier, state, monkeypatch, caplog):
    def away(*_: str) -> None:
        raise StateUnavailable("read only")

    made = keys.create("shop", ["read"])
    monkeypatch.setattr(state.keys, "used", away)
    assert verifier.verify(made.text)
    assert f"the use of key {made.key.id} is not noted: read only" in caplog.text


def test_the_command_line_prints_a_key_alone_and_lists_it_without_its_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("MOVIEREC_STATE_URL", f"sqlite:///{tmp_path / 'state.db'}")

    def movierec(*words: str) -> Result:
        return CliRunner().invoke(app, ["keys", *words, "--home", str(tmp_path)])

    made = movierec("create", "shop", "--scope", "read", "--scope", "ingest", "--expires-days", "7")
    key_id = made.stdout[4:16]
    assert parted(made.stdout.strip()) == (key_id, made.stdout.strip()[17:])
    assert f"key {key_id} (shop: ingest, read, until " in made.stderr
    rotated = movierec("rotate", key_id, "--overlap-hours", "1").stdout
    assert movierec("revoke", rotated[4:16]).stdout == f"key {rotated[4:16]} (shop) is revoked\n"
    listed = json.loads(movierec("list", "--json").stdout)
    assert [(one["id"], one["standing"]) for one in listed] == [(key_id, "active"), (rotated[4:16], "revoked")]
    assert set(listed[0]) == {field.name for field in fields(ShownKey)}
    table = movierec("list").stdout
    assert key_id in table
    assert made.stdout[17:30] not in table
    assert isinstance(movierec("revoke", "nobody").exception, NotFound)


def test_the_command_line_prints_a_new_key_with_what_is_known_of_it_as_json(tmp_path, monkeypatch):
    monkeypatch.setenv("MOVIEREC_STATE_URL", f"sqlite:///{tmp_path / 'state.db'}")

    def movierec(*words: str) -> dict[str, Any]:
        return json.loads(CliRunner().invoke(app, ["keys", *words, "--json", "--home", str(tmp_path)]).stdout)

    made = movierec("create", "shop", "--scope", "read")
    assert made.keys() == {field.name for field in fields(ShownKey)} | {"key"}
    assert (parted(made["key"])[0], made["scopes"], made["standing"]) == (made["id"], ["read"], "active")
    rotated = movierec("rotate", made["id"])
    assert rotated["id"] == parted(rotated["key"])[0] != made["id"]
    revoked = movierec("revoke", rotated["id"])
    assert revoked == {name: revoked[name] for name in made.keys() - {"key"}}
    assert (revoked["id"], revoked["standing"]) == (rotated["id"], "revoked")
