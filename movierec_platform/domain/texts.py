"""Text of others as it may be stored and shown: nothing in it steers the terminal that it is printed on."""

import re

_SPACES = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What moves, colours or renames (C0, C1), but for tab and line feed; what turns the direction of all that follows."""


def harmless(text: str) -> str:
    """The text without control characters; tabs and ends of lines stay."""
    return _CONTROLS.sub("", text)


def one_line(text: str) -> str:
    """The text without control characters, on one line, without blanks around it."""
    return harmless(_SPACES.sub(" ", text)).strip()


def with_escapes(json_text: str) -> str:
    """The JSON with its control characters escaped, which it may have in strings only: the same value."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)
