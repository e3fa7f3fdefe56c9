"""Finding movies by what somebody types of a title: without accents or case, with typing errors, any order of words.

Numerals are the same in either spelling (II, 2), and words are found joined or apart (Spider-Man, spiderman).
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import OSA

from movierec_platform.domain.catalogue import Catalogue
from movierec_platform.domain.neighbourhood import Indexes, Ints, read_only

MAX_WORDS = 8
"""Words of a query that count; the others are left out."""
BEGINS, JOINED, TYPED_WRONG = 0.9, 0.9, 0.8
"""What a word counts that only begins as typed, one that is joined to the next on one side only, and (times its
likeness) one that is typed wrong."""
LEAST_MATCH = 0.5
_WORD = re.compile(r"[^\W_]+")
_UNACCENTED = str.maketrans({"ø": "o", "đ": "d", "ł": "l", "æ": "ae", "œ": "oe", "\u2019": "'", "\u02bc": "'"})
_APOSTROPHES = re.compile(r"'")
_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii", "xiii", "xiv", "xv", "xvi")
_OTHER_NUMERAL = {roman: str(number) for number, roman in enumerate(_ROMAN, 1)}
_OTHER_NUMERAL |= {number: roman for roman, number in _OTHER_NUMERAL.items()}
_YEARLIKE = 3
"""Digits from which on a number may be the beginning of another: 2 is a sequel, and no beginning of 2006."""


@dataclass(frozen=True, slots=True, eq=False)
class TitleIndex:
    """The W words of all titles and years, in each of their forms, and the movies that have each; read-only arrays.

    - words: W of them, ascending. starts: int64 (W + 1,); the movies of word `w` are `movies[starts[w]:starts[w + 1]]`.
    - movies: int32, indexes, ascending within a word.
    - lengths: int32 (M,), how many different words each title has, its year aside.
    - by_letters: the words of so many letters: int64 places in `words`, and the words themselves.
    """

    words: Sequence[str]
    starts: Ints
    movies: Indexes
    lengths: Indexes
    by_letters: Mapping[int, tuple[Ints, list[str]]]

    @classmethod
    def of(cls, words: Sequence[str], starts: Ints, movies: Indexes, lengths: Indexes) -> "TitleIndex":
        """The index over these arrays."""
        letters = np.array([len(word) for word in words], dtype=np.int64)
        places = {int(count): np.flatnonzero(letters == count) for count in np.unique(letters)}
        by_letters = {count: (found, [words[place] for place in found.tolist()]) for count, found in places.items()}
        return cls(words, starts, movies, lengths, by_letters)


def words_of(text: str) -> list[str]:
    """The words of a text without accents, case and punctuation: "Amélie, Le" has amelie and le."""
    return _WORD.findall(_plain(text))


def other_forms(text: str) -> set[str]:
    """How else its words may be typed: "Spider-Man II" as spiderman and 2."""
    joined = {"".join(words) for part in _plain(text).split() if len(words := _WORD.findall(part)) > 1}
    return joined | {_OTHER_NUMERAL[word] for word in words_of(text) if word in _OTHER_NUMERAL}


def _plain(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.casefold().translate(_UNACCENTED))
    return _APOSTROPHES.sub("", "".join(letter for letter in plain if not unicodedata.combining(letter)))


def title_index(titles: Iterable[str], years: Ints | Indexes) -> TitleIndex:
    """The index of these titles, by movie index, with the year of each, 0 where unknown."""
    movies_of: dict[str, list[int]] = {}
    lengths = []
    for index, (title, year) in enumerate(zip(titles, years.tolist(), strict=True)):
        words = set(words_of(title))
        lengths.append(len(words))
        for word in words | other_forms(title) | ({str(year)} if year else set()):
            movies_of.setdefault(word, []).append(index)
    words_in_order = sorted(movies_of)
    starts = np.zeros(len(words_in_order) + 1, dtype=np.int64)
    np.cumsum([len(movies_of[word]) for word in words_in_order], out=starts[1:])
    return TitleIndex.of(
        words=words_in_order,
        starts=read_only(starts),
        movies=read_only(np.array([index for word in words_in_order for index in movies_of[word]], dtype=np.int32)),
        lengths=read_only(np.array(lengths, dtype=np.int32)),
    )


def search(text: str, index: TitleIndex, movies: Catalogue, limit: int) -> list[tuple[int, float]]:
    """(index, match) of the best `limit` movies for what was typed; [] if nothing is like it.

    The match is the mean over the typed words of how well the best word of title or year fits: 1 if equal, 0.9 if it
    begins so or two words are equal to one, 0.8 times its likeness if it is within 1 edit (from 4 letters on) or 2
    (from 8 on). Order: whole titles first (the same words in any order), then match to one decimal, then viewers, then
    movie_id.
    """
    typed = list(dict.fromkeys(words_of(text)))[:MAX_WORDS]
    if not typed or not index.words:
        return []
    match = np.zeros(len(index.lengths))
    equal = np.zeros(len(index.lengths), dtype=np.int32)
    pairs = [first + second for first, second in pairwise(typed)]
    for at, word in enumerate(typed):
        best = np.zeros(len(index.lengths))
        for place, fit in _fitting(word, index):
            having = _having(place, index)
            best[having] = np.maximum(best[having], fit)
            if fit == 1.0:
                equal[having] += 1
        for pair in pairs[max(at - 1, 0) : at + 1]:
            joined = _having(_place(pair, index), index)
            best[joined] = np.maximum(best[joined], JOINED)
        apart = _apart(word, index, movies)
        best[apart] = np.maximum(best[apart], JOINED)
        match += best / len(typed)
    found = np.flatnonzero(match >= LEAST_MATCH)
    whole = (equal[found] == len(typed)) & (index.lengths[found] == len(typed))
    rounded = np.round(match[found], 1)
    order = np.lexsort((movies.movie_ids[found], -movies.viewers[found], -rounded, ~whole))[:limit]
    return [(int(found[place]), round(float(match[found[place]]), 4)) for place in order.tolist()]


def _fitting(word: str, index: TitleIndex) -> list[tuple[int, float]]:
    """(place, fit) of the words that fit this one."""
    fits: dict[int, float] = {}
    edits = 0 if len(word) < 4 or word.isdigit() else 1 if len(word) < 8 else 2
    for letters in range(len(word) - edits, len(word) + edits + 1) if edits else ():
        places, words = index.by_letters.get(letters, (_NONE, []))
        if words:
            distances = process.cdist([word], words, scorer=OSA.distance, score_cutoff=edits, dtype=np.int32)[0]
            for at in np.flatnonzero(distances <= edits).tolist():
                likeness = 1 - int(distances[at]) / max(len(word), letters)
                fits[int(places[at])] = TYPED_WRONG * likeness
    first, last = _range(word, index.words)
    if not word.isdigit() or len(word) >= _YEARLIKE:
        fits.update((place, BEGINS) for place in range(first, last))
    if first < last and index.words[first] == word:
        fits[first] = 1.0
    return sorted(fits.items())


def _apart(word: str, index: TitleIndex, movies: Catalogue) -> list[int]:
    """The movies that have this word as two, one after the other."""
    found: list[int] = []
    for cut in range(1, len(word)):
        left, right = (_having(_place(part, index), index) for part in (word[:cut], word[cut:]))
        if len(left) and len(right):
            both = np.intersect1d(left, right, assume_unique=True).tolist()
            found += [movie for movie in both if word in map("".join, pairwise(words_of(movies.titles[movie])))]
    return found


def _having(place: int | None, index: TitleIndex) -> Indexes:
    """The movies that have the word at this place."""
    return _NOWHERE if place is None else index.movies[index.starts[place] : index.starts[place + 1]]


def _place(word: str, index: TitleIndex) -> int | None:
    place = bisect_left(index.words, word)
    return place if place < len(index.words) and index.words[place] == word else None


_NONE = np.zeros(0, dtype=np.int64)
_NOWHERE = np.zeros(0, dtype=np.int32)


def _range(word: str, words: Sequence[str]) -> tuple[int, int]:
    """Places of the words that begin with this one."""
    return bisect_left(words, word), bisect_left(words, word + "\U0010ffff")
