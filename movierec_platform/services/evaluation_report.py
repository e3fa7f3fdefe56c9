"""The report of an evaluation: one HTML file that needs no other, for light and dark screens."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from movierec_platform.domain.evaluation import metrics
from movierec_platform.domain.evaluation.intervals import DRAWS, Estimate
from movierec_platform.domain.evaluation.metrics import ACCURACY, LABELS
from movierec_platform.domain.evaluation.protocol import Protocol
from movierec_platform.domain.evaluation.results import Evaluation
from movierec_platform.domain.evaluation.splits import NEWCOMER_QUERY_SHARE
from movierec_platform.services.evaluate import Learned, Model
from movierec_platform.services.evaluation_plots import (
    coverage_against_popularity,
    metric_by_history_length,
    ndcg_by_model,
    paired_differences,
    svg,
)


def write_report(path: Path, evaluation: Evaluation, models: Mapping[str, Model], reference: str) -> None:
    """The file holds the report; `reference` is the model that the others are compared with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report_html(evaluation, models, reference), encoding="utf-8")


def report_html(evaluation: Evaluation, models: Mapping[str, Model], reference: str) -> str:
    """The whole page. Equal evaluations give equal pages."""
    pages = Environment(
        loader=PackageLoader("movierec_platform.services", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = {
        "ndcg": ndcg_by_model(evaluation),
        "paired": paired_differences(evaluation, reference),
        "coverage": coverage_against_popularity(evaluation),
        "history": metric_by_history_length(evaluation),
    }
    others = [name for name in evaluation.models if name != reference]
    return pages.get_template("evaluation.html.j2").render(
        evaluation=evaluation,
        reference=reference,
        protocol=protocol_in_words(evaluation.protocol),
        cut=None if evaluation.cut_ms is None else _day(evaluation.cut_ms),
        labels=LABELS,
        marked=[*ACCURACY, "coverage"],
        cell=cell,
        # Drawn here, of numbers and of names that are escaped by matplotlib.
        pictures={name: Markup(svg(figure, name)) for name, figure in figures.items()},  # noqa: S704
        comparisons={name: evaluation.compare(reference, name) for name in others},
        parameters={
            name: {**asdict(model.parameters), "query_weight_power": model.query_weight_power}
            for name, model in models.items()
            if isinstance(model, Learned)
        },
        definitions=(metrics.__doc__ or "").strip(),
    )


def cell(estimate: Estimate) -> tuple[str, str]:
    """An estimate as people read it: the value, and its interval or nothing."""
    if math.isnan(estimate.value):
        return "-", ""
    digits = 2 if estimate.value >= 1 else 3
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{digits}f}", ""
    return f"{estimate.value:.{digits}f}", f"{estimate.low:.{digits}f}-{estimate.high:.{digits}f}"


def protocol_in_words(protocol: Protocol) -> str:
    """What is done, in sentences."""
    test, train = f"{protocol.test_share:.0%}", f"{1 - protocol.test_share:.0%}"
    cut = {
        "temporal": f"Models learn from what was seen before one moment; the last {test} of the interactions, from "
        "that moment on, are the test. Recommendations for a user are asked for with what they had seen before it; "
        f"for one who came later, with the first {NEWCOMER_QUERY_SHARE:.0%} of their interactions, which no model has "
        "learned from, and the rest is their test.",
        "random": f"Models learn from {train} of the interactions, drawn at random; the other {test} are the test. "
        "Recommendations for a user are asked for with what is left of their interactions.",
    }[protocol.split]
    relevant = (
        "Every movie of the test counts as relevant"
        if protocol.relevant_from is None
        else f"A movie of the test counts as relevant if it was rated {protocol.relevant_from:g} or higher"
    )
    return (
        f"{cut} All movies that the models could learn of are ranked, without those of the query, and the first "
        f"{protocol.k} are judged. {relevant}, also one that no model could learn of. At most {protocol.users:,} users "
        f"are tested. Intervals hold 95% of {DRAWS:,} bootstrap samples of these users; two models are compared on the "
        f"same samples. The seed of all that is drawn is {protocol.seed}."
    )


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
