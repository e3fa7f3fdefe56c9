"""The template, and `movierec provision` and `destroy` on AWS: on moto's CloudFormation, in this process.

What moto's stacks leave out (alarms, the policies of bucket and queues, the bucket's lifecycle, versions and public
access block) is checked by cfn-lint, the lifecycle by comparison too.
"""

import json
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from cfnlint.api import lint_file
from cfnlint.config import ManualArgs
from cfnlint.decode.cfn_yaml import load
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from movierec_platform.adapters.aws import _client, cloudformation_client, s3_client, sqs_client
from movierec_platform.cli.main import app
from movierec_platform.config import Settings, load_settings
from movierec_platform.errors import CheckFailed, CloudFormationUnavailable, Conflict, StackFailed, UsageError
from movierec_platform.infrastructure.env_file import ADDRESSES
from movierec_platform.infrastructure.provision import LIFECYCLE, provision
from movierec_platform.infrastructure.stack import TEMPLATE, Stack, changes_in

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS:UserWarning")

QUEUES = ("raw", "clean", "dlq")
SAME_BY_CONTRACT = ("MessageRetentionPeriod", "VisibilityTimeout", "RedrivePolicy")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Settings]:
    """An empty AWS account, and settings without an endpoint whose credentials the standard chain finds."""
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN", "MOVIEREC_BUCKET", "MOVIEREC_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "opens-nothing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "opens-nothing-either")
    monkeypatch.setenv("AWS_REGION", "eu-south-2")
    monkeypatch.setenv("NEO4J_PASSWORD", "of the graph")
    monkeypatch.chdir(tmp_path)
    _client.cache_clear()
    with mock_aws():
        yield load_settings()
    _client.cache_clear()


def run(*arguments: str) -> Result:
    """What a command printed; an error of ours is raised."""
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def env() -> dict[str, str]:
    return dict(line.split("=", 1) for line in Path(".env").read_text().splitlines() if "=" in line)


