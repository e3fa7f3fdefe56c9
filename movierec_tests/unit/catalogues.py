"""Small catalogues and neighbourhoods made of dictionaries, for the tests of what ranks them."""

import numpy as np

from movierec_platform.domain.catalogue import Catalogue, catalogue
from movierec_platform.domain.neighbourhood import Neighbourhood, neighbourhood

Edges = dict[tuple[int, int], tuple[float, int]]
"""(score, support) by (source, target)"""


def movies_of(
    viewers: dict[int, int],
    genres: dict[int, list[str]] | None = None,
    trend: dict[int, float] | None = None,
    years: dict[int, int] | None = None,
    titles: dict[int, str] | None = None,
) -> Catalogue:
    """A catalogue with these movies; everybody who saw a movie rated it."""
    ids = sorted(viewers)
    counts = np.array([viewers[i] for i in ids], dtype=np.int64)
    return catalogue(
        np.array(ids, dtype=np.int64),
        [(titles or {}).get(i, f"Movie {i}") for i in ids],
        [(years or {}).get(i) for i in ids],
        counts,
        counts,
        np.full(len(ids), np.nan),
        np.array([(trend or {}).get(i, 0.0) for i in ids], dtype=np.float64),
        [(genres or {}).get(i, []) for i in ids],
    )


def edges_of(movies: Catalogue, edges: Edges) -> Neighbourhood:
    return neighbourhood(
        movies.movie_ids,
        np.array([source for source, _ in edges], dtype=np.int64),
        np.array([target for _, target in edges], dtype=np.int64),
        np.array([score for score, _ in edges.values()], dtype=np.float64),
        np.array([support for _, support in edges.values()], dtype=np.int64),
    )
