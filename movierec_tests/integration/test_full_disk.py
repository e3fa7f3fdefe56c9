"""On a full disk nothing is acknowledged that a kill would lose: each test has a small disk, which root makes."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from movierec_platform.adapters.disk import MIB
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import ObjectStore, open_objects
from movierec_platform.adapters.queues import open_queue
from movierec_platform.adapters.state import State
from movierec_platform.api.app import create_app, services_of
from movierec_platform.config import STACK_ENV, Settings, load_settings, write_env_file
from movierec_platform.errors import LakeUnavailable, ObjectStoreUnavailable, ServerFailed, StateUnavailable
from movierec_platform.infrastructure.provision import provision
from movierec_platform.local.aws import AwsServer
from movierec_platform.local.record import StackRecord
from movierec_platform.local.stack import Stack
from movierec_tests.integration.conftest import MOVIES

DISK_MIB = 16
OBJECT_BYTES = 300_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that holds 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system: run the tests as root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def server(small_disk: Path) -> Iterator[AwsServer]:
    """The emulator on that disk, which takes objects until it is full."""
    server = AwsServer(small_disk, 0)
    server.min_free_mib = 0
    server.start()
    yield server
    server.stop()


def on(server: AwsServer, settings: Settings) -> Settings:
    """The settings that name this emulator, with its bucket and queues made."""
    own = settings.model_copy(update={"aws_endpoint_url": server.url})
    return own.model_copy(update=asdict(provision(own)))


def fill(folder: Path, leave_bytes: int = 0) -> Path:
    """The disk has no more than this left, for as long as the file is there."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while (free := shutil.disk_usage(folder).free - leave_bytes) > 0:
                file.write(b"\0" * min(free, MIB))
        except OSError:
            pass
    return filler


