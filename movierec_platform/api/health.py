"""GET /health/live: this process answers. GET /health/ready: so do the parts that it needs."""

from dataclasses import dataclass
from typing import Literal

from flask import Response

from movierec_platform.api.routes import Routes, answer
from movierec_platform.config import STACK_HEADER
from movierec_platform.errors import MovierecError
from movierec_platform.services.questioner import Questioner


@dataclass(frozen=True, slots=True)
class Live:
    """This process answers."""

    status: Literal["live"] = "live"


@dataclass(frozen=True, slots=True)
class Readiness:
    """Which parts answer."""

    status: Literal["ready", "not ready"]
    parts: dict[str, Literal["up", "down"]]


def blueprints(questioner: Questioner, stack_id: str) -> tuple[Routes, Routes]:
    """The routes; live tells which stack this is, ready asks this questioner. To be alive needs no key."""
    about = "Whether this process, and what it needs, answers."
    open_routes, routes = Routes("health", about, None), Routes("readiness", about, "read")

    @open_routes.get("/health/live", responses=open_routes.answers(Live))
    def live() -> Response:
        """This process answers."""
        living = answer(Live())
        living.headers[STACK_HEADER] = stack_id
        return living

    @routes.get("/health/ready", responses=routes.answers(Readiness) | routes.answers(Readiness, status=503))
    def ready() -> Response:
        """200 when every part answers, else 503; which one is down stands in the body."""
        down = {part: said for part, said in questioner.ask().items() if isinstance(said, MovierecError)}
        parts: dict[str, Literal["up", "down"]] = {part: "down" if part in down else "up" for part in questioner.parts}
        return answer(Readiness("not ready" if down else "ready", parts), 503 if down else 200)

    return open_routes, routes
