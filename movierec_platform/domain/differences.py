"""A pair that is not the same in lake and graph, and what that may mean."""

from dataclasses import dataclass
from typing import Literal

from movierec_platform.domain.registers import UNSEEN, Pair, PairState

Kind = Literal["missing", "extra", "altered", "doubled"]
KINDS: tuple[Kind, ...] = ("missing", "extra", "altered", "doubled")
Cause = Literal["behind", "wrong"]


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge of a pair as it stands in the graph."""

    type: Literal["VIO", "RETIRO"]
    state: PairState

    @property
    def sound(self) -> bool:
        """Whether ingest can have written it: registers in normal form, and the edge that goes with them."""
        return self.type == edge_type(self.state) and UNSEEN.merged_with(self.state) == self.state


@dataclass(frozen=True, slots=True)
class Difference:
    """A pair that is not the same in both; `lake` is None, or `edges` empty, where one side does not have it."""

    user_id: int
    movie_id: int
    lake: PairState | None
    edges: tuple[Edge, ...]

    @property
    def pair(self) -> Pair:
        return self.user_id, self.movie_id

    @property
    def kind(self) -> Kind:
        """`missing` from the graph, `extra` in it, `doubled` (more than one edge), or else `altered`."""
        if not self.edges:
            return "missing"
        if len(self.edges) > 1:
            return "doubled"
        return "extra" if self.lake is None else "altered"

    @property
    def cause(self) -> Cause:
        """`behind` if the graph lacks only what a landed event will merge into it, perhaps one that is under way.

        Anything else is `wrong`: the graph has what no event and no import ever said, and no event mends that.
        """
        if self.lake is None or len(self.edges) > 1 or not all(edge.sound for edge in self.edges):
            return "wrong"
        before = self.edges[0].state if self.edges else UNSEEN
        return "behind" if before.merged_with(self.lake) == self.lake else "wrong"

    def may_be_of_events_until(self, latest_ms: int) -> bool:
        """Whether the graph has here what the lake has not, and what an event may have said that claims a time no later
        than this (epoch ms)."""
        known = self.lake or UNSEEN
        return any(
            edge.sound and known.merged_with(edge.state) != known and min(_times(edge.state), default=0) <= latest_ms
            for edge in self.edges
        )

    def settled_by(self, edges: tuple[Edge, ...]) -> bool:
        """Whether a pair that was behind has caught up: its edges now hold all that the lake had, and perhaps more."""
        if self.lake is None or len(edges) != 1 or not edges[0].sound:
            return False
        return edges[0].state.merged_with(self.lake) == edges[0].state


def edge_type(state: PairState) -> Literal["VIO", "RETIRO"]:
    """The edge that a pair in this state has."""
    return "VIO" if state.visible else "RETIRO"


def _times(state: PairState) -> list[int]:
    """Those of the registers that are set."""
    return [at_ms for at_ms in (state.rated_at_ms, state.seen_at_ms, state.retracted_at_ms) if at_ms is not None]
