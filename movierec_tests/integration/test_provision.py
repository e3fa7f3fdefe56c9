"""`movierec provision` and `destroy` on an emulator."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner

from movierec_platform.adapters.aws import s3_client, sns_client, sqs_client
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import open_queue
from movierec_platform.cli.main import app
from movierec_platform.config import Settings, load_settings, variables_of
from movierec_platform.errors import CheckFailed, UsageError
from movierec_platform.infrastructure.provision import plan


@pytest.fixture
def emulator(aws_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """The environment names the emulator and a bucket that nobody has made; the folder has no .env."""
    own = aws_settings.model_copy(update={"bucket": f"test-{uuid.uuid4().hex[:12]}"})
    for name, text in variables_of(own).items():
        monkeypatch.setenv(name, text)
    monkeypatch.chdir(tmp_path)
    return own


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_provision_says_what_it_makes_and_writes_where_it_is(emulator: Settings) -> None:
    name = emulator.bucket
    assert f"would create bucket {name}\n" in run("provision", "--name", name, "--dry-run")
    assert not Path(".env").exists()
    assert len(plan(emulator, name)) == 5
    assert f"create queue {name}-dlq\n" in run("provision", "--name", name)
    assert "everything is as it should be at http://127.0.0.1" in run("provision", "--name", name)
    read = load_settings()
    assert (read.aws_endpoint_url, read.bucket) == (emulator.aws_endpoint_url, name)
    assert read.aws_secret_access_key == emulator.aws_secret_access_key
    open_queue(read, "raw").send(["reaches it"])


@contextmanager
def hook() -> Iterator[tuple[str, "Queue[dict[str, Any]]"]]:
    """The address of a server, and what it is told."""
    told: Queue[dict[str, Any]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/alarms", told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_subscriber_of_the_topic_is_told_once_it_has_confirmed(emulator: Settings) -> None:
    name = emulator.bucket
    with hook() as (address, told):
        assert f"create topic {name}-alarms\n" in run("provision", "--name", name)
        planned = json.loads(run("provision", "--name", name, "--alarm-to", address, "--dry-run", "--json"))
        assert [one["what"] for one in planned["changes"]] == [f"subscription of {address} to topic {name}-alarms"]
        made = json.loads(run("provision", "--name", name, "--alarm-to", address, "--json"))
        sns, topic = sns_client(emulator), made["alarm_topic"]
        asked = told.get(timeout=60)
        assert (asked["Type"], asked["TopicArn"]) == ("SubscriptionConfirmation", topic)
        sns.confirm_subscription(TopicArn=topic, Token=asked["Token"])
        sns.publish(TopicArn=topic, Message="events wait")
        assert told.get(timeout=60)["Message"] == "events wait"
        again = json.loads(run("provision", "--name", name, "--alarm-to", address, "--json"))
        assert (again["changes"], again["alarm_topic"]) == ([], topic)
        assert topic in json.loads(run("destroy", "--name", name, "--json"))["deleted"]
    assert topic not in [one["TopicArn"] for one in sns.list_topics()["Topics"]]


def test_a_plan_names_what_differs(emulator: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    name = emulator.bucket
    run("provision", "--name", name)
    sqs, clean = sqs_client(emulator), load_settings().clean_queue_url
    redrive = sqs.get_queue_attributes(QueueUrl=clean, AttributeNames=["RedrivePolicy"])["Attributes"]["RedrivePolicy"]
    patient = json.dumps({**json.loads(redrive), "maxReceiveCount": 9})
    sqs.set_queue_attributes(QueueUrl=clean, Attributes={"RedrivePolicy": patient, "VisibilityTimeout": "9"})
    s3_client(emulator).delete_bucket_lifecycle(Bucket=name)
    printed = run("provision", "--name", name)
    assert printed.splitlines()[:2] == [
        f"update lifecycle of bucket {name}",
        f"update queue {name}-clean: VisibilityTimeout, RedrivePolicy",
    ]
    assert plan(emulator, name) == []


def test_destroy_keeps_data_unless_told(emulator: Settings) -> None:
    name = emulator.bucket
    with pytest.raises(UsageError, match=f"nothing by the name {name} at http"):
        run("destroy", "--name", name)
    run("provision", "--name", name)
    read = load_settings()
    open_objects(read).put("raw/one", b"1")
    open_queue(read, "dlq").send(["one"])
    with pytest.raises(CheckFailed, match=f"{name}-dlq holds about 1 messages; bucket {name} holds objects"):
        run("destroy", "--name", name)
    assert "would delete" in run("destroy", "--name", name, "--with-data", "--dry-run")
    assert open_objects(read).get("raw/one") == b"1"
    assert f"{name} is gone" in run("destroy", "--name", name, "--with-data")
    assert len(plan(emulator, name)) == 5


def test_what_only_aws_has_is_refused_on_an_emulator(emulator: Settings) -> None:
    with pytest.raises(UsageError, match="an emulator has no alarms and no roles"):
        run("provision", "--alarm-topic", "arn:aws:sns:eu-south-2:123456789012:night")
    with pytest.raises(UsageError, match="'night' of alarms: give an e-mail address or a URL"):
        run("provision", "--alarm-to", "night")
