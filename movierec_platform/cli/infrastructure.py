"""`movierec provision` and `destroy`: bucket, queues and topic, on AWS as a CloudFormation stack or on an emulator."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from movierec_platform.cli.invocation import HomeOption, JsonOption, settings_of
from movierec_platform.cli.printing import err, out, plain, print_json
from movierec_platform.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from movierec_platform.config import Settings
    from movierec_platform.infrastructure.provision import Change, Resources
    from movierec_platform.infrastructure.stack import Stack

NameOption = Annotated[str, typer.Option("--name", help="Name of the stack; those of the queues begin with it.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be changed, and change nothing.")]


def provision(
    name: NameOption = "movierec",
    env_file: Annotated[
        Path, typer.Option(help="Write the addresses into this file; what else is in it stays.")
    ] = Path(".env"),
    force: Annotated[bool, typer.Option("--force", help="Replace other values that the file has of them.")] = False,
    alarm_topic: Annotated[
        str | None, typer.Option(help="ARN of an SNS topic that is told of alarms instead of the one that this makes.")
    ] = None,
    alarm_to: Annotated[
        str | None,
        typer.Option(help="E-mail address or https URL that is subscribed to the topic; on AWS '' ends that again."),
    ] = None,
    trusted_service: Annotated[
        str | None,
        typer.Option(help="Whose tasks take the roles: ecs-tasks.amazonaws.com or pods.eks.amazonaws.com."),
    ] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Make or update bucket, queues, roles, alarms and their topic, and write where bucket and queues are into .env.

    On AWS through CloudFormation, with the credentials that the standard AWS chain finds; where AWS_ENDPOINT_URL is
    set, bucket, queues and topic on that emulator. Safe to run again. A subscriber of alarms has to confirm first.

    --json: dry_run, changes (act, what, why), and unless it is a dry run env_file, written and unknown (names of
    variables), bucket, raw_queue_url, clean_queue_url, dlq_url, alarm_topic (ARN).
    """
    settings = settings_of(home)
    wanted = _Wanted(name, alarm_topic, alarm_to, trusted_service)
    if settings.aws_endpoint_url:
        changes, made = _provision_emulator(settings, wanted, dry_run, as_json)
    else:
        changes, made = _provision_aws(settings, wanted, dry_run, as_json)
    printed: dict[str, object] = {"dry_run": dry_run, "changes": [asdict(change) for change in changes]}
    if made is not None:
        from movierec_platform.infrastructure.env_file import write_addresses

        addresses = asdict(made.resources)
        known, unknown = write_addresses(env_file, settings.model_copy(update=addresses), force)
        printed |= {"env_file": str(env_file), "written": known, "unknown": unknown}
        printed |= {**addresses, "alarm_topic": made.alarm_topic}
        if not as_json:
            out.print(f"topic of alarms: {plain(made.alarm_topic)}")
            out.print(f"{plain(str(env_file))} has {', '.join(known)}")
            if unknown:
                out.print(f"not known, to be filled in there where they are used: {', '.join(unknown)}")
    if as_json:
        print_json(printed)


@dataclass(frozen=True)
class _Wanted:
    """What `provision` was asked for; None: as it is."""

    name: str
    alarm_topic: str | None
    alarm_to: str | None
    trusted_service: str | None


@dataclass(frozen=True)
class _Made:
    """What now exists. The topic is no setting: only those who publish to it need its ARN."""

    resources: "Resources"
    alarm_topic: str


def _provision_emulator(
    settings: "Settings", wanted: _Wanted, dry_run: bool, as_json: bool
) -> "tuple[Sequence[Change], _Made | None]":
    """The changes, and what now exists; None if it is a dry run."""
    from movierec_platform.infrastructure import provision as emulated
    from movierec_platform.infrastructure.topic import make_topic, protocol_of, topic_plan

    if wanted.alarm_topic or wanted.trusted_service:
        raise UsageError("--alarm-topic and --trusted-service are for AWS: an emulator has no alarms and no roles")
    if wanted.alarm_to is not None:
        protocol_of(wanted.alarm_to, secure=False)
    changes = [*emulated.plan(settings, wanted.name), *topic_plan(settings, wanted.name, wanted.alarm_to)]
    if not as_json:
        _print_changes(changes, settings, dry_run)
    if dry_run:
        return changes, None
    resources = emulated.provision(settings, wanted.name)
    return changes, _Made(resources, make_topic(settings, wanted.name, wanted.alarm_to))


