"""For who watches movies: the first page, a user's recommendations, a movie, lists of movies; and rating one."""

from collections.abc import Callable
from typing import Literal
from urllib.parse import urlencode

from flask import Response
from pydantic import Field

from movierec_platform.api.arguments import Id, Query, UserPath, Whole
from movierec_platform.api.filters import MAX_OFFSET
from movierec_platform.api.movies import MAX_TEXT, MoviePath
from movierec_platform.api.observed import request_id
from movierec_platform.api.page.door import back_to
from movierec_platform.api.page.rendering import page, show_problem
from movierec_platform.api.routes import Routes, read_form
from movierec_platform.domain.catalogue import NO_FILTERS, Filters
from movierec_platform.errors import GraphUnavailable
from movierec_platform.services.histories import Histories
from movierec_platform.services.land import Lander
from movierec_platform.services.movies import Movies
from movierec_platform.services.recommend import Recommender, Wanted

CARDS = 12
LISTED = 24
HISTORY_SHOWN = 12
USERS_SHOWN = 12
TREND_DAYS, TREND_HALF_LIFE_DAYS = 90, 14.0


class HomeQuery(Query):
    """The user id from which on users are listed."""

    users_from: Id = Field(1, title="the user id")


class ChooseQuery(Query):
    """A user id, as somebody typed it."""

    user: Id = Field(title="the user id")


class UserQuery(Query):
    """Which of a user's recommendations, and what was just rated."""

    genre: str = ""
    offset: Whole = Field(0, ge=0, le=MAX_OFFSET)
    rated: Id | None = None


class MovieQuery(Query):
    """For whom the movie is shown."""

    user: Id | None = Field(None, title="the user id")
    rated: Id | None = None


class MoviesQuery(MovieQuery):
    """What was typed, or which list."""

    q: str = Field("", max_length=MAX_TEXT)
    by: Literal["popular", "trending"] = "popular"
    genre: str = ""
    offset: Whole = Field(0, ge=0, le=MAX_OFFSET)


class RatingForm(Query):
    """A rating, and where its author was."""

    movie_id: Id = Field(title="the movie id")
    rating: float = Field(ge=0.5, le=5, multiple_of=0.5)
    next: str = "/"


def blueprint(recommender: Recommender, movies: Movies, histories: Histories) -> Routes:
    """The pages over these services."""
    routes = Routes("page", "Pages for people.", "read")
    routes.after_request(show_problem)

    def chosen(genre: str) -> Filters:
        return Filters(genres=(genre,)) if genre else NO_FILTERS

    @routes.get("/", doc_ui=False)
    def home(query: HomeQuery) -> Response:
        try:
            users = histories.users_from(query.users_from, USERS_SHOWN)
        except GraphUnavailable:
            users = None
        return page(
            "home.html",
            users=users,
            users_from=query.users_from,
            trending=movies.trending(TREND_DAYS, TREND_HALF_LIFE_DAYS, NO_FILTERS, CARDS // 2, 0).items,
            popular=movies.popular(NO_FILTERS, CARDS, 0).items,
        )

    @routes.get("/users", doc_ui=False)
    def choose(query: ChooseQuery) -> Response:
        return back_to(f"/users/{query.user}")

    @routes.get("/users/<user>", doc_ui=False)
    def user(path: UserPath, query: UserQuery) -> Response:
        wanted = Wanted(CARDS, query.offset, chosen(query.genre), explain=True)
        found = recommender.recommend(path.user, wanted)
        try:
            history = recommender.history(path.user, HISTORY_SHOWN, 0)
        except GraphUnavailable:
            history = None
        return page(
            "user.html",
            user=path.user,
            found=found,
            history=history,
            genres=movies.genres(),
            chosen=query.genre,
            offset=query.offset,
            cards=CARDS,
            rated=query.rated,
        )

    @routes.get("/movies", doc_ui=False)
    def listed(query: MoviesQuery) -> Response:
        typed = query.q.strip()
        if typed:
            found = movies.search(typed, LISTED, query.offset)
        elif query.by == "trending":
            filters = chosen(query.genre)
            found = movies.trending(TREND_DAYS, TREND_HALF_LIFE_DAYS, filters, LISTED, query.offset)
        else:
            found = movies.popular(chosen(query.genre), LISTED, query.offset)
        return page(
            "movies.html",
            user=query.user,
            rated=query.rated,
            found=found.items,
            genres=movies.genres(),
            typed=typed,
            by=query.by,
            chosen=query.genre,
            offset=query.offset,
            cards=LISTED,
        )

    @routes.get("/movies/<movie>", doc_ui=False)
    def movie(path: MoviePath, query: MovieQuery) -> Response:
        because = None if query.user is None else recommender.because(query.user, path.movie)
        return page(
            "movie.html",
            user=query.user,
            rated=query.rated,
            movie=movies.movie(path.movie),
            similar=movies.similar(path.movie, CARDS, 0).items,
            because=because,
        )

    return routes


def ratings_blueprint(lander: Lander, landed: Callable[[int], None]) -> Routes:
    """The form for browsers without JavaScript; with it the page posts to /ingest. `landed` is told of each rating."""
    routes = Routes("page_ratings", "Rating a movie.", "ingest")
    routes.after_request(show_problem)

    @routes.post("/users/<user>/ratings", doc_ui=False)
    def rate(path: UserPath) -> Response:
        given = read_form(RatingForm)
        lander.land([{"user_id": path.user, "movie_id": given.movie_id, "rating": given.rating}], request_id())
        landed(1)
        where, _, asked = given.next.partition("?")
        return back_to(f"{where}?{asked}{'&' if asked else ''}{urlencode({'rated': given.movie_id})}")

    return routes