def attributes(settings: Settings, prefix: str) -> dict[str, dict[str, Any]]:
    """By queue, what template and provision.py must agree on; ARNs by their last part."""
    sqs, found = sqs_client(settings), {}
    for name in QUEUES:
        url = sqs.get_queue_url(QueueName=f"{prefix}-{name}")["QueueUrl"]
        all_of: dict[str, Any] = dict(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"])
        redrive = json.loads(all_of.pop("RedrivePolicy", "{}"))
        if redrive:
            dlq = redrive["deadLetterTargetArn"].rpartition(":")[2].removeprefix(prefix)
            all_of["RedrivePolicy"] = (dlq, int(redrive["maxReceiveCount"]))
        found[name] = {key: all_of.get(key) for key in SAME_BY_CONTRACT}
    return found


def test_cfn_lint_is_content_with_the_template() -> None:
    assert [str(one) for one in lint_file(TEMPLATE, config=ManualArgs(regions=["us-east-1"]))] == []
    # CloudFormation knows no YAML aliases, which cfn-lint resolves.
    assert not [token for token in yaml.scan(TEMPLATE.read_text()) if isinstance(token, yaml.AliasToken)]


def test_the_template_makes_the_queues_that_provision_makes(aws: Settings) -> None:
    run("provision")
    provision(aws.model_copy(update={"bucket": "an-emulators"}), "emulated")
    of_template = attributes(aws, "movierec")
    assert of_template == attributes(aws, "emulated")
    assert of_template["raw"]["RedrivePolicy"] == ("-dlq", 1_000)
    assert of_template["dlq"]["RedrivePolicy"] is None


def test_the_template_has_the_lifecycle_that_provision_sets() -> None:
    template, errors = load(str(TEMPLATE)), None
    assert errors is None
    rules = template["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert [as_s3_takes_it(rule) for rule in rules] == list(LIFECYCLE)


def as_s3_takes_it(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule of the template in the words of S3's own API."""
    left = dict(rule)
    prefix, above = left.pop("Prefix", ""), left.pop("ObjectSizeGreaterThan", None)
    taken: dict[str, Any] = {
        "ID": left.pop("Id"),
        "Filter": {"Prefix": prefix}
        if above is None
        else {"And": {"Prefix": prefix, "ObjectSizeGreaterThan": int(above)}},
    }
    if "Transitions" in left:
        taken["Transitions"] = [
            {"Days": one["TransitionInDays"], "StorageClass": one["StorageClass"]} for one in left.pop("Transitions")
        ]
    if left.pop("ExpiredObjectDeleteMarker", False):
        taken["Expiration"] = {"ExpiredObjectDeleteMarker": True}
    return {**taken, **left}


def test_the_templates_defaults_are_those_of_the_settings() -> None:
    parameters = load(str(TEMPLATE))["Parameters"]
    visible = Settings.model_fields["visibility_timeout_s"]
    assert parameters["VisibilityTimeout"]["Default"] == visible.default
    bounds = {type(one).__name__: one for one in visible.metadata}
    assert (parameters["VisibilityTimeout"]["MinValue"], parameters["VisibilityTimeout"]["MaxValue"]) == (
        bounds["Ge"].ge,
        bounds["Le"].le,
    )


def test_provision_makes_the_stack_and_writes_where_it_is(aws: Settings) -> None:
    Path(".env").write_text("# mine\nMY_OWN=1\nMOVIEREC_BUCKET=\n")
    printed = run("provision").output
    assert "create Bucket (AWS::S3::Bucket)" in printed
    assert stat.S_IMODE(Path(".env").stat().st_mode) == 0o600
    written = env()
    assert Path(".env").read_text().startswith("# mine\nMY_OWN=1\nMOVIEREC_BUCKET='movierec-123456789012-eu-south-2'\n")
    assert set(ADDRESSES) - written.keys() == {"AWS_ENDPOINT_URL", "MOVIEREC_STATE_URL"}
    assert "opens-nothing" not in Path(".env").read_text()
    read = load_settings()
    assert sqs_client(aws).get_queue_url(QueueName="movierec-raw")["QueueUrl"] == read.raw_queue_url


def test_each_policy_allows_what_its_process_does_and_no_more(aws: Settings) -> None:
    # moto asks for rights by the name of the call: a batch of messages, and HeadBucket, have others at AWS.
    run("provision")
    made, iam = load_settings(), boto3.client("iam")
    stack = cloudformation_client(aws).list_stack_resources(StackName="movierec")["StackResourceSummaries"]
    arns = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in stack}
    may = {
        "Api": {"put raw", "get lake", "list", "send raw", "depth raw", "depth clean", "depth dlq"},
        "Stream": {"put raw", "put dagster", "send clean", "send dlq"}
        | {f"{act} {name}" for name in QUEUES for act in ("receive", "hide", "delete", "depth")},
        "Batch": {"list", "get raw", "get lake", "put lake", "delete lake", "put dagster"},
        "Watch": {"list", "get dagster", "get lake", "depth raw", "depth clean", "depth dlq"},
    }
    found: dict[str, set[str]] = {name: set() for name in may}
    for name, allowed in found.items():
        iam.create_user(UserName=name)
        iam.attach_user_policy(UserName=name, PolicyArn=arns[f"{name}Policy"])
        key = iam.create_access_key(UserName=name)["AccessKey"]
        credentials = {
            "aws_access_key_id": key["AccessKeyId"],
            "aws_secret_access_key": SecretStr(key["SecretAccessKey"]),
        }
        theirs = made.model_copy(update=credentials)
        allowed.update(what for what, call in calls_of(theirs).items() if is_allowed(call))
    assert found == may


def calls_of(settings: Settings) -> dict[str, Callable[[], Any]]:
    """What processes do with the bucket and the queues, and what none of them should."""
    s3, sqs = s3_client(settings), sqs_client(settings)
    bucket = settings.bucket
    calls: dict[str, Callable[[], Any]] = {"list": lambda: s3.list_objects_v2(Bucket=bucket)}
    for part in ("raw", "lake", "dagster", "other"):
        calls[f"put {part}"] = partial(s3.put_object, Bucket=bucket, Key=f"{part}/1", Body=b"1")
        calls[f"get {part}"] = partial(s3.get_object, Bucket=bucket, Key=f"{part}/1")
        calls[f"delete {part}"] = partial(s3.delete_object, Bucket=bucket, Key=f"{part}/2")
    for name, url in zip(QUEUES, (settings.raw_queue_url, settings.clean_queue_url, settings.dlq_url), strict=True):
        calls[f"send {name}"] = partial(sqs.send_message, QueueUrl=url, MessageBody="1")
        calls[f"receive {name}"] = partial(sqs.receive_message, QueueUrl=url)
        calls[f"hide {name}"] = partial(
            sqs.change_message_visibility, QueueUrl=url, ReceiptHandle="none", VisibilityTimeout=0
        )
        calls[f"delete {name}"] = partial(sqs.delete_message, QueueUrl=url, ReceiptHandle="none")
        calls[f"depth {name}"] = partial(sqs.get_queue_attributes, QueueUrl=url)
        calls[f"purge {name}"] = partial(sqs.purge_queue, QueueUrl=url)
    return calls


@set_initial_no_auth_action_count(0)
def is_allowed(call: Callable[[], Any]) -> bool:
    """Whether it was refused for nothing but want of rights."""
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"] not in ("AccessDenied", "403")
    return True


def test_provision_again_changes_nothing_or_what_was_asked_for(aws: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run("provision")
    sqs, url = sqs_client(aws), load_settings().raw_queue_url
    sqs.send_message(QueueUrl=url, MessageBody="kept")
    run("provision")
    monkeypatch.setenv("MOVIEREC_VISIBILITY_TIMEOUT_S", "77")
    for arguments, seconds in ((["--dry-run"], "30"), ([], "77")):
        run("provision", *arguments)
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])["Attributes"]
        assert found["VisibilityTimeout"] == seconds
    assert [one["Body"] for one in sqs.receive_message(QueueUrl=url)["Messages"]] == ["kept"]


def test_a_dry_run_leaves_nothing(aws: Settings) -> None:
    assert "would create RawQueue" in run("provision", "--dry-run").output
    assert Stack(aws, "movierec").resources() is None
    assert not Path(".env").exists()
    assert s3_client(aws).list_buckets()["Buckets"] == []


def test_destroy_refuses_while_there_is_data(aws: Settings) -> None:
    run("provision")
    made = load_settings()
    s3 = s3_client(aws)
    s3.put_bucket_versioning(Bucket=made.bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=made.bucket, Key="raw/one", Body=b"1")
    s3.delete_object(Bucket=made.bucket, Key="raw/one")  # of which the bucket keeps the version
    sqs_client(aws).send_message(QueueUrl=made.clean_queue_url, MessageBody="one")
    with pytest.raises(
        CheckFailed, match=r"movierec-clean holds about 1 messages; bucket \S+ holds objects, such as raw/one"
    ):
        run("destroy")
    assert "would delete: queue movierec-clean holds about 1" in run("destroy", "--with-data", "--dry-run").output
    assert s3.list_object_versions(Bucket=made.bucket)["Versions"]
    assert "movierec is gone in eu-south-2" in run("destroy", "--with-data").output
    assert s3.list_buckets()["Buckets"] == []
    assert "QueueUrls" not in sqs_client(aws).list_queues()
    with pytest.raises(UsageError, match="nothing by the name movierec"):
        run("destroy")


def test_another_deployments_env_file_is_left_as_it_is(aws: Settings) -> None:
    Path(".env").write_text(
        "MOVIEREC_RAW_QUEUE_URL=http://127.0.0.1:4566/000000000000/movierec-raw\nNEO4J_USER=neo4j\n"
    )
    before = Path(".env").read_text()
    with pytest.raises(UsageError, match="other values of MOVIEREC_RAW_QUEUE_URL and was left"):
        run("provision")
    assert Path(".env").read_text() == before
    run("provision", "--force")
    assert "eu-south-2" in env()["MOVIEREC_RAW_QUEUE_URL"]


def test_without_credentials_it_says_which_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    _client.cache_clear()
    with pytest.raises(UsageError, match=r"no AWS credentials .* set AWS_PROFILE"):
        run("provision")
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    _client.cache_clear()
    with pytest.raises(UsageError, match="nobodys"):
        run("provision")
    _client.cache_clear()


def test_nothing_to_change_is_said(aws: Settings) -> None:
    made = Stack(aws, "movierec", poll_s=0)
    prepared = made.prepare({})
    assert prepared is not None
    made.execute(prepared, lambda line: None)
    assert made.prepare({}) is None
    with Stubber(cloudformation_client(aws)) as stub:
        stub.add_response("describe_stacks", {"Stacks": [described("UPDATE_COMPLETE")]})
        stub.add_response("create_change_set", {"Id": "arn:aws:cloudformation:eu-south-2:1:changeSet/c/1"})
        reason = "The submitted information didn't contain changes."
        stub.add_response("describe_change_set", {"Status": "CREATE_IN_PROGRESS"})
        stub.add_response("describe_change_set", {"Status": "FAILED", "StatusReason": reason})
        stub.add_response("delete_change_set", {})
        assert made.prepare({}) is None
        stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("ROLLBACK_COMPLETE", "movierec destroy"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback"),
        ("UPDATE_IN_PROGRESS", "somebody changes it now"),
    ],
)
def test_a_stack_that_cannot_be_changed_says_what_to_do(aws: Settings, status: str, said: str) -> None:
    with Stubber(cloudformation_client(aws)) as stub:
        stub.add_response("describe_stacks", {"Stacks": [described(status)]})
        with pytest.raises(Conflict, match=said):
            Stack(aws, "movierec").prepare({})


