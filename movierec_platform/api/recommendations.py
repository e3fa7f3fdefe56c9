"""GET /recommend/<user>: what to watch next."""

import orjson
from flask import Blueprint, Response

from movierec_platform.api.arguments import one_argument, user_id_of, whole_number
from movierec_platform.services.recommend import Recommender

DEFAULT_ITEMS = 10
MAX_ITEMS = 100


def blueprint(recommender: Recommender) -> Blueprint:
    """The routes over this recommender."""
    routes = Blueprint("recommendations", __name__)

    @routes.get("/recommend/<user>")
    @routes.get("/v1/users/<user>/recommendations")
    def recommend(user: str) -> Response:
        n = whole_number("n", one_argument("n", str(DEFAULT_ITEMS)), 1, MAX_ITEMS)
        recommendation = recommender.recommend(user_id_of(user), n)
        return Response(orjson.dumps(recommendation), mimetype="application/json")

    return routes
