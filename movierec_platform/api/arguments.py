"""Arguments in a path or query string, checked; 400 with a sentence when they are not what they must be."""

import re

from flask import request

from movierec_platform.api.errors import Problem
from movierec_platform.domain.events import INT64_MAX

_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)


def one_argument(name: str, default: str) -> str:
    """The query parameter's value; 400 when it is given more than once."""
    values = request.args.getlist(name)
    if len(values) > 1:
        raise Problem(400, "bad-parameter", f"{name} is given {len(values)} times: give it once")
    return values[0] if values else default


def whole_number(name: str, text: str, lowest: int, highest: int) -> int:
    """The number in this text, within the bounds."""
    number = int(text) if _DIGITS.fullmatch(text) else None
    if number is None or not lowest <= number <= highest:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise Problem(400, "bad-parameter", f"{name} is a whole number from {lowest} to {highest}, not {shown!r}")
    return number


def flag(name: str) -> bool:
    """Whether the query parameter says so; false when it is not given."""
    value = one_argument(name, "false").lower()
    if value not in ("true", "1", "false", "0"):
        raise Problem(400, "bad-parameter", f"{name} is true or false, not {value!r}")
    return value in ("true", "1")


def user_id_of(text: str) -> int:
    """The user id in a path."""
    return whole_number("the user id", text, 1, INT64_MAX)
