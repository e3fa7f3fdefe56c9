"""/v1/keys: the API keys, for those who run the platform: list, create, rotate, revoke."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from flask import Response
from pydantic import Field

from movierec_platform.api.arguments import Body, Path
from movierec_platform.api.errors import Problem
from movierec_platform.api.routes import Routes, answer
from movierec_platform.domain.keys import Scope, ShownKey
from movierec_platform.errors import Conflict, NotFound, UsageError
from movierec_platform.services.keys import MAX_DAYS, MAX_OVERLAP_HOURS, Keys, Made, now_ms


class KeyPath(Path):
    """One key."""

    key_id: str = Field(description="the part of a key between its underscores")


class NewKey(Body):
    """What the key is good for, and for how long."""

    name: str = Field(description="who uses it")
    scopes: list[Scope] = Field(min_length=1)
    expires_days: int | None = Field(None, ge=1, le=MAX_DAYS)


class Rotation(Body):
    """How long the old key holds beside the new one."""

    overlap_hours: int = Field(24, ge=0, le=MAX_OVERLAP_HOURS)


@dataclass(frozen=True, slots=True)
class KeyList:
    """Every key, the oldest first."""

    keys: Sequence[ShownKey]


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key; its text is shown this once."""

    key: str
    shown: ShownKey


def blueprint(keys: Callable[[], Keys], forget: Callable[[str], None]) -> Routes:
    """The routes over these keys, asked for at each request; `forget` is told whose standing has changed."""
    routes = Routes("keys", "API keys.", "admin", url_prefix="/v1/keys")

    @routes.get("", responses=routes.answers(KeyList))
    def every() -> Response:
        """Every key, the oldest first; of their secrets nothing."""
        return answer(KeyList([key.shown(now_ms()) for key in keys().all()]))

    @routes.post("", responses=routes.answers(CreatedKey, 413, 415, status=201))
    def create(body: NewKey) -> Response:
        """A new key; its text is in this answer and nowhere else."""
        with _problems():
            return _created(keys().create(body.name, body.scopes, body.expires_days))

    @routes.post("/<key_id>/rotate", responses=routes.answers(CreatedKey, 404, 409, 413, 415, status=201))
    def rotate(path: KeyPath, body: Rotation) -> Response:
        """A new key with the same name, scopes and time to live; the old one holds for the overlap."""
        with _problems():
            made = keys().rotate(path.key_id, body.overlap_hours)
        forget(path.key_id)
        return _created(made)

    @routes.delete("/<key_id>", responses=routes.answers(ShownKey, 404))
    def revoke(path: KeyPath) -> Response:
        """The key opens nothing any more: at once here, within MOVIEREC_KEY_CACHE_S in other processes."""
        with _problems():
            revoked = keys().revoke(path.key_id)
        forget(path.key_id)
        return answer(revoked.shown(now_ms()))

    return routes


def _created(made: Made) -> Response:
    response = answer(CreatedKey(made.text, made.key.shown(now_ms())), 201)
    response.headers["Cache-Control"] = "no-store"
    return response


@contextmanager
def _problems() -> Iterator[None]:
    """What the caller got wrong is said as a problem."""
    try:
        yield
    except NotFound as error:
        raise Problem(404, "no-such-key", str(error)) from None
    except Conflict as error:
        raise Problem(409, "not-active", str(error)) from None
    except UsageError as error:
        raise Problem(400, "bad-request", str(error)) from None
