"""What to watch next: for a user, a session or a group; and why."""

from flask import Response
from pydantic import Field

from movierec_platform.api.arguments import Body, Id, UserPath
from movierec_platform.api.filters import BodyId, PageQuery, WantedBody, WantedQuery, wanted_of
from movierec_platform.api.routes import Routes, answer
from movierec_platform.domain.groups import Aggregation
from movierec_platform.services.recommend import (
    Because,
    GroupRecommendation,
    HistoryPage,
    Recommendation,
    Recommender,
    SessionRecommendation,
)

MAX_SESSION = 1_000
MAX_GROUP = 20


class BecausePath(UserPath):
    """/.../<user>/because/<movie>"""

    movie: Id = Field(title="the movie id", description="movie id")


class Watched(Body):
    """A movie that was watched, with the rating if it was rated."""

    movie_id: BodyId
    rating: float | None = Field(None, ge=0.5, le=5.0, multiple_of=0.5, description="0.5 to 5 in halves; none: a view")


class SessionBody(WantedBody):
    """What was watched, and which part of which ranking."""

    movies: list[Watched] = Field(max_length=MAX_SESSION, description="of one named twice the last counts")
    explain: bool = Field(False, description="why each movie is there")


class GroupBody(WantedBody):
    """Who will watch together, and which part of which ranking."""

    user_ids: list[BodyId] = Field(min_length=1, max_length=MAX_GROUP, description="one named twice counts once")
    aggregation: Aggregation = Field(
        "mean",
        description="of everybody's scores, divided by their highest: their mean, or the least of them (least_misery)",
    )


def blueprint(recommender: Recommender) -> Routes:
    """The routes over this recommender."""
    routes = Routes("recommendations", "What to watch next, and why.", "read")

    @routes.get("/recommend/<user>", responses=routes.answers(Recommendation))
    @routes.get("/v1/users/<user>/recommendations", responses=routes.answers(Recommendation))
    def recommend(path: UserPath, query: WantedQuery) -> Response:
        """The user's best unseen movies; what trends or is popular where little or nothing is known of the user.

        Exactly `n` whenever so many pass the filters, also for a user whom nobody knows. Each item's `strategy` tells
        where it comes from: `graph_cf` (similar to what the user saw; the score adds up similarities), then
        `trending_in_genre` (watched of late, of the user's favourite genres), then `popular` (the score counts
        viewers).
        """
        return answer(recommender.recommend(path.user, query.wanted))

    @routes.get("/v1/users/<user>/because/<movie>", responses=routes.answers(Because, 404))
    def because(path: BecausePath) -> Response:
        """Why this user is, or would be, recommended this movie: every seen movie that leads to it.

        The parts of the evidence add up to the score.
        """
        return answer(recommender.because(path.user, path.movie))

    @routes.get("/v1/users/<user>/history", responses=routes.answers(HistoryPage))
    def history(path: UserPath, query: PageQuery) -> Response:
        """What this user has seen, latest first; nothing for a user whom nobody knows."""
        return answer(recommender.history(path.user, query.n, query.offset))

    @routes.post("/v1/sessions/recommendations", responses=routes.answers(SessionRecommendation, 413, 415))
    def recommend_session(body: SessionBody) -> Response:
        """What goes with some movies, for somebody who is not a user. Nothing of it is kept."""
        ratings = {one.movie_id: one.rating for one in body.movies}
        return answer(recommender.recommend_session(ratings, wanted_of(body, body.explain)))

    @routes.post("/v1/groups/recommendations", responses=routes.answers(GroupRecommendation, 413, 415))
    def recommend_group(body: GroupBody) -> Response:
        """What several users would agree on. Members of whom nothing is known have no say."""
        user_ids = list(dict.fromkeys(body.user_ids))
        return answer(recommender.recommend_group(user_ids, body.aggregation, wanted_of(body, False)))

    return routes
