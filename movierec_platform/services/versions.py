"""What the lake knows of each version of the similarity: how it was learned and judged, and when readers were given it.

Three small tables. What they say of a version outlives its edges, of which the lake keeps the newest few.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from movierec_platform.adapters.graph_similarity import Publication
from movierec_platform.adapters.lake import Lake
from movierec_platform.domain.tables import EVALUATION, LEARNED, PUBLICATION
from movierec_platform.errors import NotFound

if TYPE_CHECKING:
    from movierec_platform.domain.similarity import Edges

EDGES = "similarity"
VERSIONS = "similarity_versions"
EVALUATIONS = "evaluations"
PUBLICATIONS = "publications"
EDGE = ("source_id", "target_id", "score", "rank", "support")

_JSON = ("protocol", "models", "rules")


@dataclass(frozen=True, slots=True)
class Learned:
    """How a version came to be."""

    version: str
    made_at_ms: int
    parameters: Mapping[str, Any]
    """Fields of SimilarityParameters."""
    edges: int
    movies: int
    pairs: int
    """Visible (user, movie) pairs that it was learned from."""
    interactions: int
    """Pairs of the lake then, visible or not."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The last evaluation of a version, and the gate's verdict on it."""

    version: str
    evaluated_at_ms: int
    published: str | None
    """The version that readers used then, beside which it was judged."""
    passed: bool
    reason: str
    users: int
    """Test users."""
    ndcg: float | None
    """NDCG@10 of its parameters learned without the test; None: too few users, nothing was scored."""
    ndcg_low: float | None
    ndcg_high: float | None
    """Its 95 % interval."""
    protocol: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]
    """By model and metric: value, low, high."""
    rules: Sequence[Mapping[str, Any]]
    """Fields of Finding."""


@dataclass(frozen=True, slots=True)
class Standing:
    """All that is known of one version."""

    version: str
    held: bool
    """The lake has its edges."""
    pointer: str | None
    """published, previous or None"""
    learned: Learned | None
    evaluated: Evaluated | None
    published: tuple[Publication, ...]
    """Each time that it was, the latest last."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def held_versions(lake: Lake) -> list[str]:
    """Versions whose edges the lake has, the newest last."""
    return lake.partitions(EDGES, "version")


def edge_batches(lake: Lake, version: str) -> Iterator[pa.RecordBatch]:
    """The edges of a version, columns EDGE, in no order."""
    return lake.batches(EDGES, columns=EDGE, where=ds.field("version") == version)


def edges_of(lake: Lake, version: str) -> "Edges":
    """The edges of a version, as they were learned: by target, then by rank."""
    # It brings numba, for which who only asks how the versions stand has no use.
    from movierec_platform.domain.similarity import Edges

    rows = lake.read(EDGES, columns=EDGE, filters=[("version", "=", version)])
    rows = rows.sort_by([("target_id", "ascending"), ("rank", "ascending")])
    source, target, score, rank, support = (rows[name].to_numpy() for name in EDGE)
    return Edges(source, target, score, rank.astype(np.int32), support)


def record_learned(lake: Lake, learned: Learned) -> None:
    """The lake tells how this version was learned; once told, it stays."""
    if learned.version not in lake.partitions(VERSIONS, "version"):
        row = {**asdict(learned), "parameters": json.dumps(dict(learned.parameters))}
        lake.write(VERSIONS, pa.Table.from_pylist([row], LEARNED), partition=("version", learned.version))


def record_evaluated(lake: Lake, evaluated: Evaluated) -> Evaluated:
    """The lake tells how this version was judged last; returns what it tells. The same again writes nothing."""
    before = evaluation_of(lake, evaluated.version)
    if before is not None and _row(before) | {"evaluated_at_ms": 0} == _row(evaluated) | {"evaluated_at_ms": 0}:
        return before
    rows = pa.Table.from_pylist([_row(evaluated)], EVALUATION)
    lake.write(EVALUATIONS, rows, partition=("version", evaluated.version))
    return evaluated


def record_published(lake: Lake, before: Sequence[Publication], publication: Publication) -> list[Publication]:
    """The lake tells of these moves of the pointer and then of this one; returns what it tells.

    For one publisher at a time: the table is replaced.
    """
    if publication in before:
        return [*before]
    rows = [{**asdict(one), "number": number} for number, one in enumerate((*before, publication), 1)]
    lake.write(PUBLICATIONS, pa.Table.from_pylist(rows, PUBLICATION))
    return [*before, publication]


def learned_of(lake: Lake, version: str) -> Learned | None:
    """How this version was learned; None for one that nobody recorded."""
    return next((one for one in _learned(lake) if one.version == version), None)


def evaluation_of(lake: Lake, version: str) -> Evaluated | None:
    """How this version was judged last; None if it never was."""
    return next((one for one in evaluations(lake) if one.version == version), None)


def evaluations(lake: Lake) -> list[Evaluated]:
    """The last evaluation of each version, the newest version last."""
    if not lake.exists(EVALUATIONS):
        return []
    rows = lake.read(EVALUATIONS, EVALUATION.names).sort_by("version").to_pylist()
    return [Evaluated(**{**row, **{name: json.loads(row[name]) for name in _JSON}}) for row in rows]


def publications(lake: Lake) -> list[Publication]:
    """Every move of the pointer, the latest last."""
    if not lake.exists(PUBLICATIONS):
        return []
    rows = lake.read(PUBLICATIONS, PUBLICATION.names)
    # Without numbers, as the release before wrote them, by their times.
    in_order = rows.sort_by([("number", "ascending"), ("published_at_ms", "ascending")])
    return [Publication(**row) for row in in_order.drop_columns("number").to_pylist()]


def standings(lake: Lake, pointer: Publication | None) -> list[Standing]:
    """All versions of which the lake has edges, and those that the pointer names, the newest last."""
    held = held_versions(lake)
    marks = {} if pointer is None else {pointer.previous: "previous", pointer.version: "published"}
    learned = {one.version: one for one in _learned(lake)}
    evaluated = {one.version: one for one in evaluations(lake)}
    moves = publications(lake)
    return [
        Standing(
            version=name,
            held=name in held,
            pointer=marks.get(name),
            learned=learned.get(name),
            evaluated=evaluated.get(name),
            published=tuple(one for one in moves if one.version == name),
        )
        for name in sorted({*held, *(mark for mark in marks if mark)})
    ]


def require_held(lake: Lake, version: str) -> str:
    """The one version that the lake holds whose name begins so. NotFound, with those that it holds, else."""
    held = held_versions(lake)
    found = [version] if version in held else [one for one in held if version and version in one]
    if len(found) == 1:
        return found[0]
    choice = f"it holds {', '.join(held)}" if held else "it holds none: `movierec nightly` makes one"
    known = {one.version for one in _learned(lake)} | {one.version for one in publications(lake)}
    what = "holds no similarity" if not found else f"holds {len(found)} similarities like"
    gone = " any more" if version in known else ""
    raise NotFound(f"the lake {what} {version}{gone}; {choice}")


def _learned(lake: Lake) -> list[Learned]:
    if not lake.exists(VERSIONS):
        return []
    rows = lake.read(VERSIONS, LEARNED.names).to_pylist()
    return [Learned(**{**row, "parameters": json.loads(row["parameters"])}) for row in rows]


def _row(evaluated: Evaluated) -> dict[str, Any]:
    row = asdict(evaluated)
    return row | {name: json.dumps(row[name]) for name in _JSON}
