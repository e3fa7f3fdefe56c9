"""The example of Alertmanager: amtool reads and routes it, and a real Alertmanager tells the emulator's topic."""

import json
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from movierec_platform.adapters.aws import sns_client, sqs_client
from movierec_platform.config import Settings, inherited_environment, variables_of
from movierec_platform.infrastructure.topic import make_topic
from movierec_platform.local.ports import LOOPBACK, Ports
from movierec_tests.prometheus import DEPLOY, STOPPED_WITHIN_S

EXAMPLE = DEPLOY / "prometheus/alertmanager.yml"
SEVERITIES = {
    rule["labels"]["severity"]
    for group in yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())["groups"]
    for rule in group["rules"]
}
DEADLINE_S = 120.0


def program(name: str) -> str:
    """Its path; skips where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install --no-install-recommends prometheus-alertmanager")
    return found


def amtool(*arguments: str) -> str:
    command = [program("amtool"), *arguments]
    done = subprocess.run(command, cwd=EXAMPLE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_amtool_is_content_with_the_example() -> None:
    assert "2 receivers" in amtool("check-config", EXAMPLE.name)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["severity=critical"], "critical"),
        (["severity=warning"], "warning"),
        (["severity=unheard-of"], "critical"),
        ([], "critical"),
    ],
    ids=["critical", "warning", "another", "none"],
)
def test_a_severity_has_its_route_and_what_is_unknown_does_not_wait(labels: list[str], receiver: str) -> None:
    said = amtool("config", "routes", "test", f"--config.file={EXAMPLE.name}", "alertname=Any", *labels)
    assert said.strip() == receiver
    assert {"critical", "warning"} == SEVERITIES


def of_the_emulator(folder: Path, settings: Settings, topic: str) -> Path:
    """The example with this topic, at the emulator, by day and by night and with waits of a second."""
    example: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    for receiver in example["receivers"]:
        for one in receiver["sns_configs"]:
            one.update(topic_arn=topic, api_url=settings.aws_endpoint_url, sigv4={"region": settings.aws_region})
    for route in (example["route"], *example["route"]["routes"]):
        route.update(group_wait="1s", group_interval="1s")
        route.pop("active_time_intervals", None)
    shutil.copy(EXAMPLE.with_suffix(".tmpl"), folder)
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(example))
    return folder / "alertmanager.yml"


@contextmanager
def alertmanager(config: Path, settings: Settings) -> Iterator[str]:
    """Its address; it answers."""
    with Ports() as ports, (config.parent / "log").open("wb") as log:
        address = f"{LOOPBACK}:{ports.take(0)}"
        data = f"--storage.path={config.parent / 'data'}"
        where = [f"--config.file={config}", data, f"--web.listen-address={address}", "--cluster.listen-address="]
        environment = {**inherited_environment(), **variables_of(settings)}
        process = subprocess.Popen(
            [program("prometheus-alertmanager"), *where], env=environment, stdout=log, stderr=log
        )
        try:
            ends = time.monotonic() + DEADLINE_S
            while not is_ready(address):
                assert time.monotonic() < ends, (config.parent / "log").read_text()
                time.sleep(0.1)
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(STOPPED_WITHIN_S)


def is_ready(address: str) -> bool:
    try:
        return requests.get(f"http://{address}/-/ready", timeout=DEADLINE_S).ok
    except requests.ConnectionError:
        return False


def test_a_real_alertmanager_tells_the_topic_of_each_alert(aws_settings: Settings, tmp_path: Path) -> None:
    program("prometheus-alertmanager")
    sns, sqs, name = sns_client(aws_settings), sqs_client(aws_settings), f"test-{uuid.uuid4().hex[:12]}"
    topic = make_topic(aws_settings, name, None)
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    alerts = [
        {
            "labels": {"alertname": alert, "severity": severity, "queue": queue},
            "annotations": {
                "summary": f"{alert} of {queue}",
                "description": "What there is.",
                "runbook_url": "README.md#x",
            },
        }
        for alert, severity in (("DrainMissing", "critical"), ("DrainFails", "warning"))
        for queue in ("raw", "clean")
    ]
    received: dict[str, dict[str, Any]] = {}
    with alertmanager(of_the_emulator(tmp_path, aws_settings, topic), aws_settings) as address:
        requests.post(f"{address}/api/v2/alerts", json=alerts, timeout=DEADLINE_S).raise_for_status()
        ends = time.monotonic() + DEADLINE_S
        while len(received) < 2:
            assert time.monotonic() < ends, (tmp_path / "log").read_text()
            for one in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages", []):
                said = json.loads(one["Body"])
                received[said["Subject"]] = said
    assert received.keys() == {"FIRING critical: DrainMissing", "FIRING warning: DrainFails"}
    for subject, said in received.items():
        alert = subject.rpartition(" ")[2]
        assert f"{alert} of raw" in said["Message"], "the alerts of both queues are one message"
        assert f"{alert} of clean" in said["Message"]
        assert "What there is.\nREADME.md#x" in said["Message"]
        assert said["MessageAttributes"]["severity"]["Value"] == subject.split()[1].rstrip(":")
