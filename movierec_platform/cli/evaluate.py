"""`movierec evaluate`: how good the recommendations are, and parameters that make them better."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from movierec_platform.cli.invocation import HomeOption, JsonOption, settings_of
from movierec_platform.cli.printing import err, moment, out, print_json, show
from movierec_platform.domain.evaluation.protocol import Protocol, SplitKind

if TYPE_CHECKING:
    from movierec_platform.domain.evaluation.intervals import Comparison
    from movierec_platform.domain.evaluation.results import Evaluation
    from movierec_platform.services.evaluate import Learned


def evaluate(
    split: Annotated[
        SplitKind, typer.Option(help="Test on what came after a moment, or on interactions drawn at random.")
    ] = "temporal",
    k: Annotated[int, typer.Option("--k", min=1, max=1_000, help="Length of the recommended lists.")] = 10,
    test_share: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of the interactions that is the test.")
    ] = 0.2,
    relevant_from: Annotated[
        float | None, typer.Option(min=0.5, max=5, help="Only movies rated so or higher are relevant; else all seen.")
    ] = None,
    users: Annotated[int, typer.Option(min=1, help="Test users at most; of more, a sample.")] = 5_000,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal numbers.")] = 0,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report with plots to this file.")] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Search for better parameters instead, and write what is found to a file.")
    ] = False,
    minutes: Annotated[float, typer.Option(min=0.01, help="How long --tune searches.")] = 10.0,
    trials: Annotated[int | None, typer.Option(min=1, help="How many parameters --tune tries at most.")] = None,
    suggestion: Annotated[
        Path | None, typer.Option(help="File for what --tune suggests; by default one under the home.")
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Measure how good the recommendations are: learn from a part of the lake's interactions, test on the rest.

    Compares the configured similarity with that which readers have, if it is another, with the other methods, with
    popularity and with co-watch counts. Nothing is published or configured by it.

    --tune searches the parameters that matter on a validation part, compares the best with the configured ones on the
    test, and writes it as lines for .env, with all trials beside it as JSON.

    --json: protocol, users, newcomers, candidates, train_interactions, test_interactions, catalogue, cut_ms, models
    (each metric's value, low and high), by_history_length, comparisons (of the configured model with each other).
    With --tune: configured, suggested, variables, comparison, test, validation_users, trials.
    """
    from movierec_platform.adapters.lake import Lake
    from movierec_platform.local.progress import phases
    from movierec_platform.services import evaluate as evaluation_of
    from movierec_platform.services.judge import published_model

    settings = settings_of(home, "lake")
    protocol = Protocol(split, k, test_share, seed, users, relevant_from)
    lake = Lake(settings)
    interactions = evaluation_of.read_visible(lake)
    configured = evaluation_of.configured_model(settings)
    if tune:
        path = suggestion or settings.home / "suggestions" / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.env"
        _tune(interactions, configured, protocol, minutes, trials, path, as_json)
        return
    models = evaluation_of.compared_models(configured, published_model(lake, settings.query_weight_power))
    with phases(err) as advance:
        found = evaluation_of.evaluate(interactions, lake.read("movies"), models, protocol, advance)
    reference = next(iter(models))
    if report is not None:
        from movierec_platform.services.evaluation_report import write_report

        write_report(report, found, models, reference)
    if as_json:
        comparisons = {name: found.compare(reference, name).as_json() for name in models if name != reference}
        print_json({**found.as_json(), "comparisons": comparisons})
        return
    _print_evaluation(found, reference)
    if report is not None:
        out.print(f"report: {report}")


def _tune(
    interactions: Any,
    configured: "Learned",
    protocol: Protocol,
    minutes: float,
    trials: int | None,
    path: Path,
    as_json: bool,
) -> None:
    from movierec_platform.local.progress import progress
    from movierec_platform.services.tune import Trial, searched_values, tune, write_suggestion

    best = -1.0
    with progress(err, "seconds of tuning", round(60 * minutes)) as advance:

        def on_trial(done: Sequence[Trial], seconds: float) -> None:
            nonlocal best
            advance(min(round(seconds), round(60 * minutes)))
            if done[-1].ndcg > best:
                best = done[-1].ndcg
                err.print(f"trial {len(done)}: NDCG@{protocol.k} {best:.4f} on the validation part")

        suggestion = tune(interactions, configured, protocol, minutes, trials, on_trial)
    trials_path = write_suggestion(path, suggestion)
    if as_json:
        print_json(suggestion.as_json())
        return
    table = Table("", "configured", "suggested")
    configured_values = searched_values(suggestion.configured).values()
    for (variable, text), configured_value in zip(suggestion.variables().items(), configured_values, strict=True):
        table.add_row(variable, f"{configured_value:g}", text)
    ndcgs = [result.metrics["ndcg"] for result in suggestion.test.models.values()]
    table.add_row(
        f"NDCG@{protocol.k} on the test", *(f"{one.value:.4f} ({one.low:.4f}-{one.high:.4f})" for one in ndcgs)
    )
    show(table)
    out.print(
        f"{len(suggestion.trials)} trials on {suggestion.validation_users} users. Suggested beside configured, on the "
        f"test: {_difference(suggestion.comparison)}: {_which_is_better(suggestion.comparison)}"
    )
    out.print(f"suggestion: {path}, trials: {trials_path}; nothing was configured")


def _print_evaluation(found: "Evaluation", reference: str) -> None:
    from movierec_platform.domain.evaluation.metrics import LABELS
    from movierec_platform.services.evaluation_report import cell

    title = f"at {found.protocol.k}, with 95% intervals"
    table = Table("", *found.models, title=title, title_justify="left", show_lines=True)
    for metric, label in LABELS.items():
        cells = (cell(result.metrics[metric]) for result in found.models.values())
        table.add_row(label, *("\n".join(parts).rstrip() for parts in cells))
    show(table)
    since = "" if found.cut_ms is None else f" from {moment(found.cut_ms)} on, {found.newcomers} of them newcomers,"
    out.print(
        f"{found.users} users of {found.candidates} tested{since} on {found.test_interactions} interactions; "
        f"{found.train_interactions} to learn from, {found.catalogue} movies"
    )
    for name in found.models:
        if name != reference:
            out.print(f"NDCG of {reference} beside {name}: {_difference(found.compare(reference, name))}")


def _which_is_better(comparison: "Comparison") -> str:
    low, high = comparison.difference.low, comparison.difference.high
    if low is not None and low > 0:
        return "the suggested one is better"
    if high is not None and high < 0:
        return "the suggested one is worse"
    return "neither is shown to be better"


def _difference(comparison: "Comparison") -> str:
    one = comparison.difference
    return f"{one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f}, p = {comparison.p_value:.3f})"