def _provision_aws(
    settings: "Settings", wanted: _Wanted, dry_run: bool, as_json: bool
) -> "tuple[Sequence[Change], _Made | None]":
    """The changes, and what now exists; None if it is a dry run."""
    from movierec_platform.infrastructure.stack import Stack

    stack = Stack(settings, wanted.name)
    prepared = stack.prepare(_parameters(settings, stack, wanted))
    changes = prepared.changes if prepared else []
    if prepared and not changes and not as_json:
        out.print("the parameters of the stack change, and no resource")
    elif not as_json:
        _print_changes(changes, settings, dry_run)
    if prepared and dry_run:
        stack.discard(prepared)
    if dry_run:
        return changes, None
    if prepared:
        stack.execute(prepared, lambda line: err.print(f"  {plain(line)}"))
    resources = stack.resources()
    if resources is None:
        raise UsageError(f"stack {wanted.name} was deleted meanwhile: run this again")
    return changes, _Made(resources, stack.alarm_topic())


def destroy(
    name: NameOption = "movierec",
    with_data: Annotated[
        bool, typer.Option("--with-data", help="Delete messages and objects too, all versions of them, for good.")
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Delete what `provision` made. Refused (exit 1) while queues hold messages or the bucket holds objects.

    --json: dry_run, deleted (bucket, URLs of queues, ARN of the topic), data (what they held, a phrase each).
    """
    from movierec_platform.infrastructure import provision as emulated
    from movierec_platform.infrastructure.removal import contents
    from movierec_platform.infrastructure.stack import Stack
    from movierec_platform.infrastructure.topic import existing_topic

    settings = settings_of(home)
    stack = None if settings.aws_endpoint_url else Stack(settings, name)
    resources = stack.resources() if stack else emulated.existing(settings, name)
    topic = stack.own_topic() if stack else existing_topic(settings, name)
    there = [text for text in (*asdict(resources).values(), topic) if text] if resources else []
    if resources is None or (stack is None and not there):
        raise UsageError(f"there is nothing by the name {name}{_where(settings)}: --name names another")
    held = contents(settings, resources)
    if held and not with_data:
        raise CheckFailed(f"{'; '.join(held)}: nothing was deleted; --with-data deletes that too, for good")
    if not as_json:
        for one in (*there, *held):
            out.print(f"{'would delete' if dry_run else 'deletes'}: {plain(one)}")
    if not dry_run:
        _delete(settings, stack, resources, topic)
    if as_json:
        print_json({"dry_run": dry_run, "deleted": there, "data": held})
    elif not dry_run:
        out.print(f"{name} is gone{_where(settings)}")


def _delete(settings: "Settings", stack: "Stack | None", resources: "Resources", topic: str) -> None:
    """These are gone, with what they hold."""
    from movierec_platform.infrastructure.removal import empty_bucket, remove
    from movierec_platform.infrastructure.topic import remove_topic

    if resources.bucket:
        empty_bucket(settings, resources.bucket, lambda gone: err.print(f"  {gone:,} versions deleted"))
    if stack:
        stack.delete(lambda line: err.print(f"  {plain(line)}"))
    else:
        remove(settings, resources)
        if topic:
            remove_topic(settings, topic)


def _parameters(settings: "Settings", stack: "Stack", wanted: _Wanted) -> dict[str, str]:
    """The template's parameters as far as they are given; the others stay as they are."""
    from movierec_platform.infrastructure.topic import protocol_of

    parameters = {"Prefix": wanted.name, "VisibilityTimeout": str(settings.visibility_timeout_s)}
    before = stack.resources()
    # The default bucket is for emulators: on AWS somebody has one of that name.
    if "bucket" in settings.model_fields_set and (before is None or before.bucket != settings.bucket):
        parameters["BucketName"] = settings.bucket
    if wanted.alarm_to:
        parameters["AlarmProtocol"] = protocol_of(wanted.alarm_to)
    optional = {
        "AlarmTopic": wanted.alarm_topic,
        "AlarmSubscriber": wanted.alarm_to,
        "TrustedService": wanted.trusted_service,
    }
    return parameters | {key: text for key, text in optional.items() if text is not None}


def _print_changes(changes: "Sequence[Change]", settings: "Settings", dry_run: bool) -> None:
    for change in changes:
        why = f": {change.why}" if change.why else ""
        out.print(f"{'would ' if dry_run else ''}{change.act} {plain(change.what)}{plain(why)}")
    if not changes:
        out.print(f"everything is as it should be{_where(settings)}")


def _where(settings: "Settings") -> str:
    return f" at {settings.aws_endpoint_url}" if settings.aws_endpoint_url else f" in {settings.aws_region}"
