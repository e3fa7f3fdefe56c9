"""Ratings out of an archive, block by block: read in bulk, and line by line only to say what is wrong."""

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from movierec_platform.adapters.movielens.forms import Form
from movierec_platform.adapters.movielens.members import Members
from movierec_platform.domain.events import INT64_MAX
from movierec_platform.domain.tables import RATINGS
from movierec_platform.errors import UsageError

_COLUMNS = {"user_id": pa.int64(), "movie_id": pa.int64(), "rating": pa.float64(), "timestamp": pa.int64()}
_TIMESTAMPS_BELOW_S = 10**10
"""Epoch seconds until the year 2286; what is not below is milliseconds."""
_INT = re.compile(r"[0-9]{1,19}")
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+|[0-9]+\.")


def rating_batches(archive: Members, member: str, form: Form) -> Iterator[pa.RecordBatch]:
    """Every rating of the member, schema RATINGS, in its order; UsageError at the first line that is none."""
    rows, header = 0, form.ratings_header
    for number, lines in archive.lines(member):
        if header is not None:
            number, lines, header = 2, _after_header(member, lines, header), None
        if not lines.strip():
            continue
        batch = _parsed(lines, form)
        if batch is None:
            raise _first_bad_line(member, number, lines, form)
        rows += batch.num_rows
        yield batch
    if header is not None:
        _after_header(member, b"", header)
    if not rows:
        raise UsageError(f"{member} holds no ratings")


def _after_header(member: str, block: bytes, header: str) -> bytes:
    line, _, rest = block.partition(b"\n")
    found = line.decode("utf-8", "replace").strip()
    if found != header:
        raise UsageError(f"{member} line 1: the header is {header}, not {shown(found)}")
    return rest


def _parsed(lines: bytes, form: Form) -> pa.RecordBatch | None:
    """The rows of these lines; None if one of them is no rating."""
    # Arrow's own parsers take more than that for a number: hexadecimal, exponents, blanks around it, NaN.
    if lines.translate(None, b"0123456789.\r\n" + form.separator):
        return None
    separator = form.separator.decode()
    if len(separator) > 1:  # what Arrow splits at is one character
        lines, separator = lines.replace(form.separator, b","), ","
    try:
        table = pacsv.read_csv(
            pa.BufferReader(lines),
            read_options=pacsv.ReadOptions(column_names=list(_COLUMNS)),
            parse_options=pacsv.ParseOptions(delimiter=separator, quote_char=False),
            convert_options=pacsv.ConvertOptions(column_types=_COLUMNS),
        )
    except pa.ArrowInvalid:
        return None
    if any(column.null_count for column in table.columns):
        return None
    user_id, movie_id, rating, timestamp = (column.to_numpy() for column in table.columns)
    fine = (user_id > 0) & (movie_id > 0) & (timestamp > 0) & (timestamp < _TIMESTAMPS_BELOW_S)
    if not np.all(fine & (rating >= 0.5) & (rating <= 5.0) & (rating * 2 == np.floor(rating * 2))):
        return None
    rated_at_ms = pc.multiply(table["timestamp"], 1000)
    whole = pa.table([*(table[name] for name in ("user_id", "movie_id", "rating")), rated_at_ms], schema=RATINGS)
    return whole.combine_chunks().to_batches()[0]


def _first_bad_line(member: str, first: int, lines: bytes, form: Form) -> UsageError:
    """What is wrong with the first of these lines that no rating can be read from."""
    for number, line in enumerate(lines.split(b"\n"), start=first):
        text = line.decode("utf-8", "replace").removesuffix("\r")
        wrong = _wrong_with(text.split(form.separator.decode())) if text else None
        if wrong:
            return UsageError(f"{member} line {number}: {wrong}: {shown(text)}")
    return UsageError(f"{member} lines {first} to {first + lines.count(10)}: one of them is no rating")


def _wrong_with(fields: list[str]) -> str | None:
    if len(fields) != 4:
        return f"a rating has 4 fields (user, movie, rating, timestamp), this line has {len(fields)}"
    user_id, movie_id, rating, timestamp = fields
    for name, value in (("user", user_id), ("movie", movie_id), ("timestamp", timestamp)):
        if not _INT.fullmatch(value) or not 0 < int(value) <= INT64_MAX:
            return f"a {name} is a whole number above 0"
    if int(timestamp) >= _TIMESTAMPS_BELOW_S:
        return "a timestamp is in epoch seconds"
    if not _NUMBER.fullmatch(rating) or not 0.5 <= float(rating) <= 5.0 or not (float(rating) * 2).is_integer():
        return "a rating is 0.5 to 5 in halves"
    return None


def shown(text: str) -> str:
    """The text as it stands in a message: quoted, its end cut off."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
