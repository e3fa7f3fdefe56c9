"""What is watched of late: views by movie and day, weighed by any half-life over any window."""

from dataclasses import dataclass

import numpy as np

from movierec_platform.domain.neighbourhood import Floats, Indexes, Ints, indexes_of, read_only

DAY_MS = 24 * 60 * 60 * 1000
KEPT_DAYS = 366


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """Views of the last KEPT_DAYS, a row for each movie and day that has any: three read-only int32 arrays (V,).

    - movies: indexes. ages: days before the day of the last view, 0 for that day itself, ascending. counts: above 0.
    """

    movies: Indexes
    ages: Indexes
    counts: Indexes


def views_by_day(movie_ids: Ints, seen_ids: Ints, seen_at_ms: Ints) -> Views:
    """The views of these visible pairs: ids of movies (N,) and when each was seen (epoch ms), in any order."""
    index, known = indexes_of(movie_ids, seen_ids)
    index, day = index[known], seen_at_ms[known] // DAY_MS
    age = day.max(initial=0) - day
    recent = age < KEPT_DAYS
    size = max(len(movie_ids), 1)
    keys, counts = np.unique(age[recent] * size + index[recent], return_counts=True)
    return Views(
        movies=read_only((keys % size).astype(np.int32)),
        ages=read_only((keys // size).astype(np.int32)),
        counts=read_only(counts.astype(np.int32)),
    )


def trend_scores(views: Views, size: int, window_days: int, half_life_days: float) -> Floats:
    """Of each of `size` movies the views of the last `window_days` days, each halved for every half-life of its age."""
    within = slice(0, int(np.searchsorted(views.ages, window_days)))
    weights = views.counts[within] * np.exp2(views.ages[within] / -half_life_days)
    scores: Floats = np.bincount(views.movies[within], weights=weights, minlength=size).astype(np.float64)
    return scores
