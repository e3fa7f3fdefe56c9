"""The servers of the local stack, one at a time: what survives which end, and what a failed start says."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import neo4j
import psutil
import pytest
from neo4j.exceptions import ClientError

from movierec_platform.adapters.aws import s3_client, sqs_client
from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import open_queue
from movierec_platform.config import Settings, load_settings
from movierec_platform.errors import Conflict, ServerFailed, UsageError
from movierec_platform.infrastructure.provision import LIFECYCLE, MAX_RECEIVES, provision
from movierec_platform.local.aws import AwsServer
from movierec_platform.local.graph import DATABASE, USER, GraphServer
from movierec_platform.local.identity import EMULATOR_PROBE, stack_at
from movierec_platform.local.ports import Ports
from movierec_platform.local.record import HomeLock, StackRecord
from movierec_platform.local.server import Command, Server
from movierec_platform.local.stack import Stack
from movierec_tests.hostile import ODD_NAME


class Script(Server):
    """A server that is a Python script; ready once it has made the file `ready`."""

    name = "script"
    ready_within_s: ClassVar[float] = 30.0
    stop_within_s: ClassVar[float] = 1.0
    descendants_within_s: ClassVar[float] = 0.5
    code = ""

    def command(self) -> Command:
        environment = {**os.environ, "READY": str(self.ready)}
        return Command([sys.executable, "-c", self.code], environment)

    def reserve_port(self) -> None:
        return  # it listens nowhere

    def is_ready(self) -> bool:
        return self.ready.exists()

    @property
    def ready(self) -> Path:
        return self.home / "ready"


STUBBORN = """
import os, signal, subprocess, sys, time
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=%s, stdout=subprocess.PIPE)
child.stdout.readline()
path = os.environ["READY"]
open(path + ".new", "w").write(str(child.pid))
os.replace(path + ".new", path)
time.sleep(600)
"""


@pytest.fixture
def stubborn(tmp_path: Path) -> Iterator[Script]:
    server = Script(tmp_path, 0)
    server.code = STUBBORN % False
    server.start()
    yield server
    server.stop()


def test_objects_and_queues_survive_a_stop_and_another_port(tmp_path: Path, settings: Settings) -> None:
    first = AwsServer(tmp_path / ODD_NAME, 0)
    first.start()
    try:
        own = settings.model_copy(update={"aws_endpoint_url": first.url})
        own = own.model_copy(update=asdict(provision(own)))
        open_objects(own).put("raw/one", b"1")
        open_queue(own, "raw").send(["kept"])
    finally:
        assert first.stop()
    assert [path.name for path in tmp_path.iterdir()] == [ODD_NAME]
    second = AwsServer(tmp_path / ODD_NAME, 0)
    second.start()
    try:
        assert second.port != first.port
        own = settings.model_copy(update={"aws_endpoint_url": second.url})
        own = own.model_copy(update=asdict(provision(own)))
        assert f":{second.port}/" in own.raw_queue_url
        assert open_objects(own).get("raw/one") == b"1"
        assert [message.body for message in open_queue(own, "raw").receive()] == ["kept"]
    finally:
        second.stop()


def test_objects_survive_a_kill(tmp_path: Path, settings: Settings) -> None:
    server = AwsServer(tmp_path, 0)
    server.start()
    own = settings.model_copy(update={"aws_endpoint_url": server.url})
    provision(own)
    open_objects(own).put("raw/one", b"1")
    server.process.kill()
    server.process.wait()
    assert not server.stop()  # the queues were not saved
    again = AwsServer(tmp_path, 0)
    again.start()
    try:
        assert again.has_state
        assert open_objects(own.model_copy(update={"aws_endpoint_url": again.url})).get("raw/one") == b"1"
    finally:
        again.stop()


def test_the_graph_keeps_what_it_acknowledged_and_only_its_owner_gets_in(tmp_path: Path) -> None:
    home = tmp_path / ODD_NAME
    first = GraphServer(home, 0)
    first.start()
    try:
        with neo4j.GraphDatabase.driver(first.uri, auth=(USER, first.password)) as driver:
            driver.execute_query("CREATE (:Usuario {id: 7})", database_=DATABASE)
        assert stat.S_IMODE((home / "graph" / "root.pw").stat().st_mode) == 0o600
        assert not any(first.password in argument for argument in psutil.Process(first.process.pid).cmdline())
        assert first.password not in first.log.read_text()
        first.process.kill()
        first.process.wait()
        assert [path.name for path in tmp_path.iterdir()] == [ODD_NAME]
        again = GraphServer(home, 0)
        again.start()
        try:
            with neo4j.GraphDatabase.driver(again.uri, auth=(USER, again.password)) as driver:
                found = driver.execute_query("MATCH (u:Usuario) RETURN u.id AS id", database_=DATABASE).records
            assert [record["id"] for record in found] == [7]
            with (
                neo4j.GraphDatabase.driver(again.uri, auth=(USER, "wrong")) as driver,
                pytest.raises(ClientError),
            ):
                driver.execute_query("RETURN 1", database_=DATABASE)
        finally:
            again.stop()
    finally:
        first.stop()


def test_a_server_that_ends_says_how_with_its_last_lines(tmp_path: Path) -> None:
    server = Script(tmp_path, 0)
    server.code = "import sys; print('no disk left', flush=True); sys.exit(3)"
    with pytest.raises(ServerFailed, match=r"(?s)script \(pid \d+\) ended with exit code 3.*script\| no disk left"):
        server.start()


def test_a_server_that_is_not_ready_in_time_is_stopped(tmp_path: Path) -> None:
    class Slow(Script):
        ready_within_s = 0.5
        code = "import time; time.sleep(600)"

    server = Slow(tmp_path, 0)
    with pytest.raises(ServerFailed, match=r"not ready after"):
        server.start()
    assert not server.is_running


def test_a_busy_port_moves(tmp_path: Path, aws_server: AwsServer) -> None:
    server = AwsServer(tmp_path, aws_server.port)
    server.start()
    try:
        assert server.port > aws_server.port
    finally:
        server.stop()


def test_a_port_lost_between_look_and_bind_is_replaced(tmp_path: Path, aws_server: AwsServer) -> None:
    class LateLook(Ports):
        looks = 0

        def take(self, wanted: int, host: str = "127.0.0.1") -> int:
            self.looks += 1
            return aws_server.port if self.looks == 1 else super().take(wanted, host)

    server = AwsServer(tmp_path, 0, LateLook())  # on the lost port the other one answers as it would
    server.start()
    try:
        assert server.port != aws_server.port
    finally:
        server.stop()


@pytest.mark.parametrize("own_session", [False, True])
def test_stop_leaves_no_descendant(tmp_path: Path, own_session: bool) -> None:
    server = Script(tmp_path, 0)
    server.code = STUBBORN % own_session
    server.start()
    child = psutil.Process(int(server.ready.read_text()))
    server.stop()
    assert not server.is_running
    assert not child.is_running()


def test_the_log_before_is_kept(tmp_path: Path) -> None:
    for word in ("first", "second"):
        server = Script(tmp_path, 0)
        server.code = f"print('{word}')"
        with pytest.raises(ServerFailed):
            server.start()
    assert (server.log.read_text(), server.log.with_suffix(".log.1").read_text()) == ("second\n", "first\n")


def test_orphans_of_a_killed_stack_are_ended_even_without_their_leader(tmp_path: Path, stubborn: Script) -> None:
    record = StackRecord(tmp_path)
    record.begin("embedded")
    record.add("script", stubborn.process.pid)
    child = psutil.Process(int(stubborn.ready.read_text()))
    stubborn.process.kill()
    stubborn.process.wait()
    assert child.is_running()

    after = StackRecord(tmp_path)
    assert after.clean is False
    assert after.end_orphans(within_s=0.5) == 1
    assert not child.is_running()


def test_what_an_orphan_starts_when_it_is_asked_to_end_is_ended_too(tmp_path: Path) -> None:
    code = """
