"""GroupLens titles, as people write them."""

import pytest

from movierec_platform.domain.titles import genres_of, natural_title, title_and_year


@pytest.mark.parametrize(
    ("text", "title", "year"),
    [
        ("Toy Story (1995)", "Toy Story", 1995),
        ("Matrix, The (1999)", "The Matrix", 1999),
        ("Fawlty Towers (1975-1979)", "Fawlty Towers", 1975),
        ("Doctor Who (2005\u2013)", "Doctor Who", 2005),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("Babylon 5", "Babylon 5", None),
        ("(1999)", "(1999)", None),
        ("1984 (1956)", "1984", 1956),
        ("Avventura, L' (a.k.a. Adventure, The) (1960)", "L'Avventura (a.k.a. The Adventure)", 1960),
        ("Name of the Rose, The (Name der Rose, Der) (1986)", "The Name of the Rose (Der Name der Rose)", 1986),
        ("Good, the Bad and the Ugly, The (1966)", "The Good, the Bad and the Ugly", 1966),
        ("Me, Myself & Irene (2000)", "Me, Myself & Irene", 2000),
        ("Good Wife, The (2009\u2013 )", "The Good Wife", 2009),
        ("Good Wife, The (2009 \u2014\xa02016)", "The Good Wife", 2009),
        ("Good Wife ( 2009- )\u2028", "Good Wife", 2009),
        ("Apollo 13 (1995) (2009 \u2013 or so)", "Apollo 13 (1995) (2009 \u2013 or so)", None),
        ("Red\x1b[31m\x9bAlert\n (1977)", "Red[31mAlert", 1977),
        ("Passage de Venus (1870)", "Passage de Venus", 1870),
        ("(0000)", "(0000)", None),
        ("I, Robot (2004)", "I, Robot", 2004),
        (" Seven (a.k.a. Se7en) (1995) ", "Seven (a.k.a. Se7en)", 1995),
    ],
)
def test_titles(text: str, title: str, year: int | None) -> None:
    assert title_and_year(text) == (title, year)


@pytest.mark.parametrize("year", ["0000", "1869", "2101", "9999", "9999\u2013 ", "0000-1999"])
def test_a_year_without_films_is_refused(year: str) -> None:
    with pytest.raises(ValueError, match="the year of a film is 1870 to 2100, not"):
        title_and_year(f"Alien ({year})")


@pytest.mark.parametrize("genres", ["nan", "NaN", "Drama|nan", "Drama|", "Drama| |War", "null", "None", "Drama|\x1b"])
def test_a_genre_that_is_no_name_is_refused(genres: str) -> None:
    with pytest.raises(ValueError, match="a genre is a name"):
        genres_of(genres)


def test_titles_without_years_and_genres() -> None:
    assert natural_title("Fly, The") == "The Fly"
    assert [genres_of(text) for text in ("A|B", "A", "", "(no genres listed)")] == [["A", "B"], ["A"], [], []]
