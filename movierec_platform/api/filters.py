"""The arguments that choose movies and pages, the same in a query string and in a JSON body."""

from functools import cached_property
from typing import Annotated, Any

from pydantic import Field

from movierec_platform.api.arguments import Body, Flag, Id, Query, Whole, Year
from movierec_platform.domain.catalogue import Filters
from movierec_platform.domain.events import INT64_MAX
from movierec_platform.services.recommend import Wanted

DEFAULT_ITEMS = 10
MAX_ITEMS = 100
MAX_OFFSET = 10_000
MAX_IDS = 10_000
LAST_YEAR = 9_999

_N = "how many movies"
_OFFSET = "movies to leave out at the beginning: pages of one snapshot fit together"
_GENRES = "only movies of any of these genres, case aside"
_EXCLUDE_GENRES = "no movies of any of these genres"
_YEAR_FROM = "only movies of this year or later"
_YEAR_TO = "only movies of this year or earlier"
_MIN_RATINGS = "only movies with as many ratings"
_EXCLUDE_IDS = "none of these movies"
_CANDIDATE_IDS = "only these movies"
_INCLUDE_SEEN = "also movies that were seen"
_DIVERSITY = "0: by score alone; up to 1: each movie of other genres than those above it (maximal marginal relevance)"
_EXPLAIN = "why each movie is there"


class PageQuery(Query):
    """Which page."""

    n: Whole = Field(DEFAULT_ITEMS, ge=1, le=MAX_ITEMS, description=_N)
    offset: Whole = Field(0, ge=0, le=MAX_OFFSET, description=_OFFSET)


class FilterQuery(PageQuery):
    """Which movies, and which page of them."""

    genres: list[str] = Field([], max_length=100, description=_GENRES)
    exclude_genres: list[str] = Field([], max_length=100, description=_EXCLUDE_GENRES)
    year_from: Year | None = Field(None, description=_YEAR_FROM)
    year_to: Year | None = Field(None, description=_YEAR_TO)
    min_ratings: Whole = Field(0, ge=0, le=INT64_MAX, description=_MIN_RATINGS)


class WantedQuery(FilterQuery):
    """Which part of which ranking."""

    exclude_ids: list[Id] = Field([], max_length=MAX_IDS, description=_EXCLUDE_IDS)
    candidate_ids: list[Id] | None = Field(None, max_length=MAX_IDS, description=_CANDIDATE_IDS)
    include_seen: Flag = Field(False, description=_INCLUDE_SEEN)
    diversity: float = Field(0.0, ge=0, le=1, allow_inf_nan=False, description=_DIVERSITY)
    explain: Flag = Field(False, description=_EXPLAIN)

    @cached_property
    def wanted(self) -> Wanted:
        """What these arguments ask for."""
        return wanted_of(self, self.explain)


BodyId = Annotated[int, Field(ge=1, le=INT64_MAX)]


class WantedBody(Body):
    """The same in a body."""

    max_bytes = 512 * 1024

    n: int = Field(DEFAULT_ITEMS, ge=1, le=MAX_ITEMS, description=_N)
    offset: int = Field(0, ge=0, le=MAX_OFFSET, description=_OFFSET)
    genres: list[str] = Field([], max_length=100, description=_GENRES)
    exclude_genres: list[str] = Field([], max_length=100, description=_EXCLUDE_GENRES)
    year_from: int | None = Field(None, ge=1, le=LAST_YEAR, description=_YEAR_FROM)
    year_to: int | None = Field(None, ge=1, le=LAST_YEAR, description=_YEAR_TO)
    min_ratings: int = Field(0, ge=0, le=INT64_MAX, description=_MIN_RATINGS)
    exclude_ids: list[BodyId] = Field([], max_length=MAX_IDS, description=_EXCLUDE_IDS)
    candidate_ids: list[BodyId] | None = Field(None, max_length=MAX_IDS, description=_CANDIDATE_IDS)
    include_seen: bool = Field(False, description=_INCLUDE_SEEN)
    diversity: float = Field(0.0, ge=0, le=1, allow_inf_nan=False, description=_DIVERSITY)


def filters_of(given: Any) -> Filters:
    """The filters among these arguments."""
    return Filters(
        genres=tuple(given.genres),
        exclude_genres=tuple(given.exclude_genres),
        year_from=given.year_from,
        year_to=given.year_to,
        min_ratings=given.min_ratings,
        exclude_ids=tuple(getattr(given, "exclude_ids", ())),
        candidate_ids=getattr(given, "candidate_ids", None),
    )


def wanted_of(given: WantedQuery | WantedBody, explain: bool) -> Wanted:
    """What these arguments ask for."""
    return Wanted(given.n, given.offset, filters_of(given), given.include_seen, given.diversity, explain)
