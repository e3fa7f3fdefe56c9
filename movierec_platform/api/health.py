"""GET /health/live: this process answers. GET /health/ready: so do the parts that it needs."""

from typing import Any

import orjson
from flask import Blueprint, Response

from movierec_platform.errors import MovierecError
from movierec_platform.services.metrics import Questioner


def blueprint(questioner: Questioner) -> Blueprint:
    """The routes; ready asks this questioner."""
    routes = Blueprint("health", __name__, url_prefix="/health")

    @routes.get("/live")
    def live() -> Response:
        return _json({"status": "live"}, 200)

    @routes.get("/ready")
    def ready() -> Response:
        """200 when every part answers, else 503; which one is down stands in the body."""
        down = {part: answer for part, answer in questioner.ask().items() if isinstance(answer, MovierecError)}
        parts = {part: "down" if part in down else "up" for part in questioner.parts}
        return _json({"status": "not ready" if down else "ready", "parts": parts}, 503 if down else 200)

    return routes


def _json(body: dict[str, Any], status: int) -> Response:
    return Response(orjson.dumps(body), status, mimetype="application/json")
