"""Small sets of ratings in GroupLens' forms, for tests that want a whole stack and not much data."""

import zipfile
from pathlib import Path

USERS, MOVIES = 30, 40


def two_tastes(folder: Path, users: int = USERS, movies: int = MOVIES) -> Path:
    """An archive in the form of ml-latest-small: each of the users rates most movies of one of two tastes."""
    titles = [
        "movieId,title,genres",
        *(f'{n},"Film {n}, The ({1990 + n % 30})",Drama|War' for n in range(1, movies + 1)),
    ]
    ratings = ["userId,movieId,rating,timestamp"]
    for user in range(1, users + 1):
        liked = range(1 + user % 2, movies + 1, 2)
        ratings += [
            f"{user},{movie},{3 + movie % 5 / 2},{1_500_000_000 + movie}" for movie in liked if (user + movie) % 5
        ]
    path = folder / "ml-small.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-small/movies.csv", "\n".join(titles) + "\n")
        archive.writestr("ml-small/ratings.csv", "\n".join(ratings) + "\n")
    return path
