"""`movierec provision` and `destroy` on an emulator."""

import json
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner

from movierec_platform.adapters.aws import s3_client, sqs_client
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