import os, signal, subprocess, sys, time
def last_wish(*_):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(os.environ["READY"], "a") as file:
        file.write(str(child.pid))
    os._exit(0)
signal.signal(signal.SIGTERM, last_wish)
open(os.environ["READY"], "w").close()
time.sleep(600)
"""
    server = Script(tmp_path, 0)
    server.code = code
    server.start()
    record = StackRecord(tmp_path)
    record.begin("embedded")
    record.add("script", server.process.pid)
    threading.Thread(target=server.process.wait, daemon=True).start()  # as init would, whose child an orphan is
    assert record.end_orphans(within_s=5) == 2
    child = int(server.ready.read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_process_that_got_the_pid_of_a_dead_server_is_left_alone(tmp_path: Path, stubborn: Script) -> None:
    record = StackRecord(tmp_path)
    record.begin("embedded")
    record.add("script", stubborn.process.pid)
    record._content["servers"][0]["created_at_s"] -= 60.0
    assert record.end_orphans() == 0
    assert stubborn.is_running


def test_one_stack_a_home(tmp_path: Path) -> None:
    with HomeLock(tmp_path), pytest.raises(UsageError, match=rf"already running in .* \(pid {os.getpid()}\)"):
        HomeLock(tmp_path)
    HomeLock(tmp_path).release()


def test_two_stacks_that_start_together_have_servers_of_their_own(tmp_path: Path) -> None:
    with Ports() as ports:
        wanted = {f"{name}_port": ports.take(0) for name in ("aws", "bolt", "api", "metrics", "dagster")}
    stacks = [Stack(load_settings({"home": tmp_path / name, **wanted})) for name in ("one", "other")]
    with ThreadPoolExecutor() as pool, stacks[0], stacks[1]:
        began = [pool.submit(stack.start, only_stores=True) for stack in stacks]
        started = [one.result() for one in began]
        told = [stack_at(settings.aws_endpoint_url or "", EMULATOR_PROBE) for settings in started]
        assert told == [settings.stack_id for settings in started]
        addresses = [{where for _, where, _ in stack.addresses()} for stack in stacks]
        assert not addresses[0] & addresses[1]
        for settings in started:
            with Graph.open(settings) as graph:
                graph.ping()


def test_a_graph_older_than_the_one_that_the_home_ran_last_is_refused_and_nothing_forgotten(tmp_path: Path) -> None:
    record = {"clean": False, "pid": 1, "servers": [], "graph": "embedded"}
    (tmp_path / "stack.json").write_text(json.dumps(record))
    (tmp_path / "neo4j" / "data").mkdir(parents=True)
    stack = Stack(load_settings({"home": tmp_path, "graph": "neo4j"}))
    with stack, pytest.raises(Conflict, match=r"neo4j/data is older than the embedded one.*--graph embedded"):
        stack.start()  # left, it is stopped, should it have been started after all
    assert json.loads((tmp_path / "stack.json").read_text()) == record


def test_the_lock_of_a_killed_stack_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time; from movierec_platform.local.record import HomeLock;"
        "lock = HomeLock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(UsageError, match=str(holder.pid)):
        HomeLock(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    HomeLock(tmp_path).release()


def test_provision_again_keeps_messages_and_updates_attributes(fresh_settings: Settings) -> None:
    prefix = fresh_settings.bucket
    open_queue(fresh_settings, "raw").send(["kept"])
    slower = fresh_settings.model_copy(update={"visibility_timeout_s": 77})
    assert provision(slower, prefix=prefix).raw_queue_url == fresh_settings.raw_queue_url
    sqs = sqs_client(fresh_settings)
    for url in (fresh_settings.raw_queue_url, fresh_settings.clean_queue_url, fresh_settings.dlq_url):
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])["Attributes"]
        assert found["VisibilityTimeout"] == "77"
    assert [message.body for message in open_queue(fresh_settings, "raw").receive()] == ["kept"]


def test_provision_again_keeps_other_lifecycle_rules(fresh_settings: Settings) -> None:
    s3 = s3_client(fresh_settings)
    where = {"Bucket": fresh_settings.bucket}
    ours = s3.get_bucket_lifecycle_configuration(**where)["Rules"]
    assert [rule["ID"] for rule in ours] == [rule["ID"] for rule in LIFECYCLE]
    logs = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 9}}
    stale = {**LIFECYCLE[0], "Status": "Disabled"}
    s3.put_bucket_lifecycle_configuration(**where, LifecycleConfiguration={"Rules": [stale, logs]})
    for _ in range(2):
        provision(fresh_settings, prefix=fresh_settings.bucket)
        found = {rule["ID"]: rule for rule in s3.get_bucket_lifecycle_configuration(**where)["Rules"]}
        assert sorted(found) == sorted(["logs", *(rule["ID"] for rule in LIFECYCLE)])
        assert found[LIFECYCLE[0]["ID"]]["Status"] == "Enabled"


def test_a_message_received_as_often_as_sqs_allows_moves_to_the_dead_letter_queue(fresh_settings: Settings) -> None:
    raw, dlq = open_queue(fresh_settings, "raw"), open_queue(fresh_settings, "dlq")
    raw.send(["poison"])
    for _ in range(MAX_RECEIVES):
        received = raw.receive()
        assert len(received) == 1
        raw.hide(received, 0)
    assert raw.receive() == []
    deadline = time.monotonic() + 10
    while not (found := dlq.receive(wait_s=1)) and time.monotonic() < deadline:
        pass
    assert [message.body for message in found] == ["poison"]


@pytest.mark.parametrize("name", ["what?", "100%41"])
def test_a_home_whose_path_dagster_would_misread_is_refused_before_anything_is_written(
    name: str, tmp_path: Path
) -> None:
    stack = Stack(load_settings({"home": tmp_path / name}))
    with pytest.raises(UsageError, match=r"Dagster cannot keep its databases under .*without \? and %"):
        stack.start()
    assert list(tmp_path.iterdir()) == []
