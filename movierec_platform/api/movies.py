"""Movies: one, those like it, what is popular or trends, and those whose title somebody types."""

from flask import Response
from pydantic import Field

from movierec_platform.api.arguments import Id, Path, Whole
from movierec_platform.api.filters import FilterQuery, PageQuery, filters_of
from movierec_platform.api.routes import Routes, answer
from movierec_platform.domain.trending import KEPT_DAYS
from movierec_platform.services.movies import Movie, MovieList, Movies, SimilarMovies

MAX_TEXT = 200


class MoviePath(Path):
    """/.../<movie>"""

    movie: Id = Field(title="the movie id", description="movie id")


class SearchQuery(PageQuery):
    """What was typed, and which page."""

    q: str = Field(min_length=1, max_length=MAX_TEXT, description="words of a title, in any order, perhaps its year")


class TrendingQuery(FilterQuery):
    """How late, which movies, and which page."""

    window_days: Whole = Field(90, ge=1, le=KEPT_DAYS, description="days before the last view that count")
    half_life_days: float = Field(
        14.0, gt=0, le=3_650, allow_inf_nan=False, description="days after which a view counts half"
    )


def blueprint(movies: Movies) -> Routes:
    """The routes over these movies."""
    routes = Routes("movies", "The catalogue.", "read", url_prefix="/v1/movies")

    @routes.get("", responses=routes.answers(MovieList))
    def search(query: SearchQuery) -> Response:
        """The movies whose titles are most like what was typed.

        Accents, case, punctuation and the order of words do not matter, nor whether words are joined, or which numerals
        are used; a word may be only begun, and one or two letters of a longer one wrong. Best match first (`score`, at
        most 1), then the most viewed.
        """
        return answer(movies.search(query.q, query.n, query.offset))

    @routes.get("/popular", responses=routes.answers(MovieList))
    def popular(query: FilterQuery) -> Response:
        """The most viewed movies; `score` counts viewers."""
        return answer(movies.popular(filters_of(query), query.n, query.offset))

    @routes.get("/trending", responses=routes.answers(MovieList))
    def trending(query: TrendingQuery) -> Response:
        """The movies most watched of late, as of the last view that the lake has.

        `score` adds up the views of the window, each halved for every half-life of its age.
        """
        found = movies.trending(query.window_days, query.half_life_days, filters_of(query), query.n, query.offset)
        return answer(found)

    @routes.get("/<movie>", responses=routes.answers(Movie, 404))
    def movie(path: MoviePath) -> Response:
        """One movie, and how it is rated."""
        return answer(movies.movie(path.movie))

    @routes.get("/<movie>/similar", responses=routes.answers(SimilarMovies, 404))
    def similar(path: MoviePath, query: PageQuery) -> Response:
        """The movies that this one leads to; none where the published similarity has none, or none is published."""
        return answer(movies.similar(path.movie, query.n, query.offset))

    return routes