def described(status: str) -> dict[str, Any]:
    return {"StackName": "movierec", "StackStatus": status, "CreationTime": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("AccessDenied", UsageError, "may not do that"),
        ("ExpiredToken", UsageError, "does not accept these credentials"),
        ("Throttling", CloudFormationUnavailable, "Throttling"),
        ("AlreadyExistsException", StackFailed, "AlreadyExists"),
    ],
)
def test_what_cloudformation_refuses_is_said_in_a_sentence(
    aws: Settings, code: str, kind: type[Exception], said: str
) -> None:
    with Stubber(cloudformation_client(aws)) as stub:
        stub.add_client_error("describe_stacks", code, "no")
        with pytest.raises(kind, match=said):
            Stack(aws, "movierec").prepare({})


def test_a_change_that_fails_tells_why(aws: Settings) -> None:
    stack = Stack(aws, "movierec", poll_s=0)
    prepared = stack.prepare({})
    assert prepared is not None
    begun = {"StackId": "s", "StackName": "movierec", "Timestamp": "2026-01-01T00:00:00Z"}
    failed = {**begun, "EventId": "1", "LogicalResourceId": "Bucket", "ResourceStatus": "CREATE_FAILED"}
    given_up = {**begun, "EventId": "2", "LogicalResourceId": "movierec", "ResourceStatus": "ROLLBACK_COMPLETE"}
    with Stubber(cloudformation_client(aws)) as stub:
        stub.add_response("describe_stack_events", {"StackEvents": []})
        stub.add_response("execute_change_set", {})
        for status, events in (
            ("ROLLBACK_IN_PROGRESS", [{**failed, "ResourceStatusReason": "movierec already exists"}]),
            ("ROLLBACK_COMPLETE", [given_up, failed]),
        ):
            stub.add_response("describe_stacks", {"Stacks": [described(status)]})
            stub.add_response("describe_stack_events", {"StackEvents": events})
        said: list[str] = []
        with pytest.raises(StackFailed, match="ROLLBACK_COMPLETE: Bucket: movierec already exists"):
            stack.execute(prepared, said.append)
        stub.assert_no_pending_responses()
    assert said == ["Bucket CREATE_FAILED: movierec already exists", "movierec ROLLBACK_COMPLETE"]


def test_what_holds_data_is_not_replaced() -> None:
    change = {"Action": "Modify", "LogicalResourceId": "Bucket", "ResourceType": "AWS::S3::Bucket"}
    name = {"Details": [{"Target": {"Attribute": "Properties", "Name": "BucketName"}}]}
    assert [one.act for one in changes_in([{"ResourceChange": {**change, "Replacement": "False"}}])] == ["update"]  # type: ignore[typeddict-item]
    with pytest.raises(UsageError, match="would replace Bucket"):
        changes_in([{"ResourceChange": {**change, **name, "Replacement": "True"}}])  # type: ignore[typeddict-item]
