"""Archives in the forms that GroupLens ships, small and made here; none of its data is used but the built-in set."""

import zipfile
from pathlib import Path

import pytest

from movierec_platform.adapters.movielens import genres_of, natural_title, read_movielens, title_and_year
from movierec_platform.errors import UsageError

RATINGS_CSV = "userId,movieId,rating,timestamp\n1,10,4.0,964982703\n1,20,0.5,964981247\n2,10,5,1445714835\n"
MOVIES_CSV = 'movieId,title,genres\n10,"Matrix, The (1999)",Action|Sci-Fi\n20,"Babylon 5",(no genres listed)\n'
RATINGS_DAT = "1::10::4::964982703\n1::20::1::964981247\n2::10::5::1445714835\n"
MOVIES_DAT = "10::Matrix, The (1999)::Action|Sci-Fi\n20::Misérables, Les (1995)::Drama|Musical\n"


def archive(folder: Path, **files: str | bytes) -> str:
    path = folder / "set.zip"
    with zipfile.ZipFile(path, "w") as opened:
        for name, body in files.items():
            opened.writestr(f"ml-made-here/{name.replace('_', '.')}", body)
    return str(path)


def csv_archive(folder: Path, ratings: str = RATINGS_CSV, movies: str = MOVIES_CSV) -> str:
    return archive(folder, ratings_csv=ratings, movies_csv=movies, README_txt="")


def test_the_csv_form(tmp_path: Path) -> None:
    read = read_movielens(csv_archive(tmp_path))
    assert read.movies.to_pylist() == [
        {"movie_id": 10, "title": "The Matrix", "year": 1999, "genres": ["Action", "Sci-Fi"]},
        {"movie_id": 20, "title": "Babylon 5", "year": None, "genres": []},
    ]
    assert read.ratings.to_pylist() == [
        {"user_id": 1, "movie_id": 10, "rating": 4.0, "rated_at_ms": 964982703000},
        {"user_id": 1, "movie_id": 20, "rating": 0.5, "rated_at_ms": 964981247000},
        {"user_id": 2, "movie_id": 10, "rating": 5.0, "rated_at_ms": 1445714835000},
    ]
    assert (read.name, read.untitled_movies, read.repeated_ratings) == ("set.zip", 0, 0)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_the_dat_form_in_either_encoding(tmp_path: Path, encoding: str) -> None:
    read = read_movielens(archive(tmp_path, ratings_dat=RATINGS_DAT, movies_dat=MOVIES_DAT.encode(encoding)))
    assert read.movies["title"].to_pylist() == ["The Matrix", "Les Misérables"]
    assert read.movies["year"].to_pylist() == [1999, 1995]
    assert read.ratings.to_pylist()[1] == {"user_id": 1, "movie_id": 20, "rating": 1.0, "rated_at_ms": 964981247000}


def test_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    made = csv_archive(tmp_path, *("\ufeff" + text.replace("\n", "\r\n") for text in (RATINGS_CSV, MOVIES_CSV)))
    read = read_movielens(made)
    assert (read.ratings.num_rows, read.movies["genres"].to_pylist()) == (3, [["Action", "Sci-Fi"], []])


def test_a_rated_movie_without_a_name_is_called_by_its_id(tmp_path: Path) -> None:
    read = read_movielens(csv_archive(tmp_path, ratings=RATINGS_CSV + "2,7,3.5,1445714836\n"))
    assert read.movies.to_pylist()[0] == {"movie_id": 7, "title": "Movie 7", "year": None, "genres": []}
    assert read.untitled_movies == 1


def test_the_last_of_repeated_ratings_counts(tmp_path: Path) -> None:
    again = "1,10,2.0,964982702\n1,10,1.0,964982704\n"
    read = read_movielens(csv_archive(tmp_path, ratings=RATINGS_CSV + again))
    of_pair = [row["rating"] for row in read.ratings.to_pylist() if (row["user_id"], row["movie_id"]) == (1, 10)]
    assert (of_pair, read.repeated_ratings) == ([1.0], 2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2,20,3.7,1445714836", "0.5 to 5 in halves"),
        ("2,20,5.5,1445714836", "0.5 to 5 in halves"),
        ("2,20,good,1445714836", "0.5 to 5 in halves"),
        ("2,20,,1445714836", "0.5 to 5 in halves"),
        ("2,20,nan,1445714836", "0.5 to 5 in halves"),
        ("2,20,4.0", "this line has 3"),
        ("2,20,4.0,1445714836,x", "this line has 5"),
        ("u2,20,4.0,1445714836", "a user is a whole number above 0"),
        ("2,0,4.0,1445714836", "a movie is a whole number above 0"),
        ("2,-3,4.0,1445714836", "a movie is a whole number above 0"),
        ("2,20,4.0,1445714836000", "in epoch seconds"),
        ("2,20,4.0,", "a timestamp is a whole number above 0"),
    ],
)
def test_a_bad_rating_is_named_by_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_movielens(csv_archive(tmp_path, ratings=f"{RATINGS_CSV}{line}\n2,20,4.0,1445714836\n"))
    assert "ratings.csv line 5: " in str(refused.value)
    assert said in str(refused.value)
    assert line in str(refused.value)


