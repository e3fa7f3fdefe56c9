"""`movierec provision` and `destroy`: the bucket and the queues, on AWS as a CloudFormation stack or on an emulator."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from movierec_platform.cli.invocation import HomeOption, settings_of
from movierec_platform.cli.printing import err, out, plain
from movierec_platform.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from movierec_platform.config import Settings
    from movierec_platform.infrastructure.provision import Change
    from movierec_platform.infrastructure.stack import Stack

NameOption = Annotated[str, typer.Option("--name", help="Name of the stack; those of the queues begin with it.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be changed, and change nothing.")]


def provision(
    name: NameOption = "movierec",
    env_file: Annotated[
        Path, typer.Option(help="Write the addresses into this file; what else is in it stays.")
    ] = Path(".env"),
    force: Annotated[bool, typer.Option("--force", help="Replace other values that the file has of them.")] = False,
    alarm_topic: Annotated[str | None, typer.Option(help="ARN of the SNS topic that is told of alarms.")] = None,
    trusted_service: Annotated[
        str | None,
        typer.Option(help="Whose tasks take the roles: ecs-tasks.amazonaws.com or pods.eks.amazonaws.com."),
    ] = None,
    dry_run: DryRunOption = False,
    home: HomeOption = None,
) -> None:
    """Make or update bucket, queues, roles and alarms, and write where they are into .env.

    On AWS through CloudFormation, with the credentials that the standard AWS chain finds; where AWS_ENDPOINT_URL is
    set, bucket and queues on that emulator. Safe to run again.
    """
    from movierec_platform.infrastructure import provision as emulated
    from movierec_platform.infrastructure.env_file import write_addresses
    from movierec_platform.infrastructure.stack import Stack

    settings = settings_of(home)
    if settings.aws_endpoint_url:
        if alarm_topic or trusted_service:
            raise UsageError("--alarm-topic and --trusted-service are for AWS: an emulator has no alarms and no roles")
        _print_changes(emulated.plan(settings, name), settings, dry_run)
        if dry_run:
            return
        resources = emulated.provision(settings, name)
    else:
        stack = Stack(settings, name)
        prepared = stack.prepare(_parameters(settings, stack, name, alarm_topic, trusted_service))
        if prepared and not prepared.changes:
            out.print("the parameters of the stack change, and no resource")
        else:
            _print_changes(prepared.changes if prepared else [], settings, dry_run)
        if prepared and dry_run:
            stack.discard(prepared)
        if dry_run:
            return
        if prepared:
            stack.execute(prepared, lambda line: err.print(f"  {plain(line)}"))
        made = stack.resources()
        if made is None:
            raise UsageError(f"stack {name} was deleted meanwhile: run this again")
        resources = made
    known, unknown = write_addresses(env_file, settings.model_copy(update=asdict(resources)), force)
    out.print(f"{plain(str(env_file))} has {', '.join(known)}")
    if unknown:
        out.print(f"not known, to be filled in there where they are used: {', '.join(unknown)}")


def destroy(
    name: NameOption = "movierec",
    with_data: Annotated[
        bool, typer.Option("--with-data", help="Delete messages and objects too, all versions of them, for good.")
    ] = False,
    dry_run: DryRunOption = False,
    home: HomeOption = None,
) -> None:
    """Delete what `provision` made. Refused (exit 1) while queues hold messages or the bucket holds objects."""
    from movierec_platform.infrastructure import provision as emulated
    from movierec_platform.infrastructure.removal import contents, empty_bucket, remove
    from movierec_platform.infrastructure.stack import Stack

    settings = settings_of(home)
    stack = None if settings.aws_endpoint_url else Stack(settings, name)
    resources = stack.resources() if stack else emulated.existing(settings, name)
    there = [text for text in asdict(resources).values() if text] if resources else []
    if resources is None or (stack is None and not there):
        raise UsageError(f"there is nothing by the name {name}{_where(settings)}: --name names another")
    held = contents(settings, resources)
    if held and not with_data:
        raise CheckFailed(f"{'; '.join(held)}: nothing was deleted; --with-data deletes that too, for good")
    for one in (*there, *held):
        out.print(f"{'would delete' if dry_run else 'deletes'}: {plain(one)}")
    if dry_run:
        return
    if resources.bucket:
        empty_bucket(settings, resources.bucket, lambda gone: err.print(f"  {gone:,} versions deleted"))
    if stack:
        stack.delete(lambda line: err.print(f"  {plain(line)}"))
    else:
        remove(settings, resources)
    out.print(f"{name} is gone{_where(settings)}")


def _parameters(
    settings: "Settings", stack: "Stack", name: str, alarm_topic: str | None, trusted_service: str | None
) -> dict[str, str]:
    """The template's parameters as far as they are given; the others stay as they are."""
    parameters = {"Prefix": name, "VisibilityTimeout": str(settings.visibility_timeout_s)}
    before = stack.resources()
    # The default bucket is for emulators: on AWS somebody has one of that name.
    if "bucket" in settings.model_fields_set and (before is None or before.bucket != settings.bucket):
        parameters["BucketName"] = settings.bucket
    optional = {"AlarmTopic": alarm_topic, "TrustedService": trusted_service}
    return parameters | {key: text for key, text in optional.items() if text is not None}


def _print_changes(changes: "Sequence[Change]", settings: "Settings", dry_run: bool) -> None:
    for change in changes:
        why = f": {change.why}" if change.why else ""
        out.print(f"{'would ' if dry_run else ''}{change.act} {plain(change.what)}{plain(why)}")
    if not changes:
        out.print(f"everything is as it should be{_where(settings)}")


def _where(settings: "Settings") -> str:
    return f" at {settings.aws_endpoint_url}" if settings.aws_endpoint_url else f" in {settings.aws_region}"