def put_until_refused(objects: ObjectStore) -> dict[str, bytes]:
    """What was acknowledged."""
    acknowledged: dict[str, bytes] = {}
    for number in range(2 * DISK_MIB * MIB // OBJECT_BYTES):
        body = os.urandom(OBJECT_BYTES)
        try:
            objects.put(f"raw/{number:03}", body)
        except ObjectStoreUnavailable:
            return acknowledged
        acknowledged[f"raw/{number:03}"] = body
    return acknowledged


def test_an_acknowledged_object_is_there_after_a_kill(server: AwsServer, aws_settings: Settings) -> None:
    own = on(server, aws_settings)
    acknowledged = put_until_refused(open_objects(own))
    assert 10 < len(acknowledged) < DISK_MIB * MIB // OBJECT_BYTES, "the disk was never full"
    server.process.kill()
    server.process.wait()
    server.restart()
    objects = open_objects(own)
    assert list(objects.keys("raw/")) == sorted(acknowledged)
    assert {key: objects.get(key) for key in acknowledged} == acknowledged


def test_queues_that_a_full_disk_does_not_take_are_no_clean_stop(
    server: AwsServer, small_disk: Path, aws_settings: Settings
) -> None:
    own = on(server, aws_settings)
    open_queue(own, "raw").send(["x" * 100_000])
    fill(small_disk)
    assert not server.stop()


def test_a_put_that_fails_leaves_the_object_as_it_was(
    server: AwsServer, small_disk: Path, aws_settings: Settings
) -> None:
    objects = open_objects(on(server, aws_settings))
    objects.put("table/pointer", b"before")
    fill(small_disk)
    with pytest.raises(ObjectStoreUnavailable, match="InsufficientStorage"):
        objects.put("table/pointer", b"x" * OBJECT_BYTES)
    (listed,) = objects.listing("table/")
    assert (objects.get("table/pointer"), listed.size) == (b"before", 6)
    server.process.kill()
    server.process.wait()
    server.restart()
    assert objects.get("table/pointer") == b"before"


def test_a_key_that_the_disk_cannot_hold_is_refused(server: AwsServer, aws_settings: Settings) -> None:
    objects = open_objects(on(server, aws_settings))
    objects.put("raw/a", b"1")
    for key in ("raw/a/below-an-object", "raw/" + "x" * 300):
        with pytest.raises(ObjectStoreUnavailable, match="InternalError"):
            objects.put(key, b"2")
    assert list(objects.keys("raw/")) == ["raw/a"]


def test_a_file_that_cannot_be_read_is_an_error_and_no_empty_object(server: AwsServer, aws_settings: Settings) -> None:
    own = on(server, aws_settings)
    objects = open_objects(own)
    objects.put("raw/a", b"1")
    next((server.home / "aws" / "s3").glob(f"*/{own.bucket}/raw/a")).unlink()
    with pytest.raises(ObjectStoreUnavailable, match="InternalError"):
        objects.get("raw/a")


def test_what_a_kill_cut_off_is_no_object(server: AwsServer, aws_settings: Settings) -> None:
    own = on(server, aws_settings)
    open_objects(own).put("raw/a", b"1")
    server.process.kill()
    server.process.wait()
    (server.home / "aws" / "unfinished" / "half").write_bytes(b"ha")
    server.restart()
    assert list(open_objects(own).keys("")) == ["raw/a"]


def test_room_is_kept_and_given_back(server: AwsServer, small_disk: Path, aws_settings: Settings) -> None:
    server.stop()
    server.min_free_mib = 4
    server.start()
    own = on(server, aws_settings)
    objects = open_objects(own)
    objects.put("raw/before", b"1")
    filler = fill(small_disk, leave_bytes=4 * MIB)
    with pytest.raises(ObjectStoreUnavailable, match="InsufficientStorage"):
        objects.put("raw/refused", b"1")
    provision(own)  # as a restart of the emulator does: nothing but objects needs room
    objects.delete(["raw/before"])
    filler.unlink()
    objects.put("raw/after", b"1")
    assert list(objects.keys("raw/")) == ["raw/after"]


def test_posts_get_503_and_later_ones_202(server: AwsServer, small_disk: Path, settings: Settings) -> None:
    own = on(server, settings)
    app = create_app(own)
    try:
        client = app.test_client()
        event = {"user_id": 1, "movie_id": 1, "rating": 4.0}
        filler = fill(small_disk)
        refused = client.post("/ingest", json=event)
        assert (refused.status_code, refused.json["type"]) == (503, "/problems/object-store-unavailable")
        assert "Retry-After" in refused.headers
        assert list(open_objects(own).keys("")) == []
        assert open_queue(own, "raw").depth().total == 0
        filler.unlink()
        assert client.post("/ingest", json=event).status_code == 202
        assert len(list(open_objects(own).keys("raw/"))) == 1
    finally:
        services_of(app).close()


def test_a_commit_of_the_lake_that_fails_leaves_the_table_as_it_was(
    server: AwsServer, small_disk: Path, aws_settings: Settings
) -> None:
    lake = Lake(on(server, aws_settings))
    lake.write("movies", MOVIES)
    fill(small_disk)
    with pytest.raises(LakeUnavailable):
        lake.write("movies", MOVIES.slice(0, 1))
    assert lake.read("movies").num_rows == MOVIES.num_rows


def counted_until_refused(state: State) -> int:
    """How often it acknowledged: what it has allocated already takes some."""
    for number in range(10_000):
        try:
            state.add({("movierec_events_landed_total", ()): 1})
        except StateUnavailable:
            return number
    raise AssertionError("the disk was never full")


def test_the_state_database_refuses_rather_than_lies(small_disk: Path, aws_settings: Settings) -> None:
    own = aws_settings.model_copy(update={"home": small_disk / "home"})
    own.home.mkdir()
    state = State.open(own)
    try:
        state.add({("movierec_events_landed_total", ()): 1})
        fill(small_disk)
        counted = 1 + counted_until_refused(state)
    finally:
        state.close()
    again = State.open(own)
    try:
        assert again.counters()[("movierec_events_landed_total", ())] == counted
    finally:
        again.close()


def test_a_stack_does_not_start_where_there_is_no_room(small_disk: Path) -> None:
    home = small_disk / "new" / "home"
    with pytest.raises(ServerFailed, match=rf"1\d MiB are free on the disk of {home}, and a stack keeps 256 free"):
        Stack(load_settings({"home": home})).start()
    assert list(small_disk.iterdir()) == []


def test_a_record_that_a_full_disk_refuses_is_one_of_an_unclean_stop(small_disk: Path) -> None:
    record = StackRecord(small_disk)
    record.begin("embedded")
    fill(small_disk)
    record.finish(clean=True)
    assert StackRecord(small_disk).clean is False


def test_addresses_that_a_full_disk_refuses_leave_those_that_were_there(small_disk: Path) -> None:
    write_env_file(small_disk / STACK_ENV, {"MOVIEREC_BUCKET": "before"})
    fill(small_disk)
    with pytest.raises(OSError, match="No space left"):
        write_env_file(small_disk / STACK_ENV, {"MOVIEREC_BUCKET": "after" * 10_000})
    assert {file.name for file in small_disk.iterdir()} == {STACK_ENV, "filler"}
    assert (small_disk / STACK_ENV).read_text() == "MOVIEREC_BUCKET='before'\n"
