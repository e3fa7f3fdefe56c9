"""Why a movie is recommended: the movies of the history that lead to it, and a sentence in two languages."""

from collections.abc import Sequence
from dataclasses import dataclass

from movierec_platform.domain.catalogue import Catalogue
from movierec_platform.domain.neighbourhood import Neighbourhood
from movierec_platform.domain.ranking import Query, Ranked, parts_of


@dataclass(frozen=True, slots=True)
class Evidence:
    """One seen movie that leads to the recommended one. The `part`s of all of them add up to its score."""

    movie_id: int
    title: str
    weight: float
    """Of the seen movie in the query: rating / 5, or 0.7 for a view."""
    similarity: float
    """Of the edge between the two."""
    part: float
    """weight * similarity"""
    share: float
    """The part divided by the score."""
    support: int
    """Users who saw both."""


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why one movie is recommended."""

    en: str
    es: str
    evidence: tuple[Evidence, ...]
    """The largest parts first, ties by movie_id; perhaps only the first few."""
    others: int
    """Seen movies that lead to it too and are not listed."""


def evidence_of(index: int, query: Query, movies: Catalogue, edges: Neighbourhood) -> list[Evidence]:
    """Everything that leads to this movie, the largest part first; [] where nothing does."""
    parts = parts_of(index, query, edges)
    score = sum(weight * similarity for _, weight, similarity, _ in parts)
    found = [
        Evidence(
            movie_id=int(movies.movie_ids[source]),
            title=movies.titles[source],
            weight=weight,
            similarity=similarity,
            part=weight * similarity,
            share=weight * similarity / score,
            support=support,
        )
        for source, weight, similarity, support in parts
    ]
    return sorted(found, key=lambda one: (-one.part, one.movie_id))


def reasons(ranked: Ranked, query: Query, movies: Catalogue, edges: Neighbourhood, most: int | None = None) -> Reasons:
    """Why this movie stands where it does, with the `most` important pieces of evidence; None: all."""
    found = evidence_of(ranked.index, query, movies, edges)
    title = movies.titles[ranked.index]
    if ranked.strategy in ("graph_cf", "session") and found:
        en, es = _because(found)
    elif ranked.strategy == "trending_in_genre":
        genres = ", ".join(movies.genres_of(ranked.index))
        en = f"“{title}” is watched a lot these days ({genres})."
        es = f"«{title}» se ve mucho últimamente ({genres})."
    else:
        viewers = int(movies.viewers[ranked.index])
        en = f"“{title}” is popular: {viewers} {'person has' if viewers == 1 else 'people have'} seen it."
        es = f"«{title}» es popular: {viewers} {'persona la ha' if viewers == 1 else 'personas la han'} visto."
    return Reasons(en, es, tuple(found[:most]), max(0, len(found) - len(found[:most])))


def _because(found: Sequence[Evidence]) -> tuple[str, str]:
    """The sentences over the two strongest movies."""
    first, *rest = found
    en = f"{first.support} {'person' if first.support == 1 else 'people'} saw both"
    es = f"{first.support} {'persona vio' if first.support == 1 else 'personas vieron'} las dos"
    if not rest:
        return f"Because you saw “{first.title}” ({en}).", f"Porque viste «{first.title}» ({es})."
    share = f"{100 * first.share:.0f} %"
    en = f"Because you saw “{first.title}” ({en}, {share} of the score)"
    es = f"Porque viste «{first.title}» ({es}, {share} de la puntuación)"
    if more := len(rest) - 1:
        return f"{en}, “{rest[0].title}” and {more} more.", f"{es}, «{rest[0].title}» y {more} más."
    return f"{en} and “{rest[0].title}”.", f"{es} y «{rest[0].title}»."
