"""Whether a version of the similarity is good enough for readers: rules over how well it and others foretell a test.

Two kinds of figures never mix. A *learned* one is that of parameters, learned on the training part only: what they are
worth. A *stored* one is that of edges as they are, which were learned from the test too: too good to tell what they are
worth, but edges that score less than their parameters promise, or than those that they are to replace, are broken.
"""

from dataclasses import dataclass

from movierec_platform.domain.findings import Finding, refusals

RULES = (
    "enough_test_users",
    "above_popularity",
    "not_worse_than_published",
    "edges_as_learned",
    "edges_not_worse_than_published",
)


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What the rules allow."""

    least_share: float = 0.98
    """Of a figure, the part that must be reached where one is not to be worse than another; in (0, 1]."""
    least_users: int = 20
    """Test users, fewer of whom tell nothing."""


@dataclass(frozen=True, slots=True)
class Scores:
    """NDCG@10, each in [0, 1], of several models on one test."""

    users: int
    """Whom it was tested on."""
    popularity: float
    learned: float
    """The candidate's parameters."""
    stored: float
    """The candidate's edges."""
    published_learned: float | None = None
    """The published version's parameters; None: nothing is published, or they are not known."""
    published_stored: float | None = None
    """The published version's edges; None: nothing is published, or the lake has lost them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the candidate may be published, and why."""

    passed: bool
    reason: str
    """One sentence with the figures."""
    findings: tuple[Finding, ...]
    """What each rule found that could be applied, in the order of RULES."""


def judge(scores: Scores, published: str | None, policy: GatePolicy) -> Verdict:
    """The verdict on a candidate while the version `published` is what readers use; None: none is.

    On a test of too few users no rule but the first is applied. Then the candidate passes only where readers have
    nothing better.
    """
    if scores.users < policy.least_users:
        return _not_judged(scores.users, published, policy)
    share = policy.least_share
    findings = [
        Finding("enough_test_users", True, f"{scores.users} test users; {policy.least_users} are enough"),
        Finding(
            "above_popularity",
            scores.learned > scores.popularity,
            f"its parameters, learned without the test, reach NDCG@10 {scores.learned:.4f}; more than popularity's "
            f"{scores.popularity:.4f} is needed",
        ),
    ]
    if scores.published_learned is not None:
        findings.append(
            _at_least(
                "not_worse_than_published",
                f"its parameters reach NDCG@10 {scores.learned:.4f}",
                scores.learned,
                f"what those of the published {published} reach",
                scores.published_learned,
                share,
            )
        )
    findings.append(
        _at_least(
            "edges_as_learned",
            f"its stored edges, which know the test, reach NDCG@10 {scores.stored:.4f}",
            scores.stored,
            "what its parameters reach without",
            scores.learned,
            share,
        )
    )
    if scores.published_stored is not None:
        findings.append(
            _at_least(
                "edges_not_worse_than_published",
                f"its stored edges reach NDCG@10 {scores.stored:.4f}",
                scores.stored,
                f"what those of the published {published} reach",
                scores.published_stored,
                share,
            )
        )
    failed = refusals(findings)
    if failed:
        return Verdict(False, "; ".join(f"{one.check}: {one.detail}" for one in failed), tuple(findings))
    beside = f", beside the published {published}" if published else ""
    reason = f"NDCG@10 {scores.learned:.4f} over {scores.users} test users, popularity {scores.popularity:.4f}{beside}"
    return Verdict(True, reason, tuple(findings))


def _not_judged(users: int, published: str | None, policy: GatePolicy) -> Verdict:
    why = f"it cannot be judged: {users} test users, and {policy.least_users} are needed"
    if published is None:
        finding = Finding("enough_test_users", False, why, blocking=False)
        return Verdict(True, f"{why}; nothing is published yet, and any similarity is better than none", (finding,))
    finding = Finding("enough_test_users", False, f"{why}, so that the published {published} stays")
    return Verdict(False, f"enough_test_users: {finding.detail}", (finding,))


def _at_least(check: str, said: str, reached: float, of_what: str, other: float, share: float) -> Finding:
    needed = share * other
    return Finding(
        check, reached >= needed, f"{said}; at least {needed:.4f} is needed, {share:g} x {of_what} ({other:.4f})"
    )
