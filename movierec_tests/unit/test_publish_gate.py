"""The rules of the publish gate, as tables of scores in and verdicts out."""

import pytest

from movierec_platform.domain.publish_gate import RULES, GatePolicy, Scores, Verdict, judge

POLICY = GatePolicy(least_share=0.98, least_users=20)
GOOD = {"users": 100, "popularity": 0.20, "learned": 0.40, "stored": 0.50}
BESIDE = {**GOOD, "published_learned": 0.40, "published_stored": 0.50}


def outcome(verdict: Verdict) -> dict[str, bool]:
    return {one.check: one.passed for one in verdict.findings}


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({}, []),
        ({"learned": 0.392}, []),
        ({"learned": 0.391}, ["not_worse_than_published"]),
        ({"popularity": 0.3999}, []),
        ({"popularity": 0.40}, ["above_popularity"]),
        ({"stored": 0.49}, []),
        ({"stored": 0.489}, ["edges_not_worse_than_published"]),
        ({"stored": 0.391}, ["edges_as_learned", "edges_not_worse_than_published"]),
        ({"stored": 0.0}, ["edges_as_learned", "edges_not_worse_than_published"]),
        ({"published_stored": 0.2, "stored": 0.392}, []),
        ({"published_stored": 0.2, "stored": 0.391}, ["edges_as_learned"]),
        ({"learned": 0.1}, ["above_popularity", "not_worse_than_published"]),
        ({"users": 20}, []),
    ],
)
def test_beside_a_published_version(change: dict[str, float], failed: list[str]) -> None:
    verdict = judge(Scores(**{**BESIDE, **change}), "v1", POLICY)
    assert outcome(verdict) == {rule: rule not in failed for rule in RULES}
    assert verdict.passed == (not failed)
    assert all(rule in verdict.reason for rule in failed)


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({}, []),
        ({"learned": 0.2}, ["above_popularity"]),
        ({"stored": 0.391}, ["edges_as_learned"]),
        ({"learned": 0.0, "popularity": 0.0, "stored": 0.0}, ["above_popularity"]),
    ],
)
def test_with_nothing_published_only_the_candidate_itself_is_judged(
    change: dict[str, float], failed: list[str]
) -> None:
    verdict = judge(Scores(**{**GOOD, **change}), None, POLICY)
    rules = ("enough_test_users", "above_popularity", "edges_as_learned")
    assert outcome(verdict) == {rule: rule not in failed for rule in rules}
    assert verdict.passed == (not failed)


@pytest.mark.parametrize(
    ("published", "passed", "reason"),
    [
        (None, True, "19 test users, and 20 are needed; nothing is published yet, and any similarity is better"),
        (
            "v1",
            False,
            "enough_test_users: it cannot be judged: 19 test users, and 20 are needed, so that the published v1",
        ),
    ],
)
def test_a_test_of_too_few_users_says_nothing_about_quality(published: str | None, passed: bool, reason: str) -> None:
    verdict = judge(Scores(**{**BESIDE, "users": 19, "learned": 0.9}), published, POLICY)
    assert (verdict.passed, outcome(verdict)) == (passed, {"enough_test_users": False})
    assert reason in verdict.reason


def test_what_the_lake_has_lost_of_the_published_version_is_left_out() -> None:
    verdict = judge(Scores(**GOOD, published_learned=0.41), "v1", POLICY)
    assert (verdict.passed, outcome(verdict)["not_worse_than_published"]) == (False, False)
    assert "edges_not_worse_than_published" not in outcome(verdict)
    assert "0.4000; at least 0.4018 is needed, 0.98 x what those of the published v1 reach (0.4100)" in verdict.reason
