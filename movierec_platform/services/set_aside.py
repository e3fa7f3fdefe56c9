"""What is done about raw objects that cannot be read: the log names each, the exporter counts them."""

import logging
from collections.abc import Callable, Collection
from contextlib import closing

from movierec_platform.adapters.state import State
from movierec_platform.config import Settings
from movierec_platform.domain.set_aside import SetAside
from movierec_platform.errors import StateUnavailable

Aside = Callable[[SetAside], object]
"""Told of each raw object that is set aside, perhaps more than once."""

log = logging.getLogger(__name__)


def in_the_log(one: SetAside) -> None:
    """The log names it."""
    log.warning("set aside: %s: %s", one.key, one.reason)


def note_set_aside(settings: Settings, found: Collection[SetAside]) -> None:
    """At least so many raw objects are set aside: some were looked at, and `verify` looks at all of them."""
    objects = len({one.key for one in found})
    try:
        with closing(State.open(settings)) as state:
            if objects > (state.set_aside() or 0):
                state.note_set_aside(objects)
    except StateUnavailable as error:
        log.warning("not counted: %d raw objects set aside: %s", objects, error)
