"""Which servers a command may use: those of the running stack, and those that a setting names. A stack has an id,
which its servers tell, so that another one on a port of ours is recognised."""

import secrets
from collections.abc import Collection
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values

from movierec_platform.config import STACK_ENV, STACK_HEADER, Settings, variable_of
from movierec_platform.errors import NoStack, OtherStack

Part = Literal["api", "dagster", "graph", "queues", "lake", "state"]
"""What commands work on; `lake` is the bucket with tables and raw objects."""

TIMEOUT_S = 3.0
_FIELDS: dict[Part, tuple[str, str]] = {
    "api": ("the API", "api_url"),
    "dagster": ("Dagster", "dagster_url"),
    "graph": ("the graph", "neo4j_uri"),
    "queues": ("the queues", "raw_queue_url"),
    "lake": ("the bucket", "bucket"),
    "state": ("the state database", "state_url"),
}
EMULATOR_PROBE = "/_ministack/health"
_TELLING: tuple[tuple[Part, str, str], ...] = (
    ("api", "api_url", "/health/live"),
    ("dagster", "dagster_url", "/server_info"),
    ("lake", "aws_endpoint_url", EMULATOR_PROBE),
)


def kept_id(home: Path) -> str:
    """The id of this home's stack; made if there is none yet."""
    path = home / "stack.id"
    if not path.is_file():
        path.write_text(secrets.token_hex(16), encoding="ascii")
    return path.read_text(encoding="ascii").strip()


def require_named(settings: Settings, parts: Collection[Part]) -> None:
    """Something says where each of these is. Raises NoStack, which says what to do; nothing is called or written."""
    missing = [part for part in parts if not _is_named(settings, part)]
    if missing:
        what = " and ".join(_FIELDS[part][0] for part in missing)
        variables = " and ".join(variable_of(_FIELDS[part][1]) for part in missing)
        raise NoStack(
            f"no stack runs in {settings.home.absolute()} and no setting names {what}: start one with `movierec up`, "
            f"give the --home of one that runs, or set {variables}"
        )


def require_ours(settings: Settings, parts: Collection[Part]) -> None:
    """None of these is of another stack, as far as they answer; a graph tells by its password. Raises OtherStack.

    Only addresses that came with the stack's id are asked: one that the environment replaces is somebody's choice.
    """
    if not settings.stack_id:
        return
    told = dotenv_values(settings.home / STACK_ENV, interpolate=False)
    for part, field, path in _TELLING:
        address = getattr(settings, field)
        if part not in parts or not address or (told and told.get(variable_of(field)) != address):
            continue
        if stack_at(address, path) not in (None, settings.stack_id):
            raise OtherStack(
                f"{_FIELDS[part][0]} at {address} is not that of the stack in {settings.home.absolute()}: another one "
                "has its port, and nothing was done; start this one again with `movierec up`"
            )


def stack_at(url: str, path: str = "/health/live") -> str | None:
    """The id of the stack whose server is alive there; empty if it tells none, None while it does not answer 200."""
    address = urlsplit(url)
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.headers.get(STACK_HEADER, "") if answer.status == 200 else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def _is_named(settings: Settings, part: Part) -> bool:
    if part == "state":
        return bool(settings.state_url.get_secret_value()) or (settings.home / "state.db").is_file()
    if part == "lake":  # a bucket has a name by default, which on AWS is somebody's
        return settings.aws_endpoint_url is not None or "bucket" in settings.model_fields_set
    return bool(getattr(settings, _FIELDS[part][1]))
