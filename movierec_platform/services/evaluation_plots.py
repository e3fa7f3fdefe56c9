"""Pictures of an evaluation: readable on light and on dark, whatever draws them.

Lines and texts of a figure are in INK, which is as far from white as from black; `svg` lets the page choose instead.
"""

import io
import re
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from movierec_platform.domain.evaluation.metrics import LABELS
from movierec_platform.domain.evaluation.results import Evaluation

INK = "#767676"
COLOURS = ("#4c9be8", "#e8843c", "#3fae7a", "#d65a8f", "#a58ce0", "#b8a13a", "#5ab8c4", "#c96f5f")
"""Of the models, in their order; legible on white and on black."""
WIDTH_IN = 5.8


def ndcg_by_model(evaluation: Evaluation) -> Figure:
    """NDCG of each model with its interval, the best at the top."""
    colours = _colours(evaluation)
    by_ndcg = sorted(evaluation.models.values(), key=lambda result: result.metrics["ndcg"].value)
    figure, axes = _figure(0.9 + 0.42 * len(by_ndcg))
    for place, result in enumerate(by_ndcg):
        ndcg = result.metrics["ndcg"]
        axes.plot(
            [ndcg.low or 0, ndcg.high or 0], [place] * 2, color=colours[result.name], lw=3, solid_capstyle="round"
        )
        axes.plot(ndcg.value, place, "o", color=colours[result.name], ms=9)
        axes.annotate(
            f"{ndcg.value:.3f}", (ndcg.high or 0, place), (8, 0), textcoords="offset points", va="center", color=INK
        )
    axes.set_yticks(range(len(by_ndcg)), [_label(result.name) for result in by_ndcg])
    axes.set_ylim(-0.6, len(by_ndcg) - 0.4)
    axes.set_xlim(left=0)
    axes.margins(x=0.12)
    axes.set_xlabel(f"NDCG@{evaluation.protocol.k}, 95% interval")
    axes.grid(axis="x", color=INK, alpha=0.25)
    return figure


def coverage_against_popularity(evaluation: Evaluation) -> Figure:
    """Each model's catalogue coverage beside the mean popularity of what it recommends; right and low is better."""
    colours = _colours(evaluation)
    figure, axes = _figure(3.2)
    for name, result in evaluation.models.items():
        x, y = 100 * result.metrics["coverage"].value, 100 * result.metrics["popularity_bias"].value
        axes.plot(x, y, "o", ms=9, color=colours[name], label=_label(name))
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.margins(0.15)
    axes.set_xlabel("coverage: % of the catalogue that is recommended to anybody")
    axes.set_ylabel("popularity bias: % of users\nwho saw what is recommended")
    axes.grid(color=INK, alpha=0.25)
    _legend(axes)
    return figure


def metric_by_history_length(evaluation: Evaluation, metric: str = "ndcg") -> Figure:
    """A line for each model over classes of how much is known of the user, with the number of users in each."""
    classes = evaluation.by_history_length(metric)
    figure, axes = _figure(3.2)
    for name, colour in _colours(evaluation).items():
        axes.plot([means[name] for means in classes.values()], "o-", color=colour, label=_label(name), ms=5)
    axes.set_xticks(range(len(classes)), [f"{name}\n{means['users']:.0f} users" for name, means in classes.items()])
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("movies in the user's history")
    axes.set_ylabel(f"{LABELS[metric]}@{evaluation.protocol.k}")
    axes.grid(axis="y", color=INK, alpha=0.25)
    _legend(axes)
    return figure


def paired_differences(evaluation: Evaluation, reference: str) -> Figure:
    """NDCG of the reference minus that of each other model, with its interval: right of 0 the reference is better."""
    colours = _colours(evaluation)
    others = [name for name in evaluation.models if name != reference]
    figure, axes = _figure(0.9 + 0.42 * max(len(others), 1))
    for place, name in enumerate(reversed(others)):
        difference = evaluation.compare(reference, name).difference
        axes.plot([difference.low or 0, difference.high or 0], [place] * 2, color=colours[name], lw=3)
        axes.plot(difference.value, place, "o", color=colours[name], ms=9)
    axes.axvline(0, color=INK, lw=1)
    axes.set_yticks(range(len(others)), [f"over {_label(name)}" for name in reversed(others)])
    axes.set_ylim(-0.6, max(len(others), 1) - 0.4)
    axes.margins(x=0.08)
    axes.set_xlabel(f"NDCG@{evaluation.protocol.k} of {_label(reference)} minus that of the other, 95% interval")
    axes.grid(axis="x", color=INK, alpha=0.25)
    return figure


def ndcg_over_versions(points: Sequence[tuple[str, float, float, float, bool]]) -> Figure:
    """For each (label, NDCG, low, high, passed), in their order, a point with its interval; a cross if not passed."""
    figure, axes = _figure(2.8)
    for place, (_, ndcg, low, high, passed) in enumerate(points):
        colour = COLOURS[2] if passed else COLOURS[1]
        axes.plot([place] * 2, [low, high], color=colour, lw=3, solid_capstyle="round")
        axes.plot(place, ndcg, "o" if passed else "X", color=colour, ms=9)
    labels = [label for label, *_ in points]
    axes.set_xticks(range(len(points)), labels, rotation=90 if len(points) > 6 else 0, fontsize=8)
    axes.set_xlim(-0.6, len(points) - 0.4)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("version (cross: blocked)")
    axes.set_ylabel("NDCG@10 of its parameters,\n95% interval")
    axes.grid(axis="y", color=INK, alpha=0.25)
    return figure


def svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element for a page, whose text colour it takes; `name` makes its ids its own."""
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    element = file.getvalue()[file.getvalue().index("<svg") :]
    element = re.sub(r' (width|height)="[^"]*pt"', "", element, count=2)  # the page's width decides
    element = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", element)
    return element.replace(INK, "currentColor")


def _figure(height_in: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.tick_params(colors=INK, labelcolor=INK, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
    return figure, axes


def _legend(axes: Axes) -> None:
    legend = axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    legend.set_in_layout(True)


def _colours(evaluation: Evaluation) -> dict[str, str]:
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(evaluation.models)}


def _label(name: str) -> str:
    return name.replace("_", "-")
