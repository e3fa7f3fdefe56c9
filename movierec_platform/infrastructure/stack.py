"""The resources of cloudformation.yaml as one CloudFormation stack: every change is a change set, looked at first.

Raises UsageError where credentials or rights are missing, Conflict where the stack is in a state in which it cannot be
changed, StackFailed with CloudFormation's reasons where a change failed and was rolled back, and
CloudFormationUnavailable where nobody answers.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from movierec_platform.adapters.aws import cloudformation_client
from movierec_platform.config import Settings
from movierec_platform.errors import CloudFormationUnavailable, Conflict, MovierecError, StackFailed, UsageError
from movierec_platform.infrastructure.provision import Change, Resources

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import ChangeTypeDef, ParameterTypeDef, StackTypeDef

TEMPLATE = Path(__file__).with_name("cloudformation.yaml")
POLL_S = 2.0
HOLD_DATA = ("AWS::S3::Bucket", "AWS::SQS::Queue")
_BROKEN = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED")
_FRESH = ("REVIEW_IN_PROGRESS",)
"""Of a stack that has a change set and nothing else."""
_ACTS = {"Add": "create", "Modify": "update", "Remove": "delete"}
_PLANNING = ("CREATE_PENDING", "CREATE_IN_PROGRESS")
_NO_UPDATES = "No updates are to be performed"
_NOT_ALLOWED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
_NOT_KNOWN = ("ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException")
_BUSY = ("Throttling", "ThrottlingException", "ServiceUnavailable", "InternalFailure", "RequestExpired")

Say = Callable[[str], None]


@dataclass(frozen=True)
class ChangeSet:
    """Changes that wait to be executed."""

    id: str
    changes: Sequence[Change]
    creates_stack: bool


class Stack:
    """One stack, by its name."""

    def __init__(self, settings: Settings, name: str, poll_s: float = POLL_S) -> None:
        self.name = name
        self._settings = settings
        self._poll_s = poll_s

    def prepare(self, parameters: Mapping[str, str]) -> ChangeSet | None:
        """What would become of the stack with this template and these parameters; None if nothing.

        A parameter that is not given keeps the value that it has, or else has the template's.
        """
        with self._client() as client:
            found = self._changeable(client)
            before = (
                {one["ParameterKey"]: one["ParameterValue"] for one in found.get("Parameters", [])} if found else {}
            )
            given: list[ParameterTypeDef] = [
                {"ParameterKey": key, "ParameterValue": text} for key, text in parameters.items()
            ]
            kept: list[ParameterTypeDef] = [
                {"ParameterKey": key, "UsePreviousValue": True} for key in before if key not in parameters
            ]
            try:
                change_set = client.create_change_set(
                    StackName=self.name,
                    ChangeSetName=f"movierec-{uuid.uuid4().hex}",
                    ChangeSetType="UPDATE" if found else "CREATE",
                    TemplateBody=TEMPLATE.read_text(encoding="utf-8"),
                    Parameters=[*given, *kept],
                    Capabilities=["CAPABILITY_IAM"],
                )["Id"]
            except ClientError as error:
                if _NO_UPDATES in str(error):
                    return None
                raise
            while (answer := client.describe_change_set(ChangeSetName=change_set))["Status"] in _PLANNING:
                time.sleep(self._poll_s)
            if answer["Status"] == "FAILED":
                self.discard(ChangeSet(change_set, [], creates_stack=not found))
                reason = answer.get("StatusReason", "")
                if "didn't contain changes" in reason or _NO_UPDATES in reason:
                    return None
                raise StackFailed(f"CloudFormation cannot plan the change of stack {self.name}: {reason}")
            changes = list(answer["Changes"])
            while token := answer.get("NextToken"):
                answer = client.describe_change_set(ChangeSetName=change_set, NextToken=token)
                changes += answer["Changes"]
        return ChangeSet(change_set, changes_in(changes), creates_stack=not found)

    def discard(self, prepared: ChangeSet) -> None:
        """The change set is gone, and the stack as before it."""
        with self._client() as client:
            client.delete_change_set(ChangeSetName=prepared.id, StackName=self.name)
            if prepared.creates_stack:
                client.delete_stack(StackName=self.name)

    def execute(self, prepared: ChangeSet, say: Say) -> None:
        """The changes are made; `say` is told of each as it goes on."""
        with self._client() as client:
            seen = {event["EventId"] for event in self._events(client)}
            client.execute_change_set(ChangeSetName=prepared.id)
            self._wait(client, seen, say, ("CREATE_COMPLETE", "UPDATE_COMPLETE"))

    def delete(self, say: Say) -> None:
        """The stack and all its resources are gone."""
        with self._client() as client:
            found = self._find(client)
            if found is None:
                return
            # By its id it can be asked for after it is gone.
            name, self.name = self.name, found["StackId"]
            try:
                seen = {event["EventId"] for event in self._events(client)}
                client.delete_stack(StackName=self.name)
                self._wait(client, seen, say, ("DELETE_COMPLETE",))
            finally:
                self.name = name

    def resources(self) -> Resources | None:
        """Where its bucket and queues are, empty for what was not made; None if there is no such stack."""
        with self._client() as client:
            if self._find(client) is None:
                return None
            made = self._made(client)
        return Resources(*(made.get(name, "") for name in ("Bucket", "RawQueue", "CleanQueue", "DlqQueue")))

    def alarm_topic(self) -> str:
        """ARN of the topic that is told of alarms: the one that was given, or the stack's own."""
        with self._client() as client:
            found = self._find(client)
            given = found.get("Parameters", []) if found else []
        named = next((one["ParameterValue"] for one in given if one["ParameterKey"] == "AlarmTopic"), "")
        return named or self.own_topic()

    def own_topic(self) -> str:
        """ARN of the topic that the stack made; empty if it made none."""
        with self._client() as client:
            return self._made(client).get("Topic", "") if self._find(client) else ""

    def _made(self, client: "CloudFormationClient") -> dict[str, str]:
        """What the stack has, by its logical name."""
        return {
            one["LogicalResourceId"]: one.get("PhysicalResourceId", "")
            for page in client.get_paginator("list_stack_resources").paginate(StackName=self.name)
            for one in page["StackResourceSummaries"]
            if one["ResourceStatus"] != "DELETE_COMPLETE"
        }

    def _changeable(self, client: "CloudFormationClient") -> "StackTypeDef | None":
        """The stack; None if it is to be created. Raises Conflict if neither can be."""
        found = self._find(client)
        if found is None or found["StackStatus"] in _FRESH:
            return None
        status = found["StackStatus"]
        if status in _BROKEN:
            raise Conflict(
                f"stack {self.name} is {status}: it was not made whole. `aws cloudformation describe-stack-events "
                f"--stack-name {self.name}` says why; `movierec destroy` removes what there is, then run this again"
            )
        if status == "UPDATE_ROLLBACK_FAILED":
            raise Conflict(
                f"stack {self.name} is {status}: mend what its events name, then run `aws cloudformation "
                f"continue-update-rollback --stack-name {self.name}`, then this again"
            )
        if status.endswith("_IN_PROGRESS"):
            raise Conflict(f"stack {self.name} is {status}: somebody changes it now; run this again when that is done")
        return found

    def _find(self, client: "CloudFormationClient") -> "StackTypeDef | None":
        try:
            return client.describe_stacks(StackName=self.name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise

    def _events(self, client: "CloudFormationClient") -> list[dict[str, str]]:
        """Oldest first."""
        pages = client.get_paginator("describe_stack_events").paginate(StackName=self.name)
        events = [event for page in pages for event in page["StackEvents"]]
        return [{key: str(text) for key, text in event.items()} for event in reversed(events)]

    def _wait(self, client: "CloudFormationClient", seen: set[str], say: Say, good: Sequence[str]) -> None:
        """The stack has come to rest in a good state. Raises StackFailed for another."""
        reasons = []
        while True:
            found = self._find(client)
            for event in self._events(client) if found else ():
                if event["EventId"] not in seen:
                    seen.add(event["EventId"])
                    status, reason = event["ResourceStatus"], event.get("ResourceStatusReason", "")
                    say(f"{event['LogicalResourceId']} {status}{f': {reason}' if reason else ''}")
                    if status.endswith("FAILED") and "cancelled" not in reason:
                        reasons.append(f"{event['LogicalResourceId']}: {reason}")
            status = found["StackStatus"] if found else "DELETE_COMPLETE"
            if not status.endswith("_IN_PROGRESS"):
                break
            time.sleep(self._poll_s)
        if status not in good:
            raise StackFailed(f"stack {self.name} is {status}: {'; '.join(reasons) or 'its events say why'}")

    @contextmanager
    def _client(self) -> "Iterator[CloudFormationClient]":
        try:
            yield cloudformation_client(self._settings)
        except (ClientError, BotoCoreError) as error:
            raise _ours(error, self.name) from error


def changes_in(described: "Sequence[ChangeTypeDef]") -> list[Change]:
    """What the changes of a change set do, by resource.

    Raises UsageError if one would put another bucket or queue in the place of one that may hold something.
    """
    changes = []
    for one in (change["ResourceChange"] for change in described if "ResourceChange" in change):
        what = f"{one['LogicalResourceId']} ({one['ResourceType']})"
        replaces = one.get("Replacement") == "True"
        if replaces and one["ResourceType"] in HOLD_DATA:
            raise UsageError(
                f"this would replace {what}, {one.get('PhysicalResourceId', '')}, and leave behind what it holds: "
                "give it the name that it has, or another name to the whole with --name"
            )
        why = ", ".join(sorted({detail.get("Target", {}).get("Name", "") for detail in one.get("Details", [])} - {""}))
        changes.append(Change("replace" if replaces else _ACTS.get(one["Action"], "update"), what, why))  # type: ignore[arg-type]
    return changes


def _ours(error: ClientError | BotoCoreError, stack: str) -> MovierecError:
    """The error in our terms, with what to do."""
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, ProfileNotFound)):
        return UsageError(
            f"no AWS credentials ({error}): set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run "
            "where a role is attached; for an emulator set AWS_ENDPOINT_URL"
        )
    if not isinstance(error, ClientError):
        kind = CloudFormationUnavailable if isinstance(error, HTTPClientError) else UsageError
        return kind(f"CloudFormation: {error}")
    code, said = error.response["Error"]["Code"], error.response["Error"]["Message"]
    if code in _NOT_KNOWN:
        return UsageError(f"AWS does not accept these credentials ({code}: {said}): `aws sts get-caller-identity` too?")
    if code in _NOT_ALLOWED:
        return UsageError(f"these credentials may not do that to stack {stack}: {said}")
    if code in _BUSY:
        return CloudFormationUnavailable(f"CloudFormation: {code}: {said}")
    return StackFailed(f"stack {stack}: {code}: {said}")
