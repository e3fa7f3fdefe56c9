"""A self-hosted movie recommender: ratings stream into a graph, a nightly batch learns from all of them.

Follow a rating: `api` lands it (S3 object + raw queue), `defs.stream` drains the queues through the quality gate into
the graph, `defs.batch` loads, folds and learns the movie similarity, and `api` serves recommendations from both.
`cli` is the way in for people; `local` runs everything on a machine that has nothing but Python.

Imports point one way: ``cli -> api | defs | local -> services -> adapters -> domain -> errors``. `domain` is pure:
no clock, no network, no framework. `config` is the only reader of the environment.
"""

__version__ = "0.1.0"
