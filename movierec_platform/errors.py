"""What can go wrong, as types: "may this be tried again?" is answered by the class, never by an `if`.

::

    MovierecError              everything this project raises on purpose; str() is a sentence for a person
    ├── Terminal               trying again gives the same answer
    │   ├── UsageError         what the caller gave is wrong                            (CLI exit 2, HTTP 4xx)
    │   │   ├── TooLarge       it is bigger than allowed                                            (HTTP 413)
    │   │   ├── NotFound       there is nothing by that name                                        (HTTP 404)
    │   │   ├── ImpossibleFilter   no movie can pass the filters that it gave                       (HTTP 400)
    │   │   ├── Conflict       it is there, but in a state in which that cannot be done             (HTTP 409)
    │   │   └── NewerSchema    a newer release has changed the state database
    │   ├── CheckFailed        a check ran and its answer is no                         (CLI exit 1)
    │   │   ├── NobodyToTest       no user has both a history and something later to compare with
    │   │   └── PromotionRefused   rows that failed a blocking check stay out of the lake's tables
    │   ├── StackFailed        CloudFormation could not make or change what it was asked to
    │   ├── NotPublished       nothing to serve yet: load the data and run the nightly
    │   ├── MessageRefused     SQS never takes some of the messages, whoever sends them when
    │   ├── LeaseHeld          another process holds the lease
    │   └── LeaseLost          the lease is not this process's any more: it must not go on
    ├── Interrupted            by Ctrl-C, while what was begun goes on elsewhere     (CLI exit 130)
    └── Transient              a dependency does not answer; the same call may work later (CLI exit 3, HTTP 503)
        ├── LandingBusy        more events wait to be landed than fit in memory
        ├── QueueUnavailable
        ├── TopicUnavailable
        ├── ObjectStoreUnavailable
        ├── GraphUnavailable
        ├── GraphConflict      others write what this one writes
        ├── LakeUnavailable
        ├── SourceUnavailable  the server that an archive is downloaded from
        ├── StateUnavailable
        ├── SparkUnavailable
        ├── ServerFailed       a server of the local stack died or did not become ready
        ├── DagsterUnavailable
        ├── NoStack            no stack runs here, and no setting names a server
        ├── OtherStack         another stack answers at an address of ours
        └── CloudFormationUnavailable
"""

from collections.abc import Sequence
from typing import Any


class MovierecError(Exception):
    """Everything that this project raises on purpose."""


class Terminal(MovierecError):
    """Trying again gives the same answer."""


class UsageError(Terminal):
    """What the caller gave is wrong."""


class TooLarge(UsageError):
    """What the caller gave is bigger than allowed."""


class NotFound(UsageError):
    """There is nothing by the name that the caller gave."""


class ImpossibleFilter(UsageError):
    """No movie can pass the filters that the caller gave."""


class Conflict(UsageError):
    """What the caller names is in a state in which that cannot be done to it."""


class NewerSchema(UsageError):
    """A newer release has changed the state database, in ways that this one does not know."""


class CheckFailed(Terminal):
    """A check ran and its answer is no."""


class PromotionRefused(CheckFailed):
    """Rows that failed a blocking check stay out of the lake's tables.

    `findings` has what every check found, as `domain.findings.Finding`.
    """

    def __init__(self, message: str, findings: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.findings = findings


class NobodyToTest(CheckFailed):
    """An evaluation's split leaves no user with both a history and something to compare recommendations with."""


class StackFailed(Terminal):
    """CloudFormation could not make or change what it was asked to, and says why."""


class NotPublished(Terminal):
    """No similarity has been published yet."""


class MessageRefused(Terminal):
    """SQS never takes the messages with these `bodies`; the others that were sent with them are in the queue."""

    def __init__(self, message: str, bodies: Sequence[str]) -> None:
        super().__init__(message)
        self.bodies = bodies


class LeaseHeld(Terminal):
    """Another process holds the lease."""


class LeaseLost(Terminal):
    """The lease is not this process's any more: it must not go on."""


class Interrupted(MovierecError):
    """Ctrl-C ended the waiting, and not what is waited for: the text says what goes on, and where."""


class Transient(MovierecError):
    """A dependency does not answer; the same call may work later."""


class LandingBusy(Transient):
    """More events wait to be landed than fit in memory."""


class QueueUnavailable(Transient):
    """SQS does not answer, or refused some entries of a batch."""


class TopicUnavailable(Transient):
    """SNS does not answer, or refused."""


class ObjectStoreUnavailable(Transient):
    """S3 does not answer."""


class GraphUnavailable(Transient):
    """The graph does not answer over Bolt."""


class GraphConflict(Transient):
    """Others write the same part of the graph, and did not let this one have its turn."""


class LakeUnavailable(Transient):
    """The lake's tables cannot be read or written."""


class NothingLoaded(LakeUnavailable):
    """A table of the lake was never written: a load brings it, waiting does not."""


class SourceUnavailable(Transient):
    """The server that an archive is downloaded from does not answer, or stopped halfway."""


class StateUnavailable(Transient):
    """The state database cannot be read or written."""


class SparkUnavailable(Transient):
    """Spark's master does not answer, or a stage failed for good."""


class ServerFailed(Transient):
    """A server of the local stack died or did not become ready in time."""


class DagsterUnavailable(Transient):
    """Dagster's webserver does not answer."""


class NoStack(Transient):
    """No stack runs in this home, and no setting names the server that is needed."""


class OtherStack(Transient):
    """What answers at an address of this stack belongs to another one."""


class CloudFormationUnavailable(Transient):
    """CloudFormation does not answer."""
