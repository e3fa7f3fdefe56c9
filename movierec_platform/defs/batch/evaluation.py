"""Whether the newest similarity is good enough for readers."""

import time
from collections.abc import Iterator

import dagster as dg

from movierec_platform.defs.batch.resources import GraphResource, LakeResource
from movierec_platform.defs.batch.retries import retried
from movierec_platform.defs.settings import SettingsResource
from movierec_platform.errors import CheckFailed
from movierec_platform.services.footprint import peak_memory_bytes
from movierec_platform.services.publish import drop_old_versions, publishing
from movierec_platform.services.versions import Evaluated, evaluations, learned_of

PLOTTED = ("ndcg", "coverage")
"""Metrics, by their names in `metrics.LABELS`."""


@dg.asset(
    deps=["movie_similarity"],
    check_specs=[
        dg.AssetCheckSpec(
            "publishable",
            asset="similarity_evaluation",
            blocking=True,
            description="The newest similarity is better than popularity, and not worse than what readers have.",
        )
    ],
    group_name="similarity",
    kinds={"delta", "numba"},
)
@retried
def similarity_evaluation(
    context: dg.AssetExecutionContext, settings: SettingsResource, lake: LakeResource, graph: GraphResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """One row per version: its last test beside the version that readers had then, and the gate's verdict on it."""
    # Compiled code, which the other runs need not wait for.
    from movierec_platform.defs.batch.similarity_plots import metrics_table, plots
    from movierec_platform.services.judge import JudgePolicy, judge_newest

    started, cpu_s = time.monotonic(), time.process_time()
    defaults, opened = settings.current(), lake.open()
    with graph.open() as opened_graph:
        tested = judge_newest(
            opened,
            opened_graph,
            JudgePolicy.of(defaults),
            now_ms=time.time_ns() // 1_000_000,
            progress=lambda what, done, total: context.log.info(f"{what}: {done} of {total} models"),
        )
        with publishing(defaults, on_wait=context.log.info):
            dropped = drop_old_versions(opened, opened_graph, defaults.similarity_kept)
    judged = tested.evaluated
    learned = learned_of(opened, judged.version)
    yield dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(history := evaluations(opened)),
            "seconds": round(time.monotonic() - started, 3),
            "cpu_seconds": round(time.process_time() - cpu_s, 3),
            "peak_memory_mb": round(peak_memory_bytes() / 1e6),
            "version": judged.version,
            "beside": judged.published or "none",
            "parameters": dg.MetadataValue.json(dict(learned.parameters) if learned else {}),
            "test_users": judged.users,
            "split": judged.protocol["split"],
            "verdict": judged.reason,
            **_scalars(judged),
            "dropped": ", ".join(dropped) or "none",
            "metrics": dg.MetadataValue.md(metrics_table(judged)),
            **{name: dg.MetadataValue.md(image) for name, image in plots(tested, history).items()},
        }
    )
    yield dg.AssetCheckResult(
        passed=judged.passed,
        check_name="publishable",
        description=judged.reason,
        metadata={
            rule["check"]: f"{'passed' if rule['passed'] else 'failed'}: {rule['detail']}" for rule in judged.rules
        },
    )
    if not judged.passed:
        raise CheckFailed(f"similarity {judged.version} is blocked by the gate, and not published: {judged.reason}")


def _scalars(judged: Evaluated) -> dict[str, float]:
    """Figures that Dagster plots over the versions: each of PLOTTED by model."""
    return {
        f"{metric}/{model}": figures[metric]["value"]
        for metric in PLOTTED
        for model, figures in judged.models.items()
        if metric in figures
    }
