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
        ("I, Robot (2004)", "I, Robot", 2004),
        (" Seven (a.k.a. Se7en) (1995) ", "Seven (a.k.a. Se7en)", 1995),
    ],
)
def test_titles(text: str, title: str, year: int | None) -> None:
    assert title_and_year(text) == (title, year)


def test_titles_without_years_and_genres() -> None:
    assert natural_title("Fly, The") == "The Fly"
    assert [genres_of(text) for text in ("A|B", "A", "", "(no genres listed)")] == [["A", "B"], ["A"], [], []]