def test_a_bad_rating_of_the_dat_form_is_named_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ratings\.dat line 4: .*'3::10::6::964982703'"):
        read_movielens(archive(tmp_path, ratings_dat=RATINGS_DAT + "3::10::6::964982703\n", movies_dat=MOVIES_DAT))


@pytest.mark.parametrize(
    ("movies", "said"),
    [
        (MOVIES_CSV + "30,Heat (1995)\n", r"movies\.csv line 4: a movie is an id, a title and genres"),
        (MOVIES_CSV + "x,Heat (1995),Action\n", r"movies\.csv line 4: a movie is an id"),
        (MOVIES_CSV + "10,Heat (1995),Action\n", r"movies\.csv line 4: movie 10 was already given"),
        ("id,title,genres\n", r"movies\.csv line 1: the header is movieId,title,genres, not 'id,title,genres'"),
        ("", r"movies\.csv line 1: the header is"),
    ],
)
def test_a_bad_movie_is_named_by_file_and_line(tmp_path: Path, movies: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_movielens(csv_archive(tmp_path, movies=movies))


@pytest.mark.parametrize(
    ("ratings", "said"),
    [
        ("userId,movieId,rating,timestamp\n", "holds no ratings"),
        ("userId,movieId,rating\n1,10,4.0\n", "line 1: the header is userId,movieId,rating,timestamp"),
        ("", "line 1: the header is"),
    ],
)
def test_ratings_without_rows_or_header(tmp_path: Path, ratings: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_movielens(csv_archive(tmp_path, ratings=ratings))


def test_what_is_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(UsageError, match=r"no archive at .*absent\.zip"):
        read_movielens(str(tmp_path / "absent.zip"))
    with pytest.raises(UsageError, match="cannot be read as a zip archive"):
        read_movielens(str(tmp_path / "text.zip"))
    with pytest.raises(UsageError, match=r"it holds links\.csv, ratings\.csv, not ratings\.csv with movies\.csv or"):
        read_movielens(archive(tmp_path, ratings_csv=RATINGS_CSV, links_csv=""))


def test_a_truncated_member_is_refused(tmp_path: Path) -> None:
    path = Path(csv_archive(tmp_path))
    body = path.read_bytes()
    path.write_bytes(body.replace(b"964982703", b"964982704", 1))  # the checksum no longer holds
    with pytest.raises(UsageError, match="cannot be read as a zip archive"):
        read_movielens(str(path))


@pytest.mark.parametrize(
    ("text", "title", "year"),
    [
        ("Toy Story (1995)", "Toy Story", 1995),
        ("Matrix, The (1999)", "The Matrix", 1999),
        ("Fawlty Towers (1975-1979)", "Fawlty Towers", 1975),
        ("Doctor Who (2005\u2013)", "Doctor Who", 2005),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("Babylon 5", "Babylon 5", None),
        ("Avventura, L' (a.k.a. Adventure, The) (1960)", "L'Avventura (a.k.a. The Adventure)", 1960),
        ("Name of the Rose, The (Name der Rose, Der) (1986)", "The Name of the Rose (Der Name der Rose)", 1986),
        ("Good, the Bad and the Ugly, The (1966)", "The Good, the Bad and the Ugly", 1966),
        ("Me, Myself & Irene (2000)", "Me, Myself & Irene", 2000),
        ("I, Robot (2004)", "I, Robot", 2004),
        (" Seven (a.k.a. Se7en) (1995) ", "Seven (a.k.a. Se7en)", 1995),
    ],
)
def test_titles(text: str, title: str, year: int | None) -> None:
    assert title_and_year(text) == (title, year)


def test_titles_without_years_and_genres() -> None:
    assert natural_title("Fly, The") == "The Fly"
    assert [genres_of(text) for text in ("A|B", "A", "", "(no genres listed)")] == [["A", "B"], ["A"], [], []]


def test_the_built_in_set() -> None:
    read = read_movielens()
    assert (read.ratings.num_rows, read.movies.num_rows, read.untitled_movies) == (100_004, 9_066, 5)
    titles = dict(zip(read.movies["movie_id"].to_pylist(), read.movies["title"].to_pylist(), strict=True))
    assert (titles[2571], titles[108583]) == ("The Matrix", "Movie 108583")
    assert read.ratings.schema.names == ["user_id", "movie_id", "rating", "rated_at_ms"]
