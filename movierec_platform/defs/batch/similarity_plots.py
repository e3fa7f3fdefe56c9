"""Pictures and tables of how versions of the similarity do, as Markdown that Dagster shows."""

import base64
import io
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from movierec_platform.domain.evaluation.metrics import LABELS
from movierec_platform.services.judge import Judged
from movierec_platform.services.similarity import made_at_ms
from movierec_platform.services.versions import Evaluated

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # imported where it is used: a run without pictures does without

SHOWN_VERSIONS = 30
DPI = 80


def metrics_table(evaluated: Evaluated) -> str:
    """A row for each model, a column for each metric; where nobody was tested, why."""
    if not evaluated.models:
        return f"nothing was measured: {evaluated.reason}"
    names = [name for name in LABELS if any(name in metrics for metrics in evaluated.models.values())]
    rows = [["model", *(LABELS[name] for name in names)], ["---", *("---:" for _ in names)]]
    rows += [
        [model, *(f"{metrics[name]['value']:.4f}" if name in metrics else "" for name in names)]
        for model, metrics in evaluated.models.items()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def plots(judged: Judged, history: Sequence[Evaluated]) -> Mapping[str, str]:
    """An image for each: NDCG over the versions, NDCG by model, coverage against popularity; none without figures."""
    from movierec_platform.services.evaluation_plots import (
        coverage_against_popularity,
        ndcg_by_model,
        ndcg_over_versions,
    )

    pictures = {}
    measured = [one for one in history if one.ndcg is not None and one.ndcg_low is not None][-SHOWN_VERSIONS:]
    if measured:
        points = [
            (
                time.strftime("%m-%d %H:%M", time.gmtime(made_at_ms(one.version) / 1000)),
                one.ndcg or 0.0,
                one.ndcg_low or 0.0,
                one.ndcg_high or 0.0,
                one.passed,
            )
            for one in measured
        ]
        pictures["quality_over_versions"] = _markdown(ndcg_over_versions(points), "NDCG over the versions")
    if judged.evaluation is not None:
        pictures["quality_by_model"] = _markdown(ndcg_by_model(judged.evaluation), "NDCG by model")
        picture = coverage_against_popularity(judged.evaluation)
        pictures["coverage_against_popularity"] = _markdown(picture, "coverage against popularity bias")
    return pictures


def _markdown(figure: "Figure", title: str) -> str:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=DPI, transparent=True)
    return f"![{title}](data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()})"
