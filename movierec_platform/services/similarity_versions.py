"""What a person does with the versions of the similarity: look at them, publish one, go back to one."""

from collections.abc import Callable

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.config import Settings
from movierec_platform.errors import CheckFailed, NotFound
from movierec_platform.services.judge import JudgePolicy, judged
from movierec_platform.services.publish import Published, publish_version, publishing, roll_back
from movierec_platform.services.turns import writing_in_bulk
from movierec_platform.services.versions import Standing, require_held, standings

WAIT_S = 10.0
"""Who waits at a terminal is told soon that another run is publishing."""

Progress = Callable[[str, int, int], None]
"""Told (what is done, how much of it, of how much)."""


def list_versions(settings: Settings) -> list[Standing]:
    """Every version that the lake holds or the pointer names, the newest first."""
    with Graph.open(settings) as graph:
        return standings(Lake(settings), graph.publication())[::-1]


def show_version(settings: Settings, name: str) -> Standing:
    """The one version whose name has this in it. NotFound, with those that there are, else."""
    known = list_versions(settings)
    found = [one for one in known if name in one.version]
    if len(found) != 1:
        choice = ", ".join(one.version for one in known) or "none: `movierec nightly` makes one"
        raise NotFound(f"{len(found) or 'no'} versions of the similarity have {name} in their name; there are {choice}")
    return found[0]


def publish_named(
    settings: Settings, name: str, waived: str | None, actor: str, now_ms: int, progress: Progress
) -> Published:
    """Readers are served this version of the lake, if the gate passes it or somebody says why it need not.

    CheckFailed with the gate's reason else. The verdict that the lake keeps counts, if it was reached beside what
    readers use now.
    """
    with writing_in_bulk(settings, wait_s=WAIT_S), publishing(settings, WAIT_S), Graph.open(settings) as graph:
        lake = Lake(settings)
        version = require_held(lake, name)
        evaluated = judged(lake, graph, version, JudgePolicy.of(settings), now_ms, progress)
        why = f"published by {actor}"
        if not evaluated.passed:
            if not waived:
                raise CheckFailed(
                    f"similarity {version} is blocked by the gate: {evaluated.reason} (--waive REASON publishes it "
                    "all the same)"
                )
            why += f", against the gate: {waived}"
        return publish_version(lake, graph, version, now_ms, why, lambda done, total: progress("edges", done, total))


def roll_back_named(settings: Settings, name: str | None, actor: str, now_ms: int, progress: Progress) -> Published:
    """Readers are served this version again, or without a name the one before the published: see `roll_back`."""
    with writing_in_bulk(settings, wait_s=WAIT_S), publishing(settings, WAIT_S), Graph.open(settings) as graph:
        lake = Lake(settings)
        version = None if name is None else require_held(lake, name)
        why = f"rolled back by {actor}"
        return roll_back(lake, graph, version, now_ms, why, lambda done, total: progress("edges", done, total))
